"""The process of a server under test: its start, its looks, its end; one life after the other.

Theory of operation.  A life has a place to listen, clients, and a watch; a new start ends the old life first, and
takes another port, for the old one may be held by what the server left behind.  The keeper is asked under a lock,
because the watch asks it too.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import threading
import time
from collections.abc import Callable
from typing import Any, Final, Self

from pytest_prodpatterns.lab import emit
from pytest_prodpatterns.targets._host import Host, HostFailed
from pytest_prodpatterns.targets.server._address import Address, Claim, connect
from pytest_prodpatterns.targets.server._clients import Clients
from pytest_prodpatterns.targets.server._errors import CannotStart
from pytest_prodpatterns.targets.server._keeper import SERVICE
from pytest_prodpatterns.targets.server._launch import filled, words_of
from pytest_prodpatterns.targets.server._protocol import ServerCommand
from pytest_prodpatterns.targets.server._ready import Notices, Sign, await_ready, sign_of
from pytest_prodpatterns.targets.server._watch import Watch

ANSWER: Final = 10.0
"""Seconds that the keeper may take for what it does at once."""


class ServerProcess:
    """A server process, and everything that it ever started.

    Args:
        command: The server.

    Attributes:
        command: The server.
        address: Where it should listen.
        pid: Its process id; 0 before the start.
        output: The file that takes its standard output and error.
        exit: How it ended (`code`, `how`, `at`, `took`), or None while it lives.
        clients: Those who make requests.
        notices: Where it says READY=1, if it does.
    """

    def __init__(self, command: ServerCommand) -> None:
        self.command = command
        self.exit: dict[str, Any] | None
        self._host = Host(SERVICE)
        self._asking = threading.RLock()  # the host talks to one thread at a time
        self._numbers = itertools.count(1)
        self._lives = 0
        self._closed = False
        self._begin_life()

    def _begin_life(self) -> None:
        """Forget the server that was, and find a place for the next one."""
        self._lives += 1
        self.pid, self.exit = 0, None
        self._started = 0.0
        self._ended = threading.Event()  # invariant: set behind the event `exited`
        self._signals: list[float] = []  # the instants of the signals
        self._watch: Watch | None = None
        self._stop_polling: Callable[[], None] | None = None
        directory = self._host.directory
        self.output = directory / f"output-{self._lives}"
        self.output.touch()
        socket_path = str(directory / f"{self._lives}.sock")
        self._claim = None if "{uds}" in words_of(self.command) else Claim()
        self.address: Address = socket_path if self._claim is None else self._claim.port
        self.notices = Notices(directory / f"notify-{self._lives}")
        self.clients = Clients(self.address, numbers=self._numbers)

    def _end_life(self) -> None:
        """End the server and everything it ever started, and whoever looks at it."""
        with contextlib.ExitStack() as ending:  # last in, first out; each on its own
            ending.callback(self.notices.close)
            if self._claim is not None:
                ending.callback(self._claim.close)
            if self._watch is not None:
                ending.callback(self._watch.close)
            if self.pid:
                ending.callback(self._ask, "kill")
            ending.callback(self.clients.close)
            if self._stop_polling is not None:
                ending.callback(self._stop_polling)

    # -- the start -----------------------------------------------------------------------------------------------

    def start(
        self,
        *,
        await_ready: bool = True,
        sign: Sign | None = None,
        words: str = "what was asked for",
        nofile: int | None = None,
    ) -> None:
        """Start the command, and wait until it is up; what an earlier start brought is ended before.

        Args:
            await_ready: Whether to wait.
            sign: Whether it is up; by default what the command's `ready` says.
            words: What that sign is, for errors.
            nofile: How many files it may have open; None for as many as we.

        Raises:
            CannotStart: There is no process.
            DiedBeforeReady: It ended before it was up.
            ListensElsewhere: It listens, but not where it should.
            NeverReady: It was not up in time.
        """
        if self.pid:
            self._end_life()
            self._begin_life()
        argv, env, cwd = filled(self.command, self.address, self.notices.path)
        try:
            told = self._ask(
                "start", argv=argv, env=env, cwd=cwd, output=os.fspath(self.output), nofile=nofile
            )
        except HostFailed as failed:
            if failed.error != "CannotStart":
                raise
            raise CannotStart(f"the server cannot be started: {failed.text}") from None
        self.pid, self._started = told["pid"], float(told["started"])
        self._host.descendants()  # remembered, and told to the reaper
        where = {"port": self.address} if isinstance(self.address, int) else {"uds": self.address}
        emit(self.source, "started", pid=self.pid, command=self.shown, **where)
        self._watch = Watch(self.pid, self.address, self.source, self._note_end, self.since_signal)
        if await_ready:
            self.await_ready(sign, words)

    def await_ready(self, sign: Sign | None = None, words: str = "what was asked for") -> float:
        """Wait until it is up, and return the seconds that it took since its start.

        Args:
            sign: Whether it is up; by default what the command's `ready` says.
            words: What that sign is, for errors.

        Raises:
            DiedBeforeReady: It ended before it was up.
            ListensElsewhere: It listens, but not where it should.
            NeverReady: It was not up in time.
        """
        if sign is None:
            sign, words = sign_of(self)
        await_ready(self, sign, words, self.command.start_within)
        took = time.monotonic() - self._started
        emit(self.source, "ready", how=words, took=round(took, 3))
        return took

    # -- looking -------------------------------------------------------------------------------------------------

    def since_signal(self, instant: float) -> float | None:
        """Return how many seconds behind the first signal an instant was, or None before it."""
        return round(instant - self._signals[0], 3) if self._signals else None

    @property
    def source(self) -> str:
        """Whose events these are."""
        return f"server:{self.command.name}"

    @property
    def shown(self) -> str:
        """The command, in one line."""
        return " ".join(self.command.argv)[:300]

    @property
    def place(self) -> str:
        """Where it should listen, in words."""
        return f"port {self.address}" if isinstance(self.address, int) else f"the unix socket {self.address}"

    @property
    def alive(self) -> bool:
        """Whether its process lives."""
        return self.pid > 0 and self.exit is None

    def accepts(self) -> bool:
        """Tell whether a connection can be made; that is traffic."""
        with contextlib.suppress(OSError), connect(self.address, 0.5):
            return True
        return False

    def other_places(self) -> list[str]:
        """Return where its processes listen, except where they should."""
        import psutil  # noqa: PLC0415

        ports: set[int] = set()
        for pid in self.look()["pids"]:
            with contextlib.suppress(psutil.Error):
                found = psutil.Process(pid).net_connections("tcp")
                ports |= {each.laddr.port for each in found if each.status == psutil.CONN_LISTEN}
        return [f"port {port}" for port in sorted(ports - {self.address})]

    def output_tail(self, size: int = 4000) -> str:
        """Return the end of what it printed."""
        with self.output.open("rb") as file:
            file.seek(max(0, file.seek(0, os.SEEK_END) - size))
            return file.read().decode(errors="replace")

    def look(self) -> dict[str, Any]:
        """Return what the keeper sees: `exit`, `pids` (the leader first), `zombies`."""
        seen: dict[str, Any] = self._ask("look")
        return seen

    def memory(self) -> int:
        """Return the bytes of memory that all its processes hold."""
        import psutil  # noqa: PLC0415

        total = 0
        for pid in self.look()["pids"]:
            with contextlib.suppress(psutil.Error):
                total += psutil.Process(pid).memory_info().rss
        return total

    # -- the end -------------------------------------------------------------------------------------------------

    def close(self) -> None:
        """End it and everything it ever started; may be called twice."""
        if self._closed:
            return
        self._closed = True
        try:
            self._end_life()
        finally:
            self._host.close(deadline=0)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # -- inside --------------------------------------------------------------------------------------------------

    def _ask(self, verb: str, **arguments: Any) -> Any:
        with self._asking:
            return self._host.call(verb, within=ANSWER, **arguments)

    def _note_end(self) -> None:
        """Tell how the leader ended; called by the watch, at that instant."""
        with contextlib.suppress(Exception):
            seen = self._ask("await_exit", seconds=ANSWER / 2)
            took = self.since_signal(seen["at"])
            self.exit = {**seen, "took": took}
            emit(self.source, "exited", pid=self.pid, code=seen["code"], how=seen["how"], took=took)
        self._ended.set()
