"""What a plan is: a value that says at which calls, or at which times, a fault strikes.

Theory of operation.  A plan keeps no state and counts nothing.  It is asked once a call and answers from the
`Moment` alone: the number of the call, the seconds since the injection was armed, and one random number that
belongs to this very call.  That number is a pure function of (seed, test, injection, call), so a plan decides
the same in every run and under every interleaving of threads.  All `rate` terms of one plan see the same number:
what `rate(0.1)` strikes, `rate(0.5)` strikes too, lowering a rate only takes faults away, and the laws of
logic hold (`p & ~p` is never, De Morgan).  Jepsen, ordeal and seedloop toggle faults on a wall clock or by the
order of draws; neither replays once threads are involved.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

__tracebackhide__ = True  # pytest shows the line of the user; --full-trace shows ours, too

MAX_DEPTH: Final = 50
"""How deep plans nest; it keeps printing and reading clear of the recursion limit."""

_ANY, _ALL, _ATOM = range(3)  # how strongly an operator binds: | & and everything else


@dataclass(frozen=True, slots=True)
class Moment:
    """What a plan may look at when it decides.

    Attributes:
        call: The number of the call, from 1.
        elapsed: Seconds on the lab's clock since the injection was armed.
        draw: Returns a number in [0, 1) that depends on (seed, test, injection, call) alone.
    """

    call: int
    elapsed: float
    draw: Callable[[], float]


class Plan(ABC):
    """Say when a fault strikes; an immutable value.

    Plans combine with `&` (both), `|` (either) and `~` (not). They compare by structure, print as the text
    that `plan.parse` reads, and have a hash.
    """

    __slots__ = ()
    binds: int = _ATOM
    depth: int = 1

    @abstractmethod
    def decide(self, moment: Moment) -> bool:
        """Tell whether the fault strikes at this moment."""

    @abstractmethod
    def __str__(self) -> str: ...

    def __repr__(self) -> str:
        return str(self)

    def __and__(self, other: Plan) -> Plan:
        return All(_flat(All, self, other)) if isinstance(other, Plan) else NotImplemented

    def __or__(self, other: Plan) -> Plan:
        return AnyOf(_flat(AnyOf, self, other)) if isinstance(other, Plan) else NotImplemented

    def __invert__(self) -> Plan:
        return Not(self)

    def __bool__(self) -> bool:
        raise TypeError(
            f"the plan {self} is neither true nor false: combine plans with & | ~, not with and, or, not"
        )


@dataclass(frozen=True, slots=True, repr=False)
class _Joined(Plan):
    parts: tuple[Plan, ...]  # two or more, none of the same class as this one: a & (b & c) is (a & b) & c
    depth: int = field(init=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "depth", _deeper(self.parts))

    def _join(self, operator: str) -> str:
        return operator.join(_inside(part, self.binds) for part in self.parts)


class All(_Joined):
    """Every part agrees."""

    __slots__ = ()
    binds = _ALL

    def decide(self, moment: Moment) -> bool:
        return all(part.decide(moment) for part in self.parts)

    def __str__(self) -> str:
        return self._join(" & ")


class AnyOf(_Joined):
    """At least one part agrees."""

    __slots__ = ()
    binds = _ANY

    def decide(self, moment: Moment) -> bool:
        return any(part.decide(moment) for part in self.parts)

    def __str__(self) -> str:
        return self._join(" | ")


@dataclass(frozen=True, slots=True, repr=False)
class Not(Plan):
    """The part disagrees."""

    part: Plan  # never a Not: ~~p is p
    depth: int = field(init=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "depth", _deeper((self.part,)))

    def decide(self, moment: Moment) -> bool:
        return not self.part.decide(moment)

    def __invert__(self) -> Plan:
        return self.part

    def __str__(self) -> str:
        return f"~{_inside(self.part, _ATOM)}"


def _flat(kind: type[_Joined], *plans: Plan) -> tuple[Plan, ...]:
    parts: list[Plan] = []
    for plan in plans:
        parts.extend(plan.parts if isinstance(plan, kind) else (plan,))
    return tuple(parts)


def _deeper(parts: tuple[Plan, ...]) -> int:
    depth = 1 + max(part.depth for part in parts)
    if depth > MAX_DEPTH:
        raise ValueError(
            f"the plan nests deeper than {MAX_DEPTH} levels; use plan.calls(…) or plan.sequence(…)"
        )
    return depth


def _inside(part: Plan, binds: int) -> str:
    return f"({part})" if part.binds < binds else str(part)
