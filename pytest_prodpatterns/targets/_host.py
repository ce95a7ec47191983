"""A process of its own for a target: started, asked, watched and ended by the engine, which never hangs with it.

Theory of operation.  The engine loads frameworks, installs signal handlers and holds threads; a pool that forks
in it would inherit all that, and one that hangs would take it along.  So such a target lives in a *host*: a
fresh interpreter in a session of its own, with default signal handlers, a private directory for temporary files,
and the lab's spool for its events.  The engine asks it over a socket and waits with a deadline.  When that comes,
the answer is evidence: `HostHung` with the stacks of all threads, or `HostDied` with what was said last.

The end is certain: the host and everything it ever started are killed (`Family`), by the reaper of the lab if
this process is gone, by the host itself if the reaper is.
"""

from __future__ import annotations

import itertools
import json
import os
import select
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from pytest_prodpatterns.lab import _reaper_process, guard
from pytest_prodpatterns.targets import _host_process
from pytest_prodpatterns.targets._family import MARKER, Family, Member, wait_until
from pytest_prodpatterns.targets._host_errors import HostDied, HostError, HostFailed, HostHung

LOOK = 0.02
"""Seconds after which a wait looks whether the host has died: its socket may be held open by children."""

_PRIVATE = ("PYTHONWARNINGS", "PYTHONDEVMODE", "PYTEST_CURRENT_TEST")
"""Variables by which a test run would change how an application behaves."""


