"""Between the core and the world: the lock, the clock, the events.

Every step is the same: ask the user's code what it means (classifier, `retry_after`) with no lock held,
decide in the core under the lock, then act outside it.  The lock is re-entrant, so that a signal handler or a
finaliser that makes a guarded call while we hold it does not dead-lock.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable
from random import Random
from typing import TYPE_CHECKING, Any, TypeAlias

from pytest_prodpatterns.lab import _ambient, emit, listening, now
from pytest_prodpatterns.patterns.breaker._classify import (
    FAILURE,
    IGNORED,
    SUCCESS,
    default_outcome,
    outcome_of,
    wait_of,
)
from pytest_prodpatterns.patterns.breaker._core import Core, Permit, Ticket
from pytest_prodpatterns.patterns.breaker._dice import Dice, no_dice
from pytest_prodpatterns.patterns.breaker._errors import CircuitOpenError
from pytest_prodpatterns.patterns.breaker._state import (
    CLOSED,
    FORCED_OPEN,
    HALF_OPEN,
    OPEN,
    Cause,
    CircuitState,
    Transition,
)
from pytest_prodpatterns.patterns.breaker._store import SharedState, StateStore

if TYPE_CHECKING:
    from pytest_prodpatterns.patterns.breaker._settings import Settings

__tracebackhide__ = True  # pytest shows the line of the user; --full-trace shows ours, too

Listener: TypeAlias = Callable[[Any, Transition], Any]
"""Called as `listener(breaker, transition)` after each change of state."""


class Engine:
    """Admit calls, settle their outcomes, announce transitions."""

    __slots__ = (
        "__weakref__",
        "_announcing",
        "_complaints",
        "_core",
        "_judges",
        "_listeners",
        "_lock",
        "_now",
        "_outbox",
        "_settings",
        "_store",
        "name",
    )

    def __init__(  # noqa: PLR0917
        self,
        name: str,
        settings: Settings,
        state: CircuitState,
        clock: Callable[[], float] | None,
        rng: Random | None,
        store: StateStore | None,
        listeners: Iterable[Listener],
    ) -> None:
        self.name = name
        self._settings = settings
        self._judges = settings.judges_results
        self._now = now if clock is None else clock
        self._store = store
        self._listeners = tuple(listeners)
        self._lock = threading.RLock()
        self._announcing = threading.Lock()  # held by whoever empties the outbox; never waited for
        self._outbox: list[tuple[Transition, SharedState | None]] = []  # in the order of the decisions
        self._complaints: frozenset[object] = frozenset()
        dice = Dice(name, rng) if settings.jitter else no_dice
        self._core = Core(settings, state, self._now(), dice)
        if store is not None:
            store.attach(name, self._receive)

    def _admit(self) -> Ticket:
        """Return a ticket for one call, or raise CircuitOpenError."""
        core, at = self._core, self._now()
        if core.since <= at < (until := core.shut_until):  # the common rejection takes no lock
            state = OPEN if until < float("inf") else FORCED_OPEN
            raise self._rejection(state, until - at if state is OPEN else None)
        if at < core.since:
            self._change_clock(at)
        with self._lock:
            ticket, change = core.admit(at)
            state, wait = core.state, None if ticket else core.retry_after(at)
            self._post(change, at)
        if change is not None:
            self._announce()
        if not ticket:
            raise self._rejection(state, wait)
        return ticket

    def _done(self, ticket: Ticket, result: Any) -> None:
        """Settle a call that returned, if there is anything to settle."""
        if ticket != self._core.healthy:
            self._returned(ticket, result)

    def _returned(self, ticket: Ticket, result: Any) -> None:
        """Settle a call that returned, and whose ticket is not `healthy` any more, or never was."""
        if self._judges or type(ticket) is Permit:
            outcome, wait = self._meaning(result, None) if self._judges else (SUCCESS, None)
            self._settle(ticket, outcome, None, wait)
        else:  # the common success needs no more than this
            core = self._core
            tally = core.tally
            at = (_ambient._clock() if self._now is now else self._now()) if tally.ages else 0.0  # noqa: SLF001
            with self._lock:
                suspicious = ticket == core.door and tally.succeed(at) and core.note_success()
            if suspicious:
                self._review(ticket)

    def _raised(self, ticket: Ticket, error: BaseException) -> None:
        """Settle a call that raised; cancellation, Ctrl-C and the like are neither success nor failure."""
        if isinstance(error, Exception):
            if self._judges:
                outcome, wait = self._meaning(None, error)
            else:
                outcome, wait = default_outcome(self._settings, error), None
            self._settle(ticket, outcome, error, wait)
        elif type(ticket) is Permit:
            self._settle(ticket, IGNORED, None, None)

    def _review(self, ticket: Ticket) -> None:
        at = self._now()
        with self._lock:
            change = self._core.review(ticket, at)
            self._post(change, at)
        self._announce()

    def _overran(self, ticket: Ticket, error: Exception) -> None:
        """Settle a call that ran over the breaker's own deadline: always a failure."""
        self._settle(ticket, FAILURE, error, None)

    def _settle(self, ticket: Ticket, outcome: Any, error: Exception | None, wait: float | None) -> None:
        at = self._now()
        with self._lock:
            change = self._core.settle(ticket, outcome, at, error, wait)
            self._post(change, at)
        if change is not None:
            self._announce()

    def _look(self) -> CircuitState:
        """Let time do its work, and return the state."""
        at = self._now()
        if at < self._core.since:
            self._change_clock(at)
        with self._lock:
            self._post(self._core.elapse(at), at)
            self._core.tally.expire(at)
            state = self._core.state
        self._announce()
        return state

    def _change_clock(self, at: float) -> None:
        """Go on when the clock shows an earlier time than before, as when virtual time has begun."""
        clock = _ambient.ambient_clock() if self._now is now else self._now
        elapsed = getattr(getattr(clock, "__self__", clock), "elapsed", 0.0)
        with self._lock:
            self._core.change_clock(at, elapsed)

    def _move(self, cause: Cause, reason: str) -> None:
        at = self._now()
        with self._lock:
            self._post(self._core.move(cause, at, reason), at)
        self._announce()

    def _impose(self, state: CircuitState, reason: str, seconds: float | None = None) -> None:
        at = self._now()
        with self._lock:
            wait = self._settings.recovery_timeout if seconds is None else seconds
            self._post(self._core.impose(state, at, reason, wait), at)
        self._announce()

    def _receive(self, shared: SharedState) -> None:
        """Take over what another breaker of this name published; each finds half-open by its own clock."""
        at, state = self._now(), CircuitState(shared.state)
        with self._lock:
            if state is self._core.state or state is HALF_OPEN:
                return
            change = self._core.impose(state, at, f"shared: {shared.reason}", shared.seconds)
            self._core.openings = 0 if state is CLOSED else shared.openings
            if change is not None:
                self._outbox.append((change, None))
        self._announce()

    def _rejection(self, state: CircuitState, wait: float | None) -> CircuitOpenError:
        if listening():
            emit(f"breaker:{self.name}", "rejected", state=str(state), retry_after=wait)
        return CircuitOpenError(self.name, state, wait, self._core.last_failure)

    def _meaning(self, result: Any, error: Exception | None) -> tuple[Any, float | None]:
        settings = self._settings
        outcome = default_outcome(settings, error)
        wait = None
        try:
            outcome = outcome_of(settings, result, error)
        except Exception as problem:  # noqa: BLE001
            self._complain("classify", problem)
        try:
            wait = wait_of(settings, result if error is None else error)
        except Exception as problem:  # noqa: BLE001
            self._complain("retry_after", problem)
        return (outcome, None) if wait is None else (FAILURE, wait)

    def _post(self, change: Transition | None, at: float) -> None:
        """Put a transition into the outbox; the lock is held."""
        if change is not None:
            seconds = self._core.retry_after(at) or 0.0
            shared = SharedState(change.state, seconds, self._core.openings, change.reason)
            self._outbox.append((change, None if self._store is None else shared))

    def _announce(self) -> None:
        """Tell the world about transitions, in their order, one thread at a time, with no lock waited for."""
        while self._outbox and self._announcing.acquire(blocking=False):
            try:
                while self._outbox:
                    self._tell(*self._outbox.pop(0))
            finally:
                self._announcing.release()

    def _tell(self, change: Transition, shared: SharedState | None) -> None:
        emit(
            f"breaker:{self.name}",
            "transition",
            previous=str(change.previous),
            state=str(change.state),
            reason=change.reason,
        )
        for listener in self._listeners:
            try:
                listener(self, change)
            except Exception as problem:  # noqa: BLE001
                self._complain(listener, problem)
        if self._store is not None and shared is not None:
            try:
                self._store.publish(self.name, shared, self._receive)
            except Exception as problem:  # noqa: BLE001
                self._complain("store", problem)

    def _complain(self, culprit: Any, problem: Exception) -> None:
        """Record that user code failed: in the timeline each time, in the log once for each culprit."""
        who = culprit if isinstance(culprit, str) else "listener"
        try:
            text = repr(problem)
        except Exception:  # noqa: BLE001
            text = type(problem).__name__
        emit(f"breaker:{self.name}", f"{who.replace('_', '-')}-failed", error=text)
        key = culprit if isinstance(culprit, str) else id(culprit)
        if key in self._complaints:
            return
        self._complaints |= {key}
        import logging  # noqa: PLC0415

        logging.getLogger("pytest_prodpatterns.breaker").error(
            "circuit breaker %r: its %s failed; the guarded call is not affected",
            self.name,
            who,
            exc_info=problem,
        )
