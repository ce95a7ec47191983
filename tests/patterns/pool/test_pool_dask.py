"""`WorkerPool.over(client)`: the same pool, over one small dask cluster.

Workers that die here take a second or more to be replaced, so each test waits for a full cluster first.
"""

from __future__ import annotations

import asyncio
import contextvars
import logging
import os
import signal
import threading
import time
import warnings
from concurrent.futures import CancelledError, Executor, as_completed, wait

import pytest
from pool_support import (
    SECONDS,
    SLACK,
    Accumulator,
    TwoArguments,
    alive,
    boom,
    bounded,
    die,
    die_at_first,
    die_by,
    double,
    echo,
    everything,
    gone,
    hold,
    note,
    notes,
    raise_by_name,
    return_lock,
    run,
    soon,
    stop,
    tell_pid,
    timed,
    work,
)

from pytest_prodpatterns.lab import ChaosLab
from pytest_prodpatterns.patterns.pool import (
    PoisonTask,
    PoolBroken,
    PoolClosed,
    PoolError,
    QueueFull,
    RemoteError,
    RemoteTraceback,
    ShutdownCancelled,
    TaskTimeout,
    WorkerCrashed,
    WorkerPool,
    retry,
)

pytest.importorskip("distributed", reason='WorkerPool.over() needs the extra "dask"')

RECOVERY = 30.0
"""Seconds in which a killed worker of the cluster must be replaced."""
WORKERS = 2

request_id = contextvars.ContextVar("request_id", default=None)


def tell_request():
    return request_id.get()


def note_and_die(path):
    note(path, "began")
    os._exit(3)


@pytest.fixture(scope="module")
def cluster():
    """Two workers of one thread each; dask's own deadlines are out of the way.

    `dashboard_address=None` would take port 8787 all the same, and warn where that is taken.
    """
    import dask
    from distributed import LocalCluster

    size = {"n_workers": WORKERS, "threads_per_worker": 1, "processes": True}
    # A LocalCluster gives a worker up for good that is found dead 15 s after an earlier death.
    with dask.config.set({"distributed.deploy.lost-worker-timeout": "1h"}):
        cluster = bounded(
            LocalCluster, dashboard_address=":0", silence_logs=logging.CRITICAL, **size, seconds=60
        )
        yield cluster
        bounded(cluster.close, timeout=10, seconds=30)


@pytest.fixture(scope="module")
def client(cluster):
    from distributed import Client

    client = bounded(Client, cluster, set_as_default=False, seconds=30)
    yield client
    bounded(client.close, seconds=30)


@pytest.fixture
def nothing_left():
    """The cluster keeps connections, threads and processes; what a pool leaves behind is tested below."""


@pytest.fixture
def over(client):
    """Make pools over the cluster, when it is whole; they end with the test."""
    pools = []
    bounded(client.wait_for_workers, WORKERS, seconds=RECOVERY)

    def over(**parameters):
        pools.append(WorkerPool.over(client, **parameters))
        return pools[-1]

    yield over
    for pool in pools:
        bounded(pool.shutdown, deadline=0.2, seconds=SECONDS)


def began(pool, count=1):
    """Wait until so many tasks run, as the pool knows."""
    soon(lambda: pool.stats().running >= count, f"{count} tasks should run")


def whole(pool, without=None):
    """Wait until all workers are there, and return their pids; a dead one should not be among them."""

    def pids():
        found = [worker.pid for worker in pool.workers()]
        return found if len(found) == WORKERS and without not in found else None

    return soon(pids, "all workers should be there", RECOVERY)


def forgotten(cluster, pool):
    """Whether the scheduler holds nothing of a pool."""
    registry = cluster.scheduler.plugins["prodpatterns-pools-1"]
    tasks = [key for key in cluster.scheduler.tasks if key[0].startswith(pool.name)]
    return not tasks and not any(name.startswith(pool.name) for name in registry._clients)


# --- what a pool does ----------------------------------------------------------------------------------------


