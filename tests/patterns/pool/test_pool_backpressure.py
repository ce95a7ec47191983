"""The bound of the queue: full means full, and a free place is a free place (invariants 15 and 16)."""

from __future__ import annotations

import asyncio
import queue
import random
import threading
import time
from concurrent.futures import Executor, wait

import pytest
from pool_support import SECONDS, bounded, busy, die, echo, hold, kill, run, soon

from pytest_prodpatterns.patterns.pool import PoolClosed, PoolError, QueueFull

LAG = 1.0
"""How long a loop may be away: the promise is 0.1 s, the rest is for a machine that does other things."""


def fill(pool, gate):
    """Take every place: the workers are held, the queue is full."""
    held = busy(pool, gate)
    queued = [pool.submit(echo, number) for number in range(pool.max_queue_size)]
    assert pool.pending == pool.capacity
    return held, queued


@pytest.mark.parametrize(("workers", "size"), [(1, 1), (1, 5), (2, 1), (2, 40)])
def test_full_means_each_worker_has_a_task_and_each_place_is_taken(make, gate, workers, size):
    pool = make(workers, size, when_full="reject")
    assert pool.capacity == workers + size
    held, queued = fill(pool, gate)
    for submit in (pool.submit, pool.submit_task, pool.options(timeout=5).submit):
        with pytest.raises(QueueFull) as caught:
            submit(echo, "too much")
        assert isinstance(caught.value, queue.Full)
        assert isinstance(caught.value, PoolError)
        assert caught.value.capacity == pool.capacity
        assert str(pool.capacity) in str(caught.value)
    gate.open()
    assert [future.result(SECONDS) for future in queued] == list(range(size))
    soon(lambda: pool.pending == 0)
    again = [pool.submit(echo, number) for number in range(size)]
    assert [future.result(SECONDS) for future in again] == list(range(size))
    assert all(future.done() for future in held)


def test_tasks_that_wait_for_the_first_worker_have_places_too(make, gate):
    pool = make(1, 2, when_full="reject", initializer=gate.pass_through, initargs=("initializing",))
    futures = [pool.submit(echo, number) for number in range(3)]
    with pytest.raises(QueueFull):
        pool.submit(echo)
    gate.open()
    assert [future.result(SECONDS) for future in futures] == [0, 1, 2]


def test_each_end_of_a_task_frees_exactly_one_place(make, gate):
    pool = make(1, 2, when_full="reject", max_restarts=1000)

    def full():
        assert pool.pending == pool.capacity
        with pytest.raises(QueueFull):
            pool.submit(echo)

    (held,), (first, second) = fill(pool, gate)
    full()
    first.cancel()
    soon(lambda: pool.pending == 2)
    crashing = pool.submit(die, 1)
    full()
    held.cancel()
    assert crashing.exception(SECONDS) is not None
    assert second.result(SECONDS) == 1
    soon(lambda: pool.pending == 0)
    timing_out = pool.options(timeout=0.05).submit(hold, gate, "late")
    assert timing_out.exception(SECONDS) is not None
    soon(lambda: pool.pending == 0)
    (held,), _ = fill(pool, gate)
    full()
    gate.open()
    held.result(SECONDS)


def test_a_place_is_free_when_the_caller_sees_the_result(make):
    pool = make(1, 1, when_full="reject")
    for turn in range(300):
        futures = [pool.submit(echo, turn), pool.submit(echo, turn)]
        assert [future.result(SECONDS) for future in futures] == [turn, turn]


def test_a_place_is_free_when_a_callback_runs(make, gate):
    pool, outcomes = make(1, 1, when_full="reject"), []

    def follow(future):
        try:
            outcomes.append(pool.submit(echo, "next"))
        except QueueFull as error:
            outcomes.append(error)

    (held,), _ = fill(pool, gate)
    held.add_done_callback(follow)
    gate.open()
    soon(lambda: outcomes)
    assert outcomes[0].result(SECONDS) == "next"


def test_a_failed_submit_takes_no_place(make, gate):
    pool = make(1, 1, when_full="reject")
    for _ in range(10):
        with pytest.raises(Exception, match="pickle"):
            pool.submit(echo, threading.Lock())
        with pytest.raises(TypeError):
            pool.submit(None)
    assert pool.pending == 0
    fill(pool, gate)
    with pytest.raises(QueueFull):
        pool.submit(echo)


