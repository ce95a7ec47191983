"""The pool under asyncio: nothing blocks the loop, and cancelling reaches the worker."""

from __future__ import annotations

import asyncio
import threading

import pytest
from pool_support import (
    SECONDS,
    all_idle,
    at_full_strength,
    boom,
    busy,
    die,
    double,
    echo,
    everything,
    gone,
    hold,
    note,
    notes,
    ready,
    run,
    soon,
    work,
)

from pytest_prodpatterns.patterns.pool import PoolClosed, QueueFull, TaskTimeout, WorkerCrashed, WorkerPool


def test_a_future_can_be_awaited(make):
    pool = make()

    async def main():
        assert await pool.submit(double, 4) == 8
        future = pool.submit(echo, "twice")
        assert [await future, await future] == ["twice", "twice"]
        assert await asyncio.gather(*(pool.submit(double, n) for n in range(20))) == [
            2 * n for n in range(20)
        ]
        with pytest.raises(ValueError, match="boom"):
            await pool.submit(boom)
        with pytest.raises(WorkerCrashed):
            await pool.submit(die, 1)

    run(main())


def test_a_future_that_is_done_can_be_awaited(make):
    pool = make(1)
    good, bad = pool.submit(echo, 5), pool.submit(boom)
    good.result(SECONDS)
    bad.exception(SECONDS)

    async def main():
        assert await good == 5
        with pytest.raises(ValueError, match="boom"):
            await bad

    run(main())


def test_run_returns_the_result(make):
    pool = make()

    async def main():
        assert await pool.run(everything, 1, fn=2, timeout=3) == ((1,), {"fn": 2, "timeout": 3})
        assert await asyncio.gather(*(pool.run(double, n) for n in range(50))) == [2 * n for n in range(50)]
        with pytest.raises(ValueError, match="boom"):
            await pool.run(boom)
        assert await pool.options(timeout=5).run(double, 3) == 6
        with pytest.raises(TypeError, match="callable"):
            await pool.run(3)

    run(main())
    assert pool.pending == 0


def test_many_more_than_the_queue_takes(make):
    pool = make(2, 3)

    async def main():
        return await asyncio.gather(*(pool.run(double, n) for n in range(300)))

    assert run(main()) == [2 * n for n in range(300)]


@pytest.mark.parametrize("way", ["future", "run", "submit_async"])
def test_to_cancel_the_wait_is_to_cancel_the_task(make, gate, way):
    pool = make(1)

    async def wait():
        if way == "run":
            return await pool.run(hold, gate)
        if way == "future":
            return await pool.submit(hold, gate)
        return await (await pool.submit_async(hold, gate))

    async def main():
        waiting = asyncio.ensure_future(wait())
        while not gate.entered:
            await asyncio.sleep(0.005)
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting

    run(main())
    gone(gate.entered[0][1])
    soon(lambda: pool.pending == 0)
    assert pool.submit(echo, 1).result(SECONDS) == 1
    assert pool.stats().cancelled == 1


def test_a_time_limit_of_asyncio_ends_the_task(make, gate):
    pool = make(1)

    async def main():
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(pool.run(hold, gate), 0.3)

    run(main())
    if gate.entered:
        gone(gate.entered[0][1])
    soon(lambda: pool.pending == 0)
    at_full_strength(pool)


def test_a_shield_keeps_it(make, gate):
    pool = make(1)

    async def main():
        future = pool.submit(hold, gate, "kept")
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(asyncio.shield(asyncio.wrap_future(future)), 0.05)
        gate.open()
        return await future

    assert run(main()) == "kept"


def test_cancelling_one_of_two_who_wait_is_told_to_both(make, gate):
    pool = make(1)

    async def main():
        future = pool.submit(hold, gate)
        waiting = [asyncio.ensure_future(wait_for(future)) for _ in range(2)]
        while not gate.entered:
            await asyncio.sleep(0.005)
        waiting[0].cancel()
        return await asyncio.wait_for(asyncio.gather(*waiting, return_exceptions=True), SECONDS)

    async def wait_for(future):
        return await future

    assert {type(outcome) for outcome in run(main())} == {asyncio.CancelledError}


