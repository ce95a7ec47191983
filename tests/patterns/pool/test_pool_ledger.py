"""A random walk through the ledger beside a model that moves names between lists, and the rules one by one."""

from __future__ import annotations

import gc
import weakref
from collections import Counter

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from pytest_prodpatterns.patterns.pool import TaskState, WorkerCrashed, retry
from pytest_prodpatterns.patterns.pool._ledger import WINDOW_LIMIT, WORK_AHEAD, Desk, Ledger
from pytest_prodpatterns.patterns.pool._state import TaskEvent
from pytest_prodpatterns.patterns.pool._task import Task, TaskFuture, TaskOptions

QUICK, LONG = 1e-5, 1.0
"""Seconds a task: so quick that many may lie on a desk, so long that one may."""


PACES = st.sampled_from([None, QUICK, WORK_AHEAD / 3, LONG])
TIMES = st.lists(st.integers(0, 2), min_size=1, max_size=4)


class Nobody:
    def cancel_task(self, task):
        raise AssertionError("a ledger cancels nothing by itself")


def make_task(on_crash="fail"):
    return Task("work", None, TaskFuture(), TaskOptions(on_crash=on_crash), Nobody())


def crash_of(task):
    return WorkerCrashed(task_id=task.id, task=task.name, pid=1, exitcode=-9, attempt=task.attempts)