def test_rejected_iff_full_under_random_use(make, gate):
    """A model counts with: what was accepted and has not ended; the workers are held, so that nothing ends alone."""
    pool, draw = make(2, 6, when_full="reject"), random.Random(3)
    busy(pool, gate)
    waiting = []
    for _ in range(300):
        if draw.random() < 0.6:
            if len(waiting) < 6:
                waiting.append(pool.submit(echo, len(waiting)))
            else:
                with pytest.raises(QueueFull):
                    pool.submit(echo)
        elif waiting:
            assert waiting.pop(draw.randrange(len(waiting))).cancel()
        assert pool.pending == 2 + len(waiting)
    gate.open()
    wait(waiting, SECONDS)


def test_a_blocking_submit_waits_for_a_place(make, gate):
    pool, accepted = make(1, 1), []
    fill(pool, gate)
    thread = threading.Thread(target=lambda: accepted.append(pool.submit(echo, "patient")))
    thread.start()
    thread.join(0.1)
    assert accepted == []
    assert pool.pending == pool.capacity
    gate.open()
    thread.join(SECONDS)
    assert accepted[0].result(SECONDS) == "patient"


def test_many_blocked_submits_all_get_their_place(make, gate):
    pool, accepted = make(2, 2), []
    fill(pool, gate)
    threads = [
        threading.Thread(target=lambda n=n: accepted.append((n, pool.submit(echo, n)))) for n in range(20)
    ]
    for thread in threads:
        thread.start()
    gate.open()
    for thread in threads:
        thread.join(SECONDS)
    assert sorted(number for number, _ in accepted) == list(range(20))
    assert all(future.result(SECONDS) == number for number, future in accepted)
    soon(lambda: pool.pending == 0)


