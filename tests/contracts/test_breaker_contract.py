"""`CircuitBreakerContract`: the packaged scenarios as tests of somebody's own breaker."""

from __future__ import annotations

import importlib
import re

import pytest

from pytest_prodpatterns.scenarios import packaged

# What an inner run in this process loads must be loaded before, or there would be two of each: see conftest.
for module in (
    "chaoslib.experiment",
    "pybreaker",
    "pytest_prodpatterns.contracts",
    "pytest_prodpatterns.scenarios.actions.breaker",
    "pytest_prodpatterns.scenarios.control",
    "pytest_prodpatterns.scenarios.probes.breaker",
    "pytest_prodpatterns.targets.breaker._factory",
    "pytest_prodpatterns.targets.breaker._ours",
    "time_machine",
):
    importlib.import_module(module)

COUNT = sum(name.startswith("breaker/") for name in packaged())

OURS = """
    from pytest_prodpatterns import CircuitBreaker
    from pytest_prodpatterns.contracts import CircuitBreakerContract

    class TestOurBreaker(CircuitBreakerContract):
        def make_breaker(self, *, failure_threshold, recovery_timeout, success_threshold, call_timeout):
            return CircuitBreaker(failure_threshold, recovery_timeout, success_threshold, call_timeout=call_timeout)
"""

PYBREAKER = """
    import pybreaker
    from pytest_prodpatterns.contracts import CircuitBreakerContract

    class TestOurBreaker(CircuitBreakerContract):
        def make_breaker(self, *, failure_threshold, recovery_timeout):
            return pybreaker.CircuitBreaker(fail_max=failure_threshold, reset_timeout=recovery_timeout)
"""

STRANGER = """
    from pytest_prodpatterns.contracts import CircuitBreakerContract

    class Breaker:
        def __init__(self):
            self.calls = 0

    class TestStranger(CircuitBreakerContract):
        def make_breaker(self, *, failure_threshold, recovery_timeout):
            return Breaker()

        def call(self, breaker, func, *args):
            breaker.calls += 1
            return func(*args)
"""

DECORATOR = """
    import functools
    from pytest_prodpatterns.contracts import CircuitBreakerContract

    def make(failure_threshold, recovery_timeout):
        def breaker(func):
            @functools.wraps(func)
            def wrapped(*args):
                return func(*args)
            return wrapped
        return breaker

    class TestDecorator(CircuitBreakerContract):
        def make_breaker(self, *, failure_threshold, recovery_timeout):
            return make(failure_threshold, recovery_timeout)
"""


def outcomes(suite, source, *args):
    suite.makepyfile(source)
    return suite.runpytest_inprocess("-p", "no:cacheprovider", *args)


def test_our_breaker_keeps_every_promise(suite):
    outcomes(suite, OURS).assert_outcomes(passed=COUNT)


def test_a_scenario_that_does_not_apply_is_skipped_with_the_reason(suite):
    result = outcomes(suite, PYBREAKER, "-rs", "-k", "cancelled-probe or success-then-failure")
    result.assert_outcomes(skipped=2, deselected=COUNT - 2)
    result.stdout.fnmatch_lines(["*pybreaker has no asyncio API (its call_async is for Tornado)"])
    result.stdout.fnmatch_lines(["*TestOurBreaker takes no success_threshold"])


def test_a_deviation_fails_with_evidence_timeline_and_a_way_to_repeat_it(suite, monkeypatch):
    monkeypatch.setenv("COLUMNS", "300")
    result = outcomes(suite, PYBREAKER, "-k", "wall-clock-forward", "--chaos-seed=7")
    result.assert_outcomes(failed=1, deselected=COUNT - 1)
    result.stdout.fnmatch_lines(
        [
            "deviated: 5 of 5 calls reached the dependency while open, after the clock went forward; 0 expected",
            "broken promise: *",
            "what it does, and why it matters: prodpatterns explain breaker/wall-clock-forward",
            "*fault:wall-clock*fired*",
            "*dependency:charge*entered*",
            "repeat with: pytest *test_scenario?breaker/wall-clock-forward?*--chaos-seed=7*",
            "FAILED *::test_scenario[[]breaker/wall-clock-forward[]] - *deviated: *",
        ]
    )
    # A single attempt has no number; on a busy machine there may be more, and the last one is shown.
    assert set(re.findall(r"attempt=(\d)", result.stdout.str())) != {"1"}
    result.stdout.no_fnmatch_line("*_breaker.py*")


