"""Every way to end: within its deadline in every state, and with nobody left behind (invariants 21, 23, 24)."""

from __future__ import annotations

import concurrent.futures
import os
import signal
import sys
import threading
import time
from pathlib import Path

import pytest
from pool_support import (
    METHODS,
    SECONDS,
    SLACK,
    alive,
    all_idle,
    at_full_strength,
    bounded,
    busy,
    die,
    echo,
    fail_to_initialize,
    gone,
    hang_while_initializing,
    hold,
    kill,
    note,
    notes,
    run,
    soon,
    spin,
    start_process,
    stop,
    timed,
    work,
)

from pytest_prodpatterns.patterns.pool import PoolBroken, PoolClosed, ShutdownCancelled, WorkerPool


def refuses(pool):
    assert pool.closed
    for submit in (pool.submit, pool.submit_task, pool.options(timeout=1).submit):
        with pytest.raises(PoolClosed, match=r"shut|closed"):
            submit(echo)
    with pytest.raises(PoolClosed):
        list(pool.map(echo, [1]))


# --- states ------------------------------------------------------------------------------------------------
# Each puts the pool into a state and returns the futures that are open in it.


def never_started(pool, gate):
    return []


def starting(pool, gate):
    pool.start()
    return []


def at_rest(pool, gate):
    pool.start()
    all_idle(pool)
    return []


def held(pool, gate):
    return busy(pool, gate)


def immune(pool, gate):
    futures = [pool.submit(hold, gate, f"immune {number}", immune=True) for number in range(pool.num_workers)]
    gate.await_entered(pool.num_workers)
    return futures


def spinning(pool, gate):
    future = pool.submit(spin, gate)
    gate.await_entered()
    return [future]


def full(pool, gate):
    return busy(pool, gate) + [pool.submit(echo, number) for number in range(pool.max_queue_size)]


def stopped(pool, gate):
    pool.start()
    for pid in all_idle(pool):
        stop(pid)
    return [pool.submit(echo, number) for number in range(10)]


def stopped_in_a_task(pool, gate):
    futures = busy(pool, gate) + [pool.submit(echo, number) for number in range(10)]
    for _, pid in gate.entered:
        stop(pid)
    return futures


def half_sent(pool, gate):
    pool.start()
    for pid in all_idle(pool):
        stop(pid)
    return [pool.submit(len, bytes(20_000_000)) for _ in range(3)]


def just_killed(pool, gate):
    futures = busy(pool, gate) + [pool.submit(hold, gate, "again") for _ in range(3)]
    for _, pid in gate.entered:
        kill(pid)
    return futures


def with_a_process_of_its_own(pool, gate):
    future = pool.submit(start_process, gate)
    gate.await_entered()
    return [future]


STATES = [
    never_started,
    starting,
    at_rest,
    held,
    immune,
    spinning,
    full,
    stopped,
    stopped_in_a_task,
    half_sent,
    just_killed,
    with_a_process_of_its_own,
]


@pytest.mark.parametrize("deadline", [0, 0.3])
@pytest.mark.parametrize("state", STATES, ids=lambda state: state.__name__)
def test_shutdown_keeps_its_deadline_in_every_state(make, gate, state, deadline):
    pool = make(2, 20, kill_grace=0.2)
    futures = state(pool, gate)
    pids = [worker.pid for worker in pool.workers()]
    _, elapsed = timed(pool.shutdown, deadline=deadline)
    assert elapsed < deadline + SLACK
    assert pool.workers() == ()
    assert not any(map(alive, pids)), "all workers are gone when shutdown returns"
    done, open_ = concurrent.futures.wait(futures, 0)
    assert not open_, "nothing that was accepted is left hanging"
    for future in done:
        error = future.exception()
        assert error is None or isinstance(error, (ShutdownCancelled, concurrent.futures.BrokenExecutor)), (
            error
        )
    assert pool.pending == 0
    refuses(pool)
    _, again = timed(pool.shutdown)
    assert again < SLACK


