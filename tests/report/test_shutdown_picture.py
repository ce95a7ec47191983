"""The picture of an end is drawn of the history alone, and loses nothing of it."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from collections import Counter

import pytest

from pytest_prodpatterns.lab import Event
from pytest_prodpatterns.report import _shutdown_picture as picture
from pytest_prodpatterns.report import shutdown_picture

SVG = "{http://www.w3.org/2000/svg}"


def history(*told):
    """Events of (second, source, kind, attributes), the signal at 100 s of the machine's clock."""
    return [
        Event(number, 100 + second, 100 + second, 1, "a test", source, kind, attributes)
        for number, (second, source, kind, attributes) in enumerate(told, 1)
    ]


STARTED = (-2.0, "server:x", "started", {"pid": 7})
SIGNAL = (0.0, "server:x", "signalled", {"signal": "SIGTERM", "number": 1})
EXITED = (2.0, "server:x", "exited", {"how": "exit code 0", "code": 0})


def call(number, begin, end, outcome, phase="some", **more):
    yield (begin, "client:request", "called", {"call": number, "phase": phase, "path": "/"})
    if end is not None:
        attributes = {"call": number, "phase": phase, "outcome": outcome, **more}
        yield (end, "client:request", "returned", attributes)


def bars(svg):
    """Return (text, colour, begin, end) of each bar, the ends in pixels."""
    found = []
    for rect in ET.fromstring(svg).iter(f"{SVG}rect"):
        title = rect.find(f"{SVG}title")
        if title is not None:
            x = float(rect.get("x"))
            found.append((title.text, rect.get("fill"), x, x + float(rect.get("width"))))
    return found


def texts(svg):
    return [text.text for text in ET.fromstring(svg).iter(f"{SVG}text")]


@pytest.mark.parametrize(
    ("outcome", "status", "colour"),
    [
        ("completed", 200, picture.GOOD),
        ("completed-with-close", 404, picture.GOOD),
        ("5xx", 500, picture.BAD),
        ("5xx", 503, picture.SAFE),
        ("refused", None, picture.SAFE),
        ("closed", None, picture.TOLD),
        ("cancelled", None, picture.TOLD),
        ("open", None, picture.NEUTRAL),
        ("eof", None, picture.BAD),
        ("reset", None, picture.BAD),
        ("truncated", 200, picture.BAD),
        ("never-answered", None, picture.BAD),
        ("unreachable", None, picture.BAD),
    ],
)
def test_a_request_has_the_colour_of_what_came_of_it(outcome, status, colour):
    more = {} if status is None else {"status": status}
    svg = shutdown_picture(history(SIGNAL, *call(1, 0.1, 0.5, outcome, **more)))
    words = f"1: {outcome}" + (f" {status}" if status else "")
    assert [(text, seen) for text, seen, *_ in bars(svg)] == [(words, colour)]


def test_every_request_is_a_bar_however_many_there_are():
    told = [event for number in range(300) for event in call(number, number / 1000, 1.5, "completed")]
    svg = shutdown_picture(history(SIGNAL, *told))
    assert len(bars(svg)) == 300
    assert "some (300)" in texts(svg)


def test_requests_that_do_not_meet_share_a_line_and_those_that_do_have_their_own():
    told = [*call(1, 0.0, 0.2, "completed"), *call(2, 0.5, 0.7, "completed"), *call(3, 0.1, 0.6, "completed")]
    rects = ET.fromstring(shutdown_picture(history(SIGNAL, *told, EXITED))).iter(f"{SVG}rect")
    heights = Counter(rect.get("y") for rect in rects if rect.find(f"{SVG}title") is not None)
    assert sorted(heights.values()) == [1, 2]


def test_times_are_where_they_belong():
    svg = shutdown_picture(
        history(SIGNAL, *call(1, 0.0, 1.0, "completed"), *call(2, 1.0, 2.0, "completed"), EXITED)
    )
    (_, _, one, half), (_, _, again, end) = bars(svg)
    assert half == pytest.approx(again, abs=0.2)
    assert half - one == pytest.approx(end - again, abs=0.2)
    assert "SIGTERM" in texts(svg)
    assert "+2 s" in texts(svg)


def test_the_process_the_listener_and_the_readiness_have_a_row_each():
    told = [
        STARTED,
        (-0.1, "server:x", "listener", {"state": "listening", "backlog": 0}),
        (-0.1, "server:x", "readiness", {"status": 200, "ready": True}),
        SIGNAL,
        (0.1, "server:x", "readiness", {"status": 503, "ready": False}),
        (0.5, "server:x", "listener", {"state": "listening", "backlog": 3}),
        (1.0, "server:x", "listener", {"state": "closed", "backlog": 0}),
        (1.0, "server:x", "readiness", {"status": 0, "ready": False}),
        EXITED,
    ]
    svg = shutdown_picture(history(*told), "a <title>")
    seen = {text: colour for text, colour, *_ in bars(svg)}
    assert seen == {
        "exit code 0": picture.GOOD,
        "listening": picture.GOOD,
        "listening, 3 waiting": picture.SAFE,
        "answers 200": picture.GOOD,
        "answers 503": picture.SAFE,
    }
    assert {"process", "listener", "readiness", "exit code 0", "a <title>"} <= set(texts(svg))


@pytest.mark.parametrize(
    ("ended", "words", "colour"),
    [
        ((1.0, "server:x", "exited", {"how": "exit code 1", "code": 1}), "exit code 1", picture.SAFE),
        ((1.0, "server:x", "killed", {"pids": [7]}), "it still lived", picture.BAD),
    ],
)
def test_the_end_of_the_process_is_told(ended, words, colour):
    assert [(text, seen) for text, seen, *_ in bars(shutdown_picture(history(STARTED, SIGNAL, ended)))] == [
        (words, colour)
    ]


def test_a_call_without_an_end_reaches_to_the_end():
    svg = shutdown_picture(history(SIGNAL, *call(1, 0.0, None, ""), EXITED))
    (text, colour, _, end), *_ = bars(svg)
    assert (text, colour) == ("1: no end", picture.BAD)
    assert end == pytest.approx(picture.WIDTH - picture.RIGHT, abs=0.2)


def test_without_a_signal_there_is_no_picture():
    with pytest.raises(ValueError, match="no server got one"):
        shutdown_picture(history(STARTED, EXITED))
