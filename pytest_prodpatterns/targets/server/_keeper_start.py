"""How a server is started: as by a process manager that has nothing else on its hands.

The order matters.  The guard starts its reaper before this process adopts orphans, for the reaper is one, and must
not become a child of ours; and the marker of the family is hidden meanwhile, for the reaper must not be taken for
a member and killed before it has done its duty.
"""

from __future__ import annotations

import ctypes
import os
import shutil
import signal
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, BinaryIO, Final

from pytest_prodpatterns.lab import guard
from pytest_prodpatterns.targets._family import MARKER

_SUBREAPER: Final = 36  # PR_SET_CHILD_SUBREAPER
_DEFAULTS: Final = {"PYTHONUNBUFFERED": "1", "PYTHONFAULTHANDLER": "1"}
_OF_MANAGERS: Final = frozenset(
    {"NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID", "LISTEN_FDS", "LISTEN_PID", "LISTEN_FDNAMES"}
)
"""Variables by which a process manager talks to us, not to the server."""

_running: dict[int, subprocess.Popen[bytes]] = {}
"""Kept, because a forgotten Popen is waited for by the next one."""


class CannotStart(Exception):  # noqa: N818 - it says what happened
    """A command cannot be run."""


def be_a_plain_parent() -> None:
    """Pass on no ignored signals, and wake the guard; in the main thread, before there are others."""
    for number in signal.valid_signals() - {signal.SIGPIPE, signal.SIGXFSZ}:  # these two Popen restores
        if signal.getsignal(number) is signal.SIG_IGN:  # would be inherited, which no handler is
            signal.signal(number, _nothing)
    mark = os.environ.pop(MARKER, None)
    _wake_guard()
    if mark is not None:
        os.environ[MARKER] = mark


def _nothing(*_: Any) -> None:
    pass


def _wake_guard() -> None:
    """Have the guard start its reaper, for which it takes a process to guard."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(writing)
        os.read(reading, 1)
        os._exit(0)
    guard().started(child)
    os.close(reading)
    os.close(writing)
    os.waitpid(child, 0)
    guard().forget(child)


def adopt_orphans() -> bool:
    """Become the parent of all descendants that lose theirs, as init is; tell whether that was possible."""
    try:
        done: int = ctypes.CDLL(None).prctl(_SUBREAPER, 1, 0, 0, 0)
    except (OSError, AttributeError):
        return False
    return done == 0


def environment(env: Mapping[str, str], notify: str | None) -> dict[str, str]:
    """Return the environment of a server.

    Args:
        env: What it gets besides that of this process.
        notify: The socket for sd_notify.
    """
    ours = {name: value for name, value in os.environ.items() if name not in _OF_MANAGERS}
    told = {} if notify is None else {"NOTIFY_SOCKET": notify}
    mark = {MARKER: os.environ[MARKER]} if MARKER in os.environ else {}
    return {**_DEFAULTS, **ours, **env, **told, **mark}


def start(argv: Sequence[str], env: Mapping[str, str], cwd: str | None, output: str) -> int:
    """Start a command in a session of its own, and return its pid.

    Args:
        argv: Its words.
        env: Its whole environment.
        cwd: Where it runs; None for here.
        output: The file to whose end it writes.

    Raises:
        CannotStart: It cannot be run.
    """
    if not argv:
        raise CannotStart("there is no command")
    if cwd is not None and not Path(cwd).is_dir():
        raise CannotStart(f"no such directory: {cwd!r}")
    _need_pidfds()
    try:
        file = Path(output).open("ab")  # noqa: SIM115 - closed below
    except OSError as error:
        raise CannotStart(f"cannot write {output!r}: {os.strerror(error.errno or 0).lower()}") from None
    try:
        process = _spawn(argv, env, cwd, file)
    except (OSError, ValueError) as error:
        raise CannotStart(f"cannot run {argv[0]!r}: {_why(argv[0], env, cwd, error)}") from None
    finally:
        file.close()
    _running[process.pid] = process
    return process.pid


def ended(pid: int, code: int) -> None:
    """Let go of a process that was waited for."""
    _running.pop(pid).returncode = code


def _spawn(
    argv: Sequence[str], env: Mapping[str, str], cwd: str | None, output: BinaryIO
) -> subprocess.Popen[bytes]:
    signal.pthread_sigmask(signal.SIG_SETMASK, ())  # of this thread; the process inherits it
    return subprocess.Popen(  # noqa: S603 - the user's own command
        argv,
        stdin=subprocess.DEVNULL,
        stdout=output,
        stderr=output,
        cwd=cwd,
        env=env,
        start_new_session=True,
    )


def _need_pidfds() -> None:
    try:
        os.close(os.pidfd_open(os.getpid()))
    except (OSError, AttributeError) as error:
        raise CannotStart(f"servers are watched by pidfds, which Linux has since 5.3: {error}") from None


def _why(command: str, env: Mapping[str, str], cwd: str | None, error: OSError | ValueError) -> str:
    if not isinstance(error, OSError):
        return str(error)
    if isinstance(error, FileNotFoundError):
        if "/" not in command and shutil.which(command, path=env.get("PATH", os.defpath)) is None:
            return "no such command on PATH"
        if (Path(cwd or ".") / command).is_file() or "/" not in command:
            return "its first line names an interpreter that does not exist"
    return os.strerror(error.errno or 0).lower()
