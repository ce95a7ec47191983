"""A timeline told as text."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_prodpatterns.lab import Event
from pytest_prodpatterns.report._text import TELLING, render, select

KINDS = st.sampled_from(["armed", "fired", "transition", "undone", "called", "returned", "entered"])


def event(seq, kind="called", source="caller:me", *, at=None, real=None, process=1, **attributes):
    real = seq / 10 if real is None else real
    return Event(seq, real if at is None else at, real, process, "test", source, kind, attributes)


def test_no_event_is_told_in_words():
    assert render([]) == "nothing happened: no event was recorded"


def test_the_columns_line_up():
    text = render(
        [
            event(1, "armed", "fault:charge", description="raises OSError"),
            event(2, "transition", "breaker:payments", previous="closed", state="open", reason="5 failures"),
            event(3, "fired", "fault:charge", call=12, note=None),
        ]
    )
    assert text.splitlines() == [
        "3 events",
        't+0.000s  fault:charge      armed       description="raises OSError"',
        't+0.100s  breaker:payments  transition  closed -> open reason="5 failures"',
        "t+0.200s  fault:charge      fired       call=12",
    ]


def test_one_event_is_one_event():
    assert render([event(1)]).splitlines()[0] == "1 event"


def test_virtual_times_are_those_of_the_virtual_clock():
    text = render(
        [
            event(1, real=1000.0),
            event(2, at=0.0, real=1000.001),
            event(3, at=3600.0, real=1000.002),
            event(4, real=1000.003),
        ]
    )
    assert text.splitlines()[0] == (
        "4 events (t+ since the first event in real time, v= on the virtual clock)"
    )
    assert [line.split()[0] for line in text.splitlines()[1:]] == [
        "t+0.000s",
        "v=0.000s",
        "v=3600.000s",
        "t+0.003s",
    ]


def test_the_process_is_shown_when_there_is_more_than_one():
    lines = render([event(1), event(2, process=77, at=9.0, real=0.15)]).splitlines()
    assert lines[1:] == ["t+0.000s  [1]   caller:me  called", "t+0.050s  [77]  caller:me  called"]


def test_a_child_is_on_the_clock_of_the_event_before_it():
    lines = render([event(1, at=60.0, real=5.0), event(2, process=77, at=61.0, real=5.5)]).splitlines()
    assert [line.split()[0] for line in lines[1:]] == ["v=60.000s", "v=61.000s"]


def test_long_details_are_cut_and_stay_on_one_line():
    (_, line) = render([event(1, text="x" * 500, error=OSError("a\nb"))]).splitlines()
    assert line.endswith("…")
    assert len(line) < 160
    (_, line) = render([event(1, other=["a\nb"], text="two\nlines")]).splitlines()
    assert line.endswith(r"other=['a\nb'] text=" + r'"two\nlines"')


@given(st.lists(KINDS, max_size=30), st.integers(0, 12))
def test_the_newest_telling_events_are_kept_then_the_newest_others(kinds, limit):
    events = [event(number, kind) for number, kind in enumerate(kinds, 1)]
    kept = select(events, limit)
    assert len(kept) == min(limit, len(events))
    assert [e.seq for e in kept] == sorted(e.seq for e in kept)
    left_out = [e for e in events if e not in kept]
    for gone in left_out:
        for stays in kept:
            assert (stays.kind in TELLING, stays.seq) > (gone.kind in TELLING, gone.seq)


@pytest.mark.parametrize(("count", "heading"), [(60, "60 events"), (100, "100 events, 40 of them left out")])
def test_at_most_sixty_lines_are_told_and_the_number_left_out(count, heading):
    lines = render([event(number) for number in range(1, count + 1)]).splitlines()
    assert lines[0] == heading
    assert len(lines) == 61
