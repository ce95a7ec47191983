"""The end of a server: its exact instant, how it came, and who is waited for."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from pytest_prodpatterns.targets.server import _keeper_start


class End:
    """Wait for a server and for everybody whom this process adopts, as init does.

    The kernel wakes us while the ended process is a zombie, so the instant that is noted is that of its end; only
    then it is waited for.  Nobody else may wait for children of this process.

    Args:
        pid: The server, a child of this process.
    """

    def __init__(self, pid: int) -> None:
        self.exit: dict[str, Any] | None = None
        self._pid = pid
        self._told = threading.Event()
        self._over = threading.Event()
        self._reaping = threading.Lock()
        self._reaped = False
        threading.Thread(target=self._wait_for_all, name="the end", daemon=True).start()

    def wait(self, seconds: float) -> dict[str, Any] | None:
        """Wait for the end of the server, and return it; None when it still lives."""
        self._told.wait(seconds)
        return self.exit

    @property
    def nobody_left(self) -> bool:
        """Whether this process has no children any more: nobody of the server lives, or can come to live."""
        return self._over.is_set()

    @contextmanager
    def unreaped(self) -> Iterator[bool]:
        """Keep the server from being waited for; tells whether that was in time, so that its pid is its own."""
        with self._reaping:
            yield not self._reaped

    def _wait_for_all(self) -> None:
        try:
            while ended := os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOWAIT):
                if ended.si_pid == self._pid:
                    self._note(time.monotonic(), ended.si_code, ended.si_status)
                    self._reap()
                else:
                    os.waitpid(ended.si_pid, 0)
        except ChildProcessError:
            self._over.set()

    def _note(self, at: float, reason: int, status: int) -> None:
        code = status if reason == os.CLD_EXITED else -status
        self.exit = {"code": code, "how": _how(code), "at": at}
        self._told.set()

    def _reap(self) -> None:
        with self._reaping:
            _, status = os.waitpid(self._pid, 0)
            self._reaped = True
            _keeper_start.ended(self._pid, os.waitstatus_to_exitcode(status))


def _how(code: int) -> str:
    if code >= 0:
        return f"exit code {code}"
    try:
        return signal.Signals(-code).name
    except ValueError:  # a real-time signal
        return f"signal {-code}"