class Walk(RuleBasedStateMachine):
    """What the model knows: `line`, the tasks that wait; `lay`, the tasks on each desk; `end` of each that ended.

    A task that was cancelled or given up on a desk lies there until its worker speaks of it.
    """

    @initialize(paces=st.lists(PACES, min_size=1, max_size=3), times=TIMES)
    def open_books(self, paces, times):
        self.ledger = Ledger()
        self.tasks, self.times = [], {}
        self.line, self.lay, self.end, self.deaths = [], {}, {}, Counter()
        self.numbers, self.sequence = {}, {}  # of what lies there, and the last one given, by desk
        for pace in paces:
            self.hire(pace)
        self.accept(times, assign=True)

    # -- tasks come, and go to workers

    @rule(times=TIMES, assign=st.booleans())
    def accept(self, times, assign):
        for number in times:
            task = make_task(retry(number) if number else "fail")
            self.tasks.append(task)
            self.times[task] = number
            self.line.append(task)
            self.ledger.accept(task)
        if assign:
            self.assign()

    @rule(pace=PACES)
    def hire(self, pace):
        if len(self.lay) < 4:
            desk = Desk(pace=pace)
            self.lay[desk], self.numbers[desk], self.sequence[desk] = [], [], 0
            self.ledger.hire(desk)

    @rule()
    def assign(self):
        for desk, seq, task in self.ledger.assign():
            assert task is self.line.pop(0)
            self.sequence[desk] += 1
            assert seq == self.sequence[desk]
            assert desk.open
            assert len(self.lay[desk]) < desk.window
            if self.lay[desk]:
                assert not [other for other, tasks in self.lay.items() if other.open and not tasks]
            self.lay[desk].append(task)
            self.numbers[desk].append(seq)
        room = [desk for desk, tasks in self.lay.items() if desk.open and len(tasks) < desk.window]
        assert not self.line or not room

    # -- workers speak

    @rule(data=st.data(), ok=st.booleans(), seconds=st.sampled_from([QUICK, WORK_AHEAD / 5, LONG]))
    def answer(self, data, ok, seconds):
        desk = self.some_desk(data, busy=True)
        if desk is None:
            return
        desk.measured(seconds)
        answered = self.ledger.answered(desk, self.numbers[desk].pop(0))
        task = self.lay[desk].pop(0)
        if task in self.end:
            assert answered is None
        else:
            assert answered is task
            task.state = TaskState.DONE if ok else TaskState.FAILED
            self.note_end(task, task.state)

    @rule(data=st.data(), wrong=st.integers(1, 3))
    def answer_out_of_turn(self, data, wrong):
        desk = self.some_desk(data)
        if desk is None:
            return
        expected = self.numbers[desk][0] if self.lay[desk] else "none"
        seq = wrong + (expected if self.lay[desk] else self.sequence[desk])
        with pytest.raises(
            LookupError, match=rf"^a worker answered task {seq} of its desk, expected {expected}$"
        ):
            self.ledger.answered(desk, seq)

    @rule(data=st.data(), count=st.integers(0, 4), silent=st.booleans())
    def take_back(self, data, count, silent):
        desk = self.some_desk(data, busy=True)
        if desk is None:
            return
        count = min(count, len(self.lay[desk]))
        if silent:
            desk.open, desk.window = False, 1
        self.take_from(desk, count)
        self.assign()

    @rule()
    def speak_again(self):
        for desk in self.lay:
            desk.open = True
            self.ledger.offer(desk)
        self.assign()

    @rule(data=st.data(), begun=st.sampled_from([1, 1, 1, 0, 2]))
    def die(self, data, begun):
        """Most workers die with one task that they have begun; a bad one may have begun two."""
        desk = self.some_desk(data)
        if desk is None:
            return
        desk.open = False
        self.take_from(desk, max(0, len(self.lay[desk]) - begun))
        lost = self.ledger.lose(desk)
        assert lost == [task for task in self.lay.pop(desk) if task not in self.end]
        self.ledger.dismiss(desk)
        for task in lost:
            assert task.state is TaskState.LOST
            self.deaths[task] += 1
            again = self.deaths[task] <= self.times[task]
            assert self.ledger.settle_crash(task, crash_of(task)) is again
            if again:
                self.line.insert(0, task)
            else:
                self.note_end(task, TaskState.FAILED)

    # -- the pool gives up

    @rule(data=st.data(), event=st.sampled_from([TaskEvent.CANCEL, TaskEvent.GIVE_UP]))
    def end_one(self, data, event):
        if not self.tasks:
            return
        task = data.draw(st.sampled_from(self.tasks[-12:]))
        assert self.ledger.end(task, event) is (task not in self.end)
        if task not in self.end:
            self.give_up(task, event)

    @rule(queued_only=st.booleans(), event=st.sampled_from([TaskEvent.CANCEL, TaskEvent.GIVE_UP]))
    def end_many(self, queued_only, event):
        if queued_only:
            ended = self.ledger.end_all(event, lambda task: task.state is TaskState.QUEUED)
            assert ended == self.line
        else:
            ended = self.ledger.end_all(event)
            assert Counter(ended) == Counter(self.unfinished())
        for task in ended:
            self.give_up(task, event)

    # -- what the model does

    def some_desk(self, data, *, busy=False):
        desks = [desk for desk, tasks in self.lay.items() if tasks or not busy]
        return data.draw(st.sampled_from(desks)) if desks else None

    def take_from(self, desk, count):
        taken = self.ledger.take_back(desk, count)
        kept = len(self.lay[desk]) - count
        youngest = [task for task in self.lay[desk][kept:] if task not in self.end]
        del self.lay[desk][kept:], self.numbers[desk][kept:]
        assert Counter(taken) == Counter(youngest)
        self.line[:0] = youngest

    def give_up(self, task, event):
        if task in self.line:
            self.line.remove(task)
        self.note_end(task, TaskState.CANCELLED if event is TaskEvent.CANCEL else TaskState.FAILED)

    def note_end(self, task, state):
        assert task not in self.end, "a task ends once"
        self.end[task] = state

    def unfinished(self):
        lying = [task for tasks in self.lay.values() for task in tasks if task not in self.end]
        return lying + self.line

    # -- what holds at any time

    @invariant()
    def every_task_is_in_one_place(self):
        if not hasattr(self, "ledger"):
            return
        assert [*self.ledger.queue] == self.line
        assert {desk: [task for _seq, task in desk.sent] for desk in self.ledger.desks} == self.lay
        places = Counter(self.unfinished())
        places.update(self.end.keys())
        assert places == Counter(self.tasks)

    @invariant()
    def what_was_accepted_has_ended_or_is_unfinished(self):
        if hasattr(self, "ledger"):
            assert Counter(self.ledger.unfinished()) == Counter(self.unfinished())
            assert len(self.tasks) == len(self.end) + len(self.unfinished())

    @invariant()
    def tasks_know_where_they_stand(self):
        if not hasattr(self, "ledger"):
            return
        assert all(task.state is state for task, state in self.end.items())
        assert all(task.state is TaskState.QUEUED for task in self.line)
        lying = [task for tasks in self.lay.values() for task in tasks if task not in self.end]
        assert all(task.state is TaskState.SENT for task in lying)

    @invariant()
    def attempts_are_deaths(self):
        for task in getattr(self, "tasks", ()):
            assert len(task.history) == self.deaths[task]
            assert task.attempts == 1 + min(self.deaths[task], self.times[task])

    @invariant()
    def windows_are_sane(self):
        for desk in getattr(self, "lay", ()):
            assert 1 <= desk.window <= WINDOW_LIMIT
            assert desk.free == (desk.window - len(self.lay[desk]) if desk.open else 0)


