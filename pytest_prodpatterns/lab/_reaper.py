"""A guard against left-overs that nothing in this process can clean up any more.

Theory of operation.  Undo actions do not run after `os._exit`, SIGKILL, or pytest-timeout's thread method.  So
whoever starts or stops a process tells the guard, and the guard tells a reaper: a small program that is no
child of ours and notices when we are gone, in whichever way.  It then continues what was stopped and kills
what was started.  A process is known by its pid and its start time, so a recycled pid is never touched.

A line is in the pipe when a method returns, and stays readable when we are gone: nothing told is ever lost.
"""

from __future__ import annotations

import os
import sys
import threading
from pathlib import Path
from typing import Final, TypeAlias

from pytest_prodpatterns.lab import _reaper_process

Process: TypeAlias = tuple[int, int]
"""Pid and start time."""

_SCRIPT: Final = str(Path(_reaper_process.__file__))


class Guard:
    """Tell a reaper what to clean up, should this process disappear.

    The reaper is started when the first process is registered. A forked child must use `guard()` to get a
    guard of its own.

    Raises:
        ValueError: From each method, when the pid is not one to touch: 0 or negative, init, this process, or
            one that this process descends from.
    """

    def __init__(self) -> None:
        self._duties: dict[Process, set[str]] = {}  # the same as in the reaper, to tell a second one
        self._pipe: int | None = None  # None: no reaper runs
        self._lock = threading.RLock()  # re-entrant: a signal handler may register while we do

    def started(self, pid: int) -> None:
        """Have a process killed if this one disappears.

        Args:
            pid: A process that this one started. One that has ended already is ignored.
        """
        self._note("started", pid)

    def stopped(self, pid: int) -> None:
        """Have a process continued if this one disappears; call it before sending SIGSTOP.

        Args:
            pid: A process that is about to be stopped.
        """
        self._note("stopped", pid)

    def continued(self, pid: int) -> None:
        """Take back `stopped`: the process runs again."""
        self._take_back("continued", pid)

    def forget(self, pid: int) -> None:
        """Take back everything told about a process: it has ended, or is no concern of ours any more."""
        self._take_back("forget", pid)

    def has_started(self, pid: int) -> bool:
        """Tell whether `started` was told of the process that has this pid now."""
        start = _reaper_process.start_time(pid)
        return start is not None and "started" in self._duties.get((pid, start), ())

    def close(self) -> None:
        """Forget everything and let the reaper end."""
        with self._lock:
            for pid, _start in list(self._duties):
                self.forget(pid)
            self._drop_pipe()

    def __len__(self) -> int:
        return len(self._duties)

    def _note(self, verb: str, pid: int) -> None:
        _refuse_untouchable(pid)
        start = _reaper_process.start_time(pid)
        if start is None:
            return
        with self._lock:
            self._duties.setdefault((pid, start), set()).add(verb)
            self._tell(verb, (pid, start))

    def _take_back(self, verb: str, pid: int) -> None:
        with self._lock:
            for process in [known for known in self._duties if known[0] == pid]:
                self._duties[process].discard("stopped")
                if verb == "forget" or not self._duties[process]:
                    del self._duties[process]
                self._tell(verb, process)

    def _tell(self, verb: str, process: Process) -> None:
        line = f"{verb} {process[0]} {process[1]}\n".encode()
        if self._pipe is not None:
            try:
                os.write(self._pipe, line)
            except BrokenPipeError:  # somebody killed the reaper
                self._drop_pipe()
            else:
                return
        self._start_reaper()

    def _start_reaper(self) -> None:
        """Start a reaper and tell it everything."""
        if not self._duties:
            return
        reading, self._pipe = os.pipe()
        try:
            _spawn(reading)
        finally:
            os.close(reading)
        for (pid, start), verbs in self._duties.items():
            for verb in verbs:
                os.write(self._pipe, f"{verb} {pid} {start}\n".encode())

    def _drop_pipe(self) -> None:
        if self._pipe is not None:
            os.close(self._pipe)
            self._pipe = None


_guard: Guard | None = None


def guard() -> Guard:
    """Return the guard of this process."""
    global _guard  # noqa: PLW0603
    if _guard is None:
        _guard = Guard()
    return _guard


def _spawn(standard_input: int) -> None:
    """Start the script; the process that we start ends as soon as it has forked the reaper."""
    own_start = _reaper_process.start_time(os.getpid())
    arguments = [sys.executable, "-S", "-E", "-P", _SCRIPT, str(os.getpid()), str(own_start)]
    files = [
        (os.POSIX_SPAWN_DUP2, standard_input, 0),
        (os.POSIX_SPAWN_OPEN, 1, os.devnull, os.O_WRONLY, 0),
        (os.POSIX_SPAWN_OPEN, 2, os.devnull, os.O_WRONLY, 0),
    ]
    pid = os.posix_spawn(sys.executable, arguments, os.environ, file_actions=files)
    os.waitpid(pid, 0)


def _refuse_untouchable(pid: int) -> None:
    if pid <= 1:
        raise ValueError(f"pid {pid} is not a process to touch: expected the pid of a process of your own")
    ancestor = os.getpid()
    while ancestor > 1:
        if pid == ancestor:
            who = "this process itself" if pid == os.getpid() else "a process that this one descends from"
            raise ValueError(f"pid {pid} is {who}: it must never be stopped or killed")
        ancestor = _parent(ancestor)


def _parent(pid: int) -> int:
    try:
        fields = Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()
    except OSError:
        return 0
    return int(fields[1])


def _become_child() -> None:
    global _guard  # noqa: PLW0603
    if _guard is not None:
        _guard._drop_pipe()  # noqa: SLF001
        _guard = None


os.register_at_fork(after_in_child=_become_child)