def test_it_is_an_executor_whose_tasks_run_on_the_cluster(over):
    with over() as pool:
        assert isinstance(pool, Executor)
        assert pool.submit(everything, 1, two=2).result(SECONDS) == ((1,), {"two": 2})
        assert pool.submit(Accumulator(3).add, 4).result(SECONDS) == 7
        assert pool.submit(tell_pid).result(SECONDS) in {worker.pid for worker in pool.workers()}
        futures = [pool.submit(double, number) for number in range(20)]
        assert sorted(future.result() for future in as_completed(futures, SECONDS)) == [*range(0, 40, 2)]
        assert [*pool.map(double, range(20), chunksize=3, timeout=SECONDS)] == [*range(0, 40, 2)]
        assert [*pool.map(double, range(9), buffersize=2)] == [*range(0, 18, 2)]
        assert pool.num_workers == WORKERS
        assert pool.capacity == WORKERS + 1000


def test_the_names_of_the_guide_work(over):
    with over() as pool:
        first = pool.submit_task(double, 21)
        assert pool.get_result(first, SECONDS) == 42
        second = pool.submit_task(boom)
        task_id, value, error = pool.get_result(timeout=SECONDS)
        assert (task_id, value, repr(error)) == (second, None, "ValueError('boom')")


def test_awaiting_works(over):
    async def main():
        async with over() as pool:
            assert await pool.run(double, 2) == 4
            assert await (await pool.submit_async(echo, "later")) == "later"
            assert [value async for value in pool.amap(double, range(7))] == [*range(0, 14, 2)]

    run(main())


def test_context_variables_travel(over):
    with over(context_vars=[request_id]) as pool:
        token = request_id.set("r-1")
        try:
            future = pool.submit(tell_request)
        finally:
            request_id.reset(token)
        assert future.result(SECONDS) == "r-1"
        assert pool.submit(tell_request).result(SECONDS) is None


def test_large_values_travel_both_ways(over):
    data = os.urandom(3_000_000)
    with over() as pool:
        assert pool.submit(echo, data).result(SECONDS) == data
        assert pool.submit(echo, bytearray(data)).result(SECONDS) == data


# --- errors --------------------------------------------------------------------------------------------------


def test_exceptions_arrive_as_themselves_with_the_remote_traceback(over):
    with over() as pool:
        error = pool.submit(raise_by_name, "TwoArguments", 7, "seven").exception(SECONDS)
        assert type(error) is TwoArguments
        assert (error.code, error.reason) == (7, "seven")
        assert isinstance(error.__cause__, RemoteTraceback)
        assert "in raise_by_name" in str(error.__cause__)
        assert "_dask" not in str(error.__cause__)


@pytest.mark.parametrize("name", ["SystemExit", "KeyboardInterrupt"])
def test_what_would_end_a_program_fails_the_task_only(over, name):
    with over() as pool:
        pids = whole(pool)
        error = pool.submit(raise_it, name).exception(SECONDS)
        assert type(error) is RemoteError
        assert error.type_name == name
        assert whole(pool) == pids


def raise_it(name):
    raise {"SystemExit": SystemExit, "KeyboardInterrupt": KeyboardInterrupt}[name]("now")


def test_what_cannot_be_pickled_fails_where_it_is(over):
    with over() as pool:
        with pytest.raises(
            TypeError, match=r"^cannot pickle '_thread.lock' object\nan argument of echo cannot be sent"
        ):
            pool.submit(echo, threading.Lock())
        assert pool.pending == 0
        error = pool.submit(return_lock).exception(SECONDS)
        assert type(error) is TypeError
        assert error.__notes__ == ["the task ran to its end, but its result cannot be pickled"]


