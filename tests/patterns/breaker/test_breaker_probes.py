"""The probes of good behaviour that no published breaker passes all of, on ours, with a clock set by hand."""

from __future__ import annotations

import asyncio
import copy
import inspect
import pickle
import sys
import threading
import time

import pytest
from breaker_support import Clock, fail, failing, good, make, run

from pytest_prodpatterns.patterns.breaker import CircuitBreaker, CircuitOpenError, CountWindow, TimeWindow
from pytest_prodpatterns.patterns.breaker.testing import assert_probes, assert_transitions, trip


def half_open(*args, **kwargs):
    breaker, clock = make(*args, **kwargs)
    trip(breaker)
    clock.now += breaker.snapshot().retry_after
    assert breaker.state == "half_open"
    return breaker, clock


def test_the_first_failure_in_half_open_opens_again():
    breaker, clock = half_open()
    failing(breaker)
    assert breaker.state == "open"
    assert breaker.snapshot().retry_after == 60


def test_a_success_then_a_failure_in_half_open_opens_again():
    breaker, _ = half_open(success_threshold=3)
    breaker.call(good)
    assert breaker.success_count == 1
    failing(breaker)
    assert_transitions(breaker, "closed -> open -> half_open -> open")


@pytest.mark.parametrize("limit", [1, 3])
def test_tasks_at_half_open_are_rejected_beyond_the_limit(limit):
    breaker, _ = half_open(max_probes=limit, success_threshold=3)
    entered = []

    async def probe():
        entered.append(1)
        await asyncio.sleep(0)

    async def main():
        return await asyncio.gather(*(breaker.call(probe) for _ in range(500)), return_exceptions=True)

    results = run(main())
    assert len(entered) == limit
    assert sum(isinstance(result, CircuitOpenError) for result in results) == 500 - limit
    assert_probes(breaker, max=limit)
    if limit > 1:
        with pytest.raises(AssertionError, match=r"^3 probes of circuit breaker 'default' ran side by side"):
            assert_probes(breaker, max=limit - 1)


def test_threads_at_half_open_are_rejected_beyond_the_limit():
    breaker, _ = half_open(success_threshold=1)
    release, barrier, entered, rejected = threading.Event(), threading.Barrier(20), [], []

    def probe():
        entered.append(1)
        release.wait(10)

    def caller():
        barrier.wait(10)
        try:
            breaker.call(probe)
        except CircuitOpenError:
            rejected.append(1)
            if len(rejected) == 19:
                release.set()

    run_threads(20, caller)
    assert (len(entered), len(rejected)) == (1, 19)
    assert breaker.state == "closed"


@pytest.mark.parametrize("error", [asyncio.CancelledError, KeyboardInterrupt, SystemExit, GeneratorExit])
def test_an_interrupted_probe_is_neutral_and_gives_its_slot_back(error):
    breaker, _ = half_open(probe_limit=2)
    for _ in range(10):
        with pytest.raises(error):
            breaker.call(fail, error())
    assert breaker.state == "half_open"
    assert breaker.snapshot().probes == 0
    breaker.call(good)
    breaker.call(good)
    assert breaker.state == "closed"


def test_a_cancelled_task_is_neutral_and_gives_its_slot_back():
    breaker, _ = half_open()

    async def main():
        task = asyncio.ensure_future(breaker.call(asyncio.sleep, 3600))
        await asyncio.sleep(0)
        assert breaker.snapshot().probes == 1
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert breaker.snapshot().probes == 0

    run(main())
    assert breaker.state == "half_open"


@pytest.mark.parametrize("error", [asyncio.CancelledError, KeyboardInterrupt])
def test_interrupts_neither_open_nor_reset(error):
    breaker, _ = make(3)
    failing(breaker, 5, error())
    assert breaker.failure_count == 0
    failing(breaker, 2)
    failing(breaker, 1, error())
    assert breaker.state == "closed"
    failing(breaker, 1)
    assert breaker.state == "open"


def test_a_hung_probe_loses_its_slot_and_its_late_outcome_is_stale():
    breaker, clock = half_open(probe_lease=5)
    hung = breaker._admit()
    clock.now += 4.5
    with pytest.raises(CircuitOpenError) as rejected:
        breaker.call(good)
    assert (rejected.value.state, rejected.value.retry_after) == ("half_open", 0.5)
    clock.now += 0.5
    breaker.call(good)
    breaker._raised(hung, ConnectionError())
    assert breaker.state == "half_open"
    breaker._returned(hung, None)
    assert breaker.success_count == 1
    breaker.call(good)
    assert_transitions(breaker, "closed -> open -> half_open -> closed")


def test_a_probe_that_outlives_its_lease_does_not_count_even_if_nobody_took_its_slot():
    breaker, clock = half_open(success_threshold=1)
    hung = breaker._admit()
    clock.now += 60
    breaker._returned(hung, None)
    assert (breaker.state, breaker.success_count) == ("half_open", 0)


