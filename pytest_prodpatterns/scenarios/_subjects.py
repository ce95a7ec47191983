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
    """

    name: str
    noun: str
    in_process: bool


SUBJECTS: Final = {
    subject.name: subject for subject in (Subject("breaker", "a circuit breaker", in_process=True),)
}
