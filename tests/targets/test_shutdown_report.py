"""`ShutdownReport`: what each assertion makes of a history, and what it says when it fails."""

from __future__ import annotations

import re

import pytest

from pytest_prodpatterns.lab import Event
from pytest_prodpatterns.targets.server.shutdown import NotObserved, ShutdownReport

SIGNAL = 100.0


class Story:
    """A history, written by hand; times in seconds since the signal."""

    def __init__(self):
        self.events = []
        self.calls = 0

    def tell(self, at, source, kind, /, **attributes):
        self.events.append(
            Event(len(self.events) + 1, SIGNAL + at, SIGNAL + at, 1, "", source, kind, attributes)
        )
        return self

    def server(self, at, kind, /, **attributes):
        return self.tell(at, "server:app", kind, **attributes)

    def signal(self, **attributes):
        told = {"signal": "SIGTERM", "target": "leader", "pids": [4711], "number": 1, **attributes}
        return self.server(0.0, "signalled", **told)

    def request(self, ended, outcome, *, kind="request", phase="in flight", began=-0.1, path="/slow", **rest):
        self.calls += 1
        source, call = f"client:{kind}", {"call": self.calls, "phase": phase}
        self.tell(began, source, "called", path=path, **call)
        if phase != "routed":
            self.tell(began, source, "entered", how="accepted and read", **call)
        if ended is not None:
            self.tell(ended, source, "returned", outcome=outcome, took=ended - began, **call, **rest)
        return self

    def exit(self, at=0.5, code=0, **attributes):
        how = {-15: "SIGTERM", -6: "SIGABRT"}.get(code, f"exit code {code}")
        return self.server(at, "exited", **{"pid": 4711, "code": code, "how": how, "took": at, **attributes})

    def survivors(self, *pids):
        return self.server(2.0, "survivors", pids=list(pids), commands=["sleep 60"] * len(pids), within=1.0)

    def readiness(self, *changes):
        for at, status in changes:
            took = at if at >= 0 else None
            self.server(at, "readiness", status=status, ready=200 <= status < 400, took=took)
        return self

    def listener(self, *changes):
        for at, state in changes:
            self.server(at, "listener", state=state, backlog=0, took=at if at >= 0 else None)
        return self

    def report(self, **options):
        events = sorted(self.events, key=lambda event: event.real)
        return ShutdownReport(events, **options)


@pytest.fixture
def story():
    return Story()


def refused(assertion, *args, kind=AssertionError, **options):
    """Return the first line of what an assertion says when it fails."""
    with pytest.raises(AssertionError) as caught:
        assertion(*args, **options)
    assert type(caught.value) is kind
    text = str(caught.value)
    assert "\nthe timeline, in seconds since the " in text
    return text.partition("\n")[0]


# -- requests in flight ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "outcome", "status"),
    [
        ("request", "completed", 200),
        ("request", "completed-with-close", 200),
        ("request", "completed", 404),
        ("raw", "completed", 200),
        ("stream", "completed", 200),
        ("sse", "cancelled", 200),
        ("websocket", "cancelled", 101),
        ("sse", "completed", 204),
    ],
)
def test_a_request_in_flight_is_completed(story, kind, outcome, status):
    story.signal().request(0.3, outcome, kind=kind, status=status).report().assert_in_flight_completed()


@pytest.mark.parametrize(
    ("kind", "outcome", "status", "word"),
    [
        ("request", "eof", None, "1 eof"),
        ("request", "reset", None, "1 reset"),
        ("request", "truncated", 200, "1 truncated"),
        ("request", "refused", None, "1 refused"),
        ("request", "never-answered", None, "1 never-answered"),
        ("request", "5xx", 503, "1 answered 503"),
        ("request", "5xx", 500, "1 answered 500"),
        ("request", "cancelled", 200, "1 cancelled"),
        ("request", "abandoned", None, "1 abandoned"),
        ("stream", "truncated", 200, "1 truncated"),
        ("sse", "truncated", 200, "1 truncated"),
        ("websocket", "eof", 101, "1 eof"),
    ],
)
def test_a_request_in_flight_is_lost(story, kind, outcome, status, word):
    story.signal().request(0.3, "completed", status=200).request(0.3, outcome, kind=kind, status=status)
    assert refused(story.report().assert_in_flight_completed) == (
        f"1 of 2 requests in flight were not completed: {word}; expected a whole response for each"
    )