def test_a_breaker_whose_deadline_cannot_be_asked_for_is_not_blamed_for_it(suite):
    source = OURS.replace(", call_timeout):", "):").replace(", call_timeout=call_timeout", "")
    result = outcomes(suite, source, "-rs")
    result.assert_outcomes(passed=COUNT - 1, skipped=1)
    result.stdout.fnmatch_lines(
        ["*make_breaker takes no call_timeout; accept it and give the breaker a deadline*"]
    )


def test_the_contract_itself_is_no_test_where_it_is_imported(suite):
    source = "from pytest_prodpatterns.contracts import CircuitBreakerContract\n\ndef test_one(): pass"
    outcomes(suite, source).assert_outcomes(passed=1)


def test_a_shared_breaker_is_told_apart_from_one_that_deviates(suite):
    source = """
    from pytest_prodpatterns import CircuitBreaker
    from pytest_prodpatterns.contracts import CircuitBreakerContract

    SHARED = CircuitBreaker()

    class TestShared(CircuitBreakerContract):
        def make_breaker(self, *, failure_threshold, recovery_timeout):
            return SHARED
    """
    result = outcomes(suite, source, "-k", "recovers")
    result.assert_outcomes(failed=1, deselected=COUNT - 1)
    result.stdout.fnmatch_lines(["TestShared returned the same breaker twice; each scenario*"])
    result.stdout.no_fnmatch_line("*During handling*")


def test_fixtures_of_the_subclass_can_vary_what_make_breaker_makes(suite):
    source = """
    import pytest
    from pytest_prodpatterns import CircuitBreaker
    from pytest_prodpatterns.contracts import CircuitBreakerContract

    class TestVaried(CircuitBreakerContract):
        @pytest.fixture(autouse=True, params=["a", "b"])
        def store(self, request):
            self.name = request.param

        def make_breaker(self, *, failure_threshold, recovery_timeout, success_threshold):
            return CircuitBreaker(failure_threshold, recovery_timeout, success_threshold, name=self.name)
    """
    outcomes(suite, source, "-k", "recovers").assert_outcomes(passed=2, deselected=2 * COUNT - 2)


def test_a_stranger_is_called_as_the_user_says(suite):
    result = outcomes(
        suite, STRANGER, "-k", "opens-at-threshold or slow-calls or keeps-signature or limits-probes"
    )
    result.assert_outcomes(failed=2, passed=1, skipped=2, deselected=COUNT - 5)
    result.stdout.fnmatch_lines(
        ["deviated: 5 of 5 calls reached the dependency after the third failure; 0 expected"]
    )


def test_a_plain_decorator_is_a_breaker_too(suite):
    result = outcomes(suite, DECORATOR, "-k", "opens-at-threshold or cancellation-does-not-open")
    result.assert_outcomes(failed=1, skipped=1, deselected=COUNT - 2)


def test_a_contract_without_make_breaker_says_so(suite):
    source = """
    from pytest_prodpatterns.contracts import CircuitBreakerContract

    class TestNothing(CircuitBreakerContract):
        pass
    """
    result = outcomes(suite, source, "-k", "recovers")
    result.assert_outcomes(failed=1, deselected=COUNT - 1)
    reason = "TestNothing has to define make_breaker(self, *, failure_threshold, recovery_timeout,"
    told = [line for line in result.stdout.lines if line.startswith(reason)]
    assert told == [f"{reason} success_threshold)"]
    result.stdout.no_fnmatch_line("*During handling*")
    result.stdout.no_fnmatch_line("*NotImplementedError*")


@pytest.mark.parametrize("name", ["TestOurBreaker"])
def test_each_scenario_is_one_test_item_with_its_name(suite, name):
    result = outcomes(suite, OURS, "--collect-only", "-q")
    result.stdout.fnmatch_lines([f"*::{name}::test_scenario?breaker/opens-at-threshold?"])