def test_a_round_whose_probes_all_hang_ends_at_the_limit():
    breaker, clock = half_open(probe_limit=2, probe_lease=5)
    for _ in range(2):
        breaker._admit()
        clock.now += 5
    assert breaker.state == "open"
    assert breaker.history[-1].reason == "none of 2 probes is left, and no verdict"
    assert breaker.snapshot().retry_after == 60


def test_at_the_probe_limit_calls_are_rejected_until_the_last_lease_ends():
    breaker, clock = half_open(probe_limit=2, max_probes=3, probe_lease=5)
    breaker._admit()
    clock.now += 1
    breaker._admit()
    with pytest.raises(CircuitOpenError) as rejected:
        breaker.call(good)
    assert rejected.value.retry_after == 5


def test_a_call_timeout_counts_and_a_callers_timeout_does_not():
    async def hang():
        await asyncio.sleep(3600)

    async def outer(breaker):
        for _ in range(3):
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(breaker.call(hang), 0.001)

    async def own(breaker):
        for _ in range(2):
            with pytest.raises(
                TimeoutError, match=r"^the call took longer than call_timeout=0.001 s of circuit"
            ):
                await breaker.call(hang)

    neutral, counting = CircuitBreaker(2), CircuitBreaker(2, call_timeout=0.001)
    run(outer(neutral))
    assert (neutral.state, neutral.failure_count) == ("closed", 0)
    run(own(counting))
    assert counting.state == "open"


def test_an_answer_after_the_call_timeout_is_given_and_counts_as_failure():
    breaker = CircuitBreaker(1, call_timeout=0.001)

    @breaker
    async def stubborn():
        try:
            await asyncio.sleep(3600)
        except asyncio.CancelledError:
            return "late"

    assert run(stubborn()) == "late"
    assert breaker.state == "open"


def test_a_timeout_error_of_the_function_itself_stays_as_it_is():
    breaker = CircuitBreaker(2, call_timeout=60, ignore=TimeoutError)
    own = TimeoutError("mine")

    async def late():
        raise own

    async def main():
        with pytest.raises(TimeoutError) as raised:
            await breaker.call(late)
        assert raised.value is own
        return await breaker.call(asyncio.sleep, 0, "fine")

    assert run(main()) == "fine"
    assert breaker.failure_count == 0


def test_the_wall_clock_is_never_read(monkeypatch):
    for step in (-3600, 3600):
        breaker = CircuitBreaker(1, 30)
        trip(breaker)
        real = time.time
        monkeypatch.setattr(time, "time", lambda step=step, real=real: real() + step)
        assert breaker.state == "open"
        assert breaker.snapshot().retry_after == pytest.approx(30, abs=5)


def run_threads(count, body):
    errors = []

    def guarded():
        try:
            body()
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=guarded) for _ in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert not errors
    assert not any(thread.is_alive() for thread in threads)


@pytest.fixture
def restless():
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(before)


@pytest.mark.parametrize("window", [None, CountWindow(4000), TimeWindow(1000.0)])
def test_threads_lose_no_failure(restless, window):
    breaker, _ = make(10**9 if window is None else 4000, window=window)
    run_threads(8, lambda: failing(breaker, 400))
    assert breaker.failure_count == 3200


@pytest.mark.parametrize("window", [CountWindow(8000), TimeWindow(1000.0)])
def test_threads_lose_no_success(restless, window):
    breaker, _ = make(5, window=window, failure_rate=1.0)

    def body():
        for _ in range(400):
            breaker.call(good)

    run_threads(8, body)
    assert breaker.snapshot().calls == 3200


def test_threads_open_it_exactly_once_and_never_run_too_many_probes(restless):
    breaker, clock = make(50, 1.0, 1, max_probes=2)
    running, most, lock = [0], [0], threading.Lock()

    def probe():
        with lock:
            running[0] += 1
            most[0] = max(most[0], running[0])
        with lock:
            running[0] -= 1
        raise ConnectionError

    run_threads(8, lambda: failing_or_rejected(breaker, 30, fail))
    assert [change.state for change in breaker.history] == ["open"]
    for _ in range(5):
        clock.now += 1
        run_threads(8, lambda: failing_or_rejected(breaker, 5, probe))
    assert 1 <= most[0] <= 2
    assert_probes(breaker, max=2)
    assert len(breaker.history) == 11


def failing_or_rejected(breaker, times, function):
    for _ in range(times):
        try:
            breaker.call(function)
        except (ConnectionError, CircuitOpenError):
            continue


def test_slow_calls_run_side_by_side():
    breaker, barrier = CircuitBreaker(), threading.Barrier(8)
    run_threads(
        8, lambda: breaker.call(barrier.wait, 10)
    )  # all eight are inside at once, or the barrier breaks


