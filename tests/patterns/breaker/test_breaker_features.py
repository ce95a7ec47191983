"""Windows, classification, guards of every kind, breaks, states by hand, listeners, registry, store, helpers."""

from __future__ import annotations

import contextlib
import functools
import inspect
import json
import logging
import math
import random
import subprocess
import sys
import threading
import types
import weakref
from pathlib import Path

import pytest
from breaker_support import Clock, failing, good, make, run

from pytest_prodpatterns.lab import ChaosLab, use_clock
from pytest_prodpatterns.patterns.breaker import (
    CircuitBreaker,
    CircuitBreakerRegistry,
    CircuitOpenError,
    CircuitState,
    CountWindow,
    MemoryStore,
    Outcome,
    SharedState,
    TimeWindow,
    Transition,
)
from pytest_prodpatterns.patterns.breaker._state import TABLE, Cause
from pytest_prodpatterns.patterns.breaker.testing import assert_probes, assert_transitions, forced, trip

NAN, INF = math.nan, math.inf


@pytest.mark.parametrize(
    ("name", "bad", "expected"),
    [
        *((name, bad, "a whole number of at least 1")
          for name in ("failure_threshold", "success_threshold", "max_probes", "probe_limit", "history_size")
          for bad in (0, -1, "3", 1.5, NAN, True)),
        *((name, bad, "a finite number of seconds above 0")
          for name in ("recovery_timeout", "probe_lease", "call_timeout", "slow_call_duration", "max_recovery_timeout")
          for bad in (0, -1, "3", NAN, INF, True)),
        *((name, bad, "a number from 0 to 1") for name in ("jitter",) for bad in (-0.1, 1.1, "3", NAN, True)),
        *((name, bad, "a finite number of at least 1") for name in ("backoff",) for bad in (0, 0.9, "3", NAN, INF)),
    ],
)  # fmt: skip
def test_a_bad_number_is_named(name, bad, expected):
    kind = ValueError if isinstance(bad, int | float) and not isinstance(bad, bool) else TypeError
    if bad in (1.5,) or (isinstance(bad, float) and "whole" in expected):
        kind = TypeError
    with pytest.raises(kind, match=rf"^{name} must be {expected}, not {bad!r}$"):
        CircuitBreaker(**{name: bad})


@pytest.mark.parametrize(
    ("parameters", "error", "text"),
    [
        ({"failure_rate": 0, "window": CountWindow(9)}, ValueError, "failure_rate must be a number above 0 and up to 1, not 0"),
        ({"failure_rate": 0.5}, ValueError, "failure_rate needs a window"),
        ({"minimum_calls": 5}, ValueError, "minimum_calls needs a window"),
        ({"slow_call_rate": 0.5, "slow_call_duration": 1}, ValueError, "slow_call_rate needs a window"),
        ({"slow_call_rate": 0.5, "window": CountWindow(9)}, ValueError, "slow_call_rate needs slow_call_duration"),
        ({"window": 100}, TypeError, "window must be a CountWindow, a TimeWindow or None, not 100"),
        ({"window": CountWindow(9), "minimum_calls": 10}, ValueError, "minimum_calls must be at most the window's size 9, not 10"),
        ({"window": CountWindow(4)}, ValueError, "failure_threshold must be at most the window's size 4, not 5$"),
        ({"window": CountWindow(4), "failure_rate": 1}, ValueError, "failure_threshold must .* not 5; it is also the default of"),
        ({"probe_limit": 1}, ValueError, "probe_limit must be at least success_threshold=2, not 1"),
        ({"probe_lease": 1, "call_timeout": 2}, ValueError, "probe_lease must be at least call_timeout=2, not 1"),
        ({"max_recovery_timeout": 59}, ValueError, "max_recovery_timeout must be at least recovery_timeout=60.0, not 59"),
        ({"classify": 3}, TypeError, "classify must be a callable or None, not 3"),
        ({"retry_after": 3}, TypeError, "retry_after must be a callable or None, not 3"),
        ({"clock": 3}, TypeError, "clock must be a callable or None, not 3"),
        ({"listeners": [3]}, TypeError, "listeners must be a callable or None, not 3"),
        ({"name": 3}, TypeError, "name must be a text or None, not 3"),
        ({"failures": KeyboardInterrupt}, TypeError, "failures must hold subclasses of Exception, not <class 'KeyboardInterrupt'>"),
        ({"ignore": 3}, TypeError, "ignore must hold subclasses of Exception, not 3"),
        ({"ignore": ["x"]}, TypeError, "ignore must hold subclasses of Exception, not 'x'"),
        ({"initial_state": "ajar"}, ValueError, "initial_state must be one of closed, open, half_open, forced_open, .*'ajar'"),
        ({"initial_state": 1}, TypeError, "initial_state must be one of closed, .* not 1"),
    ],
)  # fmt: skip
def test_a_contradiction_is_explained(parameters, error, text):
    with pytest.raises(error, match=f"^{text}"):
        CircuitBreaker(**parameters)


