"""The bench on which a server is attacked: a driver, the paths that are known, and what can be measured.

Theory of operation.  A file says `path: slow`; what that is, is known of the target alone.  Where the bench measures
(memory, connections, output, whether the address is free), it looks at the kernel and at /proc, and tells the
history what it saw, as events of the server: `measured` (`what`, `value`), `port` (`free`, `holders`), `spared`
(`what`, `why`: a part of a scenario that needs what is not known of the target), `moment` (`part` of a start).
"""

from __future__ import annotations

import re
import socket
import time
from typing import TYPE_CHECKING, Any, Final, Literal, TypeAlias, cast

from pytest_prodpatterns.lab import emit
from pytest_prodpatterns.scenarios._run import NotInjected, current_run
from pytest_prodpatterns.scenarios.probes._server_times import allowed
from pytest_prodpatterns.targets import TargetError
from pytest_prodpatterns.targets.server import _sockets
from pytest_prodpatterns.targets.server._protocol import Request

if TYPE_CHECKING:
    from pytest_prodpatterns.scenarios._run import Run
    from pytest_prodpatterns.targets.server._driver import ServerDriver
    from pytest_prodpatterns.targets.server._protocol import Kind, ServerCommand

Path: TypeAlias = Literal["quick", "slow", "stream", "sse", "websocket", "json", "error", "readiness"]
"""How a file names a path of the target."""

REQUIRED: Final = {
    "slow": "slow-path",
    "stream": "stream-path",
    "sse": "sse-path",
    "websocket": "websocket-path",
    "json": "json-path",
    "error": "error-path",
    "readiness": "readiness",
}
"""Word for a path -> the requirement that it is known."""

OVERDUE: Final = 1.5
"""Seconds that an end is waited for beyond what is promised, so that the evidence tells how late it is."""
PAUSE: Final = 0.02
_PEAK: Final = re.compile(r"^VmHWM:\s+(\d+) kB", re.MULTILINE)


