"""The fixtures of the circuit breaker, and assertions on its state that explain themselves."""

from __future__ import annotations

import re

import pytest

TRIP = """
import pytest
from pytest_prodpatterns import CircuitState

def fail():
    raise ConnectionError("down")

def trip(breaker):
    for _ in range(5):
        with pytest.raises(ConnectionError):
            breaker.call(fail)
"""


@pytest.mark.parametrize(
    ("settings", "marker", "given", "opens_after"),
    [
        (None, None, "", 5),
        ({"failure_threshold": 2}, None, "", 2),
        (None, "failure_threshold=3", "", 3),
        ({"failure_threshold": 2}, "failure_threshold=3", "", 3),
        ({"failure_threshold": 2}, "failure_threshold=3", "failure_threshold=4", 4),
        ({"failure_threshold": 2}, None, "failure_threshold=4", 4),
    ],
)
def test_given_parameters_win_over_the_marker_over_the_settings(suite, settings, marker, given, opens_after):
    override = f"@pytest.fixture\ndef circuit_breaker_settings():\n    return {settings!r}\n"
    mark = f"@pytest.mark.circuit_breaker({marker})\n"
    suite.makepyfile(
        TRIP
        + (override if settings else "")
        + (mark if marker else "")
        + f"""
def test_it(make_circuit_breaker):
    breaker, failures = make_circuit_breaker({given}), 0
    while breaker.state == CircuitState.CLOSED and failures < 10:
        failures += 1
        with pytest.raises(ConnectionError):
            breaker.call(fail)
    assert failures == {opens_after}
"""
    )
    suite.runpytest_inprocess().assert_outcomes(passed=1)


def test_the_defaults_are_those_of_the_guide(suite):
    suite.makepyfile(
        """
        def test_it(circuit_breaker_settings):
            assert circuit_breaker_settings == {
                "failure_threshold": 5, "recovery_timeout": 60.0, "success_threshold": 2}
        """
    )
    suite.runpytest_inprocess().assert_outcomes(passed=1)


def test_breakers_are_numbered_and_told_in_the_timeline(suite):
    suite.makepyfile(
        TRIP
        + """
def test_it(chaos, circuit_breaker, make_circuit_breaker):
    other, named = make_circuit_breaker(), make_circuit_breaker(name="payments")
    assert [circuit_breaker.name, other.name, named.name] == ["breaker-1", "breaker-2", "payments"]
    trip(other)
    trip(named)
    sources = [event.source for event in chaos.timeline.where("breaker", "transition", state="open")]
    assert sources == ["breaker:breaker-2", "breaker:payments"]
"""
    )
    suite.runpytest_inprocess().assert_outcomes(passed=1)


@pytest.mark.parametrize("bad", ["failure_threshold=0", "no_such_thing=1"])
def test_a_bad_parameter_in_the_marker_fails_the_test_and_names_it(suite, bad):
    suite.makepyfile(
        test_it=f"""
        import pytest
        @pytest.mark.circuit_breaker({bad})
        def test_it(circuit_breaker): ...
        """
    )
    result = suite.runpytest_inprocess()
    result.assert_outcomes(errors=1)
    name = bad.partition("=")[0]
    result.stdout.fnmatch_lines([f"test_it.py::test_it: marker circuit_breaker: *{name}*"])
    assert "def circuit_breaker" not in result.stdout.str(), "no traceback of ours"


TYPO = "a circuit breaker has no parameter 'failure_treshold'; did you mean 'failure_threshold'? It takes failure_*, *"
LEAST = "failure_threshold must be a whole number of at least 1, not 0"


@pytest.mark.parametrize(
    ("settings", "marker", "given", "told"),
    [
        ("{}", "failure_treshold=3", "", f"marker circuit_breaker: {TYPO}"),
        ("{'failure_treshold': 3}", "", "", f"fixture circuit_breaker_settings: {TYPO}"),
        ("{}", "", "failure_treshold=3", f"make_circuit_breaker(): {TYPO}"),
        ("{1: 2}", "", "", "*: a circuit breaker has no parameter 1; It takes failure_*, *"),
        ("{'failure_threshold': 0}", "", "", f"fixture circuit_breaker_settings: {LEAST}"),
        ("{'failure_threshold': 0}", "failure_threshold=0", "", f"marker circuit_breaker: {LEAST}"),
        ("{}", "failure_threshold=0", "failure_threshold=0", f"make_circuit_breaker(): {LEAST}"),
        (
            "{'success_threshold': 2}",
            "probe_limit=1",
            "",
            "* and fixture circuit_breaker_settings: probe_limit must be at least success_threshold=2, not 1",
        ),
        ("None", "", "", "fixture circuit_breaker_settings must return a dict, not None"),
    ],
)
def test_a_bad_parameter_is_told_with_the_place_where_it_stands(suite, settings, marker, given, told):
    suite.makepyfile(
        test_it=f"""
        import pytest
        @pytest.fixture
        def circuit_breaker_settings(): return {settings}
        @pytest.mark.circuit_breaker({marker})
        def test_it({"make_" if given else ""}circuit_breaker):
            make_circuit_breaker({given})
        """
    )
    result = suite.runpytest_inprocess()
    result.stdout.fnmatch_lines([f"E*Error: {told}" if given else f"test_it.py::test_it: {told}"])
    places = re.findall(r"^(\S+\.py:\d+): ", result.stdout.str(), re.MULTILINE)
    assert places == (["test_it.py:6"] if given else []), "no line of ours"


