"""The keeper of a server, in a host process of its own: it starts it, signals it, sees its end, and ends the rest.

Theory of operation.  Whoever starts a server under test must know everything that it starts in turn, and must be
neither its friend nor its victim.  So the keeper lives in a host process.  It is a subreaper: whatever runs away
from the server, through a double fork into a session of its own, becomes a child of the keeper, as it would
become one of init in a container; and as init does, the keeper waits for it at once.  With that, membership needs
no luck (`Family`), and "the keeper has no children" means that nobody lives.

All verbs take and return plain data, run in threads of their own, and are bounded.  Signals go to processes that
were proven to live and to belong to the server, by pidfd; to a whole group only while its leader has not been
waited for, so that its number cannot be another's.

If this process is killed, the reaper of its guard kills everybody that a look has shown.
"""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, Final

from pytest_prodpatterns.targets._family import MARKER, Family, Member, look, wait_until
from pytest_prodpatterns.targets.server import _keeper_start
from pytest_prodpatterns.targets.server._keeper_end import End
from pytest_prodpatterns.targets.server._keeper_limits import Limits

SERVICE: Final = "pytest_prodpatterns.targets.server._keeper:Keeper"
"""What a `Host` loads."""

TRACKER_TIME: Final = 1.0
"""Seconds that multiprocessing's resource tracker may live on to tidy up."""
KILL_TIME: Final = 5.0
"""Seconds after which even `kill` gives up."""
OVER_TIME: Final = 1.0
"""Seconds that a new start waits for the last of the server before."""

_MOST_TEXT: Final = 100_000  # bytes
_STACK: Final = "(most recent call first)"


class Keeper:
    """The verbs; for one server at a time."""

    on_main: ClassVar = ()

    def __init__(self) -> None:
        _keeper_start.be_a_plain_parent()
        self._adopts = _keeper_start.adopt_orphans()
        self._starting = threading.Lock()
        self._started: _Server | None = None

    def start(
        self,
        argv: Sequence[str],
        env: Mapping[str, str] | None,
        cwd: str | None,
        output: str,
        *,
        notify: str | None = None,
        nofile: int | None = None,
    ) -> dict[str, Any]:
        """Start a server in a session of its own.

        Args:
            argv: The words of the command.
            env: Variables for it, besides those of this process.
            cwd: Where it runs; None for here.
            output: The file that takes what it writes, at its end.
            notify: The socket for sd_notify.
            nofile: How many files it may open, as far as this process may allow that.

        Returns:
            Its `pid`; the instant before it was `started`; whether this process `adopts` those that run away.

        Raises:
            CannotStart: It cannot be run.
            RuntimeError: Another one runs.
        """
        with self._starting:
            if self._started is not None and not wait_until(self._started.over, OVER_TIME):
                raise RuntimeError(f"somebody of the server before lives: {self._started.pids()}")
            if self._started is not None:
                self._started.family.forget()
            at = time.monotonic()
            pid = _keeper_start.start(argv, _keeper_start.environment(env or {}, notify), cwd, output)
            self._started = _Server(pid, Path(output))
            if nofile is not None:
                self._started.limits.set(pid, nofile)
            return {"pid": pid, "started": at, "adopts": self._adopts}

    # -- looking -------------------------------------------------------------------------------------------

    def look(self) -> dict[str, Any]:
        """Return its `exit`, the `pids` that live, leader first, and the `zombies` that it does not wait for."""
        members, zombies = self._server.look()
        pids = [member.pid for member in members]
        return {"exit": self._server.end.exit, "pids": pids, "zombies": [member.pid for member in zombies]}

    def nobody_left(self) -> bool:
        """Tell whether nobody lives for sure: this process adopts whoever runs away, and has no children."""
        return self._adopts and self._server.end.nobody_left

    def await_exit(self, seconds: float) -> dict[str, Any] | None:
        """Wait for the end of the leader, and return it; None when it still lives."""
        return self._server.end.wait(seconds)

    def survivors(self) -> list[dict[str, Any]]:
        """Return `pid` and `command` of everybody who lives, the leader not among them."""
        end = self._server.end.exit
        fresh = end is not None and time.monotonic() - end["at"] < TRACKER_TIME
        members = [(member, member.command) for member in self._server.family.living()]
        return [
            {"pid": member.pid, "command": command}
            for member, command in members
            if member.lives and not (fresh and "resource_tracker" in command)
        ]

    # -- doing ---------------------------------------------------------------------------------------------

    def signal(self, name: str, target: str) -> dict[str, Any]:
        """Send a signal.

        Args:
            name: Of the signal, such as SIGTERM.
            target: The `leader`, its process `group`, or the whole `tree`, leader first.

        Returns:
            The `pids` that got it, and the instant before, `at`.
        """
        number = signal.Signals[name]
        if target == "leader":
            return _send(number, [self._server.leader])
        if target == "group":
            return self._server.signal_group(number)
        if target == "tree":
            return _send(number, self._server.look()[0])
        raise ValueError(f"no such target: {target!r}; there are: leader, group, tree")

    def limit_files(self, extra: int) -> int:
        """Let every member open so many more files than it has open now; return the lowest limit."""
        return self._server.limits.limit(self._server.pids(), extra)

    def free_files(self) -> None:
        """Undo `limit_files`."""
        self._server.limits.free(self._server.pids())

    def stacks(self, grace: float = 1.0) -> str:
        """Abort everybody, and return what they write of it.

        Args:
            grace: Seconds that they get together.
        """
        server = self._server
        before = server.output.stat().st_size
        server.abort(grace)
        with server.output.open("rb") as file:
            file.seek(before)
            text = file.read(_MOST_TEXT).decode(errors="replace")
        if _STACK in text:
            return text
        return f"no stacks: only Python writes them, where nothing else handles SIGABRT\n{text}".rstrip()

    def kill(self) -> list[int]:
        """Kill everybody, the leader first, until nobody lives; return whom."""
        server = self._server
        killed = dict.fromkeys(self.signal("SIGKILL", "leader")["pids"])  # first, for it would start others
        # All at one instant, newborn or not.
        killed.update(dict.fromkeys(self.signal("SIGKILL", "group")["pids"]))
        wait_until(lambda: server.over(killed), KILL_TIME)
        return list(killed)

    @property
    def _server(self) -> _Server:
        if self._started is None:
            raise RuntimeError("no server was started")
        return self._started


