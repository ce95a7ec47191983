"""Signals, handled inside the event loop, and everything as before afterwards.

`signal.signal` alone does not wake an idle loop: a server that uses it acts on its SIGTERM at the next packet. And a
loop that is blocked does not hear of a signal at all: that is what the watchdog is for.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import signal
import socket
import threading
from collections import deque
from collections.abc import Callable, Collection, Iterator
from types import CodeType, FrameType
from typing import Any, Final

from pytest_prodpatterns.patterns.server._watchdog import Watchdog

SIGNALS: Final = (signal.SIGTERM, signal.SIGINT)
_noted: Final[deque[signal.Signals]] = deque()
"""Signals of this process that no loop has heard of."""


@contextlib.contextmanager
def noted() -> Iterator[None]:
    """Keep the signals that come inside the block until `handled` has a loop for them; there may be none any more.

    What a handler raises would end an event loop in the middle of being made, or be swallowed by it.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.signal(number, _note) for number in SIGNALS}
    try:
        yield
    finally:
        _set(before)
        _noted.clear()


def _note(number: int, _frame: FrameType | None) -> None:
    loop = signal.set_wakeup_fd(-1)
    if loop == -1:
        _noted.append(signal.Signals(number))
    else:  # it has the number already, and reads it when `handled` has told it what to do
        signal.set_wakeup_fd(loop)


def _set(handlers: dict[signal.Signals, Any]) -> None:
    for number, handler in handlers.items():
        signal.signal(number, signal.SIG_DFL if handler is None else handler)


@contextlib.contextmanager
def handled(
    handler: Callable[[signal.Signals], None],
    *,
    watchdog: Watchdog | None = None,
    breakable: CodeType | None = None,
) -> Iterator[None]:
    """Give SIGTERM and SIGINT to the handler inside the block; outside of the main thread they cannot be had.

    Args:
        handler: Called in the event loop.
        watchdog: Hears of them even if the loop is blocked.
        breakable: A function; if a signal finds it at work, and not waiting, it ends with CancelledError.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    loop = asyncio.get_running_loop()
    before = {number: signal.getsignal(number) for number in SIGNALS}
    counter = itertools.count(1)
    for number in SIGNALS:
        loop.add_signal_handler(number, handler, number)
        signal.signal(number, _wrapped(signal.getsignal(number), counter, watchdog, breakable))
    try:
        with contextlib.nullcontext() if watchdog is None else watchdog.listening(SIGNALS):
            while _noted:
                signal.raise_signal(_noted.popleft())
            yield
    finally:
        for number in SIGNALS:
            loop.remove_signal_handler(number)
        _set(before)


def _wrapped(
    then: Any, counter: Iterator[int], watchdog: Watchdog | None, breakable: CodeType | None
) -> Callable[[int, FrameType | None], None]:
    """Return a handler that does more than the loop's, which only wakes the loop."""

    def handle(number: int, frame: FrameType | None) -> None:
        if watchdog is not None:
            watchdog.heard(signal.Signals(number), next(counter))
        then(number, frame)
        while frame is not None and breakable is not None:
            if frame.f_code is breakable:
                raise asyncio.CancelledError
            frame = frame.f_back

    return handle


@contextlib.contextmanager
def caught(numbers: Collection[signal.Signals]) -> Iterator[socket.socket]:
    """Give a socket from which the numbers of the signals that arrive can be read; for a process without a loop."""
    ours, theirs = socket.socketpair()
    with ours, theirs:
        theirs.setblocking(False)
        before = {number: signal.signal(number, lambda *_: None) for number in numbers}
        previous = signal.set_wakeup_fd(theirs.fileno(), warn_on_full_buffer=False)
        try:
            yield ours
        finally:
            signal.set_wakeup_fd(previous)
            _set(before)