@pytest.mark.parametrize("method", METHODS[1:])
@pytest.mark.parametrize("state", [starting, immune, stopped_in_a_task], ids=lambda state: state.__name__)
def test_so_it_does_with_other_start_methods(make, gate, method, state):
    pool = make(2, 20, start_method=method)
    futures = state(pool, gate)
    pids = [worker.pid for worker in pool.workers()]
    _, elapsed = timed(pool.shutdown, deadline=0.2)
    assert elapsed < 0.2 + SLACK
    assert not any(map(alive, pids))
    assert all(future.done() for future in futures)


def test_what_ended_cannot_be_started_again(make):
    pool = make(1)
    pool.submit(echo).result(SECONDS)
    pool.shutdown()
    with pytest.raises(PoolClosed):
        pool.start()


def test_a_worker_that_never_gets_ready_does_not_delay_the_end(make, gate):
    pool = make(2, initializer=hang_while_initializing, initargs=(gate,))
    future = pool.submit(echo, 1)
    gate.await_entered()
    _, elapsed = timed(pool.shutdown, deadline=0.2)
    assert elapsed < 0.2 + SLACK
    assert isinstance(future.exception(0), ShutdownCancelled)


def test_a_broken_pool_can_be_shut_down(make, tmp_path):
    pool = make(2, initializer=fail_to_initialize, initargs=(str(tmp_path / "log"),))
    assert isinstance(pool.submit(echo, 1).exception(SECONDS), PoolBroken)
    _, elapsed = timed(pool.shutdown)
    assert elapsed < SLACK
    bounded(pool.shutdown, wait=False)


@pytest.mark.parametrize("deadline", [None, 5])
def test_it_drains_by_default(make, tmp_path, deadline):
    pool, log = make(2), str(tmp_path / "log")
    futures = [pool.submit(note, log, str(number), number) for number in range(200)]
    futures += [pool.submit(work, 0.05, number) for number in range(200, 210)]
    bounded(pool.shutdown, deadline=deadline)
    assert [future.result(0) for future in futures] == list(range(210))
    assert len(notes(log)) == 200


def test_uncollected_large_results_are_all_there_after_the_end(make):
    """The guide's pool loses all of them: 20 results of 200 kB fill its pipe."""
    pool = make(2)
    ids = [pool.submit_task(bytes, 200_000) for _ in range(20)]
    _, elapsed = timed(pool.shutdown, deadline=SECONDS)
    assert elapsed < SECONDS
    assert len(pool.get_result(ids[0], timeout=0.2)) == 200_000
    rest = [pool.get_result(timeout=0.2) for _ in range(19)]
    assert {task_id for task_id, _, _ in rest} == set(ids[1:])
    assert {(len(value), error) for _, value, error in rest} == {(200_000, None)}
    begin = time.monotonic()
    with pytest.raises(Exception, match=r".") as caught:
        pool.get_result(timeout=0.2)
    assert isinstance(caught.value, (TimeoutError, LookupError, PoolClosed))
    assert time.monotonic() - begin < 0.4


def test_what_the_deadline_cut_off_says_so(make, gate):
    pool = make(1, name="cut")
    done = pool.submit(echo, "done")
    assert done.result(SECONDS) == "done"
    (running,) = busy(pool, gate)
    queued, task_id = pool.submit(echo, "queued"), pool.submit_task(echo, "by id")
    bounded(pool.shutdown, deadline=0.1)
    for future in (running, queued):
        error = future.exception(0)
        assert type(error) is ShutdownCancelled
        assert error.task_id == future.task_id
    with pytest.raises(ShutdownCancelled) as caught:
        pool.get_result(task_id, timeout=0.2)
    assert caught.value.task_id == task_id
    assert done.result(0) == "done"


def test_cancel_futures_lets_the_running_finish(make, gate, tmp_path):
    pool = make(2)
    running = busy(pool, gate)
    queued = [pool.submit(note, str(tmp_path / "log"), str(number)) for number in range(20)]
    pool.shutdown(wait=False, cancel_futures=True)
    soon(lambda: all(future.done() for future in queued))
    for future in queued:
        assert future.cancelled()
    assert not any(future.done() for future in running)
    gate.open()
    bounded(pool.shutdown)
    assert [future.result(0) for future in running] == ["held 0", "held 1"]
    assert notes(tmp_path / "log") == []