def test_a_request_without_an_end_is_lost(story):
    story.signal().request(None, "")
    assert "1 unknown;" in refused(story.report().assert_in_flight_completed)


@pytest.mark.parametrize("kind", ["idle", "silent", "half-headers", "half-body"])
def test_without_a_request_in_flight_nothing_is_known(story, kind):
    story.signal().request(0.1, "closed", kind=kind, phase="waiting")
    assert refused(story.report().assert_in_flight_completed) == (
        "no request was in flight, so nothing is known: pass in_flight=[shutdown.get('/slow')]"
    )


def test_requests_that_were_answered_before_the_signal_say_nothing(story):
    story.request(-0.05, "completed", status=404).signal()
    assert refused(story.report().assert_in_flight_completed).startswith(
        "nothing was in flight any more when the signal came (1 completed), so nothing is known"
    )


def test_one_request_that_was_in_flight_is_enough(story):
    story.request(-0.05, "completed", status=200).request(0.2, "completed", status=200).signal()
    story.report().assert_in_flight_completed()


def test_what_is_cut_off_before_the_signal_is_told_was_cut_off_by_it(story):
    """The clients see the end in a millisecond; that the signal was sent is known a moment later."""
    story.tell(-0.002, "fault:SIGTERM", "armed").request(-0.001, "eof").signal()
    assert refused(story.report().assert_in_flight_completed).startswith("1 of 1 requests in flight")
    exact = Story().request(-0.001, "eof").signal(at=SIGNAL - 0.002)
    assert refused(exact.report().assert_in_flight_completed).startswith("1 of 1 requests in flight")


# -- new connections ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("outcome", "status", "strict", "dropped"),
    [
        ("completed", 200, False, False),
        ("completed", 200, True, False),
        ("completed-with-close", 200, True, False),
        ("refused", None, False, False),
        ("refused", None, True, True),
        ("5xx", 503, False, False),
        ("5xx", 503, True, True),
        ("5xx", 500, False, True),
        ("eof", None, False, True),
        ("reset", None, False, True),
        ("truncated", 200, False, True),
        ("never-answered", None, False, True),
        ("unreachable", None, False, True),
    ],
)
def test_a_new_connection_is_dropped_or_not(story, outcome, status, strict, dropped):
    story.signal().request(0.2, "completed", phase="routed", began=0.1, status=200)
    story.request(0.3, outcome, phase="routed", began=0.1, status=status)
    check = story.report().assert_no_dropped_requests
    if not dropped:
        check(strict=strict)
        return
    reason = refused(check, strict=strict)
    word = f"answered {status}" if outcome == "5xx" else outcome
    assert reason.startswith(f"1 of 2 new connections behind the signal were dropped: 1 {word}; expected ")
    assert reason.endswith("an answer for each" if strict else "or told to try again (503)")


def test_without_new_connections_nothing_is_known(story):
    story.signal().request(0.3, "completed", status=200)
    assert "pass route_for=1.0" in refused(story.report().assert_no_dropped_requests)


def test_a_request_in_flight_is_no_new_connection(story):
    story.signal().request(0.3, "eof").request(0.3, "completed", phase="routed", status=200)
    story.report().assert_no_dropped_requests()


