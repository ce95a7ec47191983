"""Faults to processes: who may be struck, what is seen of it, and that everything goes on afterwards."""

from __future__ import annotations

import asyncio
import contextlib
import multiprocessing
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import psutil
import pytest
from processes_support import Script, descriptors, state, until

from pytest_prodpatterns.faults import processes
from pytest_prodpatterns.faults._processes_stops import held
from pytest_prodpatterns.faults.processes import NoEffect
from pytest_prodpatterns.lab import ChaosLab, current_lab, emit, guard


@pytest.fixture(autouse=True)
def nothing_stays():
    """No descriptor, no thread, no duty of the guard and no held process is left behind."""
    with subprocess.Popen(["sleep", "60"]) as process:  # the guard's pipe is to be open before we count
        guard().started(process.pid)
        guard().forget(process.pid)
        process.kill()
    threads = threading.active_count()
    before = descriptors(), len(guard())
    yield
    assert (descriptors(), len(guard())) == before
    until(lambda: threading.active_count() <= threads, "asyncio's watcher of a child ends by itself")
    assert held == {}
    assert current_lab() is None


@pytest.fixture
def sleeper():
    """Start processes that do nothing."""
    with contextlib.ExitStack() as stack:

        def start(*command):
            process = stack.enter_context(subprocess.Popen(command or ["sleep", "60"]))
            stack.callback(process.kill)
            return process

        yield start


# --- signals ---------------------------------------------------------------------------------------------


def test_a_killed_process_has_ended_when_kill_returns(sleeper):
    process = sleeper()
    struck = processes.kill(process)
    assert state(process.pid) == "Z"
    assert (struck.pid, struck.signal) == (process.pid, "SIGKILL")
    assert process.wait() == -signal.SIGKILL


def test_the_lab_hears_of_a_strike_before_its_effect(sleeper):
    process = sleeper()
    with ChaosLab(1, strict=True) as lab:
        struck = processes.kill(process.pid)
        assert lab.never_fired() == []
    assert [(event.source, event.kind) for event in lab.timeline] == [
        ("fault:kill", "armed"),
        ("fault:kill", "fired"),
    ]
    armed, fired = lab.timeline
    assert armed.attributes == {"description": f"SIGKILL to pid {process.pid}"}
    assert fired.attributes == {"pid": process.pid, "signal": "SIGKILL"}
    assert armed.at <= struck.at <= fired.at


def test_what_comes_of_a_strike_stands_behind_it(sleeper, monkeypatch):
    really = signal.pidfd_send_signal

    def send(handle, number):
        emit("subject", "noticed")
        really(handle, number)

    monkeypatch.setattr(signal, "pidfd_send_signal", send)
    with ChaosLab(1) as lab:
        processes.kill(sleeper())
    assert [event.kind for event in lab.timeline] == ["armed", "fired", "noticed"]


@pytest.mark.parametrize(
    ("strike", "name"),
    [
        (processes.terminate, "SIGTERM"),
        (processes.interrupt, "SIGINT"),
        (lambda target: processes.send_signal(target, "SIGUSR1"), "SIGUSR1"),
        (lambda target: processes.send_signal(target, signal.SIGHUP), "SIGHUP"),
        (lambda target: processes.send_signal(target, 12), "SIGUSR2"),
    ],
)
def test_a_signal_has_arrived_when_its_verb_returns(strike, name):
    code = f"""
    got = []
    signal.signal(signal.{name}, lambda number, frame: got.append(signal.Signals(number).name))
    """
    with Script(code, each_line="print(*got, flush=True)") as script:
        struck = strike(script.process)
        assert (struck.pid, struck.signal) == (script.pid, name)
        assert script.ask() == name


def test_a_process_that_dies_of_a_signal_is_no_error(sleeper):
    process = sleeper()
    processes.terminate(process)
    processes.wait(process)
    assert process.wait() == -signal.SIGTERM


def test_an_ignored_signal_has_arrived():
    with Script(
        "signal.signal(signal.SIGTERM, signal.SIG_IGN)", each_line="print('here', flush=True)"
    ) as script:
        processes.terminate(script)
        assert script.ask() == "here"


def test_a_blocked_signal_is_no_effect():
    with Script("signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTERM])") as script:
        message = (
            rf"^terminate\(\): SIGTERM has not reached pid {script.pid} within 0.05 s:"
            r" the process blocks the signal, or is stopped$"
        )
        with pytest.raises(NoEffect, match=message):
            processes.terminate(script, deadline=0.05)