def test_it_need_not_wait(make, gate):
    pool = make(2)
    futures = [*busy(pool, gate), pool.submit(echo, "queued")]
    _, elapsed = timed(pool.shutdown, wait=False)
    assert elapsed < SLACK
    refuses(pool)
    assert not any(future.done() for future in futures)
    gate.open()
    assert [future.result(SECONDS) for future in futures] == ["held 0", "held 1", "queued"]
    soon(lambda: pool.workers() == ())


def test_without_waiting_the_deadline_is_kept_too(make, gate):
    pool = make(1)
    (future,) = immune(pool, gate)
    pid = gate.entered[0][1]
    begin = time.monotonic()
    pool.shutdown(wait=False, deadline=0.3)
    assert isinstance(future.exception(SECONDS), ShutdownCancelled)
    assert time.monotonic() - begin < 0.3 + SLACK
    gone(pid)


def test_a_second_call_can_be_more_urgent(make, gate):
    pool = make(1)
    (future,) = busy(pool, gate)
    pool.shutdown(wait=False)
    _, elapsed = timed(pool.shutdown, deadline=0)
    assert elapsed < SLACK
    assert isinstance(future.exception(0), ShutdownCancelled)


def test_an_urgent_call_ends_a_patient_one(make, gate):
    pool = make(1)
    busy(pool, gate)
    patient = threading.Thread(target=pool.shutdown)
    patient.start()
    soon(lambda: pool.closed)
    bounded(pool.shutdown, deadline=0)
    patient.join(SECONDS)
    assert not patient.is_alive()


def test_many_may_call_it_at_once(make, gate):
    pool = make(2)
    futures = busy(pool, gate)
    threads = [threading.Thread(target=pool.shutdown) for _ in range(8)]
    for thread in threads:
        thread.start()
    gate.open()
    for thread in threads:
        thread.join(SECONDS)
        assert not thread.is_alive()
    assert all(future.result(0) for future in futures)


@pytest.mark.parametrize("options", [{}, {"deadline": 1}, {"wait": False}, {"deadline": 0}], ids=str)
def test_a_callback_may_call_it(make, gate, options):
    """It runs in the pool's own thread, which must not wait for itself."""
    pool, returned = make(1), threading.Event()
    (future,) = busy(pool, gate)

    def leave(_):
        pool.shutdown(**options)
        returned.set()

    future.add_done_callback(leave)
    gate.open()
    assert returned.wait(SECONDS), "shutdown from a callback hung"
    bounded(pool.shutdown)
    assert pool.workers() == ()


def test_a_crash_during_the_drain_fails_that_task_alone(make, gate):
    pool = make(1)
    (running,) = busy(pool, gate)
    futures = [pool.submit(die, 1), *(pool.submit(echo, number) for number in range(10))]
    pool.shutdown(wait=False)
    gate.open()
    bounded(pool.shutdown)
    assert running.result(0) == "held 0"
    assert futures[0].exception(0).exitcode == 1
    assert [future.result(0) for future in futures[1:]] == list(range(10))


def test_a_task_time_limit_holds_during_the_drain(make, gate):
    pool = make(1, task_timeout=0.2, kill_grace=0.05)
    (future,) = immune(pool, gate)
    behind = pool.submit(echo, "behind")
    _, elapsed = timed(pool.shutdown)
    assert elapsed < 0.2 + 0.05 + 2 * SLACK
    assert isinstance(future.exception(0), TimeoutError)
    assert behind.result(0) == "behind"


@pytest.mark.parametrize("deadline", [-1, "soon", float("nan")])
def test_a_deadline_is_a_number_of_seconds(make, deadline):
    pool = make(1)
    with pytest.raises((ValueError, TypeError), match="deadline"):
        pool.shutdown(deadline=deadline)
    assert not pool.closed, "a bad call closes nothing"
    assert pool.submit(echo, 1).result(SECONDS) == 1


def test_an_error_in_the_block_is_not_hidden(gate):
    with pytest.raises(KeyError, match="mine"), WorkerPool(1) as pool:
        future = pool.submit(echo, 1)
        raise KeyError("mine")
    assert future.done()
    assert pool.closed


