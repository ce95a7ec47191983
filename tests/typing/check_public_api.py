"""What a type checker tells users of the public names; checked by `mypy --strict tests/typing`, never run."""

from __future__ import annotations

import asyncio
import subprocess
from collections.abc import AsyncGenerator, Awaitable, Callable, Coroutine, Generator
from typing import Any, assert_type

from pytest_prodpatterns import (
    ChaosLab,
    CircuitBreaker,
    CircuitBreakerContract,
    CircuitBreakerRegistry,
    CircuitOpenError,
    CircuitState,
    VirtualClock,
    assert_probes,
    assert_transitions,
    faults,
    flaky,
    forced,
    lab,
    patch_flaky,
    plan,
    trip,
    virtual_time,
)
from pytest_prodpatterns.faults import Fault, Flaky, FlakyPatch, Plan, processes
from pytest_prodpatterns.lab import InjectedFault
from pytest_prodpatterns.patterns.breaker import CountWindow, Outcome, Snapshot, TimeWindow, Transition
from pytest_prodpatterns.patterns.pool import WorkerPool

breaker = CircuitBreaker(5, 60.0, 2, name="payments", window=CountWindow(20), failure_rate=0.5)
CircuitBreaker(window=TimeWindow(30, buckets=6), failures=(OSError, ValueError), ignore=KeyError)


def charge(amount: int, *, currency: str = "EUR") -> str:
    return f"{amount} {currency}"


async def fetch(url: str) -> bytes:
    return url.encode()


def future(seconds: float) -> asyncio.Future[int]:
    return asyncio.ensure_future(asyncio.sleep(seconds, 1))


def rows(count: int) -> Generator[int, str, bool]:
    yield from range(count)
    return True


async def pages(count: int) -> AsyncGenerator[bytes, None]:
    for _ in range(count):
        yield b""


class Client:
    @breaker
    def get(self, key: str) -> int:
        return len(key)

    @breaker.guard
    async def fetch(self, key: str) -> float:
        return len(key)

    @staticmethod
    @breaker
    def ping() -> bool:
        return True


async def calls() -> None:
    assert_type(breaker.call(charge, 5, currency="USD"), str)
    assert_type(breaker.call(len, "abc"), int)
    assert_type(breaker.call(lambda: 1.5), float)
    pending = assert_type(breaker.call(fetch, "/"), Coroutine[Any, Any, bytes])
    assert_type(await pending, bytes)
    assert_type(await breaker.call(future, 1.0), int)
    task = asyncio.create_task(breaker.call(fetch, "/"))
    assert_type(await task, bytes)
    assert_type(breaker.call(rows, 3), Generator[int, str, bool])
    assert_type(breaker.call(pages, 3), AsyncGenerator[bytes, None])
    breaker.call(charge, "five")  # type: ignore[call-overload]
    breaker.call(charge)  # type: ignore[call-overload]


async def decorators() -> None:
    assert_type(breaker(charge)(5, currency="USD"), str)
    assert_type(breaker.guard(charge)(5), str)
    assert_type(await breaker(fetch)("/"), bytes)
    assert_type(breaker(rows)(3), Generator[int, str, bool])
    assert_type(Client().get("x"), int)
    assert_type(await Client().fetch("x"), float)
    assert_type(Client.ping(), bool)
    breaker(charge)("five")  # type: ignore[arg-type]
    with breaker as entered:
        assert_type(entered, CircuitBreaker)
    async with breaker as entered:
        assert_type(entered, CircuitBreaker)


def by_status(result: Any, error: Exception | None) -> Outcome | None:
    return Outcome.FAILURE if error is None and result >= 500 else None


def on_change(changed: CircuitBreaker, change: Transition) -> None:
    assert_type(change.state, CircuitState)
    assert_type(changed.snapshot(), Snapshot)


CircuitBreaker(classify=by_status, retry_after=lambda _: 5, listeners=[on_change], initial_state="open")


class TestEverything(CircuitBreakerContract):
    def make_breaker(
        self,
        *,
        failure_threshold: int,
        recovery_timeout: float,
        success_threshold: int,
        call_timeout: float | None,
    ) -> CircuitBreaker:
        return CircuitBreaker(
            failure_threshold, recovery_timeout, success_threshold, call_timeout=call_timeout
        )


