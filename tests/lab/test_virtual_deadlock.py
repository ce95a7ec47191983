"""A wait that nothing can end is raised at the line that waits, and nowhere else."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import re
import traceback

import pytest

from pytest_prodpatterns.lab import Deadlock, patched, virtual_time
from pytest_prodpatterns.lab import _virtual_turns as turns


async def hang():
    await asyncio.Event().wait()


def line_of(error):
    """The source line in this file where an error came up last."""
    mine = [frame.line for frame in traceback.extract_tb(error.__traceback__) if frame.filename == __file__]
    return mine[-1]


def run(coroutine_function, **options):
    async def main():
        async with virtual_time(**options) as clock:
            return await coroutine_function(clock)

    return asyncio.run(main())


def test_it_is_raised_at_the_waiting_line_and_says_who_waits_and_what_to_do():
    async def body(clock):
        asyncio.current_task().set_name("the test")
        never = asyncio.Queue()
        with pytest.raises(Deadlock) as caught:
            await never.get()
        return caught.value

    error = run(body)
    assert line_of(error) == "await never.get()"
    place = r"the test at test_virtual_deadlock\.py:\d+ in \S+body"
    assert re.fullmatch(
        rf"{place} waits forever: no timer is scheduled and nothing outside the loop answers\. "
        rf"Waiting: {place}\. Set what it waits for, or give the wait a timeout\.",
        str(error),
    )


def test_it_is_no_time_out_that_code_under_test_would_swallow():
    assert not issubclass(Deadlock, TimeoutError)


async def in_a_task():
    await asyncio.create_task(hang())


async def in_gather():
    await asyncio.gather(hang(), hang())


async def in_gather_of_futures():
    await asyncio.gather(asyncio.get_running_loop().create_future(), hang())


async def in_wait():
    done, _ = await asyncio.wait([asyncio.create_task(hang())])
    done.pop().result()


async def in_as_completed():
    for first in asyncio.as_completed([hang()]):
        await first


async def in_shield():
    await asyncio.shield(asyncio.create_task(hang()))


async def in_a_task_group():
    try:
        async with asyncio.TaskGroup() as group:
            group.create_task(hang())
    except* Deadlock as group:
        raise group.exceptions[0] from None


async def in_a_chain_of_tasks():
    await asyncio.create_task(in_gather())


async def in_wait_for_without_a_limit():
    await asyncio.wait_for(hang(), None)


@pytest.mark.parametrize(
    "wait",
    [
        in_a_task, in_gather, in_gather_of_futures, in_wait, in_as_completed, in_shield, in_a_task_group,
        in_a_chain_of_tasks, in_wait_for_without_a_limit,
    ],
    ids=lambda wait: wait.__name__,
)  # fmt: skip
def test_the_error_comes_from_the_last_waiter_of_the_chain(wait):
    async def body(clock):
        with pytest.raises(Deadlock) as caught:
            await wait()
        for task in asyncio.all_tasks() - {asyncio.current_task()}:
            task.cancel()
        return caught.value

    error = run(body)
    where = "await asyncio.gather(" if wait is in_gather_of_futures else "await asyncio.Event().wait()"
    assert any(
        frame.line.startswith(where)
        for frame in traceback.extract_tb(error.__traceback__)
        if frame.filename == __file__
    )


def test_a_task_that_waits_on_purpose_survives_the_deadlock_of_another():
    async def body(clock):
        background = asyncio.create_task(hang(), name="background")
        await asyncio.sleep(0)
        for _ in range(3):
            with pytest.raises(
                Deadlock, match=r"Waiting: .*background at test_virtual_deadlock\.py:\d+ in hang"
            ):
                await hang()
        assert not background.done()
        background.cancel()

    run(body)


def test_a_task_that_waits_on_purpose_costs_nothing_while_others_sleep():
    async def body(clock):
        background = asyncio.create_task(hang())
        await asyncio.sleep(3600)
        assert not background.done()
        background.cancel()
        return clock.elapsed

    assert run(body) == 3600.0


def test_code_that_swallows_it_forever_does_not_spin_forever(monkeypatch):
    monkeypatch.setattr(turns, "_LAST_POLL", 0)
    monkeypatch.setattr(turns, "_ENDLESS", 20)

    async def body(clock):
        while True:
            with contextlib.suppress(Deadlock):
                await asyncio.Event().wait()

    with pytest.raises(Deadlock, match=r"^the loop waits forever: .*in .*body"):
        run(body)


def test_a_wait_that_ends_itself_is_no_deadlock():
    async def body(clock):
        event = asyncio.Event()
        asyncio.get_running_loop().call_later(1e9, event.set)
        await event.wait()
        return clock.elapsed

    assert run(body) == 1e9


class TestADrivenLoop:
    def test_hung_tasks_survive_from_one_run_to_the_next(self):
        with asyncio.Runner() as runner, patched(runner.get_loop()) as clock:
            loop = runner.get_loop()
            hung = loop.create_task(hang())
            loop.run_until_complete(asyncio.sleep(60))
            loop.run_until_complete(asyncio.sleep(60))
            assert not hung.done()
            assert clock.elapsed == 120.0

    def test_waiting_for_a_hung_task_raises_to_the_driver_and_spares_the_others(self):
        with asyncio.Runner() as runner, patched(runner.get_loop()):
            loop = runner.get_loop()
            hung, other = loop.create_task(hang()), loop.create_task(hang())

            async def join():
                await hung

            with pytest.raises(Deadlock) as caught:
                loop.run_until_complete(join())
            assert line_of(caught.value) == "await asyncio.Event().wait()"
            assert hung.done()
            assert not other.done()

    def test_driving_a_hung_task_itself_raises(self):
        with asyncio.Runner() as runner, patched(runner.get_loop()):
            loop = runner.get_loop()
            with pytest.raises(Deadlock, match=r"in hang waits forever"):
                loop.run_until_complete(loop.create_task(hang()))

    def test_driving_a_bare_future_raises(self):
        with asyncio.Runner() as runner, patched(runner.get_loop()):
            loop = runner.get_loop()
            with pytest.raises(Deadlock, match=r"^the loop waits forever"):
                loop.run_until_complete(loop.create_future())


def test_a_deadlock_in_a_coroutine_that_is_wrapped_often_is_still_found():
    async def deep(level):
        if level:
            await deep(level - 1)
        else:
            await hang()

    async def body(clock):
        task = asyncio.create_task(deep(20))
        task.add_done_callback(functools.partial(lambda _, __: None, None))
        with pytest.raises(Deadlock, match=r"in hang waits forever"):
            await task

    run(body)
