"""The supervisor of a pool: one thread that reads what workers say, looks at the clock, and keeps the crew.

Theory of operation.  It sleeps in `epoll` on the channels of the workers and on the pidfds of their
processes, at most until something is due. After a few naps without work it sleeps until it is woken, so that
an idle pool costs nothing; the next submit wakes it.

It is the only thread that starts and buries workers, and the only one that reads. A callback of a user's
future runs here and may keep it for ever, so whoever waits for it waits with a deadline.
"""

from __future__ import annotations

import contextlib
import os
import select
import struct
import threading
from time import monotonic
from typing import TYPE_CHECKING, Any, Final

from pytest_prodpatterns.patterns.pool import _wire
from pytest_prodpatterns.patterns.pool._answers import deliver_log, log
from pytest_prodpatterns.patterns.pool._crew import Crew
from pytest_prodpatterns.patterns.pool._remote import unpack_error
from pytest_prodpatterns.patterns.pool._watch import LEAVE, SILENCE, Watch

if TYPE_CHECKING:
    from collections.abc import Callable

    from pytest_prodpatterns.patterns.pool._books import Books
    from pytest_prodpatterns.patterns.pool._link import Link
    from pytest_prodpatterns.patterns.pool._task import Task

CLOSED_CHANNEL: Final = 0.2
"""Seconds that a worker may live on after it closed its channel."""
MANY_READS: Final = 64
NAPS: Final = 4
"""Naps without work after which the supervisor sleeps until it is woken."""


