"""By what a breaker is judged: its last calls, or its last seconds."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from pytest_prodpatterns.patterns.breaker._checks import seconds, whole
from pytest_prodpatterns.patterns.breaker._tally import Buckets, Ring, Tally

__tracebackhide__ = True  # pytest shows the line of the user; --full-trace shows ours, too

_FINEST: Final = 1e-6
"""Seconds of the shortest bucket; shorter ones would be lost in the rounding of large times."""


@dataclass(frozen=True, slots=True)
class CountWindow:
    """Judge a breaker by its last calls.

    Args:
        size: How many calls are remembered.

    Raises:
        TypeError: When `size` is no whole number.
        ValueError: When `size` is below 1.
    """

    size: int

    def __post_init__(self) -> None:
        whole("size", self.size)

    def tally(self, minimum: int) -> Tally:
        """Return an empty memory of this kind; no rule holds for fewer than `minimum` calls."""
        return Ring(self.size, minimum)


@dataclass(frozen=True, slots=True)
class TimeWindow:
    """Judge a breaker by its last seconds.

    What is older than `seconds` never counts, at whatever moment somebody looks. Calls leave the window a
    bucket at a time, so it spans between `seconds - seconds / buckets` and `seconds`.

    Args:
        seconds: How long a call is remembered.
        buckets: In how many steps calls are forgotten.

    Raises:
        TypeError: When an argument is no number.
        ValueError: When an argument is out of range.
    """

    seconds: float
    buckets: int = 10

    def __post_init__(self) -> None:
        seconds("seconds", self.seconds)
        whole("buckets", self.buckets)
        if self.seconds < self.buckets * _FINEST:
            raise ValueError(
                f"seconds must be at least {_FINEST:g} for each of the {self.buckets} buckets, not {self.seconds!r}"
            )

    def tally(self, minimum: int) -> Tally:
        """Return an empty memory of this kind; no rule holds for fewer than `minimum` calls."""
        return Buckets(self.seconds, self.buckets, minimum)