@pytest.mark.parametrize(
    "make_window", [lambda bad: CountWindow(bad), lambda bad: TimeWindow(bad), lambda bad: TimeWindow(1, bad)]
)
@pytest.mark.parametrize("bad", [0, -1, "3", True, NAN])
def test_a_window_checks_its_size(make_window, bad):
    with pytest.raises((ValueError, TypeError), match=r"^(size|seconds|buckets) must be "):
        make_window(bad)


def test_a_window_that_fits_exactly_is_accepted():
    CircuitBreaker(5, window=CountWindow(5))
    CircuitBreaker(9, window=CountWindow(4), failure_rate=1, minimum_calls=4)
    CircuitBreaker(probe_limit=2, probe_lease=2, call_timeout=2, max_recovery_timeout=60, jitter=1, backoff=1)


def test_the_table_has_every_state_and_only_legal_ways():
    ways = {(state, cause, after) for state, row in TABLE.items() for cause, after in row.items()}
    by_hand = {Cause.RESET, Cause.FORCED, Cause.DISABLED, Cause.OBSERVED}
    assert set(TABLE) == set(CircuitState)
    assert all(by_hand <= set(row) for row in TABLE.values())
    assert {(str(a), str(b)) for a, cause, b in ways if cause not in by_hand} == {
        ("closed", "open"), ("open", "half_open"), ("half_open", "open"), ("half_open", "closed"),
    }  # fmt: skip


def outcomes(breaker, text):
    for letter in text:
        (failing(breaker) if letter == "F" else breaker.call(good))


@pytest.mark.parametrize(
    ("parameters", "calls", "state", "reason"),
    [
        ({"failure_threshold": 3}, "FFSFF", "closed", None),
        ({"failure_threshold": 3}, "FFSFFF", "open", "3 failures in a row"),
        ({"failure_threshold": 3, "window": CountWindow(5)}, "FSFSF", "open", "3 of 5 calls failed"),
        ({"failure_threshold": 3, "window": CountWindow(5)}, "FSFSSF", "closed", None),
        ({"failure_threshold": 3, "window": CountWindow(9), "minimum_calls": 6}, "FFFSS", "closed", None),
        ({"failure_threshold": 3, "window": CountWindow(9), "minimum_calls": 6}, "FFFSSS", "open", "3 of 6 calls failed"),
        ({"window": CountWindow(10), "failure_rate": 0.8}, "FFFFS", "open", "4 of 5 calls failed"),
        ({"window": CountWindow(10), "failure_rate": 0.8}, "FFFSS", "closed", None),
        ({"window": CountWindow(10), "failure_rate": 0.3, "minimum_calls": 10}, "FFFSSSSSS", "closed", None),
        ({"window": CountWindow(10), "failure_rate": 0.3, "minimum_calls": 10}, "FFFSSSSSSS", "open", "3 of 10 calls failed"),
        ({"window": CountWindow(4), "failure_threshold": 1, "failure_rate": 1.0, "minimum_calls": 4}, "SSSSFFF", "closed", None),
        ({"window": CountWindow(4), "failure_threshold": 1, "failure_rate": 1.0, "minimum_calls": 4}, "SSSSFFFF", "open", "4 of 4 calls failed"),
        ({"window": TimeWindow(10), "failure_rate": 0.8}, "FFFFS", "open", "4 of 5 calls failed"),
    ],
)  # fmt: skip
def test_a_rule_opens_it(parameters, calls, state, reason):
    breaker, _ = make(**parameters)
    outcomes(breaker, calls)
    assert breaker.state == state
    assert [change.reason for change in breaker.history] == ([] if reason is None else [reason])