def test_a_death_that_takes_too_long_is_no_effect(sleeper, monkeypatch):
    monkeypatch.setattr(signal, "pidfd_send_signal", lambda *_: None)
    process = sleeper()
    with pytest.raises(NoEffect, match=rf"^kill\(\): pid {process.pid} lives on 0.05 s after SIGKILL$"):
        processes.kill(process, deadline=0.05)
    with pytest.raises(NoEffect, match=rf"^stop\(\): pid {process.pid} still goes on 0.05 s after SIGSTOP$"):
        processes.stop(process, deadline=0.05)


# --- standing still --------------------------------------------------------------------------------------


def test_a_stopped_process_stands_still_until_the_block_is_left(sleeper):
    process = sleeper()
    with processes.stop(process) as stopped:
        assert state(process.pid) == "T"
        assert (stopped.pid, stopped.signal) == (process.pid, "SIGSTOP")
        assert len(guard()) == 1
    assert state(process.pid) in "RSD"


def test_every_thread_stands_still():
    code = """
    import threading
    def spin():
        while True: pass
    for _ in range(3): threading.Thread(target=spin, daemon=True).start()
    """
    with Script(code) as script, processes.stop(script):
        threads = [each.name for each in Path(f"/proc/{script.pid}/task").iterdir()]
        assert len(threads) == 4
        assert {state(int(thread)) for thread in threads} == {"T"}


@pytest.mark.parametrize("way", ["handle", "cont", "pid", "lab", "twice"])
def test_a_stopped_process_goes_on_in_each_way(sleeper, way):
    process = sleeper()
    with ChaosLab(1, strict=True) as lab:
        stopped = processes.stop(process)
        assert state(process.pid) == "T"
        if way == "cont":
            processes.cont(process)
        elif way == "pid":
            processes.cont(process.pid)
        elif way != "lab":
            stopped.cont()
        if way == "twice":
            stopped.cont()
        if way != "lab":
            assert state(process.pid) in "RSD"
    assert state(process.pid) in "RSD"
    assert [(event.source, event.kind) for event in lab.timeline] == [
        ("fault:stop", "armed"),
        ("fault:stop", "fired"),
        ("lab", "undone"),
    ]


def test_a_process_that_dies_while_it_is_stopped_is_no_error(sleeper):
    process = sleeper()
    with processes.stop(process):
        process.kill()
        process.wait()


def test_a_process_that_stood_still_answers_afterwards():
    with Script(each_line="print('here', flush=True)") as script:
        with processes.stop(script):
            script.process.stdin.write("\n")
            script.process.stdin.flush()
            assert state(script.pid) == "T"
        assert script.process.stdout.readline().strip() == "here"


def test_one_fault_at_a_time_holds_a_process(sleeper):
    process = sleeper()
    with processes.stop(process):
        message = rf"^stop\(\): stop\(\) holds pid {process.pid} already; undo that first$"
        with pytest.raises(ValueError, match=message):
            processes.stop(process)
        with pytest.raises(ValueError, match=r"^throttle\(\): stop\(\) holds pid \d+ already"):
            processes.throttle(process)
        assert state(process.pid) == "T"
    with processes.throttle(process), pytest.raises(ValueError, match=r"^stop\(\): throttle\(\) holds pid"):
        processes.stop(process)


def test_what_somebody_else_stopped_is_not_stopped_again_but_can_be_continued(sleeper):
    process = sleeper()
    process.send_signal(signal.SIGSTOP)
    until(lambda: state(process.pid) == "T", "it is stopped")
    with pytest.raises(ValueError, match=rf"^stop\(\): pid {process.pid} is stopped already, and not by us$"):
        processes.stop(process)
    processes.cont(process)
    assert state(process.pid) in "RSD"


def test_a_stopped_process_is_killed_all_the_same(sleeper):
    process = sleeper()
    with processes.stop(process):
        processes.kill(process)
        assert state(process.pid) == "Z"


def test_what_was_stopped_goes_on_when_this_process_is_killed(sleeper):
    process = subprocess.Popen(["sleep", "60"])
    code = """
    from pytest_prodpatterns.faults import processes
    child = subprocess.Popen(["sleep", "60"])
    processes.stop(child)
    print(child.pid, flush=True)
    """
    with process, Script(code) as script:
        child = int(script.words[0])
        assert state(child) == "T"
        processes.descendants(script)  # so that we may still kill it when its parent is gone
        script.process.kill()
        script.process.wait()
        until(lambda: state(child) in "RSD", "the reaper continues it")
        processes.kill(child)
        process.kill()


# --- who may be struck -----------------------------------------------------------------------------------