def test_asyncio_shutdown_keeps_the_loop_free(make, gate):
    import asyncio

    pool = make(1)
    (future,) = immune(pool, gate)

    async def main():
        loop = asyncio.get_running_loop()
        begin, ticks = loop.time(), 0
        ending = asyncio.ensure_future(pool.shutdown_async(deadline=0.3))
        while not ending.done():
            await asyncio.sleep(0.01)
            ticks += 1
        await ending
        return loop.time() - begin, ticks

    elapsed, ticks = run(main())
    assert elapsed < 0.3 + SLACK
    assert ticks >= 5
    assert isinstance(future.exception(0), ShutdownCancelled)


def test_async_with_drains(gate):
    async def main():
        async with WorkerPool(2) as pool:
            futures = [pool.submit(work, 0.01, number) for number in range(20)]
        assert pool.closed
        return [future.result(0) for future in futures]

    assert run(main()) == list(range(20))


# --- the end of the parent ---------------------------------------------------------------------------------

AT_ONCE = 0.5
"""Seconds after which nothing of a killed parent's pool is alive."""


@pytest.mark.parametrize(
    ("method", "state", "sign"),
    [
        *(
            ("fork", state, "SIGKILL")
            for state in ("idle", "busy", "immune", "grandchild", "stopped", "starting")
        ),
        *(("fork", state, "SIGTERM") for state in ("idle", "grandchild")),
        *(
            (method, state, "SIGKILL")
            for method in METHODS[1:]
            for state in ("busy", "grandchild", "starting")
        ),
        ("forkserver", "idle", "SIGTERM"),
    ],
)
def test_no_orphan_outlives_the_parent(script, gate, method, state, sign):
    """Workers, their helpers (fork server, resource tracker) and the processes that tasks started."""
    program = script(
        """
        gate, method, state = Gate(arguments[0]), arguments[1], arguments[2]
        slow = dict(initializer=hang_while_initializing, initargs=(gate,)) if state == "starting" else {}
        pool = WorkerPool(2, start_method=method, **slow).start()
        if state == "starting":
            gate.await_entered(2)
        else:
            pids = all_idle(pool)
        if state == "busy":
            busy(pool, gate)
            queued = [pool.submit(echo, n) for n in range(100)]
        elif state == "immune":
            futures = [pool.submit(hold, gate, immune=True), pool.submit(spin, gate)]
            gate.await_entered(2)
        elif state == "grandchild":
            futures = [pool.submit(start_process, gate), pool.submit(fork_process, gate)]
            gate.await_entered(2)
        elif state == "stopped":
            for pid in pids:
                stop(pid)
        say("ready")
        time.sleep(60)
        """,
        gate.folder,
        method,
        state,
    )
    assert program.line() == "ready"
    assert len(program.family()) >= 3
    program.kill(signal.Signals[sign])
    begin = time.monotonic()
    assert program.wait() == -signal.Signals[sign]
    try:
        soon(lambda: not program.family(), seconds=AT_ONCE - (time.monotonic() - begin))
    except AssertionError:
        left = {pid: command_line(pid) for pid in program.family()}
        soon(lambda: not program.family() or time.monotonic() > begin + 3)
        pytest.fail(f"alive after {AT_ONCE} s: {left}; alive after 3 s: {program.family()}", pytrace=False)


def command_line(pid):
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode()[:120]
    except OSError:
        return "gone"


@pytest.mark.parametrize("method", METHODS)
def test_workers_survive_the_thread_that_started_the_pool(make, method):
    """A parent-death signal that is tied to a short-lived thread would kill them."""
    pool = make(2, start_method=method)
    thread = threading.Thread(target=pool.start)
    thread.start()
    thread.join(SECONDS)
    pids = all_idle(pool)
    assert [pool.submit(echo, number).result(SECONDS) for number in range(10)] == list(range(10))
    assert sorted(all_idle(pool)) == sorted(pids)
    assert pool.stats().restarts == 0