def test_failures_older_than_the_time_window_never_count():
    breaker, clock = make(3, window=TimeWindow(10, 5))
    failing(breaker, 2)
    clock.now = 9.9
    assert breaker.failure_count == 2
    clock.now = 10
    assert breaker.failure_count == 0
    assert breaker.snapshot().calls == 0
    failing(breaker, 2)
    clock.now = 1e9
    assert breaker.failure_count == 0
    failing(breaker, 2)
    clock.now -= 5  # a clock that goes back is not followed
    failing(breaker, 1)
    assert breaker.state == "open"


def test_successes_that_leave_the_window_may_break_the_rate():
    breaker, clock = make(2, window=TimeWindow(10, 10), failure_rate=0.5, minimum_calls=3)
    outcomes(breaker, "SSSS")
    clock.now = 5
    outcomes(breaker, "FF")
    clock.now = 10
    outcomes(breaker, "S")
    assert breaker.history[-1].reason == "2 of 3 calls failed"


@pytest.mark.parametrize("rate", [None, 0.5])
def test_slow_calls_open_it(rate):
    window = None if rate is None else CountWindow(4)
    breaker, clock = make(2, window=window, slow_call_duration=1.0, slow_call_rate=rate)

    def slow(seconds):
        clock.now += seconds

    breaker.call(slow, 0.75)
    breaker.call(slow, 1.0)
    assert breaker.state == ("closed" if rate is None else "open")
    if rate is None:
        breaker.call(slow, 1.0)
    assert breaker.history[-1].reason == ("2 failures in a row" if rate is None else "1 of 2 calls were slow")
    assert breaker.snapshot().slow_count == (0 if rate is None else 1)
    clock.now += 60
    breaker.call(slow, 2)
    assert breaker.history[-1].reason == "a probe was slow"
    assert breaker.state == "open"


def test_slow_calls_leave_a_time_window():
    breaker, clock = make(3, window=TimeWindow(10, 10), slow_call_duration=1.0, slow_call_rate=1.0)
    for _ in range(2):
        breaker.call(setattr, clock, "now", clock.now + 1)
    assert breaker.snapshot().slow_count == 2
    clock.now = 12
    assert breaker.snapshot().slow_count == 0


@pytest.mark.parametrize("state", ["disabled", "metrics_only", "closed"])
def test_a_slow_call_counts_as_its_state_says(state):
    breaker, clock = make(1, slow_call_duration=1.0, initial_state=state)
    breaker.call(setattr, clock, "now", 2)
    assert breaker.state == ("open" if state == "closed" else state)
    assert breaker.failure_count == (0 if state == "disabled" else 1)


def status(result, error):
    if error is not None:
        return None
    return {500: "failure", 404: Outcome.IGNORED, 200: None}[result]


def test_a_classifier_sees_results_and_errors():
    breaker, _ = make(2, classify=status)
    breaker.call(good, 500)
    for ignored in (404, 404):
        breaker.call(good, ignored)
    assert breaker.failure_count == 1
    breaker.call(good, 200)
    assert breaker.failure_count == 0
    failing(breaker)
    assert breaker.call(good, 500) == 500
    assert breaker.state == "open"
    assert breaker.last_failure is None


def test_exceptions_outside_failures_are_answers_and_ignored_ones_are_nothing():
    breaker, _ = make(2, failures=(ConnectionError, OSError), ignore=FileNotFoundError)
    failing(breaker, 1)
    failing(breaker, 1, FileNotFoundError())
    assert breaker.failure_count == 1
    failing(breaker, 1, KeyError())
    assert breaker.failure_count == 0


def test_another_breakers_rejection_is_neutral_unless_it_is_named():
    inner, _ = make(1, initial_state="forced_open")
    neutral, counting = make(1)[0], make(1, failures=(CircuitOpenError,))[0]
    for breaker, state in ((neutral, "closed"), (counting, "open")):
        with pytest.raises(CircuitOpenError):
            breaker.call(inner.call, good)
        assert breaker.state == state


@pytest.mark.parametrize("answer", [1 / 0 if False else "nonsense", 3])
def test_a_broken_classifier_never_breaks_a_call(answer, caplog):
    breaker, _ = make(2, classify=lambda result, error: answer, retry_after=lambda outcome: 1 / 0, name="x")
    with ChaosLab(seed=1) as lab:
        assert breaker.call(good) == "ok"
        failing(breaker)
    assert breaker.failure_count == 1
    assert [record.getMessage().split(";")[0] for record in caplog.records] == [
        "circuit breaker 'x': its classify failed",
        "circuit breaker 'x': its retry_after failed",
    ]
    kinds = [event.kind for event in lab.timeline]
    assert kinds == ["classify-failed", "retry-after-failed"] * 2


