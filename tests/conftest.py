"""What all tests share: `pytester`, and the few lines that every inner test suite starts with."""

from __future__ import annotations

import importlib
import os
import signal

import hypothesis
import pytest

# How long an example takes says more about the machine than about us; speed lives in benchmarks/.
hypothesis.settings.register_profile("prodpatterns", deadline=None)
hypothesis.settings.load_profile("prodpatterns")

pytest_plugins = ("pytester",)

INI = """
[pytest]
addopts = --strict-markers --strict-config -p no:hypothesispytest -p no:looptime_plugin
    -p no:looptime_chronometers -p no:looptime_timeproxies -p no:anyio -p no:time_machine -p no:pytest_cov
asyncio_default_fixture_loop_scope = function
filterwarnings = error
"""


if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # a shell does that to what it starts in the background
    signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_xdist_auto_num_workers() -> int:
    """Half as many again as there are processors, for the tests wait longer than they compute."""
    return max(2, len(os.sched_getaffinity(0)) * 3 // 2)


# An inner run in this process forgets the modules that it loaded itself, but packages keep them as attributes:
# so that there is one of each, they are loaded before.
FLOORS = ("lab", "faults", "patterns.breaker.testing", "report._text")


@pytest.fixture(scope="session")
def floors() -> None:
    for floor in FLOORS:
        importlib.import_module(f"pytest_prodpatterns.{floor}")


@pytest.fixture
def suite(floors: None, pytester: pytest.Pytester) -> pytest.Pytester:
    """A suite of its own, as strict as ours, without the plugins that cost time and add nothing here."""
    pytester.makefile(".ini", pytest=INI)
    return pytester
