"""Places and the line before them: the order of those who wait, and what becomes of a place nobody comes for."""

from __future__ import annotations

import asyncio
import gc
import random
import signal
import threading

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pool_support import SECONDS, bounded, run, soon

from pytest_prodpatterns.patterns.pool import PoolClosed, QueueFull
from pytest_prodpatterns.patterns.pool import _gate as gate_module
from pytest_prodpatterns.patterns.pool._gate import Gate


def in_line(gate):
    return len(gate._line)


def full_gate(capacity=1):
    gate = Gate(capacity, "test")
    for _ in range(capacity):
        assert gate.try_take()
    return gate


class InThread:
    """Somebody who takes a place in a thread; started only when those before are in the line."""

    def __init__(self, gate, told, timeout=None):
        self.outcome = None
        self.thread = threading.Thread(target=self._take, args=(gate, told, timeout), daemon=True)
        before = in_line(gate)
        self.thread.start()
        soon(lambda: in_line(gate) > before or self.outcome, "it should stand in the line")

    def _take(self, gate, told, timeout):
        try:
            gate.take(timeout)
        except Exception as error:
            self.outcome = error
        else:
            self.outcome = "taken"
        told.append(self)

    def join(self):
        self.thread.join(SECONDS)
        assert self.outcome is not None
        return self.outcome


async def settle():
    """Let the loop do what is due."""
    for _ in range(5):
        await asyncio.sleep(0)


async def line_up(gate, *timeout):
    before = in_line(gate)
    task = asyncio.ensure_future(gate.take_async(*timeout))
    await settle()
    assert in_line(gate) == before + 1
    return task


# --- without a wait ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("capacity", [1, 2, 7])
def test_there_are_as_many_places_as_the_capacity_says(capacity):
    gate = full_gate(capacity)
    assert gate.taken == capacity
    assert not gate.try_take()
    gate.give()
    assert gate.taken == capacity - 1
    assert gate.try_take()
    assert not gate.try_take()


def test_several_places_are_given_back_at_once():
    gate = full_gate(3)
    gate.give(2)
    assert [gate.try_take() for _ in range(3)] == [True, True, False]
    gate.give(0)
    assert gate.taken == 3


def test_a_gate_without_a_capacity_is_never_full():
    gate = Gate(None, "endless")
    assert all(gate.try_take() for _ in range(1000))
    gate.take(0)
    run(gate.take_async(0))
    assert gate.taken == 1002


def test_a_free_place_is_taken_without_a_line():
    gate = Gate(2, "test")
    gate.take(0)
    run(gate.take_async(0))
    assert (gate.taken, in_line(gate)) == (2, 0)


# --- in the line -------------------------------------------------------------------------------------------


def test_who_came_first_goes_first():
    gate, told = full_gate(), []
    line = [InThread(gate, told) for _ in range(5)]
    for number, waiter in enumerate(line):
        gate.give()
        assert waiter.join() == "taken"
        assert told == line[: number + 1]
        assert gate.taken == 1


def test_threads_and_coroutines_stand_in_one_line():
    gate, told = full_gate(), []

    async def mixed():
        first = InThread(gate, told)
        second = await line_up(gate)
        third = InThread(gate, told)
        fourth = await line_up(gate)
        gate.give()
        first.join()
        assert not second.done()
        gate.give()
        await asyncio.wait_for(second, SECONDS)
        assert third.outcome is None
        gate.give()
        third.join()
        assert not fourth.done()
        gate.give()
        await asyncio.wait_for(fourth, SECONDS)

    run(mixed())
    assert (gate.taken, in_line(gate)) == (1, 0)


def test_nobody_overtakes_one_whose_turn_it_is_but_who_has_not_woken_up():
    async def scene():
        gate = full_gate()
        waiter = await line_up(gate)
        gate.give()
        assert gate.taken == 1, "the place was his at once"
        assert not gate.try_take()
        with pytest.raises(QueueFull):
            gate.take(0)
        await waiter

    run(scene())


def test_many_places_wake_as_many():
    async def scene():
        gate = full_gate(3)
        waiters = [await line_up(gate) for _ in range(5)]
        gate.give(3)
        await settle()
        assert [waiter.done() for waiter in waiters] == [True] * 3 + [False] * 2
        gate.give(2)
        await settle()
        assert gate.taken == 3
        await asyncio.gather(*waiters)

    run(scene())


# --- timeouts ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("timeout", [0, 0.02])
@pytest.mark.parametrize("how", ["thread", "coroutine"])
def test_who_waits_in_vain_is_told_so_and_leaves_the_line(how, timeout):
    gate = full_gate(2)
    with pytest.raises(
        QueueFull,
        match=r"^pool 'test' is full: 2 of 2 places are taken; no place became free within [\d.e-]+ s$",
    ) as caught:
        run(gate.take_async(timeout)) if how == "coroutine" else gate.take(timeout)
    assert caught.value.capacity == 2
    assert timeout - 0.005 <= caught.value.waited < timeout + 1
    assert (gate.taken, in_line(gate)) == (2, 0)
    gate.give()
    assert gate.taken == 1, "nobody is left who could get it"