def test_retry_after_opens_at_once_and_for_so_long():
    breaker, clock = make(
        5, retry_after=lambda outcome: getattr(outcome, "seconds", outcome if outcome == 7 else None)
    )
    error = ConnectionError()
    error.seconds = 30
    failing(breaker, 1, error)
    assert breaker.history[-1].reason == "the dependency asked for 30 s"
    assert breaker.snapshot().retry_after == 30
    clock.now = 30
    assert breaker.call(good, 7) == 7
    assert breaker.snapshot().retry_after == 7
    breaker.metrics_only()
    failing(breaker, 1, error)
    assert breaker.state == "metrics_only"


@pytest.mark.parametrize("answer", [None, 0, -1, NAN, INF, "30", True])
def test_a_useless_retry_after_opens_nothing(answer):
    breaker, _ = make(2, retry_after=lambda outcome: answer)
    failing(breaker)
    assert (breaker.state, breaker.failure_count) == ("closed", 1)


def test_retry_after_is_limited():
    breaker, _ = make(max_recovery_timeout=100, retry_after=lambda outcome: 1e9)
    failing(breaker)
    assert breaker.snapshot().retry_after == 100


def breaks(breaker, clock, times):
    for _ in range(times):
        trip(breaker)
        seconds = breaker.snapshot().retry_after
        yield seconds
        clock.now += seconds


def test_breaks_grow_up_to_the_cap_and_start_anew_after_closing():
    breaker, clock = make(1, 10, 1, backoff=2)
    assert list(breaks(breaker, clock, 6)) == [10, 20, 40, 80, 100, 100]
    breaker.call(good)
    assert list(breaks(breaker, clock, 2)) == [10, 20]
    assert breaker.snapshot().openings == 2


def test_a_huge_backoff_does_not_overflow():
    breaker, clock = make(1, 10, backoff=1e200, max_recovery_timeout=50)
    assert list(breaks(breaker, clock, 4)) == [10, 50, 50, 50]


def test_jitter_comes_from_the_stream_it_is_given():
    breaker, clock = make(1, 10, jitter=0.5, rng=random.Random(3))
    seen = list(breaks(breaker, clock, 20))
    expected = random.Random(3)
    assert seen == pytest.approx([10 * (0.5 + expected.random()) for _ in range(20)])


def test_jitter_comes_from_the_lab_by_default_and_never_passes_the_cap():
    def draw():
        breaker, clock = make(1, 10, jitter=1.0, max_recovery_timeout=12, name="x")
        return list(breaks(breaker, clock, 9))

    with ChaosLab(seed=1):
        first = draw()
    with ChaosLab(seed=1):
        assert draw() == first
    with ChaosLab(seed=2):
        assert draw() != first
    assert max(first) <= 12 + 1e-9
    assert draw() != first


def test_states_by_hand_stick():
    breaker, clock = make(1)
    breaker.force_open()
    clock.now = 1e9
    with pytest.raises(CircuitOpenError, match=r"^circuit breaker 'default' is forced_open$"):
        breaker.call(good)
    breaker.disable()
    failing(breaker, 9)
    assert (breaker.state, breaker.failure_count) == ("disabled", 0)
    breaker.metrics_only()
    failing(breaker, 9)
    assert (breaker.state, breaker.failure_count) == ("metrics_only", 9)
    breaker.call(good)
    assert breaker.failure_count == 0
    breaker.reset()
    breaker.reset()
    assert_transitions(breaker, ["closed", "forced_open", "disabled", "metrics_only", "closed"])


@pytest.mark.parametrize("state", list(CircuitState))
def test_it_begins_in_any_state(state):
    breaker, _ = make(initial_state=state)
    assert breaker.state is state
    assert breaker.history == ()
    assert_transitions(breaker, [state])


def test_a_reset_closes_and_forgets():
    breaker, _ = make(2)
    early = breaker._admit()
    failing(breaker, 1)
    breaker.reset()
    breaker._raised(early, ConnectionError())
    assert (breaker.failure_count, breaker.last_failure, breaker.state) == (0, None, "closed")


def test_history_is_bounded():
    breaker, _ = make(history_size=2)
    for move in (breaker.force_open, breaker.disable, breaker.reset):
        move()
    assert [str(change) for change in breaker.history] == [
        "forced_open -> disabled (disabled by hand)",
        "disabled -> closed (reset by hand)",
    ]


