"""Verdicts on published pools, pinned to the versions that they were measured with: those that take a second.

The whole table stands in the documentation; hangs take their time, so they are measured and not tested.
"""

from __future__ import annotations

import importlib.metadata

import pytest

from pytest_prodpatterns.scenarios import run_scenario

HELD, DEVIATED, NOT_APPLICABLE = "held", "deviated", "not applicable"
VERSIONS = {
    "anyio": ("anyio", "4.16.0"),
    "deadpool": ("deadpool-executor", "2026.7.1"),
    "loky": ("loky", "3.7.0"),
    "pebble": ("pebble", "5.2.3"),
}


@pytest.mark.parametrize(
    ("library", "scenario", "verdict"),
    [
        ("ppe-fork", "os-exit", DEVIATED),
        ("ppe-fork", "initializer-fails", DEVIATED),
        ("ppe-fork", "two-argument-exception", DEVIATED),
        ("ppe-fork", "sys-exit-in-task", HELD),
        ("ppe-fork", "two-callers-get-their-own", HELD),
        ("ppe-fork", "queue-full-blocks", NOT_APPLICABLE),
        ("multiprocessing-pool", "unpicklable-result", HELD),
        ("multiprocessing-pool", "unpicklable-exception", DEVIATED),
        ("multiprocessing-pool", "shutdown-with-uncollected-results", HELD),
        ("multiprocessing-pool", "task-timeout", NOT_APPLICABLE),
        ("pebble", "sigkill-mid-task", HELD),
        ("pebble", "initializer-fails", DEVIATED),
        ("pebble", "unpicklable-exception", DEVIATED),
        ("deadpool", "sigkill-mid-task", HELD),
        ("deadpool", "sigkill-while-writing-a-large-result", HELD),
        ("deadpool", "initializer-fails", DEVIATED),
        ("deadpool", "two-argument-exception", DEVIATED),
        ("anyio", "os-exit", DEVIATED),
        ("anyio", "sigkill-while-writing-a-large-result", HELD),
        ("loky", "os-exit", DEVIATED),
    ],
)
def test_the_verdict_is_what_was_measured(library, scenario, verdict):
    distribution, version = VERSIONS.get(library, ("", ""))
    if distribution:
        pytest.importorskip(library)
        if importlib.metadata.version(distribution) != version:
            pytest.skip(f"measured with {distribution} {version}")
    outcome = run_scenario(f"pool/{scenario}", target=library, seed=7)
    assert outcome.verdict == verdict, outcome.evidence
