"""Whatever kills a worker, and whenever: each task ends exactly once, and the pool is whole again (invariants 12-14, 25)."""

from __future__ import annotations

import contextlib
import errno
import os
import random
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import BrokenExecutor, wait
from pathlib import Path

import pytest
from pool_support import (
    MEGABYTE,
    METHODS,
    REPEAT,
    SECONDS,
    Killer,
    Lazy,
    abort,
    alive,
    all_idle,
    at_full_strength,
    boom,
    bounded,
    busy,
    die,
    die_at_first,
    die_by,
    echo,
    fork_process,
    gone,
    hold,
    kill,
    load_behind,
    note,
    notes,
    ready,
    return_and_die_writing,
    return_slow,
    segfault,
    soon,
    status,
    stop,
    sum_of,
    tell_pid,
    work,
)

from pytest_prodpatterns.lab import ChaosLab
from pytest_prodpatterns.patterns.pool import (
    PoisonTask,
    PoolBroken,
    PoolError,
    RemoteError,
    WorkerCrashed,
    WorkerPool,
    retry,
)

TWO = 2.0
"""Seconds after which a caller knows that its worker died (invariant 12)."""
MANY = 10**6


def crash(future, seconds=TWO):
    """The error of a task whose worker died."""
    error = future.exception(seconds)
    assert type(error) is WorkerCrashed, error
    assert error.task_id == future.task_id
    return error


def serves(pool):
    """The pool is whole, and quick about it (invariant 13)."""
    at_full_strength(pool)
    futures = [pool.submit(echo, number) for number in range(6)]
    assert [future.result(3) for future in futures] == list(range(6))
    soon(lambda: pool.pending == 0)


@pytest.fixture(scope="module", params=METHODS)
def hardy(request):
    """One pool of each start method that has to survive all kills of the matrix."""
    with WorkerPool(2, 100, start_method=request.param, max_restarts=MANY, name=request.param) as pool:
        at_full_strength(pool)
        yield pool
        bounded(pool.shutdown, deadline=0)


@pytest.fixture
def matrix(hardy):
    """The pool of the matrix, idle and whole before the test and after it."""
    all_idle(hardy)
    yield hardy
    serves(hardy)
    all_idle(hardy)


repeatedly = pytest.mark.parametrize("turn", range(REPEAT))


@repeatedly
def test_killed_idle(matrix, turn):
    """At most the one task that was on its way to the dead worker fails."""
    pid = all_idle(matrix)[turn % 2]
    kill(pid)
    futures = [matrix.submit(echo, number) for number in range(10)]
    wait(futures, SECONDS)
    crashed = [future for future in futures if future.exception(0)]
    assert len(crashed) <= 1
    for future in crashed:
        error = crash(future)
        assert (error.pid, error.signal) == (pid, "SIGKILL")
    assert [future.result() for future in futures if future not in crashed] == [
        number for number, future in enumerate(futures) if future not in crashed
    ]


@repeatedly
def test_killed_idle_and_noticed(matrix, turn):
    pid = all_idle(matrix)[turn % 2]
    kill(pid)
    soon(lambda: pid not in [worker.pid for worker in matrix.workers()], "the pool should notice by itself")
    assert [matrix.submit(echo, number).result(TWO) for number in range(10)] == list(range(10))
    assert status(pid) == "X", "no zombie"


@repeatedly
def test_killed_while_it_reads_its_task(matrix, gate, other_gate, turn):
    """Half of a frame of 20 MB stands in the socket of a stopped worker that then dies."""
    warm = busy(matrix, other_gate)  # both take tasks: neither still reads what was taken back from it
    other_gate.open()
    wait(warm, SECONDS)
    all_idle(matrix)
    (neighbour,) = busy(matrix, gate, 1)
    (pid,) = soon(lambda: [w.pid for w in matrix.workers() if w.state == "idle"])
    with ChaosLab(turn, "reading") as lab:
        stop(pid)
        try:
            future = matrix.submit(sum_of, bytes(20 * MEGABYTE))
            queued = [matrix.submit(echo, number) for number in range(5)]
            soon(lambda: lab.timeline.where(kind="sent", task=future.task_id), "somebody should get it")
        finally:
            kill(pid)
    error = future.exception(SECONDS)
    if error is None:
        assert future.result()[0] == 20 * MEGABYTE
    else:
        assert (crash(future).pid, error.signal) == (pid, "SIGKILL")
    assert [each.result(SECONDS) for each in queued] == list(range(5))
    gate.open()
    assert neighbour.result(SECONDS) == "held 0"


