"""The tasks that scenarios submit; they run in the workers, and tell the timeline that they entered and left.

Each gets a ticket first: the number of its call, its phase, and the directory of the gates; what a scenario
names besides comes after that.  An event `dependency:NAME` `entered` (call, phase, pid) comes first thing, `left`
when it ended by itself.  Importing this must stay light, for workers that are started anew import it.
"""

from __future__ import annotations

import functools
import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from typing import Any, TypeAlias

from pytest_prodpatterns.lab import emit

Ticket: TypeAlias = tuple[int, str, str]
"""The number of the call, its phase, and the directory of the gates."""

LONGEST_HOLD = 60.0
"""Seconds after which a task that holds goes on by itself."""


class TwoArgumentError(Exception):
    """An error of an application, as many are: what it is made of is not what `args` holds."""

    def __init__(self, code: str, reason: str) -> None:
        super().__init__(f"{code}: {reason}")
        self.code = code
        self.reason = reason


class LockedError(Exception):
    """An error that cannot be pickled."""

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self.lock = threading.Lock()


def _told(task: Callable[..., Any]) -> Callable[..., Any]:
    """Let a task tell that it entered and left."""
    source = f"dependency:{task.__name__}"

    @functools.wraps(task)
    def telling(ticket: Ticket, *arguments: Any) -> Any:
        call, phase, _gates = ticket
        emit(source, "entered", call=call, phase=phase, pid=os.getpid())
        try:
            return task(ticket, *arguments)
        finally:
            emit(source, "left", call=call, phase=phase, pid=os.getpid())

    return telling


@_told
def work(ticket: Ticket, milliseconds: float = 0.0) -> int:
    """Take a while, then return the number of the call."""
    time.sleep(milliseconds / 1000)
    return ticket[0]


@_told
def sleep(ticket: Ticket, seconds: float) -> int:
    """Sleep, then return the number of the call."""
    time.sleep(seconds)
    return ticket[0]


@_told
def hold(ticket: Ticket) -> int:
    """Wait until the phase is released, then return the number of the call."""
    return _hold(ticket)


@_told
def echo(ticket: Ticket, value: Any) -> Any:  # noqa: ARG001
    """Return the value."""
    return value


@_told
def tell_pid(ticket: Ticket) -> int:  # noqa: ARG001
    """Return the pid of the worker."""
    return os.getpid()


@_told
def exit_now(ticket: Ticket, code: int = 7) -> None:  # noqa: ARG001
    """End the process, as a C library does that calls `_exit`."""
    os._exit(code)


@_told
def segfault(ticket: Ticket) -> None:  # noqa: ARG001
    """Read address 0."""
    import ctypes  # noqa: PLC0415
    import resource  # noqa: PLC0415

    resource.setrlimit(resource.RLIMIT_CORE, (0, resource.getrlimit(resource.RLIMIT_CORE)[1]))
    ctypes.string_at(0)


@_told
def sys_exit(ticket: Ticket, code: int = 3) -> None:  # noqa: ARG001
    """Raise SystemExit, as a command-line tool does that somebody calls as a function."""
    sys.exit(code)


@_told
def keyboard_interrupt(ticket: Ticket) -> None:  # noqa: ARG001
    """Raise KeyboardInterrupt."""
    raise KeyboardInterrupt


@_told
def raises(ticket: Ticket, text: str = "no") -> None:  # noqa: ARG001
    """Raise an error of the standard library."""
    raise ValueError(text)


@_told
def raises_two_arguments(ticket: Ticket) -> None:  # noqa: ARG001
    """Raise an error whose `__init__` takes two arguments, and hands one on."""
    raise TwoArgumentError("E42", "the disk is on fire")


@_told
def raises_unpicklable(ticket: Ticket) -> None:  # noqa: ARG001
    """Raise an error that holds a lock."""
    raise LockedError("cannot be pickled")


@_told
def returns_unpicklable(ticket: Ticket) -> Any:  # noqa: ARG001
    """Return a lock."""
    return threading.Lock()


@_told
def takes_unpicklable(ticket: Ticket, lock: Any) -> int:  # noqa: ARG001
    """Get a lock, which no process should be able to send."""
    return ticket[0]


@_told
def large_result(ticket: Ticket, size: int) -> bytes:
    """Return that many bytes, other ones for each call."""
    return filling(ticket[0]) * size


@_told
def held_large_result(ticket: Ticket, size: int) -> bytes:
    """Wait until the phase is released, then return that many bytes."""
    return filling(_hold(ticket)) * size


@_told
def large_argument(ticket: Ticket, data: bytes) -> int:  # noqa: ARG001
    """Return how many bytes came."""
    return len(data)


@_told
def ignore_sigterm_and_spin(ticket: Ticket, seconds: float = 30.0) -> int:
    """Ignore what asks to end, and burn the processor."""
    _ignore_signals()
    until = time.monotonic() + seconds
    while time.monotonic() < until and os.path.isdir(ticket[2]):  # noqa: PTH112 - no pathlib in a worker
        sum(range(1000))
    return ticket[0]


@_told
def ignore_sigterm_and_hold(ticket: Ticket) -> int:
    """Ignore what asks to end, and wait until the phase is released."""
    _ignore_signals()
    return _hold(ticket)


def initialize(kind: str) -> None:
    """Be the initializer of a worker.

    Args:
        kind: `notes`, `fails` or `slow`.
    """
    emit("dependency:initializer", "entered", pid=os.getpid())
    if kind == "slow":
        time.sleep(0.5)
    if kind == "fails":
        raise RuntimeError("the initializer cannot reach its database")


def sent(task: str, arguments: list[Any]) -> list[Any]:
    """Return what a task is submitted with, where a scenario cannot write it down."""
    if task == "takes_unpicklable":
        return [threading.Lock()]
    if task == "large_argument":
        return [bytes(arguments[0])]
    return arguments


def is_right(task: str, call: int, arguments: list[Any], value: Any) -> bool:
    """Tell whether a value is what a task gave."""
    match task:
        case "echo" | "large_argument":
            return bool(value == arguments[0])
        case "tell_pid":
            return isinstance(value, int)
        case "large_result" | "held_large_result":
            return isinstance(value, bytes) and value == filling(call) * arguments[0]
        case _:
            return bool(value == call)


def filling(call: int) -> bytes:
    """Return the byte that fills the large result of a call."""
    return bytes([call % 251])


def gate(gates: str, phase: str) -> str:
    """Return the path of the file that opens the gate of a phase."""
    return os.path.join(gates, phase.encode().hex() or "_")  # noqa: PTH118 - no pathlib in a worker


def _hold(ticket: Ticket) -> int:
    call, phase, gates = ticket
    path = gate(gates, phase)
    until = time.monotonic() + LONGEST_HOLD
    while os.path.isdir(gates) and not os.path.exists(path) and time.monotonic() < until:  # noqa: PTH110, PTH112
        time.sleep(0.005)
    return call


def _ignore_signals() -> None:
    """Ignore SIGTERM and SIGINT, in whichever thread a task runs: `signal.signal` would insist on the main one."""
    import ctypes  # noqa: PLC0415

    library = ctypes.CDLL(None)
    library.signal.argtypes = [ctypes.c_int, ctypes.c_void_p]
    for number in (signal.SIGTERM, signal.SIGINT):
        library.signal(int(number), ctypes.c_void_p(1))  # SIG_IGN
