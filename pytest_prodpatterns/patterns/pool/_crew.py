"""Life and death of workers; the supervisor alone comes here.

A death is dealt with in this order: read the channel to its end, book what had been answered, see from the
tokens which tasks the worker had not begun and put them back, wait for the process, and only then blame it
for the one task that is left. So a result that was sent is never lost, and a task that had not begun is never
blamed.
"""

from __future__ import annotations

import signal
from collections import deque
from time import monotonic
from typing import TYPE_CHECKING, Final

from pytest_prodpatterns.patterns.pool._errors import WorkerCrashed
from pytest_prodpatterns.patterns.pool._launch import connect, launch
from pytest_prodpatterns.patterns.pool._ledger import Desk
from pytest_prodpatterns.patterns.pool._link import Link

if TYPE_CHECKING:
    import select
    from collections.abc import Callable

    from pytest_prodpatterns.patterns.pool._books import Books
    from pytest_prodpatterns.patterns.pool._launch import Ends


KILLED_FROM_OUTSIDE: Final = (-signal.SIGKILL, -signal.SIGTERM)
"""Ends that say nothing about whether workers can start."""
UNDISTURBED: Final = 0.01
"""Seconds at most for which the other workers of a new pool wait for the first answer."""
CAUSES: Final = 10
"""Deaths that a broken pool tells of."""


class Crew:
    """Start, replace and bury the workers of a pool.

    Args:
        books: The pool's books.
        epoll: Where channels and pidfds are watched.

    Attributes:
        by_pidfd: The workers by their pidfd.
        spawn_at: When the next may be started, on the monotonic clock.
        hold_until: Until then the first worker of all comes up undisturbed.
        connecting: The ends of the worker that is being started.
    """

    def __init__(self, books: Books, epoll: select.epoll) -> None:
        self._books = books
        self._epoll = epoll
        self._numbers = 0
        self._causes: deque[BaseException] = deque(maxlen=CAUSES)  # why workers died, the last one last
        self.by_pidfd: dict[int, Link] = {}
        self.spawn_at = 0.0
        self.hold_until = 0.0
        self.connecting: Ends | None = None

    def missing(self) -> int:
        """Return how many workers are to be started; called under the lock."""
        books = self._books
        if books.state != "open" and not (books.state == "draining" and books.busy):
            return 0
        present = sum(link.phase in {"starting", "ready"} for link in books.links.values())
        return books.settings.num_workers - present

    @property
    def next_at(self) -> float:
        """When the next worker may be started."""
        return max(self.spawn_at, self.hold_until)

    def spawn_missing(self) -> None:
        """Start workers one after the other, without looking at anything else between them, but for the first."""
        while True:
            self.spawn()
            with self._books.lock:
                if self._first_has_all():
                    self.hold_until = monotonic() + UNDISTURBED
                if self.missing() < 1 or monotonic() < self.next_at:
                    return

    def spawn(self) -> None:
        """Start one worker."""
        books, settings = self._books, self._books.settings
        self._numbers += 1
        ends = process = None
        try:
            ends, channel = connect()
            self.connecting = ends
            name = f"{settings.name}-worker-{self._numbers}"
            process = launch(settings.start_method, name, channel, settings.setup())
            link = Link(process, ends, Desk(pace=books.pace), self._epoll)
        except Exception as error:  # noqa: BLE001 - no memory, no descriptors, nothing that can be pickled
            self.connecting = None
            if ends is not None:
                ends.close()
            if process is not None:
                process.kill()
                process.join(1.0)
            with books.lock:
                self._mourn(error, ready=False)
            return
        with books.lock:
            books.links[link.channel] = link
            self.connecting = None
            self.by_pidfd[link.pidfd] = link
            link.watch()
            books.emit("worker-started", pid=link.pid)
            if self._may_work_ahead():
                link.desk.window = 1  # until its first answer
                books.ledger.hire(link.desk)
                books.dispatch()
            books.due = 0.0
            if books.state == "killing":
                link.end(0.0)

    def _first_has_all(self) -> bool:
        """Tell whether the first worker has all tasks: nobody waits for another one, whose fork would delay it."""
        books = self._books
        only = next(iter(books.links.values())) if len(books.links) == 1 else None
        return (
            only is not None and only.phase == "starting" and bool(only.desk.sent) and not books.ledger.queue
        )

    def _may_work_ahead(self) -> bool:
        """Tell whether a worker gets its first task before it says that it is ready.

        A fork without an initializer begins within milliseconds, and while nobody is ready nobody else could have
        begun earlier. One that does not come up has not taken the task's token: the task goes to another.
        """
        books, settings = self._books, self._books.settings
        ahead = settings.start_method == "fork" and settings.initializer is None
        return ahead and not any(link.phase == "ready" for link in books.links.values())

    def bury(self, link: Link, read: Callable[[Link], bool]) -> None:
        """Deal with a worker that has ended.

        Args:
            link: The worker.
            read: Reads from its channel once, and returns whether there may be more.
        """
        books = self._books
        with books.lock:
            self._epoll.unregister(link.pidfd)
            link.dead, link.desk.open = True, False
        while not link.frames.ended and read(link):
            pass
        exitcode = link.reap()
        with books.lock:
            del self.by_pidfd[link.pidfd]
            books.links.pop(link.channel, None)
            books.emit("worker-died", pid=link.pid, exitcode=exitcode, ordered=link.ordered)
            crash = books.lose_desk(link, exitcode)
            link.close()
            if crash or not link.ordered:
                cause = link.boot_error or crash or WorkerCrashed(pid=link.pid, exitcode=exitcode)
                from_outside = link.boot_error is None and exitcode in KILLED_FROM_OUTSIDE
                self._mourn(cause, ready=link.phase != "starting" or from_outside)
            books.due = 0.0
        link.close_process()

    def _mourn(self, cause: BaseException, *, ready: bool) -> None:
        books = self._books
        now = monotonic()
        self._causes.append(cause)
        reason = books.restarts.died(now, ready=ready)
        self.spawn_at = now + books.restarts.delay
        books.due = 0.0
        if reason is not None and books.state in {"open", "draining"}:
            books.break_down(reason, [*self._causes])

    def disown(self) -> None:
        """Let go of a worker that is being started, in a forked child, which may be that worker."""
        if self.connecting is not None:
            self.connecting.close_in_child()
