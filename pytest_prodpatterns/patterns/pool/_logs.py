"""Log records on their way from a worker to the parent, whose handlers, levels and filters decide.

The worker's root logger gets one handler that sends, in place of those that a fork copied: two processes that
write to one file spoil it. Handlers of other loggers go too, for their records would be written twice: by the
worker's copy, and by the parent's original.
"""

from __future__ import annotations

import logging
import os
import pickle
import sys
import traceback
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final

from pytest_prodpatterns.patterns.pool._sealed import Room, Sealed, safe_repr, safe_str, seal, shorten, unseal

_ROOM: Final = 1 << 18
_LONGEST_TEXT: Final = 1 << 16
_STANDARD: Final = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}
_PLAIN: Final = _STANDARD - {"msg", "args", "message", "asctime", "exc_info", "exc_text", "stack_info"}
"""What travels as it is; the others travel as the texts that they amount to."""


def levels() -> dict[str, int]:
    """Return the levels that this process has set, by logger; the root's name is ""."""
    named = {name: logger.level for name, logger in _named_loggers() if logger.level}
    return {"": logging.getLogger().level, **named}


def forward(send: Callable[[bytes], None], level: int | Mapping[str, int]) -> None:
    """Send this process's log records to the parent from now on, for `deliver`.

    Args:
        send: Is called with each record's bytes, one call at a time; what it raises is ignored.
        level: The root's level, or the parent's `levels()`.
    """
    for _, logger in _named_loggers():
        logger.handlers.clear()
        logger.propagate = True
    root = logging.getLogger()
    root.handlers[:] = [_Sender(send)]
    wanted = level if isinstance(level, Mapping) else {"": level}
    for name, number in wanted.items():
        if logging.getLogger(name).level != number:
            logging.getLogger(name).setLevel(number)


def deliver(data: bytes | bytearray | memoryview) -> None:
    """Handle a record that a worker sent, as if it had been logged here; never raises."""
    try:
        attributes, extras = pickle.loads(data)  # noqa: S301 - a worker of ours wrote it
        attributes.update((name, unseal(value)) for name, value in extras.items())
        record = logging.makeLogRecord(attributes)
        logger = logging.getLogger(record.name)
        if logger.isEnabledFor(record.levelno):
            logger.handle(record)
    except BaseException:  # noqa: BLE001 - a filter's mistake must not end the pool
        if logging.raiseExceptions and sys.stderr:
            traceback.print_exc()


class _Sender(logging.Handler):
    """Sends records; keeps order when sending or formatting logs in turn.

    It raises nothing of its own. A KeyboardInterrupt, which is meant for the task, goes through.
    """

    def __init__(self, send: Callable[[bytes], None]) -> None:
        super().__init__()
        self._send = send
        self._process = os.getpid()
        self._waiting: deque[bytes] = deque()
        self._sending = False

    def emit(self, record: logging.LogRecord) -> None:
        # A process that the task forked has a copy of the channel, and would write in the middle of our frames.
        if os.getpid() != self._process:
            _to_stderr(record)
            return
        try:
            self._waiting.append(_packed(record))
            self._send_waiting()
        except Exception:  # noqa: BLE001 - a record must not fail a task
            self._waiting.clear()  # nor fill the memory when nobody listens any more

    def _send_waiting(self) -> None:
        if self._sending:  # this very thread, further up: the handler's lock keeps the others out
            return
        self._sending = True
        try:
            while self._waiting:
                self._send(self._waiting.popleft())
        finally:
            self._sending = False


def _to_stderr(record: logging.LogRecord) -> None:
    if logging.lastResort is not None and record.levelno >= logging.lastResort.level:
        logging.lastResort.handle(record)


def _named_loggers() -> Iterator[tuple[str, logging.Logger]]:
    for name, logger in list(logging.root.manager.loggerDict.items()):
        if isinstance(logger, logging.Logger):  # the others hold a place for a parent nobody asked for
            yield name, logger


def _packed(record: logging.LogRecord) -> bytes:
    attributes = vars(record)
    plain = {name: value for name, value in attributes.items() if name in _PLAIN}
    plain.update(msg=_message(record), args=None, exc_text=_exception(record), stack_info=_stack(record))
    extras = {
        name: value for name, value in attributes.items() if name not in _STANDARD and type(name) is str
    }
    try:
        return pickle.dumps((plain, _sealed(extras)), pickle.HIGHEST_PROTOCOL)
    except Exception:  # noqa: BLE001 - a filter replaced a standard attribute
        return pickle.dumps(({}, _sealed(plain | extras)), pickle.HIGHEST_PROTOCOL)


def _sealed(values: Mapping[str, Any]) -> dict[str, Sealed]:
    room = Room(_ROOM)
    return {name: seal(value, room) for name, value in values.items()}


def _message(record: logging.LogRecord) -> str:
    try:
        return shorten(record.getMessage(), _LONGEST_TEXT)
    except KeyboardInterrupt:  # it is meant for the task
        raise
    except BaseException:  # noqa: BLE001 - the arguments' own code
        return f"{safe_str(record.msg)} (does not fit its arguments: {safe_repr(record.args)})"


def _exception(record: logging.LogRecord) -> str | None:
    if record.exc_text or not isinstance(record.exc_info, tuple):
        return record.exc_text
    try:
        lines = traceback.format_exception(*record.exc_info)
    except KeyboardInterrupt:
        raise
    except BaseException:  # noqa: BLE001 - the exception's own code
        return f"{safe_repr(record.exc_info[1])} (its traceback could not be formatted)"
    return shorten("".join(lines).rstrip("\n"), _LONGEST_TEXT)


def _stack(record: logging.LogRecord) -> str | None:
    return None if record.stack_info is None else shorten(record.stack_info, _LONGEST_TEXT)
