"""The marker and the fixture of virtual time, in suites of their own."""

from __future__ import annotations

import re

import pytest

ASYNC_TESTS = """
    import asyncio
    import time

    import pytest

    from pytest_prodpatterns.lab import Deadlock, VirtualClock, ambient_clock, now

    {mark}

    def nothing_left():
        loop = asyncio.get_running_loop()
        return not {{"time", "run_in_executor"}} & set(vars(loop)) and "select" not in vars(loop._selector)

    @pytest.fixture
    def made_before():
        created = now()
        yield lambda: now() - created

    @pytest.mark.virtual_time
    async def test_the_marker_is_enough():
        await asyncio.sleep(3600)
        assert asyncio.get_running_loop().time() == now() == 3600.0

    async def test_the_fixture_is_enough(virtual_clock):
        await virtual_clock.advance(60)
        assert virtual_clock.elapsed == virtual_clock() == now() == 60.0

    @pytest.mark.virtual_time(start=5.0, grace=0.5, strict=True)
    async def test_the_marker_sets_the_clock(virtual_clock):
        assert (virtual_clock.time(), virtual_clock.grace, virtual_clock.strict) == (5.0, 0.5, True)

    async def test_what_a_fixture_made_follows(made_before, virtual_clock):
        assert made_before() == 0.0
        await asyncio.sleep(30)
        assert made_before() == 30.0

    async def test_without_it_time_is_real(made_before):
        assert nothing_left()
        assert ambient_clock() is time.monotonic
        before = time.monotonic()
        await asyncio.sleep(0.01)
        assert time.monotonic() - before >= 0.009

    @pytest.mark.parametrize("seconds", [1.0, 60.0])
    class TestInAClass:
        async def test_a_method_works(self, seconds, virtual_clock):
            await asyncio.sleep(seconds)
            assert virtual_clock.elapsed == seconds

    @pytest.mark.virtual_time(wall_clock=True)
    async def test_the_wall_clock_follows_when_asked():
        before = time.time()
        await asyncio.sleep(86400)
        assert abs(time.time() - before - 86400) < 0.01

    @pytest.mark.virtual_time
    async def test_a_thread_is_waited_for():
        await asyncio.wait_for(asyncio.to_thread(time.sleep, 0.2), 0.01)

    @pytest.mark.virtual_time
    async def test_a_deadlock_is_raised_where_it_waits():
        with pytest.raises(Deadlock, match="in test_a_deadlock_is_raised_where_it_waits waits forever"):
            await asyncio.Event().wait()
"""
COUNT = 10


@pytest.mark.parametrize("workers", [[], ["-n2", "-p", "xdist"]], ids=["one process", "-n 2"])
@pytest.mark.parametrize("mode", ["strict", "auto"])
def test_it_works_in_each_mode_of_pytest_asyncio(suite, mode, workers):
    mark = "pytestmark = pytest.mark.asyncio" if mode == "strict" else ""
    suite.makepyfile(ASYNC_TESTS.format(mark=mark))
    result = suite.runpytest_subprocess("-Werror", f"--asyncio-mode={mode}", *workers)
    result.assert_outcomes(passed=COUNT)


def test_it_works_on_a_loop_that_tests_share(suite):
    suite.makepyfile(ASYNC_TESTS.format(mark='pytestmark = pytest.mark.asyncio(loop_scope="module")'))
    result = suite.runpytest_subprocess("-Werror")
    result.assert_outcomes(passed=COUNT)


def test_it_works_under_the_plugin_of_anyio(pytester):
    pytester.makeini("[pytest]\nfilterwarnings = error\naddopts = -p no:asyncio -p no:looptime_plugin")
    pytester.makeconftest("import pytest\n@pytest.fixture\ndef anyio_backend():\n    return 'asyncio'\n")
    pytester.makepyfile(ASYNC_TESTS.format(mark="pytestmark = pytest.mark.anyio"))
    result = pytester.runpytest_subprocess(
        "-Werror", "-p", "no:looptime_chronometers", "-p", "no:looptime_timeproxies"
    )
    result.assert_outcomes(passed=COUNT)