# --- deaths --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("task", "argument", "exitcode"), [(die, 3, 3), (die, 0, 0), (die_by, signal.SIGKILL, -9)]
)
def test_a_crash_fails_its_task_alone_and_tells_how(over, gate, task, argument, exitcode):
    with over() as pool:
        neighbour = pool.submit(hold, gate)
        gate.await_entered()
        future = pool.submit(task, argument)
        error = future.exception(SECONDS)
        gate.open()
        assert type(error) is WorkerCrashed
        assert (error.task_id, error.task) == (future.task_id, task.__name__)
        assert (error.exitcode, error.attempt) == (exitcode, 1)
        assert error.pid != gate.pid_of("held")
        gone(error.pid)
        assert neighbour.result(SECONDS) == "held"
        assert pool.submit(echo, "again").result(SECONDS) == "again"
        whole(pool)


def test_a_task_that_may_not_be_retried_runs_once_although_dask_runs_it_again(over, tmp_path, cluster):
    path = tmp_path / "notes"
    with over() as pool:
        for _ in range(3):
            whole(pool)  # the other worker is idle: dask gives it the task at once
            assert type(pool.submit(note_and_die, path).exception(SECONDS)) is WorkerCrashed
        pool.shutdown()
        assert len(notes(path)) == 3
        soon(lambda: forgotten(cluster, pool))


def test_what_has_not_begun_survives_the_death_of_its_worker(over, gate):
    with over() as pool:
        running = [pool.submit(hold, gate, f"held {number}") for number in range(WORKERS)]
        gate.await_entered(WORKERS)
        waiting = [pool.submit(echo, number) for number in range(10)]
        os.kill(gate.pid_of("held 0"), signal.SIGKILL)
        assert type(running[0].exception(SECONDS)) is WorkerCrashed
        gate.open()
        assert running[1].result(SECONDS) == "held 1"
        assert [future.result(SECONDS) for future in waiting] == [*range(10)]


def test_the_death_of_idle_workers_costs_no_task(over):
    with over() as pool:
        for pid in whole(pool):
            os.kill(pid, signal.SIGKILL)
        assert [*pool.map(double, range(10), timeout=RECOVERY)] == [*range(0, 20, 2)]
        soon(lambda: pool.stats().restarts == WORKERS)


def test_retry_runs_a_task_again_and_history_tells_of_each_time(over, tmp_path):
    path = tmp_path / "notes"
    with over(on_crash=retry(1)) as pool:
        assert pool.submit(die_at_first, 1, path, "done").result(RECOVERY) == "done"
        assert len(notes(path)) == 2
        assert pool.stats().retried == 1
        error = pool.submit(note_and_die, path).exception(RECOVERY)
        assert type(error) is PoisonTask
        assert [(crash.attempt, crash.exitcode) for crash in error.history] == [(1, 3), (2, 3)]
        assert [crash.pid for crash in error.history] == [pid for _, pid in notes(path)[2:]]


def test_dasks_own_count_of_deaths_fails_nobody_who_has_not_begun(over, cluster, gate, monkeypatch):
    monkeypatch.setattr(cluster.scheduler, "allowed_failures", 0)
    with over() as pool:
        running = [pool.submit(hold, gate, f"held {number}") for number in range(WORKERS)]
        gate.await_entered(WORKERS)
        waiting = [pool.submit(echo, number) for number in range(2 * WORKERS)]
        states = cluster.scheduler.workers.values()
        soon(lambda: all(len(state.processing) > 1 for state in states), "a task should wait at each worker")
        for _, pid in gate.entered:
            os.kill(pid, signal.SIGKILL)
        assert {type(future.exception(SECONDS)) for future in running} == {WorkerCrashed}
        assert [future.result(RECOVERY) for future in waiting] == [*range(2 * WORKERS)]


def test_a_storm_of_kills_loses_nothing_and_runs_nothing_twice(over, tmp_path):
    """Each task notes its beginning, once at most; each failure is a crash; each crash has a beginning."""
    path = tmp_path / "notes"
    with over() as pool:
        futures = [pool.submit(note_work, path, number) for number in range(60)]
        for kills in range(1, 5):
            whole(pool)
            soon(lambda: sum(future.done() for future in futures) >= 10 * kills, seconds=RECOVERY)  # noqa: B023
            os.kill(pool.workers()[0].pid, signal.SIGKILL)
        assert not wait(futures, RECOVERY).not_done
    begun = [word for word, _ in notes(path)]
    assert len(begun) == len(set(begun))
    for number, future in enumerate(futures):
        error = future.exception()
        assert error is None or type(error) is WorkerCrashed
        assert error is not None or future.result() == number
    assert sum(future.exception() is not None for future in futures) <= 4


