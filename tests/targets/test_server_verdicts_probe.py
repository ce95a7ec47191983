"""Servers that misbehave in exactly one way, and which promises `ShutdownProbe` says are broken: those, and no others."""

from __future__ import annotations

import re

import pytest
from targets.bad_servers import argv_of, pids_of

from pytest_prodpatterns.lab import ChaosLab
from pytest_prodpatterns.targets.server import shutdown
from pytest_prodpatterns.targets.server.shutdown import NotObserved, ShutdownProbe

SLOW = shutdown.get("/slow?seconds=0.3")
LONG = shutdown.get("/slow?seconds=9")
STREAM = shutdown.stream("/stream?seconds=0.3")
SSE = shutdown.sse("/sse")
WEBSOCKET = shutdown.websocket("/ws")
IDLE = shutdown.idle_keepalive(2)

PROMISES = {
    "in flight": lambda report: report.assert_in_flight_completed(),
    "new": lambda report: report.assert_no_dropped_requests(),
    "idle": lambda report: report.assert_idle_connections_closed(within=1.5, half_sent=True),
    "readiness": lambda report: report.assert_readiness_flipped_before_listener_closed(),
    "exit": lambda report: report.assert_exit(),
    "survivors": lambda report: report.assert_no_survivors(),
    "traceback": lambda report: report.assert_no_traceback(),
    "cleanup": lambda report: report.assert_log("CLEANUP"),
}


@pytest.fixture
def probed():
    """Return a function that has a mode probed, and hands out the report; in the end nothing of it lives."""
    with ChaosLab(1, "verdicts") as lab:

        def probe(mode, **options):
            return ShutdownProbe().run_sync(argv_of(mode), **{**USUAL, **options})

        yield probe
        for event in lab.timeline.where("server", "started"):
            assert pids_of(event.attributes["port"]) == []


def broken(report, *unasked):
    """The promises that a report says are broken or were not seen, each with the first line of what it says."""
    found = {}
    for name, held in PROMISES.items():
        try:
            held(report)
        except AssertionError as error:
            lines = str(error).split("\n")
            assert lines[1].startswith("the timeline, in seconds since the signal:"), lines
            assert all(line.replace("\t", "").isprintable() for line in lines)
            found[name] = lines[0]
    return {name: text for name, text in found.items() if name not in unasked}


EVERYTHING = [SLOW * 2, SSE, WEBSOCKET, IDLE, shutdown.never_sent(), shutdown.half_headers()]
USUAL = {
    "ready": shutdown.log("READY"),
    "in_flight": EVERYTHING,
    "readiness": "/ready",
    "route_for": 0.3,
    "env": {"LAME_DUCK": "0.5"},
    "within": 8.0,
}
TOO_LONG = {"in_flight": [LONG * 2, IDLE]}
QUIET = {"readiness": None, "route_for": 0.0}
GOOD: dict[str, str] = {}
CUT = {"exit": r"exit code 1; expected exit code 0"}
UNTIL_THE_END = r"went on saying 200|said 200 until nobody answered any more"
VERDICTS = [
    ("good", {}, GOOD),
    ("good", {"signal": "SIGINT", "target": "group"}, GOOD),
    ("workers", {"target": "group", **QUIET}, GOOD),
    ("lame-duck", {"env": {"LAME_DUCK": "0.8"}}, GOOD),
    ("floods", {}, GOOD),
    ("floods-binary", {}, GOOD),
    ("impatient", TOO_LONG, CUT | {"in flight": r"2 answered 503"}),
    ("eof", TOO_LONG, CUT | {"in flight": r"2 of 2 requests .*: 2 eof;"}),
    ("reset", TOO_LONG, CUT | {"in flight": r": 2 reset;"}),
    ("truncates", TOO_LONG, CUT | {"in flight": r": 2 truncated;"}),
    ("answers-500", TOO_LONG, CUT | {"in flight": r": 2 answered 500;"}),
    ("exits-zero-though-cut", TOO_LONG, {"in flight": r": 2 eof;"}),
    ("kills-worker", {**QUIET, **TOO_LONG}, {"in flight": r": 2 eof"}),
    ("dies-of-term", {**QUIET, **TOO_LONG}, {"in flight": r": 2 eof", "exit": r"SIGTERM", "cleanup": r""}),
    ("streams-end-hard", {}, {"in flight": r"2 of 4 requests .*: 2 truncated;"}),
    (
        "holds-idle",
        {"env": {"LAME_DUCK": "0.5", "DRAIN": "1.3"}},
        {"idle": r"3 of 4 idle .* within 1\.5 s", "exit": r"exit code 1"},
    ),
    ("flips-late", {}, {"readiness": r"listener closed at|until nobody answered"}),
    ("never-flips", {}, {"readiness": UNTIL_THE_END}),
    ("closes-at-once", {"env": {}}, {"readiness": UNTIL_THE_END}),
    ("accepts-and-never-answers", {}, {"new": r"\d+ eof", "readiness": r"until nobody answered"}),
    ("stops-accepting", {}, {"new": r"\d+ reset", "readiness": r"until nobody answered"}),
    ("drops-kept", {"in_flight": [shutdown.get(again=True) * 2, IDLE]}, {"in flight": r": 2 eof;"}),
    ("exits-three", {}, {"exit": r"exit code 3; expected exit code 0"}),
    ("lingers", {"within": 1.0, "kill_after": 9}, {"exit": r"ended 1\.\d+ s behind .* at most 1 s"}),
    ("prints-traceback", {}, {"traceback": r"printed 'Traceback \(most recent call last\):'"}),
    ("orphan", {}, {"survivors": r"1 process of the server lived on 1 s behind its exit: \d+ \(.* orphan "}),
    ("orphan-daemon", {}, {"survivors": r"1 process .* orphan-daemon "}),
    ("orphan-unmarked", {}, {"survivors": r"1 process .*\(sleep 20"}),
    ("orphan-late", {}, {"survivors": r"1 process .* orphan-late "}),
    (
        "orphan-worker",
        {**QUIET, "in_flight": [LONG]},
        {"in flight": r": 1 never-answered;", "survivors": r"1 process .* orphan-worker "},
    ),
]
"""Mode, options, and the promises that are broken, each with what is said of it."""