def test_each_hypothesis_example_starts_on_a_fresh_clock(suite):
    suite.makepyfile(
        """
        import asyncio
        import pytest
        from hypothesis import given, settings, strategies as st
        from pytest_prodpatterns.lab import now

        seen = []

        @pytest.mark.asyncio
        @given(seconds=st.floats(0.001, 1e6))
        @settings(max_examples=50, deadline=None)
        async def test_async(virtual_clock, seconds):
            assert virtual_clock.elapsed == now() == 0.0
            await asyncio.sleep(seconds)
            assert virtual_clock.elapsed == now() == seconds

        @given(seconds=st.floats(0.001, 1e6))
        @settings(max_examples=50, deadline=None)
        def test_sync(virtual_clock, seconds):
            assert virtual_clock.elapsed == now() == 0.0
            virtual_clock.advance(seconds)
            assert now() == seconds

        @pytest.mark.virtual_time(start=7.0)
        @pytest.mark.asyncio
        class TestMethod:
            @given(seconds=st.integers(1, 100))
            async def test_method(self, seconds):
                assert now() == 7.0
                await asyncio.sleep(seconds)
                assert now() == 7.0 + seconds
        """
    )
    suite.runpytest_subprocess("-Werror").assert_outcomes(passed=3)


def test_sync_tests_follow_the_same_clock(suite):
    suite.makepyfile(
        """
        import time
        import pytest
        from pytest_prodpatterns.lab import ambient_clock, now

        @pytest.fixture
        def frozen():
            assert now() == 3.0
            yield
            assert now() == 63.0

        @pytest.mark.virtual_time(start=3)
        def test_sync(frozen, virtual_clock):
            assert now() == 3.0
            virtual_clock.advance(60)
            assert now() == 63.0

        @pytest.mark.virtual_time(wall_clock=True)
        def test_wall_clock(virtual_clock):
            before = time.time()
            virtual_clock.advance(60)
            assert abs(time.time() - before - 60) < 0.01

        def test_afterwards():
            assert ambient_clock() is time.monotonic
        """
    )
    suite.runpytest_subprocess("-Werror").assert_outcomes(passed=3)


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        ("60", r"takes keyword arguments only, got \(60,\)"),
        ("begin=1", r"has no argument 'begin'; it takes start, grace, strict, wall_clock"),
        ("start='now'", r"start must be a finite number of seconds, got 'now'"),
        ("start=float('nan')", r"start must be a finite number of seconds, got nan"),
        ("grace=True", r"grace must be a finite number of seconds, got True"),
        ("grace=-1", r"grace must be 0 or more real seconds, got -1"),
        ("strict=1", r"strict must be True or False, got 1"),
    ],
)
def test_a_wrong_marker_fails_its_test_in_one_line(suite, arguments, why):
    suite.makepyfile(
        f"""
        import pytest

        @pytest.mark.virtual_time({arguments})
        def test_marked():
            pass

        def test_other():
            pass
        """
    )
    result = suite.runpytest_inprocess()
    result.assert_outcomes(errors=1, passed=1)
    name = r"test_a_wrong_marker_fails_its_test_in_one_line\.py::test_marked"
    assert re.search(rf"^{name}: marker virtual_time {why}$", result.stdout.str(), re.MULTILINE)


@pytest.mark.parametrize("where", ["setup", "call", "teardown"])
def test_nothing_is_left_when_a_test_breaks(suite, where):
    suite.makepyfile(
        f"""
        import asyncio, time
        import pytest
        from pytest_prodpatterns.lab import ambient_clock
        from pytest_prodpatterns.fixtures import virtual_time as plugin

        pytestmark = pytest.mark.asyncio(loop_scope="module")

        @pytest.fixture
        def broken():
            assert {where!r} != "setup"
            yield
            assert {where!r} != "teardown"

        async def test_breaks(broken, virtual_clock):
            assert {where!r} != "call"

        async def test_afterwards():
            loop = asyncio.get_running_loop()
            assert ambient_clock() is time.monotonic
            assert not plugin._clocks
            assert "time" not in vars(loop)
            assert "select" not in vars(loop._selector)
        """
    )
    result = suite.runpytest_inprocess()
    outcomes = {"setup": {"errors": 1}, "call": {"failed": 1}, "teardown": {"passed": 2, "errors": 1}}[where]
    result.assert_outcomes(**{"passed": 1} | outcomes)


def test_nothing_is_left_after_ctrl_c(suite):
    from pytest_prodpatterns.fixtures import virtual_time as plugin
    from pytest_prodpatterns.lab import ambient_clock

    before = ambient_clock()
    suite.makepyfile(
        """
        def test_interrupted(virtual_clock):
            raise KeyboardInterrupt
        """
    )
    run = suite.inline_run("-p", "no:faulthandler", no_reraise_ctrlc=True)
    assert run.ret == pytest.ExitCode.INTERRUPTED
    assert ambient_clock() is before
    assert not plugin._clocks