def test_a_snapshot_is_plain_data():
    breaker, clock = make(2, name="x")
    failing(breaker, 2)
    clock.now = 1
    assert json.loads(json.dumps(breaker.snapshot().as_dict())) == {
        "name": "x", "state": "open", "generation": 2, "calls": 2, "failure_count": 2, "slow_count": 0,
        "success_count": 0, "probes": 0, "openings": 1, "retry_after": 59, "last_failure": "ConnectionError",
    }  # fmt: skip
    assert repr(breaker) == "<CircuitBreaker 'x' open, 2 failures>"


def test_a_listener_that_fails_is_logged_once_and_breaks_nothing(caplog):
    seen = []

    def bad(breaker, change):
        raise ZeroDivisionError

    breaker, _ = make(1, listeners=[bad, lambda *news: seen.append(news)])
    failing(breaker)
    breaker.reset()
    assert [(who is breaker, change.state) for who, change in seen] == [(True, "open"), (True, "closed")]
    assert [record.levelno for record in caplog.records] == [logging.ERROR]
    assert caplog.records[0].exc_info[0] is ZeroDivisionError


def test_a_listener_may_use_the_breaker_and_hears_in_order():
    heard = []

    def listener(breaker, change):
        if change.state == "open":
            breaker.reset()
        heard.append(str(change.state))
        assert breaker._lock.acquire(blocking=False)
        breaker._lock.release()

    breaker, _ = make(1, listeners=[listener])
    failing(breaker)
    assert heard == ["open", "closed"]


def test_no_user_code_runs_under_the_lock():
    def free():
        holder = []
        thread = threading.Thread(
            target=lambda: holder.append(breaker._lock.acquire(timeout=5)) or breaker._lock.release()
        )
        thread.start()
        thread.join(10)
        return holder == [True]

    seen = []
    clock = Clock()
    breaker = CircuitBreaker(
        1, clock=clock, classify=lambda *_: seen.append(free()), retry_after=lambda _: seen.append(free()),
        listeners=[lambda *_: seen.append(free())],
    )  # fmt: skip
    breaker.call(lambda: seen.append(free()))
    failing(breaker)
    assert seen == [True] * 6


def test_rejections_log_nothing(caplog):
    breaker, _ = make(initial_state="forced_open")
    with pytest.raises(CircuitOpenError):
        breaker.call(good)
    assert caplog.records == []


def test_events_stand_in_the_timeline():
    breaker, clock = make(1, name="x")
    with ChaosLab(seed=1) as lab:
        failing(breaker)
        clock.now = 20
        with pytest.raises(CircuitOpenError):
            breaker.call(good)
    assert [(event.source, event.kind, dict(event.attributes)) for event in lab.timeline] == [
        ("breaker:x", "transition", {"previous": "closed", "state": "open", "reason": "1 failure"}),
        ("breaker:x", "rejected", {"state": "open", "retry_after": 40}),
    ]


def test_the_ambient_clock_is_read_at_each_call():
    breaker, clock = CircuitBreaker(1), Clock(1000.0)
    with use_clock(clock):
        trip(breaker)
        clock.now += 60
        assert breaker.state == "half_open"


# Guards of every kind


class Service:
    async def __call__(self):
        return "async"

    def generate(self):
        yield 1

    async def method(self):
        raise ConnectionError


KINDS = {
    "function": (good, None),
    "coroutine": (Service().__call__, inspect.iscoroutinefunction),
    "callable object": (Service(), inspect.iscoroutinefunction),
    "partial": (functools.partial(Service().method), inspect.iscoroutinefunction),
    "generator": (Service().generate, inspect.isgeneratorfunction),
    "builtin": (len, None),
}


@pytest.mark.parametrize("kind", KINDS)
def test_the_decorator_keeps_the_kind_and_the_name(kind):
    function, is_kind = KINDS[kind]
    guarded = make()[0](function)
    assert getattr(guarded, "__name__", None) is not None
    if hasattr(function, "__name__"):
        assert guarded.__name__ == function.__name__
        assert guarded.__doc__ == function.__doc__
    assert inspect.iscoroutinefunction(guarded) == (is_kind is inspect.iscoroutinefunction)
    assert inspect.isgeneratorfunction(guarded) == (is_kind is inspect.isgeneratorfunction)


def consume(iterable):
    with contextlib.suppress(ConnectionError):
        list(iterable)