# -- idle connections --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["idle", "silent"])
@pytest.mark.parametrize("outcome", ["closed", "reset", "eof", "completed-with-close"])
def test_an_idle_connection_is_closed_soon(story, kind, outcome):
    story.signal().request(0.9, outcome, kind=kind, phase="waiting")
    story.report().assert_idle_connections_closed(within=1)


@pytest.mark.parametrize(
    ("ended", "outcome", "seen"),
    [
        (1.2, "closed", "the last at +1.20 s"),
        (5.0, "open", "1 never"),
        (5.0, "never-answered", "1 never"),
        (None, "", "1 never"),
    ],
)
def test_an_idle_connection_is_closed_late_or_never(story, ended, outcome, seen):
    story.signal().request(0.1, "closed", kind="idle", phase="waiting")
    story.request(ended, outcome, kind="silent", phase="waiting")
    reason = refused(story.report().assert_idle_connections_closed, within=1)
    assert reason == f"1 of 2 idle connections were not closed within 1 s: {seen}"


def test_half_sent_requests_count_when_they_are_to(story):
    story.signal().request(0.1, "closed", kind="idle", phase="waiting")
    story.request(3.0, "completed-with-close", kind="half-body", phase="waiting", status=408)
    story.report().assert_idle_connections_closed(within=1)
    assert "the last at +3.00 s" in refused(
        story.report().assert_idle_connections_closed, within=1, half_sent=True
    )


def test_without_an_idle_connection_nothing_is_known(story):
    story.signal().request(0.3, "completed", status=200)
    assert "no idle connection was there" in refused(story.report().assert_idle_connections_closed)


def test_idle_connections_that_were_closed_before_the_signal_say_nothing(story):
    story.request(-0.05, "closed", kind="idle", phase="waiting", began=-1).signal()
    assert "had been closed before the signal" in refused(story.report().assert_idle_connections_closed)


# -- readiness and listener --------------------------------------------------------------------------------------


def flips(story, readiness, listener):
    story.signal().readiness(*readiness).listener(*listener)
    return story.report().assert_readiness_flipped_before_listener_closed


@pytest.mark.parametrize("gone", ["closed", "rebound"])
def test_readiness_flips_before_the_listener_closes(story, gone):
    flips(story, [(-0.5, 200), (0.05, 503), (1.2, 0)], [(-0.5, "listening"), (1.1, gone)])()


def test_a_listener_that_was_closed_before_it_listened_is_no_closed_one(story):
    flips(story, [(-0.5, 200), (0.3, 503)], [(-0.9, "closed"), (-0.5, "listening"), (0.6, "closed")])()


def test_a_listener_that_lives_as_long_as_the_process_is_closed_by_its_end(story):
    story.exit(2.0)
    flips(story, [(-0.5, 200), (0.05, 503)], [(-0.5, "listening")])()


@pytest.mark.parametrize(
    ("readiness", "listener", "reason"),
    [
        (
            [(-0.5, 200), (0.05, 0)],
            [(-0.5, "listening"), (0.04, "closed")],
            "the readiness said 200 until nobody answered any more, at +0.050 s",
        ),
        ([(-0.5, 200)], [(-0.5, "listening"), (0.04, "closed")], "the readiness went on saying 200"),
        (
            [(-0.5, 200), (0.9, 503)],
            [(-0.5, "listening"), (0.1, "closed")],
            "the listener closed at +0.100 s, and the readiness said 503 at +0.900 s only",
        ),
    ],
)
def test_readiness_flips_too_late_or_never(story, readiness, listener, reason):
    assert refused(flips(story, readiness, listener)).startswith(reason)