def note_work(path, number):
    note(path, str(number))
    time.sleep(0.02)
    return number


# --- time-outs and cancellation --------------------------------------------------------------------------------


def test_a_task_that_takes_too_long_is_ended_by_its_nanny(over, gate):
    with over(task_timeout=0.5) as pool:
        before = whole(pool)
        begin = time.monotonic()
        future = pool.submit(hold, gate)
        error = future.exception(SECONDS)
        assert time.monotonic() - begin < 0.5 + SECONDS / 2
        assert type(error) is TaskTimeout
        assert (error.task_id, error.timeout, error.pid) == (future.task_id, 0.5, gate.pid_of("held"))
        assert not hasattr(error, "__notes__")
        gone(error.pid)
        assert set(before) & set(whole(pool, error.pid)) == set(before) - {error.pid}
        assert pool.options(timeout=None).submit(work, 0.6, "slow").result(SECONDS) == "slow"


def test_time_that_a_task_waits_does_not_count(over):
    with over(task_timeout=1.0) as pool:
        futures = [pool.submit(work, 0.4, number) for number in range(8)]  # 1.6 s for each worker
        assert [future.result(SECONDS) for future in futures] == [*range(8)]


def test_a_stopped_worker_is_ended_when_its_task_times_out(over, gate):
    with over(task_timeout=1.0, kill_grace=0.1) as pool:
        future = pool.submit(hold, gate)
        ((_, pid),) = gate.await_entered()
        stop(pid)
        assert type(future.exception(SECONDS)) is TaskTimeout
        gone(pid)


def test_cancel_ends_a_running_task_and_those_that_wait_need_no_worker(over, gate, tmp_path):
    path = tmp_path / "notes"
    with over() as pool:
        running = [pool.submit(hold, gate, f"held {number}") for number in range(WORKERS)]
        gate.await_entered(WORKERS)
        began(pool, WORKERS)
        waiting = [pool.submit(note, path, "ran") for _ in range(3)]
        assert all(future.cancel() for future in [*waiting, running[0]])
        gone(gate.pid_of("held 0"))
        assert alive(gate.pid_of("held 1"))
        gate.open()
        assert running[1].result(SECONDS) == "held 1"
        with pytest.raises(CancelledError):
            running[0].result(0)
        assert pool.pending == 0
        assert pool.stats().cancelled == 4
    assert len(notes(path)) <= 1, "at most what a worker began before the scheduler had heard"


def test_without_a_nanny_a_late_task_fails_and_runs_on(gate):
    """Its worker is a thread of this very process, which nobody should kill."""
    from distributed import Client, LocalCluster

    cluster = LocalCluster(n_workers=1, threads_per_worker=2, processes=False, dashboard_address=":0")
    with cluster, Client(cluster, set_as_default=False) as client:
        pool = WorkerPool.over(client, task_timeout=0.2)
        error = pool.submit(hold, gate).exception(SECONDS)
        assert type(error) is TaskTimeout
        assert error.__notes__ == [
            "its worker was not killed: it has no nanny, or several threads. The task may run on"
        ]
        assert pool.submit(echo, 1).result(SECONDS) == 1
        gate.open()
        pool.shutdown(deadline=1)


# --- backpressure ----------------------------------------------------------------------------------------------


