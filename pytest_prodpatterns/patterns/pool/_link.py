"""One worker as the pool sees it: its process, the ends of its channel, and its desk.

A link does I/O and decides nothing. All of it but `receive` is used under the pool's lock.
"""

from __future__ import annotations

import array
import fcntl
import os
import select
import signal
import termios
from collections import deque
from contextlib import suppress
from time import monotonic
from typing import TYPE_CHECKING, Any, Final, Literal

from pytest_prodpatterns.patterns.pool import _wire
from pytest_prodpatterns.patterns.pool._ledger import Desk

if TYPE_CHECKING:
    from collections.abc import Sequence
    from multiprocessing.process import BaseProcess

    from pytest_prodpatterns.patterns.pool._call import Buffer
    from pytest_prodpatterns.patterns.pool._launch import Ends
    from pytest_prodpatterns.patterns.pool._task import Task

Phase = Literal["starting", "ready", "leaving", "ending"]
"""`leaving`: it takes no task any more and goes by itself; `ending`: it was told to die."""

EXIT_CODE_WAIT: Final = 1.0
"""Seconds that a fork server may take to tell how a process ended that has ended."""


class Link:
    """One worker.

    Attributes:
        process: The process.
        pid: Its pid, also of its process group.
        pidfd: Readable once it has ended.
        desk: What lies with it.
        phase: Where it stands.
        heard: When it last said something or was seen to start, on the monotonic clock.
        head_since: When the oldest task on the desk became the oldest.
        kill_at: When it is killed unless it has ended, or None.
        ordered: Whether its end is no accident.
        dead: Whether its process has ended.
        boot_error: Why it could not start, if it could not.
        tasks_done: How many tasks it has answered.
        started_at: When it was started.
    """

    def __init__(self, process: BaseProcess, ends: Ends, desk: Desk, epoll: select.epoll) -> None:
        assert process.pid is not None
        self.process = process
        self.pid = process.pid
        self.pidfd = os.pidfd_open(self.pid)
        self.frames = _wire.Frames(ends.sock)
        self.desk = desk
        desk.owner = self
        self.phase: Phase = "starting"
        self.heard = self.head_since = self.started_at = monotonic()
        self.kill_at: float | None = None
        self.ordered = False
        self.dead = False
        self.boot_error: Exception | None = None
        self.tasks_done = 0
        self._ends = ends
        self._epoll = epoll
        self._out: deque[memoryview] = deque()  # what the channel did not take yet

    @property
    def channel(self) -> int:
        """The descriptor of the channel."""
        return self._ends.sock.fileno()

    @property
    def backlog(self) -> bool:
        """Whether something waits until the channel takes more."""
        return bool(self._out)

    def watch(self) -> None:
        """Have the supervisor woken by what it says, and by its end."""
        self._epoll.register(self.channel, select.EPOLLIN)
        self._epoll.register(self.pidfd, select.EPOLLIN)

    def unwatch(self) -> None:
        """Have the supervisor woken by its end only: it says nothing any more."""
        with suppress(OSError):
            self._epoll.unregister(self.channel)

    def hangs_in_fork(self) -> bool:
        """Tell whether it sleeps and has not come to its first line, which gives it a process group of its own."""
        try:
            with open(f"/proc/{self.pid}/stat", "rb") as file:  # noqa: PTH123 - it is looked at often
                asleep = file.read().rpartition(b")")[2].split()[0] == b"S"
            return asleep and os.getpgid(self.pid) != self.pid  # in this order: it may begin between the two
        except OSError:  # it has ended
            return False

    def current_task(self) -> Task[Any] | None:
        """Return the task that it has begun, or None."""
        sent = self.desk.sent
        if not sent or self.dead or self.unclaimed() >= len(sent):
            return None
        return sent[0][1]

    def send(self, calls: Sequence[tuple[int, Task[Any]]]) -> None:
        """Send tasks; what the channel does not take now is kept for `flush`."""
        tokens = b"".join([_wire.TOKEN.pack(seq) for seq, _task in calls])
        os.write(self._ends.tokens_in, tokens)
        parts: list[Buffer] = []
        for seq, task in calls:
            parts += _wire.frame(_wire.TASK, seq, task.message)
        if self._out or len(parts) > len(calls):  # something large
            self._out.extend(memoryview(part).cast("B") for part in parts if len(part))
            self.flush()
            return
        data = b"".join(parts) if len(parts) > 1 else parts[0]
        try:
            count = self._ends.sock.send(data)
        except ConnectionError:  # it has died; its end is on its way to us
            return
        except OSError:  # the channel is full, or there is no memory for it now
            count = 0
        if count < len(data):
            self._out.append(memoryview(data)[count:])
            self._epoll.modify(self.channel, select.EPOLLIN | select.EPOLLOUT)

    def flush(self) -> None:
        """Send what waits, as far as the channel takes it; have the supervisor woken when it takes more."""
        self._flush()
        with suppress(OSError):  # not watched any more
            self._epoll.modify(
                self.channel, select.EPOLLIN | select.EPOLLOUT if self._out else select.EPOLLIN
            )

    def _flush(self) -> None:
        while self._out:
            parts = [part for part, _ in zip(self._out, range(_wire.MANY_PARTS), strict=False)]
            try:
                count = self._ends.sock.sendmsg(parts)
            except ConnectionError:
                self._out.clear()
                return
            except OSError:
                return
            _wire.sent(self._out, count)
            self.heard = monotonic()  # it reads

    def unclaimed(self) -> int:
        """Return how many tasks of the desk it has not begun."""
        size = array.array("i", [0])
        fcntl.ioctl(self._ends.tokens_out, termios.FIONREAD, size)
        return size[0] // _wire.TOKEN.size

    def retract(self) -> int:
        """Take back all tasks that it has not begun, and return how many these are; the youngest of the desk."""
        try:
            return len(os.read(self._ends.tokens_out, 1 << 16)) // _wire.TOKEN.size
        except BlockingIOError:
            return 0

    def dismiss(self, kill_at: float) -> None:
        """Tell it to leave when it has answered everything, and have it killed if it has not by then."""
        self.phase = "leaving"
        self.ordered = True
        self.kill_at = kill_at
        self.desk.open = False
        with suppress(OSError):
            self._ends.sock.shutdown(1)  # SHUT_WR

    def end(self, kill_at: float) -> None:
        """Tell it to die, and have it killed if it has not by then."""
        self.phase = "ending"
        self.ordered = True
        self.desk.open = False
        self.kill_at = kill_at
        self.signal(signal.SIGTERM)
        self.signal(signal.SIGCONT)  # a stopped process gets no SIGTERM

    def signal(self, signum: int) -> None:
        """Send it a signal; one that has ended is not touched."""
        with suppress(OSError):
            signal.pidfd_send_signal(self.pidfd, signum)

    def kill(self) -> None:
        """Kill it and every process of its group, which bears its pid."""
        self.signal(signal.SIGKILL)
        with suppress(OSError):
            os.killpg(self.pid, signal.SIGKILL)

    def reap(self) -> int | None:
        """Wait for a process that has ended, with all of its group, and return its exit code."""
        self.kill()
        self.process.join(EXIT_CODE_WAIT)
        return self.process.exitcode

    def close(self) -> None:
        """Close every descriptor; the kernel kills what is left of the group."""
        self._ends.close()
        with suppress(OSError):
            os.close(self.pidfd)

    def close_process(self) -> None:
        """Release what `multiprocessing` holds; only the process that started it may do so."""
        with suppress(ValueError):  # not waited for, after all
            self.process.close()
