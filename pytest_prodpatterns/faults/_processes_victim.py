"""Which process is meant, and the proof that it may be struck.

Theory of operation.  A pid is a number that the system gives to somebody else as soon as its owner is gone.  So a
target is pinned by a pidfd first, and everything is looked up and sent behind it: from there on the pid is this
process, or nobody.  It may be struck when the chain of its parents leads to this process.  A process that lost
its parents is known by its pid and start time, from the last time it was seen under us, or from `lab.guard()`.
"""

from __future__ import annotations

import os
import select
import signal
import time
from collections.abc import Callable
from types import TracebackType
from typing import Any, Final, Protocol, Self, TypeAlias

from pytest_prodpatterns.faults import _processes_table as table
from pytest_prodpatterns.faults._processes_table import Process
from pytest_prodpatterns.lab import guard

__tracebackhide__ = True  # pytest shows the line of the user; --full-trace shows ours, too

DEADLINE: Final = 5.0
"""Real seconds within which a fault must show its effect."""


class HasPid(Protocol):
    """Whatever stands for a process: `Popen`, a process of asyncio, multiprocessing or psutil, a worker."""

    @property
    def pid(self) -> int | None:
        """Its process id; None before it was started."""


Target: TypeAlias = int | HasPid


class NoEffect(TimeoutError):  # noqa: N818 - it says what was missed
    """A fault was sent to a process and did not show its effect in time."""

    __module__ = "pytest_prodpatterns.faults.processes"


_seen: set[Process] = set()  # descendants that we met: they may lose their parents later


class Victim:
    """A living process that may be struck, pinned; leaving its `with` block lets go of it.

    Args:
        verb: What is to be done with it, for error texts.
        target: The process.

    Attributes:
        process: Pid and start time.

    Raises:
        TypeError: When the target stands for no process.
        ValueError: When it is none to touch: not started yet, this process, init, or no proven descendant.
        ProcessLookupError: When it has ended already; a zombie has.
    """

    def __init__(self, verb: str, target: Target) -> None:
        pid = _pid_of(verb, target)
        self._verb = verb
        try:
            self._handle = os.pidfd_open(pid)
        except (ProcessLookupError, OverflowError):
            raise _ended(verb, pid) from None
        try:
            self.process = self._prove(pid)
        except BaseException:
            self.close()
            raise

    @property
    def pid(self) -> int:
        """Its process id."""
        return self.process.pid

    def ended(self, seconds: float = 0.0) -> bool:
        """Wait until it has ended (nobody need have reaped it), or time is up; tell whether it has."""
        poll = select.poll()
        poll.register(self._handle, select.POLLIN)
        return bool(poll.poll(seconds * 1000))

    def send(self, number: signal.Signals) -> None:
        """Send it a signal.

        Raises:
            ProcessLookupError: When it has ended, and was reaped.
        """
        try:
            signal.pidfd_send_signal(self._handle, number)
        except ProcessLookupError:
            raise _ended(self._verb, self.pid) from None

    def close(self) -> None:
        """Let go of it."""
        if self._handle >= 0:
            os.close(self._handle)
            self._handle = -1

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _prove(self, pid: int) -> Process:
        found = table.entry(pid)
        if found is None or self.ended():
            raise _ended(self._verb, pid)
        if table.descends(pid, os.getpid()):
            _seen.add(found.process)
        elif found.process not in _seen and not guard().has_started(pid):
            raise ValueError(
                f"{self._verb}(): pid {pid} {_whose(pid)}: only descendants of this process are struck"
            )
        return found.process


def alive(target: Target) -> bool:
    """Tell whether a process runs or waits, or is stopped; a zombie has ended.

    Args:
        target: A pid, or anything with a `.pid`.
    """
    pid = target if isinstance(target, int) else target.pid
    found = None if not pid or _said_to_have_ended(target) else table.entry(pid)
    return found is not None and found.state not in "ZX"


def wait(target: Target, *, deadline: float = DEADLINE) -> None:
    """Wait until a process has ended, whether or not anybody reaps it.

    Args:
        target: A pid, or anything with a `.pid`; one that has ended already is no error.
        deadline: Real seconds to wait at most.

    Raises:
        NoEffect: When it lives on.
        ValueError: When it is no descendant of this process.
    """
    try:
        with Victim("wait", target) as victim:
            if not victim.ended(deadline):
                raise NoEffect(f"wait(): pid {victim.pid} has not ended within {deadline:g} s")
    except ProcessLookupError:
        return


def descendants(target: Target | None = None) -> tuple[int, ...]:
    """Return the pids of the living processes below one, parents before their children.

    They are remembered: they may be struck even when they have lost their parents.

    Args:
        target: A process below this one; None for this one.
    """
    if target is None:
        return tuple(process.pid for process in below(os.getpid()))
    with Victim("descendants", target) as victim:
        return tuple(process.pid for process in below(victim.pid))


def below(root: int) -> list[Process]:
    """Return the living descendants of a process of ours, and remember them."""
    found = [each.process for each in table.family(root) if each.state not in "ZX"]
    _seen.update(found)
    return found


def forget(process: Process) -> None:
    """Forget a process that has ended."""
    _seen.discard(process)


def until(condition: Callable[[], bool], deadline: float) -> bool:
    """Wait in real time until a condition holds; tell whether it does.

    Args:
        condition: What to look at again and again.
        deadline: Real seconds to wait at most.
    """
    end = time.monotonic() + deadline
    pause = 0.0002
    while not condition():
        if time.monotonic() >= end:
            return condition()
        time.sleep(pause)
        pause = min(pause * 1.5, 0.01)
    return True


def _pid_of(verb: str, target: Any) -> int:
    pid = target if isinstance(target, int) else getattr(target, "pid", target)
    if pid is None:
        raise ValueError(f"{verb}(): {target!r} has not been started")
    if isinstance(pid, bool) or not isinstance(pid, int):
        raise TypeError(
            f"{verb}(): target must be a pid or a process, not {target!r}; for a worker of a pool there are"
            " kill_worker(pool), stop_worker(pool) and worker(pool)"
        )
    if pid <= 1:
        raise ValueError(f"{verb}(): pid {pid} is not a process to touch: expected one of your own")
    if pid == os.getpid():
        raise ValueError(f"{verb}(): pid {pid} is this process itself")
    if _said_to_have_ended(target):
        raise _ended(verb, pid)
    return pid


def _said_to_have_ended(target: Any) -> bool:
    """Tell whether the object knows that its process is gone: then its pid may be somebody else's."""
    if type(target).__module__.partition(".")[0] == "psutil":
        return not target.is_running()
    if getattr(target, "returncode", None) is not None:
        return True
    popen = getattr(
        target, "_popen", None
    )  # multiprocessing's `exitcode` reaps, and may do so before its owner
    return getattr(popen, "returncode", None) is not None


def _ended(verb: str, pid: int) -> ProcessLookupError:
    return ProcessLookupError(f"{verb}(): pid {pid} has ended already")


def _whose(pid: int) -> str:
    above = table.descends(os.getpid(), pid)
    return "is a process that this one descends from" if above else "is no descendant of this process"


os.register_at_fork(after_in_child=_seen.clear)  # to a child these are its brothers