FORGOTTEN = """
gate = Gate(arguments[0])
pool = WorkerPool(2, exit_deadline=0.5)
futures = [pool.submit(note, gate.folder + "/log", str(n)) for n in range(50)]
if arguments[1] == "held":
    [future.result() for future in futures]
    busy(pool, gate)
elif arguments[1] == "immune":
    [future.result() for future in futures]
    futures = [pool.submit(hold, gate, immune=True), pool.submit(spin, gate)]
    gate.await_entered(2)
elif arguments[1] == "full":
    pool = WorkerPool(1, 3, exit_deadline=0.5)
    busy(pool, gate)
    futures = [pool.submit(echo) for n in range(3)]
say("end of main")
if arguments[2] == "raise":
    raise RuntimeError("an accident")
if arguments[2] == "exit":
    sys.exit(3)
"""


@pytest.mark.parametrize(
    ("state", "how", "code"),
    [
        ("quick", "return", 0),
        ("quick", "raise", 1),
        ("held", "return", 0),
        ("held", "exit", 3),
        ("immune", "raise", 1),
        ("full", "return", 0),
    ],
)
def test_a_forgotten_pool_does_not_keep_the_interpreter(script, gate, state, how, code):
    program = script(FORGOTTEN, gate.folder, state, how)
    assert program.line() == "end of main"
    begin = time.monotonic()
    assert program.wait() == code
    assert time.monotonic() - begin < 0.5 + SLACK + 1.5, "exit_deadline, and the interpreter's own way out"
    soon(lambda: not program.family(), seconds=AT_ONCE)
    assert "Traceback" not in program.told().replace("Traceback", "", 1 if how == "raise" else 0)
    done = len(notes(gate.folder + "/log"))
    told = sys.version_info[:2] == (3, 12) and "can't fork at interpreter shutdown" in program.told()
    assert done == 50 or told, "what is quick is still done, or 3.12 forbids it and that is told"


def test_a_pool_in_a_thread_at_the_end_of_main(script, gate):
    program = script(
        """
        begun = threading.Event()
        def use():
            with WorkerPool(1) as pool:
                at_full_strength(pool)  # from 3.12 on, no process can be forked once main has ended
                begun.set()
                threading.main_thread().join()
                say(*pool.map(double, range(5)))
        threading.Thread(target=use).start()
        begun.wait()
        """
    )
    assert program.line() == "0 2 4 6 8"
    assert program.wait() == 0
    assert program.told() == ""


def test_a_forked_copy_of_the_parent_leaves_the_pool_alone(script, gate):
    """A child that the user forks inherits the object, not the workers: its end must not end them."""
    program = script(
        """
        import warnings
        warnings.simplefilter("ignore", DeprecationWarning)
        pool = WorkerPool(2)
        say(pool.submit(double, 4).result(10))
        pids = at_full_strength(pool)
        child = os.fork()
        if not child:
            try:
                pool.submit(double, 1).result(5)
                code = 9
            except Exception as error:
                code = 0
            os._exit(code)
        say(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
        child = os.fork()
        if not child:
            sys.exit(0)
        say(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
        say(pool.submit(double, 5).result(10), sorted(pids) == sorted(at_full_strength(pool)))
        pool.shutdown()
        """
    )
    assert [program.line() for _ in range(4)] == ["8", "0", "0", "10 True"]
    assert program.wait() == 0
    assert program.told() == ""


# --- SIGTERM to the parent ---------------------------------------------------------------------------------

AS_BEFORE = (-signal.SIGTERM, 128 + signal.SIGTERM)
"""How a process ends by SIGTERM: at once, or as shells tell it, after `finally` blocks and exit handlers."""

DRAINING = """
gate, deadline = Gate(arguments[0]), float(arguments[1])
before = signal.getsignal(signal.SIGTERM)
pool = WorkerPool(2)
with pool.drain_on_sigterm(deadline=deadline):
    futures = busy(pool, gate) + [pool.submit(note, gate.folder + "/log", str(n)) for n in range(40)]
    say("ready")
    while True:
        time.sleep(0.01)
        try:
            pool.submit(note, gate.folder + "/more", "more")
        except PoolClosed:
            say("closed")
            break
    for _ in range(6000):  # one long sleep would not hear of a signal that came right before it
        time.sleep(0.01)
"""


