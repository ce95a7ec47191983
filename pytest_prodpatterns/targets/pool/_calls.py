"""One call through a pool as its caller sees it: made, accepted, and what came back.

The vocabulary of the events stands at the top of `_driver`.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextlib
import threading
import time
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any

from pytest_prodpatterns.lab import emit
from pytest_prodpatterns.targets.pool import _tasks

if TYPE_CHECKING:
    from pytest_prodpatterns.targets.pool._protocol import FutureLike, PoolAdapter

_TEXT = 500
_ARGUMENT = 200
_TRACEBACK = 2000
_PLAIN = ("pid", "exitcode", "signal", "attempt", "task", "task_id", "timeout", "capacity")
"""Attributes of errors that are told where they are there and plain."""


class Call:
    """One call.

    Args:
        number: Its number in the run.
        task: The name of the function.
        phase: What the history calls it.
        arguments: What the task gets besides its ticket.

    Attributes:
        refused: What submit itself raised.
        insists: Whether the caller tries again when submit raises; that is told as `refused`, then.
    """

    def __init__(self, number: int, task: str, phase: str, arguments: list[Any]) -> None:
        self.number = number
        self.refused: BaseException | None = None
        self._task = task
        self._phase = phase
        self._arguments = arguments
        self.insists = False
        self._made = 0.0
        self._full: tuple[type[BaseException], ...] = ()
        self._then: Callable[[], object] = _nothing

    def then(self, action: Callable[[], object]) -> None:
        """Do something when the answer was told."""
        self._then = action

    def make(self, submit: Callable[..., FutureLike], adapter: PoolAdapter, gates: str) -> FutureLike | None:
        """Submit, and tell when there is an answer; None when there will be no other than the error."""
        self._full = adapter.full_errors()
        self.refused = None
        self._begin()
        try:
            future = submit(*self._work(gates))
        except BaseException as error:  # noqa: BLE001 - whatever comes is an observation
            self.refused = error
            if self.insists:
                self._say("refused", **told(error))
            else:
                self._fail(error, "submit")
            return None
        self._say("accepted", took=self._took())
        future.add_done_callback(self._finished)
        return future

    async def run(self, run: Callable[..., Awaitable[Any]], gates: str) -> None:
        """Be the caller in a task of an event loop."""
        self._begin()
        try:
            value = await run(*self._work(gates))
        except BaseException as error:  # noqa: BLE001 - a cancelled caller ends here too
            self._fail(error, "result")
        else:
            self._succeed(value)

    def _begin(self) -> None:
        self._made = time.monotonic()
        self._say("called")

    def _work(self, gates: str) -> tuple[Any, ...]:
        ticket = (self.number, self._phase, gates)
        return (getattr(_tasks, self._task), ticket, *_tasks.sent(self._task, self._arguments))

    def _finished(self, future: FutureLike) -> None:
        try:
            value = future.result(0)
        except BaseException as error:  # noqa: BLE001 - SystemExit of a task, too, is no order to us
            self._fail(error, "result")
        else:
            self._succeed(value)

    def _succeed(self, value: Any) -> None:
        right = _tasks.is_right(self._task, self.number, self._arguments, value)
        self._say(
            "returned",
            outcome="ok" if right else "wrong",
            where="result",
            took=self._took(),
            value=_small(value),
        )
        self._then()

    def _fail(self, error: BaseException, where: str) -> None:
        self._say(
            "returned", outcome=self._outcome(error, where), where=where, took=self._took(), **told(error)
        )
        self._then()

    def _outcome(self, error: BaseException, where: str) -> str:
        if isinstance(error, asyncio.CancelledError | concurrent.futures.CancelledError):
            return "cancelled"
        return "rejected" if where == "submit" and isinstance(error, self._full) else "raised"

    def _took(self) -> float:
        return round(time.monotonic() - self._made, 4)

    def _say(self, kind: str, **details: Any) -> None:
        emit(f"caller:{self._task}", kind, call=self.number, phase=self._phase, **details)


def told(error: BaseException) -> dict[str, Any]:
    """Return what an error says, as plain data; errors of strangers may raise wherever they are asked."""
    details: dict[str, Any] = {
        "error": type(error).__name__,
        "bases": [kind.__name__ for kind in type(error).__mro__[1:] if issubclass(kind, BaseException)],
        "text": _safely(lambda: str(error))[:_TEXT],
        "args": [_safely(lambda argument=argument: repr(argument))[:_ARGUMENT] for argument in error.args],  # type: ignore[misc]
        "traceback": _safely(lambda: str(error.__cause__ or ""))[-_TRACEBACK:],
    }
    for name in _PLAIN:
        value = _attribute(error, name)
        if isinstance(value, int | float | str):
            details[name] = value if not isinstance(value, int) else int(value)
    if (code := _attribute(error, "error_code")) is not None:  # pebble's name for it
        details.setdefault("exitcode", code)
    if isinstance(history := _attribute(error, "history"), tuple | list):
        details["history"] = len(history)
    return details


def in_background(action: Callable[[], Any]) -> None:
    """Do something that may hang or fail, and that nobody waits for."""

    def quietly() -> None:
        with contextlib.suppress(Exception):
            action()

    threading.Thread(target=quietly, daemon=True).start()


def _nothing() -> None:
    """Do nothing."""


def _small(value: Any) -> Any:
    if isinstance(value, bytes | bytearray | memoryview):
        return f"{len(value)} bytes"
    if value is None or isinstance(value, bool | int | float):
        return value
    text = value if isinstance(value, str) else _safely(lambda: repr(value))
    return text if len(text) <= _ARGUMENT else f"{text[:_ARGUMENT]}…"


def _attribute(error: BaseException, name: str) -> Any:
    try:
        return getattr(error, name, None)
    except Exception:  # noqa: BLE001
        return None


def _safely(say: Callable[[], str]) -> str:
    try:
        return say()
    except Exception as error:  # noqa: BLE001
        return f"<raises {type(error).__name__}>"
