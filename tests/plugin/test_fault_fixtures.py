"""The fixtures `flaky_service` and `patch_flaky`: faults that end with the test."""

from __future__ import annotations


def test_a_service_without_a_target_answers_where_the_fault_does_not_strike(suite):
    suite.makepyfile(
        """
        import pytest
        from pytest_prodpatterns import faults, plan

        @pytest.mark.asyncio
        async def test_it(chaos, flaky_service):
            charge = flaky_service(fault=faults.raises(ConnectionError), when=plan.first(2), name="charge")
            for _ in range(2):
                with pytest.raises(ConnectionError):
                    await charge(10)
            assert await charge(10) == "ok"
            calls = [event.attributes["call"] for event in chaos.timeline.where("fault:charge", "fired")]
            assert calls == [1, 2]
        """
    )
    # pytest-asyncio leaves a loop open behind a run in this process
    suite.runpytest_subprocess("--chaos-strict").assert_outcomes(passed=1)


def test_a_target_keeps_its_kind_and_strikes_always_by_default(suite):
    suite.makepyfile(
        """
        import pytest
        from pytest_prodpatterns import faults

        def test_it(flaky_service):
            double = flaky_service(lambda n: 2 * n, fault=faults.returns(7))
            assert [double(1), double(2)] == [7, 7]
        """
    )
    suite.runpytest_inprocess("--chaos-strict").assert_outcomes(passed=1)


def test_a_patched_name_is_itself_again_before_the_fixtures_go_down(suite):
    suite.makepyfile(
        app="def charge(): return 'charged'\n",
        test_it="""
        import app, pytest
        from pytest_prodpatterns import faults

        @pytest.fixture
        def component():
            yield
            assert app.charge() == "charged"

        def test_patched(component, patch_flaky):
            patch_flaky("app:charge", fault=faults.raises(ConnectionError))
            with pytest.raises(ConnectionError):
                app.charge()

        def test_after():
            assert app.charge() == "charged"
        """,
    )
    suite.runpytest_inprocess("--chaos-strict").assert_outcomes(passed=2)


def test_a_service_that_nobody_called_is_a_fault_that_never_fired(suite):
    suite.makepyfile(
        """
        from pytest_prodpatterns import faults
        def test_it(flaky_service):
            flaky_service(fault=faults.raises(ConnectionError), name="charge")
        """
    )
    result = suite.runpytest_inprocess("--chaos-strict")
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["fault never fired: charge (*ConnectionError*)"])
