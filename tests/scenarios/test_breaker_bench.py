"""The bench repeats an attempt that came late, and leaves nothing behind."""

from __future__ import annotations

import asyncio
import contextlib
import os
import threading
import time

import pytest
from scenarios.small_breaker import SmallTarget

from pytest_prodpatterns.lab import ChaosLab, emit
from pytest_prodpatterns.scenarios import NotInjected, Verdict, run_scenario
from pytest_prodpatterns.scenarios._run import Run, set_current
from pytest_prodpatterns.scenarios.actions import _bench
from pytest_prodpatterns.scenarios.actions import breaker as actions
from pytest_prodpatterns.scenarios.probes import breaker as probes
from pytest_prodpatterns.targets import resolve
from pytest_prodpatterns.targets.breaker._pace import Late, RealPace


@pytest.fixture
def attack():
    """Return a function that begins a run against a target."""
    with contextlib.ExitStack() as stack:

        def begin(target):
            lab = stack.enter_context(ChaosLab(7, "attack"))
            run = Run(name="attack", subject="breaker", target=target, lab=lab)
            stack.enter_context(run.stack)
            stack.callback(set_current, None)
            set_current(run)
            return run

        yield begin


@pytest.fixture
def late(monkeypatch):
    """Return a function that lets the next checks of the pace find the machine late."""

    def lateness(times):
        remaining = [None] * times

        def check(self, recovery_timeout):
            if remaining:
                remaining.pop()
                raise Late("far behind")

        monkeypatch.setattr(RealPace, "check", check)

    return lateness


def test_a_late_step_repeats_all_steps_with_longer_seconds_and_only_the_last_attempt_counts(attack, late):
    late(0)
    run = attack(resolve("breaker", "pybreaker"))
    actions.make_breaker(failure_threshold=3)
    actions.call(phase="first", times=2, outcome="error")
    unit = run.state["bench"].driver.pace.unit
    late(2)
    actions.call(phase="second")
    assert run.state["bench"].attempt == 3
    assert run.state["bench"].driver.pace.unit == pytest.approx(9 * unit)
    assert probes.dependency_entered(phase="first", exactly=2)["status"] == "held"
    assert probes.dependency_entered(phase="second", exactly=1)["status"] == "held"
    assert [event.attributes["attempt"] for event in run.lab.timeline.where(kind="repeated")] == [1, 2]


def test_a_machine_that_is_always_late_is_no_verdict(attack, late):
    attack(resolve("breaker", "pybreaker"))
    late(100)
    with pytest.raises(NotInjected, match=r"^the machine is too slow for real time: far behind$"):
        actions.make_breaker(failure_threshold=3)


def test_a_real_pace_notices_that_it_is_late():
    pace = RealPace(unit=0.001)
    pace.check(60.0)
    pace.excuse(-0.02)  # as if 20 seconds of the scenario had been lost
    with pytest.raises(
        Late, match=r"^\d\d s of the scenario behind its schedule, with seconds of 0\.0010 s$"
    ):
        pace.check(60.0)


def test_a_probe_without_observations_is_vacuous(attack):
    attack(SmallTarget())
    vacuous = [
        probes.dependency_entered(phase="never", exactly=0),
        probes.inside_at_once(phase="never", at_most=1),
        probes.callers_got(phase="never", outcome="ok"),
        probes.nobody_waits(phase="never"),
        probes.original_error(phase="never"),
        probes.same_admission(before="never", after="never"),
        probes.rejections_tell_when(phase="never", at_most=60),
        probes.rejections_pickle(phase="never"),
        probes.rejections_are_fresh(phase="never"),
        probes.decorator_keeps_signature(),
        probes.guarded_or_refused(kind="async", healthy="never", after="never"),
    ]
    assert {answer["status"] for answer in vacuous} == {"vacuous"}
    actions.make_breaker(failure_threshold=1)
    actions.call(phase="closed")
    nothing_rejected = [
        probes.original_error(phase="never"),
        probes.rejections_tell_when(phase="closed", at_most=60),
        probes.rejections_pickle(phase="closed"),
        probes.rejections_are_fresh(phase="closed"),
    ]
    assert {answer["status"] for answer in nothing_rejected} == {"vacuous"}


def test_hanging_callers_can_be_cancelled(attack):
    attack(SmallTarget())
    actions.make_breaker(failure_threshold=1)
    actions.call(phase="hanging", times=3, outcome="hang", at_once=True)
    actions.cancel(phase="hanging")
    assert probes.callers_got(phase="hanging", outcome="cancelled")["evidence"] == (
        "3 of 3 callers got their cancellation hanging; 3 expected"
    )


def test_clocks_and_time_zone_are_right_again_when_an_action_returns(attack):
    attack(SmallTarget())
    actions.make_breaker(failure_threshold=1)
    zone, before = os.environ.get("TZ"), time.time()
    actions.call(phase="elsewhere", wall_clock_by=-3600, time_zone="<+0530>-5:30")
    assert os.environ.get("TZ") == zone
    assert 0 <= time.time() - before < 60


@pytest.mark.parametrize("style", ["tasks", "threads"])
def test_nothing_stays_behind_although_calls_still_hang(style):
    before = set(threading.enumerate())
    lab = ChaosLab(7, "attack")
    run = Run(name="attack", subject="breaker", target=SmallTarget(), lab=lab)
    with lab, run.stack:
        set_current(run)
        try:
            actions.make_breaker(failure_threshold=1)
            actions.call(phase="hanging", times=3, outcome="hang", style=style, at_once=True)
        finally:
            set_current(None)
        assert probes is not None
        events = len(lab.timeline)
        run.stack.close()
        assert len(lab.timeline) == events, "what comes back after the end is no observation"
    deadline = time.monotonic() + 5
    while set(threading.enumerate()) - before and time.monotonic() < deadline:
        for thread in set(threading.enumerate()) - before:
            thread.join(0.1)
    assert not set(threading.enumerate()) - before
    with pytest.raises(RuntimeError, match=r"no current event loop|no running event loop"):
        asyncio.get_running_loop()


def test_a_foreign_event_without_an_attempt_is_no_observation(attack):
    attack(SmallTarget())
    actions.make_breaker(failure_threshold=1)
    emit("dependency:charge", "entered", call=99, phase="forged")
    assert probes.dependency_entered(phase="forged", exactly=0)["status"] == "vacuous"


def test_a_slow_machine_gives_the_same_verdict(monkeypatch):
    monkeypatch.setattr(_bench, "UNIT", _bench.UNIT / 100)  # a break of 2 ms, which no machine keeps
    outcome = run_scenario("breaker/rejects-while-open", target="circuitbreaker", seed=7)
    assert outcome.verdict is Verdict.HELD, outcome.evidence


@pytest.mark.parametrize("library", ["aiobreaker", "hyx"])
def test_what_a_library_uses_that_is_deprecated_decides_no_verdict(library):
    outcome = run_scenario("breaker/opens-at-threshold", target=library, seed=7)
    assert outcome.verdict is Verdict.HELD, outcome.evidence