def test_the_tripping_call_raises_its_own_error():
    breaker, _ = make(1)
    error = ValueError("mine")
    with pytest.raises(ValueError, match="mine") as raised:
        breaker.call(fail, error)
    assert raised.value is error
    assert (error.__cause__, error.__context__) == (None, None)


def test_the_open_error_tells_who_and_when_and_why():
    breaker, clock = make(1, 30, name="payments")
    failing(breaker, 1, ConnectionError("down"))
    clock.now = 10
    with pytest.raises(CircuitOpenError) as raised:
        breaker.call(good)
    error = raised.value
    assert (error.name, error.state, error.retry_after) == ("payments", "open", 20)
    assert repr(error.last_failure) == "ConnectionError('down')"
    text = "circuit breaker 'payments' is open, retry after 20 s (last failure: ConnectionError('down'))"
    assert str(error) == text
    for twin in (pickle.loads(pickle.dumps(error)), copy.copy(error)):
        assert str(twin) == text
    with pytest.raises(CircuitOpenError) as again:
        breaker.call(good)
    assert again.value is not error


def test_the_open_error_has_defaults():
    error = CircuitOpenError()
    assert (error.name, error.state, error.retry_after, error.last_failure) == ("default", "open", None, None)
    assert str(error) == "circuit breaker 'default' is open"


def test_the_open_error_pickles_when_the_last_failure_does_not():
    class Local(Exception):
        pass

    error = pickle.loads(pickle.dumps(CircuitOpenError("x", "open", 1.0, Local("secret"))))
    assert repr(error.last_failure) == """RuntimeError("Local('secret') (it could not be pickled)")"""
    assert (error.name, error.retry_after) == ("x", 1.0)


@pytest.mark.parametrize("ending", ["success", "failure"])
@pytest.mark.parametrize("during", ["open", "half_open", "closed", "next half_open"])
def test_an_outcome_of_an_earlier_generation_changes_nothing(ending, during):
    breaker, clock = make(2, 10, 1)
    early = breaker._admit()
    failing(breaker, 2)
    if during != "open":
        clock.now = 10
        early = breaker._admit() if during == "next half_open" else early
    if during == "closed":
        breaker.call(good)
        failing(breaker, 1)
    if during == "next half_open":
        breaker._impose(breaker.state, "another round")
        assert breaker.state == "half_open"
    clock.now += 3
    before = breaker.snapshot(), breaker.history
    if ending == "success":
        breaker._returned(early, None)
    else:
        breaker._raised(early, ConnectionError())
    assert (breaker.snapshot(), breaker.history) == before


def test_late_failures_do_not_extend_the_break():
    breaker, clock = make(2, 10)
    early = [breaker._admit() for _ in range(5)]
    failing(breaker, 2)
    clock.now = 9
    for ticket in early:
        breaker._raised(ticket, ConnectionError())
    clock.now = 10
    assert breaker.state == "half_open"


def test_the_state_is_computed_when_it_is_read():
    breaker, clock = half_open()
    assert [change.at for change in breaker.history] == [0, 60]
    assert breaker.call(good) == "ok"
    clock.now += 1
    assert breaker.state == "half_open"


def test_memory_stays_small():
    import tracemalloc

    breakers = [CircuitBreaker(window=CountWindow(100), failure_rate=0.5) for _ in range(2)]
    tracemalloc.start()
    before = tracemalloc.get_traced_memory()[0]
    breakers = [CircuitBreaker(window=CountWindow(100), failure_rate=0.5) for _ in range(50)]
    for breaker in breakers:
        for _ in range(100):
            breaker.call(good)
    used = (tracemalloc.get_traced_memory()[0] - before) / 50
    tracemalloc.stop()
    assert used <= 1900


def test_the_guide_s_example_holds():
    calls = []

    async def service():
        calls.append(1)
        if len(calls) <= 3:
            raise ConnectionError("Service unavailable")
        return "Service response"

    async def main():
        clock = Clock()
        breaker = CircuitBreaker(failure_threshold=3, recovery_timeout=5, success_threshold=2, clock=clock)
        seen = []
        for _ in range(10):
            try:
                await breaker.call(service)
            except (ConnectionError, CircuitOpenError):
                pass
            seen.append(breaker.state.value)
            clock.now += 1
        return seen

    assert run(main()) == ["closed"] * 2 + ["open"] * 5 + ["half_open"] + ["closed"] * 2


def test_call_runs_a_sync_function_once_and_returns_its_result():
    breaker, _ = make()
    calls = []
    assert breaker.call(lambda *args, **kwargs: calls.append(1) or (args, kwargs), 1, function=2) == (
        (1,),
        {"function": 2},
    )
    assert calls == [1]
    assert inspect.signature(breaker(good)) == inspect.signature(good)
