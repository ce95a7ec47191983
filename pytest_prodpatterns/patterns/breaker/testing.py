"""Helpers for tests of code that uses a circuit breaker; they need no test framework."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

from pytest_prodpatterns.patterns.breaker import _checks
from pytest_prodpatterns.patterns.breaker._errors import CircuitOpenError
from pytest_prodpatterns.patterns.breaker._state import CLOSED, HALF_OPEN, OPEN, CircuitState

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from pytest_prodpatterns.patterns.breaker._breaker import CircuitBreaker
    from pytest_prodpatterns.patterns.breaker._settings import Settings

__tracebackhide__ = True  # pytest shows the line of the user; --full-trace shows ours, too

__all__ = ["assert_probes", "assert_transitions", "forced", "trip"]


def trip(breaker: CircuitBreaker, error: Exception | None = None) -> None:
    """Let calls fail until the breaker is open, by its own rules, so that listeners and history see it.

    An open breaker stays as it is. Half-open, one failed probe opens it.

    Args:
        breaker: A breaker that is closed, half-open or open.
        error: What the calls fail with; choose one that its classifier counts. By default one of its
            `failures`.

    Raises:
        AssertionError: When it does not open; the text says why and shows the history.
        TypeError: When there is no `error`, and the first of its `failures` cannot be made from a text.
    """
    if breaker.state not in (CLOSED, HALF_OPEN, OPEN):
        text = f"cannot trip {breaker!r}: it is {breaker.state}; call reset() first"
        raise AssertionError(_with_history(text, breaker))
    settings = breaker._settings  # noqa: SLF001
    failure = _failure_of(settings) if error is None else error
    calls = max(settings.failure_threshold, settings.minimum_calls, getattr(settings.window, "size", 0))
    for _ in range(calls):
        if breaker.state is OPEN:
            return
        try:
            ticket = breaker._admit()  # noqa: SLF001
        except CircuitOpenError as rejection:
            raise AssertionError(_with_history(f"cannot trip {breaker!r}: {rejection}", breaker)) from None
        breaker._raised(ticket, failure)  # noqa: SLF001
    if breaker.state is not OPEN:
        text = f"{breaker!r} is not open after {calls} calls that raised {failure!r}; pass an error that it counts"
        raise AssertionError(_with_history(text, breaker))


@contextmanager
def forced(breaker: CircuitBreaker, state: CircuitState | str) -> Iterator[CircuitBreaker]:
    """Put the breaker into a state for the length of a block, and back into the state before.

    An open breaker stays open for its `recovery_timeout` from here, as ever. A closed one begins to count anew,
    before and after the block; calls that run across either end of it do not count. Both moves stand in the
    history.

    Args:
        breaker: Any breaker.
        state: The state, or its name.

    Yields:
        The breaker.
    """
    wanted = _checks.state("state", state)
    before = breaker.snapshot()
    breaker._impose(wanted, "forced by a test")  # noqa: SLF001
    try:
        yield breaker
    finally:
        breaker._impose(before.state, "restored after a test's block", before.retry_after)  # noqa: SLF001


def assert_transitions(breaker: CircuitBreaker, expected: str | Iterable[CircuitState | str]) -> None:
    """Assert which states the breaker went through, from its first on.

    Args:
        breaker: Any breaker.
        expected: The states, as `"closed -> open -> half_open"` or as a list.

    Raises:
        AssertionError: When it went another way; the text shows the history.
        ValueError: When `expected` names no state.
    """
    names = expected.replace("→", "->").split("->") if isinstance(expected, str) else expected
    wanted = [_checks.state("expected", name.strip()) for name in names]
    state = breaker.state  # first: an open breaker whose break is over becomes half-open when it is looked at
    history = breaker.history
    went = [history[0].previous, *(change.state for change in history)] if history else [state]
    if went != wanted:
        text = f"circuit breaker {breaker.name!r} went {_path(went)}, expected {_path(wanted)}"
        raise AssertionError(_with_history(text, breaker))


def assert_probes(breaker: CircuitBreaker, max: int = 1) -> None:  # noqa: A002
    """Assert that at no time more than `max` probes ran side by side.

    Args:
        breaker: Any breaker.
        max: The highest number allowed.

    Raises:
        AssertionError: When there were more; the text shows the history.
    """
    peak = breaker._core.peak  # noqa: SLF001
    for change in breaker.history:
        peak = change.probes if change.probes > peak else peak  # noqa: FURB136  # `max` is the parameter
    if peak > max:
        text = f"{peak} probes of circuit breaker {breaker.name!r} ran side by side, expected at most {max}"
        raise AssertionError(_with_history(text, breaker))


def _failure_of(settings: Settings) -> Exception:
    kind = settings.failures[0] if settings.failures else Exception
    try:
        return kind("tripped by a test")
    except Exception as problem:
        raise TypeError(f"cannot make {kind.__name__} from a text ({problem}); pass error=…") from problem


def _path(states: Iterable[CircuitState]) -> str:
    return " -> ".join(states)


def _with_history(text: str, breaker: CircuitBreaker) -> str:
    history = breaker.history
    if not history:
        return f"{text}\nhistory: none, it has never left its first state"
    first = history[0].at
    times = [f"t{change.at - first:+.3f}s" for change in history]
    width = max(map(len, times))
    lines = [f"  {time:{width}}  {change}" for time, change in zip(times, history, strict=True)]
    return "\n".join([text, "history, in seconds since the first transition:", *lines])
