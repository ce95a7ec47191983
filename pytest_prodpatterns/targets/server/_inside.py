"""Evidence that requests are inside a server, so that a fault meets them there and not on their way."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Final

from pytest_prodpatterns.targets.server import _sockets

if TYPE_CHECKING:
    from pytest_prodpatterns.targets.server._driver import ServerDriver

PAUSE: Final = 0.005


class Inside:
    """The wait for the requests of one phase.

    Args:
        driver: What drives the server.
        phase: The phase.
        evidence: None for what the kernel and the clients see, `log:TEXT`, or a callable.
    """

    def __init__(self, driver: ServerDriver, phase: str, evidence: str | Callable[[], bool] | None) -> None:
        if isinstance(evidence, str) and not evidence.startswith("log:"):
            raise ValueError(f"evidence must be None, log:TEXT or a callable, not {evidence!r}")
        self._driver = driver
        self._phase = phase
        self._evidence = evidence
        self._told: set[int] = set()

    def wait(self, count: int | None, deadline: float) -> int:
        """Return how many are inside, once there are `count`, or at the deadline."""
        until = time.monotonic() + deadline
        while True:
            calls = self._driver.clients.states(self._phase)
            wanted = len(calls) if count is None else count
            found = self._look(calls)
            if found >= wanted or time.monotonic() > until or not self._driver.alive:
                return found
            time.sleep(PAUSE)

    def _look(self, calls: Mapping[int, str]) -> int:
        if callable(self._evidence):
            return len(calls) if self._evidence() else 0
        if self._evidence is not None:
            words = self._evidence.removeprefix("log:").encode()
            found = self._driver.output.read_bytes().count(words)
            self._tell(list(calls)[:found], "log")
            return min(found, len(calls))
        return self._look_at_kernel(calls)

    def _look_at_kernel(self, calls: Mapping[int, str]) -> int:
        answered = {call for call, stage in calls.items() if stage in {"answering", "done"}}
        peers = _sockets.peers(self._driver.address)
        if peers is None:  # a unix socket: the client knows whether all was read
            read = self._driver.clients.read_by_server(self._phase)
        else:
            taken = {peer.port for peer in peers if peer.inode and not peer.unread}
            ports = self._driver.clients.ports(self._phase)
            read = {call for call, port in ports.items() if port in taken and calls.get(call) == "sent"}
        self._tell(read - answered, "accepted and read")
        return len(read | answered)

    def _tell(self, calls: list[int] | set[int], how: str) -> None:
        for call in sorted(set(calls) - self._told):
            self._told.add(call)
            self._driver.clients.note_entered(call, self._phase, how)
