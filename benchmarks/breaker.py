"""What a guarded call costs over a bare one, beside the libraries."""

from __future__ import annotations

import asyncio
import tracemalloc
from collections.abc import Awaitable, Callable
from typing import Any

from benchmarks._measure import Figure, compare, cpu_nanoseconds, interleave
from pytest_prodpatterns.patterns.breaker import CircuitBreaker, CircuitOpenError, CountWindow, TimeWindow
from pytest_prodpatterns.patterns.breaker.testing import trip

CALLS = 20_000
ROUNDS = 25


def service() -> int:
    """Answer at once."""
    return 1


def shaky_service(number: int) -> int:
    """Fail one call in fifty, so that no window is ever free of failures."""
    if number % 50 == 49:
        raise ConnectionError
    return 1


async def async_service() -> int:
    """Answer at once."""
    return 1


def _turn(function: Callable[[], object], calls: int = CALLS) -> Callable[[], float]:
    def work() -> None:
        for _ in range(calls):
            function()

    return lambda: cpu_nanoseconds(work, calls)


def _mixed_turn(function: Callable[[int], object]) -> Callable[[], float]:
    def work() -> None:
        for number in range(CALLS):
            try:
                function(number)
            except ConnectionError:
                pass

    return lambda: cpu_nanoseconds(work, CALLS)


def _async_turn(function: Callable[[], Awaitable[object]], calls: int = CALLS) -> Callable[[], float]:
    async def work() -> None:
        for _ in range(calls):
            await function()

    runner = asyncio.Runner()
    return lambda: cpu_nanoseconds(lambda: runner.run(work()), calls)


def _rejections(function: Callable[[], object], error: type[Exception]) -> Callable[[], float]:
    def work() -> None:
        for _ in range(CALLS):
            try:
                function()
            except error:
                pass

    return lambda: cpu_nanoseconds(work, CALLS)


def _async_rejections(
    function: Callable[[], Awaitable[object]], error: type[Exception]
) -> Callable[[], float]:
    async def work() -> None:
        for _ in range(CALLS):
            try:
                await function()
            except error:
                pass

    runner = asyncio.Runner()
    return lambda: cpu_nanoseconds(lambda: runner.run(work()), CALLS)


def _count(size: int) -> CircuitBreaker:
    return CircuitBreaker(window=CountWindow(size), minimum_calls=10, failure_rate=0.5)


def _time() -> CircuitBreaker:
    return CircuitBreaker(window=TimeWindow(10.0), minimum_calls=10, failure_rate=0.5)


def _peers() -> dict[str, Any]:
    import circuitbreaker
    import nopanic
    import pyresilience

    return {
        "circuitbreaker": circuitbreaker.CircuitBreaker(failure_threshold=5, recovery_timeout=60),
        "nopanic": nopanic.CircuitBreaker(window=10, min_calls=10),
        "pyresilience": pyresilience.resilient(
            circuit_breaker=pyresilience.CircuitBreakerConfig(
                failure_threshold=5, sliding_window_size=100, minimum_calls=10
            )
        ),
    }


def _added(costs: dict[str, list[float]], *rows: tuple[str, str, str, str]) -> list[Figure]:
    """Make rows of the table from (figure, ours, peer, reach), with the cost of the bare call taken off."""
    return [
        compare(name, costs, ours=ours, peer=peer, unit="ns added", reach=reach, bare="bare")
        for name, ours, peer, reach in rows
    ]


def closed_sync() -> list[Figure]:
    """Measure a sync call through a closed breaker."""
    peers = _peers()
    costs = interleave(
        {
            "bare": _turn(service),
            "consecutive": _turn(CircuitBreaker()(service)),
            "count 100": _turn(_count(100)(service)),
            "count 10000": _turn(_count(10_000)(service)),
            "time": _turn(_time()(service)),
            "circuitbreaker": _turn(peers["circuitbreaker"](service)),
            "nopanic": _turn(peers["nopanic"](service)),
            "pyresilience": _turn(peers["pyresilience"](service)),
        },
        ROUNDS,
    )

    return _added(
        costs,
        ("sync call, closed, consecutive", "consecutive", "circuitbreaker", "<= 0.4"),
        ("sync call, closed, count window 100", "count 100", "nopanic", "<= 0.6"),
        ("sync call, closed, count window 100", "count 100", "pyresilience", "<= 0.6"),
        ("sync call, closed, time window", "time", "nopanic", "<= 0.6"),
        ("sync call, closed, time window", "time", "pyresilience", "<= 0.6"),
        ("count window 10 000 beside window 100 (ours)", "count 10000", "count 100", "<= 1.1"),
    )


