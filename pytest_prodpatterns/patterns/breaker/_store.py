"""Sharing a breaker's state: the protocol, and a store for breakers of one process.

A store never stands in a call's way.  A breaker publishes each of its transitions after the fact and outside
its lock, and the store hands it what others published whenever it learns of it.  So calls read local memory
only, and a store that is down, or slow in another thread, degrades the breakers to local ones.  What is shared
is the state and the rest of the break; each breaker counts its own calls and limits its own probes.
"""

from __future__ import annotations

import threading
import weakref
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable

    from pytest_prodpatterns.patterns.breaker._state import CircuitState


@dataclass(frozen=True, slots=True)
class SharedState:
    """What breakers of one name tell each other.

    Attributes:
        state: The state.
        seconds: The rest of the break in seconds (clocks of machines differ, so no point in time).
        openings: How often they opened since they were closed.
        reason: Why, in words.
    """

    state: CircuitState
    seconds: float
    openings: int
    reason: str


class StateStore(Protocol):
    """Where breakers of one name meet. Neither method may block for long, and both may be called in any thread."""

    def attach(self, name: str, receive: Callable[[SharedState], None]) -> None:
        """Call `receive`, a bound method, with whatever others publish under `name`, the latest at once.

        Keep only a weak reference to it (`weakref.WeakMethod`): the store does not keep a breaker alive.
        """

    def publish(self, name: str, state: SharedState, origin: Callable[[SharedState], None]) -> None:
        """Tell everybody attached to `name`, except `origin`."""


class MemoryStore:
    """Share state among the breakers of one process that have the same name."""

    def __init__(self) -> None:
        self._lock = threading.RLock()
        self._latest: dict[str, SharedState] = {}
        self._members: dict[str, list[weakref.WeakMethod[Callable[[SharedState], None]]]] = {}

    def attach(self, name: str, receive: Callable[[SharedState], None]) -> None:
        """Call `receive` with whatever others publish under `name`, the latest at once."""
        with self._lock:
            self._members.setdefault(name, []).append(weakref.WeakMethod(receive))
            latest = self._latest.get(name)
        if latest is not None:
            receive(latest)

    def publish(self, name: str, state: SharedState, origin: Callable[[SharedState], None]) -> None:
        """Tell everybody attached to `name`, except `origin`."""
        with self._lock:
            self._latest[name] = state
            alive = [(member, receive) for member in self._members.get(name, ()) if (receive := member())]
            self._members[name] = [member for member, _ in alive]
        for _, receive in alive:
            if receive != origin:
                receive(state)
