"""What the system knows of processes, read from /proc: nothing is cached, as pids come round again."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

PROC = Path("/proc")


class Process(NamedTuple):
    """A process for good: a pid is used again, a pid with a start time is not."""

    pid: int
    start: int


class Entry(NamedTuple):
    """One line of the table.

    Attributes:
        process: Who.
        parent: Pid of the parent.
        state: A letter: R, S, D run or wait, T and t are stopped, Z is a zombie.
    """

    process: Process
    parent: int
    state: str


def entry(pid: int, thread: int | None = None) -> Entry | None:
    """Return what is known of a process, or of one thread of it; None when it is gone."""
    path = PROC / str(pid) / "stat" if thread is None else PROC / str(pid) / "task" / str(thread) / "stat"
    try:
        fields = path.read_bytes().rpartition(b")")[2].split()  # the name before it may hold anything
    except OSError:
        return None
    return Entry(Process(pid, int(fields[19])), int(fields[1]), fields[0].decode())


def entries() -> Iterator[Entry]:
    """Yield what is known of each process."""
    for name in os.listdir(PROC):  # noqa: PTH208
        if name.isdecimal() and (found := entry(int(name))) is not None:
            yield found


def descends(pid: int, ancestor: int) -> bool:
    """Tell whether a process is a child, a grandchild, … of another one."""
    while (found := entry(pid)) is not None and found.parent > 0:
        if found.parent == ancestor:
            return True
        pid = found.parent
    return False


def family(root: int) -> list[Entry]:
    """Return all descendants of a process, parents before their children."""
    children: dict[int, list[Entry]] = {}
    for each in entries():
        children.setdefault(each.parent, []).append(each)
    found = list(children.get(root, ()))
    for each in found:  # grows while we go
        found += children.get(each.process.pid, ())
    return found


def is_stopped(pid: int) -> bool:
    """Tell whether every thread of a process stands still."""
    try:
        threads = [int(name) for name in os.listdir(PROC / str(pid) / "task")]  # noqa: PTH208
    except OSError:
        return False
    states = [found.state for thread in threads if (found := entry(pid, thread)) is not None]
    return all(state in "TtZX" for state in states) and any(state in "Tt" for state in states)


def is_pending(pid: int, number: int) -> bool:
    """Tell whether a signal was sent to a process and has not reached it: it is blocked, or all is stopped."""
    with suppress(OSError):
        for line in (PROC / str(pid) / "status").read_text().splitlines():
            name, _, value = line.partition(":")
            if name == "ShdPnd":
                return bool(int(value, 16) >> (number - 1) & 1)
    return False


def address_space(pid: int) -> int:
    """Return how many bytes of address space a process has, or 0 when it is gone."""
    try:
        pages = (PROC / str(pid) / "statm").read_text().split()[0]
    except OSError:
        return 0
    return int(pages) * os.sysconf("SC_PAGE_SIZE")
