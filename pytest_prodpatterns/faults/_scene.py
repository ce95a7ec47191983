"""What a fault is, and what it may know of the call that it strikes.

Theory of operation.  A fault is an immutable value with one question, asked in two colours: `strike` for
synchronous calls, `strike_async` for awaited ones.  It raises, or returns an `Answer` that replaces the call, or
returns None, and then the call goes on.  What belongs to one injection and not to the fault (the call's number,
how to release a hang) comes in the `Scene`, so the same fault may be injected in many places.
"""

from __future__ import annotations

import asyncio
import threading
from abc import ABC, abstractmethod
from dataclasses import dataclass
from enum import Enum
from typing import Any

__tracebackhide__ = True  # pytest shows the line of the user; --full-trace shows ours, too


class Kind(Enum):
    """How a callable runs."""

    FUNCTION = "function"
    COROUTINE = "coroutine function"
    GENERATOR = "generator function"
    ASYNC_GENERATOR = "async generator function"

    @property
    def is_async(self) -> bool:
        """Whether it runs on an event loop."""
        return self in {Kind.COROUTINE, Kind.ASYNC_GENERATOR}

    @property
    def streams(self) -> bool:
        """Whether it yields items."""
        return self in {Kind.GENERATOR, Kind.ASYNC_GENERATOR}


class Release:
    """A gate that opens once, for threads and tasks of any loop."""

    def __init__(self) -> None:
        self._opened = threading.Event()
        self._lock = threading.Lock()
        self._waiting: set[asyncio.Future[None]] = set()  # guarded by _lock; empty once opened

    @property
    def opened(self) -> bool:
        """Whether the gate is open."""
        return self._opened.is_set()

    def open(self) -> None:
        """Let everybody go who waits; callable from any thread."""
        with self._lock:
            self._opened.set()
            waiting, self._waiting = self._waiting, set()
        for future in waiting:
            try:
                future.get_loop().call_soon_threadsafe(_finish, future)
            except RuntimeError:  # that loop is closed: nobody waits there any more
                continue

    def wait(self, seconds: float) -> bool:
        """Block this thread until the gate opens, or time is up; tell whether it is open."""
        return self._opened.wait(min(seconds, threading.TIMEOUT_MAX))

    async def wait_async(self) -> None:
        """Suspend this task until the gate opens."""
        with self._lock:
            if self._opened.is_set():
                return
            future = asyncio.get_running_loop().create_future()
            self._waiting.add(future)
        try:
            await future
        finally:
            with self._lock:
                self._waiting.discard(future)


@dataclass(frozen=True, slots=True)
class Scene:
    """Where a fault strikes.

    Attributes:
        name: The injection's name.
        call: The number of the call, from 1.
        release: Opens when the injection is undone.
    """

    name: str
    call: int
    release: Release


@dataclass(frozen=True, slots=True)
class Answer:
    """What the caller gets instead of the call."""

    value: Any


class Fault(ABC):
    """Say what happens to a call; an immutable value that prints as the code which makes it."""

    __slots__ = ()
    after: int = 0
    """How many items a stream yields before the fault strikes."""

    @abstractmethod
    def strike(self, scene: Scene) -> Answer | None:
        """Strike a synchronous call: raise, answer in its place, or return None to let it go on."""

    async def strike_async(self, scene: Scene) -> Answer | None:
        """Strike an awaited call; by default as a synchronous one."""
        return self.strike(scene)

    def check(self, kind: Kind) -> str | None:  # noqa: ARG002
        """Return why this fault cannot strike that kind of callable, or None when it can."""
        return None

    @abstractmethod
    def __str__(self) -> str: ...

    def __repr__(self) -> str:
        return str(self)


def _finish(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)
