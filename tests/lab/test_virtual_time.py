"""Virtual time on a loop: exact, free, in order, and gone without a trace."""

from __future__ import annotations

import asyncio
import datetime as dt
import gc
import itertools
import threading
import time
import weakref

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pytest_prodpatterns.lab import (
    Timeline,
    UnsupportedLoop,
    VirtualClock,
    ambient_clock,
    now,
    patched,
    use_clock,
    virtual_time,
)
from pytest_prodpatterns.lab._ambient import set_sink


def footprint(loop):
    """All that virtual time replaces, to compare before and after."""
    selector = loop._selector
    return (
        {
            name: value
            for name, value in vars(loop).items()
            if name in {"time", "run_in_executor", "_clock_resolution"}
        },
        {name: value for name, value in vars(selector).items() if name == "select"},
        loop.time.__func__,
        loop.run_in_executor.__func__,
        selector.select.__func__,
        ambient_clock(),
    )


def run(coroutine_function, **options):
    async def main():
        async with virtual_time(**options) as clock:
            return await coroutine_function(clock)

    return asyncio.run(main())


def test_an_hour_of_sleep_is_free_and_exact():
    async def body(clock):
        await asyncio.sleep(3600)
        return clock.elapsed, clock.jumps

    before = time.monotonic()
    assert run(body) == (3600.0, 1)
    assert time.monotonic() - before < 60


@settings(deadline=None)  # a busy machine is no failure
@given(st.lists(st.floats(1e-6, 1e7), min_size=1, max_size=20))
def test_the_clock_shows_the_very_moment_of_each_timer(seconds):
    async def body(clock):
        for step in seconds:
            due = asyncio.get_running_loop().time() + step
            await asyncio.sleep(step)
            assert clock.time() == due == now() == clock()

    run(body)


@pytest.mark.parametrize("start", [0.0, -5.0, 1e6, 1.7e9, 4e12])
@pytest.mark.parametrize("step", [0.001, 0.1, 86400.0 * 365])
def test_timers_fire_however_far_the_clock_is(start, step):
    async def body(clock):
        loop = asyncio.get_running_loop()
        for _ in range(50):
            due = loop.time() + step
            await asyncio.sleep(step)
            assert abs(loop.time() - due) <= 1e-15 * abs(due) * 8
        return clock.jumps

    assert run(body, start=start) <= 50


def test_a_century_in_one_sleep_does_not_stop_the_next_timer():
    async def body(clock):
        await asyncio.sleep(100 * 365 * 86400)
        await asyncio.sleep(0.1)
        return clock.elapsed

    assert run(body) == 100 * 365 * 86400 + 0.1


def test_a_hundred_sleepers_wake_in_the_order_of_their_moments():
    async def body(clock):
        woken = []

        async def sleeper(seconds):
            await asyncio.sleep(seconds)
            woken.append((seconds, clock.elapsed))

        await asyncio.gather(*map(sleeper, range(100, 0, -1)))
        return woken

    assert run(body) == [(float(n), float(n)) for n in range(1, 101)]


def test_the_shorter_of_two_time_outs_wins_at_its_moment():
    async def body(clock):
        async with asyncio.timeout(9):
            await asyncio.sleep(1)
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(asyncio.sleep(10), 5)
        return clock.elapsed

    assert run(body) == 6.0


def test_a_task_that_never_rests_stops_the_clock():
    async def body(clock):
        sleeper = asyncio.create_task(asyncio.sleep(1))
        for _ in range(100):
            await asyncio.sleep(0)
        assert not sleeper.done()
        assert clock.elapsed == 0
        await sleeper

    run(body)