@pytest.mark.parametrize(("mode", "options", "expected"), VERDICTS, ids=[case[0] for case in VERDICTS])
def test_the_promises_that_are_broken_and_no_others(probed, mode, options, expected):
    report = probed(mode, **options)
    given = {**USUAL, **options}
    unasked = {"readiness": given["readiness"], "new": given["route_for"], "idle": IDLE in given["in_flight"]}
    found = broken(report, *(name for name, asked in unasked.items() if not asked))
    assert set(found) == set(expected), (found, report.timeline())
    for promise, text in expected.items():
        assert re.search(text, found[promise]), found[promise]


@pytest.mark.parametrize(
    ("mode", "where"),
    [
        ("ignores-term", "in wait"),
        ("needs-kill", "no stacks"),
        ("stops", "no stacks"),
        ("deadlocks", "in waits_for_ever"),
        ("next-connection", "in accept"),
    ],
)
def test_who_does_not_end_is_killed_and_its_stacks_are_told(probed, mode, where):
    report = probed(mode, **QUIET, in_flight=[LONG, SSE, IDLE], within=0.4, kill_after=0.4)
    assert report.killed
    assert report.survivors is None
    assert {each.outcome for each in report.requests} == {"never-answered", "open"}
    found = broken(report, "readiness", "new")
    assert set(found) == {"in flight", "idle", "exit", "survivors", "cleanup"}
    assert found["exit"].startswith("the server did not end, and was killed; expected its end within 0.4 s")
    with pytest.raises(AssertionError, match="where it was stuck:") as caught:
        report.assert_exit()
    assert where in str(caught.value)
    with pytest.raises(NotObserved):
        report.assert_no_survivors()


def test_new_connections_that_nobody_answers_until_patience_ends(probed):
    options = {
        "env": {"LAME_DUCK": "9"},
        "in_flight": SLOW,
        "readiness": None,
        "within": 0.8,
        "kill_after": 0.8,
    }
    for mode in ("accepts-and-never-answers", "stops-accepting"):
        report = probed(mode, **options)
        assert re.search(r"\d+ never-answered", broken(report)["new"]), report.timeline()
    assert "wait to be accepted" in report.timeline()


def test_a_server_that_ends_before_the_signal_is_no_shutdown(probed):
    with pytest.raises(NotObserved, match="^the server ended before a signal was sent") as caught:
        probed("dies-idle", **QUIET, in_flight=LONG, armed=lambda server: not server.alive and False)
    assert "exit code 4" in str(caught.value)


@pytest.mark.parametrize(
    ("mode", "code", "cleanup", "least"),
    [("good", 1, 1, 0.2), ("second-kills", -15, 0, 0.2), ("second-ignored", 1, 1, 0.8)],
)
def test_what_a_second_signal_does(probed, mode, code, cleanup, least):
    env = {"DRAIN": "0.8"}
    report = probed(mode, **QUIET, env=env, in_flight=LONG, then=[(0.2, "SIGTERM")])
    assert report.exit.code == code
    assert report.exit.took >= least
    assert report.output.count("CLEANUP") == cleanup


def test_a_port_that_another_socket_has_is_told(probed):
    report = probed("rebinds", in_flight=SLOW)
    assert "somebody else listens" in report.timeline()
    assert "rebound" in [change.state for change in report.listener if change.took > 0]


@pytest.mark.parametrize("preset", [shutdown.KUBERNETES, shutdown.SYSTEMD, shutdown.DOCKER])
def test_a_good_server_is_graceful_whoever_stops_it(probed, preset):
    options = {**USUAL, "env": {"LAME_DUCK": "1.2"}, "route_for": None, "preset": preset}
    shutdown.assert_graceful_shutdown(argv_of("good"), **options)


def test_a_good_server_is_forced_by_a_second_ctrl_c(probed):
    report = probed("good", **QUIET, preset=shutdown.CTRL_C, in_flight=LONG, env={"DRAIN": "5"})
    assert 1.0 <= report.exit.took < 4
    report.assert_exit(1)
    report.assert_log("CLEANUP")
