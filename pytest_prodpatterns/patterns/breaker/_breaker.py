"""`CircuitBreaker`: the public face."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Coroutine, Iterable
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, NamedTuple, NoReturn, ParamSpec, Self, TypeVar, overload

from pytest_prodpatterns.patterns.breaker import _checks
from pytest_prodpatterns.patterns.breaker._engine import Engine, Listener
from pytest_prodpatterns.patterns.breaker._settings import Classifier, Window, checked
from pytest_prodpatterns.patterns.breaker._shells import (
    LAZY_FLAGS,
    LAZY_RESULTS,
    PLAIN_RESULTS,
    finish,
    shell,
    within,
)
from pytest_prodpatterns.patterns.breaker._snapshot import Snapshot
from pytest_prodpatterns.patterns.breaker._state import CLOSED, Cause, CircuitState, Transition

if TYPE_CHECKING:
    from random import Random
    from types import TracebackType

    from pytest_prodpatterns.patterns.breaker._core import Ticket
    from pytest_prodpatterns.patterns.breaker._store import StateStore

__tracebackhide__ = True  # pytest shows the line of the user; --full-trace shows ours, too

P = ParamSpec("P")
T = TypeVar("T")
F = TypeVar("F", bound=Callable[..., Any])
_COROUTINE = 0x80  # inspect.CO_COROUTINE


class _Entered(NamedTuple):
    """A `with` block that is not left yet; the innermost first."""

    breaker: CircuitBreaker
    ticket: Ticket
    outer: _Entered | None


_entered: ContextVar[_Entered | None] = ContextVar("prodpatterns_breakers", default=None)


class CircuitBreaker(Engine):
    """Stop calling a dependency that keeps failing, and find out by a few probes when it is well again.

    Guards synchronous and asynchronous code alike, in any number of threads: `breaker.call(function, *args)`,
    `@breaker` on a function, `with breaker:` and `async with breaker:`.

    Args:
        failure_threshold: Failures in a row that open the breaker; with a `window` and no `failure_rate`,
            failures in the window.
        recovery_timeout: Seconds for which it stays open before it lets probes through.
        success_threshold: Successful probes that close it. One failed probe opens it again.
        name: Its name in errors, events and the registry.
        window: `CountWindow(size)` or `TimeWindow(seconds)` to judge it by; None for failures in a row.
        failure_rate: Share of failed calls in the window, above 0 and up to 1, that opens it.
        minimum_calls: Calls in the window before any rule holds; by default `failure_threshold`.
        slow_call_duration: Seconds from which a call is slow. Without `slow_call_rate` a slow call is a failure.
            A slow probe is always a failed one.
        slow_call_rate: Share of slow calls in the window that opens it.
        max_probes: Probes that may run side by side when half-open.
        probe_limit: Probes in one half-open round altogether; None for no limit. When they are used up without
            a verdict, as some hung, it opens again. A cancelled or ignored probe does not use one up.
        probe_lease: Seconds after which a running probe loses its slot to the next one, and its outcome no
            longer counts; choose more than a good call ever takes. By default `recovery_timeout`, and at least
            `call_timeout`.
        call_timeout: Seconds after which an async call is cancelled with a TimeoutError, which is a failure. A
            deadline of the caller is a cancellation, which is neutral, so own it here if it should count.
        classify: Called as `classify(result, None)` or `classify(None, error)`; returns an `Outcome` (or its
            text) or None for the default. Not called for BaseExceptions that are no Exception: cancellation and
            Ctrl-C are always neutral.
        failures: Exceptions that count as failures. Others are answers of a living dependency: successes.
        ignore: Exceptions that count as neither. The CircuitOpenError of another breaker is among them, unless
            `failures` names it: that breaker has counted the cause.
        retry_after: Called with a result or an exception; returns the seconds for which the dependency asks to
            be left alone (`Retry-After`), which opens the breaker at once and for so long, or None.
        backoff: Factor by which each break is longer than the one before, until the breaker closes.
        max_recovery_timeout: The longest break in seconds; by default 10 times `recovery_timeout` if there is
            a `backoff`. It also limits what `retry_after` asks for.
        jitter: Share from 0 to 1 by which a break is randomly longer or shorter.
        initial_state: The state to begin in.
        history_size: Transitions that `history` remembers.
        clock: Seconds on a monotonic clock; by default `lab.now`, read at each call.
        rng: Random numbers for the jitter; by default a stream of the current lab, else unseeded.
        store: Shares the state with other breakers of this name; None keeps it here.
        listeners: Called as `listener(breaker, transition)` after each change of state, outside the lock. What
            they raise is logged once and never reaches a call.

    Raises:
        TypeError: When a parameter is of the wrong kind; the text names it.
        ValueError: When a parameter is out of range or contradicts another one; the text names it.
    """

    __slots__ = ()

    def __init__(
        self,
        failure_threshold: int = 5,
        recovery_timeout: float = 60.0,
        success_threshold: int = 2,
        *,
        name: str | None = None,
        window: Window | None = None,
        failure_rate: float | None = None,
        minimum_calls: int | None = None,
        slow_call_duration: float | None = None,
        slow_call_rate: float | None = None,
        max_probes: int = 1,
        probe_limit: int | None = None,
        probe_lease: float | None = None,
        call_timeout: float | None = None,
        classify: Classifier | None = None,
        failures: type[Exception] | Iterable[type[Exception]] = Exception,
        ignore: type[Exception] | Iterable[type[Exception]] = (),
        retry_after: Callable[[Any], float | None] | None = None,
        backoff: float = 1.0,
        max_recovery_timeout: float | None = None,
        jitter: float = 0.0,
        initial_state: CircuitState | str = CLOSED,
        history_size: int = 100,
        clock: Callable[[], float] | None = None,
        rng: Random | None = None,
        store: StateStore | None = None,
        listeners: Iterable[Listener] = (),
    ) -> None:
        settings = checked(
            failure_threshold=failure_threshold,
            recovery_timeout=recovery_timeout,
            success_threshold=success_threshold,
            window=window,
            failure_rate=failure_rate,
            minimum_calls=minimum_calls,
            slow_call_duration=slow_call_duration,
            slow_call_rate=slow_call_rate,
            max_probes=max_probes,
            probe_limit=probe_limit,
            probe_lease=probe_lease,
            call_timeout=call_timeout,
            classify=classify,
            failures=failures,
            ignore=ignore,
            retry_after=retry_after,
            backoff=backoff,
            max_recovery_timeout=max_recovery_timeout,
            jitter=jitter,
            history_size=history_size,
        )
        heard = tuple(listeners)
        for listener in heard:
            _checks.function("listeners", listener)
        if name is not None and not isinstance(name, str):
            raise TypeError(f"name must be a text or None, not {name!r}")
        state = _checks.state("initial_state", initial_state)
        _checks.function("clock", clock)
        super().__init__("default" if name is None else name, settings, state, clock, rng, store, heard)

    @overload
    def call(
        self, function: Callable[P, Awaitable[T]], /, *args: P.args, **kwargs: P.kwargs
    ) -> Coroutine[Any, Any, T]: ...
    @overload
    def call(self, function: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> T: ...
    def call(self, function: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Any:
        """Call `function(*args, **kwargs)` under this breaker's guard.

        Args:
            function: A function of any kind.
            args: Its arguments.
            kwargs: Its keyword arguments.

        Returns:
            Its result; for an async function, a coroutine that is admitted or rejected when it is awaited; for
            a generator, a guarded one; for another awaitable, a coroutine that awaits it.

        Raises:
            CircuitOpenError: When the breaker rejects the call; `function` was not called.
            TypeError: When `function` cannot be guarded.
            Exception: Whatever `function` raises, unchanged.
        """
        settings = self._settings
        try:
            flags = function.__code__.co_flags & LAZY_FLAGS
        except AttributeError:
            flags = 0 if isinstance(function, type) else LAZY_FLAGS
        if flags == _COROUTINE:
            if settings.call_timeout is None:
                return self._await(function, args, kwargs)
            return within(self, function, args, kwargs)
        if flags or settings.call_timeout is not None:
            return shell(self, function)(*args, **kwargs)
        core = self._core
        ticket = core.healthy or core.door or self._admit()
        try:
            result = function(*args, **kwargs)
        except BaseException as error:
            self._raised(ticket, error)
            raise
        kind = type(result)
        if kind not in PLAIN_RESULTS and (kind in LAZY_RESULTS or hasattr(kind, "__await__")):
            return finish(self, ticket, result)
        if ticket != core.healthy:
            self._returned(ticket, result)
        return result

    def guard(self, function: F) -> F:
        """Return `function` guarded: of the same kind, name and signature.

        Raises:
            TypeError: When it cannot be guarded; the text says what to do instead.
        """
        return shell(self, function)  # type: ignore[no-any-return]

    __call__ = guard

    def __enter__(self) -> Self:
        if self._settings.call_timeout is not None:
            raise TypeError(
                "call_timeout needs an async function: use `await breaker.call(function)`, not `with`"
            )
        _entered.set(_Entered(self, self._admit(), _entered.get()))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        ticket = self._leave()
        if error is None:
            self._done(ticket, None)
        else:
            self._raised(ticket, error)

    async def __aenter__(self) -> Self:
        return self.__enter__()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.__exit__(kind, error, trace)

    @property
    def state(self) -> CircuitState:
        """The state now: an open breaker whose break is over is half-open, whether or not it was called."""
        return self._look()

    @property
    def failure_count(self) -> int:
        """Failures in a row, or in the window, that are counted now."""
        self._look()
        return self._core.tally.failures

    @property
    def success_count(self) -> int:
        """Successful probes of this half-open round."""
        self._look()
        return self._core.successes

    @property
    def history(self) -> tuple[Transition, ...]:
        """The newest transitions, oldest first."""
        return self._core.history

    @property
    def last_failure(self) -> Exception | None:
        """The exception that was counted last; None when it closes, or all is well again.

        It keeps its traceback, and with it the frames that it came through.
        """
        return self._core.last_failure

    def snapshot(self) -> Snapshot:
        """Return a consistent view of the breaker."""
        self._look()
        at = self._now()
        with self._lock:
            core, tally, failure = self._core, self._core.tally, self._core.last_failure
            return Snapshot(
                name=self.name,
                state=core.state,
                generation=core.generation,
                calls=tally.calls,
                failure_count=tally.failures,
                slow_count=tally.slow,
                success_count=core.successes,
                probes=len(core.probes),
                openings=core.openings,
                retry_after=core.retry_after(at),
                last_failure=None if failure is None else type(failure).__name__,
            )

    def reset(self) -> None:
        """Close the breaker and forget all counts; calls that run now will not count."""
        self._move(Cause.RESET, "reset by hand")

    def force_open(self) -> None:
        """Reject every call until `reset`, `disable` or `metrics_only`."""
        self._move(Cause.FORCED, "forced open by hand")

    def disable(self) -> None:
        """Let every call through and count nothing until `reset`, `force_open` or `metrics_only`."""
        self._move(Cause.DISABLED, "disabled by hand")

    def metrics_only(self) -> None:
        """Let every call through and count, but never open, until `reset`, `force_open` or `disable`."""
        self._move(Cause.OBSERVED, "metrics only, by hand")

    def __reduce__(self) -> NoReturn:
        raise TypeError(
            f"circuit breaker {self.name!r} can be neither copied nor pickled, as calls run through it: "
            "make one in each process, and share their state by a store"
        )

    def __repr__(self) -> str:
        core = self._core
        return f"<CircuitBreaker {self.name!r} {core.state}, {core.tally.failures} failures>"

    async def _await(self, function: Callable[..., Any], args: Any, kwargs: Any) -> Any:
        core = self._core
        ticket = core.healthy or core.door or self._admit()
        try:
            result = await function(*args, **kwargs)
        except BaseException as error:
            self._raised(ticket, error)
            raise
        if ticket != core.healthy:
            self._returned(ticket, result)
        return result

    def _leave(self) -> Ticket:
        """Take this breaker's innermost `with` block out of the context, and return its ticket."""
        inner: list[_Entered] = []
        block = _entered.get()
        while block is not None and block.breaker is not self:
            inner.append(block)
            block = block.outer
        if block is None:
            raise RuntimeError(
                f"the `with` block of circuit breaker {self.name!r} is left in another context than it was entered; "
                "use `breaker.call` or the decorator"
            )
        outer = block.outer
        for other in reversed(inner):
            outer = other._replace(outer=outer)
        _entered.set(outer)
        return block.ticket
