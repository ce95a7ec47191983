"""Wake-ups a CPU second of the virtual clocks: 100 tasks, each `sleep(0.1)` again and again."""

from __future__ import annotations

import asyncio
import importlib.util
from collections.abc import Callable

from benchmarks._measure import Figure, compare, cpu_nanoseconds, interleave
from pytest_prodpatterns.lab import virtual_time

TASKS, SLEEPS, ROUNDS = 100, 200, 9
WAKE_UPS = TASKS * SLEEPS


async def _sleepers() -> None:
    async def sleeper() -> None:
        for _ in range(SLEEPS):
            await asyncio.sleep(0.1)

    await asyncio.gather(*(sleeper() for _ in range(TASKS)))


def _ours() -> None:
    async def main() -> None:
        async with virtual_time():
            await _sleepers()

    with asyncio.Runner() as runner:
        runner.run(main())


def _looptime() -> None:
    import looptime

    with asyncio.Runner(loop_factory=looptime.new_event_loop) as runner:
        runner.run(_sleepers())


def _seedloop() -> None:
    import seedloop

    async def scenario(_world: seedloop.World) -> None:
        await _sleepers()

    seedloop.replay(scenario, seed=0)


def wake_ups() -> list[Figure]:
    """Measure wake-ups a CPU second."""
    peers: dict[str, tuple[Callable[[], None], str]] = {
        "looptime": (_looptime, ">= 1.4"),
        "seedloop": (_seedloop, ">= 0.95"),
    }
    peers = {name: peer for name, peer in peers.items() if importlib.util.find_spec(name)}

    def turn(run: Callable[[], None]) -> Callable[[], float]:
        return lambda: 1e9 / cpu_nanoseconds(run, WAKE_UPS)

    costs = interleave({"ours": turn(_ours), **{name: turn(run) for name, (run, _) in peers.items()}}, ROUNDS)
    return [
        compare(
            "virtual time, 100 tasks x sleep(0.1)",
            costs,
            ours="ours",
            peer=name,
            unit="wake-ups/CPU s",
            reach=reach,
        )
        for name, (_, reach) in peers.items()
    ]


FIGURES = [wake_ups]