def test_loops_in_two_threads_share_a_pool(make):
    pool, got = make(2, 5), {}

    def use(name):
        async def main():
            return await asyncio.gather(*(pool.run(echo, (name, n)) for n in range(100)))

        got[name] = run(main())

    threads = [threading.Thread(target=use, args=(name,)) for name in "ab"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(3 * SECONDS)
    assert got == {name: [(name, n) for n in range(100)] for name in "ab"}


def test_a_loop_that_closed_meanwhile_disturbs_nobody(make, gate, caplog):
    """The result comes when the loop that waited for it is gone."""
    pool = make(1)
    loop = asyncio.new_event_loop()

    async def begin():
        task = asyncio.ensure_future(wait())
        await asyncio.sleep(0.02)
        return task

    async def wait():
        return await asyncio.shield(asyncio.wrap_future(future))

    future = pool.submit(hold, gate)
    gate.await_entered()
    task = loop.run_until_complete(begin())
    task.cancel()
    loop.run_until_complete(asyncio.gather(task, return_exceptions=True))
    loop.close()
    gate.open()
    assert future.result(SECONDS) == "held"
    assert pool.submit(echo, 1).result(SECONDS) == 1


def test_the_loop_goes_on_while_a_pool_starts_works_and_ends(make):
    async def main():
        loop, worst, stop = asyncio.get_running_loop(), [0.0], asyncio.Event()

        async def tick():
            last = loop.time()
            while not stop.is_set():
                await asyncio.sleep(0.005)
                worst[0], last = max(worst[0], loop.time() - last), loop.time()

        ticking = asyncio.ensure_future(tick())
        async with WorkerPool(2, 4) as pool:
            await asyncio.gather(*(pool.run(work, 0.1, n) for n in range(40)))  # two seconds, for who blocks
        stop.set()
        await ticking
        return worst[0]

    assert run(main()) < 1.0


# --- amap --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("buffersize", [None, 1, 7])
def test_amap_keeps_the_order(make, buffersize):
    pool = make(2, 5)

    async def main():
        return [value async for value in pool.amap(double, range(60), buffersize=buffersize)]

    assert run(main()) == [2 * number for number in range(60)]


def test_amap_takes_several_iterables_and_reads_them_as_it_goes(make):
    pool, read = make(2), []
    endless = iter(lambda: read.append(0) or len(read), None)

    async def main():
        got = []
        values = pool.amap(everything, endless, "abcdefgh", buffersize=2)
        async for value in values:
            got.append(value)
            assert len(read) <= len(got) + 3
        return got

    assert [args for args, _ in run(main())] == list(enumerate("abcdefgh", start=1))


def test_amap_raises_where_the_failure_is_and_cancels_the_rest(make, tmp_path):
    pool = make(1)
    log = str(tmp_path / "log")

    async def main():
        got = []
        with pytest.raises(ValueError, match="boom"):
            async for value in pool.amap(note_or_boom, [log, None, *[log] * 50], buffersize=4):
                got.append(value)
        return got

    assert run(main()) == [log]
    soon(lambda: pool.pending == 0)
    assert len(notes(log)) <= 6


def note_or_boom(log):
    return boom() if log is None else note(log, "ran", log)


def test_an_amap_that_is_left_cancels_what_has_not_begun(make, tmp_path):
    pool = make(1)
    log = str(tmp_path / "log")

    async def main():
        values = pool.amap(note, [log] * 10_000, map(str, range(10_000)), buffersize=5)
        async for _ in values:
            break
        await values.aclose()

    run(main())
    soon(lambda: pool.pending == 0)
    assert len(notes(log)) < 20


@pytest.mark.parametrize("buffersize", [0, -1, 1.5])
def test_amap_checks_its_buffer(make, buffersize):
    pool = make(1)

    async def main():
        async for _ in pool.amap(echo, [1], buffersize=buffersize):
            pass

    with pytest.raises((ValueError, TypeError), match="buffersize"):
        run(main())


# --- ends --------------------------------------------------------------------------------------------------


def test_submit_async_after_the_end_is_refused(make):
    pool = make(1)
    pool.shutdown()

    async def main():
        for call in (pool.submit_async, pool.run):
            with pytest.raises(PoolClosed):
                await call(echo, 1)

    run(main())


def test_errors_reach_the_waiting_coroutine(make, gate):
    pool = make(2, 1, when_full="reject", task_timeout=0.3)

    async def main():
        held = [await pool.submit_async(hold, gate) for _ in range(2)]
        await pool.submit_async(echo)
        with pytest.raises(QueueFull):
            await pool.run(echo)
        for future in held:
            with pytest.raises(TaskTimeout):
                await future

    run(main())


def test_shutdown_async_twice_and_beside_work(make):
    pool = make(2)

    async def main():
        futures = [pool.submit(work, 0.01, n) for n in range(10)]
        await asyncio.gather(pool.shutdown_async(), pool.shutdown_async(deadline=SECONDS))
        return [future.result(0) for future in futures]

    assert run(main()) == list(range(10))
    assert pool.closed


def test_workers_do_not_inherit_a_running_loop(make):
    """asyncio.run works in a task, although the pool was started inside a loop."""

    async def main():
        async with WorkerPool(1, start_method="fork") as pool:
            return await pool.run(run_a_loop)

    assert run(main()) == "ran"


def run_a_loop():
    async def main():
        await asyncio.sleep(0)
        return "ran"

    return asyncio.run(main())


def test_a_busy_pool_tells_who_is_ready(make, gate):
    pool = make(2)
    all_idle(pool.start())
    held = busy(pool, gate)
    assert len(ready(pool)) == 2
    gate.open()
    assert [future.result(SECONDS) for future in held] == ["held 0", "held 1"]
