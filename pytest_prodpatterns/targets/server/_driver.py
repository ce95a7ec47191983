"""Drives one server: starts it, sends requests and signals, watches, and ends it with everything it left behind.

Theory of operation.  The driver is used by one thread, which never hangs: every wait has a deadline and returns what
it saw.  What happens meanwhile is written into the history (see `_protocol`) by those who see it: requests by the
clients' thread, the end of the process and its listener by the watch.  Nothing is learned by asking the server
how it feels.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Final

from pytest_prodpatterns.lab import emit, inject
from pytest_prodpatterns.targets._family import wait_until
from pytest_prodpatterns.targets.server import _sockets
from pytest_prodpatterns.targets.server._inside import Inside
from pytest_prodpatterns.targets.server._process import ANSWER, ServerProcess
from pytest_prodpatterns.targets.server._protocol import Request, ServerCommand

if TYPE_CHECKING:
    from pytest_prodpatterns.lab import InjectedFault

POLL: Final = 0.05
"""Seconds between two looks at the readiness."""
TARGETS: Final = ("leader", "group", "tree")
_COMMAND: Final = 120
"""How much of a command line is told."""


class ServerDriver(ServerProcess):
    """One server under test: its requests, its faults, and what is seen of it.

    Args:
        command: The server.
    """

    def __init__(self, command: ServerCommand) -> None:
        super().__init__(command)
        self._faults: dict[str, InjectedFault] = {}
        self._readiness: int | None = None

    # -- requests ------------------------------------------------------------------------------------------------

    def send(self, request: Request, phase: str, times: int | None = None) -> list[int]:
        """Begin a request, so many times at once, and return the numbers of the calls.

        Args:
            request: What is asked.
            phase: What the history calls the calls.
            times: How many; by default what the request says.
        """
        return self.clients.send(request if times is None else request * times, phase)

    def await_inside(
        self,
        phase: str,
        count: int | None = None,
        deadline: float = 10.0,
        evidence: str | Callable[[], bool] | None = None,
    ) -> int:
        """Wait until requests of a phase are inside the server, and return how many are.

        Args:
            phase: The phase.
            count: How many; all by default.
            deadline: Seconds.
            evidence: How that is known. By default the kernel says so: the server has accepted the connection and
                read all that was sent, or it has answered something. `log:TEXT`: the text stands in the output
                once for each. A callable: it returns true.
        """
        return Inside(self, phase, evidence).wait(count, deadline)

    def await_answers(self, phase: str | list[str], deadline: float) -> bool:
        """Wait until every request of the phases has its end, and return whether all have."""
        return self.clients.wait(phase, deadline)

    def route(self, seconds: float, phase: str, path: str | None = None, every: float = 0.01) -> None:
        """Begin to make new connections with a request each, as a balancer does.

        Args:
            seconds: For how long.
            phase: What the history calls the calls.
            path: What is asked for; by default the quick path.
            every: Seconds between two of them.
        """
        self.clients.route(Request(path=path or self.command.path), phase, seconds, every)

    # -- watching ------------------------------------------------------------------------------------------------

    def watch(self, *, listener: bool = True, readiness: str | None = None) -> None:
        """Tell about the listener and the readiness from now on, at each change.

        Args:
            listener: Whether to watch the listener; that touches the kernel alone.
            readiness: The path that says whether traffic is welcome; that is asked on new connections.
        """
        if listener and self._watch is not None:
            self._watch.listener()
        if readiness is not None and self._stop_polling is None:
            self._readiness = None
            self._stop_polling = self.clients.poll(readiness, POLL, self._note_readiness)

    # -- faults --------------------------------------------------------------------------------------------------

    def signal(self, name: str = "SIGTERM", target: str = "leader") -> list[int]:
        """Send it a signal, and return the pids that got it.

        Args:
            name: The signal's name.
            target: `leader`, `group` (as a terminal does) or `tree`.

        Raises:
            ValueError: There is no such target.
        """
        if target not in TARGETS:
            raise ValueError(f"a signal goes to {', '.join(TARGETS)}, not to {target!r}")
        if not self.alive:
            return []
        fault = self._fault(name, f"sent to the {target} of {self.command.name}")
        pids = self._aimed_at(target)
        # All of this before the signal: what comes of it comes behind it.
        self._signals.append(time.monotonic())
        emit(self.source, "signalled", signal=name, target=target, pids=pids, number=len(self._signals))
        fault.fire(pids=pids)
        self._ask("signal", name=name, target=target)
        return pids

    def limit_files(self, extra: int) -> int:
        """Let it open only so many files more, and return how many it may have open."""
        limit: int = self._ask("limit_files", extra=extra)
        self._fault("file limit", f"{self.command.name} can open {extra} files more").fire(limit=limit)
        return limit

    def free_files(self) -> None:
        """Take the limit back."""
        self._ask("free_files")

    # -- the end -------------------------------------------------------------------------------------------------

    def await_exit(self, within: float) -> int | None:
        """Wait until the leader has ended, and return its exit code; None when it still lives."""
        self._ended.wait(within)
        return None if self.exit is None else int(self.exit["code"])

    def await_listener_closed(self, within: float) -> bool:
        """Wait until nobody listens at its address, and return whether that came to be."""
        return wait_until(lambda: not _sockets.listeners(self.address), within, pause=0.01)

    def note_survivors(self, within: float = 1.0) -> list[int]:
        """Wait until nothing of it lives but the leader, and return the pids of what does; event `survivors`."""
        left: list[dict[str, Any]] = []

        def nobody() -> bool:
            left[:] = self._ask("survivors")
            # One look at the processes misses a newborn whose parent has just gone; the keeper's word does not.
            return not left and (self.alive or self._ask("nobody_left"))

        wait_until(nobody, within, pause=0.02)
        commands = [each["command"][:_COMMAND] for each in left]
        emit(self.source, "survivors", pids=[each["pid"] for each in left], commands=commands, within=within)
        return [each["pid"] for each in left]

    def note_zombies(self, within: float = 2.0) -> list[int]:
        """Wait until it has waited for all its ended children, and return those that remain; event `zombies`."""
        wait_until(lambda: not self.look()["zombies"], within, pause=0.02)
        zombies: list[int] = self.look()["zombies"]
        emit(self.source, "zombies", pids=zombies, within=within)
        return zombies

    def note_workers(self) -> list[int]:
        """Return the pids of the descendants of the leader that live; event `workers`."""
        workers = [pid for pid in self.look()["pids"] if pid != self.pid]
        emit(self.source, "workers", pids=workers)
        return workers

    def finish(self, kill_after: float | None = None, grace: float = 0.2) -> None:
        """Wait for the end, enforce it, and let every request have its last word.

        Args:
            kill_after: Seconds to wait; then it is asked for its stacks (event `stuck`) and killed (event `killed`).
            grace: Seconds that the clients wait for what is under way.
        """
        if self.alive and kill_after is not None and self.await_exit(kill_after) is None:
            self.clients.finish(grace)  # what our killing it does to connections is no word of the server's
            stacks = self._ask("stacks")
            emit(self.source, "stuck", stacks=stacks[-4000:])
            self._kill(f"it had not ended {kill_after:g} s later")
        self.clients.finish(grace)

    # -- inside --------------------------------------------------------------------------------------------------

    def _aimed_at(self, target: str) -> list[int]:
        """Return whom a signal will reach, as far as can be said before."""
        if target == "leader":
            return [self.pid]
        tree: list[int] = self.look()["pids"]
        return tree if target == "tree" else [pid for pid in tree if _group(pid) == self.pid]

    def _kill(self, why: str) -> None:
        pids: Sequence[int] = self._ask("kill")
        emit(self.source, "killed", pids=pids, why=why)
        self._ended.wait(ANSWER)

    def _fault(self, name: str, description: str) -> InjectedFault:
        if name not in self._faults:
            self._faults[name] = inject(name, description)
        return self._faults[name]

    def _note_readiness(self, status: int, instant: float) -> None:
        if status != self._readiness:
            self._readiness = status
            ready = 200 <= status < 400
            emit(self.source, "readiness", status=status, ready=ready, took=self.since_signal(instant))


def _group(pid: int) -> int:
    """Return the process group of a process; 0 when it has ended."""
    with contextlib.suppress(ProcessLookupError):
        return os.getpgid(pid)
    return 0


__all__ = ["ServerDriver"]
