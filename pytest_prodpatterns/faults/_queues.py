"""`full_queue`: a queue, or a pool, that is full and stays full until it is let go."""

from __future__ import annotations

import asyncio
import queue
import sys
from concurrent.futures import Executor
from types import TracebackType
from typing import Any, Protocol, Self

from pytest_prodpatterns.faults._processes_strikes import arm
from pytest_prodpatterns.faults._queues_held import AsyncioQueue, SharedQueue, ThreadQueue
from pytest_prodpatterns.faults._queues_pool import FilledPool
from pytest_prodpatterns.lab import Fillable

__tracebackhide__ = True  # pytest shows the line of the user; --full-trace shows ours, too


class Filling(Protocol):
    """How one kind of queue is filled."""

    @property
    def size(self) -> int:
        """How many places it has."""

    @property
    def filled(self) -> int:
        """How many of them are taken by the fault."""

    def fill(self) -> None:
        """Take all free places."""

    def release(self) -> None:
        """Give them back, and wake whom they were kept from."""


_filled: set[int] = set()  # ids: a pool need not be hashable, and who fills it keeps it alive


class FullQueue:
    """A queue that is full until `release()`, until its `with` block is left, or until the lab undoes it.

    Args:
        target: What is full.
        filling: How it is filled.
        hold: Whether consumers get nothing.
    """

    def __init__(self, target: Any, filling: Filling, *, hold: bool) -> None:
        self._target = target
        self._filling = filling
        self._hold = hold
        what = _described(target)
        description = f"{what} of {filling.size} is full" + (", and its consumers are held" if hold else "")
        fault, self._undo = arm("full_queue", description, self._take_back)
        _filled.add(id(target))
        try:
            filling.fill()
        except BaseException:
            self._undo.run()
            raise
        fault.fire(size=filling.size, filled=filling.filled)

    @property
    def filled(self) -> int:
        """How many places the fault takes at this moment; the others hold what is really there."""
        return 0 if self._undo.done else self._filling.filled

    @property
    def held(self) -> bool:
        """Whether consumers get nothing at this moment."""
        return self._hold and not self._undo.done

    def release(self) -> None:
        """Let the queue go; a second time does nothing."""
        self._undo.run()

    def _take_back(self) -> None:
        _filled.discard(id(self._target))
        self._filling.release()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.release()


def full_queue(target: Any, *, hold: bool = True) -> FullQueue:
    """Fill a queue or a pool to the brim, keep it full, and hold its consumers, from now on.

    No item is put into a queue, so no consumer ever gets one that is not theirs: an `asyncio.Queue` or a
    `queue.Queue` is made to say that it is full, and the places of a `multiprocessing.Queue` are taken, for all
    processes that use it. What is in the queue already stays there; consumers wait for it until the release.
    An executor gets tasks of ours that wait; after the release they end at once, as tasks that return None.

    Args:
        target: A bounded `asyncio.Queue`, `queue.Queue` or `multiprocessing.Queue`, or one of their kin; an
            executor with `capacity` and `pending` (`lab.Fillable`), such as `WorkerPool`; or any other executor
            whose `submit` blocks, or raises `queue.Full`, when it is full.
        hold: Whether consumers are held, too. Otherwise they take what is in the queue, but no place becomes
            free. Executors are full only as long as their workers are held.

    Returns:
        A handle, also a context manager: `release()` ends it, and so does the lab.

    Raises:
        ValueError: When it has no bound, is filled by us already, or `hold` is false for an executor.
        TypeError: When it is no queue that we know.
    """
    if id(target) in _filled:
        raise ValueError(f"full_queue(): {target!r} is filled already; release it first")
    return FullQueue(target, _filling(target, hold=hold), hold=hold)


def _filling(target: Any, *, hold: bool) -> Filling:
    if isinstance(target, asyncio.Queue):
        return AsyncioQueue(target, hold=hold)
    if isinstance(target, queue.Queue):
        return ThreadQueue(target, hold=hold)
    if _is_shared(target):
        return SharedQueue(target, hold=hold)
    if isinstance(target, Fillable | Executor):
        if not hold:
            raise ValueError(
                "full_queue(): an executor is full only while its workers are held: hold must be True"
            )
        return FilledPool(target)
    raise TypeError(
        f"full_queue(): target must be a queue of asyncio, queue or multiprocessing, or an executor, not {target!r}"
    )


def _is_shared(target: Any) -> bool:
    module = sys.modules.get("multiprocessing.queues")  # not loaded: nobody has one
    return module is not None and isinstance(target, module.Queue)


def _described(target: Any) -> str:
    name = getattr(target, "name", None)
    return name if isinstance(name, str) else type(target).__name__