TestTheLedger = Walk.TestCase
TestTheLedger.settings = settings(max_examples=80, stateful_step_count=40, deadline=None)


# --- the rules, one by one ---------------------------------------------------------------------------------


def ledger_with(*paces):
    """A ledger with a desk of each pace, named by letters."""
    ledger = Ledger()
    desks = [Desk(name, pace) for name, pace in zip("abcd", paces, strict=False)]
    for desk in desks:
        ledger.hire(desk)
    return ledger, *desks


def accept(ledger, count, **options):
    tasks = [make_task(**options) for _ in range(count)]
    for task in tasks:
        ledger.accept(task)
    return tasks


def assign(ledger):
    return [(desk.owner, seq, task) for desk, seq, task in ledger.assign()]


def names(assigned):
    return "".join(owner for owner, _seq, _task in assigned)


def test_desks_are_filled_breadth_first():
    ledger, *_ = ledger_with(QUICK, QUICK, QUICK)
    accept(ledger, 6)
    filled = names(assign(ledger))
    assert set(filled[:3]) == set(filled[3:]) == set("abc")


@pytest.mark.parametrize("who", ["a", "b"])
def test_a_desk_that_became_empty_goes_before_one_that_is_not(who):
    ledger, *desks = ledger_with(QUICK, QUICK)
    accept(ledger, 2)
    assign(ledger)
    desk = next(desk for desk in desks if desk.owner == who)
    ledger.answered(desk, 1)
    accept(ledger, 1)
    assert names(assign(ledger)) == who


def test_a_desk_hired_later_goes_before_those_that_have_work():
    ledger, *_ = ledger_with(QUICK)
    accept(ledger, 1)
    assign(ledger)
    ledger.hire(Desk("new"))
    accept(ledger, 1)
    assert names(assign(ledger)) == "new"


def test_long_tasks_lie_alone():
    ledger, desk = ledger_with(LONG)
    first, second = accept(ledger, 2)
    assert assign(ledger) == [("a", 1, first)]
    assert ledger.answered(desk, 1) is first
    assert assign(ledger) == [("a", 2, second)]


def test_without_a_desk_tasks_wait():
    ledger, desk = ledger_with(LONG)
    desk.open = False
    (task,) = accept(ledger, 1)
    assert assign(ledger) == []
    assert [*ledger.unfinished()] == [task]
    desk.open = True
    ledger.offer(desk)
    assert assign(ledger) == [("a", 1, task)]


def test_what_is_taken_back_waits_in_front_in_its_old_order():
    ledger, desk = ledger_with(QUICK)
    first, second, third, fourth = accept(ledger, 4)
    assign(ledger)
    (fifth,) = accept(ledger, 1)
    ledger.take_back(desk, 2)
    assert [*ledger.queue] == [third, fourth, fifth]
    assert [task for _seq, task in desk.sent] == [first, second]
    assert {task.attempts for task in (third, fourth)} == {1}
    assert [(seq, task) for _owner, seq, task in assign(ledger)] == [(5, third), (6, fourth), (7, fifth)]


def test_what_was_cancelled_on_a_desk_is_not_taken_back():
    ledger, desk = ledger_with(QUICK)
    first, second, third = accept(ledger, 3)
    assign(ledger)
    assert ledger.end(second, TaskEvent.CANCEL)
    assert ledger.take_back(desk, 2) == [third]
    assert [*ledger.unfinished()] == [first, third]


def test_the_answer_to_a_cancelled_task_is_nobodys():
    ledger, desk = ledger_with(LONG)
    (task,) = accept(ledger, 1)
    assign(ledger)
    ledger.end(task, TaskEvent.CANCEL)
    assert ledger.answered(desk, 1) is None
    assert desk.free == 1


def test_a_task_ends_once():
    ledger, _desk = ledger_with(LONG)
    (task,) = accept(ledger, 1)
    assert ledger.end(task, TaskEvent.GIVE_UP)
    assert not ledger.end(task, TaskEvent.CANCEL)
    assert task.state is TaskState.FAILED
    assert not ledger.queue


def test_an_event_that_cannot_be_leaves_the_task_where_it_is():
    ledger, _desk = ledger_with(LONG)
    (task,) = accept(ledger, 1)
    with pytest.raises(ValueError, match=r"^a task that is queued cannot return$"):
        ledger.end(task, TaskEvent.RETURN)
    assert [*ledger.queue] == [task]