def test_an_error_of_the_users_own_store_keeps_its_traceback(suite):
    suite.makepyfile(
        """
        class Store:
            def attach(self, name, receive):
                raise ValueError("no server")
        def test_it(make_circuit_breaker):
            make_circuit_breaker(store=Store())
        """
    )
    result = suite.runpytest_inprocess()
    result.stdout.fnmatch_lines([">*raise ValueError(*", "E*ValueError: no server"])


@pytest.mark.parametrize(
    ("comparison", "heading"),
    [
        ('breaker.state == "closed"', "breaker 'payments' is 'open', expected 'closed'"),
        ('"closed" == breaker.state', "breaker 'payments' is 'open', expected 'closed'"),
        ("breaker.state is CircuitState.CLOSED", "breaker 'payments' is 'open', expected 'closed'"),
        ("breaker.state == CircuitState.CLOSED", "breaker 'payments' is 'open', expected 'closed'"),
        ('breaker.state != "open"', "breaker 'payments' is 'open', expected any other state"),
        (
            'breaker.state in ("closed", "half_open")',
            "breaker 'payments' is 'open', expected one of 'closed', 'half_open'",
        ),
        ('breaker.state not in ["open"]', "breaker 'payments' is 'open', expected none of 'open'"),
    ],
)
def test_an_assertion_on_the_state_explains_itself(suite, comparison, heading):
    suite.makepyfile(
        TRIP
        + f"""
def test_it(make_circuit_breaker):
    breaker = make_circuit_breaker(name="payments")
    trip(breaker)
    assert {comparison}
"""
    )
    result = suite.runpytest_inprocess()
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(
        [f"E*{heading.replace('[', '[[]')}", "E*transitions: closed -> open (5 *)"],
        consecutive=True,
    )


def test_all_breakers_in_that_state_are_told_and_no_other(suite):
    suite.makepyfile(
        TRIP
        + """
def test_it(make_circuit_breaker):
    for name in ("a", "b", "c"):
        trip(breaker := make_circuit_breaker(name=name))
    breaker.reset()
    assert CircuitState.OPEN == "closed"
"""
    )
    result = suite.runpytest_inprocess()
    text = result.stdout.str()
    assert "breaker is 'open', expected 'closed'" in text
    assert "transitions of 'a': closed -> open" in text
    assert "transitions of 'b': closed -> open" in text
    assert "transitions of 'c'" not in text


def test_without_a_transition_or_a_lab_it_says_so(suite):
    suite.makepyfile(
        """
        from pytest_prodpatterns import CircuitBreaker
        def test_with(circuit_breaker):
            assert circuit_breaker.state == "open"
        def test_without():
            assert CircuitBreaker().state == "open"
        """
    )
    result = suite.runpytest_inprocess()
    result.assert_outcomes(failed=2)
    lines = [line.removeprefix("E").strip() for line in result.stdout.lines if line.startswith("E")]
    assert (
        lines
        == [
            "AssertionError: assert breaker is 'closed', expected 'open'",
            "transitions: none in this test's timeline",
        ]
        * 2
    )


def test_other_comparisons_are_left_to_pytest(suite):
    suite.makepyfile("def test_it(circuit_breaker):\n    assert 'open' == 'closed'\n")
    text = suite.runpytest_inprocess().stdout.str()
    assert "E         - closed" in text


def test_the_first_example_of_the_design_works(suite):
    suite.makepyfile(
        """
        import pytest
        from pytest_prodpatterns import assert_transitions, faults, plan

        @pytest.mark.virtual_time
        @pytest.mark.asyncio
        async def test_payments_recover(circuit_breaker, flaky_service, virtual_clock):
            charge = flaky_service(fault=faults.raises(ConnectionError), when=plan.first(5))
            for _ in range(5):
                with pytest.raises(ConnectionError):
                    await circuit_breaker.call(charge)
            await virtual_clock.advance(60)
            await circuit_breaker.call(charge)
            await circuit_breaker.call(charge)
            assert_transitions(circuit_breaker, "closed -> open -> half_open -> closed")
            assert circuit_breaker.state == "open"
        """
    )
    result = suite.runpytest_subprocess()  # pytest-asyncio leaves a loop open behind a run in this process
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(
        [
            "E*breaker 'breaker-1' is 'closed', expected 'open'",
            "E*transitions: closed -> open (*) -> half_open (*) -> closed (*)",
            "*- chaos timeline -*",
            "v=0.000s*fault:service*fired*call=5*",
            "v=0.000s*breaker:breaker-1*transition*closed -> open*",
            "v=60.000s*breaker:breaker-1*transition*open -> half_open*",
        ]
    )