class TestTheLeast(CircuitBreakerContract):
    def make_breaker(self, *, failure_threshold: int, recovery_timeout: float) -> CircuitBreaker:
        return CircuitBreaker(failure_threshold, recovery_timeout)

    def call(self, breaker: CircuitBreaker, func: Callable[..., Any], *args: Any) -> Any:
        return breaker.call(func, *args)


def views() -> None:
    assert_type(breaker.state, CircuitState)
    assert_type(breaker.history, tuple[Transition, ...])
    assert_type(breaker.last_failure, Exception | None)
    assert_type(breaker.snapshot().as_dict(), dict[str, Any])
    assert_type(CircuitBreakerRegistry(max_size=10, failure_threshold=3).get("db"), CircuitBreaker)
    assert_type(CircuitBreakerRegistry(make=lambda key: CircuitBreaker(name=str(key)))["db"], CircuitBreaker)
    rejection = CircuitOpenError("payments", CircuitState.OPEN, 3.0, None)
    assert_type(rejection.retry_after, float | None)
    assert_type(rejection.last_failure, BaseException | None)
    CircuitOpenError(name="payments")  # type: ignore[call-arg]
    trip(breaker)
    with forced(breaker, CircuitState.OPEN) as same:
        assert_type(same, CircuitBreaker)
    assert_transitions(breaker, ["closed", CircuitState.OPEN])
    assert_probes(breaker, max=2)


async def fault_injection() -> None:
    struck = flaky(charge, fault=faults.raises(ConnectionError, "down"), when=plan.first(2))
    assert_type(struck(5, currency="USD"), str)
    assert_type(struck.calls, int)
    assert_type(struck.fault, InjectedFault)
    assert_type(await flaky(fetch, fault=faults.hangs(), when="calls(3)")("/"), bytes)
    assert_type(await flaky(fault=faults.delays(1.0))("any", thing=1), str)
    assert_type(flaky(rows, fault=faults.after_items(1, faults.returns([])))(3), Generator[int, str, bool])
    struck("five")  # type: ignore[arg-type]
    plain: Callable[[int], str] = struck
    awaited: Callable[[str], Awaitable[bytes]] = flaky(fetch, fault=faults.cancels())
    service: Flaky[..., Coroutine[Any, Any, str]] = flaky(fault=faults.runs(print))
    assert_type((plain(5), await awaited("/"), await service()), tuple[str, bytes, str])
    with patch_flaky("json:loads", fault=faults.raises(OSError)) as patch:
        assert_type(patch, FlakyPatch)
        assert_type(patch.fault.fired, int)


def plans() -> None:
    assert_type(plan.first(3) | plan.every(10) & ~plan.between(60, 90), Plan)
    assert_type(plan.parse("first(3)"), Plan)
    assert_type(plan.rate(0.5), Plan)
    assert_type(faults.returns(1), Fault)
    plan.first("three")  # type: ignore[arg-type]


def process_faults(pool: WorkerPool, server: subprocess.Popen[bytes]) -> None:
    strike = processes.ProcessFaults()
    with_workers: lab.HasWorkers = pool
    fillable: lab.Fillable = pool
    assert_type(processes.kill(server), processes.Struck)
    assert_type(strike.kill_worker(with_workers), processes.Struck)
    assert_type(strike.kill_worker(pool, "all", signal="SIGTERM"), tuple[processes.Struck, ...])
    assert_type(strike.kill_tree(strike.worker(pool, "idle")), tuple[processes.Struck, ...])
    assert_type(strike.throttle(pool.workers()[0], 0.5), processes.Throttled)
    with strike.stop_worker(pool) as stopped:
        assert_type(stopped, processes.Stopped)
    assert_type(strike.crash_at(charge, call=3)(5, currency="USD"), str)
    assert_type(strike.crash_at("json:loads"), FlakyPatch)
    with faults.full_queue(fillable) as full:
        assert_type(full.filled, int)
    strike.kill_worker(pool, "bussy")  # type: ignore[call-overload]
    strike.kill("1234")  # type: ignore[arg-type]


async def laboratory() -> None:
    async with virtual_time() as clock:
        assert_type(clock, VirtualClock)
        await clock.advance(60)
    with virtual_time(start=5.0) as clock:
        assert_type(clock.elapsed, float)
    with ChaosLab(seed=7) as current:
        assert_type(current, ChaosLab)
        assert_type(current.rng("x").random(), float)
    assert_type(lab.now(), float)