@pytest.mark.parametrize(
    ("readiness", "listener", "reason"),
    [
        ([], [(-0.5, "listening")], "nobody asked for the readiness: pass readiness='/ready'"),
        ([(-0.5, 503), (0.1, 503)], [(0.1, "closed")], "never said yes before the signal: the last was 503"),
        ([(-0.5, 0)], [(0.1, "closed")], "never said yes before the signal: the last was no answer"),
        ([(0.1, 503)], [(0.1, "closed")], "never said yes before the signal: the last was nothing"),
        ([(-0.5, 200), (0.1, 503)], [], "the listener was not observed"),
        ([(-0.5, 200), (0.1, 503)], [(-0.5, "listening")], "it never closed, and no exit was seen"),
    ],
)
def test_a_readiness_that_was_not_observed_is_neither_good_nor_bad(story, readiness, listener, reason):
    assert reason in refused(flips(story, readiness, listener), kind=NotObserved)


def test_the_machines_reason_for_not_observing_is_told(story):
    story.server(-0.5, "not-observed", what="listener", why="no /proc here")
    check = flips(story, [(-0.5, 200), (0.1, 503)], [])
    assert refused(check, kind=NotObserved) == "not observed: listener (no /proc here)"


# -- the end -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("code", "expected"), [(0, 0), (0, {0}), (1, (0, 1)), (-15, [-15, 0]), (3, None), (0, range(2))]
)
def test_the_exit_is_as_expected(story, code, expected):
    story.signal().exit(0.5, code).report().assert_exit(code=expected, within=5)


@pytest.mark.parametrize(
    ("code", "expected", "reason"),
    [
        (1, 0, "the server ended with exit code 1; expected exit code 0"),
        (-15, {0, 1}, "the server ended with SIGTERM (-15); expected exit code 0 or 1"),
    ],
)
def test_the_exit_code_is_another_one(story, code, expected, reason):
    assert refused(story.signal().exit(0.5, code).report().assert_exit, expected) == reason


def test_the_exit_is_late(story):
    report = story.signal().exit(6.08).report(within=7)
    report.assert_exit()
    assert refused(report.assert_exit, within=5) == (
        "the server ended 6.08 s behind the signal; expected at most 5 s"
    )
    late = Story().signal().exit(6.08).report(within=5)
    assert "expected at most 5 s" in refused(late.assert_exit)


def test_a_server_that_was_killed_did_not_end(story):
    story.signal().exit(15.0, -6).server(15.1, "stuck", stacks="File x.py, line 7 in wait")
    report = story.server(15.2, "killed", pids=[4711], why="").survivors().report()
    with pytest.raises(AssertionError, match=r"^the server did not end, and was killed; .* 10 s\n") as caught:
        report.assert_exit(code=None)
    assert "where it was stuck:\n  File x.py, line 7 in wait\n" in str(caught.value)
    assert report.killed
    assert report.survivors is None
    assert "was killed with all" in refused(report.assert_no_survivors, kind=NotObserved)


def test_an_exit_before_the_signal_is_none_behind_it(story):
    story.exit(-0.2, took=None).signal(pids=[])
    assert refused(story.report().assert_exit) == "the server ended before the signal came (exit code 0)"


def test_an_exit_in_the_very_moment_of_the_signal_is_behind_it(story):
    story.signal().exit(0.001, -15, took=None).report().assert_exit(-15)


def test_an_exit_that_nobody_saw_is_not_observed(story):
    assert refused(story.signal().report().assert_exit, kind=NotObserved) == "no exit was seen"


def test_survivors_are_told_by_pid_and_command(story):
    story.signal().exit().survivors().report().assert_no_survivors()
    report = Story().signal().exit().survivors(7, 8).report()
    assert report.survivors == [7, 8]
    assert refused(report.assert_no_survivors) == (
        "2 processes of the server lived on 1 s behind its exit: 7 (sleep 60), 8 (sleep 60)"
    )


def test_survivors_for_whom_nobody_looked_are_not_observed(story):
    assert "nobody looked" in refused(story.signal().exit().report().assert_no_survivors, kind=NotObserved)


# -- the output --------------------------------------------------------------------------------------------------

BEFORE = "Traceback (most recent call last)\nstarting\nCLEANUP of yesterday\n"


