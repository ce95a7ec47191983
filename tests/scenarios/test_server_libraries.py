"""Verdicts on published servers, pinned to the versions that they were measured with: those that take a second.

The whole table stands in the documentation.
"""

from __future__ import annotations

import importlib.metadata

import pytest

from pytest_prodpatterns.scenarios import run_scenario

HELD, DEVIATED, NOT_APPLICABLE = "held", "deviated", "not applicable"
VERSIONS = {"granian": "2.8.7", "gunicorn": "27.0.1", "hypercorn": "0.18.0", "uvicorn": "0.54.0"}


@pytest.mark.parametrize(
    ("server", "scenario", "verdict"),
    [
        ("aiohttp", "sigterm-idle", HELD),
        ("aiohttp", "sigterm-in-flight", HELD),
        ("aiohttp", "lame-duck", NOT_APPLICABLE),
        ("uvicorn", "sigterm-in-flight", HELD),
        ("uvicorn", "exit-code-tells-the-truth", DEVIATED),
        ("hypercorn", "sigterm-idle", HELD),
        ("granian", "sigterm-in-flight", HELD),
        ("gunicorn", "sigterm-in-flight", HELD),
        ("gunicorn", "bad-request-line", DEVIATED),
        ("http.server", "sigterm-idle", HELD),
        ("nginx", "sigterm-idle", HELD),
        ("nginx", "no-orphans", DEVIATED),
    ],
)
def test_the_verdict_is_what_was_measured(server, scenario, verdict):
    if server in VERSIONS:
        pytest.importorskip(server)
        if importlib.metadata.version(server) != VERSIONS[server]:
            pytest.skip(f"measured with {server} {VERSIONS[server]}")
    outcome = run_scenario(f"server/{scenario}", target=server, seed=7)
    assert outcome.verdict == verdict, outcome.evidence
