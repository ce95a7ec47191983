"""Room for as many sockets as the clients need: the soft limit on open files, raised and put back."""

from __future__ import annotations

import os
import resource
import threading
from contextlib import suppress
from typing import Final

_SPARE: Final = 100
"""Files that others in this process may open meanwhile."""

_lock = threading.Lock()
_holders: set[object] = set()
_change: tuple[int, int] | None = (
    None  # invariant: the limit before the first holder, and ours since the last
)


def make_room(holder: object, files: int) -> None:
    """Let this process open so many files more, as far as it may.

    Args:
        holder: For whom; until `leave`.
        files: How many.
    """
    global _change  # noqa: PLW0603
    with _lock:
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        needed = len(os.listdir("/dev/fd")) + files + _SPARE  # noqa: PTH208 - names are enough
        if soft == resource.RLIM_INFINITY or soft >= needed:
            if _change is not None:
                _holders.add(holder)  # it counts on what was raised for others
            return
        most = needed if hard == resource.RLIM_INFINITY else min(needed, hard)
        with suppress(OSError, ValueError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))
            _holders.add(holder)
            _change = (soft if _change is None else _change[0], most)


def leave(holder: object) -> None:
    """Need no room any more; the last one puts the limit back, unless somebody else has changed it."""
    global _change  # noqa: PLW0603
    with _lock:
        _holders.discard(holder)
        if _holders or _change is None:
            return
        before, ours = _change
        _change = None
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        if soft == ours:
            with suppress(OSError, ValueError):
                resource.setrlimit(resource.RLIMIT_NOFILE, (before, hard))


__all__ = ["leave", "make_room"]
