"""The ledger: which task waits, which one lies with which worker, and what becomes of it; no I/O, no clock.

Theory of operation.  Tasks wait in one queue. Each worker has a *desk*: the tasks that were sent to it and not
answered yet, oldest first. Workers are serial and take tasks in the order in which they were sent, so what
lies on a desk is: at most one task that the worker has begun, then tasks that it has not. How many it has not
begun, the channel knows (`_link`); the ledger is told.

How many tasks may lie on a desk is its *window*: deep for tasks of microseconds, so that a worker never waits
for us, and 1 for long ones, so that no task waits behind a long one while another worker is idle. Desks are
filled breadth-first: a desk gets its second task when no desk is empty.

The ledger is used under the pool's lock.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Any, Final

from pytest_prodpatterns.patterns.pool._state import FINAL, TaskEvent, TaskState, advance
from pytest_prodpatterns.patterns.pool._task import Retry

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from pytest_prodpatterns.patterns.pool._errors import WorkerCrashed
    from pytest_prodpatterns.patterns.pool._task import Task

WINDOW_LIMIT: Final = 128
WORK_AHEAD: Final = 0.002
"""Seconds of work that may lie on a desk behind the first task."""


class Desk:
    """What lies with one worker.

    Attributes:
        sent: (sequence number on this desk, task), oldest first.
        window: How many tasks may lie here.
        open: Whether it may get tasks: False for a worker that was silent for too long, or is leaving.
        next_seq: The sequence number that the next task to be sent gets.
    """

    __slots__ = ("idle", "listed", "next_seq", "open", "owner", "pace", "sent", "window")

    def __init__(self, owner: Any = None, pace: float | None = None) -> None:
        self.owner = owner
        self.sent: deque[tuple[int, Task[Any]]] = deque()
        self.next_seq = 1
        self.open = True
        self.idle = False  # whether it stands in the ledger's list of empty desks
        self.listed = False  # whether it stands in the ledger's list of desks with room
        self.pace = pace  # smoothed seconds a task
        self.window = 1 if pace is None else _window(pace)

    @property
    def free(self) -> int:
        """How many tasks more it may get."""
        return self.window - len(self.sent) if self.open else 0

    def measured(self, seconds: float) -> None:
        """Learn how long a task took, and adapt the window."""
        pace = self.pace
        self.pace = pace = seconds if pace is None or seconds > pace else pace + (seconds - pace) / 8
        self.window = _window(pace)


def _window(pace: float) -> int:
    return min(WINDOW_LIMIT, 1 + int(WORK_AHEAD / (pace + 1e-6)))


class Ledger:
    """All unfinished tasks of a pool.

    Attributes:
        queue: Tasks that wait, the next one first.
        desks: The desks of all workers that live.
    """

    def __init__(self) -> None:
        self.queue: deque[Task[Any]] = deque()
        self.desks: set[Desk] = set()
        # Every open desk with room stands once in the first list if it is empty, and in the second if it is
        # not. Others may stand there as well: who stands there is looked at when it is his turn.
        self._idle: deque[Desk] = deque()
        self._room: deque[Desk] = deque()

    @property
    def idle(self) -> bool:
        """Whether a worker may be without a task."""
        return bool(self._idle)

    def hire(self, desk: Desk) -> None:
        """Add the desk of a worker that is ready."""
        self.desks.add(desk)
        self.offer(desk)

    def dismiss(self, desk: Desk) -> None:
        """Remove the desk of a worker that is gone; what lay there was taken back or lost before."""
        assert not desk.sent, "tasks lie on the desk of a worker that leaves"
        desk.open = False
        self.desks.discard(desk)
        if desk.idle:
            self._idle.remove(desk)
        if desk.listed:
            self._room.remove(desk)
        desk.idle = desk.listed = False

    def offer(self, desk: Desk) -> None:
        """Note that a desk may have room again."""
        if desk.sent:
            if not desk.listed and desk.free > 0:
                desk.listed = True
                self._room.append(desk)
        elif not desk.idle and desk.open:
            desk.idle = True
            self._idle.appendleft(desk)

    def accept(self, task: Task[Any]) -> None:
        """Take a new task; it waits behind all others."""
        self.queue.append(task)

    def assign(self) -> Iterator[tuple[Desk, int, Task[Any]]]:
        """Lay waiting tasks on desks with room, breadth-first.

        Returns:
            (desk, sequence number, task) of each, to be sent in this order.
        """
        queue, idle, room = self.queue, self._idle, self._room
        while queue and (idle or room):
            if idle:
                desk = idle.popleft()
                desk.idle = False
            else:
                desk = room.popleft()
                desk.listed = False
            if desk.free <= 0:
                continue
            task = queue.popleft()
            task.state = advance(task.state, TaskEvent.SEND)
            seq = desk.next_seq
            desk.next_seq = seq + 1
            desk.sent.append((seq, task))
            if not desk.listed and desk.free > 0:
                desk.listed = True
                room.append(desk)
            yield desk, seq, task

    def answered(self, desk: Desk, seq: int) -> Task[Any] | None:
        """Take the task that a worker answered off its desk.

        Returns:
            The task; None when it was given up meanwhile (cancelled, timed out).

        Raises:
            LookupError: When it is not the oldest task on the desk: the worker does not keep the protocol.
        """
        if not desk.sent or desk.sent[0][0] != seq:
            expected = desk.sent[0][0] if desk.sent else "none"
            raise LookupError(f"a worker answered task {seq} of its desk, expected {expected}")
        task = desk.sent.popleft()[1]
        self.offer(desk)
        return None if task.state in FINAL else task

    def take_back(self, desk: Desk, count: int) -> list[Task[Any]]:
        """Put the youngest tasks of a desk, which its worker has not begun, back at the head of the queue.

        Args:
            desk: The desk.
            count: How many.
        """
        taken = []
        for _ in range(count):
            task = desk.sent.pop()[1]
            if task.state not in FINAL:
                task.state = advance(task.state, TaskEvent.TAKE_BACK)
                self.queue.appendleft(task)
                taken.append(task)
        self.offer(desk)
        return taken

    def lose(self, desk: Desk) -> list[Task[Any]]:
        """Empty the desk of a worker that died: what it had begun and not answered is lost.

        Returns:
            The lost tasks, which `settle_crash` decides about; at most one if the worker kept the protocol.
        """
        lost = [task for _seq, task in desk.sent if task.state not in FINAL]
        desk.sent.clear()
        for task in lost:
            task.state = advance(task.state, TaskEvent.CRASH)
        return lost

    def settle_crash(self, task: Task[Any], crash: WorkerCrashed) -> bool:
        """Note a crash in the history of a lost task, and queue it again if its policy allows.

        Returns:
            Whether it is tried again; else it has failed.
        """
        task.history = [*task.history, crash]
        policy = task.options.on_crash
        if isinstance(policy, Retry) and len(task.history) <= policy.times:
            task.attempts += 1
            task.state = advance(task.state, TaskEvent.RETRY)
            self.queue.appendleft(task)
            return True
        task.state = advance(task.state, TaskEvent.GIVE_UP)
        return False

    def end(self, task: Task[Any], event: TaskEvent) -> bool:
        """End a task by an event, wherever it stands; what lies on a desk keeps its place there.

        Returns:
            Whether it ended now; False when it had ended before.
        """
        if task.state in FINAL:
            return False
        queued = task.state is TaskState.QUEUED
        task.state = advance(task.state, event)
        if queued:
            self.queue.remove(task)
        return True

    def end_all(self, event: TaskEvent, matching: Callable[[Task[Any]], bool] = bool) -> list[Task[Any]]:
        """End every unfinished task that matches, and return them."""
        unfinished = [task for task in self.unfinished() if matching(task)]
        for task in unfinished:
            task.state = advance(task.state, event)
        self.queue = deque(task for task in self.queue if task.state not in FINAL)
        return unfinished

    def unfinished(self) -> Iterable[Task[Any]]:
        """Return the tasks that have not ended, those with workers first."""
        on_desks = [task for desk in self.desks for _seq, task in desk.sent if task.state not in FINAL]
        return [*on_desks, *self.queue]
