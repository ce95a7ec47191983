"""The guard and its reaper, with real processes: nothing is left, and no stranger is touched."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest

from pytest_prodpatterns.lab import Guard, guard
from pytest_prodpatterns.lab._reaper_process import Ledger, send, start_time

DEADLINE = 10.0


def until(condition, what):
    deadline = time.monotonic() + DEADLINE
    while not condition():
        assert time.monotonic() < deadline, f"waited {DEADLINE} s in vain: {what}"
        time.sleep(0.005)


def state(pid):
    """The letter of a process: R, S, T (stopped), Z; X when it is gone."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return "X"


@pytest.fixture
def sleeper():
    """Start processes that do nothing; the fixture's own way out does not rely on the reaper."""
    processes = []

    def start():
        processes.append(subprocess.Popen(["sleep", "60"]))
        return processes[-1].pid

    yield start
    for process in processes:
        process.kill()
        process.wait()


class Victim:
    """A test process: registers with its guard as it is told, then dies."""

    def __init__(self, code, *arguments):
        prelude = "import os, signal, sys\nfrom pytest_prodpatterns.lab import guard\n"
        postlude = "\nprint('ready', flush=True)\nsys.stdin.readline()\n"
        self.process = subprocess.Popen(
            [sys.executable, "-c", prelude + textwrap.dedent(code) + postlude, *map(str, arguments)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self.words = []
        while not self.words or self.words[-1] != "ready":
            line = self.process.stdout.readline()
            assert line, "the victim died too early"
            self.words.append(line.strip())

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.kill()
        self.process.communicate()

    def die(self, how):
        if how == "kill":
            self.process.kill()
        else:
            self.process.stdin.write("\n")
            self.process.stdin.flush()
        self.process.wait(DEADLINE)


@pytest.mark.parametrize("how", ["kill", "end"])
def test_what_was_started_is_killed_when_the_process_is_gone(sleeper, how):
    pid = sleeper()
    with Victim("guard().started(int(sys.argv[1]))", pid) as victim:
        assert state(pid) in "RSD"
        victim.die(how)
        until(lambda: state(pid) == "Z", "the started process is killed")


def test_what_was_stopped_is_continued_and_lives(sleeper):
    pid = sleeper()
    code = "guard().stopped(int(sys.argv[1])); os.kill(int(sys.argv[1]), signal.SIGSTOP)"
    with Victim(code, pid) as victim:
        until(lambda: state(pid) == "T", "it is stopped")
        victim.die("kill")
        until(lambda: state(pid) == "S", "it is continued")


def test_what_was_started_and_stopped_is_killed(sleeper):
    pid = sleeper()
    code = "p = int(sys.argv[1]); guard().started(p); guard().stopped(p); os.kill(p, signal.SIGSTOP)"
    with Victim(code, pid) as victim:
        until(lambda: state(pid) == "T", "it is stopped")
        victim.die("kill")
        until(lambda: state(pid) == "Z", "it is killed")


def test_what_was_forgotten_or_continued_is_left_alone(sleeper):
    forgotten, continued, started = sleeper(), sleeper(), sleeper()
    code = """
    forgotten, continued, started = map(int, sys.argv[1:])
    guard().started(forgotten); guard().forget(forgotten)
    guard().stopped(continued); os.kill(continued, signal.SIGSTOP); guard().continued(continued)
    guard().started(started); guard().stopped(started); guard().continued(started)
    """
    with Victim(code, forgotten, continued, started) as victim:
        until(lambda: state(continued) == "T", "it is stopped")
        victim.die("kill")
        until(lambda: state(started) == "Z", "the reaper has done its work")
    assert state(forgotten) in "RSD"
    assert state(continued) == "T"
    os.kill(continued, signal.SIGCONT)


def test_death_is_noticed_though_a_forked_child_holds_the_pipe_open(sleeper):
    pid = sleeper()
    code = """
    from pytest_prodpatterns.lab import _reaper
    os.register_at_fork(after_in_child=lambda: None)
    guard().started(int(sys.argv[1]))
    os.set_inheritable(guard()._pipe, True)  # and an executed one too
    import subprocess
    print(subprocess.Popen(["sleep", "60"], close_fds=False, stdout=subprocess.DEVNULL).pid, flush=True)
    """
    with Victim(code, pid) as victim:
        holder = int(victim.words[0])
        try:
            victim.die("kill")
            until(lambda: state(pid) == "Z", "the started process is killed")
            assert state(holder) in "RSD", "the pipe was open all the time"
        finally:
            os.kill(holder, signal.SIGKILL)


def test_the_fallback_without_pidfd_notices_too(sleeper, tmp_path):
    pid = sleeper()
    script = tmp_path / "reaper.py"
    code = f"""
    from pytest_prodpatterns.lab import _reaper, _reaper_process
    source = open(_reaper_process.__file__).read()
    assert "handle = os.pidfd_open(parent)" in source
    open({str(script)!r}, "w").write(source.replace("handle = os.pidfd_open(parent)", "raise OSError"))
    _reaper._SCRIPT = {str(script)!r}
    guard().started(int(sys.argv[1]))
    os.set_inheritable(guard()._pipe, True)
    import subprocess
    print(subprocess.Popen(["sleep", "60"], close_fds=False, stdout=subprocess.DEVNULL).pid, flush=True)
    """
    with Victim(code, pid) as victim:
        holder = int(victim.words[0])
        try:
            victim.die("kill")
            until(lambda: state(pid) == "Z", "the started process is killed")
        finally:
            os.kill(holder, signal.SIGKILL)


def test_ctrl_c_in_the_terminal_does_not_reach_the_reaper(sleeper):
    pid = sleeper()
    code = "os.setpgid(0, 0); guard().started(int(sys.argv[1])); signal.signal(signal.SIGINT, signal.SIG_DFL)"
    with Victim(code, pid) as victim:
        os.killpg(victim.process.pid, signal.SIGINT)
        victim.process.wait(DEADLINE)
        until(lambda: state(pid) == "Z", "the reaper lived on and did its work")


def test_a_reaper_that_was_killed_is_replaced_and_knows_everything(sleeper):
    first, second = sleeper(), sleeper()
    code = """
    first, second = map(int, sys.argv[1:])
    guard().started(first)
    reaper = next(
        int(pid) for pid in os.listdir("/proc") if pid.isdigit()
        and f"_reaper_process.py\\0{os.getpid()}\\0".encode() in open(f"/proc/{pid}/cmdline", "rb").read()
    )
    handle = os.pidfd_open(reaper)
    os.kill(reaper, signal.SIGKILL)
    import select
    assert select.select([handle], [], [], 10)[0]
    guard().started(second)
    """
    with Victim(code, first, second) as victim:
        victim.die("kill")
        until(lambda: (state(first), state(second)) == ("Z", "Z"), "both are killed")


def test_a_forked_child_has_a_guard_of_its_own(sleeper):
    mine, childs = sleeper(), sleeper()
    code = """
    mine, childs = map(int, sys.argv[1:])
    guard().started(mine)
    pid = os.fork()
    if pid == 0:
        assert len(guard()) == 0
        guard().started(childs)
        os._exit(0)
    os.waitpid(pid, 0)
    """
    with Victim(code, mine, childs) as victim:
        until(lambda: state(childs) == "Z", "the child's reaper did its work")
        assert state(mine) in "RSD"
        victim.die("kill")
        until(lambda: state(mine) == "Z", "the parent's reaper did its work")


def test_a_process_with_another_start_time_is_never_touched(sleeper):
    pid = sleeper()
    start = start_time(pid)
    send(pid, start + 1, signal.SIGKILL)
    assert state(pid) in "RSD"
    send(pid, start, signal.SIGKILL)
    until(lambda: state(pid) == "Z", "the right one is")


def test_a_pid_that_is_gone_is_no_error(sleeper):
    process = subprocess.Popen(["true"])
    process.wait()
    send(process.pid, 1, signal.SIGKILL)
    assert start_time(process.pid) is None
    with contextlib.closing(Guard()) as watch:
        watch.started(process.pid)
        watch.forget(process.pid)
        assert len(watch) == 0


@pytest.mark.parametrize("verb", ["started", "stopped"])
def test_pids_that_must_not_be_touched_are_refused(verb):
    watch = Guard()
    for pid in (0, -1, 1):
        with pytest.raises(ValueError, match=rf"^pid {pid} is not a process to touch: expected the pid of a"):
            getattr(watch, verb)(pid)
    with pytest.raises(
        ValueError, match=r"^pid \d+ is this process itself: it must never be stopped or killed$"
    ):
        getattr(watch, verb)(os.getpid())
    with pytest.raises(ValueError, match=r"^pid \d+ is a process that this one descends from: it must never"):
        getattr(watch, verb)(os.getppid())
    assert watch._pipe is None, "no reaper was started for that"


def test_no_reaper_runs_before_the_first_registration():
    watch = Guard()
    watch.forget(os.getpid())
    watch.close()
    assert watch._pipe is None


def test_the_reaper_is_nobodys_child(sleeper):
    with contextlib.closing(Guard()) as watch:
        watch.started(sleeper())
        children = Path(f"/proc/{os.getpid()}/task/{os.getpid()}/children").read_text().split()
        commands = [Path(f"/proc/{pid}/cmdline").read_bytes() for pid in children]
        assert not [command for command in commands if b"_reaper_process" in command]


def test_closing_forgets_everything(sleeper):
    pid = sleeper()
    code = "guard().started(int(sys.argv[1])); guard().close()"
    with Victim(code, pid) as victim:
        victim.die("kill")
    assert state(pid) in "RSD"


def test_there_is_one_guard_a_process():
    assert guard() is guard()


def test_the_ledger_takes_lines_in_pieces():
    reading, writing = os.pipe()
    ledger = Ledger()
    os.write(writing, b"started 10 20\nstop")
    assert ledger.read(reading)
    assert ledger.duties == {(10, 20): {"started"}}
    os.write(writing, b"ped 10 20\nstopped 11 21\nforget 11 21\n")
    assert ledger.read(reading)
    assert ledger.duties == {(10, 20): {"started", "stopped"}}
    os.close(writing)
    assert not ledger.read(reading)
    os.close(reading)
