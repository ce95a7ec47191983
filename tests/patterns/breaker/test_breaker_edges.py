"""What attacks on it found: clocks that are replaced, unusual awaitables, what it keeps alive, odd parameters."""

from __future__ import annotations

import asyncio
import copy
import functools
import gc
import pickle
import random
import weakref

import pytest
from breaker_support import Clock, fail, failing, good, make, run

from pytest_prodpatterns.lab import ChaosLab, virtual_time
from pytest_prodpatterns.patterns.breaker import (
    CircuitBreaker,
    CircuitBreakerRegistry,
    CircuitOpenError,
    CountWindow,
    MemoryStore,
    SharedState,
    TimeWindow,
)
from pytest_prodpatterns.patterns.breaker.testing import trip


def test_a_break_that_began_before_virtual_time_ends_within_it():
    breaker = CircuitBreaker(1, 10)
    trip(breaker)
    with virtual_time() as clock:
        clock.advance(9.5)
        with pytest.raises(CircuitOpenError, match=r"is open, retry after 0\.5 s"):
            breaker.call(good)
        clock.advance(0.5)
        assert breaker.state == "half_open"


def test_a_lease_that_began_before_virtual_time_ends_within_it():
    breaker = CircuitBreaker(initial_state="half_open", probe_lease=10)
    hung = breaker._admit()
    with virtual_time() as clock:
        with pytest.raises(CircuitOpenError, match=r"is half_open, retry after 10 s"):
            breaker.call(good)
        clock.advance(10.5)
        assert breaker.call(good) == "ok"
        breaker._raised(hung, ConnectionError())
        assert breaker.state == "half_open"


def test_a_clock_that_goes_back_leaves_the_rest_of_a_break():
    breaker, clock = make(1, 10, clock=Clock(1000.0))
    trip(breaker)
    clock.now = 999.5  # another thread read the time a little earlier
    assert breaker.snapshot().retry_after == 10.5
    clock.now = 5.0
    assert breaker.snapshot().retry_after == 10
    clock.now = 14.9
    assert breaker.state == "open"
    clock.now = 15
    assert breaker.state == "half_open"


class Awaitable:
    def __await__(self):
        yield from asyncio.sleep(0).__await__()
        raise ConnectionError("late")


@pytest.mark.parametrize("how", ["call", "guard"])
@pytest.mark.parametrize("kind", ["object", "future", "executor"])
def test_whatever_can_be_awaited_is_guarded_to_its_end(kind, how):
    def work():
        if kind == "object":
            return Awaitable()
        loop = asyncio.get_running_loop()
        if kind == "executor":
            return loop.run_in_executor(None, fail)
        future = loop.create_future()
        loop.call_soon(future.set_exception, ConnectionError("late"))
        return future

    async def main():
        breaker = CircuitBreaker(1)
        waiting = breaker.call(work) if how == "call" else breaker.guard(work)()
        assert breaker.state == "closed"
        with pytest.raises(ConnectionError):
            await waiting
        return breaker.state

    assert run(main()) == "open"


@pytest.mark.parametrize(
    ("parameters", "heal"), [({}, 1), ({"window": CountWindow(3), "failure_threshold": 3}, 3)]
)
@pytest.mark.parametrize("judged", [False, True])
def test_a_breaker_that_is_well_again_keeps_no_error_alive(parameters, heal, judged):
    breaker, _ = make(**parameters, classify=(lambda *_: None) if judged else None)

    class Heavy:
        pass

    def work():
        heavy = Heavy()
        seen.append(weakref.ref(heavy))
        raise ConnectionError

    seen = []
    with pytest.raises(ConnectionError):
        breaker.call(work)
    assert isinstance(breaker.last_failure, ConnectionError)
    for _ in range(heal):
        assert breaker.last_failure is not None
        breaker.call(good)
    assert breaker.last_failure is None
    gc.collect()
    assert seen[0]() is None


@pytest.mark.parametrize("copied", [copy.copy, copy.deepcopy, pickle.dumps])
def test_a_breaker_is_not_copied(copied):
    with pytest.raises(
        TypeError, match=r"^circuit breaker 'db' can be neither copied nor pickled, .* store$"
    ):
        copied(CircuitBreaker(name="db"))