def test_a_full_pool_rejects_waits_or_gives_up_as_it_was_told(over, gate):
    with over(max_queue_size=1) as pool:
        futures = [pool.submit(hold, gate) for _ in range(WORKERS + 1)]
        assert pool.pending == pool.capacity == WORKERS + 1
        with pytest.raises(QueueFull, match=r"^pool '.*' is full: 3 of 3 places are taken$"):
            pool.options(when_full="reject").submit(echo)
        begin = time.monotonic()
        with pytest.raises(QueueFull, match=r"no place became free within 0\.\d+ s$"):
            pool.options(queue_timeout=0.2).submit(echo)
        assert time.monotonic() - begin < 0.2 + SLACK
        threading.Timer(0.1, gate.open).start()
        assert pool.submit(echo, "in").result(SECONDS) == "in"
        assert not wait(futures, SECONDS).not_done


def test_waiting_for_a_place_does_not_block_the_loop(over, gate):
    async def main():
        async with over(max_queue_size=1) as pool:
            futures = [pool.submit(hold, gate) for _ in range(WORKERS + 1)]
            more = asyncio.ensure_future(pool.run(echo, "in"))
            for _ in range(20):
                await asyncio.sleep(0.005)
            assert not more.done()
            gate.open()
            assert await more == "in"
            assert [await future for future in futures] == ["held"] * len(futures)

    run(main())


def test_a_callback_may_submit_and_gets_an_error_instead_of_a_deadlock(over, gate):
    outcomes = []

    def more(_):
        for _ in range(2):
            try:
                outcomes.append(pool.submit(hold, gate))
            except QueueFull as error:
                outcomes.append(error)

    with over(max_queue_size=1) as pool:
        held = [pool.submit(hold, gate) for _ in range(WORKERS)]
        pool.submit(echo).add_done_callback(more)
        gate.await_entered(WORKERS)
        os.kill(gate.entered[0][1], signal.SIGKILL)  # frees a place, and a worker for echo
        soon(lambda: len(outcomes) == 2)
        gate.open()
        assert not wait(
            [*held, *(each for each in outcomes if not isinstance(each, QueueFull))], RECOVERY
        ).not_done


# --- the end ---------------------------------------------------------------------------------------------------


def test_shutdown_drains_and_leaves_the_cluster_to_its_owner(over, cluster, client):
    pool = over()
    futures = [pool.submit(work, 0.05, number) for number in range(10)]
    pool.shutdown()
    assert [future.result(0) for future in futures] == [*range(10)]
    pool.shutdown()
    assert pool.closed
    with pytest.raises(PoolClosed, match=r"^pool '.*' is shut down and takes no more tasks$"):
        pool.submit(echo)
    soon(lambda: forgotten(cluster, pool))
    assert client.submit(echo, "mine", pure=False).result(SECONDS) == "mine"


def test_shutdown_can_cancel_what_waits(over, gate):
    pool = over()
    running = [pool.submit(hold, gate) for _ in range(WORKERS)]
    gate.await_entered(WORKERS)
    began(pool, WORKERS)
    waiting = [pool.submit(echo, number) for number in range(5)]
    threading.Timer(0.1, gate.open).start()
    pool.shutdown(cancel_futures=True)
    assert all(future.cancelled() for future in waiting)
    assert [future.result(0) for future in running] == ["held"] * WORKERS


@pytest.mark.parametrize("stopped", [False, True], ids=["running", "stopped"])
def test_shutdown_keeps_its_deadline_and_ends_what_still_runs(over, gate, stopped):
    pool = over()
    running = [pool.submit(hold, gate) for _ in range(WORKERS)]
    waiting = [pool.submit(echo, number) for number in range(5)]
    pids = [pid for _, pid in gate.await_entered(WORKERS)]
    if stopped:
        stop(pids[0])
    _, seconds = timed(pool.shutdown, deadline=0.5)
    assert seconds < 0.5 + SLACK
    assert {type(future.exception(0)) for future in [*running, *waiting]} == {ShutdownCancelled}
    gone(*pids)


