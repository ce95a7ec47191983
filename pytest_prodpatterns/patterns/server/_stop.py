"""Who tells a server to stop, and how urgently: signals, and where it is a worker, the orders of its supervisor.

The first word counts, and says how long the lame duck is; a second signal forces the end. A worker is forced by order
alone: it may hear of one stop several times, from its group (Ctrl-C) and from its supervisor.
"""

from __future__ import annotations

import asyncio
import signal

from pytest_prodpatterns.lab import emit
from pytest_prodpatterns.patterns.server import _post
from pytest_prodpatterns.patterns.server._life import Life
from pytest_prodpatterns.patterns.server._post import Post
from pytest_prodpatterns.patterns.server._settings import Settings
from pytest_prodpatterns.patterns.server._state import ServerState
from pytest_prodpatterns.patterns.server._watchdog import UNHEARD, Watchdog


class Stop:
    """What was said about the end of a server.

    Args:
        settings: The server's settings.
        life: Its life, which is cut short when the end is forced.

    Attributes:
        told: Set when somebody has said stop.
        lame_duck: Seconds to go on accepting behind that; 0 before.
        replaced: Whether another worker has taken its place.
        watchdog: Ends the process when nothing else does, or None.
    """

    def __init__(self, settings: Settings, life: Life) -> None:
        self.told = asyncio.Event()
        self.lame_duck = 0.0
        self.replaced = False
        self.watchdog: Watchdog | None = None
        self._settings = settings
        self._life = life
        self._post: Post | None = None
        self._signals = 0

    def guarded(self, post: Post | None) -> Watchdog:
        """Have the end come about even if the loop is blocked, and return who sees to it.

        Args:
            post: The post of a worker, or None.
        """
        self._post = post
        self.watchdog = Watchdog(self._allowance, None if post is None else post.channel)
        return self.watchdog

    def obey(self, order: bytes) -> None:
        """Do what the supervisor says; without one, stop."""
        if order == _post.FORCE:
            self._force("the supervisor's order")
        else:
            self.replaced = self.replaced or (order == _post.RETIRE and not self.told.is_set())
            self._tell(self._settings.lame_duck if order == _post.LAME_DUCK else 0.0)

    def signalled(self, number: signal.Signals) -> None:
        """Stop at the first signal, force at a later one."""
        self._signals += 1
        emit(self._life.source, "signalled", signal=number.name, number=self._signals)
        if self._signals == 1:
            self._tell(self._settings.lame_duck if number == signal.SIGTERM else 0.0)
        elif self._post is None:
            self._force(f"a second signal, {number.name}")

    def _tell(self, lame_duck: float) -> None:
        if not self.told.is_set():
            self.lame_duck = lame_duck
            self.told.set()

    def _allowance(self, number: signal.Signals, later: bool) -> float:
        """Return the seconds that a signal leaves, the first or a later one, whatever the loop does."""
        if later and self._post is None:
            return UNHEARD
        if self._life.state is ServerState.STARTING:
            return self._settings.cleanup_timeout + UNHEARD
        return self._settings.budget - (0.0 if number == signal.SIGTERM else self._settings.lame_duck)

    def _force(self, why: str) -> None:
        self._life.force(why)
        if self._post is not None:
            self._post.tell(_post.FORCED)
        if self.watchdog is not None:
            self.watchdog.give(self._settings.cleanup_timeout + UNHEARD)
