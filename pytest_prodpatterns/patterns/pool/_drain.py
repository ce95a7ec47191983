"""SIGTERM as an order to drain: `WorkerPool.drain_on_sigterm`."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from types import FrameType

    from pytest_prodpatterns.patterns.pool._engine import Engine

PATIENCE: Final = 0.4
"""Seconds beyond its deadline that a drain waits for the supervisor."""
ENDED_BY_SIGTERM: Final = 128 + signal.SIGTERM
"""The exit status by which shells and supervisors know an end by SIGTERM."""


class _Drain:
    """One pool that drains when SIGTERM arrives, and the handler that was there before."""

    def __init__(self, engine: Engine, deadline: float | None) -> None:
        self._engine = engine
        self._deadline = deadline
        self._previous: Any = None
        self._signals = 0
        self._left = False  # whether the block was left: the signal is passed on there
        self._over = False  # the drain is over: the next SIGTERM is for the previous handler

    def install(self) -> None:
        self._previous = signal.signal(signal.SIGTERM, self._on_sigterm)

    def remove(self) -> None:
        if signal.getsignal(signal.SIGTERM) == self._on_sigterm:
            signal.signal(signal.SIGTERM, self._previous if self._previous is not None else signal.SIG_DFL)

    def leave(self) -> None:
        """Leave the block; a drain that is on ends first, and the signal is passed on here."""
        self._left = True
        if self._signals and not self._over:
            wait = None if self._deadline is None else self._deadline + PATIENCE
            self._engine.finished.wait(wait)
            self._pass_on(signal.SIGTERM, None)
        self.remove()

    def _on_sigterm(self, signum: int, frame: FrameType | None) -> None:
        if self._over:
            self._pass_on(signum, frame)
            return
        self._signals += 1
        # On a thread: this handler may have interrupted code that holds the pool's lock.
        threading.Thread(target=self._drain, args=(self._signals > 1,), name="drain", daemon=True).start()

    def _drain(self, at_once: bool) -> None:
        deadline = 0.0 if at_once else self._deadline
        self._engine.close(cancel_queued=False, deadline=deadline)
        if at_once:
            return
        if not self._engine.finished.wait(None if deadline is None else deadline + PATIENCE):
            self._engine.force()
        if self._left:
            return
        self._over = True
        os.kill(os.getpid(), signal.SIGTERM)

    def _pass_on(self, signum: int, frame: FrameType | None) -> None:
        self.remove()
        if callable(self._previous):
            self._previous(signum, frame)
        elif self._previous != signal.SIG_IGN:
            raise SystemExit(ENDED_BY_SIGTERM)


@contextlib.contextmanager
def draining_on_sigterm(engine: Engine, deadline: float | None) -> Iterator[None]:
    """Drain the pool on SIGTERM inside the block; see `WorkerPool.drain_on_sigterm`."""
    drain = _Drain(engine, deadline)
    drain.install()
    try:
        yield
    finally:
        drain.leave()