async def aconsume(iterable):
    with contextlib.suppress(ConnectionError):
        async for _ in iterable:
            pass


async def bad_coroutine():
    raise ConnectionError


def bad_generator():
    yield 1
    raise ConnectionError


async def bad_async_generator():
    yield 1
    raise ConnectionError


async def _quietly(awaitable):
    with contextlib.suppress(ConnectionError):
        await awaitable


FINISH = {
    bad_coroutine: lambda made: run(_quietly(made)),
    bad_generator: consume,
    bad_async_generator: lambda made: run(aconsume(made)),
}
HOW = {
    "decorator": lambda breaker, function: breaker(function)(),
    "call": lambda breaker, function: breaker.call(function),
    "lambda through call": lambda breaker, function: breaker.call(lambda: function()),
    "decorated lambda": lambda breaker, function: breaker(lambda: function())(),
    "partial": lambda breaker, function: breaker.call(functools.partial(function)),
}


@pytest.mark.parametrize("how", HOW)
@pytest.mark.parametrize("function", FINISH)
def test_every_kind_is_guarded_to_its_end(function, how):
    breaker, _ = make(1)
    made = HOW[how](breaker, function)
    assert breaker.state == "closed"
    FINISH[function](made)
    assert breaker.state == "open"
    if "lambda" not in how:
        made = HOW[how](breaker, function)  # admission comes with the first step
        with pytest.raises(CircuitOpenError):
            FINISH[function](made)
    else:
        with pytest.raises(CircuitOpenError):
            HOW[how](breaker, function)


@pytest.mark.parametrize("how", HOW)
def test_every_kind_succeeds(how):
    async def fine():
        return 1

    def generator():
        return (yield 1)

    async def async_generator():
        yield 1

    for function, finish in (
        (fine, run),
        (generator, list),
        (async_generator, lambda made: run(aconsume(made))),
    ):
        breaker, _ = make(2, success_threshold=1)
        failing(breaker, 1)
        finish(HOW[how](breaker, function))
        assert breaker.failure_count == 0
        finish(HOW[how](breaker, function))  # healthy: nothing to settle


def test_a_disabled_breaker_counts_no_lazy_result():
    breaker, _ = make(window=CountWindow(9), initial_state="disabled")
    list(breaker.call(lambda: iter_once()))
    assert breaker.snapshot().calls == 0


def iter_once():
    yield 1


def test_a_generator_passes_what_is_sent_and_thrown():
    def echo():
        try:
            heard = yield "first"
        except KeyError:
            heard = "thrown"
        return (yield heard)

    guarded = make()[0](echo)
    talk = guarded()
    assert (next(talk), talk.send("hello")) == ("first", "hello")
    with pytest.raises(StopIteration) as end:
        talk.send("bye")
    assert end.value.value == "bye"
    talk = guarded()
    next(talk)
    assert talk.throw(KeyError()) == "thrown"


def test_an_async_generator_passes_what_is_sent_and_thrown_and_closes_the_inner_one():
    closed = []

    async def echo():
        try:
            heard = yield "first"
            try:
                yield heard
            except KeyError:
                yield "thrown"
        finally:
            closed.append(1)

    async def main():
        talk = make()[0](echo)()
        assert await anext(talk) == "first"
        assert await talk.asend("hello") == "hello"
        assert await talk.athrow(KeyError()) == "thrown"
        await talk.aclose()
        assert closed == [1]

    run(main())


def test_closing_a_generator_early_is_neutral():
    breaker, clock = make(1, success_threshold=1)
    trip(breaker)
    clock.now = 60
    talk = breaker(iter_once)()
    next(talk)
    assert breaker.snapshot().probes == 1
    talk.close()
    assert (breaker.state, breaker.snapshot().probes) == ("half_open", 0)

    async def agen():
        yield 1

    async def main():
        talk = breaker(agen)()
        await anext(talk)
        assert breaker.snapshot().probes == 1
        await talk.aclose()

    run(main())
    assert (breaker.state, breaker.snapshot().probes) == ("half_open", 0)


