"""The single terms of plans, and the functions that make and check them."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from pytest_prodpatterns.faults._plan import Moment, Plan

__tracebackhide__ = True  # pytest shows the line of the user; --full-trace shows ours, too


@dataclass(frozen=True, slots=True, repr=False)
class Always(Plan):
    """Every call."""

    def decide(self, moment: Moment) -> bool:  # noqa: ARG002
        return True

    def __str__(self) -> str:
        return "always()"


@dataclass(frozen=True, slots=True, repr=False)
class Never(Plan):
    """No call."""

    def decide(self, moment: Moment) -> bool:  # noqa: ARG002
        return False

    def __str__(self) -> str:
        return "never()"


@dataclass(frozen=True, slots=True, repr=False)
class First(Plan):
    """Calls 1 to n."""

    n: int

    def decide(self, moment: Moment) -> bool:
        return moment.call <= self.n

    def __str__(self) -> str:
        return f"first({self.n})"


@dataclass(frozen=True, slots=True, repr=False)
class Calls(Plan):
    """The calls with these numbers."""

    numbers: tuple[int, ...]  # sorted, without repetition: equal sets are equal plans

    def decide(self, moment: Moment) -> bool:
        return moment.call in self.numbers

    def __str__(self) -> str:
        return f"calls({', '.join(map(str, self.numbers))})"


@dataclass(frozen=True, slots=True, repr=False)
class Every(Plan):
    """Calls n, 2n, 3n, …."""

    n: int

    def decide(self, moment: Moment) -> bool:
        return moment.call % self.n == 0

    def __str__(self) -> str:
        return f"every({self.n})"


@dataclass(frozen=True, slots=True, repr=False)
class Rate(Plan):
    """Each call with this probability."""

    p: float

    def decide(self, moment: Moment) -> bool:
        return moment.draw() < self.p

    def __str__(self) -> str:
        return f"rate({number_text(self.p)})"


@dataclass(frozen=True, slots=True, repr=False)
class Sequence(Plan):
    """Letter k decides call k."""

    letters: str
    repeat: bool

    def decide(self, moment: Moment) -> bool:
        index = moment.call - 1
        if self.repeat:
            index %= len(self.letters)
        return self.letters[index : index + 1] == "F"

    def __str__(self) -> str:
        return f'sequence("{self.letters}"{", repeat=True" if self.repeat else ""})'


@dataclass(frozen=True, slots=True, repr=False)
class Between(Plan):
    """From t0 up to, and without, t1 seconds after the injection was armed."""

    t0: float
    t1: float

    def decide(self, moment: Moment) -> bool:
        return self.t0 <= moment.elapsed < self.t1

    def __str__(self) -> str:
        return f"between({number_text(self.t0)}, {number_text(self.t1)})"


def number_text(value: float) -> str:
    """Return the shortest text that reads back as the same number."""
    return repr(value).removesuffix(".0")


def always() -> Plan:
    """Strike at every call."""
    return Always()


def never() -> Plan:
    """Strike at no call."""
    return Never()


def first(n: int) -> Plan:
    """Strike at the first `n` calls, then recover.

    Args:
        n: How many calls, from 1.

    Raises:
        ValueError: When `n` is less than 1.
        TypeError: When it is no whole number.
    """
    return First(_whole("first", "n", n))


def calls(*numbers: int) -> Plan:
    """Strike at the calls with these numbers.

    Args:
        numbers: One or more call numbers, the first call being 1; order and repetition do not matter.

    Raises:
        ValueError: Without a number, or when one is less than 1.
        TypeError: When one is no whole number.
    """
    if not numbers:
        raise ValueError(
            "plan.calls() needs at least one call number, for example calls(3); for none use never()"
        )
    return Calls(tuple(sorted({_whole("calls", "numbers", number) for number in numbers})))


def every(n: int) -> Plan:
    """Strike at each `n`-th call: n, 2n, 3n, ….

    Args:
        n: The distance in calls, from 1.

    Raises:
        ValueError: When `n` is less than 1.
        TypeError: When it is no whole number.
    """
    return Every(_whole("every", "n", n))


def rate(p: float) -> Plan:
    """Strike at each call with probability `p`, drawn from the lab's seed (Polly Simmy's injection rate).

    Args:
        p: The probability, from 0 to 1.

    Raises:
        ValueError: When `p` is outside 0 to 1, or nan.
        TypeError: When it is no number.
    """
    value = _real("rate", "p", p)
    if not 0 <= value <= 1:
        raise ValueError(f"plan.rate(): p must be a probability from 0 to 1, not {p!r}")
    return Rate(value)


def sequence(letters: str, *, repeat: bool = False) -> Plan:
    """Strike by a written schedule.

    Args:
        letters: One letter a call: `F` fails, `.` passes. After its end, calls pass.
        repeat: Start again from the first letter after the last one.

    Raises:
        ValueError: When `letters` is empty or has another letter.
        TypeError: When it is no string, or `repeat` is no bool.
    """
    if not isinstance(letters, str):
        raise TypeError(f"plan.sequence(): letters must be a string of F and ., not {letters!r}")
    if not letters or set(letters) - {"F", "."}:
        raise ValueError(
            f"plan.sequence(): letters must be F (fail) and . (pass), such as 'F..F', not {letters!r}"
        )
    if not isinstance(repeat, bool):
        raise TypeError(f"plan.sequence(): repeat must be True or False, not {repeat!r}")
    return Sequence(letters, repeat)


def between(t0: float, t1: float) -> Plan:
    """Strike during a span of lab time, counted from the moment the injection was armed.

    An injection that was armed before virtual time began counts from the beginning of virtual time.

    Args:
        t0: Begin of the span in seconds, from 0; included.
        t1: End of the span in seconds, after `t0`; not included. `math.inf` for no end.

    Raises:
        ValueError: When `t0` is negative or not finite, or `t1` is not after `t0`.
        TypeError: When one is no number.
    """
    begin, end = _real("between", "t0", t0), _real("between", "t1", t1)
    if not 0 <= begin < math.inf:
        raise ValueError(f"plan.between(): t0 must be seconds from 0, not {t0!r}")
    if not end > begin:
        raise ValueError(f"plan.between(): t1 must be after t0 ({t0!r}), not {t1!r}")
    return Between(begin, end)


def _whole(term: str, argument: str, value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, int):
        raise TypeError(f"plan.{term}(): {argument} must be a whole number from 1, not {value!r}")
    if value < 1:
        raise ValueError(f"plan.{term}(): {argument} must be a whole number from 1, not {value!r}")
    return value


def _real(term: str, argument: str, value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise TypeError(f"plan.{term}(): {argument} must be a number, not {value!r}")
    try:
        return float(value) + 0.0  # + 0.0: minus zero becomes zero
    except OverflowError:
        raise ValueError(
            f"plan.{term}(): {argument} must be a number that fits a float, not {value!r}"
        ) from None