@repeatedly
def test_killed_while_it_unpickles_its_task(matrix, gate, turn):
    future = matrix.submit(echo, Lazy(load_behind, gate, "loading"))
    ((_, pid),) = gate.await_entered()
    queued = [matrix.submit(echo, number) for number in range(5)]
    kill(pid)
    assert (crash(future).pid, crash(future).exitcode) == (pid, -signal.SIGKILL)
    assert [each.result(SECONDS) for each in queued] == list(range(5))


@repeatedly
def test_killed_while_it_runs(matrix, gate, turn):
    victim, neighbour = busy(matrix, gate)
    queued = [matrix.submit(echo, number) for number in range(20)]
    pid = gate.pid_of("held 0")
    kill(pid)
    error = crash(victim)
    assert (error.pid, error.exitcode, error.signal, error.attempt) == (pid, -9, "SIGKILL", 1)
    assert error.task.endswith("hold")
    assert [each.result(SECONDS) for each in queued] == list(range(20))
    gate.open()
    assert neighbour.result(SECONDS) == "held 1"


@repeatedly
def test_both_killed_while_they_run(matrix, gate, turn):
    futures = busy(matrix, gate)
    queued = [matrix.submit(echo, number) for number in range(10)]
    for _, pid in gate.entered:
        kill(pid)
    assert {crash(future).pid for future in futures} == {pid for _, pid in gate.entered}
    assert [each.result(SECONDS) for each in queued] == list(range(10))


@repeatedly
def test_killed_while_it_pickles_its_result(matrix, gate, turn):
    future = matrix.submit(return_slow, gate, "pickling")
    ((_, pid),) = gate.await_entered()
    kill(pid)
    assert crash(future).pid == pid


@repeatedly
def test_killed_while_it_writes_20_megabytes(matrix, turn):
    future = matrix.submit(return_and_die_writing, 20 * MEGABYTE, skip=[0, 1, 5, 20, 50][turn % 5])
    queued = [matrix.submit(echo, number) for number in range(5)]
    error = future.exception(SECONDS)
    if error is None:  # it was through with it before the kill
        assert len(future.result()) == 20 * MEGABYTE
    else:
        assert crash(future).signal == "SIGKILL"
    assert [each.result(SECONDS) for each in queued] == list(range(5))


@repeatedly
def test_killed_at_any_moment_of_large_results(matrix, turn):
    """Invariant 12 word for word: at a moment of chance while 5 MB come back from each of two workers."""
    draw = random.Random(turn)
    futures = [matrix.submit(bytes, 5 * MEGABYTE) for _ in range(8)]
    end = time.monotonic() + draw.random() * 0.03
    while time.monotonic() < end:
        pass
    pid = draw.choice([worker.pid for worker in matrix.workers()])
    kill(pid)
    done, hung = wait(futures, SECONDS)
    assert not hung
    crashed = [future for future in futures if future.exception()]
    assert len(crashed) <= 1, "the victim is the one that was being worked on"
    for future in crashed:
        assert crash(future).pid == pid
    assert {len(future.result()) for future in done if not future.exception()} == {5 * MEGABYTE}


@pytest.mark.parametrize(
    ("task", "args", "exitcode", "sign"),
    [
        (die, (0,), 0, None),
        (die, (3,), 3, None),
        (segfault, (), -signal.SIGSEGV, "SIGSEGV"),
        (abort, (), -signal.SIGABRT, "SIGABRT"),
        (die_by, (signal.SIGTERM,), -signal.SIGTERM, "SIGTERM"),
        (die_by, (signal.SIGUSR1,), -signal.SIGUSR1, "SIGUSR1"),
        (die_by, (signal.SIGKILL,), -signal.SIGKILL, "SIGKILL"),
    ],
    ids=["exit 0", "exit 3", "segfault", "abort", "SIGTERM", "SIGUSR1", "SIGKILL"],
)
def test_the_error_tells_how_the_worker_ended(matrix, task, args, exitcode, sign):
    future = matrix.submit(task, *args)
    queued = [matrix.submit(echo, number) for number in range(5)]
    error = crash(future)
    assert (error.exitcode, error.signal, error.attempt) == (exitcode, sign, 1)
    assert isinstance(error, BrokenExecutor)
    assert isinstance(error, PoolError)
    for part in (task.__name__, str(error.pid), sign or f"exit code {exitcode}"):
        assert part in str(error)
    assert [each.result(SECONDS) for each in queued] == list(range(5))