def printed(behind):
    return Story().signal().exit().report(output=BEFORE + behind, printed=len(BEFORE))


@pytest.mark.parametrize(
    "text",
    [
        "oh\nTraceback (most recent call last):\n  File",
        "Exception ignored in: <function",
        "panic: runtime error: index out of range",
        "thread 'main' panicked at src/main.rs:4:5",
        'Exception in thread "main" java.lang.Error',
    ],
)
def test_a_traceback_behind_the_signal(text):
    reason = refused(printed(text).assert_no_traceback)
    assert reason.startswith("the server printed ")
    assert reason.endswith(" behind the signal; expected no traceback")


@pytest.mark.parametrize("text", ["", "do not panic: all is well", "bye"])
def test_a_traceback_before_the_signal_is_another_matter(text):
    printed(text).assert_no_traceback()


def test_a_line_of_the_log_is_there():
    report = printed("draining 3\nCLEANUP\n")
    report.assert_log("CLEANUP")
    report.assert_log(re.compile(r"draining \d+$", re.MULTILINE))


def test_a_line_of_the_log_is_missing():
    assert refused(printed("").assert_log, "BYE") == "the server did not print 'BYE' behind the signal"
    assert refused(printed("").assert_log, "CLEANUP").endswith("; it had printed that before")
    assert "did not print 'b.e'" in refused(printed("b.").assert_log, re.compile("b.e"))


# -- the story ---------------------------------------------------------------------------------------------------


def test_the_timeline_tells_what_happened_in_seconds_since_the_signal(story):
    story.server(-1.0, "started", pid=4711, command="python app.py", port=5000)
    story.server(-0.5, "ready", how="a listener on port 5000", took=0.5)
    story.readiness((-0.4, 200), (0.05, 503), (1.3, 0)).listener((-0.4, "listening"), (1.2, "closed"))
    story.request(1.1, "completed-with-close", status=200, close=True)
    story.request(1.104, "completed-with-close", status=200, close=True)
    story.request(1.0, "reset", detail="before any response")
    story.request(1.15, "closed", kind="idle", phase="waiting")
    story.request(1.16, "cancelled", kind="websocket", path="/ws", detail="close 1001")
    for number in range(30):
        story.request(
            number / 50 + 0.102, "completed", phase="routed", began=number / 50, path="/", status=200
        )
    story.signal().exit(1.25).survivors()
    assert str(story.report()).splitlines() == [
        "-1.000  started, pid 4711, port 5000: python app.py",
        "-0.500  ready: a listener on port 5000",
        "-0.400  readiness: 200",
        "-0.400  listening",
        "-0.100  3 x GET /slow inside (accepted and read)",
        "-0.100  idle connection inside (accepted and read)",
        "-0.100  websocket /ws inside (accepted and read)",
        "+0.000  SIGTERM -> leader 4711",
        "+0.050  readiness: 503 (not ready)",
        "+0.102 … +0.682  30 x GET / 200",
        "+1.000  GET /slow: reset, before any response (the connection was reset before a response was whole)",
        "+1.100 … +1.104  2 x GET /slow 200, Connection: close",
        "+1.150  idle connection: closed",
        "+1.160  websocket /ws: cancelled, close 1001",
        "+1.200  listener closed",
        "+1.250  exit code 0",
        "+1.300  readiness: no answer",
        "+2.000  no process is left",
    ]


def test_a_failure_shows_the_timeline_and_the_end_of_the_output(story):
    report = story.signal().exit(0.5, 1).report(output="hello\n\x00bye\n")
    with pytest.raises(AssertionError) as caught:
        report.assert_exit()
    assert str(caught.value).splitlines() == [
        "the server ended with exit code 1; expected exit code 0",
        "the timeline, in seconds since the signal:",
        "  +0.000  SIGTERM -> leader 4711",
        "  +0.500  exit code 1",
        "the last that it printed:",
        "  | hello",
        "  | \\x00bye",
    ]


