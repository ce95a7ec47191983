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

SUBJECTS: Final = {subject.name: subject for subject in (_BREAKER,)}