def test_sigint_to_a_worker_ends_its_task_and_not_the_worker(matrix, gate):
    pids = sorted(all_idle(matrix))
    victim, neighbour = busy(matrix, gate)
    kill(gate.pid_of("held 0"), signal.SIGINT)
    error = victim.exception(SECONDS)
    assert type(error) is RemoteError
    assert error.type_name.endswith("KeyboardInterrupt")
    gate.open()
    assert neighbour.result(SECONDS) == "held 1"
    assert sorted(all_idle(matrix)) == pids


def test_sigint_to_an_idle_worker_harms_nobody(matrix):
    pids = sorted(all_idle(matrix))
    for pid in pids:
        kill(pid, signal.SIGINT)
    assert [matrix.submit(echo, number).result(SECONDS) for number in range(10)] == list(range(10))
    assert sorted(all_idle(matrix)) == pids


def test_results_that_were_sent_are_not_lost_with_the_worker(make, tmp_path):
    """What a worker finished stays finished, even when it dies of the next task (drain to EOF first)."""
    pool = make(1, max_restarts=MANY)
    for _ in range(20):
        finished = [pool.submit(echo, bytes(100_000)) for _ in range(3)]
        dead = pool.submit(die, 1)
        behind = [pool.submit(echo, number) for number in range(3)]
        assert [len(future.result(SECONDS)) for future in finished] == [100_000] * 3
        crash(dead)
        assert [future.result(SECONDS) for future in behind] == [0, 1, 2]


def test_only_the_task_that_ran_is_the_victim(make, gate, tmp_path):
    pool = make(1)
    (held,) = busy(pool, gate)
    behind = [pool.submit(note, str(tmp_path / "log"), str(number), number) for number in range(40)]
    kill(gate.entered[0][1])
    crash(held)
    assert [future.result(SECONDS) for future in behind] == list(range(40))
    assert [int(word) for word, _ in notes(tmp_path / "log")] == list(range(40)), "each once, in order"
    assert pool.stats().crashed == 1
    assert pool.stats().retried == 0


@pytest.mark.parametrize("method", METHODS)
def test_all_workers_dead_at_once(make, method):
    pool = make(2, start_method=method)
    pool.start()
    pids = all_idle(pool)
    for pid in pids:
        kill(pid)
    gone(*pids)
    futures = [pool.submit(echo, number) for number in range(20)]
    wait(futures, SECONDS)
    crashed = [future for future in futures if future.exception(0)]
    assert len(crashed) <= 2
    assert not set(pids) & set(at_full_strength(pool))
    assert pool.stats().restarts == 2


def test_a_grandchild_that_holds_the_descriptors_does_not_hide_the_death(make, gate):
    """The worker is dead, but its socket stays open in a process that it had forked."""
    pool = make(1)
    future = pool.submit(fork_process, gate)
    ((_, pid),) = gate.await_entered()
    ((grandchild, _),) = notes(gate.folder + "/grandchild")
    try:
        kill(pid)
        assert crash(future).pid == pid
        assert pool.submit(echo, "again").result(SECONDS) == "again"
        assert bounded(pool.shutdown, deadline=1) is None
    finally:
        if alive(int(grandchild)):
            kill(int(grandchild))


def test_a_death_is_told_to_those_who_wait_for_ids(make, gate):
    pool = make(1)
    task_id = pool.submit_task(hold, gate)
    kill(gate.await_entered()[0][1])
    with pytest.raises(WorkerCrashed) as caught:
        pool.get_result(task_id, timeout=TWO)
    assert caught.value.task_id == task_id


