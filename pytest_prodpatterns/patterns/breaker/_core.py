"""The breaker's mind: no clock, no lock, no I/O; time is an argument, effects are return values.

Theory of operation.  A call asks for a ticket, runs, and hands the ticket back with its outcome.  The ticket
carries the generation in which the call began.  Every transition starts a new generation, so each half-open
round has one of its own, and an outcome whose generation is over changes nothing: no state, no count, no
deadline.

While the breaker lets everything through, the ticket is the bare generation, and callers may read it from
`door` without a lock.  If `healthy` still shows the same ticket after a success, there is nothing to record.
Half-open hands out permits: a permit is a lease on one of `max_probes` slots.  It ends with the probe's
outcome, or when its time is up; a probe that hangs loses its slot, and what it brings later is stale.

Whoever calls a method here holds the breaker's lock; only `door`, `healthy`, `shut_until` and `last_failure`
may be read without it.  Each is one reference, replaced as a whole: a reader sees the old or the new one, and
either is right, as the call could have come a moment earlier.  Nothing here depends on the GIL.

A clock may be replaced while we live: a test opens a breaker and then begins virtual time.  When the time is
well before the one at which the present state began, all that is due in this state is counted from the
beginning of the other clock, or from here.
"""

from __future__ import annotations

from collections.abc import Callable
from math import inf
from typing import TYPE_CHECKING, Final, TypeAlias

from pytest_prodpatterns.patterns.breaker._classify import FAILURE, IGNORED, SUCCESS, Outcome
from pytest_prodpatterns.patterns.breaker._state import (
    CLOSED,
    DISABLED,
    FORCED_OPEN,
    HALF_OPEN,
    METRICS_ONLY,
    OPEN,
    TABLE,
    Cause,
    CircuitState,
    Transition,
)
from pytest_prodpatterns.patterns.breaker._tally import Streak, Tally

if TYPE_CHECKING:
    from pytest_prodpatterns.patterns.breaker._settings import Settings

_NEVER: Final = -inf
_OLD_NEWS: Final = 1.0
"""Seconds by which a thread may come late with the time it read, before that means another clock."""


class Permit:
    """The ticket of a call whose time counts: a probe, or a call that may turn out slow."""

    __slots__ = ("expires", "generation", "started")

    def __init__(self, generation: int, started: float, expires: float) -> None:
        self.generation = generation
        self.started = started
        self.expires = expires


Ticket: TypeAlias = int | Permit