class Supervisor(threading.Thread):
    """The thread.

    Args:
        books: The pool's books.
        at_end: Called when every worker is gone and every future is settled.
    """

    def __init__(self, books: Books, at_end: Callable[[], None]) -> None:
        super().__init__(name=f"{books.settings.name}-supervisor", daemon=True)
        self._books = books
        self._at_end = at_end
        self._epoll = select.epoll()
        self._alarm = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self._epoll.register(self._alarm, select.EPOLLIN)
        self._crew = Crew(books, self._epoll)
        self._naps = 0
        self._watch = Watch(books, self._crew)
        books.set_alarm(self._alarm)

    def run(self) -> None:
        """Supervise until every worker is gone."""
        try:
            while self._turn():
                pass
        except BaseException as error:  # noqa: BLE001 - the pool must not die in silence
            self._fail(error)
            with contextlib.suppress(Exception):  # a handler's mistake
                log.exception("the supervisor of pool %r failed", self._books.settings.name)
        with self._books.lock:
            self._books.state = "ended"
            self._books.set_alarm(None)
            self._close()
            self._books.emit("closed")
        self._at_end()
        if self._books.broken is not None:  # who holds no future any more has to hear of it, too
            with contextlib.suppress(Exception):  # a handler's mistake
                log.error("%s", self._books.broken)

    def disown(self) -> None:
        """Let go of every descriptor in a forked child."""
        self._crew.disown()
        self._close()

    def _close(self) -> None:
        """Close what is ours, once: to a child that is forked just then, the number may be another's already."""
        alarm, self._alarm = self._alarm, -1
        with contextlib.suppress(OSError):
            self._epoll.close()
            os.close(alarm)

    def _fail(self, error: BaseException) -> None:
        books = self._books
        with books.lock:
            books.break_down(f"its supervisor failed: {error!r}", [error])
            while books.links:
                link = books.links.popitem()[1]
                link.kill()
                link.close()
        books.settle_doomed()

    def _turn(self) -> bool:
        """Do what is due, sleep, and handle what has happened; return False at the end."""
        books = self._books
        with books.lock:
            freed = books.cancel_postponed()
            now = monotonic()
            if now >= books.due:
                books.due = now + self._watch.look(now)
            doomed = bool(books.doomed)
            over = (
                books.state in {"draining", "killing"} and not books.links and not doomed and not books.busy
            )
            spawn = self._crew.missing() > 0 and now >= self._crew.next_at
            nap = 0.0 if doomed or spawn else self._nap(now)
            overdue = self._watch.take_overdue()
        books.gate.give(freed)
        if over:
            return False
        books.settle_doomed()
        if overdue:
            for link in overdue:
                self._condemn(link)
            return True
        if spawn:
            self._crew.spawn_missing()
        for descriptor, _events in self._epoll.poll(nap):
            self._naps = 0
            self._attend(descriptor)
        return True

    def _nap(self, now: float) -> float | None:
        """Return the seconds to sleep; None until woken."""
        books = self._books
        idle = books.state == "open" and not books.busy and not books.starting and books.due - now > SILENCE
        self._naps = self._naps + 1 if idle else 0
        books.asleep = self._naps > NAPS
        return None if books.asleep else max(0.0, books.due - now)

    def _attend(self, descriptor: int) -> None:
        link = self._books.links.get(descriptor)
        if link is not None:
            if link.backlog:
                with self._books.lock:
                    link.flush()
            self._read(link)
        elif (link := self._crew.by_pidfd.get(descriptor)) is not None:
            self._crew.bury(link, self._read)
        else:
            with contextlib.suppress(BlockingIOError):
                os.eventfd_read(self._alarm)

    def _condemn(self, link: Link) -> None:
        """End a worker whose task is overdue, unless its answer is there: we may be late ourselves."""
        for _ in range(MANY_READS):
            if link.dead or not self._read(link):
                break
        with self._books.lock:
            self._watch.condemn(link, monotonic())

    # -- what workers say -----------------------------------------------------------------------------------------

    def _read(self, link: Link) -> bool:
        """Receive once from a worker, and return whether there may be more."""
        try:
            frames = [*link.frames.receive()]
        except BlockingIOError:
            return False
        except OSError:
            link.frames.ended = True
            frames = []
        except (struct.error, MemoryError, OverflowError):  # no frame of ours: something else writes there
            link.kill()
            link.frames.ended = True
            frames = []
        if frames:
            self._book(link, frames)
        else:
            link.heard = monotonic()  # a part of a large frame is a word, too
        if not link.frames.ended:
            return True
        with self._books.lock:
            link.unwatch()
            link.desk.open = False
            if link.kill_at is None:
                link.kill_at = monotonic() + CLOSED_CHANNEL
                self._books.due = 0.0
        return False

    def _book(self, link: Link, frames: list[_wire.Frame]) -> None:
        """Book what a worker says, send it more, then settle the futures."""
        books = self._books
        answers: list[tuple[Task[Any], _wire.Frame]] = []
        with books.lock:
            now = monotonic()
            for frame in frames:
                kind = frame.kind
                if kind == _wire.LOG:
                    continue  # whoever logs may have been at his task for ever
                link.heard = now
                if kind not in {_wire.VALUE, _wire.ERROR}:
                    self._note(link, frame, now)
                    continue
                try:
                    task = books.answered(link, frame.seq, frame.seconds, now, ok=kind == _wire.VALUE)
                except LookupError:  # a stranger answers in its place: a fork of it, say
                    link.kill()
                    break
                if task is not None:
                    answers.append((task, frame))
            books.end_if_cancelled(link, now)
            books.dispatch()
        books.unsettled.extend(answers)
        if answers:
            books.gate.give(len(answers))
            self._crew.hold_until = 0.0
        for frame in frames:
            if frame.kind == _wire.LOG:
                deliver_log(frame)
        books.settle_answers()

    def _note(self, link: Link, frame: _wire.Frame, now: float) -> None:
        books = self._books
        if frame.kind == _wire.READY:
            books.restarts.became_ready()
            if link.phase == "starting":
                link.phase = "ready"
                books.emit("worker-ready", pid=link.pid)
                if link.desk not in books.ledger.desks:
                    books.ledger.hire(link.desk)
                link.head_since = now  # what was sent ahead begins now
                self._watch.share_with(link)
        elif frame.kind == _wire.BOOT_FAILED:
            link.boot_error = unpack_error(frame.body)
        elif frame.kind == _wire.SKIPPED:
            if link.phase == "ready" and not link.dead:
                link.desk.open = True
                books.ledger.offer(link.desk)
        elif frame.kind == _wire.LEAVING:
            link.phase, link.ordered, link.desk.open = "leaving", True, False
            link.kill_at = monotonic() + LEAVE
            books.due = 0.0
