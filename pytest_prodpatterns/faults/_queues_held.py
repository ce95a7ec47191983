"""Queues that say they are full: those of tasks, of threads, and of processes.

Theory of operation.  Nothing is put into the queue, for what is put in somebody may take out.  The queue of a
thread or of a task asks itself how long it is before it takes or gives an item; one instance of it is made to
answer otherwise: as producers see it, it is as long as its bound, and as held consumers see it, empty.  The places
of a shared queue are a semaphore: we take what is free of it, and the lock of the consumers, too.
"""

from __future__ import annotations

import asyncio
import contextlib
import queue
import threading
from collections.abc import Callable
from typing import Any, Final

from pytest_prodpatterns.faults._scene import Release

__tracebackhide__ = True  # pytest shows the line of the user; --full-trace shows ours, too

PATIENCE: Final = 0.05
"""Real seconds between two looks at a shared queue."""


class _Patched:
    """A queue of this process, some of whose methods are ours for a time.

    Args:
        target: The queue.
        hold: Whether consumers get nothing.
    """

    def __init__(self, target: Any, *, hold: bool) -> None:
        self.size: int = bounded(target, target.maxsize)
        self.queue = target
        self.hold = hold
        self.kind = type(target)
        self._ours: dict[str, Callable[..., Any]] = {}
        self._before: dict[str, Any] = {}

    def put_on(self, **methods: Callable[..., Any]) -> None:
        """Let the queue have these methods; only such as its class has, too."""
        own = vars(self.queue)
        self._ours = {name: method for name, method in methods.items() if hasattr(self.kind, name)}
        self._before = {name: own[name] for name in self._ours if name in own}
        own.update(self._ours)

    def take_off(self) -> None:
        """Let the queue have its own methods again; a second time does nothing."""
        own = vars(self.queue)
        for name in self._ours:
            own.pop(name, None)
        own.update(self._before)
        self._ours = self._before = {}


class ThreadQueue(_Patched):
    """A `queue.Queue`, or one derived from it."""

    def __init__(self, target: queue.Queue[Any], *, hold: bool) -> None:
        super().__init__(target, hold=hold)
        self._thread = threading.local()

    @property
    def filled(self) -> int:
        """How many places are not taken by real items."""
        return max(0, self.size - self._items())

    def fill(self) -> None:
        """Be full from now on."""
        with self.queue.mutex:
            self.put_on(_qsize=self._length, _get=self._take, get=self._get, shutdown=self._shut_down)

    def release(self) -> None:
        """Be as long as it is, and wake everybody up to see it."""
        with self.queue.mutex:
            self.take_off()
            self.queue.not_empty.notify_all()
            self.queue.not_full.notify_all()

    def _items(self) -> int:
        return int(self.kind._qsize(self.queue))  # noqa: SLF001

    def _length(self) -> int:
        if not getattr(self._thread, "consumes", False):
            return max(self.size, self._items())
        return 0 if self.hold else self._items()

    def _get(self, *args: Any, **kwargs: Any) -> Any:
        self._thread.consumes = True
        try:
            return self.kind.get(self.queue, *args, **kwargs)
        finally:
            self._thread.consumes = False

    def _take(self) -> Any:
        if self._items():
            return self.kind._get(self.queue)  # noqa: SLF001
        raise queue.Empty  # waited from before the fault, with a time-out, and in vain

    def _shut_down(self, *args: Any, **kwargs: Any) -> None:
        self.release()  # consumers may take what is left, producers hear of it
        self.queue.shutdown(*args, **kwargs)


class AsyncioQueue(_Patched):
    """An `asyncio.Queue`, or one derived from it."""

    def __init__(self, target: asyncio.Queue[Any], *, hold: bool) -> None:
        super().__init__(target, hold=hold)
        self._release = Release()

    @property
    def filled(self) -> int:
        """How many places are not taken by real items."""
        return max(0, self.size - self._items())

    def fill(self) -> None:
        """Be full from now on."""
        consumers = {"get": self._get, "get_nowait": self._get_nowait, "empty": _no} if self.hold else {}
        self.put_on(full=_yes, qsize=self._length, shutdown=self._shut_down, **consumers)

    def release(self) -> None:
        """Be as long as it is, and wake as many producers as there are places, and all consumers."""
        self.take_off()
        self._release.open()
        loop = getattr(self.queue, "_loop", None)  # None: nobody waited so far
        with contextlib.suppress(RuntimeError):  # that loop is closed: nobody waits there any more
            if loop is not None:
                loop.call_soon_threadsafe(self._wake_producers)

    def _items(self) -> int:
        return int(self.kind.qsize(self.queue))

    def _length(self) -> int:
        return max(self.size, self._items())

    async def _get(self) -> Any:
        await self._release.wait_async()
        return await self.queue.get()

    def _get_nowait(self) -> Any:
        raise asyncio.QueueEmpty

    def _shut_down(self, *args: Any, **kwargs: Any) -> None:
        self.release()  # consumers may take what is left, producers hear of it
        self.queue.shutdown(*args, **kwargs)

    def _wake_producers(self) -> None:
        producers = self.queue._putters  # noqa: SLF001
        for _place in range(self.filled):
            self.queue._wakeup_next(producers)  # noqa: SLF001


class SharedQueue:
    """A `multiprocessing.Queue`, for all processes that use it.

    Args:
        target: The queue.
        hold: Whether consumers get nothing.

    Attributes:
        size: How many places it has.
        filled: How many of them we took.
    """

    def __init__(self, target: Any, *, hold: bool) -> None:
        from multiprocessing.synchronize import SEM_VALUE_MAX  # type: ignore[attr-defined]  # noqa: PLC0415

        size = target._maxsize  # noqa: SLF001
        self.size = bounded(target, 0 if size >= SEM_VALUE_MAX else size)
        self.filled = 0
        self._queue = target
        self._places = target._sem  # noqa: SLF001
        self._consumers = target._rlock  # noqa: SLF001
        self._hold = hold
        self._holds = False
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._keep, name="prodpatterns-full-queue", daemon=True)

    def fill(self) -> None:
        """Take the free places, then each that becomes free."""
        self._hold_consumers(0)
        while self._places.acquire(False):
            self.filled += 1
        self._thread.start()

    def release(self) -> None:
        """Give back what was taken."""
        self._over.set()
        if self._thread.ident is not None:
            self._thread.join()
        while self.filled:
            self.filled -= 1
            self._places.release()
        if self._holds:
            self._holds = False
            self._consumers.release()

    def _keep(self) -> None:
        """Take the place of an item that was on its way to a consumer, and the lock when that one has left."""
        while not self._over.is_set():
            if self._places.acquire(True, PATIENCE):
                self.filled += 1
            self._hold_consumers(PATIENCE)

    def _hold_consumers(self, seconds: float) -> None:
        """Take the consumers' lock. One who waits has it: there is nothing for him to get, so he is held, too."""
        if self._hold and not self._holds:
            self._holds = self._consumers.acquire(seconds > 0, seconds)


def bounded(target: Any, size: int) -> int:
    """Return the size of a queue that can be filled.

    Raises:
        ValueError: When it has no bound.
    """
    if size <= 0:
        raise ValueError(
            f"full_queue(): {target!r} has no bound, so it is never full; give it a maxsize above 0"
        )
    return size


def _yes() -> bool:
    return True


def _no() -> bool:
    return False