class Core:
    """State, counters and permits of one breaker.

    Invariants:
        `door` is the generation if calls need no permit, else 0; `healthy` is `door` or 0.
        `probes` is empty unless half-open; `len(probes) <= peak <= settings.max_probes`.
        `shut_until` is the end of the break when open, infinite when forced open, else minus infinity.
        `since` is when the state began, on the clock that `shut_until` and the leases are measured by.

    Args:
        settings: What to go by.
        state: The state to begin in.
        now: The time.
        roll: Returns a random number from 0 to 1 for the jitter of one break.
    """

    __slots__ = (
        "admitted",
        "door",
        "generation",
        "healthy",
        "history",
        "last_failure",
        "openings",
        "peak",
        "probes",
        "roll",
        "settings",
        "shut_until",
        "since",
        "state",
        "successes",
        "tally",
    )
    state: CircuitState
    door: int
    healthy: int
    probes: list[Permit]
    admitted: int
    successes: int
    peak: int
    shut_until: float
    since: float

    def __init__(
        self, settings: Settings, state: CircuitState, now: float, roll: Callable[[], float]
    ) -> None:
        self.settings = settings
        self.roll = roll
        window = settings.window
        self.tally: Tally = Streak() if window is None else window.tally(settings.minimum_calls)
        self.generation = 0
        self.openings = 0  # since the breaker was closed
        self.history: tuple[Transition, ...] = ()
        self.last_failure: Exception | None = None
        self._enter(state, now, settings.recovery_timeout)

    def admit(self, now: float) -> tuple[Ticket, Transition | None]:
        """Return a ticket, or 0 for a rejection; and the transition that time alone brought about."""
        change = self.elapse(now)
        if self.state is HALF_OPEN:
            return self._lease(now), change
        if self.state is OPEN or self.state is FORCED_OPEN:
            return 0, change
        if self.settings.slow_call_duration is None or self.state is DISABLED:
            return self.generation, change
        return Permit(self.generation, now, inf), change

    def settle(
        self,
        ticket: Ticket,
        outcome: Outcome,
        now: float,
        error: Exception | None = None,
        wait: float | None = None,
    ) -> Transition | None:
        """Take a ticket back with its outcome, and return the transition that this brings about.

        Args:
            ticket: What `admit` returned.
            outcome: What the call counts as.
            now: The time.
            error: The exception that failed.
            wait: For how many seconds the dependency asked to be left alone.
        """
        generation, slow = ticket, False
        if type(ticket) is Permit:
            generation = ticket.generation
            limit = self.settings.slow_call_duration
            slow = limit is not None and now - ticket.started >= limit
        if generation != self.generation or self.state is DISABLED:
            return None
        if slow and self.settings.slow_call_rate is None and outcome is not IGNORED:
            outcome = FAILURE
        if type(ticket) is Permit and self.state is HALF_OPEN:
            return self._settle_probe(ticket, outcome, now, slow, error, wait)
        if outcome is IGNORED:
            return None
        tally = self.tally
        tally.add(now, outcome is FAILURE, slow)
        if outcome is FAILURE:
            self.last_failure = error
        elif tally.calm:
            self.last_failure = None
        self.healthy = self.door if self._calm() else 0
        return None if self.state is METRICS_ONLY else self._judge(now, outcome, wait)

    def note_success(self) -> bool:
        """Draw the conclusions from a plain success that the tally holds already, and found worth a look.

        `ticket == core.door and core.tally.succeed(now) and core.note_success()` is `settle` for the plain
        success of a call without a permit, with all that it need not ask left out.

        Returns:
            Whether a rule may be broken now, so that `review` must look.
        """
        if not self.tally.calm:
            return True
        self.healthy = self.door
        self.last_failure = None
        return False

    def review(self, ticket: Ticket, now: float) -> Transition | None:
        """Open if a rule is broken, after a success."""
        if ticket != self.door or self.state is not CLOSED:
            return None
        return self._judge(now, SUCCESS, None)

    def elapse(self, now: float) -> Transition | None:
        """Do what the passing of time alone does."""
        if self.state is OPEN and now >= self.shut_until:
            return self.move(Cause.ELAPSED, now, "the break is over")
        if self.state is not HALF_OPEN:
            return None
        self.probes = [probe for probe in self.probes if now < probe.expires]
        if self.admitted != self.settings.probe_limit or self.probes:
            return None
        return self.trip(now, f"none of {self.admitted} probes is left, and no verdict")

    def trip(self, now: float, reason: str, wait: float | None = None) -> Transition | None:
        """Open for `wait` seconds, or for as long as the settings say."""
        self.openings += 1
        return self.move(Cause.TRIPPED, now, reason, self._break() if wait is None else wait)

    def move(self, cause: Cause, now: float, reason: str, seconds: float = 0.0) -> Transition | None:
        """Go where the table says; every change of state but `impose` goes through here."""
        return self.impose(TABLE[self.state][cause], now, reason, seconds)

    def impose(self, state: CircuitState, now: float, reason: str, seconds: float) -> Transition | None:
        """Enter any state, for as many seconds if it is open; a new generation begins even if it is the same."""
        change = Transition(now, self.state, state, reason, self.peak)
        self._enter(state, now, seconds)
        if change.previous is state:
            return None
        self.history = (*self.history, change)[-self.settings.history_size :]
        return change

    def retry_after(self, now: float) -> float | None:
        """Return the seconds until a call is let through; None if nobody knows."""
        if self.state is OPEN:
            return max(self.shut_until - now, 0.0)
        if self.state is HALF_OPEN and len(self.probes) >= self.settings.max_probes:
            return max(min(probe.expires for probe in self.probes) - now, 0.0)
        if self.state is HALF_OPEN and self.admitted == self.settings.probe_limit:
            return max(max((probe.expires for probe in self.probes), default=now) - now, 0.0)
        return None if self.state is FORCED_OPEN else 0.0

    def _enter(self, state: CircuitState, now: float, seconds: float) -> None:
        self.door = self.healthy = 0
        self.generation += 1
        self.state = state
        self.since = now
        self.probes = []
        self.admitted = self.successes = self.peak = 0
        self.shut_until = now + seconds if state is OPEN else inf if state is FORCED_OPEN else _NEVER
        if state is CLOSED:
            self.openings = 0
            self.tally.clear()
            self.last_failure = None
        timed = self.settings.slow_call_duration is not None
        if state is DISABLED or (not timed and state in (CLOSED, METRICS_ONLY)):
            self.door = self.generation
            self.healthy = self.door if self._calm() else 0

    def change_clock(self, now: float, elapsed: float) -> None:
        """Go by another clock if this one has gone back, as if the state had begun `elapsed` seconds ago."""
        if now >= self.since - _OLD_NEWS:
            return
        shift = now - elapsed - self.since
        self.since += shift
        self.shut_until += shift
        for probe in self.probes:
            probe.started += shift
            probe.expires += shift

    def _calm(self) -> bool:
        if self.state is DISABLED:
            return True
        return self.tally.calm and not self.settings.judges_results

    def _lease(self, now: float) -> Ticket:
        settings = self.settings
        if len(self.probes) >= settings.max_probes or self.admitted == settings.probe_limit:
            return 0
        permit = Permit(self.generation, now, now + settings.probe_lease)
        self.probes.append(permit)
        self.admitted += 1
        self.peak = max(self.peak, len(self.probes))
        return permit

    def _settle_probe(  # noqa: PLR0917
        self,
        permit: Permit,
        outcome: Outcome,
        now: float,
        slow: bool,
        error: Exception | None,
        wait: float | None,
    ) -> Transition | None:
        if now >= permit.expires or permit not in self.probes:
            return None
        self.probes.remove(permit)
        if outcome is IGNORED:
            self.admitted -= 1
            return None
        if outcome is FAILURE or slow:
            self.last_failure = error
            return self.trip(now, _asked(wait) or ("a probe was slow" if slow else "a probe failed"), wait)
        self.successes += 1
        if self.successes < self.settings.success_threshold:
            return None
        return self.move(Cause.RECOVERED, now, f"{self.successes} probes succeeded")

    def _judge(self, now: float, outcome: Outcome, wait: float | None) -> Transition | None:
        reason = _asked(wait) if outcome is FAILURE else None
        if reason is None:
            reason, wait = self._broken_rule(), None
        return None if reason is None else self.trip(now, reason, wait)

    def _broken_rule(self) -> str | None:
        tally, settings = self.tally, self.settings
        if settings.window is None:
            if tally.failures < settings.failure_threshold:
                return None
            return "1 failure" if tally.failures == 1 else f"{tally.failures} failures in a row"
        if tally.calls < settings.minimum_calls:
            return None
        if settings.failure_rate is None:
            broken = tally.failures >= settings.failure_threshold
        else:
            broken = tally.failures / tally.calls >= settings.failure_rate
        if broken:
            return f"{tally.failures} of {tally.calls} calls failed"
        if settings.slow_call_rate is not None and tally.slow / tally.calls >= settings.slow_call_rate:
            return f"{tally.slow} of {tally.calls} calls were slow"
        return None

    def _break(self) -> float:
        settings = self.settings
        cap = inf if settings.max_recovery_timeout is None else settings.max_recovery_timeout
        try:
            length = settings.recovery_timeout * settings.backoff ** (self.openings - 1)
        except OverflowError:
            length = cap
        return min(min(length, cap) * (1 + settings.jitter * (2 * self.roll() - 1)), cap)


def _asked(wait: float | None) -> str | None:
    return None if wait is None else f"the dependency asked for {wait:.3g} s"