def test_a_listener_s_error_that_cannot_be_shown_breaks_nothing(caplog):
    class Unspeakable(Exception):
        def __repr__(self):
            raise RuntimeError("no words")

    def listener(*_):
        raise Unspeakable

    breaker, _ = make(1, listeners=[listener])
    with ChaosLab(seed=1) as lab:
        failing(breaker)
        told = lab.timeline.where("breaker:default", "listener-failed")
    assert [event.attributes for event in told] == [{"error": "Unspeakable"}]


def test_what_a_call_makes_of_its_time_out_is_a_failure():
    class Translated(Exception):
        pass

    async def work():
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            raise Translated from None

    breaker = CircuitBreaker(1, call_timeout=0.01, ignore=Translated)

    async def main():
        with pytest.raises(Translated):
            await breaker.call(work)

    run(main())
    assert breaker.state == "open"
    assert isinstance(breaker.last_failure, Translated)


def test_a_break_opened_by_a_success_or_a_lost_round_is_jittered():
    dice = random.Random(5)
    rolls = [10 * (0.5 + dice.random()) for _ in range(2)]
    by_success, _ = make(2, 10, window=CountWindow(9), minimum_calls=3, jitter=0.5, rng=random.Random(5))
    failing(by_success, 2)
    by_success.call(good)
    assert by_success.snapshot().retry_after == pytest.approx(rolls[0])

    lost, clock = make(1, 10, 1, probe_limit=1, probe_lease=1, jitter=0.5, rng=random.Random(5))
    trip(lost)
    clock.now = 20
    lost._admit()
    clock.now = 21
    assert (lost.state, lost.snapshot().openings) == ("open", 2)
    assert lost.snapshot().retry_after == pytest.approx(rolls[1])


def test_only_breaks_use_up_random_numbers():
    rng = random.Random(5)
    breaker, _ = make(9, 10, jitter=0.5, rng=rng)
    failing(breaker, 8)
    breaker.call(good)
    assert rng.random() == random.Random(5).random()


def test_a_store_may_tell_the_state_as_text():
    store = MemoryStore()
    breaker = CircuitBreaker(1, store=store, name="db")
    store.publish("db", SharedState("open", 5.0, 1, "elsewhere"), print)
    with pytest.raises(CircuitOpenError):
        breaker.call(good)


@pytest.mark.parametrize("bad", [5e-324, 9e-6])
def test_a_bucket_is_not_shorter_than_a_clock_can_tell(bad):
    with pytest.raises(
        ValueError, match=rf"^seconds must be at least 1e-06 for each of the 10 buckets, not {bad!r}$"
    ):
        TimeWindow(bad)
    assert CircuitBreaker(window=TimeWindow(1e-5)).call(good) == "ok"


def test_a_number_beyond_every_float_is_refused():
    with pytest.raises(
        ValueError, match=r"^recovery_timeout must be a finite number of seconds above 0, not 10+$"
    ):
        CircuitBreaker(recovery_timeout=10**400)


def test_the_registry_names_breakers_itself_and_takes_nothing_else_for_one():
    with pytest.raises(TypeError, match=r"^name must be left out: each breaker is named after its key$"):
        CircuitBreakerRegistry(name="db")
    registry = CircuitBreakerRegistry(make=lambda key: None)
    with pytest.raises(TypeError, match=r"^make must return a CircuitBreaker, not None$"):
        registry.get("db")
    assert "db" not in registry


def test_the_registry_uses_an_iterator_for_every_breaker():
    registry = CircuitBreakerRegistry(failure_threshold=1, failures=iter([ConnectionError]))
    for key in "ab":
        failing(registry[key])
        assert registry[key].state == "open"


def test_trip_says_when_it_cannot_make_the_error():
    text = r"^cannot make UnicodeDecodeError from a text \(.*\); pass error=…$"
    with pytest.raises(TypeError, match=text):
        trip(CircuitBreaker(failures=UnicodeDecodeError))
    with pytest.raises(AssertionError, match=r"is not open after 5 calls that raised Exception\("):
        trip(CircuitBreaker(failures=()))


def test_a_guarded_object_is_named_after_its_kind():
    class Adder:
        def __call__(self, a):
            return a + 1

    breaker = CircuitBreaker()
    assert breaker(Adder()).__name__ == breaker(functools.partial(Adder(), 1)).__qualname__ == "Adder"
    assert breaker(functools.partial(good, 1)).__name__ == "good"