def test_one_who_gives_up_in_the_middle_lets_the_others_move_up():
    gate, told = full_gate(), []
    first = InThread(gate, told)
    second = InThread(gate, told, timeout=0.01)
    third = InThread(gate, told)
    assert isinstance(second.join(), QueueFull)
    gate.give()
    first.join()
    gate.give()
    assert third.join() == "taken"
    assert told == [second, first, third]


def test_a_place_that_comes_in_the_last_moment_is_kept(monkeypatch):
    gate = full_gate()

    class Late(threading.Event):
        """Its time is up, but before that is noticed, the turn comes."""

        def wait(self, timeout=None):
            gate.give()
            return False

    monkeypatch.setattr(gate_module.threading, "Event", Late)
    gate.take(0.5)
    monkeypatch.undo()
    assert gate.taken == 1
    assert not gate.try_take()


def test_a_wait_may_be_longer_than_the_clock_can_count():
    gate, told = full_gate(), []
    waiter = InThread(gate, told, timeout=1e300)
    gate.give()
    assert waiter.join() == "taken"


def test_the_error_of_a_full_gate_says_whose_it_is():
    error = Gate(4, "jobs").full()
    assert str(error) == "pool 'jobs' is full: 4 of 4 places are taken"
    assert (error.capacity, error.waited, error.name) == (4, None, "jobs")


# --- who goes away ---------------------------------------------------------------------------------------------


def test_a_coroutine_that_is_cancelled_leaves_the_line():
    async def scene():
        gate = full_gate()
        first, second = await line_up(gate), await line_up(gate)
        first.cancel()
        with pytest.raises(asyncio.CancelledError):
            await first
        assert in_line(gate) == 1
        gate.give()
        await second
        assert gate.taken == 1

    run(scene())


@pytest.mark.parametrize("others", [0, 2])
def test_a_coroutine_that_is_cancelled_when_its_turn_has_come_passes_its_place_on(others):
    async def scene():
        gate = full_gate()
        first, *rest = [await line_up(gate) for _ in range(1 + others)]
        gate.give()
        first.cancel()
        with pytest.raises(asyncio.CancelledError):
            await first
        await settle()
        assert gate.taken == min(others, 1)
        assert [waiter.done() for waiter in rest] == [True, False][:others]
        for waiter in rest:
            gate.give()
            await waiter

    run(scene())


@pytest.mark.parametrize(
    ("meanwhile", "taken"),
    [(Gate.give, 0), (lambda gate: gate.close(PoolClosed), 1)],
    ids=["its turn has come", "the gate closes"],
)
def test_a_thread_that_is_interrupted_sees_the_interrupt_and_takes_no_place(meanwhile, taken):
    gate = full_gate()

    def interrupt(*_):
        meanwhile(gate)
        raise KeyboardInterrupt

    def send():
        soon(lambda: in_line(gate))
        signal.pthread_kill(threading.main_thread().ident, signal.SIGUSR1)

    previous = signal.signal(signal.SIGUSR1, interrupt)
    sender = threading.Thread(target=send)
    sender.start()
    try:
        with pytest.raises(KeyboardInterrupt):
            gate.take(SECONDS)
    finally:
        sender.join()
        signal.signal(signal.SIGUSR1, previous)
    assert (gate.taken, in_line(gate)) == (taken, 0)


def test_a_place_for_a_coroutine_whose_loop_is_closed_goes_to_the_next():
    gate, told = full_gate(), []
    loop = asyncio.new_event_loop()
    loop.set_exception_handler(lambda *_: None)  # "Task was destroyed but it is pending!"
    abandoned = loop.create_task(gate.take_async())
    loop.run_until_complete(asyncio.sleep(0))
    assert in_line(gate) == 1
    loop.close()
    next_one = InThread(gate, told)
    gate.give()
    assert next_one.join() == "taken"
    assert gate.taken == 1
    del abandoned
    gc.collect()
    assert gate.taken == 1, "the place was passed on once"


# --- the end ---------------------------------------------------------------------------------------------------


def test_closing_wakes_everybody_with_an_error_of_his_own():
    gate, told = full_gate(), []

    async def scene():
        threads = [InThread(gate, told), InThread(gate, told, timeout=60)]
        coroutines = [await line_up(gate), await line_up(gate, 60)]
        gate.close(lambda: PoolClosed(name="test"))
        errors = await asyncio.wait_for(asyncio.gather(*coroutines, return_exceptions=True), SECONDS)
        errors += [waiter.join() for waiter in threads]
        assert {str(error) for error in errors} == {"pool 'test' is shut down and takes no more tasks"}
        assert len(set(map(id, errors))) == 4

    run(scene())
    assert (gate.taken, in_line(gate)) == (1, 0)


def test_a_closed_gate_refuses_everybody_even_when_a_place_is_free():
    gate = Gate(1, "test")
    gate.close(PoolClosed)
    for take in (gate.try_take, gate.take, lambda: gate.take(0), lambda: run(gate.take_async())):
        with pytest.raises(PoolClosed):
            bounded(take)
    assert gate.taken == 0


