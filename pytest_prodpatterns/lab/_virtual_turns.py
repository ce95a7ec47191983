"""When virtual time may jump: the `select()` of a loop on virtual time.

`select(timeout)` is called when the loop is about to sleep until its next timer.  If a poll finds nothing and nothing
outside the loop is pending, the clock takes the very moment of that timer (so it is exact to the bit), and the loop
finds it due.  If something outside is pending, it gets real time: up to `grace` seconds of listening without any
activity, then the clock jumps, and further jumps do not wait again until there is new activity.  A loop that waits
without any timer and without anything outside waits forever: `Deadlock`.
"""

# ruff: noqa: SLF001 - asyncio has no public names for these; a test pins them for each version

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING, Any

from pytest_prodpatterns.lab._outside import Outside
from pytest_prodpatterns.lab._virtual_clock import Deadlock, OutsidePending
from pytest_prodpatterns.lab._virtual_waiters import raise_in_waiters, waiting_elsewhere

if TYPE_CHECKING:
    import asyncio
    import selectors
    from collections.abc import Callable

    from pytest_prodpatterns.lab._virtual_clock import VirtualClock

    Events = list[tuple[selectors.SelectorKey, int]]

_LAST_POLL = 0.02
"""Real seconds to listen before a loop with nothing outside is declared dead."""

_ANSWERS = 5
"""Graces of quiet after which a loop that waits for an answer or a client, without a timer, is declared dead."""

_WORKS = 30
"""The same in seconds (or graces, if longer) while a call, a child or a thread still runs."""

_SLICE = 0.05
_ENDLESS = 1000
"""Deadlocks in a row, without a jump between them, after which the code under test clearly swallows them."""


class Turns:
    """Decide at each turn of the loop whether to poll, to listen, to jump, or to give up."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        selector: selectors.BaseSelector,
        clock: VirtualClock,
        root: asyncio.Task[Any] | None,
    ) -> None:
        self._loop = loop
        self._clock = clock
        self._root = root
        self._real_select: Callable[..., Events] = selector.select
        self.outside = Outside(loop, selector.get_map())
        self._signature: Any = None
        self._quiet = 0.0  # real seconds of listening since the last activity outside
        self._pending: list[str] = []
        self._deadlocks = 0

    def make_select(self) -> Callable[..., Events]:
        """Return the `select` that the loop calls; the common path touches local names only."""
        real_select, clock, timers = self._real_select, self._clock, self._loop._scheduled  # type: ignore[attr-defined]
        possible, listen, give_up = self.outside.possible, self._listen, self._give_up

        def select(timeout: float | None = None) -> Events:
            if timeout is not None and timeout <= 0:
                return real_select(0)
            # What is pending is asked before the poll: what ends in between has left its event by then.
            if possible():
                if (events := listen(timeout)) is not None:
                    return events
            elif events := real_select(0):
                return events
            if timeout is None:
                return give_up()
            clock.jumps += 1
            self._deadlocks = 0
            clock._move(timers[0]._when if timers else clock._now + timeout)
            return []

        return select

    def _listen(self, timeout: float | None) -> Events | None:
        """Wait in real time for what is outside; return None once it may be left behind."""
        self.outside.threads.leave_out_current()
        while True:
            self._pending, signature = self.outside.look()
            if signature != self._signature:
                self._signature, self._quiet = signature, 0.0
            if events := self._real_select(0):
                return self._noticed(events)
            if not self._pending:
                return self._land()
            left = self._patience(timeout) - self._quiet
            if left <= 0:
                return self._strict() if timeout is not None and self._clock.strict else None
            if events := self._wait(min(left, _SLICE, 0.001 + self._quiet)):
                return self._noticed(events)

    def _patience(self, timeout: float | None) -> float:
        if timeout is not None:
            return self._clock.grace
        if self.outside.works():
            return _WORKS * max(self._clock.grace, 1.0)
        return _ANSWERS * self._clock.grace

    def _wait(self, seconds: float) -> Events:
        """Listen for a moment. A machine that stalls does not use up the grace."""
        before = time.monotonic()
        events = self._real_select(seconds)
        self._quiet += min(max(time.monotonic() - before, seconds), 2 * seconds)
        return events

    def _noticed(self, events: Events) -> Events:
        if any(self.outside.from_outside(key.fd) for key, _ in events):
            self._quiet = 0.0
        return events

    def _land(self) -> Events | None:
        """Let bytes between two sockets of this process arrive before time passes."""
        if self.outside.files.local_tcp:
            os.sched_yield()
            wait = 0.005 if self.outside.files.in_flight() else 0
            return self._real_select(wait) or None
        return None

    def _strict(self) -> Events:
        pending = ", ".join(self._pending)

        def error(waiting: str) -> Exception:
            return OutsidePending(
                f"{waiting}: virtual time would jump, but still pending outside the loop after "
                f"{self._clock.grace:g} s of quiet: {pending}. Await or close it before time passes, "
                "or raise `grace`."
            )

        return self._raise(error)

    def _give_up(self) -> Events:
        """Nothing is scheduled: take a last look, then raise `Deadlock` where the tasks wait."""
        before = pending, _ = self.outside.look()
        wait = _LAST_POLL
        if not pending and self.outside.may_come():
            wait = max(wait, _ANSWERS * self._clock.grace)
        if events := self._real_select(wait):
            return self._noticed(events)
        if self.outside.look() != before:
            return []
        others = "; ".join(waiting_elsewhere(self._loop))

        def error(waiting: str) -> Exception:
            return Deadlock(
                f"{waiting} waits forever: no timer is scheduled and nothing outside the loop answers. "
                f"Waiting: {others}. Set what it waits for, or give the wait a timeout."
            )

        return self._raise(error)

    def _raise(self, make_error: Callable[[str], Exception]) -> Events:
        self._deadlocks += 1
        if self._deadlocks > _ENDLESS or not raise_in_waiters(self._loop, self._root, make_error):
            raise make_error("the loop")
        return []