def test_shutdown_keeps_its_deadline_when_dasks_loop_is_held_up(over, gate):
    pool = over()
    door, held_up = threading.Event(), threading.Event()

    def hold_up(_):
        held_up.set()
        door.wait(SECONDS)

    try:
        future = pool.submit(hold, gate)
        pool.submit(echo).add_done_callback(hold_up)
        assert held_up.wait(SECONDS)
        _, seconds = timed(pool.shutdown, deadline=0.3)
        assert seconds < 0.3 + SLACK
        assert type(future.exception(0)) is ShutdownCancelled
    finally:
        door.set()


def test_a_client_that_is_closed_breaks_its_pools(cluster):
    from distributed import Client

    client = Client(cluster, set_as_default=False)
    pool, idle = WorkerPool.over(client), WorkerPool.over(client).start()
    future = pool.submit(time.sleep, 0.5)
    began(pool)
    bounded(client.close, seconds=SECONDS)
    assert type(future.exception(SECONDS)) is PoolBroken
    for each in (pool, idle):
        with pytest.raises(PoolBroken, match=r"^pool '.*' is broken: "):
            each.submit(echo)
        bounded(each.shutdown)
        assert each.pending == 0


def test_a_lost_client_lets_its_workers_finish_and_is_forgotten(cluster, over):
    from distributed import Client

    client = Client(cluster, set_as_default=False)
    lost = WorkerPool.over(client)
    futures = [lost.submit(work, 0.3) for _ in range(4)]
    began(lost)
    bounded(client.close, seconds=SECONDS)
    assert {type(future.exception(SECONDS)) for future in futures} == {PoolBroken}
    soon(lambda: forgotten(cluster, lost))
    assert over().submit(echo, 1).result(SECONDS) == 1


@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_a_forked_child_is_told_that_the_pool_is_not_its_own(over):
    with over() as pool:
        pool.submit(echo).result(SECONDS)
        reading, writing = os.pipe()
        child = os.fork()
        if not child:
            with os.fdopen(writing, "w") as answer:
                try:
                    pool.submit(echo)
                except PoolError as error:
                    answer.write(str(error))
                pool.shutdown()
            os._exit(0)
        os.close(writing)
        with os.fdopen(reading) as answer:
            assert "a forked child needs a client and a pool of its own" in bounded(answer.read)
        assert bounded(os.waitpid, child, 0)[1] == 0


def test_a_forgotten_pool_drains_at_the_interpreters_end(script, tmp_path):
    path = tmp_path / "notes"
    program = script(
        """
        import dask
        from distributed import Client, LocalCluster
        cluster = LocalCluster(n_workers=1, threads_per_worker=1, dashboard_address=":0")
        client = Client(cluster)
        pool = WorkerPool.over(client, exit_deadline=10.0)
        pool.submit(len, "warm").result(SECONDS)  # 3.12: a scheduler that never had a task could start no thread
        for number in range(10):
            pool.submit(note, arguments[0], "ran")
        say("handed in")
        """,
        path,
    )
    assert program.line() == "handed in"
    assert program.wait(30) == 0
    assert len(notes(path)) == 10


# --- what is told ----------------------------------------------------------------------------------------------


def test_events_and_stats_tell_what_happened(over, tmp_path):
    with ChaosLab(1, "test") as lab:
        with over(name="told") as pool:
            whole(pool)
            assert pool.submit(echo, 1).result(SECONDS) == 1
            task = pool.submit(boom)
            assert type(task.exception(SECONDS)) is ValueError
            crash = pool.submit(die, 3).exception(SECONDS)
            soon(lambda: len(pool.workers()) == WORKERS, seconds=RECOVERY)
            stats = pool.stats()
        events = [event for event in lab.timeline if event.source == "pool:told"]
    kinds = [event.kind for event in events]
    assert kinds[0] == "started"
    assert kinds[-1] == "closed"
    assert [kind for kind in kinds if kind in {"submitted", "sent", "finished", "failed", "worker-died"}] == [
        *("submitted", "sent", "finished"),
        *("submitted", "sent", "failed"),
        *("submitted", "sent", "worker-died", "failed"),
    ]
    died = next(event for event in events if event.kind == "worker-died")
    assert died.attributes == {"pid": crash.pid, "exitcode": 3, "ordered": False}
    assert (stats.submitted, stats.completed, stats.failed, stats.crashed) == (3, 1, 2, 1)
    assert (stats.workers, stats.busy, stats.queued, stats.unfinished, stats.restarts) == (
        WORKERS,
        0,
        0,
        0,
        1,
    )
    assert stats.durations.count == 2


