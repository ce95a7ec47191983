"""Nothing is left: descriptors, threads, processes (the fixture `nothing_left` asks after each test), and memory."""

from __future__ import annotations

import gc
import os
import sys
import threading
import time
import weakref
from pathlib import Path

import pytest
from pool_support import (
    METHODS,
    SECONDS,
    at_full_strength,
    boom,
    bounded,
    busy,
    children,
    descriptors,
    die,
    echo,
    kill,
    run,
    soon,
)

from pytest_prodpatterns.patterns.pool import WorkerPool


def use_once(method, how):
    with WorkerPool(2, 20, start_method=method) as pool:
        assert pool.submit(echo, 1).result(SECONDS) == 1
        if how == "crash":
            assert pool.submit(die, 1).exception(SECONDS) is not None
        elif how == "kill":
            kill(at_full_strength(pool)[0])
            at_full_strength(pool)
        elif how == "error":
            assert pool.submit(boom).exception(SECONDS) is not None
        elif how == "deadline":
            pool.shutdown(deadline=0)


@pytest.mark.parametrize(
    ("method", "how"),
    [
        *(("fork", how) for how in ("plain", "crash", "kill", "error", "deadline")),
        *((m, "crash") for m in METHODS[1:]),
    ],
)
def test_pools_that_come_and_go_leave_nothing(method, how):
    use_once(method, how)  # what the first use of a start method leaves for good (its fork server) is no leak
    before = descriptors(), threading.active_count(), len(children())
    for _ in range(5 if method == "fork" else 1):
        use_once(method, how)
    soon(lambda: (descriptors(), threading.active_count(), len(children())) == before)


def test_a_worker_that_is_replaced_leaves_nothing_in_the_parent(make):
    pool = make(1, max_restarts=10_000)
    at_full_strength(pool.start())
    pool.submit(die, 1).exception(SECONDS)
    at_full_strength(pool)
    before = descriptors(), threading.active_count(), len(children())
    for _ in range(8):
        pool.submit(die, 1).exception(SECONDS)
    at_full_strength(pool)
    soon(lambda: (descriptors(), threading.active_count(), len(children())) == before)


@pytest.mark.parametrize("method", METHODS)
def test_a_worker_has_no_descriptors_of_its_siblings(make, method):
    """Each has the same few; a socket of a sibling would hide its death."""
    pool = make(3, start_method=method)
    pids = at_full_strength(pool.start())
    sockets = {pid: sockets_of(pid) for pid in pids}
    assert len({len(found) for found in sockets.values()}) == 1
    shared = set.intersection(*sockets.values())
    own = [found - shared for found in sockets.values()]
    assert all(own), "each has a channel of its own"
    assert sum(map(len, own)) == len(set.union(*own)), "no channel is in two workers"


def sockets_of(pid):
    found = set()
    for descriptor in Path(f"/proc/{pid}/fd").iterdir():
        try:
            target = str(descriptor.readlink())
        except FileNotFoundError:
            continue
        if target.startswith("socket:"):
            found.add(target)
    return found


class Tracked(bytearray):
    """A value whose end can be seen."""


def collected(*references):
    def check():
        gc.collect()
        return not any(reference() for reference in references)

    soon(check, "nobody should keep it")


def test_arguments_are_let_go_when_the_task_is_sent_off(make):
    pool = make(1)
    value = Tracked(1000)
    reference = weakref.ref(value)
    future = pool.submit(len, value)
    del value
    assert future.result(SECONDS) == 1000
    collected(reference)


def test_results_are_let_go_with_their_future(make):
    pool = make(1)
    future = pool.submit(Tracked, 1000)
    references = [weakref.ref(future.result(SECONDS)), weakref.ref(future)]
    del future
    collected(*references)


