"""What is done with what a worker said, outside every lock: it runs code of the user."""

from __future__ import annotations

import logging
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final

from pytest_prodpatterns.patterns.pool import _wire
from pytest_prodpatterns.patterns.pool._call import decode_value
from pytest_prodpatterns.patterns.pool._errors import PoolError
from pytest_prodpatterns.patterns.pool._remote import unpack_error

if TYPE_CHECKING:
    from collections.abc import Callable

    from pytest_prodpatterns.patterns.pool._task import Task

log: Final = logging.getLogger("pytest_prodpatterns.pool")


def settle_answer(task: Task[Any], frame: _wire.Frame) -> None:
    """Settle the future of a task by a worker's answer; never raises."""
    if frame.kind == _wire.ERROR:
        run_quietly(task.future.settle_error, _fit_to_raise(unpack_error(frame.body)))
        return
    try:
        value = decode_value(frame.body, frame.buffers)
    except BaseException as error:  # noqa: BLE001 - whatever the class of the value does when it is made again
        error.add_note(f"{task.name} returned, but its result could not be unpickled here")
        if not isinstance(error, Exception):
            error = PoolError(f"unpickling the result of {task.name} raised {error!r}")
        run_quietly(task.future.settle_error, error)
    else:
        run_quietly(task.future.settle, value)


def _fit_to_raise(error: Exception) -> Exception:
    """Return the error, or what stands for a StopIteration: asyncio's futures refuse one, as coroutines do."""
    if not isinstance(error, StopIteration):
        return error
    fit = RuntimeError("the task raised StopIteration")
    fit.__cause__ = error
    return fit


def deliver_log(frame: _wire.Frame) -> None:
    """Handle a log record of a worker in this process."""
    from pytest_prodpatterns.patterns.pool._logs import deliver  # noqa: PLC0415

    deliver(frame.body)


def run_quietly(settle: Callable[[Any], object], value: Any) -> None:
    """Settle a future; a callback that raises must not end who settles it."""
    try:
        settle(value)
    except BaseException:
        with suppress(Exception):  # a handler's mistake
            log.exception("a callback of a future raised")