def test_the_bound_holds_while_many_submit(make):
    pool, seen, stop = make(2, 3), [], threading.Event()

    def look():
        while not stop.is_set():
            seen.append(pool.pending)

    watcher = threading.Thread(target=look)
    watcher.start()
    threads = [threading.Thread(target=lambda: [pool.submit(echo, n) for n in range(100)]) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(3 * SECONDS)
    stop.set()
    watcher.join(SECONDS)
    assert 0 < max(seen) <= pool.capacity
    soon(lambda: pool.pending == 0)
    assert pool.stats().completed == 400


@pytest.mark.parametrize("timeout", [0, 0.05, 0.3])
def test_a_submit_waits_no_longer_than_it_may(make, gate, timeout):
    pool = make(1, 1, queue_timeout=timeout)
    fill(pool, gate)
    begin = time.monotonic()
    with pytest.raises(QueueFull):
        pool.submit(echo)
    assert timeout <= time.monotonic() - begin + 0.001
    assert time.monotonic() - begin < timeout + LAG
    assert pool.pending == pool.capacity


def test_a_submit_that_gave_up_leaves_no_trace(make, gate):
    pool = make(1, 1, queue_timeout=0.01)
    _, queued = fill(pool, gate)
    for _ in range(10):
        with pytest.raises(QueueFull):
            pool.submit(echo)
    gate.open()
    wait(queued, SECONDS)
    soon(lambda: pool.pending == 0)
    futures = [pool.submit(echo, number) for number in range(2)]
    assert [future.result(SECONDS) for future in futures] == [0, 1]


def test_shutdown_wakes_those_who_wait_for_a_place(make, gate):
    pool, errors = make(1, 1), []
    fill(pool, gate)

    def submit():
        try:
            pool.submit(echo)
        except PoolClosed as error:
            errors.append(error)

    threads = [threading.Thread(target=submit) for _ in range(3)]
    for thread in threads:
        thread.start()
    pool.shutdown(wait=False)
    for thread in threads:
        thread.join(SECONDS)
        assert not thread.is_alive()
    assert len(errors) == 3
    gate.open()


def test_a_killed_worker_gives_its_tasks_place_back(make, gate):
    pool = make(2, 1, when_full="reject")
    fill(pool, gate)
    kill(gate.entered[0][1])
    soon(lambda: pool.pending < pool.capacity)
    assert bounded(pool.submit, echo, "fits").result(SECONDS) == "fits"


# --- asyncio -----------------------------------------------------------------------------------------------


async def worst_lag(until):
    """How long the loop was away at most, until the future is done."""
    worst, last = 0.0, time.monotonic()
    while not until.done():
        await asyncio.sleep(0.005)
        worst, last = max(worst, time.monotonic() - last), time.monotonic()
    return worst


def test_submit_async_waits_without_holding_the_loop(make, gate):
    pool = make(1, 1)
    held, _ = fill(pool, gate)

    async def main():
        submitting = [asyncio.ensure_future(pool.submit_async(echo, number)) for number in range(20)]
        loop = asyncio.get_running_loop()
        loop.call_later(0.5, gate.open)
        lag = await worst_lag(asyncio.gather(*submitting))
        futures = [await each for each in submitting]
        assert [await future for future in futures] == list(range(20))
        return lag

    assert run(main()) < LAG
    held[0].result(SECONDS)


def test_submit_async_rejects_and_times_out_too(make, gate):
    rejecting, hurried = make(1, 1, when_full="reject"), make(1, 1, queue_timeout=0.05)
    fill(rejecting, gate)
    held = [hurried.submit(hold, gate), hurried.submit(echo)]

    async def main():
        with pytest.raises(QueueFull):
            await rejecting.submit_async(echo)
        begin = time.monotonic()
        with pytest.raises(QueueFull):
            await hurried.submit_async(echo)
        assert time.monotonic() - begin < 0.05 + LAG

    run(main())
    gate.open()
    wait(held, SECONDS)


def test_a_cancelled_submit_async_takes_no_place(make, gate):
    pool = make(1, 2)
    fill(pool, gate)

    async def main():
        waiting = [asyncio.ensure_future(pool.submit_async(echo, number)) for number in range(10)]
        await asyncio.sleep(0.02)
        for task in waiting[::2]:
            task.cancel()
        outcomes = asyncio.gather(*waiting, return_exceptions=True)
        await asyncio.sleep(0)
        gate.open()
        outcomes = await outcomes
        assert all(isinstance(outcome, asyncio.CancelledError) for outcome in outcomes[::2])
        assert [await future for future in outcomes[1::2]] == [1, 3, 5, 7, 9]

    run(main())
    soon(lambda: pool.pending == 0)
    again = [pool.submit(echo, number) for number in range(3)]
    assert [future.result(SECONDS) for future in again] == [0, 1, 2]


def test_cancelling_at_the_moment_of_the_free_place_loses_none(make):
    """Whatever happens first, place or cancel: the places are all there in the end, and nobody waits for ever."""
    pool, draw = make(1, 1), random.Random(5)

    async def main():
        for _ in range(50):
            tasks = [asyncio.ensure_future(pool.submit_async(echo, n)) for n in range(5)]
            for _ in range(draw.randrange(6)):
                await asyncio.sleep(0)
            for task in draw.sample(tasks, 2):
                task.cancel()
            outcomes = await asyncio.gather(*tasks, return_exceptions=True)
            for outcome in outcomes:
                if not isinstance(outcome, asyncio.CancelledError):
                    assert await outcome in range(5)

    run(main())
    soon(lambda: pool.pending == 0)
    assert pool.stats().queued == 0
    assert [pool.submit(echo, n).result(SECONDS) for n in range(5)] == list(range(5))


def test_a_blocked_thread_and_a_waiting_coroutine_both_get_in(make, gate):
    pool, accepted = make(1, 1), []
    fill(pool, gate)
    thread = threading.Thread(target=lambda: accepted.append(pool.submit(echo, "thread")))
    thread.start()

    async def main():
        waiting = asyncio.ensure_future(pool.submit_async(echo, "coroutine"))
        await asyncio.sleep(0.02)
        gate.open()
        return await (await waiting)

    assert run(main()) == "coroutine"
    thread.join(SECONDS)
    assert accepted[0].result(SECONDS) == "thread"


def test_shutdown_wakes_coroutines_that_wait_for_a_place(make, gate):
    pool = make(1, 1)
    fill(pool, gate)

    async def main():
        waiting = [asyncio.ensure_future(pool.submit_async(echo)) for _ in range(3)]
        await asyncio.sleep(0.02)
        pool.shutdown(wait=False)
        return await asyncio.gather(*waiting, return_exceptions=True)

    assert [type(outcome) for outcome in run(main())] == [PoolClosed] * 3
    gate.open()


def test_the_views_are_executors_for_run_in_executor(make):
    pool = make(1)
    assert isinstance(pool.options(timeout=5), Executor)

    async def main():
        loop = asyncio.get_running_loop()
        return [await loop.run_in_executor(each, echo, 4) for each in (pool, pool.options(timeout=5))]

    assert run(main()) == [4, 4]
