"""Each breaker scenario holds for breakers that keep its promise, and deviates, with evidence, for one that breaks it."""

from __future__ import annotations

import re

import pytest
from scenarios.small_breaker import SmallTarget

from pytest_prodpatterns.scenarios import Verdict, get, packaged, run_scenario

NAMES = [name.removeprefix("breaker/") for name in packaged() if name.startswith("breaker/")]

FLAWS = [
    (
        "opens-at-threshold",
        "late",
        r"5 of 5 calls reached the dependency after the third failure; 0 expected",
    ),
    (
        "opens-at-threshold",
        "early",
        r"2 of 3 calls reached the dependency up to the third failure; 3 expected .*",
    ),
    ("opens-at-threshold", "never-recovers", r"0 of 2 callers got their answer in the quiet at the end; .*"),
    ("rejects-while-open", "leaks", r"1 of 10 calls reached the dependency while open; 0 expected .*"),
    (
        "recovers",
        "never-recovers",
        r"0 of 3 callers got their answer after the probe .*; 3 expected .*3 Rejected\)",
    ),
    ("recovers", "remembers", r"0 of 3 callers got their answer after the probe and two new failures; .*"),
    (
        "half-open-failure-reopens",
        "counts-anew",
        r"\d+ of 10 calls reached the dependency after the failed probe; .*",
    ),
    (
        "half-open-success-then-failure-reopens",
        "success-forgives",
        r"10 of 10 calls reached the dependency after success and failure at half-open; at most 1 expected",
    ),
    (
        "half-open-limits-probes",
        "no-limit",
        r"20 of 20 calls were inside .* at once at half-open; at most 1 expected",
    ),
    ("half-open-limits-probes", "queues", r"19 of 20 callers were left waiting at half-open; 0 expected"),
    ("half-open-limits-probes-threads", "no-limit", r"20 of 20 calls were inside .*; at most 1 expected"),
    (
        "half-open-limits-probes-threads",
        "queues",
        r"19 of 20 callers were left waiting at half-open; 0 expected",
    ),
    (
        "hung-probe-does-not-wedge",
        "no-lease",
        r"0 of 4 calls reached the dependency long after .*4 Rejected\)",
    ),
    ("hung-probe-does-not-wedge", "queues", r"0 of 2 calls reached the dependency long after .*2 blocked\)"),
    (
        "cancelled-probe-is-neutral",
        "cancel-keeps-slot",
        r"0 of 1 calls reached the dependency after the cancelled .*",
    ),
    (
        "cancelled-probe-is-neutral",
        "cancel-is-failure",
        r"0 of 1 calls reached the dependency after the cancelled .*",
    ),
    (
        "cancelled-probe-is-neutral",
        "cancel-is-success",
        r"\d of 5 calls reached the dependency after the next probe .*",
    ),
    ("cancellation-does-not-open", "cancel-is-failure", r"0 of 5 calls reached the dependency after five .*"),
    (
        "cancellation-does-not-reset",
        "cancel-is-success",
        r"5 of 5 calls reached the dependency after three .*",
    ),
    (
        "caller-timeout-counts",
        "no-deadline",
        r"5 of 5 calls reached the dependency after three timeouts; 0 expected",
    ),
    (
        "wall-clock-back",
        "wall-clock",
        r"0 of 2 calls reached the dependency after the clock went back; at least 1 .*",
    ),
    (
        "wall-clock-forward",
        "wall-clock",
        r"\d of 5 calls reached the dependency while open, after the clock .*",
    ),
    ("threads-lose-no-failure", "unlocked", r"5 of 5 calls reached the dependency after 4000 failures .*"),
    ("keeps-signature", "naked", r"decorated sync functions change: __name__ is '<lambda>'; .*"),
    (
        "keeps-signature",
        "sync-only",
        r"decorated async functions change: .* no coroutine function any more",
    ),
    (
        "guards-async-functions",
        "sync-only",
        r"5 of 5 calls reached the dependency after three failures of an async .*",
    ),
    (
        "guards-generators",
        "sync-only",
        r"5 of 5 calls reached the dependency after three failures of an async gen.*",
    ),
    ("original-exception-reaches-caller", "replaces", r"2 of 3 callers got .*; the others got 1 Mute"),
    (
        "open-error-tells-when",
        "says-nothing",
        r"Mute holds no time to come back, as a number or a duration, while open",
    ),
    (
        "open-error-tells-when",
        "milliseconds",
        r"Rejected says 60000 s while open; more than 0 and at most 61 expected",
    ),
    (
        "open-error-pickles",
        "unpicklable",
        r"Unpicklable does not pickle: TypeError: cannot pickle '_thread.lock' object",
    ),
    ("open-error-pickles", "forgetful", r"Forgetful '60.0' came back as '0.5'"),
    ("open-error-is-fresh", "shared-error", r"5 callers shared 1 Rejected object"),
    (
        "stale-success-changes-nothing",
        "no-generations",
        r"\d of 5 calls reached the dependency after a late success .*",
    ),
    (
        "stale-failure-changes-nothing",
        "no-generations",
        r"0 of 3 calls reached the dependency after a late failure .*",
    ),
    (
        "late-failure-does-not-extend",
        "extends",
        r"0 of 1 calls reached the dependency 80 s after the opening; .*",
    ),
    (
        "keyboard-interrupt-is-not-a-failure",
        "counts-everything",
        r"0 of 3 calls reached .* after two interrupts; .*",
    ),
    (
        "slow-calls-run-side-by-side",
        "lock-held",
        r"1 of 4 calls were inside the dependency at once .*; at least 4 .*",
    ),
]


@pytest.mark.parametrize("name", NAMES)
def test_ours_keeps_every_promise(name):
    outcome = run_scenario(f"breaker/{name}", target="ours", seed=7)
    assert (outcome.verdict, outcome.evidence) == (Verdict.HELD, outcome.evidence)


@pytest.mark.parametrize("name", NAMES)
def test_a_breaker_that_shares_nothing_with_ours_can_keep_them_too(name):
    outcome = run_scenario(f"breaker/{name}", target=SmallTarget(), seed=7)
    assert (outcome.verdict, outcome.evidence) == (Verdict.HELD, outcome.evidence)


@pytest.mark.parametrize(("name", "flaw", "evidence"), FLAWS)
def test_a_broken_promise_is_found_and_told(name, flaw, evidence, monkeypatch):
    monkeypatch.setattr(
        "pytest_prodpatterns.targets.breaker._driver.PATIENCE", 0.3
    )  # who blocks here, does so for ever
    outcome = run_scenario(f"breaker/{name}", target=SmallTarget(flaw), seed=7)
    assert outcome.verdict is Verdict.DEVIATED, outcome.evidence
    assert re.fullmatch(evidence, outcome.evidence), outcome.evidence


def test_every_scenario_is_shown_able_to_fail():
    assert {name for name, _flaw, _evidence in FLAWS} == set(NAMES)


def test_generators_may_be_refused_when_they_are_decorated():
    outcome = run_scenario("breaker/guards-generators", target=SmallTarget("refuses"), seed=7)
    assert outcome.verdict is Verdict.HELD
    assert outcome.evidence == "async generator functions are refused when they are decorated"


@pytest.mark.parametrize("name", NAMES)
def test_every_file_says_what_it_does_and_why_it_matters(name):
    scenario = get(f"breaker/{name}")
    assert scenario.subject == "breaker"
    assert "breaker" in scenario.tags
    assert len(scenario.explain.split()) > 40
