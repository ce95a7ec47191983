"""A failing test shows the line of the user and then the error, and none of our frames between them."""

from __future__ import annotations

import re

import pytest

HEAD = """
import pytest
from pytest_prodpatterns import CircuitBreaker, assert_probes, assert_transitions, faults, flaky, patch_flaky, plan, trip
from pytest_prodpatterns.patterns.breaker import CircuitBreakerRegistry, CountWindow, TimeWindow

DOWN = faults.raises(ConnectionError("down"))

def rows():
    yield 1

async def arows():
    yield 1

@pytest.fixture
def breaker():
    return CircuitBreaker(failure_threshold=1)

"""
PLAIN = [
    "breaker.call(flaky(len, fault=DOWN), 'abc')",
    "breaker(flaky(len, fault=DOWN))('abc')",
    "list(breaker(flaky(rows, fault=DOWN))())",
    "list(breaker.call(flaky(rows, fault=faults.after_items(1, DOWN))))",
    "trip(breaker); breaker.call(print)",
    "trip(breaker); breaker.__enter__()",
    "breaker.guard(3)",
    "breaker.disable(); trip(breaker)",
    "trip(breaker); assert_transitions(breaker, 'closed')",
    "assert_probes(breaker, max=-1)",
    "CircuitBreaker(failure_threshold=0)",
    "CircuitBreaker(initial_state='opne')",
    "CircuitBreakerRegistry(0)",
    "CountWindow(0)",
    "TimeWindow(0)",
    "plan.parse('first(3) & (every(2) | frist(3))')",
    "plan.first(0)",
    "plan.strategy(0)",
    "bool(plan.first(1))",
    "plan.first(1) | ~~plan.parse('between(2, 1)')",
    "faults.raises(3)",
    "faults.hangs(limit=0)",
    "flaky(len, fault=faults.cancels())('abc')",
    "flaky(len, fault=3)",
    "patch_flaky('json:laods', fault=DOWN)",
    "virtual_clock.advance(-1)",
]
AWAITED = [
    "await breaker.call(flaky(fault=DOWN))",
    "await breaker(flaky(fault=DOWN))()",
    "await CircuitBreaker(call_timeout=9).call(flaky(fault=DOWN))",
    "await breaker(CircuitBreaker(call_timeout=9)(flaky(fault=DOWN)))()",
    "await anext(breaker(flaky(arows, fault=DOWN))())",
    "await anext(breaker.call(flaky(arows, fault=DOWN)))",
    "trip(breaker); await breaker.call(flaky(fault=DOWN))",
]


def test_our_frames_are_hidden(suite):
    plain = [f"def test_{n}(breaker, virtual_clock): {line}\n" for n, line in enumerate(PLAIN)]
    awaited = [f"async def test_a{n}(breaker, virtual_clock): {line}\n" for n, line in enumerate(AWAITED)]
    suite.makepyfile(test_it=HEAD + "".join(plain + awaited))
    result = suite.runpytest_subprocess("-n0", "-rN")
    result.assert_outcomes(failed=len(PLAIN) + len(AWAITED))
    first = HEAD.count("\n")  # pytester takes the empty line at its head away
    places = re.findall(r"^(\S+\.py:\d+): ", result.stdout.str(), re.MULTILINE)
    assert places == [f"test_it.py:{first + n}" for n in range(len(PLAIN) + len(AWAITED))]


@pytest.mark.parametrize(
    "line",
    [
        "faults.skew(1).__enter__()",
        "virtual_time(start=float('nan')).__enter__()",
        "forced(3, 'ajar').__enter__()",
    ],
)
def test_of_a_context_manager_only_the_frame_of_contextlib_is_left(suite, line):
    suite.makepyfile(
        test_it=f"{HEAD}\nfrom pytest_prodpatterns import forced, virtual_time\ndef test_it(): {line}"
    )
    result = suite.runpytest_inprocess()
    result.assert_outcomes(failed=1)
    places = re.findall(r"^(\S+\.py):\d+: ", result.stdout.str(), re.MULTILINE)
    assert [place.rpartition("/")[2] for place in places] in (["test_it.py"], ["test_it.py", "contextlib.py"])


def test_the_full_trace_shows_them(suite):
    suite.makepyfile(HEAD + "def test_it(breaker): breaker.call(flaky(len, fault=DOWN), 'abc')")
    text = suite.runpytest_inprocess("--full-trace").stdout.str()
    assert "in strike" in text or "def strike" in text


@pytest.mark.parametrize(
    ("line", "error"),
    [
        (
            "trip(breaker); breaker.call(print)",
            "pytest_prodpatterns.CircuitOpenError: circuit breaker 'default' is open*",
        ),
        ("plan.parse('x')", "pytest_prodpatterns.faults.PlanError: 'x' is no plan: *"),
    ],
)
def test_errors_go_by_their_public_names(suite, line, error):
    suite.makepyfile(HEAD + f"def test_it(breaker): {line}")
    suite.runpytest_inprocess().stdout.fnmatch_lines([f"E*{error}"])
