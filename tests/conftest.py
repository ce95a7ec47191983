"""What all tests share: `pytester`, and the few lines that every inner test suite starts with."""

from __future__ import annotations

import importlib
import os

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


def pytest_xdist_auto_num_workers() -> int:
    """Half as many again as there are processors, for the tests wait as long as they compute; not so under coverage."""
    processors = len(os.sched_getaffinity(0))
    return max(2, processors if "COVERAGE_PROCESS_START" in os.environ else processors * 3 // 2)


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
