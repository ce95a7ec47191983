"""The books of a pool: what is decided about tasks and workers under its one lock.

Theory of operation.  Callers hand tasks in on their own threads and send them straight to a worker with room:
the quickest way there is. Everything that comes back is booked by the supervisor. Both do so here, under
`lock`; what runs code of the user (unpickling, callbacks of futures) is done outside it, by `_answers`.

No method here waits: a send takes what the channel takes, and the rest is kept.
"""

from __future__ import annotations

import contextlib
import os
import threading
from collections import deque
from time import monotonic
from typing import TYPE_CHECKING, Any, Final, Literal

from pytest_prodpatterns.lab import emit, listening
from pytest_prodpatterns.patterns.pool._answers import run_quietly, settle_answer
from pytest_prodpatterns.patterns.pool._errors import (
    PoisonTask,
    PoolBroken,
    PoolClosed,
    PoolError,
    ShutdownCancelled,
    WorkerCrashed,
)
from pytest_prodpatterns.patterns.pool._ledger import Ledger
from pytest_prodpatterns.patterns.pool._restarts import Restarts
from pytest_prodpatterns.patterns.pool._state import FINAL, TaskEvent, TaskState, advance
from pytest_prodpatterns.patterns.pool._stats import Tally
from pytest_prodpatterns.patterns.pool._task import Retry

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from pytest_prodpatterns.patterns.pool._gate import Gate
    from pytest_prodpatterns.patterns.pool._link import Link
    from pytest_prodpatterns.patterns.pool._settings import Settings
    from pytest_prodpatterns.patterns.pool._task import Task
    from pytest_prodpatterns.patterns.pool._wire import Frame

State = Literal["new", "open", "draining", "killing", "ended", "foreign"]
"""`foreign` is the pool of another process, in a forked child."""


MANY: Final = 64
"""Tasks that may wait, while every worker has one, for the next answer to send them all at once."""


