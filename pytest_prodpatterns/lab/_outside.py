"""What is pending outside an event loop: only real time can bring its answer.

Four kinds of work are outside: calls in an executor, child processes, threads, and descriptors that lead to another
process.  `Outside` says what is pending, and gives a signature that changes with any activity of theirs.
"""

# ruff: noqa: SLF001 - asyncio has no public names for these; a test pins them for each version

from __future__ import annotations

import functools
from types import BuiltinMethodType
from typing import TYPE_CHECKING, Any

from pytest_prodpatterns.lab._outside_files import Files
from pytest_prodpatterns.lab._outside_threads import Threads

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable, Mapping
    from selectors import SelectorKey


class Outside:
    """Watch what one loop has pending outside.

    Args:
        loop: The loop; it need not run yet.
        registered: What its selector watches.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, registered: Mapping[Any, SelectorKey]) -> None:
        self._loop = loop
        self._registered = registered
        self._self_pipe: int = loop._ssock.fileno()  # type: ignore[attr-defined]
        self._started = 0
        self.calls: dict[asyncio.Future[Any], str] = {}
        self.files = Files(registered, self._self_pipe)
        self.threads = Threads()

    def possible(self) -> bool:
        """Tell at little cost whether anything outside could be pending."""
        return len(self._registered) > 1 or bool(self.calls) or self.threads.strangers()

    def look(self) -> tuple[list[str], Any]:
        """Return what is pending, in words, and a signature of all activity so far."""
        self.files.refresh()
        busy = self.threads.busy()
        pending = [f"{name} in an executor" for name in self.calls.values()]
        pending += [str(file) for file in self.files.outside.values()]
        if not self.calls:  # their threads are busy for them
            pending += [f"thread {thread.name!r}" for thread in busy]
        return pending, (
            self._started,
            len(self.calls),
            [thread.ident for thread in busy],
            self.files.traffic(),
        )

    def works(self) -> bool:
        """Tell whether something is pending that ends by itself: a call, a child, a busy thread."""
        children = any(file.kind == "child" for file in self.files.outside.values())
        return bool(self.calls) or children or bool(self.threads.busy())

    def may_come(self) -> bool:
        """Tell whether something outside could still turn up: a client, an answer, a signal."""
        return bool(
            self.files.outside or self.files.listening or self._loop._signal_handlers  # type: ignore[attr-defined]
        )

    def from_outside(self, fd: int) -> bool:
        """Tell whether an event on `fd` is activity from outside the loop."""
        return fd == self._self_pipe or fd in self.files.outside

    def track(self, real: Callable[..., Any]) -> Callable[..., asyncio.Future[Any]]:
        """Return `run_in_executor` with its calls counted as pending until they are done.

        The caller gets a future of its own: a deadlock may be raised in it while the call still runs.
        """

        def run_in_executor(executor: Any, func: Callable[..., Any], *args: Any) -> asyncio.Future[Any]:
            inner: asyncio.Future[Any] = real(executor, func, *args)
            outer: asyncio.Future[Any] = self._loop.create_future()
            self.calls[inner] = _name(func)
            self._started += 1

            def finished(_: asyncio.Future[Any]) -> None:
                self.calls.pop(inner, None)
                _copy(inner, outer)

            inner.add_done_callback(finished)
            outer.add_done_callback(lambda _: inner.cancel() if outer.cancelled() else None)
            return outer

        return run_in_executor


def _name(func: Any) -> str:
    while isinstance(func, functools.partial):  # to_thread() wraps it as partial(context.run, func)
        func = func.args[0] if func.args and isinstance(func.func, BuiltinMethodType) else func.func
    return getattr(func, "__qualname__", None) or repr(func)


def _copy(source: asyncio.Future[Any], target: asyncio.Future[Any]) -> None:
    if source.cancelled():
        target.cancel()
        return
    error = source.exception()
    if target.done():
        return
    if error is not None:
        target.set_exception(error)
    else:
        target.set_result(source.result())