@pytest.mark.parametrize("times", [1, 2, 5])
def test_a_lost_task_is_tried_again_so_many_times_and_no_more(times):
    ledger = Ledger()
    (task,) = accept(ledger, 1, on_crash=retry(times))
    (other,) = accept(ledger, 1)
    told = []
    for number in range(times + 1):
        desk = Desk(number)
        ledger.hire(desk)
        assert assign(ledger) == [(number, 1, task)], "it waits in front of the others"
        assert task.attempts == number + 1
        assert ledger.lose(desk) == [task]
        ledger.dismiss(desk)
        told.append(ledger.settle_crash(task, crash_of(task)))
    assert told == [True] * times + [False]
    assert task.state is TaskState.FAILED
    assert [crash.attempt for crash in task.history] == [*range(1, times + 2)]
    assert [*ledger.unfinished()] == [other]


def test_the_histories_of_tasks_are_their_own():
    ledger, desk = ledger_with(QUICK)
    first, second = accept(ledger, 2)
    assign(ledger)
    ledger.take_back(desk, 1)
    (lost,) = ledger.lose(desk)
    ledger.settle_crash(lost, crash_of(lost))
    assert (len(first.history), len(second.history)) == (1, 0)


def test_a_desk_is_not_dismissed_with_tasks_on_it():
    ledger, desk = ledger_with(LONG)
    accept(ledger, 1)
    assign(ledger)
    with pytest.raises(AssertionError, match=r"^tasks lie on the desk of a worker that leaves"):
        ledger.dismiss(desk)


@pytest.mark.parametrize("tasks", [0, 1, 2])
def test_a_desk_that_was_dismissed_gets_nothing_and_is_forgotten(tasks):
    class Owner:
        """Can be referred to weakly."""

    ledger, desk = ledger_with(QUICK)
    desk.owner = Owner()
    accept(ledger, tasks)
    assign(ledger)
    other = Desk("b", LONG)
    ledger.hire(other)
    ledger.lose(desk)
    ledger.dismiss(desk)
    owner = weakref.ref(desk.owner)
    del desk
    for seq in range(1, 4):
        accept(ledger, 1)
        assert names(assign(ledger)) == "b"
        ledger.answered(other, seq)
    gc.collect()
    assert owner() is None


def test_a_desk_that_is_offered_twice_stands_in_line_once():
    ledger, first, second = ledger_with(LONG, LONG)
    for desk in (first, second, first):
        ledger.offer(desk)
    assert (len(ledger._idle), len(ledger._room)) == (2, 0)
    for desk in (first, second):
        desk.window = 3
    accept(ledger, 3)
    assert len(assign(ledger)) == 3
    for desk in (first, second, first):
        ledger.offer(desk)
    assert (len(ledger._idle), len(ledger._room)) == (0, 2)


# --- how many tasks may lie on a desk ----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("pace", "window"),
    [
        (None, 1),
        (0.0, WINDOW_LIMIT),
        (1e-9, WINDOW_LIMIT),
        (WORK_AHEAD / 10, 10),
        (WORK_AHEAD / 2, 2),
        (WORK_AHEAD, 1),
        (LONG, 1),
        (1e9, 1),
    ],
)
def test_a_desk_holds_as_much_as_is_done_in_a_moment(pace, window):
    assert Desk(pace=pace).window == pytest.approx(window, abs=1)
    assert 1 <= Desk(pace=pace).window <= WINDOW_LIMIT
    measured = Desk()
    if pace is not None:
        measured.measured(pace)
        assert measured.window == Desk(pace=pace).window


def test_one_long_task_shuts_the_window_and_many_quick_ones_open_it():
    desk = Desk(pace=QUICK)
    assert desk.window > 50
    desk.measured(LONG)
    assert desk.window == 1
    windows = []
    for _ in range(100):
        desk.measured(QUICK)
        windows.append(desk.window)
    assert windows[:10] == [1] * 10, "one quick task after a long one proves nothing"
    assert windows == sorted(windows)
    assert windows[-1] == Desk(pace=QUICK).window


def test_a_task_that_took_longer_than_the_others_is_believed_at_once():
    desk = Desk(pace=QUICK)
    desk.measured(WORK_AHEAD)
    assert desk.window == 1


def test_a_window_that_shrinks_below_what_lies_there_leaves_no_room():
    ledger, desk = ledger_with(QUICK)
    accept(ledger, 5)
    assign(ledger)
    desk.measured(LONG)
    ledger.answered(desk, 1)
    accept(ledger, 1)
    assert desk.free < 0
    assert assign(ledger) == []
