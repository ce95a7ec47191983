"""What one can do with a pool but manage it: submit, map, await; the same for a pool and for its `options()`."""

from __future__ import annotations

import itertools
import time
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Executor
from typing import TYPE_CHECKING, Any, Final, ParamSpec, TypeVar

from pytest_prodpatterns.lab import emit, listening
from pytest_prodpatterns.patterns import _checks
from pytest_prodpatterns.patterns.pool._call import LARGE, ItemsEncoder, encode_call, name_of_call
from pytest_prodpatterns.patterns.pool._context import capture
from pytest_prodpatterns.patterns.pool._task import Task, TaskFuture

if TYPE_CHECKING:
    from pytest_prodpatterns.patterns.pool._call import Message
    from pytest_prodpatterns.patterns.pool._engine import Engine
    from pytest_prodpatterns.patterns.pool._gate import Gate
    from pytest_prodpatterns.patterns.pool._settings import Terms

__tracebackhide__ = True  # pytest shows the line of the user; --full-trace shows ours, too

GROUP: Final = 32
"""Tasks of a map that are handed in at once: each worker is then written to once for many."""

P = ParamSpec("P")
T = TypeVar("T")


class TaskExecutor(Executor):
    """Submit tasks to an engine, on certain terms."""

    _engine: Engine
    _gate: Gate
    _terms: Terms

    def submit(self, fn: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> TaskFuture[T]:
        """Accept a task, and return the future of its result.

        Args:
            fn: A function that workers can import, or any other callable that pickles.
            args: Its arguments; pickled here and now.
            kwargs: Its keyword arguments.

        Raises:
            QueueFull: When no place is free, at once (`when_full="reject"`) or after `queue_timeout` seconds.
            PoolClosed: After `shutdown`.
            PoolBroken: When the pool gave up.
            TypeError: When `fn` cannot be called by a worker.
            Exception: Whatever pickling the call raises; the pool is untouched then.
        """
        message = self._encoded(fn, args, kwargs)
        if not self._gate.try_take():
            self._wait_for_place()
        return self._hand_in(name_of_call(fn), (message,))[0]

    async def submit_async(self, fn: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> TaskFuture[T]:
        """Accept a task as `submit` does, but wait for a free place without blocking the loop.

        Returns:
            The future; await it for the result.

        Raises:
            Exception: As `submit`.
        """
        message = self._encoded(fn, args, kwargs)
        if not self._gate.try_take():
            self._tell_full()
            if self._terms.when_full == "reject":
                raise self._gate.full()
            await self._gate.take_async(self._terms.queue_timeout)
        return self._hand_in(name_of_call(fn), (message,))[0]

    async def run(self, fn: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> T:
        """Run a task and return its result; when the awaiting task is cancelled, so is this one.

        Raises:
            Exception: As `submit`, and whatever the task raises.
        """
        return await (await self.submit_async(fn, *args, **kwargs))

    def map(
        self,
        fn: Callable[..., T],
        *iterables: Iterable[Any],
        timeout: float | None = None,
        chunksize: int = 1,
        buffersize: int | None = None,
    ) -> Iterator[T]:
        """Return the results of `fn` over the iterables, in their order.

        Args:
            fn: Called with one item of each iterable.
            iterables: As for the built-in `map`.
            timeout: Seconds from now until the last result must be there, or None.
            chunksize: Items that make one task.
            buffersize: Tasks that are submitted ahead of the result that is asked for; with it, the
                iterables are read step by step. None: all at once, as `concurrent.futures` does.

        Raises:
            TimeoutError: From the iterator, when a result is late.
            Exception: From the iterator, whatever the task raises; the others are cancelled then.
        """
        _checks.whole("chunksize", chunksize)
        if buffersize is not None:
            _checks.whole("buffersize", buffersize)
        end = None if timeout is None else time.monotonic() + timeout
        name, messages = name_of_call(fn), self._messages(fn, iterables, chunksize)
        ahead = itertools.islice(messages, buffersize)
        futures: deque[TaskFuture[Any]] = deque()
        at_hand = all(
            isinstance(each, Sequence) for each in iterables
        )  # of others each item may take its time
        together = GROUP if at_hand else 1
        for group in _groups(ahead, together):
            futures += self._submit_all(name, group)
        results = self._results(futures, name, messages, end)
        return results if chunksize == 1 else _flat(results)

    async def amap(
        self, fn: Callable[..., T], *iterables: Iterable[Any], buffersize: int | None = None
    ) -> AsyncIterator[T]:
        """Yield the results of `fn` over the iterables, in their order.

        Args:
            fn: Called with one item of each iterable.
            iterables: As for the built-in `map`; read step by step.
            buffersize: Tasks that are submitted ahead; by default two for each worker.

        Raises:
            Exception: Whatever a task raises; the others are cancelled then.
        """
        ahead = 2 * self._engine.settings.num_workers if buffersize is None else buffersize
        calls = zip(*iterables, strict=False)
        futures: deque[TaskFuture[T]] = deque()
        try:
            for call in itertools.islice(calls, _checks.whole("buffersize", ahead)):
                futures.append(await self.submit_async(fn, *call))
            while futures:
                value = await futures[0]
                futures.popleft()
                for call in itertools.islice(calls, 1):
                    futures.append(await self.submit_async(fn, *call))
                yield value
        finally:
            _cancel_all(futures)

    def _results(
        self, futures: deque[TaskFuture[Any]], name: str, messages: Iterator[Message], end: float | None
    ) -> Iterator[Any]:
        try:
            while futures:
                value = futures[0].result(None if end is None else end - time.monotonic())
                futures.popleft()
                futures += self._submit_all(name, [*itertools.islice(messages, 1)])
                yield value
        finally:
            _cancel_all(futures)

    def _messages(
        self, fn: Callable[..., Any], iterables: Sequence[Iterable[Any]], chunksize: int
    ) -> Iterator[Message]:
        """Return the calls that make a map, each written when it is asked for."""
        if chunksize == 1:
            return (self._encoded(fn, items, {}) for items in zip(*iterables, strict=False))
        encode = ItemsEncoder(fn, star=len(iterables) != 1)
        items = zip(*iterables, strict=False) if encode.star else iter(*iterables)
        return (encode(chunk, self._context()) for chunk in _chunks(items, chunksize))

    def _encoded(self, fn: Callable[..., Any], args: Any, kwargs: Any) -> Message:
        return encode_call(fn, args, kwargs, self._context())

    def _context(self) -> Mapping[int, Any] | None:
        """Start the pool if nobody has, and return the values of the context variables that travel."""
        if self._engine.state == "new":
            self._engine.start()
        elif self._engine.state != "open":
            raise self._engine.refusal()
        places = self._engine.settings.places
        return capture(places) if places else None

    def _submit_all(self, name: str, messages: Sequence[Message]) -> list[TaskFuture[Any]]:
        """Accept tasks, as many at once as there are places; wait for more."""
        futures: list[TaskFuture[Any]] = []
        while left := messages[len(futures) :]:
            if not self._gate.try_take():
                self._wait_for_place()
            count = 1
            while count < len(left) and self._gate.try_take():
                count += 1
            futures += self._hand_in(name, left[:count])
        return futures

    def _wait_for_place(self) -> None:
        self._tell_full()
        # A callback runs on the supervisor's thread: waiting there for a place would wait for ever.
        if self._terms.when_full == "reject" or self._engine.in_supervisor():
            raise self._gate.full()
        self._gate.take(self._terms.queue_timeout)

    def _tell_full(self) -> None:
        if listening():
            emit(f"pool:{self._engine.settings.name}", "full", capacity=self._gate.capacity)

    def _hand_in(self, name: str, messages: Sequence[Message]) -> list[TaskFuture[Any]]:
        terms, engine = self._terms.task, self._engine
        tasks: list[Task[Any]] = [Task(name, each, TaskFuture(), terms, engine) for each in messages]
        try:
            self._engine.accept(tasks)
        except BaseException:  # Ctrl-C may come when they have been accepted, or have ended even
            self._gate.give(sum(self._engine.withdraw(task) for task in tasks))
            raise
        return [task.future for task in tasks]


class PoolOptions(TaskExecutor):
    """A pool, seen through other options for its tasks; `shutdown` and the rest are the pool's own."""

    def __init__(self, engine: Engine, gate: Gate, terms: Terms) -> None:
        self._engine = engine
        self._gate = gate
        self._terms = terms

    def options(self, **changes: Any) -> PoolOptions:
        """Return the same with more options changed; see `WorkerPool.options`."""
        return PoolOptions(self._engine, self._gate, self._terms.but(**changes))

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """Do nothing: the pool is not this view's to shut down."""


def _groups(messages: Iterator[Message], most: int) -> Iterator[list[Message]]:
    """Collect messages, few of which wait in memory when they are large."""
    group: list[Message] = []
    size = 0
    for message in messages:
        group.append(message)
        size += message.size
        if len(group) == most or size >= LARGE:
            yield group
            group, size = [], 0
    if group:
        yield group


def _chunks(items: Iterator[Any], size: int) -> Iterator[tuple[Any, ...]]:
    while chunk := tuple(itertools.islice(items, size)):
        yield chunk


def _flat(chunks: Iterator[list[T]]) -> Iterator[T]:
    for chunk in chunks:
        yield from chunk


def _cancel_all(futures: Iterable[TaskFuture[Any]]) -> None:
    for future in futures:
        future.cancel()