class Books:
    """The shared state of a pool; everything but `settings` and `gate` is guarded by `lock`.

    Attributes:
        settings: The pool's settings.
        gate: Its places; has a lock of its own.
        lock: Held by every method here but `refusal`, `settle_doomed` and `settle_answers`.
        ledger: Its tasks.
        links: Its workers, by the descriptor of their channel.
        tally: What it has done.
        restarts: How often workers died.
        state: Where it stands.
        broken: Why it gave up.
        deadline: When what is left is killed, on the monotonic clock.
        due: When the supervisor has to look at the clock again.
        asleep: Whether the supervisor sleeps until it is woken.
        doomed: Futures that fail, until somebody settles them outside the lock.
        unsettled: Answers that are booked, until somebody settles their futures.
        postponed: Tasks that were cancelled while the lock was held, perhaps by the very thread that cancels:
            a finalizer or a signal handler may interrupt who holds it.
    """

    def __init__(self, settings: Settings, gate: Gate) -> None:
        self.settings = settings
        self.gate = gate
        self.lock = threading.Lock()
        self.ledger = Ledger()
        self.links: dict[int, Link] = {}
        self.tally = Tally()
        self.restarts = Restarts(settings.max_restarts, settings.restart_period, settings.max_boot_failures)
        self.state: State = "new"
        self.broken: PoolBroken | None = None
        self.deadline: float | None = None
        self.due = 0.0
        self.asleep = False
        self.doomed: deque[tuple[Task[Any], BaseException]] = deque()  # emptied without the lock
        self.unsettled: deque[tuple[Task[Any], Frame]] = deque()  # used without the lock
        self.postponed: deque[Task[Any]] = deque()  # filled without the lock
        self.pace: float | None = None  # seconds a task, for the window of a new worker
        self._alarm: int | None = None
        self._owner = os.getpid()
        self._source = f"pool:{settings.name}"

    @property
    def busy(self) -> bool:
        """Whether a task is unfinished."""
        return bool(self.ledger.queue) or any(link.desk.sent for link in self.links.values())

    @property
    def starting(self) -> bool:
        """Whether a worker has been started and is not ready."""
        return any(link.phase == "starting" for link in self.links.values())

    def refusal(self) -> PoolError:
        """Return why no task is taken."""
        if self.state == "foreign":
            return PoolError(
                f"pool {self.settings.name!r} belongs to process {self._owner}; a forked child needs one of its own"
            )
        return self.broken or PoolClosed(name=self.settings.name)

    def emit(self, kind: str, **attributes: Any) -> None:
        """Tell the timeline, if there is one."""
        emit(self._source, kind, **attributes)

    # -- waking the supervisor ------------------------------------------------------------------------------------

    def set_alarm(self, descriptor: int | None) -> None:
        """Learn the eventfd that wakes the supervisor, or that there is none any more."""
        self._alarm = descriptor
        self.asleep = False

    def wake(self) -> None:
        """Have the supervisor look at the clock now."""
        self.due = 0.0
        if self._alarm is not None:
            os.eventfd_write(self._alarm, 1)

    # -- tasks ----------------------------------------------------------------------------------------------------

    def accept(self, tasks: Sequence[Task[Any]]) -> None:
        """Take tasks whose places are paid for, all or none.

        Raises:
            PoolError: When the pool is not open.
        """
        if self.state != "open":
            raise self.refusal()
        heard = listening()
        for task in tasks:
            if heard:
                self.emit("submitted", task=task.id, name=task.name)
            self.ledger.accept(task)
        self.tally.submitted += len(tasks)
        if self.ledger.idle or len(self.ledger.queue) >= MANY:
            self.dispatch()
        if self.asleep or tasks[0].options.timeout is not None:
            self.wake()

    def dispatch(self) -> None:
        """Send waiting tasks to workers with room."""
        if not self.ledger.queue:
            return
        batches: dict[Link, list[tuple[int, Task[Any]]]] = {}
        for desk, seq, task in self.ledger.assign():
            batch = batches.get(desk.owner)
            if batch is None:
                batches[desk.owner] = [(seq, task)]
            else:
                batch.append((seq, task))
        if not batches:
            return
        now = monotonic()
        heard = listening()
        for link, batch in batches.items():
            if len(link.desk.sent) == len(batch):
                link.head_since = link.heard = now
            link.send(batch)
            if heard:
                for _seq, task in batch:
                    self.emit("sent", task=task.id, pid=link.pid, attempt=task.attempts)

    def answered(self, link: Link, seq: int, seconds: float, now: float, *, ok: bool) -> Task[Any] | None:
        """Book an answer, and return the task that ended; None when it had been given up before.

        Raises:
            LookupError: When the worker had not been asked.
        """
        task = self.ledger.answered(link.desk, seq)
        link.tasks_done += 1
        link.head_since = now
        link.desk.measured(seconds)
        self.ledger.offer(link.desk)
        if task is None:
            return None
        task.state = advance(task.state, TaskEvent.RETURN if ok else TaskEvent.RAISE)
        self.pace = link.desk.pace
        self.restarts.answered()
        self.tally.ended(seconds, ok=ok)
        if listening():
            self.emit("finished" if ok else "failed", task=task.id, pid=link.pid, seconds=seconds)
        return task

    def end_if_cancelled(self, link: Link, now: float) -> None:
        """End a worker that has begun one task that is not wanted any more, and no other after it.

        Workers are serial: of two tasks that were begun, the first has been answered.
        """
        sent = link.desk.sent
        if len(sent) == 1 and sent[0][1].state in FINAL and link.phase != "ending" and not link.unclaimed():
            link.end(now + self.settings.kill_grace)

    def cancel(self, task: Task[Any]) -> bool:
        """End a task that was cancelled, together with the worker that runs it; return whether it ended now."""
        was_sent = task.state is TaskState.SENT
        if not self.ledger.end(task, TaskEvent.CANCEL):
            return False
        self.tally.cancelled += 1
        self.emit("cancelled", task=task.id)
        if was_sent:
            self._clear_desk_of(task)
        self.wake()
        return True

    def withdraw(self, task: Task[Any]) -> bool:
        """Cancel a task, if it was accepted; return whether its place is to be given back by the caller."""
        accepted = task.state is not TaskState.QUEUED or task in self.ledger.queue
        return self.cancel(task) if accepted else True

    def postpone(self, task: Task[Any]) -> None:
        """Have the supervisor cancel a task; called without the lock."""
        self.postponed.append(task)
        self.due = 0.0
        with contextlib.suppress(OSError, TypeError):  # the supervisor has ended
            os.eventfd_write(self._alarm, 1)  # type: ignore[arg-type]

    def cancel_postponed(self) -> int:
        """Cancel what was postponed, and return how many places are free by that."""
        count = 0
        while self.postponed:
            count += self.cancel(self.postponed.popleft())
        return count

    def cancel_queued(self) -> list[Task[Any]]:
        """Cancel every task that no worker has begun, and return them."""
        for link in self.links.values():
            self.ledger.take_back(link.desk, link.retract())
        cancelled = self.ledger.end_all(TaskEvent.CANCEL, _is_queued)
        self.tally.cancelled += len(cancelled)
        for task in cancelled:
            self.emit("cancelled", task=task.id)
        return cancelled

    def take_back(self, link: Link, reason: str) -> None:
        """Give what a worker has not begun to others; it gets nothing more before it says something."""
        count = link.retract()
        link.desk.window = 1  # until its next answer
        if count:
            link.desk.open = False
            for task in self.ledger.take_back(link.desk, count):
                self.emit("stolen", task=task.id, pid=link.pid, reason=reason)

    def lose_desk(self, link: Link, exitcode: int | None) -> WorkerCrashed | None:
        """Settle what lay with a worker that died; return the crash if it died with a task."""
        self.ledger.take_back(link.desk, link.retract())
        lost = self.ledger.lose(link.desk)
        self.ledger.dismiss(link.desk)
        crash = None
        for task in lost:
            crash = self._blame(task, link.pid, exitcode)
        return crash

    # -- the end of tasks -----------------------------------------------------------------------------------------

    def break_down(self, reason: str, causes: list[BaseException]) -> None:
        """Give up: fail every task, end every worker."""
        self.broken = broken = PoolBroken(name=self.settings.name, causes=tuple(causes), reason=reason)
        self.emit("broken", reason=reason)
        self.state = "killing"
        self._give_up(lambda _task: broken)
        self._end_workers()
        self.gate.close(self.refusal)

    def cut_off(self) -> None:
        """Fail what is left at the deadline of a shutdown, and end every worker."""
        self.state, self.deadline = "killing", None
        self._give_up(
            lambda task: ShutdownCancelled(task_id=task.id, task=task.name, name=self.settings.name)
        )
        self._end_workers()

    def doom(self, task: Task[Any], error: BaseException) -> None:
        """Note a future that fails."""
        self.tally.failed += 1
        self.doomed.append((task, error))

    def settle_doomed(self) -> None:
        """Settle futures that fail; called without the lock, by several threads at once maybe.

        Each takes one after the other: a callback that never returns keeps none from the next thread.
        """
        while True:
            try:
                task, error = self.doomed.popleft()
            except IndexError:
                return
            self.gate.give()
            run_quietly(task.future.settle_error, error)

    def settle_answers(self) -> None:
        """Settle the futures of what was answered; as `settle_doomed`."""
        while True:
            try:
                task, frame = self.unsettled.popleft()
            except IndexError:
                return
            settle_answer(task, frame)

    def _give_up(self, error: Callable[[Task[Any]], BaseException]) -> None:
        for task in self.ledger.end_all(TaskEvent.GIVE_UP):
            self.emit("failed", task=task.id, reason="given up")
            self.doom(task, error(task))

    def _end_workers(self) -> None:
        kill_at = monotonic() + min(self.settings.kill_grace, 0.2)
        for link in self.links.values():
            if link.phase != "ending":
                link.end(kill_at)
            elif link.kill_at is not None:
                link.kill_at = min(link.kill_at, kill_at)

    def _clear_desk_of(self, cancelled: Task[Any]) -> None:
        for link in self.links.values():
            if any(task is cancelled for _seq, task in link.desk.sent):
                self.take_back(link, "cancel")
                self.end_if_cancelled(link, monotonic())
                self.dispatch()
                return

    def _blame(self, task: Task[Any], pid: int, exitcode: int | None) -> WorkerCrashed:
        crash = WorkerCrashed(
            task_id=task.id, task=task.name, pid=pid, exitcode=exitcode, attempt=task.attempts
        )
        if self.ledger.settle_crash(task, crash):
            self.tally.retried += 1
            self.emit("retried", task=task.id, pid=pid, exitcode=exitcode, attempt=task.attempts)
            return crash
        self.tally.crashed += 1
        error: WorkerCrashed = crash
        if isinstance(task.options.on_crash, Retry):
            error = PoisonTask(task_id=task.id, task=task.name, history=tuple(task.history))
            self.emit("poisoned", task=task.id, pid=pid, crashes=len(task.history))
        self.emit("failed", task=task.id, pid=pid, exitcode=exitcode)
        self.doom(task, error)
        return crash

    # -- in a forked child ----------------------------------------------------------------------------------------

    def disown(self) -> None:
        """Let go of everything in a forked child: the workers are its parent's, and so is their lifeline."""
        self.lock = threading.Lock()
        self.state = "foreign"
        self._alarm = None
        for link in [*self.links.values()]:
            with contextlib.suppress(OSError):
                link.close()


def _is_queued(task: Task[Any]) -> bool:
    return task.state is TaskState.QUEUED
