"""What a scenario attacks: the one protocol that every target, of every subject, answers to."""

from __future__ import annotations

from typing import Protocol, runtime_checkable


class TargetError(Exception):
    """A target cannot be had: an unknown name, a bad specification, a library that is not installed."""


class Target(Protocol):
    """Something that promises resilience, ready to be attacked.

    Attributes:
        name: What reports call it, for example `pybreaker`.
        version: Its version, or an empty string where there is none.
        description: What it is and how it was configured, in one line.
    """

    name: str
    version: str
    description: str

    def missing(self, requirement: str) -> str | None:
        """Return in one line why it cannot do at all what a scenario requires, or None if it can."""

    def close(self) -> None:
        """Release what it holds; called once, at the end of a run."""


@runtime_checkable
class Startable(Protocol):
    """A target that has to be started, and may fail at that."""

    def try_out(self) -> None:
        """Start it once, and end it.

        Raises:
            TargetError: It does not come up.
        """
