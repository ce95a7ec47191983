"""The limits of processes that run already."""

from __future__ import annotations

import os
import resource
from collections.abc import Iterable
from contextlib import suppress


class Limits:
    """Lower what members of a server may open, and give it back."""

    def __init__(self) -> None:
        self._before: dict[int, int] = {}  # pid -> its own limit

    def set(self, pid: int, files: int) -> None:
        """Let a process that just started open so many files, as far as this process may say so."""
        with suppress(ProcessLookupError):
            _, hard = resource.prlimit(pid, resource.RLIMIT_NOFILE)
            try:
                resource.prlimit(pid, resource.RLIMIT_NOFILE, (files, max(files, hard)))
            except (PermissionError, ValueError):
                resource.prlimit(pid, resource.RLIMIT_NOFILE, (hard, hard))

    def limit(self, pids: Iterable[int], extra: int) -> int:
        """Let each process open so many more files than now, and return the lowest limit; 0 where nobody is."""
        return min((limit for pid in pids if (limit := self._limit(pid, extra)) is not None), default=0)

    def free(self, pids: Iterable[int]) -> None:
        """Give everybody the limit of before; who came since gets that of the oldest."""
        usual = next(iter(self._before.values()), None)
        for pid in pids:
            before = self._before.get(pid, usual)
            if before is not None:
                with suppress(ProcessLookupError):
                    _set_files(pid, before)
        self._before.clear()

    def no_core(self, pid: int) -> None:
        """Let a process leave no core file behind."""
        with suppress(ProcessLookupError, PermissionError):
            _, hard = resource.prlimit(pid, resource.RLIMIT_CORE)
            resource.prlimit(pid, resource.RLIMIT_CORE, (0, hard))

    def _limit(self, pid: int, extra: int) -> int | None:
        try:
            taken = {int(entry) for entry in os.listdir(f"/proc/{pid}/fd")}  # noqa: PTH208 - names alone
            before, _ = resource.prlimit(pid, resource.RLIMIT_NOFILE)
            limit = _set_files(pid, _with_room(taken, extra))
        except (FileNotFoundError, ProcessLookupError):  # it ended
            return None
        self._before.setdefault(pid, before)
        return limit


def _with_room(taken: set[int], extra: int) -> int:
    """Return the limit below which exactly so many numbers are free; a limit is one of numbers, not of files."""
    limit = 0
    while extra or limit in taken:
        extra -= limit not in taken
        limit += 1
    return limit


def _set_files(pid: int, files: int) -> int:
    _, hard = resource.prlimit(pid, resource.RLIMIT_NOFILE)
    soft = files if hard == resource.RLIM_INFINITY else min(files, hard)
    resource.prlimit(pid, resource.RLIMIT_NOFILE, (soft, hard))
    return soft
