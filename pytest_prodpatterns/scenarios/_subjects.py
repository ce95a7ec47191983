"""What scenarios can attack."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True)
class Subject:
    """A kind of target.

    Attributes:
        name: As files and the command line say it.
        noun: As prose says it.
        in_process: Whether its targets run on the lab's own thread, where background activities and pauses
            have no place.
        requirements: What a scenario may require; targets are asked for these words and no others.
    """

    name: str
    noun: str
    in_process: bool
    requirements: frozenset[str]


_BREAKER: Final = Subject(
    "breaker",
    "a circuit breaker",
    in_process=True,
    requirements=frozenset(
        {"async", "deadline", "decorator", "overlap", "success-threshold", "sync", "threads", "wall-clock"}
    ),
)

_POOL: Final = Subject(
    "pool",
    "a worker pool",
    in_process=False,
    requirements=frozenset(
        {
            "async-submit",
            "bounded-queue",
            "drain-on-sigterm",
            "initializer",
            "queue-timeout",
            "reject-when-full",
            "retry",
            "shutdown-deadline",
            "task-timeout",
        }
    ),
)

_SERVER: Final = Subject(
    "server",
    "a server",
    in_process=False,
    requirements=frozenset(
        {
            "drain-deadline",
            "error-path",
            "header-timeout",
            "json-path",
            "lame-duck",
            "limit",
            "readiness",
            "slow-path",
            "slow-path-seconds",
            "sse-path",
            "stream-path",
            "websocket-path",
            "workers",
        }
    ),
)

SUBJECTS: Final = {subject.name: subject for subject in (_BREAKER, _POOL, _SERVER)}
