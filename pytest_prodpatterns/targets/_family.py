"""Everything that a host process ever started, found again even when nobody is its parent any more.

Theory of operation.  A worker outlives its pool as an orphan, in a process group of its own perhaps, under a
title that overwrote its environment.  So membership has four proofs, and one is enough: it descends from a
member, it is in the session of the host, it carries the host's marker in its environment, or it was known
before (by pid and start time, so that a recycled pid is a stranger).  Zombies are not alive.

The keeper of a server has a fifth: the kernel gives it whoever lost his parent below it, so that its children are
the server and those that ran away from it.
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass

from pytest_prodpatterns.lab import _reaper_process, guard

MARKER = "PRODPATTERNS_HOST"
"""The variable that holds a host's mark, for its descendants to inherit."""

_ROUNDS = 8
"""After so many looks at newborns, a look is good enough; two do, unless the machine forks without end."""


@dataclass(frozen=True, slots=True)
class Member:
    """A process of the family, alive when it was looked at.

    Attributes:
        pid: Its process id.
        start: When it started, in clock ticks since boot.
        parent: Who its parent was.
        session: The session that it was in.
        group: The process group that it was in.
        dead: Whether it had ended, and waited to be waited for.
    """

    pid: int
    start: int
    parent: int
    session: int
    group: int
    dead: bool

    @property
    def command(self) -> str:
        """The command line as it is now, or its name where it has none; an empty string when it is gone."""
        line = _read(self.pid, "cmdline").replace(b"\0", b" ").strip() or _read(self.pid, "comm").strip()
        return line.decode(errors="replace")

    @property
    def lives(self) -> bool:
        """Whether it still lives."""
        there = look(self.pid)
        return there is not None and there.start == self.start and not there.dead

    def signal(self, number: int) -> bool:
        """Send a signal, unless it has ended, or the pid belongs to somebody else by now.

        Returns:
            Whether it was sent.
        """
        with suppress(OSError):
            handle = os.pidfd_open(self.pid)  # from here on the pid is this process, or nobody
            try:
                if self.lives:
                    signal.pidfd_send_signal(handle, number)
                    return True
            finally:
                os.close(handle)
        return False

    def kill(self) -> None:
        """Send SIGKILL, unless the pid belongs to somebody else by now."""
        self.signal(signal.SIGKILL)


class Family:
    """The descendants of one host process.

    Args:
        root: The pid of the host, which leads a session of its own.
        mark: The value of its marker.
        adopter: Who gets the members that lost their parent, and has no other children; None for nobody.
    """

    def __init__(self, root: int, mark: str, *, adopter: int | None = None) -> None:
        self.root = root
        there = look(root)
        self._root_start = there.start if there else None
        self._mark = f"{MARKER}={mark}".encode()
        self._adopter = adopter
        self._known: set[tuple[int, int]] = set()  # (pid, start) of everybody who was ever seen

    def living(self) -> list[Member]:
        """Return the members that live, the host not among them, the oldest first; the guard learns of them."""
        return [member for member in self.look()[0] if member.pid != self.root]

    def look(self) -> tuple[list[Member], list[Member]]:
        """Return who lives, the host among them and the oldest first, and whom of theirs nobody waited for.

        The guard learns of those who live.
        """
        everybody = _everybody()
        members = self._members({pid: member for pid, member in everybody.items() if not member.dead})
        for member in members:
            self.know(member.pid, member.start)
        parents = {member.pid for member in members}
        return members, [one for one in everybody.values() if one.dead and one.parent in parents]

    def kill(self, deadline: float) -> list[Member]:
        """Kill the host and everybody else, and whom they start meanwhile.

        The resource trackers of multiprocessing end by themselves when all others have, and tidy up before;
        they get a moment for that.

        Args:
            deadline: Seconds to wait for the end of all.

        Returns:
            Those that still live.
        """
        if self._root_start is not None:  # first, for it would start others in place of the killed
            _reaper_process.send(self.root, self._root_start, signal.SIGKILL)
        until = time.monotonic() + deadline
        helpers_until = time.monotonic() + deadline / 3
        while (rest := self.living()) and time.monotonic() < until:
            for member in rest:
                if time.monotonic() > helpers_until or "resource_tracker" not in member.command:
                    member.kill()
            time.sleep(0.005)
        return rest

    def know(self, pid: int, start: int) -> None:
        """Take note of a member, and tell the guard: nobody else ends it when this process is gone."""
        if (pid, start) not in self._known:
            self._known.add((pid, start))
            guard().started(pid)

    def forget(self) -> None:
        """Take it all back from the guard."""
        for pid, _start in list(self._known):
            guard().forget(pid)

    def _members(self, everybody: dict[int, Member]) -> list[Member]:
        found: dict[int, Member] = {}
        root = everybody.get(self.root)
        session = self.root if root is None or root.start == self._root_start else None  # not a stranger's
        candidates = [member for member in everybody.values() if self._belongs(member, session)]
        while candidates:
            found.update((member.pid, member) for member in candidates)
            candidates = [
                member
                for member in everybody.values()
                if member.pid not in found and member.parent in found and member.pid != os.getpid()
            ]
        return sorted(found.values(), key=lambda member: (member.start, member.pid))

    def _belongs(self, member: Member, session: int | None) -> bool:
        if member.pid == os.getpid():
            return False
        if (member.pid, member.start) in self._known or member.session == session:
            return True
        if member.start < (self._root_start or 0):  # older than the host: no need to read its environment
            return False
        return member.parent == self._adopter or self._mark in _read(member.pid, "environ").split(b"\0")


def _everybody() -> dict[int, Member]:
    """Return all processes by pid, those among them that were born while we looked.

    A process that forks and ends would else be missed, and its child too, which came behind the list; or the child
    is there, and a parent of whom nothing is known.
    """
    seen: dict[int, Member | None] = {}
    for _ in range(_ROUNDS):
        pids = [int(entry) for entry in os.listdir("/proc") if entry.isdigit()]  # noqa: PTH208 - names alone
        missed = [pid for pid in pids if pid not in seen or _orphaned(seen[pid], seen)]
        if not missed:
            break
        seen.update((pid, look(pid)) for pid in missed)
    return {pid: member for pid, member in seen.items() if member is not None}


def _orphaned(member: Member | None, seen: dict[int, Member | None]) -> bool:
    """Tell whether the parent of a process ended after we had looked at the process."""
    if member is None or member.parent == 0:
        return False
    parent = seen.get(member.parent)
    return parent is None or parent.dead


def look(pid: int) -> Member | None:
    """Return the process that has this pid, be it alive or a zombie; None when there is none."""
    fields = _read(pid, "stat").rpartition(b")")[2].split()
    if not fields or fields[0] == b"X":
        return None
    parent, group, session = (int(field) for field in fields[1:4])
    dead = fields[0] == b"Z" and int(fields[17]) < 2  # else its other threads live on without the first
    return Member(pid, int(fields[19]), parent, session, group, dead)


def _read(pid: int, name: str) -> bytes:
    try:
        with open(f"/proc/{pid}/{name}", "rb", buffering=0) as file:  # noqa: PTH123 - a Path takes half as long again
            return file.read()
    except OSError:  # it ended, or is somebody else's
        return b""


def wait_until(done: Callable[[], bool], deadline: float, *, pause: float = 0.002) -> bool:
    """Look again and again until `done`, or until the deadline.

    Args:
        done: What to look at.
        deadline: Seconds.
        pause: Seconds between two looks.
    """
    until = time.monotonic() + deadline
    while not done():
        if time.monotonic() > until:
            return done()
        time.sleep(pause)
    return True