class Host:
    """A host process and the way to talk to it; for one thread of the engine.

    Args:
        service: `module:class` of the service that it loads; its methods are the verbs.
        environment: Variables for it, besides those of this process.

    Attributes:
        pid: The process id of the host.
        directory: A directory that lives as long as the host, its TMPDIR.
    """

    def __init__(self, service: str, *, environment: Mapping[str, str] | None = None) -> None:
        self.directory = Path(tempfile.mkdtemp(prefix="prodpatterns-host-"))
        self._errors = (self.directory / "stderr").open("wb")
        mark = os.urandom(8).hex()
        ours, theirs = socket.socketpair()
        with theirs:
            self._process = self._spawn(theirs, mark, environment or {})
        self.pid = self._process.pid
        guard().started(self.pid)
        self._family = Family(self.pid, mark)
        self._line = ours
        self._line.setblocking(False)
        self._incoming = b""
        self._numbers = itertools.count(1)
        self._answers: dict[int, dict[str, Any]] = {}
        self._send({"path": sys.path, "service": service})

    def _spawn(
        self, theirs: socket.socket, mark: str, environment: Mapping[str, str]
    ) -> subprocess.Popen[bytes]:
        inherited = {name: value for name, value in os.environ.items() if name not in _PRIVATE}
        return subprocess.Popen(  # noqa: S603 - this interpreter, a file of ours
            [sys.executable, "-P", _host_process.__file__, str(theirs.fileno())],
            pass_fds=[theirs.fileno()],
            stdin=subprocess.DEVNULL,
            stdout=self._errors,
            stderr=self._errors,
            start_new_session=True,
            env={**inherited, **environment, MARKER: mark, "TMPDIR": str(self.directory)},
        )

    # -- asking --------------------------------------------------------------------------------------------

    def call(self, verb: str, *, within: float, **arguments: Any) -> Any:
        """Ask, and wait for the answer.

        Args:
            verb: A method of the service.
            within: Seconds to wait.
            arguments: Plain data for the method.

        Raises:
            HostHung: No answer came in time.
            HostDied: The process ended before it answered.
            HostFailed: The method raised.
        """
        number = self.begin(verb, **arguments)
        answer = self.wait_for(number, within, verb)
        if answer is None:
            raise HostHung(verb, within, self.stacks())
        if "error" in answer:
            raise HostFailed(answer["error"], answer["text"], answer["traceback"])
        return answer["value"]

    def begin(self, verb: str, **arguments: Any) -> int:
        """Ask, and return the number under which `wait_for` finds the answer."""
        number = next(self._numbers)
        self._send({"id": number, "verb": verb, "arguments": arguments})
        return number

    def wait_for(self, number: int, deadline: float, verb: str = "answer") -> dict[str, Any] | None:
        """Return the answer to a request, or None when there is none by the deadline.

        Raises:
            HostDied: The process ended before it answered.
        """
        until = time.monotonic() + deadline
        while number not in self._answers:
            alive = self.alive
            if not self._receive(min(LOOK, max(0.0, until - time.monotonic()))):
                if not alive and number not in self._answers:
                    raise HostDied(verb, self.how or "?", self.stderr_tail())
                if time.monotonic() > until:
                    break
        return self._answers.pop(number, None)

    def _send(self, message: Mapping[str, Any]) -> None:
        data = (json.dumps(message) + "\n").encode()
        until = time.monotonic() + 10.0
        with suppress(BrokenPipeError, ConnectionResetError):  # whoever waits for the answer learns why
            while data:
                if self._line_is(select.POLLOUT, LOOK):
                    data = data[self._line.send(data) :]
                elif not self.alive or time.monotonic() > until:
                    return

    def _receive(self, seconds: float) -> bool:
        """Take over what comes within that time; return whether anything came."""
        if not self._line_is(select.POLLIN, seconds):
            return False
        try:
            data = self._line.recv(1 << 16)
        except ConnectionResetError:
            data = b""
        if not data:
            time.sleep(min(seconds, 0.005))  # the end of the line: its process ends any moment
            return False
        *lines, self._incoming = (self._incoming + data).split(b"\n")
        for line in lines:
            answer = json.loads(line)
            self._answers[answer["id"]] = answer
        return True

    def _line_is(self, event: int, seconds: float) -> bool:
        """Wait until the line is ready; `select` alone knows no descriptor beyond 1023."""
        poll = select.poll()
        poll.register(self._line, event)
        return bool(poll.poll(seconds * 1000))

    # -- looking -------------------------------------------------------------------------------------------

    @property
    def alive(self) -> bool:
        """Whether it lives; an ended one is waited for at once, for its children may look for its pid."""
        return self._process.poll() is None

    @property
    def how(self) -> str | None:
        """How it ended (`SIGKILL`, `exit code 0`), or None while it lives."""
        code = self._process.poll()
        if code is None:
            return None
        return signal.Signals(-code).name if code < 0 else f"exit code {code}"

    def await_end(self, deadline: float) -> str | None:
        """Wait until it ended, and return how; None when it still lives at the deadline."""
        wait_until(lambda: not self.alive, deadline)
        return self.how

    def descendants(self) -> list[Member]:
        """Return everything it ever started that lives, orphans among them, the oldest first."""
        return self._family.living()

    def know(self, pid: int, start: int) -> None:
        """Take note of a descendant that was seen somewhere else."""
        self._family.know(pid, start)

    def stderr_tail(self, size: int = 4000) -> str:
        """Return the end of what it and its children wrote to standard error and output."""
        with (self.directory / "stderr").open("rb") as file:
            file.seek(max(0, file.seek(0, os.SEEK_END) - size))
            return file.read().decode(errors="replace")

    def stacks(self) -> str:
        """Return the stacks of all its threads, or why there are none."""
        if not self.alive:
            return f"it ended: {self.how}"
        path = self.directory / "stderr"
        before = path.stat().st_size
        with suppress(OSError):
            os.kill(self.pid, _host_process.STACKS_SIGNAL)
        if not wait_until(lambda: path.stat().st_size > before, 1.0):
            return "it does not run (stopped, or stuck in the kernel)"
        wait_until(_settled(path), 0.3)
        with path.open("rb") as file:
            file.seek(before)
            return file.read(50_000).decode(errors="replace")

    # -- the end -------------------------------------------------------------------------------------------

    def close(self, deadline: float = 0.5) -> list[Member]:
        """End the host and everything it ever started.

        Args:
            deadline: Seconds that it gets to leave by itself, as an application that comes to its end.

        Returns:
            What could not be ended; none, unless the kernel refuses.
        """
        self._family.living()
        if self.alive and deadline > 0:
            self.begin("leave")
            self.await_end(deadline)
        rest = self._family.kill(5.0) if self.alive else self._family.kill(3.0)
        self._process.wait(5.0)
        self._line.close()
        self._errors.close()
        self._family.forget()
        guard().forget(self.pid)
        shutil.rmtree(self.directory, ignore_errors=True)
        return rest


def start_time(pid: int) -> int | None:
    """Return when a process started, or None when it is gone or a zombie."""
    return _reaper_process.start_time(pid)


def _settled(path: Path) -> Any:
    """Return a function that tells whether a file has stopped growing."""
    sizes = [-1]

    def settled() -> bool:
        sizes.append(path.stat().st_size)
        time.sleep(0.01)
        return sizes[-1] == sizes[-2]

    return settled


__all__ = ["Host", "HostDied", "HostError", "HostFailed", "HostHung", "start_time"]
