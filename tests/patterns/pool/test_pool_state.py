"""The life of a task, row by row; the rows are written here once more, by hand."""

from __future__ import annotations

import itertools

import pytest

from pytest_prodpatterns.patterns.pool import TaskState
from pytest_prodpatterns.patterns.pool._state import FINAL, TABLE, TaskEvent, advance, to_mermaid

ROWS = """
    queued  send       sent
    queued  cancel     cancelled
    queued  give up    failed
    sent    return     done
    sent    raise      failed
    sent    take back  queued
    sent    crash      lost
    sent    cancel     cancelled
    sent    give up    failed
    lost    retry      queued
    lost    give up    failed
"""


def read(row):
    state, *event, following = row.split()
    return TaskState(state), TaskEvent(" ".join(event)), TaskState(following)


LEGAL = [read(row) for row in ROWS.strip().splitlines()]
REFUSED = [
    pair
    for pair in itertools.product(TaskState, TaskEvent)
    if pair not in {(row[0], row[1]) for row in LEGAL}
]


@pytest.mark.parametrize(("state", "event", "following"), LEGAL, ids=map(" ".join, LEGAL))
def test_an_event_leads_to_the_next_state(state, event, following):
    assert advance(state, event) is following


@pytest.mark.parametrize(("state", "event"), REFUSED, ids=map(" ".join, REFUSED))
def test_any_other_event_is_refused(state, event):
    with pytest.raises(ValueError, match=rf"^a task that is {state} cannot {event}$"):
        advance(state, event)


def test_there_are_no_other_rows():
    assert len(TABLE) == len(LEGAL)
    assert len(LEGAL) + len(REFUSED) == len(TaskState) * len(TaskEvent)


def test_a_final_state_is_never_left():
    assert {"done", "failed", "cancelled"} == FINAL
    assert not [state for state, _event in TABLE if state in FINAL]


def test_every_state_that_is_not_final_can_end():
    ending = set(FINAL)
    for _ in TaskState:
        ending |= {state for (state, _event), following in TABLE.items() if following in ending}
    assert ending == set(TaskState)


def test_every_state_can_be_reached():
    reached = {TaskState.QUEUED}
    for _ in TaskState:
        reached |= {following for (state, _event), following in TABLE.items() if state in reached}
    assert reached == set(TaskState)


def test_only_a_lost_task_is_retried_and_only_a_sent_one_is_lost():
    assert {state for state, event in TABLE if event is TaskEvent.RETRY} == {TaskState.LOST}
    assert {state for state, event in TABLE if event is TaskEvent.CRASH} == {TaskState.SENT}


def test_states_are_words():
    assert [f"{state}" for state in TaskState] == ["queued", "sent", "lost", "done", "failed", "cancelled"]


def test_the_picture_shows_the_table():
    lines = to_mermaid().split("\n")
    assert lines[:2] == ["stateDiagram-v2", "    [*] --> queued"]
    assert lines[2:-3] == [f"    {state} --> {following}: {event}" for state, event, following in LEGAL]
    assert lines[-3:] == ["    done --> [*]", "    failed --> [*]", "    cancelled --> [*]"]
