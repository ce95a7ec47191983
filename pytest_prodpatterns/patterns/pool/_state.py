"""The states of a task, as one table; nothing here knows processes, clocks or locks.

A task ends exactly once. What a crash or a steal does to it is a row of the table as well: a worker that dies
with a task leaves it `lost`, and the policy of the task decides what follows, `retry` or `give_up`.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Final


class TaskState(StrEnum):
    """Where a task stands."""

    QUEUED = "queued"
    SENT = "sent"
    LOST = "lost"
    DONE = "done"
    FAILED = "failed"
    CANCELLED = "cancelled"


class TaskEvent(StrEnum):
    """What happens to a task."""

    SEND = "send"
    RETURN = "return"
    RAISE = "raise"
    TAKE_BACK = "take back"
    CRASH = "crash"
    RETRY = "retry"
    GIVE_UP = "give up"
    CANCEL = "cancel"


_S, _E = TaskState, TaskEvent

TABLE: Final[dict[tuple[TaskState, TaskEvent], TaskState]] = {
    (_S.QUEUED, _E.SEND): _S.SENT,
    (_S.QUEUED, _E.CANCEL): _S.CANCELLED,
    (_S.QUEUED, _E.GIVE_UP): _S.FAILED,  # the pool broke, or shut down before its turn
    (_S.SENT, _E.RETURN): _S.DONE,
    (_S.SENT, _E.RAISE): _S.FAILED,
    (_S.SENT, _E.TAKE_BACK): _S.QUEUED,  # no worker had begun it: no attempt is counted
    (_S.SENT, _E.CRASH): _S.LOST,
    (_S.SENT, _E.CANCEL): _S.CANCELLED,
    (_S.SENT, _E.GIVE_UP): _S.FAILED,  # its time was up, or the pool's
    (_S.LOST, _E.RETRY): _S.QUEUED,
    (_S.LOST, _E.GIVE_UP): _S.FAILED,
}

FINAL: Final = frozenset({_S.DONE, _S.FAILED, _S.CANCELLED})
"""The states that a task never leaves."""


def advance(state: TaskState, event: TaskEvent) -> TaskState:
    """Return the state that follows.

    Raises:
        ValueError: When the event cannot happen in that state.
    """
    try:
        return TABLE[state, event]
    except KeyError:
        raise ValueError(f"a task that is {state} cannot {event}") from None


def to_mermaid() -> str:
    """Return the table as a Mermaid state diagram, for the documentation."""
    lines = ["stateDiagram-v2", "    [*] --> queued"]
    lines += [f"    {state} --> {following}: {event}" for (state, event), following in TABLE.items()]
    lines += [f"    {state} --> [*]" for state in TaskState if state in FINAL]
    return "\n".join(lines)