def shaky_sync() -> list[Figure]:
    """Measure a sync call through a closed breaker whose window always holds a failure."""
    costs = interleave(
        {
            "bare": _mixed_turn(shaky_service),
            "count 100": _mixed_turn(_count(100)(shaky_service)),
            "count 10000": _mixed_turn(_count(10_000)(shaky_service)),
            "time": _mixed_turn(_time()(shaky_service)),
            "nopanic": _mixed_turn(_peers()["nopanic"](shaky_service)),
        },
        ROUNDS,
    )

    return _added(
        costs,
        ("sync call, one in fifty fails, count window 100", "count 100", "nopanic", "<= 0.6"),
        ("sync call, one in fifty fails, time window", "time", "nopanic", "<= 0.6"),
        ("the same, count window 10 000 beside 100 (ours)", "count 10000", "count 100", "<= 1.1"),
    )


def closed_async() -> list[Figure]:
    """Measure an async call through a closed breaker."""
    peers = _peers()
    costs = interleave(
        {
            "bare": _async_turn(async_service),
            "consecutive": _async_turn(CircuitBreaker()(async_service)),
            "count 100": _async_turn(_count(100)(async_service)),
            "circuitbreaker": _async_turn(peers["circuitbreaker"](async_service)),
            "nopanic": _async_turn(peers["nopanic"](async_service)),
        },
        ROUNDS,
    )

    return _added(
        costs,
        ("async call, closed, consecutive", "consecutive", "circuitbreaker", "<= 0.6"),
        ("async call, closed, count window 100", "count 100", "nopanic", "<= 0.8"),
    )


def rejections() -> list[Figure]:
    """Measure a rejected call."""
    import circuitbreaker

    def opened(function: Callable[..., Any]) -> Callable[..., Any]:
        breaker = circuitbreaker.CircuitBreaker(failure_threshold=1, recovery_timeout=3600)
        breaker._last_failure = ConnectionError()
        breaker._failure_count = 1
        breaker._state = "open"
        breaker._opened = __import__("time").monotonic()
        return breaker(function)

    ours = CircuitBreaker(recovery_timeout=3600)
    trip(ours)
    theirs = circuitbreaker.CircuitBreakerError
    costs = interleave(
        {
            "sync ours": _rejections(ours(service), CircuitOpenError),
            "sync theirs": _rejections(opened(service), theirs),
            "async ours": _async_rejections(ours(async_service), CircuitOpenError),
            "async theirs": _async_rejections(opened(async_service), theirs),
        },
        ROUNDS,
    )
    return [
        Figure(
            **vars(
                compare(
                    f"rejection while open, {kind}",
                    costs,
                    ours=f"{kind} ours",
                    peer=f"{kind} theirs",
                    unit="ns",
                    reach="<= 1.2",
                )
            )
            | {"peer": "circuitbreaker"}
        )
        for kind in ("sync", "async")
    ]


def memory() -> list[Figure]:
    """Measure the bytes of a breaker whose window of 100 calls is full."""
    import fluxgate
    import pyresilience

    def pyresilience_breaker() -> object:
        guarded = pyresilience.CircuitBreaker(
            pyresilience.CircuitBreakerConfig(failure_threshold=5, sliding_window_size=100, minimum_calls=10)
        )
        for _ in range(100):
            guarded.allow_request()
            guarded.record_success()
        return guarded

    def fluxgate_breaker() -> object:
        from fluxgate.trippers import FailureRate, MinRequests
        from fluxgate.windows import CountWindow as FluxgateWindow

        guarded = fluxgate.CircuitBreaker(
            window=FluxgateWindow(100), tripper=MinRequests(10) & FailureRate(0.5)
        )
        for _ in range(100):
            guarded.call(service)
        return guarded

    def our_breaker() -> object:
        guarded = _count(100)
        for _ in range(100):
            guarded.call(service)
        return guarded

    def size(make: Callable[[], object]) -> Callable[[], float]:
        def turn() -> float:
            tracemalloc.start()
            before, _ = tracemalloc.get_traced_memory()
            keep = [make() for _ in range(200)]
            after, _ = tracemalloc.get_traced_memory()
            tracemalloc.stop()
            return (after - before) / len(keep)

        return turn

    costs = interleave(
        {
            "ours": size(our_breaker),
            "pyresilience": size(pyresilience_breaker),
            "fluxgate": size(fluxgate_breaker),
        },
        3,
    )
    return [
        compare(
            "memory of a breaker, window 100 full",
            costs,
            ours="ours",
            peer=peer,
            unit="bytes",
            reach="<= 0.25",
        )
        for peer in ("pyresilience", "fluxgate")
    ]


FIGURES = [closed_sync, shaky_sync, closed_async, rejections, memory]