class TestAdvance:
    def test_runs_each_timer_on_the_way_at_its_own_moment(self):
        async def body(clock):
            ran = []

            async def chain():
                for _ in range(4):
                    await asyncio.sleep(20)
                    ran.append(clock.time())

            task = asyncio.create_task(chain())
            await clock.advance(60)
            assert clock.elapsed == 60.0
            task.cancel()
            return ran

        assert run(body) == [20.0, 40.0, 60.0]

    def test_lets_what_it_woke_run_until_it_waits_again(self):
        async def body(clock):
            steps = []

            async def worker():
                await asyncio.sleep(5)
                for step in range(10):
                    steps.append(step)
                    await asyncio.sleep(0)

            task = asyncio.create_task(worker())
            await clock.advance(5)
            assert steps == list(range(10))
            await task

        run(body)

    def test_by_zero_runs_what_is_ready(self):
        async def body(clock):
            task = asyncio.create_task(asyncio.sleep(0, "ran"))
            await clock.advance(0)
            assert task.done()
            assert clock.elapsed == 0

        run(body)

    @pytest.mark.parametrize("seconds", [-1, -0.001, float("nan"), float("inf")])
    def test_refuses_what_is_no_way_forward(self, seconds):
        clock = VirtualClock()
        with pytest.raises(
            ValueError, match=rf"^virtual time cannot advance by {seconds!r}: expected 0 or more seconds$"
        ):
            clock.advance(seconds)
        assert clock.elapsed == 0

    def test_without_a_loop_moves_at_once(self):
        with virtual_time(start=10) as clock:
            done = clock.advance(60)
            assert now() == clock.time() == 70.0
            clock.advance(0.5)
            assert clock.elapsed == 60.5

        async def finished():
            return await done

        assert asyncio.run(finished()) is None

    def test_moves_at_once_between_two_runs_of_a_loop(self):
        with asyncio.Runner() as runner, patched(runner.get_loop()) as clock:

            async def start():
                return asyncio.create_task(asyncio.sleep(30, "woken"))

            async def settle():
                await asyncio.sleep(0)

            async def wait(task):
                return await task

            task = runner.run(start())
            runner.run(settle())
            clock.advance(30)
            assert clock.jumps == 0
            assert runner.run(wait(task)) == "woken"
            assert (clock.time(), clock.jumps) == (30.0, 0)

    def test_is_an_event_on_the_timeline_and_a_jump_is_not(self):
        timeline = Timeline("test")
        previous = set_sink(timeline)
        try:

            async def body(clock):
                await asyncio.sleep(5)
                await clock.advance(60)

            run(body)
            with virtual_time() as clock:
                clock.advance(1)
        finally:
            set_sink(previous)
        assert [(e.source, e.kind, e.attributes["seconds"], e.at) for e in timeline] == [
            ("clock", "advanced", 60.0, 65.0),
            ("clock", "advanced", 1, 1.0),
        ]

    def test_from_another_thread_wakes_the_loop(self):
        async def body(clock):
            sleeper = asyncio.create_task(asyncio.sleep(1e6))
            blocker = asyncio.create_task(asyncio.to_thread(lambda: clock.advance(1e6) and None))
            await asyncio.wait([sleeper, blocker])
            return clock.elapsed

        assert run(body) == 1e6


class TestTheAmbientClock:
    def test_follows_inside_and_is_real_outside(self):
        before = ambient_clock()

        async def body(clock):
            await asyncio.sleep(5)
            return now(), ambient_clock() is clock

        assert run(body) == (5.0, True)
        assert ambient_clock() is before

    def test_is_the_same_in_a_thread(self):
        async def body(clock):
            await asyncio.sleep(5)
            return await asyncio.to_thread(now)

        assert run(body) == 5.0

    def test_goes_back_to_the_clock_before(self):
        with use_clock(lambda: 42.0):
            with virtual_time(start=1):
                assert now() == 1.0
            assert now() == 42.0


class TestNothingIsLeft:
    @pytest.mark.parametrize(
        "error", [None, ValueError, asyncio.CancelledError, KeyboardInterrupt, SystemExit], ids=str
    )
    def test_after_any_exit(self, error):
        async def main():
            loop = asyncio.get_running_loop()
            before = footprint(loop)
            caught = None
            try:
                async with virtual_time(wall_clock=True, start=1.7e9):
                    await asyncio.sleep(5)
                    assert footprint_differs(loop, before)
                    if error is not None:
                        raise error
            except BaseException as exc:
                caught = type(exc)
            assert caught is error
            assert footprint(loop) == before
            assert abs(time.time() - dt.datetime.now(dt.UTC).timestamp()) < 5

        def footprint_differs(loop, before):
            return (
                "time" in vars(loop)
                and "select" in vars(loop._selector)
                and ambient_clock() is not before[-1]
            )

        asyncio.run(main())

    def test_after_the_task_was_cancelled_while_it_slept(self):
        async def main():
            loop = asyncio.get_running_loop()
            before = footprint(loop)

            async def sleeper():
                async with virtual_time():
                    await asyncio.Event().wait()

            task = asyncio.create_task(sleeper())
            await asyncio.sleep(0)
            task.cancel()
            await asyncio.wait([task])
            assert task.cancelled()
            assert footprint(loop) == before

        asyncio.run(main())

    def test_after_the_loop_was_closed_inside(self):
        before = ambient_clock()
        runner = asyncio.Runner()
        with patched(runner.get_loop()):
            runner.run(asyncio.sleep(1))
            runner.close()
        assert ambient_clock() is before

    def test_after_a_refused_second_entry(self):
        async def main():
            loop = asyncio.get_running_loop()
            before = footprint(loop)
            async with virtual_time():
                with pytest.raises(
                    UnsupportedLoop,
                    match=r"^this loop runs on virtual time already; "
                    r"use the clock that is there instead of entering it again$",
                ):
                    async with virtual_time():
                        pass
                await asyncio.sleep(5)
            assert footprint(loop) == before

        asyncio.run(main())

    def test_pending_timers_keep_what_is_left_of_them(self):
        async def main():
            loop = asyncio.get_running_loop()
            timer = loop.call_later(100, lambda: None)
            left_before = timer.when() - loop.time()
            async with virtual_time(start=5) as clock:
                inside = timer.when() - loop.time()
                await asyncio.sleep(30)
                assert clock.time() == 35
            left = timer.when() - loop.time()
            timer.cancel()
            return left_before, inside, left

        before, inside, after = asyncio.run(main())
        assert before == pytest.approx(100, abs=5)
        assert inside == pytest.approx(100, abs=5)
        assert after == pytest.approx(70, abs=5)

    def test_real_time_passes_again_on_the_same_loop(self):
        async def main():
            async with virtual_time():
                await asyncio.sleep(3600)
            loop = asyncio.get_running_loop()
            before, real = loop.time(), time.monotonic()
            await asyncio.sleep(0.02)
            return loop.time() - before, time.monotonic() - real

        virtual, real = asyncio.run(main())
        assert virtual >= 0.019
        assert real >= 0.019

    def test_no_loop_and_no_clock_is_kept_alive(self):
        async def body(clock):
            await asyncio.sleep(1)
            return weakref.ref(clock), weakref.ref(asyncio.get_running_loop())

        clock, loop = run(body)
        gc.collect()
        assert clock() is None
        assert loop() is None


