"""The core and its tallies by themselves: beside plain counting, and at their edges."""

from __future__ import annotations

import random

import pytest
from breaker_support import Clock, failing, good, make

from pytest_prodpatterns.patterns.breaker import CountWindow, TimeWindow
from pytest_prodpatterns.patterns.breaker._tally import Streak
from pytest_prodpatterns.patterns.breaker.testing import trip

CALM = (False, False)
MINIMUM = 5


def sums(log):
    return len(log), sum(failed for failed, _ in log), sum(slow for _, slow in log)


def walk(tally, remembered, steps=400):
    """Add random outcomes, on the common and on the fast way, and compare with what plain counting says."""
    draw, log, now = random.Random(1), [], 0.0
    for _ in range(steps):
        now += draw.choice([0, 0.25, 0.5, 1, 1, 2, 30]) if draw.random() < 0.3 else 0
        outcome = draw.choice([CALM, CALM, CALM, CALM, (True, False), (True, True), (False, True)])
        tally.expire(now)
        log.append((now, outcome))
        if outcome == CALM and draw.random() < 0.5:
            calls, failures, calm = tally.calls, tally.failures, tally.calm
            if not tally.succeed(now):  # then it cannot have changed any conclusion
                assert (tally.failures <= failures, tally.calm) == (True, calm)
                assert tally.calls == calls or tally.calls == calls + 1 != MINIMUM
        else:
            tally.add(now, *outcome)
        assert (tally.calls, tally.failures, tally.slow) == sums(remembered(log, now))
        yield log, now


@pytest.mark.parametrize("size", [1, 2, 7, 50])
def test_a_ring_counts_as_plainly_as_a_list(size):
    tally = CountWindow(size).tally(MINIMUM)
    assert tally.calm is False
    for log, _ in walk(tally, lambda log, now: [entry[1] for entry in log[-size:]]):
        assert tally.calm is (len(log) >= size and all(outcome == CALM for _, outcome in log[-size:]))
    tally.clear()
    assert (tally.calls, tally.failures, tally.slow, tally.calm) == (0, 0, 0, False)
    for _ in range(size):
        assert tally.calm is False
        tally.add(0, False, False)
    assert tally.calm is True


