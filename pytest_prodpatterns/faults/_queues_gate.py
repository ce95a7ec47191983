"""A gate that tasks wait at, in whichever process they run, until its owner opens it or is gone.

Theory of operation.  The owner holds a record lock (`fcntl.lockf`) on a file, and a task asks for one: the kernel
lets it wait, and wakes it when the owner lets go, in whichever way.  A record lock belongs to a process: forked
children do not inherit it, so no left-over of the test can keep the gate shut.  For the same reason it does not
hold up threads of the owner; those wait at an event.
"""

from __future__ import annotations

import fcntl
import os
import tempfile
import threading
from contextlib import suppress

_events: dict[str, threading.Event] = {}  # the gates of this process


class Gate:
    """A gate, shut from the moment it is made."""

    def __init__(self) -> None:
        self._descriptor, self.path = tempfile.mkstemp(prefix="prodpatterns-gate-")
        fcntl.lockf(self._descriptor, fcntl.LOCK_EX)
        _events[self.path] = threading.Event()

    def open(self) -> None:
        """Let everybody go who waits, and whoever comes later."""
        with suppress(FileNotFoundError):
            os.unlink(self.path)  # noqa: PTH108
        os.close(self._descriptor)  # gives the lock back
        _events.pop(self.path).set()


def wait_at(path: str, owner: int) -> None:
    """Wait until a gate opens: a task for any executor.

    Args:
        path: The gate's file.
        owner: The pid of the process that made it.
    """
    event = _events.get(path)
    if owner == os.getpid():
        if event is not None:
            event.wait()
        return
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    except FileNotFoundError:  # it was opened before we came
        return
    try:
        fcntl.lockf(descriptor, fcntl.LOCK_SH)
    finally:
        os.close(descriptor)