def test_workers_do_not_take_over_handlers_of_the_parent(gate, script):
    """A forked worker that kept the parent's handler would swallow SIGTERM."""
    program = script(
        """
        signal.signal(signal.SIGTERM, lambda *_: say("the parent's handler ran in", os.getpid()))
        gate = Gate(arguments[0])
        with WorkerPool(1, start_method="fork") as pool:
            future = pool.submit(hold, gate)
            os.kill(gate.await_entered()[0][1], signal.SIGTERM)
            error = future.exception(10)
            say(type(error).__name__, error.signal)
        """,
        gate.folder,
    )
    assert program.line() == "WorkerCrashed SIGTERM"
    assert program.wait() == 0


def test_control_c_is_the_parents_business(gate, script):
    """SIGINT to the whole group: the parent decides, and no worker prints a traceback."""
    program = script(
        """
        gate = Gate(arguments[0])
        pool = WorkerPool(2)
        futures = busy(pool, gate)
        try:
            say("ready")
            futures[0].result()
        except KeyboardInterrupt:
            say("interrupted")
        gate.open()
        say(*sorted(future.result(10) for future in futures))
        pool.shutdown(deadline=5)
        """,
        gate.folder,
    )
    assert program.line() == "ready"
    os.killpg(program.pid, signal.SIGINT)
    assert program.line() == "interrupted"
    assert program.line() == "held 0 held 1"
    assert program.wait() == 0
    assert program.told() == ""


# --- retry and poison --------------------------------------------------------------------------------------


def test_a_task_is_tried_again_when_that_was_asked_for(make, tmp_path):
    pool, log = make(1, on_crash=retry(3)), str(tmp_path / "log")
    assert pool.submit(die_at_first, 2, log, "third time").result(SECONDS) == "third time"
    assert len(notes(log)) == 3
    assert len({pid for _, pid in notes(log)}) == 3
    stats = pool.stats()
    assert (stats.retried, stats.crashed, stats.completed, stats.failed, stats.restarts) == (2, 0, 1, 0, 2)


def test_retry_once_is_tried_twice(make, tmp_path):
    log = str(tmp_path / "log")
    error = make(1).options(on_crash=retry(1)).submit(die_at_first, 9, log).exception(SECONDS)
    assert type(error) is PoisonTask
    assert len(notes(log)) == 2


@pytest.mark.parametrize("method", METHODS)
def test_a_poisonous_task_is_put_aside(make, tmp_path, method):
    pool, log = make(2, start_method=method, on_crash=retry(2)), str(tmp_path / "log")
    future = pool.submit(die_at_first, 99, log)
    others = [pool.submit(echo, number) for number in range(20)]
    error = future.exception(SECONDS)
    assert type(error) is PoisonTask
    assert isinstance(error, WorkerCrashed)
    assert [crash.attempt for crash in error.history] == [1, 2, 3]
    assert [crash.pid for crash in error.history] == [pid for _, pid in notes(log)]
    assert {(crash.signal, crash.task_id) for crash in error.history} == {("SIGKILL", future.task_id)}
    assert (error.task_id, error.pid, error.attempt) == (future.task_id, error.history[-1].pid, 3)
    assert "die_at_first" in str(error)
    assert [each.result(SECONDS) for each in others] == list(range(20))
    assert not pool.broken


def test_only_crashes_are_tried_again(make, tmp_path):
    pool, log = make(1, on_crash=retry(3), task_timeout=0.2), str(tmp_path / "log")
    with pytest.raises(ValueError, match="boom"):
        pool.submit(boom).result(SECONDS)
    with pytest.raises(TimeoutError):
        pool.submit(note_and_work, log).result(SECONDS)
    assert len(notes(log)) == 1


def note_and_work(log):
    note(log, "begun")
    work(60)


def test_tasks_behind_a_victim_are_no_second_attempts(make, gate):
    """What was only waiting in the dead worker's socket never ran: its attempts are not used up."""
    pool = make(1, on_crash=retry(1), max_restarts=MANY)
    futures = [pool.submit(die_at_first, 1, f"{gate.folder}/log{number}", number) for number in range(10)]
    assert [future.result(SECONDS) for future in futures] == list(range(10))
    assert pool.stats().retried == 10


def test_a_retried_task_runs_before_those_that_came_later(make, gate, tmp_path):
    pool, log = make(1, on_crash=retry(1)), str(tmp_path / "log")
    first = pool.submit(die_at_first, 1, log, "first")
    later = pool.submit(note, log, "later")
    assert first.result(SECONDS) == "first"
    later.result(SECONDS)
    assert [word for word, _ in notes(log)] == ["attempt", "attempt", "later"]