def test_workers_tell_who_is_busy_with_what(over, gate):
    with over() as pool:
        future = pool.submit(hold, gate)
        gate.await_entered()
        began(pool)
        states = {worker.pid: (worker.state, worker.task_id) for worker in pool.workers()}
        assert states[gate.pid_of("held")] == ("busy", future.task_id)
        assert sorted(state for state, _ in states.values()) == ["busy", "idle"]
        gate.open()
        future.result(SECONDS)
        assert sum(worker.tasks_done for worker in pool.workers()) == 1


# --- bad input -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("parameter", "value", "way"),
    [
        ("num_workers", 4, r"size the cluster: LocalCluster\(n_workers=…\), cluster\.scale\(…\)"),
        ("start_method", "fork", r"set distributed\.worker\.multiprocessing-method in dask's configuration"),
        ("initializer", print, r"register a distributed\.WorkerPlugin with client\.register_plugin\(\)"),
        ("initargs", (1,), r"register a distributed\.WorkerPlugin with client\.register_plugin\(\)"),
        ("max_tasks_per_worker", 5, r"give the workers a lifetime: .*"),
        ("max_worker_memory", 10**9, r"set memory_limit, and distributed\.worker\.memory\.terminate .*"),
        ("max_restarts", 3, r"its nannies replace every worker that dies, however many die"),
        ("restart_period", 1.0, r"its nannies replace every worker that dies, however many die"),
        ("max_boot_failures", 1, r"its nannies replace every worker that dies, however many die"),
        ("forward_logs", True, r"call client\.forward_logging\(\)"),
    ],
)
def test_what_dask_decides_is_refused_with_its_own_way(client, parameter, value, way):
    with pytest.raises(
        TypeError, match=rf"^WorkerPool\.over\(\) takes no {parameter}, for that is dask's to decide: {way}$"
    ):
        WorkerPool.over(client, **{parameter: value})


def test_other_mistakes_are_found_at_the_door_too(client):
    with pytest.raises(TypeError, match=r"^WorkerPool\.over\(\) takes a client and .*name.*, not 'size'$"):
        WorkerPool.over(client, size=3)
    with pytest.raises(
        TypeError, match=r"^WorkerPool\.over\(\) takes a distributed\.Client, not 'tcp://.*'$"
    ):
        WorkerPool.over("tcp://127.0.0.1:8786")
    with pytest.raises(
        ValueError, match=r"^max_queue_size must be a whole number of at least 1, or None, not 0$"
    ):
        WorkerPool.over(client, max_queue_size=0)


def test_a_client_for_a_running_loop_is_refused(cluster):
    from distributed import Client

    async def main():
        async with Client(cluster.scheduler_address, asynchronous=True, set_as_default=False) as client:
            with pytest.raises(TypeError, match=r"takes a Client that was made without asynchronous=True"):
                WorkerPool.over(client)

    run(main())


def test_a_closed_client_is_refused(cluster):
    from distributed import Client

    client = Client(cluster, set_as_default=False)
    client.close()
    with pytest.raises(ValueError, match=r"takes a connected client, and this one is closed$"):
        WorkerPool.over(client)


def test_a_pool_that_was_not_shut_down_says_so(client):
    pool = WorkerPool.over(client, name="forgotten").start()
    engine = pool._engine
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        del pool
    assert [str(warning.message) for warning in caught] == ["pool 'forgotten' was never shut down"]
    engine.close(cancel_queued=True, deadline=0)
    assert engine.finished.wait(SECONDS)
