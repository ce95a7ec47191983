"""What happens to a server while nobody asks: its end to the instant, its listener, its readiness.

Theory of operation.  One thread sleeps on the pidfd of the leader, and looks at the kernel's listeners in between
when it is asked to.  It says only what has changed.  The kernel is looked at on purpose: a connection of ours
would be traffic, and some servers only notice a signal when traffic comes.
"""

from __future__ import annotations

import os
import select
import threading
import time
from typing import TYPE_CHECKING, Final

from pytest_prodpatterns.lab import emit
from pytest_prodpatterns.targets.server import _sockets

if TYPE_CHECKING:
    from collections.abc import Callable

    from pytest_prodpatterns.targets.server._address import Address

LOOK: Final = 0.02
"""Seconds between two looks at the listeners."""
CROWD: Final = 1
"""A backlog is told when it begins and when it is gone, not at each change."""


class Watch:
    """The thread that watches one server.

    Args:
        pid: The leader.
        address: Where it should listen.
        source: Whose events these are.
        ended: Called once, as soon as it has ended.
        since_signal: Returns the seconds since the first signal, or None.
    """

    def __init__(
        self,
        pid: int,
        address: Address,
        source: str,
        ended: Callable[[], None],
        since_signal: Callable[[float], float | None],
    ) -> None:
        self._pidfd = _opened(pid)
        self._address = address
        self._source = source
        self._ended = ended
        self._since_signal = since_signal
        self._over = threading.Event()
        self._listening = threading.Event()
        self._inodes: frozenset[int] = frozenset()
        self._state: tuple[str, bool] | None = None
        self._lock = threading.Lock()  # invariant: _state is what was told last
        self._thread = threading.Thread(target=self._run, name=f"watch {pid}", daemon=True)
        self._thread.start()

    def listener(self) -> None:
        """Tell about the listener, from now on."""
        self._look()
        self._listening.set()

    def close(self) -> None:
        """Stop watching."""
        self._over.set()
        self._thread.join(5.0)
        if self._pidfd >= 0:
            os.close(self._pidfd)
            self._pidfd = -1

    def _run(self) -> None:
        poll = select.poll()
        if self._pidfd >= 0:
            poll.register(self._pidfd, select.POLLIN)
        while not self._over.is_set():
            if self._pidfd < 0 or poll.poll(LOOK * 1000):
                if self._listening.is_set():  # its sockets are gone, and whoever hears of the end may look
                    self._look()
                self._ended()
                break
            if self._listening.is_set():
                self._look()
        while not self._over.wait(LOOK):  # the port may be held by others, longer than by the leader
            if self._listening.is_set():
                self._look()

    def _look(self) -> None:
        with self._lock:
            found = _sockets.listeners(self._address)
            if found is None:
                if self._state is None:
                    self._state = ("not-observed", False)
                    emit(
                        self._source, "not-observed", what="listener", why="the kernel does not show it here"
                    )
                return
            inodes = frozenset(each.inode for each in found)
            self._inodes = self._inodes or inodes
            state = "closed" if not found else "listening" if inodes & self._inodes else "rebound"
            backlog = max((each.backlog for each in found), default=0)
            if (state, backlog >= CROWD) != self._state:
                self._state = (state, backlog >= CROWD)
                took = self._since_signal(time.monotonic())
                emit(self._source, "listener", state=state, backlog=backlog, took=took)


def _opened(pid: int) -> int:
    """Return a pidfd; -1 for a process that has ended already, and was waited for."""
    try:
        return os.pidfd_open(pid)
    except ProcessLookupError:
        return -1
