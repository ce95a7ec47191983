"""What is due in a pool by time alone: deadlines, time-outs, silence, workers that must be gone by now.

All of it happens under the pool's lock, and nothing here waits or reads. Who runs too long is only noted:
the supervisor first reads what the worker may have said meanwhile, for it may be late itself.

A fork copies the locks that other threads hold, and no thread that would release them. What runs in the child
before we do (hooks of `os.register_at_fork`, a tracer, a debugger) may wait for one of them for ever. Such a worker
looks as if it were starting; it is known by its sleep, replaced, and counts as one that could not start.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from pytest_prodpatterns.patterns.pool._errors import PoolError, TaskTimeout
from pytest_prodpatterns.patterns.pool._ledger import WORK_AHEAD
from pytest_prodpatterns.patterns.pool._state import TaskEvent

if TYPE_CHECKING:
    from pytest_prodpatterns.patterns.pool._books import Books
    from pytest_prodpatterns.patterns.pool._crew import Crew
    from pytest_prodpatterns.patterns.pool._link import Link

SILENCE: Final = 0.05
"""Seconds without a word from a worker after which what it has not begun is given to others."""
SLOW_READER: Final = 100e6
"""Bytes a second that a worker reads at least; who reads a large call says nothing meanwhile."""
LEAVE: Final = 1.0
"""Seconds that a worker without a task may take to leave."""
BIRTH: Final = 2.0
"""Seconds that a forked worker may sleep before its first line."""
NAP: Final = 0.25
"""Seconds until the next look when nothing is due before."""


class Watch:
    """Look at the clock for a pool.

    Args:
        books: The pool's books.
        crew: Its workers.
    """

    def __init__(self, books: Books, crew: Crew) -> None:
        self._books = books
        self._crew = crew
        self._overdue: list[Link] = []

    def look(self, now: float) -> float:
        """Do everything that is due; return the seconds until something may be due again."""
        books = self._books
        if books.deadline is not None and now >= books.deadline:
            books.cut_off()
        if books.state == "draining" and not books.busy:
            self._send_home(now)
        wait = NAP if books.deadline is None else books.deadline - now
        forked = books.settings.start_method == "fork"
        for link in books.links.values():
            if forked and link.phase == "starting":
                wait = min(wait, self._check_birth(link, now))
            if link.desk.sent:
                wait = min(wait, self._check_head(link, now), self._check_silence(link, now))
            if link.kill_at is not None:
                if now >= link.kill_at:
                    link.kill()
                else:
                    wait = min(wait, link.kill_at - now)
        if self._crew.missing() > 0:
            wait = min(wait, self._crew.next_at - now)
        books.dispatch()
        return max(0.0, min(wait, NAP))

    def take_overdue(self) -> list[Link]:
        """Return the workers whose task has run too long, for `condemn` to look at again."""
        overdue, self._overdue = self._overdue, []
        return overdue

    def condemn(self, link: Link, now: float) -> None:
        """End a worker if its task is still overdue; a task that it never began is given to another one."""
        if link.dead or not link.desk.sent or self._time_left(link, now) > 0:
            return
        books, task = self._books, link.desk.sent[0][1]
        books.take_back(link, "timeout")
        if len(link.desk.sent) > 1:  # it has begun another one: the answer is on its way to us
            books.due = 0.0
            return
        begun = bool(link.desk.sent)
        timeout = task.options.timeout
        if begun and books.ledger.end(task, TaskEvent.GIVE_UP):
            books.tally.timed_out += 1
            books.emit("failed", task=task.id, pid=link.pid, reason="timeout")
            books.doom(task, TaskTimeout(task_id=task.id, task=task.name, timeout=timeout, pid=link.pid))
        link.end(now + books.settings.kill_grace)
        books.due = 0.0

    def share_with(self, newcomer: Link) -> None:
        """Give a new worker what a busy one has not begun, and would not for a while."""
        for link in self._books.links.values():
            waiting = len(link.desk.sent) > 1 and newcomer.heard - link.heard > WORK_AHEAD
            if waiting and link is not newcomer and link.phase == "ready":
                self._books.take_back(link, "newcomer")

    def _send_home(self, now: float) -> None:
        for link in self._books.links.values():
            if link.phase == "starting":
                link.end(now)
            elif link.phase == "ready":
                link.dismiss(now + LEAVE)

    def _check_birth(self, link: Link, now: float) -> float:
        """Kill a worker that has slept for too long; return the seconds until that may be due."""
        if not link.hangs_in_fork():
            link.heard = now
        left = link.heard + BIRTH - now
        if left > 0:
            return left
        if link.boot_error is None:
            self._books.emit("worker-hung", pid=link.pid)
            link.boot_error = PoolError(
                f"worker {link.pid} hung when it was forked: it waits for a lock that another thread of this process"
                ' held; start_method="forkserver" forks where there are no threads'
            )
        link.kill()
        return NAP

    def _check_head(self, link: Link, now: float) -> float:
        left = self._time_left(link, now)
        if left > 0:
            return left
        self._overdue.append(link)
        return NAP

    def _time_left(self, link: Link, now: float) -> float:
        """Return the seconds that the oldest task on a desk may still run."""
        timeout = link.desk.sent[0][1].options.timeout
        if timeout is None or link.phase in {"starting", "ending"}:
            return NAP
        return link.head_since + timeout - now

    def _check_silence(self, link: Link, now: float) -> float:
        """Give what a silent worker has not begun to others; return the seconds until that may be due."""
        patience = SILENCE + link.desk.sent[0][1].message.size / SLOW_READER
        silent = now - link.heard
        if silent < patience:
            return patience - silent
        if link.phase in {"starting", "ready"} and self._others_work(link) and link.unclaimed():
            self._books.take_back(link, "silence")
        return SILENCE

    def _others_work(self, link: Link) -> bool:
        links = self._books.links.values()
        return any(other is not link and other.desk.open and other.phase == "ready" for other in links)