def test_results_are_let_go_when_collected(make):
    pool = make(1)
    first, second = pool.submit_task(Tracked, 1000), pool.submit_task(Tracked, 1000)
    references = [weakref.ref(pool.get_result(first, timeout=SECONDS))]
    references.append(weakref.ref(pool.get_result(timeout=SECONDS)[1]))
    collected(*references)
    assert second


def test_errors_are_let_go_with_their_future(make):
    pool = make(1)
    future = pool.submit(boom)
    references = [weakref.ref(future), weakref.ref(future.exception(SECONDS).__cause__)]
    del future
    collected(*references)


def test_a_future_outlives_its_pool_but_does_not_keep_it(make):
    pool = WorkerPool(1)
    reference, future = weakref.ref(pool), pool.submit(echo, 5)
    assert future.result(SECONDS) == 5
    bounded(pool.shutdown)
    del pool
    collected(reference)
    assert future.result() == 5


def test_the_ledger_forgets_what_is_over(make):
    """A service that runs for a year must not remember each task."""
    pool = make(2)

    def size():
        gc.collect()
        return len(gc.get_objects())

    for future in [pool.submit(echo, number) for number in range(500)]:
        future.result(SECONDS)
    before = size()
    for _ in range(4):
        for future in [pool.submit(echo, number) for number in range(500)]:
            future.result(SECONDS)
    del future
    assert size() - before < 500, "fewer objects than tasks"


def test_a_cancelled_wait_for_a_place_is_forgotten(make, gate):
    import asyncio

    pool = make(1, 1)
    busy(pool, gate)
    pool.submit(echo)

    async def main():
        before = len(gc.get_objects())
        for _ in range(300):
            task = asyncio.ensure_future(pool.submit_async(echo))
            await asyncio.sleep(0)
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
        del task
        await asyncio.sleep(0.01)
        gc.collect()
        return len(gc.get_objects()) - before

    assert run(main()) < 300


def test_an_idle_pool_sleeps(make):
    """No polling: hardly any processor time in the parent and in the workers."""
    pool = make(2)
    pids = at_full_strength(pool.start())
    time.sleep(0.1)
    before = [os.times(), *(switches(pid) for pid in pids)]
    time.sleep(0.5)
    after = [os.times(), *(switches(pid) for pid in pids)]
    used = after[0].user + after[0].system - before[0].user - before[0].system
    assert used < 0.1
    assert all(late - early < 30 for early, late in zip(before[1:], after[1:], strict=True))


def switches(pid):
    """How often a process went to sleep by itself."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("voluntary_ctxt_switches"))


@pytest.mark.skipif(sys.version_info < (3, 12), reason="older Pythons do not warn of fork with threads")
@pytest.mark.parametrize("action", ["error", "always"])
def test_forking_beside_threads_warns_of_nothing(script, action):
    """The pool knows what it does: `-W error` must neither break it nor fill the log."""
    program = script(
        """
        event = threading.Event()
        thread = threading.Thread(target=event.wait)
        thread.start()
        with WorkerPool(2, start_method="fork") as pool:
            say(pool.submit(double, 4).result(10))
            pool.submit(die).exception(10)
            say(pool.submit(double, 5).result(10))
        event.set()
        thread.join()
        """,
        interpreter=("-X", "dev", "-W", action),
    )
    assert [program.line(), program.line()] == ["8", "10"]
    assert program.wait() == 0
    assert program.told() == ""


@pytest.mark.parametrize("method", METHODS)
def test_nothing_is_reported_in_development_mode(script, method):
    """-X dev tells of descriptors, threads and processes that were left to the collector."""
    program = script(
        """
        pool = WorkerPool(2, start_method=arguments[0])
        futures = [pool.submit(double, n) for n in range(20)]
        pool.submit(die).exception(10)
        say(sum(future.result(10) for future in futures))
        pool.shutdown()
        """,
        method,
        interpreter=("-X", "dev", "-W", "error"),
    )
    assert program.line() == "380"
    assert program.wait() == 0
    assert program.told() == ""
    soon(lambda: not program.family(), seconds=1)