@pytest.mark.parametrize("times", [0, -1, 1.5, "2", None])
def test_retry_is_checked(times):
    with pytest.raises((ValueError, TypeError), match=r"retry|attempt|times"):
        retry(times)


# --- restart intensity -------------------------------------------------------------------------------------


def test_too_many_deaths_break_the_pool(make, gate):
    pool = make(2, max_restarts=3, restart_period=60)
    (held,) = busy(pool, gate, 1)
    for number in range(3):
        assert crash(pool.submit(die, 10 + number), SECONDS).exitcode == 10 + number
        assert pool.submit(echo, number).result(SECONDS) == number
        assert not pool.broken
    last, waiting = pool.submit(die, 13), [pool.submit(hold, gate, str(number)) for number in range(3)]
    assert isinstance(last.exception(SECONDS), (WorkerCrashed, PoolBroken))
    for future in [held, *waiting]:
        error = future.exception(SECONDS)
        assert isinstance(error, PoolBroken), "nothing that was accepted is left hanging"
        assert isinstance(error, BrokenExecutor)
    assert [cause.exitcode for cause in error.causes][-4:] == [10, 11, 12, 13]
    assert pool.broken
    for submit in (pool.submit, pool.submit_task, pool.options(timeout=1).submit):
        with pytest.raises(PoolBroken, match="exit code 13"):
            submit(echo)
    soon(lambda: pool.pending == 0)
    soon(lambda: pool.workers() == ())
    bounded(pool.shutdown)


def test_a_broken_pool_wakes_those_who_wait_for_a_place(make, gate):
    pool = make(1, 1, max_restarts=0)
    busy(pool, gate)
    pool.submit(echo)
    errors = []

    def submit():
        try:
            pool.submit(echo)
        except PoolBroken as error:
            errors.append(error)

    thread = threading.Thread(target=submit)
    thread.start()
    kill(gate.entered[0][1])
    thread.join(SECONDS)
    assert len(errors) == 1


def test_slow_deaths_do_not_break_the_pool(make):
    """Deaths older than the period are forgotten."""
    pool = make(1, max_restarts=1, restart_period=0.05)
    for number in range(4):
        crash(pool.submit(die, 1), SECONDS)
        assert pool.submit(work, 0.2, number).result(SECONDS) == number
    assert not pool.broken


def test_ended_on_purpose_is_no_death(make, gate):
    """Time-outs, cancels and recycling replace workers, and are nobody's fault."""
    pool = make(1, max_restarts=2, restart_period=60, max_tasks_per_worker=5)
    for number in range(40):
        assert pool.submit(echo, number).result(SECONDS) == number
    for _ in range(4):
        (future,) = busy(pool, gate, 1)
        assert future.cancel()
    assert pool.submit(echo, 1).result(SECONDS) == 1
    assert not pool.broken


def test_respawns_are_limited_in_rate(make):
    """Poison that kills each worker at once: backoff keeps the machine usable, far from one fork a millisecond."""
    pool = make(2, max_restarts=MANY, on_crash=retry(200))
    futures = [pool.submit(die, 1) for _ in range(2)]
    begin = time.monotonic()
    soon(lambda: pool.stats().restarts >= 15 or all(future.done() for future in futures), seconds=30)
    elapsed = time.monotonic() - begin
    assert pool.stats().restarts / max(elapsed, 0.001) < 300
    assert not any(future.done() for future in futures)


# --- silent workers ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("warm", [0, 500])
def test_tasks_are_taken_back_from_a_stopped_worker(make, tmp_path, warm):
    """Nothing says that the worker is dead, so the task it may have begun waits; all others go elsewhere."""
    pool, log = make(2), str(tmp_path / "log")
    pool.start()
    wait([pool.submit(echo) for _ in range(warm)], SECONDS)
    pid = all_idle(pool)[0]
    stop(pid)
    try:
        futures = [pool.submit(note, log, str(number), number) for number in range(20)]
        soon(lambda: sum(future.done() for future in futures) >= 19, "the other worker should take over")
    finally:
        kill(pid, signal.SIGCONT)
    assert [future.result(SECONDS) for future in futures] == list(range(20))
    assert sorted(int(word) for word, _ in notes(log)) == list(range(20)), "none ran twice"


