"""An event loop in a thread of its own, asked from others."""

from __future__ import annotations

import asyncio
import concurrent.futures
import threading
from collections.abc import Callable
from typing import Any, Final, TypeVar

Answer = TypeVar("Answer")

_PATIENCE: Final = 30.0
"""Seconds after which a loop that does not answer is given up: a defect of ours."""


class LoopThread:
    """A selector loop of the standard library, whatever policy rules elsewhere; it starts when it is first asked.

    Args:
        name: The name of the thread.
    """

    def __init__(self, name: str) -> None:
        self._name = name
        self._lock = threading.Lock()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None
        self._defect: BaseException | None = None
        self._closed = False

    @property
    def loop(self) -> asyncio.AbstractEventLoop:
        """The loop.

        Raises:
            RuntimeError: When it was closed.
        """
        with self._lock:
            if self._closed:
                raise RuntimeError(f"the {self._name} were closed")
            if self._loop is None:
                self._loop = asyncio.SelectorEventLoop()
                self._loop.set_exception_handler(self._note_defect)
                self._thread = threading.Thread(target=self._loop.run_forever, name=self._name, daemon=True)
                self._thread.start()
            return self._loop

    @property
    def started(self) -> bool:
        """Whether the thread runs."""
        return self._loop is not None

    def ask(self, do: Callable[[], Answer]) -> Answer:
        """Call this in the thread of the loop, and return or raise what comes of it.

        Args:
            do: What is called.

        Raises:
            RuntimeError: When a callback on the loop failed before.
        """
        loop = self.loop
        if threading.current_thread() is self._thread:
            return do()
        answer: concurrent.futures.Future[Answer] = concurrent.futures.Future()
        loop.call_soon_threadsafe(_answer, answer, do)
        result = answer.result(_PATIENCE)
        self._raise_defect()
        return result

    def close(self, at_last: Callable[[], None]) -> None:
        """End the loop and the thread; may be called twice, not by the thread itself.

        Args:
            at_last: Called in the thread before it ends, if it ever began.

        Raises:
            RuntimeError: When a callback on the loop failed.
        """
        with self._lock:
            loop, self._loop, self._closed = self._loop, None, True
        if loop is not None and self._thread is not None:
            loop.call_soon_threadsafe(at_last)
            loop.call_soon_threadsafe(loop.stop)
            self._thread.join(_PATIENCE)
            loop.close()
        self._raise_defect()

    def _note_defect(self, _loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        self._defect = self._defect or context.get("exception") or RuntimeError(context["message"])

    def _raise_defect(self) -> None:
        defect, self._defect = self._defect, None
        if defect is not None:
            raise RuntimeError(f"the {self._name} failed: {defect!r}") from defect


def _answer(answer: concurrent.futures.Future[Answer], do: Callable[[], Answer]) -> None:
    try:
        answer.set_result(do())
    except BaseException as error:  # noqa: BLE001 - whoever asked gets it
        answer.set_exception(error)


__all__ = ["LoopThread"]