class _Server:
    """The server that was started, its family, and its end."""

    def __init__(self, pid: int, output: Path) -> None:
        self.pid = pid
        self.output = output
        there = look(pid)
        assert there is not None, "nobody has waited for it"
        self.leader = there
        self.family = Family(pid, os.environ.get(MARKER, ""), adopter=os.getpid())
        self.family.know(pid, there.start)
        self.limits = Limits()
        self.end = End(pid)

    def look(self) -> tuple[list[Member], list[Member]]:
        """Return who lives, the leader first, then the oldest first; and whom of theirs nobody waited for."""
        members, zombies = self.family.look()
        return sorted(members, key=lambda member: member.pid != self.pid), zombies

    def pids(self) -> list[int]:
        return [member.pid for member in self.look()[0]]

    def over(self, killed: dict[int, None] | None = None) -> bool:
        """Tell whether nobody lives any more; where `killed` is given, kill who does, and take note of him."""
        members, _ = self.look()
        if killed is not None:
            killed.update((member.pid, None) for member in members if member.signal(signal.SIGKILL))
        return not members and self.end.nobody_left

    def signal_group(self, number: int) -> dict[str, Any]:
        with self.end.unreaped() as in_time:
            group = [member for member in self.look()[0] if member.group == self.pid]
            if not in_time:  # the number of the group is nobody's for sure
                return _send(number, group)
            at = time.monotonic()
            os.killpg(self.pid, number)
            return {"pids": [member.pid for member in group], "at": at}

    def abort(self, seconds: float) -> None:
        """Abort one after the other, or what they write would be mixed."""
        until = time.monotonic() + seconds
        for member in self.look()[0]:
            self.limits.no_core(member.pid)
            if member.signal(signal.SIGABRT):
                wait_until(_ended(member), max(0.0, until - time.monotonic()))


def _ended(member: Member) -> Callable[[], bool]:
    return lambda: not member.lives


def _send(number: int, members: Iterable[Member]) -> dict[str, Any]:
    at = time.monotonic()
    return {"pids": [member.pid for member in members if member.signal(number)], "at": at}