def test_places_come_back_after_the_gate_has_closed():
    gate = full_gate(2)
    gate.close(PoolClosed)
    gate.give(2)
    assert gate.taken == 0
    with pytest.raises(PoolClosed):
        gate.try_take()


def test_a_place_that_comes_back_after_the_gate_has_closed_is_for_nobody():
    async def scene():
        gate = full_gate()
        waiter = await line_up(gate)
        gate.close(PoolClosed)
        gate.give()
        with pytest.raises(PoolClosed):
            await waiter
        assert gate.taken == 0

    run(scene())


def test_who_got_a_place_before_the_gate_closed_keeps_it():
    async def scene():
        gate = full_gate()
        lucky, late = await line_up(gate), await line_up(gate)
        gate.give()
        gate.close(PoolClosed)
        await lucky
        with pytest.raises(PoolClosed):
            await late
        assert gate.taken == 1

    run(scene())


def test_a_coroutine_that_is_cancelled_while_the_gate_closes_is_cancelled():
    async def scene():
        gate = full_gate()
        waiter = await line_up(gate)
        gate.close(PoolClosed)
        waiter.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiter

    run(scene())


def test_the_last_word_on_why_it_is_closed_counts():
    gate = Gate(1, "test")
    gate.close(PoolClosed)
    gate.close(lambda: ZeroDivisionError("worse"))
    with pytest.raises(ZeroDivisionError, match=r"^worse$"):
        gate.take()


# --- at random -------------------------------------------------------------------------------------------------

STEPS = st.lists(
    st.one_of(
        st.sampled_from([("take",), ("try",)]),
        st.tuples(st.just("give"), st.integers(1, 3)),
        st.tuples(st.just("cancel"), st.integers(0, 5)),
        st.just(("give, cancel",)),
    ),
    max_size=40,
)


@settings(max_examples=100)
@given(capacity=st.integers(1, 3), steps=STEPS, closes=st.booleans())
def test_places_are_granted_in_the_order_in_which_people_came(capacity, steps, closes):
    """The oracle: a number of places, and a list of those who wait; nobody waits while a place is free."""

    async def scene():
        gate, taken, line, served = Gate(capacity, "test"), 0, [], []

        def freed(count):
            nonlocal taken
            taken -= count
            while line and taken < capacity:
                taken += 1
                served.append(line.pop(0))

        for step, *number in steps:
            if step == "try":
                assert gate.try_take() is (taken < capacity)
                taken = min(taken + 1, capacity)
            elif step == "take":
                waiter = asyncio.ensure_future(gate.take_async())
                if taken < capacity:
                    taken += 1
                    served.append(waiter)
                else:
                    line.append(waiter)
            elif step == "give":
                count = min(number[0], taken)
                gate.give(count)
                freed(count)
            elif step == "give, cancel" and line and taken:
                gate.give()
                line.pop(0).cancel()  # he does not know yet that it is his turn
                freed(1)
            elif step == "cancel" and line:
                line.pop(number[0] % len(line)).cancel()
            await settle()
            assert gate.taken == taken <= capacity
            assert in_line(gate) == len(line)
            assert all(waiter.done() and not waiter.cancelled() for waiter in served)
            assert not any(waiter.done() for waiter in line)
        if closes:
            gate.close(PoolClosed)
        for waiter in line:
            closes or waiter.cancel()
        ends = await asyncio.gather(*line, return_exceptions=True)
        assert all(isinstance(end, PoolClosed if closes else asyncio.CancelledError) for end in ends)
        assert gate.taken == taken

    run(scene())


def test_threads_and_coroutines_never_hold_more_places_than_there_are():
    capacity, rounds = 3, 60
    gate, inside, most, lock = Gate(capacity, "test"), 0, 0, threading.Lock()

    def enter(step):
        nonlocal inside, most
        with lock:
            inside += step
            most = max(most, inside)

    def in_thread(seed):
        chance = random.Random(seed)
        for _ in range(rounds):
            try:
                gate.take(chance.choice([None, 0.0, 0.0005]))
            except QueueFull:
                continue
            enter(+1)
            enter(-1)
            gate.give()

    async def in_loop(seed):
        chance = random.Random(seed)
        for _ in range(rounds):
            try:
                await asyncio.wait_for(gate.take_async(chance.choice([None, 0.0, 0.0005])), 0.001)
            except (QueueFull, TimeoutError):
                continue
            enter(+1)
            await asyncio.sleep(0)
            enter(-1)
            gate.give()

    async def loops():
        await asyncio.gather(*map(in_loop, range(4)))

    threads = [threading.Thread(target=in_thread, args=(seed,)) for seed in range(4)]
    for thread in threads:
        thread.start()
    run(loops())
    for thread in threads:
        thread.join(SECONDS)
    assert 1 <= most <= capacity
    assert (inside, gate.taken, in_line(gate)) == (0, 0, 0)