@pytest.mark.parametrize(
    ("function", "text"),
    [
        (Service, r"cannot guard the class Service: guard its methods one by one"),
        (3, r"cannot guard 3: it is not callable"),
        (classmethod(good), r"cannot guard a classmethod object: put the breaker's decorator below @classmethod"),
        (staticmethod(good), r"cannot guard a staticmethod object: .*"),
        (property(good), r"cannot guard a property object: .*"),
        (contextlib.contextmanager(iter_once), r"cannot guard .* below @contextmanager, or use `with breaker:`"),
        (types.coroutine(lambda: (yield)), r"cannot guard .*: it is made by types.coroutine; make it an `async def`"),
    ],
)  # fmt: skip
def test_what_cannot_be_guarded_is_refused_at_decoration(function, text):
    with pytest.raises(TypeError, match=f"^{text}$"):
        make()[0](function)


@pytest.mark.parametrize("function", [good, iter_once, bad_async_generator])
def test_a_call_timeout_is_refused_where_nothing_can_interrupt(function):
    breaker = CircuitBreaker(call_timeout=1)
    text = (
        r"^call_timeout needs an async function, and .* is not one: nothing can interrupt it; use slow_call_"
    )
    with pytest.raises(TypeError, match=text):
        breaker(function)
    with pytest.raises(TypeError, match=text):
        breaker.call(function)
    with (
        pytest.raises(TypeError, match=r"^call_timeout needs an async function: use `await breaker.call"),
        breaker,
    ):
        pass


def test_a_call_timeout_guards_a_decorated_function():
    async def fine():
        return 1

    guarded = CircuitBreaker(call_timeout=60)(fine)
    assert run(guarded()) == 1
    assert inspect.iscoroutinefunction(guarded)


def test_with_blocks_nest_and_count():
    outer, inner = make(1, name="outer")[0], make(1, name="inner")[0]
    with pytest.raises(ConnectionError), outer, inner, inner:
        raise ConnectionError
    assert (outer.state, inner.state) == ("open", "open")
    with pytest.raises(CircuitOpenError), inner:
        pass

    async def main():
        breaker = make(2)[0]
        async with breaker as same:
            assert same is breaker
        with contextlib.suppress(ConnectionError):
            async with breaker:
                raise ConnectionError
        assert breaker.failure_count == 1

    run(main())


def test_with_blocks_may_be_left_out_of_order():
    first, second = make(1)[0], make(1)[0]
    first.__enter__()
    second.__enter__()
    first.__exit__(None, None, None)
    second.__exit__(ConnectionError, ConnectionError(), None)
    assert (first.state, second.state) == ("closed", "open")
    with pytest.raises(
        RuntimeError, match=r"^the `with` block of circuit breaker 'default' is left in another"
    ):
        first.__exit__(None, None, None)


# Registry, store, helpers


def test_the_registry_makes_one_breaker_a_key():
    registry = CircuitBreakerRegistry(failure_threshold=1)
    assert registry.get("a") is registry["a"]
    assert registry["a"].name == "a"
    assert ("a" in registry, "b" in registry, len(registry), list(registry)) == (
        True,
        False,
        1,
        [registry["a"]],
    )
    registry.discard("a")
    registry.discard("a")
    assert len(registry) == 0


def test_the_registry_evicts_the_closed_breaker_that_rested_longest():
    gone = []
    registry = CircuitBreakerRegistry(
        2, on_evict=lambda key, breaker: gone.append((key, breaker.state)), failure_threshold=1
    )
    trip(registry["open"])
    registry["a"]
    with ChaosLab(seed=1) as lab:
        registry["b"]
        assert gone == [("a", "closed")]
        trip(registry["b"])
        registry["c"]
    assert gone == [("a", "closed"), ("open", "open")]
    assert [event.attributes["state"] for event in lab.timeline.where(kind="evicted")] == ["closed", "open"]
    assert [breaker.name for breaker in registry] == ["b", "c"]


def test_the_registry_checks_its_parameters_at_once():
    with pytest.raises(ValueError, match=r"^max_size must be"):
        CircuitBreakerRegistry(0)
    with pytest.raises(ValueError, match=r"^failure_threshold must be"):
        CircuitBreakerRegistry(failure_threshold=0)
    with pytest.raises(TypeError, match=r"^pass make or parameters, not both: jitter$"):
        CircuitBreakerRegistry(make=lambda key: CircuitBreaker(), jitter=0.1)
    assert CircuitBreakerRegistry(make=lambda key: CircuitBreaker(name="mine")).get(1).name == "mine"


