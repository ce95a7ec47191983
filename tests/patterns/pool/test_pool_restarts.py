"""How many deaths are too many; told as a diary of deaths, boots and answers."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_prodpatterns.patterns.pool._restarts import LONGEST_DELAY, Restarts


def live(diary, max_restarts=3, period=10.0, max_boot_failures=3):
    """Live through a diary, such as "0 died, 1 stillborn, ready, answered"; return what each entry gave."""
    restarts = Restarts(max_restarts, period, max_boot_failures)
    told = []
    for entry in diary.split(", "):
        if entry == "ready":
            restarts.became_ready()
        elif entry == "answered":
            restarts.answered()
        else:
            at, how = entry.split()
            told.append(restarts.died(float(at), ready=how == "died"))
    return restarts, told


OVER = "4 workers ended within 10 s, 3 are allowed (max_restarts)"
STILLBORN = "3 workers in a row ended before they were ready"


@pytest.mark.parametrize(
    ("diary", "verdict"),
    [
        ("0 died", None),
        ("0 died, 0 died, 0 died", None),
        ("0 died, 0 died, 0 died, 0 died", OVER),
        ("0 died, 3 died, 6 died, 9.9 died", OVER),
        ("0 died, 3 died, 6 died, 10 died", None),
        ("0 died, 3 died, 6 died, 10 died, 12 died", OVER),
        ("0 died, answered, 1 died, answered, 2 died, ready, 3 died", OVER),
        ("0 stillborn, 100 stillborn", None),
        ("0 stillborn, 100 stillborn, 200 stillborn", STILLBORN),
        ("0 stillborn, 1 stillborn, 2 stillborn, 3 stillborn", "4" + STILLBORN[1:]),
        ("0 stillborn, 100 stillborn, ready, 200 stillborn, 300 stillborn", None),
        ("0 stillborn, 100 stillborn, answered, 200 stillborn", STILLBORN),
        ("0 stillborn, 100 died, 200 stillborn, 300 stillborn", STILLBORN),
        ("0 stillborn, 1 died, 2 died, 3 stillborn", OVER),
    ],
)
def test_deaths_are_counted_within_the_period_and_boot_failures_in_a_row(diary, verdict):
    restarts, told = live(diary)
    assert told[-1] == verdict
    assert restarts.total == len(told)


def test_the_pool_breaks_at_the_first_excess_only():
    _, told = live("0 died, 1 died, 2 died, 3 died")
    assert told == [None, None, None, OVER]


def test_no_restart_may_be_allowed():
    _, told = live("5 died", max_restarts=0, period=0.5)
    assert told == ["1 workers ended within 0.5 s, 0 are allowed (max_restarts)"]


def test_one_boot_failure_may_be_too_many():
    _, told = live("5 stillborn", max_boot_failures=1)
    assert told == ["1 workers in a row ended before they were ready"]


@pytest.mark.parametrize(
    ("diary", "delay"),
    [
        ("ready", 0.0),
        ("0 died", 0.0),
        ("0 died, 0 died", 0.01),
        ("0 died, 0 died, 0 died", 0.02),
        ("0 died, 0 died, 0 died, 0 died", 0.04),
        ("0 died, 0 died, 0 died, 0 died, 0 died", 0.08),
        ("0 died, 0 died, 0 died, 0 died, 0 died, 0 died", 0.1),
        ("0 died, 0 stillborn, ready, 0 stillborn", 0.02),
        ("0 died, 0 died, 0 died, answered", 0.0),
        ("0 died, 0 died, 0 died, answered, 0 died", 0.0),
        ("0 died, 0 died, 0 died, answered, 0 died, 0 died", 0.01),
    ],
)
def test_the_next_start_waits_longer_after_each_death_without_an_answer_between(diary, delay):
    restarts, _ = live(diary, max_restarts=100)
    assert restarts.delay == pytest.approx(delay)


def test_the_delay_stays_finite():
    restarts, _ = live(", ".join(["0 died"] * 3000), max_restarts=3000)
    assert restarts.delay == LONGEST_DELAY


@given(st.lists(st.floats(0, 5), max_size=40), st.integers(0, 6), st.floats(0.1, 10))
def test_a_verdict_says_how_many_died_in_the_last_period(pauses, allowed, period):
    restarts, now, deaths = Restarts(allowed, period, 1000), 0.0, []
    for pause in pauses:
        now += pause
        deaths.append(now)
        recent = sum(death > now - period for death in deaths)
        verdict = restarts.died(now, ready=True)
        assert (verdict is not None) == (recent > allowed)
        assert verdict is None or verdict.startswith(f"{recent} workers ended ")
