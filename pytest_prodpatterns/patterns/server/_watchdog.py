"""The last resort: an end that has begun comes about, even if the event loop is blocked for ever.

Theory of operation.  A blocked loop does not hear of a signal, so a thread stands in between: it reads the numbers of
signals before the loop does, sets the time that is left, and passes them on. When the time is over, there is nothing to
drain or to clean up any more, for the loop would have to do it: what is left is to leave, and to leave the stacks, so
that somebody finds what blocked it. The timer is faulthandler's, which needs neither the loop nor the interpreter's
lock; when that lock is held, too, the signal's handler sets it.
"""

from __future__ import annotations

import contextlib
import faulthandler
import logging
import os
import select
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator
from typing import Final

log = logging.getLogger("pytest_prodpatterns.server")
UNHEARD: Final = 2.0
"""Seconds that a loop has to react to a second signal."""
_NEWS = b"\0"  # not the number of a signal


class Watchdog:
    """Ends the process with 1 when its time is over.

    Args:
        allowance: Returns the seconds that a signal leaves, the first one or a later one.
        master: When its other end is closed, it is as if a signal came; or None.
    """

    def __init__(
        self, allowance: Callable[[signal.Signals, bool], float], master: socket.socket | None
    ) -> None:
        self._allowance = allowance
        self._master = master
        self._ours, self._theirs = socket.socketpair()
        self._theirs.setblocking(False)
        self._lock = threading.RLock()  # the handler of a signal may come in between
        self._signals = 0
        self._end = float("inf")

    def heard(self, number: signal.Signals, count: int) -> None:
        """Set the time that a signal leaves; it may be heard of twice.

        Args:
            number: Which signal it was.
            count: 1 for the first that was heard there.
        """
        with self._lock:
            if count > self._signals:
                self._signals = count
                self.hurry(self._allowance(number, count > 1))

    def hurry(self, seconds: float) -> None:
        """Leave no more than that time."""
        with self._lock:
            if time.monotonic() + seconds < self._end:
                self.give(seconds)

    def give(self, seconds: float) -> None:
        """Leave that time, whatever was said before."""
        with self._lock:
            self._end = time.monotonic() + seconds
            faulthandler.dump_traceback_later(seconds + 0.1, exit=True, file=stderr())
        with contextlib.suppress(OSError):
            self._theirs.send(_NEWS)

    @contextlib.contextmanager
    def listening(self, numbers: tuple[signal.Signals, ...]) -> Iterator[None]:
        """Hear inside the block what the running loop will hear; in the main thread alone."""
        loops = signal.set_wakeup_fd(self._theirs.fileno(), warn_on_full_buffer=False)
        threading.Thread(
            target=self._listen, args=(loops, numbers), name="prodpatterns-watchdog", daemon=True
        ).start()
        try:
            yield
        finally:
            signal.set_wakeup_fd(loops)

    def _listen(self, loops: int, numbers: tuple[signal.Signals, ...]) -> None:
        """Hear, pass on, and tell when the time is over; where that is still possible."""
        count = 0
        poll = select.poll()
        poll.register(self._ours, select.POLLIN)
        if self._master is not None:
            poll.register(self._master, 0)  # its end is told without asking
        while (left := self._end - time.monotonic()) > 0:
            seen = dict(poll.poll(None if left == float("inf") else left * 1000 + 1))
            if self._master is not None and self._master.fileno() in seen:
                poll.unregister(self._master)
                self.hurry(self._allowance(signal.SIGINT, False))
            if self._ours.fileno() not in seen:
                continue
            for number in (came := self._ours.recv(64)):
                if number in numbers:
                    count += 1
                    self.heard(signal.Signals(number), count)
            with contextlib.suppress(OSError):
                os.write(loops, came.replace(_NEWS, b""))
        log.error("not a clean end: the time for it is over; what was still running:")
        for stream in (sys.stdout, sys.stderr):
            with contextlib.suppress(Exception):
                stream.flush()


def stderr() -> int:
    """Return where stacks go: faulthandler wants a file that stays."""
    try:
        return sys.stderr.fileno()
    except (AttributeError, OSError, ValueError):
        return 2