def test_a_worker_stopped_in_its_task_goes_on_when_continued(make, gate):
    pool = make(2)
    victim, neighbour = busy(pool, gate)
    pid = gate.pid_of("held 0")
    stop(pid)
    try:
        gate.open()
        assert neighbour.result(SECONDS) == "held 1"
        assert [pool.submit(echo, number).result(SECONDS) for number in range(10)] == list(range(10))
        assert not victim.done()
    finally:
        kill(pid, signal.SIGCONT)
    assert victim.result(SECONDS) == "held 0"
    assert sorted(ready(pool)) == sorted(pid for _, pid in gate.entered), "nobody had to die"


def test_a_stopped_worker_that_is_killed_is_replaced(make, gate):
    pool = make(2)
    victim, neighbour = busy(pool, gate)
    pid = gate.pid_of("held 0")
    stop(pid)
    kill(pid)
    assert crash(victim).pid == pid
    gate.open()
    assert neighbour.result(SECONDS) == "held 1"
    serves(pool)


class Short:
    """A socket for which the kernel has no memory the first time."""

    def __init__(self, sock):
        self.sock, self.failures = sock, 0

    def __getattr__(self, name):
        return getattr(self.sock, name)

    def send(self, data):
        return self._unless_first(self.sock.send, data)

    def sendmsg(self, parts):
        return self._unless_first(self.sock.sendmsg, parts)

    def _unless_first(self, send, data):
        if not self.failures:
            self.failures = 1
            raise OSError(errno.ENOBUFS, os.strerror(errno.ENOBUFS))
        return send(data)


@pytest.mark.parametrize("size", [1, MEGABYTE], ids=["small", "large"])
def test_a_call_that_the_kernel_has_no_memory_for_is_sent_later(make, size):
    """A call that is lost makes its worker look silent for ever, for nothing is there that it could skip."""
    pool = make(1)
    at_full_strength(pool.start())
    (link,) = pool._engine._books.links.values()
    sock = link._ends.sock = Short(link._ends.sock)
    assert pool.submit(len, bytes(size)).result(SECONDS) == size
    assert sock.failures == 1
    assert pool.submit(echo, 2).result(SECONDS) == 2


# --- the storm in small ------------------------------------------------------------------------------------


def storm(pool, tasks, kills):
    """Kill a worker of chance after every few results; return the futures, all ended."""
    draw, futures, killed = random.Random(7), [], 0
    for number in range(tasks):
        futures.append(pool.submit(work, 0.001, number))
        if killed < kills and number % (tasks // kills) == tasks // kills - 1:
            soon(lambda: futures[-10].done() if len(futures) > 10 else True)
            victims = soon(lambda: ready(pool))
            with contextlib.suppress(ProcessLookupError):  # one that an earlier kill had ended just now
                kill(draw.choice(victims))
            killed += 1
    done, hung = wait(futures, 3 * SECONDS)
    assert not hung
    assert len(done) == tasks
    return futures


def test_in_a_storm_each_task_ends_once(make):
    pool = make(2, 50, max_restarts=MANY)
    futures = storm(pool, 300, 30)
    crashed = [future for future in futures if future.exception()]
    assert all(type(future.exception()) is WorkerCrashed for future in crashed)
    assert len(crashed) <= 30
    assert all(future.result() == n for n, future in enumerate(futures) if not future.exception())
    stats = soon(lambda: pool.stats().unfinished == 0 and pool.stats())
    assert (stats.completed, stats.crashed) == (300 - len(crashed), len(crashed))
    serves(pool)


def test_in_a_storm_with_retries_nothing_is_lost(make):
    pool = make(2, 50, max_restarts=MANY, on_crash=retry(30))
    assert [future.result() for future in storm(pool, 300, 30)] == list(range(300))
    serves(pool)


def test_killers_need_no_help():
    """The matrix above means something: the bytes do kill their worker while it writes."""
    code = "from pool_support import *; import pickle; pickle.dumps(Killer(10, 0)); time.sleep(10)"
    ended = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parent)},
        timeout=SECONDS,
    )
    assert ended.returncode == -signal.SIGKILL
    assert tell_pid() == os.getpid()
    assert Killer(1, 0).size == 1