def test_without_any_output_the_failure_says_so(story):
    with pytest.raises(AssertionError, match="it printed nothing$"):
        story.signal().exit(0.5, 1).report().assert_exit()


def test_signals_to_many_further_ones_and_those_to_nobody(story):
    story.signal(target="group", pids=list(range(10, 20)), signal="SIGINT")
    story.server(1.0, "signalled", signal="SIGINT", target="group", pids=[], number=2)
    assert str(story.report()).splitlines() == [
        "+0.000  SIGINT -> group 10, 11, 12, 13, 14, 15, 16, 17 and 2 more",
        "+1.000  SIGINT -> group nobody: it had ended",
    ]


def test_a_backlog_is_told_when_it_lasts(story):
    def look(at, backlog):
        story.server(at, "listener", state="listening", backlog=backlog, took=at if at > 0 else None)

    story.signal()
    for at, backlog in [(-0.5, 0), (0.1, 1), (0.15, 0), (0.3, 3), (0.9, 0)]:
        look(at, backlog)
    assert str(story.report()).splitlines() == [
        "-0.500  listening",
        "+0.000  SIGTERM -> leader 4711",
        "+0.300  listening, 3 wait to be accepted",
        "+0.900  listening",
    ]


def test_a_long_timeline_says_what_it_leaves_out(story):
    story.signal()
    for number in range(100):
        story.request(
            0.1 + number / 100, "completed", path=f"/{number}", phase="routed", began=0.0, status=200
        )
    lines = str(story.report()).splitlines()
    assert len(lines) == 61
    assert "… 41 lines left out …" in lines
    assert lines[0] == "+0.000  SIGTERM -> leader 4711"
    assert lines[-1] == "+1.090  GET /99 200"


def test_a_report_is_a_view_of_its_events(story):
    story.request(0.3, "completed", status=200).request(0.2, "closed", kind="idle", phase="waiting")
    story.request(0.1, "refused", phase="routed", began=0.05)
    report = story.signal().readiness((-0.1, 200)).listener((0.2, "closed")).exit(0.5).survivors().report()
    assert [each.outcome for each in report.requests] == ["completed", "closed"]
    assert [each.outcome for each in report.routed] == ["refused"]
    assert (report.exit.code, report.exit.took) == (0, 0.5)
    assert [(change.state, round(change.took, 3)) for change in report.readiness] == [(200, -0.1)]
    assert [(change.state, change.took) for change in report.listener] == [("closed", 0.2)]
    assert report.survivors == []
    assert not report.killed
    assert repr(report) == "<ShutdownReport: exit code 0, 2 in flight, 1 routed>"


def test_a_report_of_nothing():
    report = ShutdownReport([])
    assert str(report) == "nothing happened: no event was recorded"
    assert repr(report) == "<ShutdownReport: no exit was seen, 0 in flight, 0 routed>"
    with pytest.raises(NotObserved, match="since the start; no signal was sent:"):
        report.assert_exit()


@pytest.mark.parametrize(
    ("call", "error", "text"),
    [
        (lambda r: r.assert_exit("0"), TypeError, r"^code must be an exit code, several, or None for any"),
        (
            lambda r: r.assert_exit(["0"]),
            TypeError,
            r"^code must be a whole number of at least -64, not '0'$",
        ),
        (
            lambda r: r.assert_exit(within=0),
            ValueError,
            r"^within must be a finite number of seconds above 0",
        ),
        (lambda r: r.assert_idle_connections_closed(None), TypeError, r"^within must be a finite number"),
        (lambda r: r.assert_log(""), TypeError, r"^text must be a text that is not empty"),
        (lambda r: r.assert_log(b"x"), TypeError, r"^text must be a text that is not empty"),
    ],
)
def test_bad_input_is_refused_as_such(story, call, error, text):
    with pytest.raises(error, match=text):
        call(story.signal().exit().report())
