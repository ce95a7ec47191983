"""The parameters of a breaker, checked once at the door."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, Final, TypeAlias

from pytest_prodpatterns.patterns.breaker import _checks
from pytest_prodpatterns.patterns.breaker._classify import Outcome
from pytest_prodpatterns.patterns.breaker._errors import CircuitOpenError
from pytest_prodpatterns.patterns.breaker._window import CountWindow, TimeWindow

__tracebackhide__ = True  # pytest shows the line of the user; --full-trace shows ours, too

Classifier: TypeAlias = Callable[[Any, Exception | None], Outcome | str | None]
"""Takes (result, None) or (None, error); returns an Outcome, or None to leave it to the default."""

Window: TypeAlias = CountWindow | TimeWindow
_CAP: Final = 10  # the longest break is ten times the first one, unless it is told otherwise


@dataclass(frozen=True, slots=True)
class Settings:
    """What the core goes by; `CircuitBreaker` documents each field."""

    failure_threshold: int
    recovery_timeout: float
    success_threshold: int
    window: Window | None
    failure_rate: float | None
    slow_call_duration: float | None
    slow_call_rate: float | None
    minimum_calls: int
    max_probes: int
    probe_limit: int | None
    probe_lease: float
    call_timeout: float | None
    classify: Classifier | None
    failures: tuple[type[Exception], ...]
    ignore: tuple[type[Exception], ...]
    retry_after: Callable[[Any], float | None] | None
    backoff: float
    max_recovery_timeout: float | None
    jitter: float
    history_size: int

    @property
    def judges_results(self) -> bool:
        """Whether a call that returned may count as anything but a success."""
        return self.classify is not None or self.retry_after is not None


def checked(
    *,
    failure_threshold: Any,
    recovery_timeout: Any,
    success_threshold: Any,
    window: Any,
    failure_rate: Any,
    minimum_calls: Any,
    slow_call_duration: Any,
    slow_call_rate: Any,
    max_probes: Any,
    probe_limit: Any,
    probe_lease: Any,
    call_timeout: Any,
    classify: Any,
    failures: type[Exception] | Iterable[type[Exception]],
    ignore: type[Exception] | Iterable[type[Exception]],
    retry_after: Any,
    backoff: Any,
    max_recovery_timeout: Any,
    jitter: Any,
    history_size: Any,
) -> Settings:
    """Return the parameters as settings.

    Raises:
        TypeError: When a parameter is of the wrong kind; the text names it.
        ValueError: When a parameter is out of range or contradicts another one; the text names it.
    """
    _checks.whole("failure_threshold", failure_threshold)
    _checks.seconds("recovery_timeout", recovery_timeout)
    _checks.whole("success_threshold", success_threshold)
    _checks.whole("max_probes", max_probes)
    _checks.whole("history_size", history_size)
    _checks.factor("backoff", backoff)
    _checks.fraction("jitter", jitter, zero=True)
    _each(_checks.fraction, failure_rate=failure_rate, slow_call_rate=slow_call_rate)
    _each(_checks.whole, minimum_calls=minimum_calls, probe_limit=probe_limit)
    _each(
        _checks.seconds,
        slow_call_duration=slow_call_duration,
        probe_lease=probe_lease,
        call_timeout=call_timeout,
        max_recovery_timeout=max_recovery_timeout,
    )
    _check_window(window, failure_threshold, failure_rate, minimum_calls, slow_call_duration, slow_call_rate)
    _check_probes(probe_limit, success_threshold, probe_lease, call_timeout)
    if max_recovery_timeout is not None and max_recovery_timeout < recovery_timeout:
        raise ValueError(
            f"max_recovery_timeout must be at least recovery_timeout={recovery_timeout!r}, "
            f"not {max_recovery_timeout!r}"
        )
    if max_recovery_timeout is None and backoff > 1:
        max_recovery_timeout = recovery_timeout * _CAP
    counted = _checks.exceptions("failures", failures)
    ignored = _checks.exceptions("ignore", ignore)
    if not any(issubclass(kind, CircuitOpenError) for kind in counted):
        ignored = (*ignored, CircuitOpenError)
    return Settings(
        failure_threshold=failure_threshold,
        recovery_timeout=recovery_timeout,
        success_threshold=success_threshold,
        window=window,
        failure_rate=failure_rate,
        slow_call_duration=slow_call_duration,
        slow_call_rate=slow_call_rate,
        minimum_calls=failure_threshold if minimum_calls is None else minimum_calls,
        max_probes=max_probes,
        probe_limit=probe_limit,
        probe_lease=max(recovery_timeout, call_timeout or 0) if probe_lease is None else probe_lease,
        call_timeout=call_timeout,
        classify=_checks.function("classify", classify),
        failures=counted,
        ignore=ignored,
        retry_after=_checks.function("retry_after", retry_after),
        backoff=backoff,
        max_recovery_timeout=max_recovery_timeout,
        jitter=jitter,
        history_size=history_size,
    )


def _each(check: Callable[[str, Any], Any], **values: Any) -> None:
    for name, value in values.items():
        if value is not None:
            check(name, value)


def _check_window(  # noqa: PLR0917
    window: Any, threshold: int, rate: Any, minimum: int | None, slow_duration: Any, slow_rate: Any
) -> None:
    if slow_rate is not None and slow_duration is None:
        raise ValueError("slow_call_rate needs slow_call_duration, which says what is slow")
    if window is None:
        for name, value in (
            ("failure_rate", rate),
            ("slow_call_rate", slow_rate),
            ("minimum_calls", minimum),
        ):
            if value is not None:
                raise ValueError(
                    f"{name} needs a window: pass window=CountWindow(size) or TimeWindow(seconds)"
                )
        return
    if not isinstance(window, CountWindow | TimeWindow):
        raise TypeError(f"window must be a CountWindow, a TimeWindow or None, not {window!r}")
    if isinstance(window, TimeWindow):
        return
    if minimum is not None and minimum > window.size:
        raise ValueError(f"minimum_calls must be at most the window's size {window.size}, not {minimum!r}")
    if threshold > window.size and (minimum is None or rate is None):
        raise ValueError(
            f"failure_threshold must be at most the window's size {window.size}, not {threshold!r}"
            + ("; it is also the default of minimum_calls" if rate is not None else "")
        )


def _check_probes(limit: int | None, successes: int, lease: float | None, call_timeout: float | None) -> None:
    if limit is not None and limit < successes:
        raise ValueError(f"probe_limit must be at least success_threshold={successes}, not {limit!r}")
    if lease is not None and call_timeout is not None and lease < call_timeout:
        raise ValueError(f"probe_lease must be at least call_timeout={call_timeout!r}, not {lease!r}")