def test_breakers_of_one_name_share_their_state():
    store, clock = MemoryStore(), Clock()
    one, two, other = (make(1, 30, 1, name=name, store=store, clock=clock)[0] for name in ("x", "x", "y"))
    trip(one)
    assert (two.state, other.state) == ("open", "closed")
    assert two.history[-1].reason == "shared: 1 failure"
    clock.now = 10
    late, _ = make(name="x", store=store, clock=clock)
    assert late.state == "open"
    clock.now = 30
    assert two.state == "half_open"
    one.call(good)
    assert (one.state, two.state) == ("closed", "closed")
    assert two.snapshot().openings == 0


def test_a_store_keeps_no_breaker_alive_and_breaks_no_call(caplog):
    store = MemoryStore()
    reference = weakref.ref(CircuitBreaker(store=store))
    assert reference() is None
    store.publish("default", SharedState(CircuitState.OPEN, 1, 1, "x"), print)

    class Broken:
        def attach(self, name, receive):
            pass

        def publish(self, name, state, origin):
            raise OSError("gone")

    breaker, _ = make(1, store=Broken())
    failing(breaker)
    assert breaker.state == "open"
    assert len(caplog.records) == 1


def test_trip_lets_calls_fail_by_the_breakers_own_rules():
    heard = []
    breaker, _ = make(
        window=CountWindow(20), failure_rate=1.0, listeners=[lambda _, change: heard.append(change.reason)]
    )
    outcomes(breaker, "SSSSS")
    trip(breaker)
    trip(breaker)
    assert heard == ["20 of 20 calls failed"]


def test_trip_says_why_it_cannot():
    with pytest.raises(
        AssertionError,
        match=r"^cannot trip <.*>: it is disabled; call reset\(\) first\nhistory: none, it has never left",
    ):
        trip(make(initial_state="disabled")[0])
    with pytest.raises(
        AssertionError, match=r"^<.*> is not open after 5 calls that raised KeyError\(\); pass an error"
    ):
        trip(make(ignore=KeyError)[0], KeyError())
    breaker, _ = make(initial_state="half_open")
    breaker._admit()
    with pytest.raises(
        AssertionError, match=r"^cannot trip <.*>: circuit breaker 'default' is half_open, retry"
    ):
        trip(breaker)


@pytest.mark.parametrize("state", ["open", "half_open", "forced_open", "disabled", CircuitState.METRICS_ONLY])
def test_forced_puts_it_into_a_state_and_back(state):
    breaker, _ = make()
    failing(breaker, 1)
    with forced(breaker, state) as same:
        assert same is breaker
        assert breaker.state == state
    assert breaker.state == "closed"
    with pytest.raises(ValueError, match=r"^state must be one of"), forced(breaker, "ajar"):
        pass


def test_forced_keeps_the_rest_of_a_break():
    breaker, clock = make(1)
    trip(breaker)
    clock.now = 40
    with forced(breaker, "closed"):
        assert breaker.call(good) == "ok"
    assert breaker.snapshot().retry_after == 20


def test_assert_transitions_shows_the_history():
    breaker, clock = make(1, name="x")
    clock.now = 5816.925
    trip(breaker)
    clock.now += 60
    assert_transitions(breaker, "closed → open -> half_open")
    with pytest.raises(AssertionError) as raised:
        assert_transitions(breaker, "closed -> open")
    assert str(raised.value) == (
        "circuit breaker 'x' went closed -> open -> half_open, expected closed -> open\n"
        "history, in seconds since the first transition:\n"
        "  t+0.000s   closed -> open (1 failure)\n"
        "  t+60.000s  open -> half_open (the break is over)"
    )
    with pytest.raises(ValueError, match=r"^expected must be one of .*, not 'ajar'$"):
        assert_transitions(breaker, "closed -> ajar")
    assert_probes(breaker)
    assert breaker.history[0] == Transition(5816.925, CircuitState.CLOSED, CircuitState.OPEN, "1 failure")


def test_importing_it_loads_the_standard_library_only():
    code = (
        "import sys; before = set(sys.modules); import pytest_prodpatterns.patterns.breaker.testing; "
        "new = {name.partition('.')[0] for name in set(sys.modules) - before}; "
        "print(sorted(new - sys.stdlib_module_names), 'asyncio' in sys.modules)"
    )
    result = subprocess.run([sys.executable, "-S", "-c", f"import sys; sys.path.insert(0, {str(ROOT)!r}); {code}"],
                            capture_output=True, text=True, timeout=60, check=True)  # fmt: skip
    assert result.stdout.strip() == "['pytest_prodpatterns'] False"


ROOT = Path(__file__).parents[3]