class ServerBench:
    """The driver of a run, and what can be measured.

    Args:
        run: The run.

    Attributes:
        command: What is known of the server.
    """

    def __init__(self, run: Run) -> None:
        self._run = run
        self.command: ServerCommand = run.target.command  # type: ignore[attr-defined]
        self._driver: ServerDriver | None = None

    @property
    def driver(self) -> ServerDriver:
        """What drives the server.

        Raises:
            NotInjected: It was not started.
        """
        if self._driver is None:
            raise NotInjected("the server was not started")
        return self._driver

    def start(self, *, await_ready: bool = True, nofile: int | None = None) -> None:
        """Start the server; one that was started before is ended with all that it had.

        Raises:
            NotInjected: It does not come up.
        """
        from pytest_prodpatterns.targets.server._driver import ServerDriver  # noqa: PLC0415 - files are read without it

        if self._driver is None:
            self._driver = ServerDriver(self.command)
            self._run.stack.callback(self._driver.close)
        try:
            self._driver.start(await_ready=await_ready, nofile=nofile)
        except TargetError as error:
            raise NotInjected(str(error)) from error

    # -- requests ----------------------------------------------------------------------------------------------------

    def path(self, word: Path) -> str:
        """Return the path of that name.

        Raises:
            NotInjected: It is not known.
        """
        found: str | None = getattr(
            self.command, "path" if word == "quick" else REQUIRED[word].replace("-", "_")
        )
        if found is None:
            raise NotInjected(f"the target {self.command.missing(REQUIRED[word])}")
        return found

    def request(self, word: Path, kind: Kind | None, seconds: float | None, **fields: Any) -> Request:
        """Return a request for a path; what it is like on the wire follows from the path where nothing is said."""
        usual = word if word in {"stream", "sse", "websocket"} else "request"
        known = {name: value for name, value in fields.items() if value is not None}
        if word == "json":
            known = {"method": "POST", "headers": {"Content-Type": "application/json"}, **known}
        path = self.path(word)
        if seconds is None and "{seconds}" in path:
            seconds = 1.0
        return Request(kind=kind or usual, path=path, seconds=seconds, **known)

    def welcome(self, times: int) -> int:
        """Return how many of so many requests the server takes at once beside as many others."""
        return times if self.command.limit is None else max(1, min(times, self.command.limit // 2))

    def upload_path(self) -> Path:
        """Return where a body may be sent: to the path that takes JSON, or else to any."""
        return "json" if self.command.json_path else "quick"

    # -- signals and the end -----------------------------------------------------------------------------------------------------

    def patience(self, within: float, *, drain: bool = False) -> float:
        """Return for how many seconds an end is waited for."""
        return allowed(self.command, within, drain=drain) + OVERDUE

    def behind_lame_duck(self, seconds: float) -> float:
        """Return the seconds from a signal to a moment so far behind the lame duck."""
        return (self.command.lame_duck or 0.0) + seconds

    def end(self, patience: float, survivors_within: float = 1.0) -> None:
        """Wait for the end, enforce it where patience ends, and look who is left of a server that ended by itself."""
        driver = self.driver
        ended = driver.await_exit(patience) is not None
        if ended:
            driver.note_survivors(survivors_within)
        driver.finish(kill_after=0.0)

    # -- looking -----------------------------------------------------------------------------------------------------

    def tell(self, kind: str, **attributes: object) -> None:
        """Tell the history about the server."""
        emit(self.driver.source, kind, **attributes)

    def pids(self) -> list[int]:
        """Return the processes of the server that live, the leader first."""
        return [int(pid) for pid in self.driver.look()["pids"]]

    def peaks(self) -> dict[int, float]:
        """Return the most memory that each process of the server ever held, in megabytes."""
        return {pid: peak for pid in self.pids() if (peak := _peak(pid)) is not None}

    def connections(self, *, accepted: bool = False) -> int | None:
        """Return how many connections the kernel holds for the server; None where it does not say.

        Args:
            accepted: Count those alone that the server has taken.
        """
        found = _sockets.peers(self.driver.address)
        return None if found is None else sum(bool(peer.inode) or not accepted for peer in found)

    def await_connections(self, at_most: int, within: float) -> int | None:
        """Wait until there are no more connections than that, and return how many there are."""
        until = time.monotonic() + within
        while (left := self.connections()) is not None and left > at_most and time.monotonic() < until:
            time.sleep(PAUSE)
        return left

    def address_is_free(self) -> tuple[bool, list[int]]:
        """Tell whether the address can be had, and else which processes have it."""
        address = self.driver.address
        held = _sockets.listeners(address) or []
        holders = sorted({pid for each in held for pid in _sockets.owner_pids(each.inode)})
        if isinstance(address, str):  # a socket file that nobody listens on is no obstacle
            return not held, holders
        with socket.socket() as mine:
            # Connections that have ended do not count.
            mine.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                mine.bind(("127.0.0.1", address))
                mine.listen(1)
            except OSError:
                return False, holders
        return not held, holders


def bench() -> ServerBench:
    """Return the bench of the current run, set up when it is first asked for."""
    run = current_run()
    if "server" not in run.state:
        run.state["server"] = ServerBench(run)
    return cast("ServerBench", run.state["server"])


def _peak(pid: int) -> float | None:
    try:
        with open(f"/proc/{pid}/status", encoding="ascii", errors="replace") as file:  # noqa: PTH123 - quick
            found = _PEAK.search(file.read())
    except OSError:  # it has ended, or there is no /proc
        return None
    return int(found[1]) / 1024 if found else None


def helps(pid: int) -> bool:
    """Tell whether a process is one of multiprocessing's own: no worker, and waited for by nobody."""
    try:
        with open(f"/proc/{pid}/cmdline", "rb") as file:  # noqa: PTH123 - quick
            command = file.read()
    except OSError:  # it has ended
        return False
    return b"multiprocessing.resource_tracker" in command or b"multiprocessing.forkserver" in command


def refuse_too_many(connections: int) -> None:
    """Refuse to make more connections than this process may have.

    Args:
        connections: How many there are to be.

    Raises:
        NotInjected: The hard limit on open files forbids it.
    """
    import resource  # noqa: PLC0415 - not on every platform

    hard, spare = resource.getrlimit(resource.RLIMIT_NOFILE)[1], 100
    if hard != resource.RLIM_INFINITY and hard < connections + spare:
        raise NotInjected(
            f"this process may open {hard} files, and {connections + spare} are needed; `ulimit -Hn` tells"
        )