def test_sigterm_drains_what_was_accepted(script, gate):
    program = script(DRAINING, gate.folder, 20)
    assert program.line() == "ready"
    program.kill(signal.SIGTERM)
    gate.open()
    assert program.wait() in AS_BEFORE
    assert sorted(int(word) for word, _ in notes(gate.folder + "/log")) == list(range(40))
    assert not program.family()
    assert "Traceback" not in program.told()


def test_a_drain_has_a_deadline(script, gate):
    program = script(DRAINING, gate.folder, 0.4)
    assert program.line() == "ready"
    program.kill(signal.SIGTERM)
    begin = time.monotonic()
    assert program.wait() in AS_BEFORE
    assert 0.35 < time.monotonic() - begin < 0.4 + SLACK + 1
    soon(lambda: not program.family(), seconds=AT_ONCE)


def test_a_second_sigterm_forces(script, gate):
    program = script(DRAINING, gate.folder, 50)
    assert program.line() == "ready"
    program.kill(signal.SIGTERM)
    assert program.line() == "closed"
    begin = time.monotonic()
    program.kill(signal.SIGTERM)
    assert program.wait() in AS_BEFORE
    assert time.monotonic() - begin < SLACK + 1
    soon(lambda: not program.family(), seconds=AT_ONCE)


@pytest.mark.parametrize("handler", ["signal.SIG_DFL", "signal.SIG_IGN", "lambda *_: sys.exit(5)"])
def test_the_handler_is_as_before_when_nothing_happened(script, handler):
    program = script(
        f"""
        handler = {handler}
        signal.signal(signal.SIGTERM, handler)
        with WorkerPool(1) as pool, pool.drain_on_sigterm():
            assert signal.getsignal(signal.SIGTERM) is not handler
            say(pool.submit(echo, 1).result(10))
        say(signal.getsignal(signal.SIGTERM) is handler or signal.getsignal(signal.SIGTERM) == handler)
        """
    )
    assert [program.line(), program.line()] == ["1", "True"]
    assert program.wait() == 0


def test_a_handler_of_the_user_has_the_last_word(script, gate):
    program = script(
        """
        gate = Gate(arguments[0])
        signal.signal(signal.SIGTERM, lambda *_: sys.exit(5))
        pool = WorkerPool(1)
        with pool.drain_on_sigterm(deadline=10):
            futures = [pool.submit(note, gate.folder + "/log", str(n)) for n in range(20)]
            say("ready")
            for _ in range(6000):
                time.sleep(0.01)
        """,
        gate.folder,
    )
    assert program.line() == "ready"
    program.kill(signal.SIGTERM)
    assert program.wait() == 5
    assert len(notes(gate.folder + "/log")) == 20


def test_it_drains_under_asyncio_too(script, gate):
    program = script(
        """
        gate = Gate(arguments[0])
        async def serve():
            async with WorkerPool(1) as pool:
                with pool.drain_on_sigterm(deadline=10):
                    futures = [pool.submit(note, gate.folder + "/log", str(n)) for n in range(20)]
                    say("ready")
                    await asyncio.sleep(60)
        asyncio.run(serve())
        """,
        gate.folder,
    )
    assert program.line() == "ready"
    program.kill(signal.SIGTERM)
    assert program.wait() in AS_BEFORE
    assert len(notes(gate.folder + "/log")) == 20
    assert not program.family()


def test_workers_that_get_the_signal_too_do_not_lose_tasks(script, gate):
    """A supervisor such as systemd signals the whole group: what was accepted is done all the same."""
    program = script(DRAINING, gate.folder, 20)
    assert program.line() == "ready"
    os.killpg(program.pid, signal.SIGTERM)
    gate.open()
    assert program.wait() in AS_BEFORE
    assert sorted(int(word) for word, _ in notes(gate.folder + "/log")) == list(range(40))
    assert not program.family()


def test_signals_belong_to_the_main_thread(make):
    pool = make(1)

    def enter():
        with pool.drain_on_sigterm():
            pass

    with pytest.raises((ValueError, RuntimeError), match="main thread"):
        bounded(enter)
    for deadline in (-1, "soon"):
        with pytest.raises((ValueError, TypeError), match="deadline"):
            pool.drain_on_sigterm(deadline=deadline).__enter__()


def test_at_full_strength_after_all(make):
    assert len(at_full_strength(make(2).start())) == 2