def test_uvloop_is_refused(suite):
    pytest.importorskip("uvloop")
    suite.makeconftest(
        """
        import uvloop

        def pytest_asyncio_loop_factories(config, item):
            return {"uvloop": uvloop.new_event_loop}
        """
    )
    suite.makepyfile(
        """
        import pytest

        @pytest.mark.asyncio
        async def test_on_uvloop(virtual_clock):
            pass
        """
    )
    result = suite.runpytest_subprocess()
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(
        ["*UnsupportedLoop: virtual time needs a selector event loop*got uvloop.Loop*"]
    )


def test_the_clock_says_how_to_ask_for_it_where_there_is_none():
    from pytest_prodpatterns.fixtures.virtual_time import CurrentClock

    clock = CurrentClock()
    assert not hasattr(clock, "elapsed")
    assert repr(clock) == "<virtual_clock, no test on virtual time is running>"
    with pytest.raises(
        AttributeError,
        match=r"^virtual_clock\.elapsed: no test on virtual time is running; "
        r"mark the test with @pytest\.mark\.virtual_time, or name the fixture in its arguments$",
    ):
        _ = clock.elapsed


def test_the_marker_is_listed_with_its_arguments(suite):
    result = suite.runpytest_inprocess("--markers")
    result.stdout.fnmatch_lines(
        ["@pytest.mark.virtual_time(start=0.0, grace=1.0, strict=False, wall_clock=False): run the test*"]
    )


@pytest.mark.parametrize("mode", ["strict", "auto"])
def test_a_test_on_virtual_time_needs_no_marker_of_asyncio(suite: pytest.Pytester, mode: str) -> None:
    suite.makepyfile(
        """
        import asyncio
        import pytest

        async def test_by_fixture(virtual_clock):
            await asyncio.sleep(60)
            assert virtual_clock.elapsed == 60.0

        @pytest.mark.virtual_time
        class TestByMarkerOfTheClass:
            @pytest.mark.parametrize("seconds", [1, 2])
            async def test_a_method(self, seconds):
                await asyncio.sleep(seconds)

        @pytest.mark.virtual_time
        def test_a_function_stays_one():
            with pytest.raises(RuntimeError):
                asyncio.get_running_loop()
        """
    )
    suite.runpytest_subprocess("-o", f"asyncio_mode={mode}").assert_outcomes(passed=4)


def test_a_test_that_anyio_runs_is_left_to_anyio(pytester: pytest.Pytester) -> None:
    pytester.makeini("[pytest]\nasyncio_default_fixture_loop_scope = function\nfilterwarnings = error\n")
    pytester.makepyfile(
        """
        import anyio
        import pytest

        @pytest.fixture
        def anyio_backend():
            return "asyncio"

        @pytest.mark.anyio
        async def test_by_marker(virtual_clock, request):
            await anyio.sleep(60)
            assert virtual_clock.elapsed == 60.0
            assert request.node.get_closest_marker("asyncio") is None
        """
    )
    pytester.runpytest_subprocess().assert_outcomes(passed=1)
    pytester.runpytest_subprocess("-o", "anyio_mode=auto").assert_outcomes(passed=1)


def test_an_async_method_of_a_unittest_case_runs_on_virtual_time(suite):
    suite.makepyfile(
        """
        import asyncio
        import unittest
        import pytest

        class TestIt(unittest.IsolatedAsyncioTestCase):
            @pytest.mark.virtual_time
            async def test_it(self):
                async with asyncio.timeout(7200):
                    await asyncio.sleep(3600)
                assert asyncio.get_running_loop().time() == 3600.0
        """
    )
    suite.runpytest_subprocess("-o", "faulthandler_timeout=20", timeout=60).assert_outcomes(passed=1)


def test_a_loop_that_is_not_of_asyncio_is_refused(pytester: pytest.Pytester) -> None:
    pytester.makeconftest(
        """
        import inspect
        import pytest

        @pytest.hookimpl(tryfirst=True)
        def pytest_pyfunc_call(pyfuncitem):
            coroutine = pyfuncitem.obj()
            try:
                coroutine.send(None)  # as a foreign library would, with no loop of asyncio
            except StopIteration:
                return True
        """
    )
    pytester.makepyfile(
        """
        import pytest

        @pytest.mark.virtual_time
        async def test_on_a_foreign_loop():
            pass
        """
    )
    result = pytester.runpytest_subprocess("-p", "no:asyncio")
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(
        ["*UnsupportedLoop: virtual time needs asyncio's event loop, and this test runs on*"]
    )