def test_whatever_has_a_pid_is_a_target():
    context = multiprocessing.get_context("fork")
    for start in (
        lambda: subprocess.Popen(["sleep", "60"]),
        lambda: psutil.Popen(["sleep", "60"]),
        lambda: _started(context.Process(target=signal.pause)),
    ):
        process = start()
        with processes.stop(process):
            assert state(process.pid) == "T"
        assert processes.alive(process)
        processes.kill(process)
        assert not processes.alive(process)
        getattr(process, "wait", getattr(process, "join", None))()
        assert not processes.alive(process)
        with pytest.raises(ProcessLookupError, match=rf"^kill\(\): pid {process.pid} has ended already$"):
            processes.kill(process)
        getattr(process, "close", lambda: None)()


def test_a_process_of_asyncio_is_a_target():
    async def main():
        process = await asyncio.create_subprocess_exec("sleep", "60")
        processes.kill(process)
        assert await process.wait() == -signal.SIGKILL
        with pytest.raises(ProcessLookupError, match=r"^kill\(\): pid \d+ has ended already$"):
            processes.kill(process)

    with asyncio.Runner(loop_factory=asyncio.new_event_loop) as runner:
        runner.run(main())


def _started(process):
    process.start()
    return process


def test_a_zombie_has_ended(sleeper):
    process = sleeper("true")
    until(lambda: state(process.pid) == "Z", "it has ended, and nobody reaped it")
    assert not processes.alive(process.pid)
    processes.wait(process.pid)
    for verb in (processes.kill, processes.terminate, processes.stop, processes.throttle, processes.starve):
        name = verb.__name__
        with pytest.raises(ProcessLookupError, match=rf"^{name}\(\): pid {process.pid} has ended already$"):
            verb(process.pid)


@pytest.mark.parametrize("pid", [0, -1, 1])
def test_pids_of_nobody_in_particular_are_refused(pid):
    with pytest.raises(
        ValueError, match=rf"^kill\(\): pid {pid} is not a process to touch: expected one of your own$"
    ):
        processes.kill(pid)


def test_this_process_and_its_ancestors_are_refused():
    with pytest.raises(ValueError, match=r"^kill\(\): pid \d+ is this process itself$"):
        processes.kill(os.getpid())
    message = r"^stop\(\): pid \d+ is a process that this one descends from: only descendants of this process are struck$"
    with pytest.raises(ValueError, match=message):
        processes.stop(os.getppid())


def test_a_stranger_is_refused():
    code = """
    child = os.fork()
    if child == 0:
        os.setsid()
        if os.fork(): os._exit(0)
        print(os.getpid(), flush=True)
        time.sleep(60)
        os._exit(0)
    os.waitpid(child, 0)
    """
    with Script(code) as script:
        stranger = int(script.words[0]) if script.words else int(script.process.stdout.readline())
        try:
            message = rf"^kill\(\): pid {stranger} is no descendant of this process: only descendants"
            with pytest.raises(ValueError, match=message):
                processes.kill(stranger)
            assert state(stranger) in "RSD"
            guard().started(stranger)
            processes.kill(stranger)  # the guard knows that we started it
            guard().forget(stranger)
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.kill(stranger, signal.SIGKILL)


def test_an_orphan_is_known_from_before():
    with Script("print(subprocess.Popen(['sleep', '60']).pid, flush=True)") as script:
        child = int(script.words[0])
        assert child in processes.descendants(script)
        processes.kill(script)
        script.process.wait()
        until(lambda: psutil.Process(child).ppid() != script.pid, "the child has lost its parent")
        processes.kill(child)
        until(lambda: state(child) in "ZX", "it has ended")


def test_a_forked_child_does_not_strike_its_brothers(sleeper):
    brother = sleeper()
    with processes.stop(brother):
        pass
    code = 3
    pid = os.fork()
    if pid == 0:
        try:
            processes.kill(brother.pid)
        except ValueError:
            code = 0
        os._exit(code)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    assert state(brother.pid) in "RSD"


def test_a_pid_that_was_given_to_somebody_else_is_not_struck(sleeper, monkeypatch):
    process = sleeper()
    former = psutil.Process(process.pid)
    monkeypatch.setattr(
        former, "is_running", lambda: False
    )  # what it says when the start time is another one
    with pytest.raises(ProcessLookupError, match=rf"^kill\(\): pid {process.pid} has ended already$"):
        processes.kill(former)
    assert not processes.alive(former)
    assert state(process.pid) in "RSD"


@pytest.mark.parametrize(
    ("call", "kind", "message"),
    [
        (
            lambda: processes.kill("1234"),
            TypeError,
            r"target must be a pid or a process, not '1234'; for a worker",
        ),
        (
            lambda: processes.kill(True),
            TypeError,
            r"target must be a pid or a process, not True; for a worker",
        ),
        (lambda: processes.kill(None), ValueError, r"None has not been started$"),
        (
            lambda: processes.kill(multiprocessing.Process()),
            ValueError,
            r"<Process name=.* initial> has not been started$",
        ),
        (lambda: processes.kill(2**40), ProcessLookupError, rf"pid {2**40} has ended already$"),
    ],
)
def test_a_wrong_target_is_named(call, kind, message):
    with pytest.raises(kind, match=rf"^kill\(\): {message}"):
        call()