class TestUnsupportedLoops:
    def test_uvloop_is_refused(self):
        uvloop = pytest.importorskip("uvloop")

        async def main():
            async with virtual_time():
                pass

        with (
            asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner,
            pytest.raises(
                UnsupportedLoop,
                match=r"^virtual time needs a selector event loop of the standard library, got uvloop\.Loop; "
                r"run this test on asyncio\.SelectorEventLoop "
                r"\(for pytest-asyncio: no uvloop policy or loop factory\)$",
            ),
        ):
            runner.run(main())

    def test_a_clock_drives_one_loop(self):
        clock = VirtualClock()
        with asyncio.Runner() as one, asyncio.Runner() as two, patched(one.get_loop(), clock):
            loop = two.get_loop()
            before = footprint(loop)
            with pytest.raises(
                UnsupportedLoop, match=r"^this VirtualClock drives another loop; make a new one"
            ):
                patched(loop, clock).__enter__()
            assert footprint(loop) == before

    def test_a_clock_can_go_on_with_the_next_loop(self):
        clock = VirtualClock()
        for _ in range(2):
            with asyncio.Runner() as runner, patched(runner.get_loop(), clock):
                runner.run(asyncio.sleep(10))
        assert clock.time() == 20.0


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"start": float("nan")}, r"^start must be a finite number of seconds, got nan$"),
        ({"start": float("inf")}, r"^start must be a finite number of seconds, got inf$"),
        ({"grace": -1}, r"^grace must be 0 or more real seconds, got -1$"),
        ({"grace": float("nan")}, r"^grace must be 0 or more real seconds, got nan$"),
    ],
)
def test_bad_arguments_are_told_at_the_door(options, message):
    with pytest.raises(ValueError, match=message):
        virtual_time(**options)


class TestTheWallClock:
    def test_follows_when_it_is_asked_to(self):
        async def body(clock):
            first, day = time.time(), dt.datetime.now(dt.UTC)
            await asyncio.sleep(86400)
            await clock.advance(0.5)
            return time.time() - first, (dt.datetime.now(dt.UTC) - day).total_seconds()

        seconds, days = run(body, wall_clock=True)
        assert seconds == pytest.approx(86400.5, abs=1e-3)
        assert days == pytest.approx(86400.5, abs=1e-3)

    def test_is_left_alone_otherwise(self):
        async def body(clock):
            first = time.time()
            await asyncio.sleep(86400)
            return time.time() - first

        assert run(body) < 3600

    def test_follows_without_a_loop(self):
        with virtual_time(wall_clock=True) as clock:
            first = time.time()
            clock.advance(60)
            assert time.time() - first == pytest.approx(60, abs=1e-3)


def test_a_loop_in_another_thread_can_be_virtual():
    result = []

    def body():
        async def main():
            async with virtual_time() as clock:
                await asyncio.sleep(3600)
                result.append(clock.elapsed)

        asyncio.run(main())

    thread = threading.Thread(target=body)
    thread.start()
    thread.join(30)
    assert result == [3600.0]


def test_the_private_names_of_asyncio_that_it_needs_are_there():
    with asyncio.Runner() as runner:
        loop = runner.get_loop()
        for name in ("_scheduled", "_ready", "_selector", "_ssock", "_clock_resolution", "_signal_handlers"):
            assert hasattr(loop, name), name
        assert "_when" in asyncio.TimerHandle.__slots__

        async def names():
            task = asyncio.current_task()
            return hasattr(task, "_fut_waiter"), hasattr(task, "_callbacks")

        assert runner.run(names()) == (True, True)
    assert list(itertools.islice(threading.Condition.wait.__code__.co_varnames, 2)) == ["self", "timeout"]
    assert "waiter" in threading.Condition.wait.__code__.co_varnames


def test_debug_mode_does_not_take_the_switch_of_clocks_for_a_slow_callback(caplog):
    async def main():
        async with virtual_time(start=-1e9):
            await asyncio.sleep(1)
        await asyncio.sleep(0)
        return asyncio.get_running_loop().slow_callback_duration

    with asyncio.Runner(debug=True) as runner:
        usual = runner.get_loop().slow_callback_duration = 60.0
        assert runner.run(main()) == usual
    assert "Executing" not in caplog.text