@pytest.mark.parametrize(("seconds", "buckets"), [(4, 4), (10, 4), (3, 1)])
def test_buckets_count_as_plainly_as_a_list(seconds, buckets):
    tally, width = TimeWindow(seconds, buckets).tally(MINIMUM), seconds / buckets

    def newest(log, now):
        return [outcome for at, outcome in log if now // width - at // width < buckets]

    for _ in walk(tally, newest):
        assert tally.calm is False
    tally.clear()
    assert (tally.calls, tally.failures, tally.slow) == (0, 0, 0)


def test_a_bucket_is_found_without_looking_only_within_its_bounds():
    for add in ("succeed", "add"):
        tally = TimeWindow(1.0, 2).tally(MINIMUM)
        assert (tally._from, tally._to) == (0, 0)
        for now, bounds, calls in (
            (1.5, (1.5, 2), 1),
            (1.75, (1.5, 2), 2),
            (2.0, (2, 2.5), 3),
            (2.5, (2.5, 3), 2),
        ):
            tally.succeed(now) if add == "succeed" else tally.add(now, False, False)
            assert (tally._from, tally._to, tally.calls, tally._tick) == (*bounds, calls, now // 0.5)


def test_a_success_is_worth_a_look_when_time_has_passed_or_the_rules_begin_to_hold():
    time, count = TimeWindow(4, 4).tally(3), CountWindow(4).tally(3)
    count.add(0, True, False)
    looks = [(now, time.succeed(now)) for now in (0, 0.5, 0.75, 0.9, 1, 1.5)]
    assert looks == [(0, False), (0.5, False), (0.75, True), (0.9, False), (1, True), (1.5, False)]
    assert [count.succeed(0) for _ in range(7)] == [False, True, False, True, False, False, True]
    time.expire(2)  # somebody looked at the state meanwhile, twice
    time.expire(2)
    assert (time.succeed(2), time.succeed(2)) == (True, False)


def test_a_clock_that_goes_back_further_than_the_window_is_another_one():
    tally = TimeWindow(10, 10).tally(1)
    tally.add(1000, True, True)
    tally.expire(991)
    assert (tally.calls, tally.failures, tally.slow) == (1, 1, 1)
    tally.expire(990)
    assert (tally.calls, tally.failures, tally.slow, tally._from) == (0, 0, 0, 990)
    tally.add(990, True, False)
    tally.expire(1000)
    assert tally.calls == 0
    tally.expire(-0.25)
    assert (tally._from, tally._to) == (-1, 0)


def test_a_streak_is_calm_without_failures():
    tally = Streak()
    assert tally.calm is True
    tally.add(0, True, False)
    assert (tally.calm, tally.calls, tally.failures) == (False, 1, 1)
    assert tally.succeed(0) is True
    assert (tally.calm, tally.calls, tally.failures) == (True, 0, 0)
    tally.add(0, False, False)
    assert tally.calm is True


def test_a_healthy_breaker_needs_no_lock():
    for parameters, calls in (({}, 0), ({"window": CountWindow(5)}, 5)):
        breaker, _ = make(**parameters)
        core = breaker._core
        for _ in range(calls):
            assert core.healthy == 0
            breaker.call(good)
        assert core.healthy == core.door == core.generation == 1
        failing(breaker)
        assert core.healthy == 0
        for _ in range(calls or 1):
            breaker.call(good)
        assert core.healthy == 1
        trip(breaker)
        assert (core.healthy, core.door) == (0, 0)


@pytest.mark.parametrize("parameters", [{"classify": lambda *_: None}, {"retry_after": lambda _: None}])
def test_a_breaker_that_judges_results_is_never_skipped(parameters):
    breaker, _ = make(**parameters)
    breaker.call(good)
    assert (breaker._core.healthy, breaker._core.door) == (0, 1)
    breaker.disable()
    assert breaker._core.healthy == breaker._core.door == 2


def test_what_the_core_notes_of_a_success():
    breaker, _ = make(2, window=CountWindow(9), minimum_calls=3)
    core = breaker._core
    core.settle(1, "success", 0)
    assert core.healthy == 0
    failing(breaker)
    assert core.note_success() is True
    core.tally.succeed(0)
    assert core.review(99, 0) is None
    assert core.review(core.door, 0) is None
    calm, _ = make()
    assert calm._core.note_success() is False
    assert calm._core.healthy == 1


def test_a_review_in_metrics_only_opens_nothing():
    breaker, _ = make(2, window=TimeWindow(10), initial_state="metrics_only")
    failing(breaker, 5)
    breaker.call(good)
    assert breaker.state == "metrics_only"


def test_how_long_until_a_call_is_let_through():
    breaker, clock = make(1, 10, max_probes=1, probe_limit=2, probe_lease=4)
    core = breaker._core
    assert core.retry_after(0) == 0
    trip(breaker)
    assert (core.retry_after(3), core.retry_after(10), core.retry_after(11)) == (7, 0, 0)
    clock.now = 10
    breaker._look()
    assert core.retry_after(10) == 0
    breaker._admit()
    assert (core.retry_after(11), core.retry_after(20)) == (3, 0)
    clock.now = 14
    breaker._admit()
    core.probes.clear()
    assert core.retry_after(14) == 0
    breaker.force_open()
    assert core.retry_after(14) is None
    breaker.disable()
    assert core.retry_after(14) == 0


def test_a_failed_probe_leaves_its_error_and_its_reason():
    breaker, clock = make(1, 10)
    trip(breaker)
    clock.now = 10
    error = ConnectionError("probe")
    failing(breaker, 1, error)
    assert breaker.last_failure is error
    assert breaker.history[-1].reason == "a probe failed"
    clock.now = 20
    breaker.call(good)
    breaker.call(good)
    assert breaker.history[-1].reason == "2 probes succeeded"
    assert breaker.last_failure is None


def test_a_neutral_probe_gives_back_one_permit_only():
    breaker, _ = make(1, initial_state="half_open", max_probes=3, probe_limit=3)
    permits = [breaker._admit() for _ in range(3)]
    breaker._raised(permits[0], KeyboardInterrupt())
    assert breaker._core.admitted == 2
    asked, _ = make(1, initial_state="half_open", retry_after=lambda _: 5)
    failing(asked)
    assert asked.history[-1].reason == "the dependency asked for 5 s"


def test_a_slow_rate_is_a_share():
    breaker, _ = make(
        4, window=CountWindow(4), slow_call_duration=1, slow_call_rate=0.5, clock=(clock := Clock(100))
    )
    for slow in (1, 0, 0, 0):
        breaker.call(lambda slow=slow: setattr(clock, "now", clock.now + slow))
    assert (breaker.state, breaker.snapshot().slow_count) == ("closed", 1)
    for _ in range(2):
        breaker.call(lambda: setattr(clock, "now", clock.now + 1))
    assert breaker.history[-1].reason == "2 of 4 calls were slow"


def test_a_decorated_function_that_fails_is_counted():
    breaker, _ = make(1)

    @breaker
    def broken():
        raise ConnectionError

    with pytest.raises(ConnectionError):
        broken()
    assert (breaker.state, breaker.snapshot().openings) == ("open", 1)


def test_a_forced_open_breaker_is_shut_without_asking_the_core():
    breaker, _ = make(initial_state="forced_open")
    assert breaker._core.shut_until == float("inf")
    assert breaker._core.admit(1e9) == (0, None)
    assert make(initial_state="open")[0]._core.admit(1) == (0, None)
    assert (breaker._core.openings, breaker.last_failure) == (0, None)