@pytest.mark.parametrize(
    ("number", "message"),
    [
        ("SIGFOO", r"there is no signal 'SIGFOO'; expected a name such as 'SIGUSR1', or a number$"),
        (999, r"there is no signal 999; expected"),
        (0, r"there is no signal 0; expected"),
        ("SIGSTOP", r"SIGSTOP stops a process; use stop, which continues it, too$"),
        (signal.SIGTSTP, r"SIGTSTP stops a process; use stop"),
        ("SIGCONT", r"SIGCONT continues a process; use cont$"),
    ],
)
def test_a_wrong_signal_is_named(sleeper, number, message):
    with pytest.raises(ValueError, match=rf"^send_signal\(\): {message}"):
        processes.send_signal(sleeper(), number)


# --- trees, waiting --------------------------------------------------------------------------------------

TREE = """
def grow(depth):
    for _ in range(2 if depth else 0):
        pid = os.fork()
        if pid == 0:
            grow(depth - 1)
            print(os.getpid())
            time.sleep(60)
            os._exit(0)
grow(2)
"""


def test_a_tree_is_killed_whole():
    with Script(TREE) as script:
        pids = [int(word) for word in script.words]
        while len(pids) < 6:
            pids.append(int(script.process.stdout.readline()))
        assert set(processes.descendants(script)) == set(pids)
        with ChaosLab(1, strict=True) as lab:
            struck = processes.kill_tree(script)
            assert lab.never_fired() == []
        assert struck[0].pid == script.pid
        assert {each.pid for each in struck} == {script.pid, *pids}
        assert {state(each.pid) for each in struck} <= {"Z", "X"}
        fired = lab.timeline.where("fault:kill_tree", "fired")
        assert [event.attributes["pid"] for event in fired] == [each.pid for each in struck]


def test_a_tree_that_grows_all_the_time_is_killed_whole():
    mark = f"spread_{os.getpid()}"
    code = f"""
    def {mark}():
        while True:
            if os.fork() == 0:
                time.sleep(60)
                os._exit(0)
            time.sleep(0.001)
    if os.fork() == 0:
        {mark}()
    """
    with Script(code) as script:
        until(lambda: len(processes.descendants(script)) > 5, "it grows")
        struck = processes.kill_tree(script)
        assert len(struck) > 5
        assert {state(each.pid) for each in struck} <= {"Z", "X"}
        marked = [each for each in psutil.process_iter(["cmdline"]) if mark in str(each.info["cmdline"])]
        assert {state(each.pid) for each in marked} <= {"Z", "X"}


def test_an_interrupted_kill_of_a_tree_leaves_nothing_stopped(monkeypatch):
    with Script(TREE) as script:
        pids = [script.pid, *until(lambda: processes.descendants(script), "it has children")]

        def interrupted(*_args):
            raise KeyboardInterrupt

        monkeypatch.setattr("pytest_prodpatterns.faults._processes_stops.hit", interrupted)
        with pytest.raises(KeyboardInterrupt):
            processes.kill_tree(script)
        assert all(state(pid) in "RSD" for pid in pids)
        monkeypatch.undo()
        processes.kill_tree(script)


def test_waiting_for_an_end(sleeper):
    process = sleeper()
    with pytest.raises(NoEffect, match=rf"^wait\(\): pid {process.pid} has not ended within 0.01 s$"):
        processes.wait(process, deadline=0.01)
    threading.Timer(0.05, process.terminate).start()
    processes.wait(process)
    assert state(process.pid) in "ZX"
    processes.wait(process)
    until(lambda: threading.active_count() == 1 or not _timers(), "the timer is over")


def _timers():
    return [thread for thread in threading.enumerate() if isinstance(thread, threading.Timer)]


def test_the_module_says_what_it_has():
    functions = {name: vars(processes)[name] for name in processes.__all__ if name[0].islower()}
    assert vars(processes.ProcessFaults()) == functions


def test_nothing_heavy_is_loaded_for_it():
    code = "import sys; from pytest_prodpatterns import faults; print('psutil' in sys.modules, 'multiprocessing' in sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={name: value for name, value in os.environ.items() if not name.startswith("COVERAGE")},
        capture_output=True,
        text=True,
        timeout=30,
        check=True,
    )
    assert done.stdout.split() == ["False", "False"]
