"""What a closed breaker remembers of its calls: a streak, the last calls, or the last seconds.

Every tally has the same face: `add` an outcome, `expire` what is too old, `clear`, and the sums `calls`,
`failures`, `slow`.  All are O(1) in the size of the window: the sums are kept, never counted anew.

`calm` is what makes a healthy breaker cheap.  It says: one more plain success would change nothing that
anybody can see.  A streak of no failures is calm.  So is a full ring of plain successes: a ring that turns
by one looks the same when all its cells are equal.  While its tally is calm, a breaker need not record
successes at all.
"""

from __future__ import annotations

from typing import Final, Protocol

_FAILED: Final = 1
_SLOW: Final = 2


class Tally(Protocol):
    """What the breaker's core asks of its memory."""

    failures: int
    slow: int
    calm: bool

    @property
    def calls(self) -> int:
        """How many calls it remembers."""

    @property
    def ages(self) -> bool:
        """Whether what it remembers becomes too old with time."""

    def add(self, now: float, failed: bool, slow: bool) -> None:
        """Record one outcome."""

    def succeed(self, now: float) -> bool:
        """Record one plain success: `add(now, False, False)` on the hot path.

        Returns:
            Whether this may have changed what the breaker concludes. A success breaks a rule only if it is the
            call from which on the rules hold, or if older successes have left the window meanwhile.
        """

    def expire(self, now: float) -> None:
        """Forget what is too old by now."""

    def clear(self) -> None:
        """Forget everything."""


class Streak:
    """Failures in a row; a success ends the row."""

    __slots__ = ("calls", "calm", "failures", "slow")
    calls: int
    failures: int
    slow: int
    calm: bool
    ages: Final = False

    def __init__(self) -> None:
        self.clear()

    def add(self, now: float, failed: bool, slow: bool) -> None:  # noqa: ARG002
        """Record one outcome."""
        self.calls = self.failures = self.failures + 1 if failed else 0
        self.calm = not failed

    def succeed(self, now: float) -> bool:  # noqa: ARG002
        """Record one plain success, which always makes it calm."""
        self.calls = self.failures = 0
        self.calm = True
        return True

    def expire(self, now: float) -> None:
        """Do nothing: a streak does not age."""

    def clear(self) -> None:
        """Forget everything."""
        self.calls = self.failures = self.slow = 0
        self.calm = True


class Ring:
    """The last `size` calls, a byte each.

    Invariants: `failures` and `slow` are the sums over the cells; cells not yet written are 0.
    """

    __slots__ = ("_cells", "_minimum", "_next", "calls", "calm", "failures", "slow")
    _next: int
    calls: int
    failures: int
    slow: int
    calm: bool
    ages: Final = False

    def __init__(self, size: int, minimum: int) -> None:
        self._minimum = minimum
        self._cells = bytearray(size)
        self.clear()

    def add(self, now: float, failed: bool, slow: bool) -> None:  # noqa: ARG002
        """Record one outcome in the place of the oldest."""
        cells, at = self._cells, self._next
        new = _FAILED * failed + _SLOW * slow
        old = cells[at]
        if old != new:
            cells[at] = new
            self.failures += (new & _FAILED) - (old & _FAILED)
            self.slow += (new >> 1) - (old >> 1)
        size = len(cells)
        if self.calls < size:
            self.calls += 1
        self._next = at + 1 if at + 1 < size else 0
        self.calm = self.calls == size and not self.failures and not self.slow

    def succeed(self, now: float) -> bool:
        """Record one plain success in the place of the oldest, and tell if that may matter."""
        at = self._next
        if self._cells[at] or at + 1 == len(self._cells):
            self.add(now, False, False)
            return self.calm or self.calls == self._minimum
        self._next = at + 1
        if self.calls > at:
            return False
        self.calls = at + 1
        return self.calls == self._minimum

    def expire(self, now: float) -> None:
        """Do nothing: a ring of calls does not age."""

    def clear(self) -> None:
        """Forget everything."""
        size = len(self._cells)
        self._cells = bytearray(size)
        self._next = self.calls = self.failures = self.slow = 0
        self.calm = False


class Buckets:
    """The last `seconds`, in buckets that expire one by one.

    Invariants: `failures` and `slow` are the sums over the buckets; `calls` is their sum and `_fresh`, which
    counts the newest calls until they are put into a bucket; bucket `tick % len` holds what
    happened in `[tick * width, (tick + 1) * width)`, for the newest `len` ticks; older ones are zero.
    `_turned` tells that time has emptied buckets since the last success; when `_fresh` is `_due`, there are as
    many calls as the rules need.
    """

    __slots__ = (
        "_buckets",
        "_due",
        "_fresh",
        "_from",
        "_minimum",
        "_newest",
        "_older",
        "_tick",
        "_to",
        "_turned",
        "_width",
        "calm",
        "failures",
        "slow",
    )

    failures: int
    slow: int
    _older: int
    _fresh: int
    _due: int
    _turned: bool
    ages: Final = True

    def __init__(self, span: float, buckets: int, minimum: int) -> None:
        self._minimum = minimum
        self._width = span / buckets
        self._buckets: list[list[int]] = [[0, 0, 0] for _ in range(buckets)]
        self._tick = 0
        self._newest = self._buckets[0]
        self._from = self._to = 0.0  # where the newest bucket begins and ends, to tell it without a division
        self.calm = False  # a success always counts: it lowers the rate until it is too old
        self.clear()

    @property
    def calls(self) -> int:
        """How many calls it remembers."""
        return self._older + self._fresh

    def add(self, now: float, failed: bool, slow: bool) -> None:
        """Record one outcome at `now`."""
        if not self._from <= now < self._to:
            self.expire(now)
        bucket = self._newest
        self._fresh += 1
        if failed:
            bucket[1] += 1
            self.failures += 1
        if slow:
            bucket[2] += 1
            self.slow += 1

    def succeed(self, now: float) -> bool:
        """Record one plain success at `now`, and tell if that may matter."""
        if not self._from <= now < self._to:
            self.expire(now)
        self._fresh = fresh = self._fresh + 1
        if self._turned:
            self._turned = False
            return True
        return fresh == self._due

    def expire(self, now: float) -> None:
        """Empty the buckets that are too old.

        A clock that went back changes nothing, unless it went further than the window is long: then it is
        another clock, and nothing here is of its time.
        """
        self._newest[0] += self._fresh
        self._older += self._fresh
        self._fresh = 0
        tick = int(now // self._width)
        size = len(self._buckets)
        if tick <= self._tick - size:
            self.clear()
            self._tick = tick
        self._turned = self._turned or tick > self._tick
        for old in range(max(self._tick + 1, tick - size + 1), tick + 1):
            bucket = self._buckets[old % size]
            self._older -= bucket[0]
            self.failures -= bucket[1]
            self.slow -= bucket[2]
            bucket[:] = (0, 0, 0)
        self._tick = max(self._tick, tick)
        self._newest = self._buckets[self._tick % size]
        self._from = self._tick * self._width
        self._to = self._from + self._width
        self._due = self._minimum - self._older

    def clear(self) -> None:
        """Forget everything."""
        for bucket in self._buckets:
            bucket[:] = (0, 0, 0)
        self._older = self._fresh = self.failures = self.slow = 0
        self._due = self._minimum
        self._turned = False
