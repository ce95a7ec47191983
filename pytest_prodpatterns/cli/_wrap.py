"""`prodpatterns wrap`: give any server a lame duck, and be a proper PID 1 for it.

Theory of operation.  Every signal of interest is blocked and taken out of `sigtimedwait`, one after the other, so
that there is no handler and no race. The command gets a process group of its own, unless it stands at a terminal,
so that a signal to our group reaches it once: from us. Whatever it leaves behind becomes our child and is reaped.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import socket
import sys
import threading
import time
from pathlib import Path
from typing import Any, Final, Self

import click

from pytest_prodpatterns.cli._options import Refused

LAST: Final = frozenset({signal.SIGTERM, signal.SIGINT, signal.SIGQUIT})
"""Signals that end a server: they wait for the lame duck."""
PASSED: Final = frozenset({signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2, signal.SIGWINCH, signal.SIGCONT})
TAKEN: Final = LAST | PASSED | {signal.SIGCHLD}
_FROM_KERNEL: Final = 0x80  # si_code of a signal that a terminal sent
_SUBREAPER: Final = 36  # PR_SET_CHILD_SUBREAPER
_PATIENCE: Final = 1.0  # seconds that who asks for readiness has to ask
_PAUSE: Final = 0.1
NOT_EXECUTABLE: Final = 126
NOT_FOUND: Final = 127


@click.command(context_settings={"ignore_unknown_options": True})
@click.option("--lame-duck", type=click.FloatRange(min=0), default=5.0, show_default=True, metavar="S",
              help="Seconds between the signal and its forwarding.")  # fmt: skip
@click.option("--ready-file", type=click.Path(dir_okay=False, path_type=Path), metavar="F",
              help="A file that exists while traffic is welcome.")  # fmt: skip
@click.option("--ready-port", type=click.IntRange(1, 65535), metavar="P",
              help="A port that answers 200 while traffic is welcome, then 503.")  # fmt: skip
@click.argument("command", nargs=-1, required=True, type=click.UNPROCESSED, metavar="-- COMMAND…")
def wrap(lame_duck: float, ready_file: Path | None, ready_port: int | None, command: tuple[str, ...]) -> None:
    """Run COMMAND, and let balancers know before it is told to stop.

    SIGTERM, SIGINT or SIGQUIT turn readiness off, and reach the command after the lame duck's time; the next
    signal reaches it at once. Leaves with the exit code of the command, with 128+n when signal n ended it.

    \b
    prodpatterns wrap --lame-duck 5 --ready-file /run/ready -- gunicorn app:app
    """  # noqa: D301 (click reads \b as "leave these lines alone")
    signal.pthread_sigmask(signal.SIG_BLOCK, TAKEN)
    with _Readiness(ready_file, ready_port) as readiness:
        code = _Wrapper(command, lame_duck, readiness).run()
    sys.exit(code)


class _Readiness:
    """What tells balancers whether traffic is welcome."""

    def __init__(self, file: Path | None, port: int | None) -> None:
        self._file = file
        self._socket: socket.socket | None = None
        self._ready = True
        try:
            if port is not None:
                both = socket.has_dualstack_ipv6()
                family = socket.AF_INET6 if both else socket.AF_INET
                self._socket = socket.create_server(
                    ("", port), family=family, backlog=64, dualstack_ipv6=both
                )
            if file is not None:
                file.touch()
        except OSError as error:
            raise Refused(f"readiness cannot be shown: {error}") from None
        if self._socket is not None:
            threading.Thread(target=self._accept, args=(self._socket,), daemon=True).start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.over()

    def over(self) -> None:
        self._ready = False
        if self._file is not None:
            self._file.unlink(missing_ok=True)

    def _accept(self, listener: socket.socket) -> None:
        while True:
            try:
                client, _ = listener.accept()
                threading.Thread(target=self._answer, args=(client,), daemon=True).start()
            except (OSError, RuntimeError):  # no descriptor, or no thread, is left
                time.sleep(_PAUSE)

    def _answer(self, client: socket.socket) -> None:
        with client, contextlib.suppress(OSError):
            client.settimeout(_PATIENCE)
            client.recv(4096)
            status, word = ("200 OK", "ready") if self._ready else ("503 Service Unavailable", "lame_duck")
            head = f"HTTP/1.1 {status}\r\nContent-Type: text/plain\r\nContent-Length: {len(word)}\r\n"
            client.sendall(f"{head}Connection: close\r\n\r\n{word}".encode())


class _Wrapper:
    """One command, and the signals on their way to it."""

    def __init__(self, command: tuple[str, ...], lame_duck: float, readiness: _Readiness) -> None:
        self._lame_duck = lame_duck
        self._readiness = readiness
        self._waiting: tuple[int, float] | None = None  # a signal, and when it is to be forwarded
        self._told = False
        self._status: int | None = None
        with contextlib.suppress(OSError, AttributeError):
            ctypes.CDLL(None).prctl(_SUBREAPER, 1, 0, 0, 0)
        self._terminal = os.isatty(0)
        group: dict[str, Any] = {} if self._terminal else {"setpgroup": 0}
        try:
            self._pid = os.posix_spawnp(command[0], command, os.environ, setsigmask=[], **group)
        except OSError as error:
            readiness.over()
            click.echo(f"cannot run {command[0]}: {error.strerror}", err=True)
            sys.exit(NOT_FOUND if isinstance(error, FileNotFoundError) else NOT_EXECUTABLE)

    def run(self) -> int:
        """Take signals until the command is gone, and return its exit code."""
        while self._status is None:
            self._reap()
            if self._status is None and (info := signal.sigtimedwait(TAKEN, self._left())) is not None:
                self._take(info)
            if self._waiting is not None and time.monotonic() >= self._waiting[1]:
                self._forward(self._waiting[0])
        code = os.waitstatus_to_exitcode(self._status)
        return code if code >= 0 else 128 - code

    def _left(self) -> float:
        if self._waiting is None:
            return 60.0
        return max(0.0, self._waiting[1] - time.monotonic())

    def _take(self, info: signal.struct_siginfo) -> None:
        number = info.si_signo
        if number == signal.SIGCHLD:
            return
        from_terminal = self._terminal and info.si_code == _FROM_KERNEL
        if number in PASSED:
            if not from_terminal:
                self._forward(number)
        elif from_terminal:  # the command has it already
            self._readiness.over()
            self._told = True
        elif self._told or self._waiting is not None:
            self._forward(number)
        else:
            self._readiness.over()
            self._waiting = (number, time.monotonic() + self._lame_duck)

    def _forward(self, number: int) -> None:
        if number in LAST:
            self._waiting, self._told = None, True
        with contextlib.suppress(ProcessLookupError):
            os.kill(self._pid, number)

    def _reap(self) -> None:
        with contextlib.suppress(ChildProcessError):
            while True:
                pid, status = os.waitpid(-1, os.WNOHANG)
                if pid == 0:
                    return
                if pid == self._pid:
                    self._status = status
