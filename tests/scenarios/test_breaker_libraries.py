"""The verdicts on published libraries, pinned to the versions that they were measured with."""

from __future__ import annotations

import importlib.metadata

import pytest

from pytest_prodpatterns.scenarios import packaged, run_scenario

HELD, DEVIATED, NOT_APPLICABLE = "held", "deviated", "not applicable"

# Scenario -> what pybreaker, circuitbreaker, purgatory, nopanic and interlock-cb do.
LIBRARIES = {
    "pybreaker": "1.4.1",
    "circuitbreaker": "2.1.3",
    "purgatory": "3.0.1",
    "nopanic": "0.3.0",
    "interlock-cb": "2.8.2",
}
WORDS = {"h": HELD, "D": DEVIATED, "-": NOT_APPLICABLE}
VERDICTS = {
    "caller-timeout-counts": "-Dhhh",
    "cancellation-does-not-open": "-hDhh",
    "cancellation-does-not-reset": "-DDhh",
    "cancelled-probe-is-neutral": "-DDhh",
    "guards-async-functions": "Dhhhh",
    "guards-generators": "DhDhD",
    "half-open-failure-reopens": "hhhhh",
    "half-open-limits-probes": "-DDhh",
    "half-open-limits-probes-threads": "DDDhh",
    "half-open-success-then-failure-reopens": "h--hh",
    "hung-probe-does-not-wedge": "DhhDD",
    "keeps-signature": "Dhhhh",
    "keyboard-interrupt-is-not-a-failure": "DhDhh",
    "late-failure-does-not-extend": "-Dhhh",
    "open-error-is-fresh": "hhDhh",
    "open-error-pickles": "hDDhD",
    "open-error-tells-when": "DDDhh",
    "opens-at-threshold": "hhhhh",
    "original-exception-reaches-caller": "hhhhh",
    "recovers": "hhhhh",
    "rejects-while-open": "hhhhh",
    "slow-calls-run-side-by-side": "Dhhhh",
    "stale-failure-changes-nothing": "-DDhh",
    "stale-success-changes-nothing": "-DDhh",
    "threads-lose-no-failure": "hhhhh",
    "wall-clock-back": "DhDhh",
    "wall-clock-forward": "DhDhh",
}


def test_the_table_covers_every_scenario():
    assert {f"breaker/{name}" for name in VERDICTS} == {n for n in packaged() if n.startswith("breaker/")}


@pytest.mark.parametrize("scenario", VERDICTS)
@pytest.mark.parametrize("library", LIBRARIES)
def test_the_verdict_is_what_was_measured(library, scenario):
    if importlib.metadata.version(library) != LIBRARIES[library]:
        pytest.skip(f"measured with {library} {LIBRARIES[library]}")
    expected = WORDS[VERDICTS[scenario][list(LIBRARIES).index(library)]]
    outcome = run_scenario(f"breaker/{scenario}", target=library, seed=7)
    assert outcome.verdict == expected, outcome.evidence


@pytest.mark.parametrize(
    ("library", "version", "scenario", "verdict"),
    [
        ("aiobreaker", "1.2.0", "guards-generators", DEVIATED),
        ("aiobreaker", "1.2.0", "open-error-tells-when", DEVIATED),
        ("aiobreaker", "1.2.0", "original-exception-reaches-caller", DEVIATED),
        ("aiobreaker", "1.2.0", "slow-calls-run-side-by-side", HELD),
        ("fluxgate", "0.9.4", "guards-generators", DEVIATED),
        ("fluxgate", "0.9.4", "half-open-limits-probes", DEVIATED),
        ("fluxgate", "0.9.4", "slow-calls-run-side-by-side", HELD),
        ("hyx", "0.0.2", "caller-timeout-counts", HELD),
        ("hyx", "0.0.2", "guards-generators", DEVIATED),
        ("hyx", "0.0.2", "stale-failure-changes-nothing", DEVIATED),
        ("pyresilience", "0.4.1", "caller-timeout-counts", HELD),
        ("pyresilience", "0.4.1", "guards-generators", DEVIATED),
        ("pyresilience", "0.4.1", "threads-lose-no-failure", HELD),
    ],
)
def test_the_verdict_on_the_others_too(library, version, scenario, verdict):
    if importlib.metadata.version(library) != version:
        pytest.skip(f"measured with {library} {version}")
    outcome = run_scenario(f"breaker/{scenario}", target=library, seed=7)
    assert outcome.verdict == verdict, outcome.evidence
