"""Faults on virtual time: delays cost nothing, `between` follows the clock, a hang without a timer is a deadlock."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from pytest_prodpatterns import faults
from pytest_prodpatterns.faults import flaky, plan
from pytest_prodpatterns.lab import ChaosLab, Deadlock, VirtualClock, patched, use_clock, virtual_time


def virtually(main: Callable[[VirtualClock], Coroutine[Any, Any, Any]]) -> Any:
    """Run `main` on a virtual loop and return what it returns."""
    with asyncio.Runner(loop_factory=asyncio.new_event_loop) as runner, patched(runner.get_loop()) as clock:
        return runner.run(main(clock))


def test_an_awaited_delay_is_free_and_exact() -> None:
    service = flaky(fault=faults.delays(3600))

    async def main(clock: VirtualClock) -> float:
        assert await service() == "ok"
        return clock.elapsed

    begin = time.monotonic()
    assert virtually(main) == 3600
    assert time.monotonic() - begin < 60


def test_a_synchronous_delay_moves_the_virtual_clock() -> None:
    with virtual_time() as clock:
        assert flaky(lambda: "done", fault=faults.delays(3600))() == "done"
        assert clock.elapsed == 3600


@pytest.mark.parametrize("read", [lambda clock: clock, lambda clock: clock.time])
def test_a_virtual_clock_is_known_however_it_is_installed(read: Callable[[VirtualClock], Any]) -> None:
    clock = VirtualClock()
    with use_clock(read(clock)):
        flaky(lambda: None, fault=faults.delays(60))()
    assert clock.elapsed == 60


def test_a_synchronous_delay_on_a_running_loop_blocks_it_while_time_passes() -> None:
    block = flaky(lambda: "done", fault=faults.delays(60))

    async def main(clock: VirtualClock) -> list[float]:
        rang: list[float] = []
        asyncio.get_running_loop().call_later(5, lambda: rang.append(clock.elapsed))
        assert block() == "done"
        assert clock.elapsed == 60
        assert rang == []
        await asyncio.sleep(0.5)
        return rang

    assert virtually(main) == [60]


def test_between_follows_virtual_time_though_armed_before_it_began() -> None:
    with ChaosLab(1):
        service = flaky(fault=faults.returns("down"), when=plan.between(60, 90))

        async def main(clock: VirtualClock) -> list[str]:
            answers = []
            for seconds in (59.5, 0.5, 29.5, 0.5):
                await clock.advance(seconds)
                answers.append(await service())
            return answers

        assert virtually(main) == ["ok", "down", "down", "ok"]


def test_a_hang_ends_in_the_callers_timeout() -> None:
    service = flaky(fault=faults.hangs(), when=plan.first(1))

    async def main(clock: VirtualClock) -> str:
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(service(), 30)
        assert clock.elapsed == 30
        return await service()

    assert virtually(main) == "ok"


def test_a_hang_that_nothing_can_end_is_a_deadlock() -> None:
    async def main(_clock: VirtualClock) -> None:
        await flaky(fault=faults.hangs())()

    with pytest.raises(Deadlock):
        virtually(main)


def test_a_hang_goes_on_when_undone_at_a_virtual_moment() -> None:
    service = flaky(fault=faults.hangs())

    async def main(clock: VirtualClock) -> tuple[str, float]:
        asyncio.get_running_loop().call_later(45, service.undo)
        return await service(), clock.elapsed

    assert virtually(main) == ("ok", 45)
