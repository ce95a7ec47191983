"""Servers that misbehave in exactly one way, and the word that the driver has for each."""

from __future__ import annotations

import time

import pytest
from targets.bad_servers import argv_of, is_free, pids_of

from pytest_prodpatterns.faults import processes
from pytest_prodpatterns.lab import ChaosLab
from pytest_prodpatterns.targets._family import look, wait_until
from pytest_prodpatterns.targets.server._driver import ServerDriver
from pytest_prodpatterns.targets.server._protocol import Request, ServerCommand

SLOW = Request(path="/slow?seconds=0.25")
LONG = Request(path="/slow?seconds=9")
STREAM = Request(kind="stream", path="/stream?seconds=0.25")
SSE = Request(kind="sse", path="/sse")
WEBSOCKET = Request(kind="websocket", path="/ws")
IDLE = Request(kind="idle")
SILENT = Request(kind="silent")
HALF_HEADERS = Request(kind="half-headers")
HALF_BODY = Request(kind="half-body", path="/json", method="POST", body=b"{}" * 20)


class Story:
    """A server, driven, and what its history says."""

    def __init__(self, driver, lab):
        self.driver = driver
        self.lab = lab

    def __getattr__(self, name):
        return getattr(self.driver, name)

    def asks(self, *requests, phase="in-flight"):
        """Put requests in flight, and return when all are inside."""
        for request in requests:
            self.driver.send(request, phase)
        wanted = len(self.calls(phase))
        inside = self.driver.await_inside(phase, deadline=10)
        assert inside == wanted, f"{inside} of {wanted} inside"

    def hears(self, name="SIGTERM"):
        """Signal, and return when the server acts upon it."""
        self.driver.signal(name)
        assert wait_until(lambda: "LEAVING" in self.output(), 10)

    def calls(self, phase):
        return self.lab.timeline.where("client", "called", phase=phase)

    def returned(self, phase="in-flight"):
        return [event.attributes for event in self.lab.timeline.where("client", "returned", phase=phase)]

    def outcomes(self, phase="in-flight"):
        """The words for all requests of a phase, each once."""
        assert len(self.returned(phase)) == len(self.calls(phase))
        return sorted({each["outcome"] for each in self.returned(phase)})

    def told(self, kind):
        return [event.attributes for event in self.lab.timeline.where("server", kind)]

    def states(self):
        """What became of the listener, without the looks at its backlog."""
        states = [each["state"] for each in self.told("listener")]
        return [state for state, before in zip(states, [None, *states], strict=False) if state != before]

    def output(self):
        return self.driver.output.read_text(errors="replace")


@pytest.fixture
def lab():
    with ChaosLab(1, "verdicts") as lab:
        yield lab


@pytest.fixture
def serve(lab):
    """Return a function that starts a mode; in the end nothing of it lives, and nobody listens."""
    stories = []

    def start(mode, *, argv=None, start=True, **fields):
        fields = {"ready": "log:READY", "name": mode, "argv": argv or argv_of(mode), **fields}
        driver = ServerDriver(ServerCommand(**fields))
        stories.append(story := Story(driver, lab))
        if start:
            driver.start()
        return story

    yield start
    for story in stories:
        pids = [pid for event in story.told("survivors") for pid in event["pids"]]
        story.close()
        story.close()
        assert pids_of(story.address) == []
        assert not [pid for pid in pids if (member := look(pid)) and not member.dead]
        assert isinstance(story.address, str) or is_free(story.address)


# -- what is in flight -------------------------------------------------------------------------------------------


IN_FLIGHT = [
    ("good", SLOW, "completed-with-close", 0),
    ("good", STREAM, "completed", 0),
    ("good", SSE, "cancelled", 0),
    ("good", WEBSOCKET, "cancelled", 0),
    ("good", IDLE, "closed", 0),
    ("good", SILENT, "closed", 0),
    ("good", HALF_HEADERS, "closed", 0),
    ("good", HALF_BODY, "closed", 0),
    ("workers", SLOW, "completed-with-close", 0),
    ("impatient", SLOW, "5xx", 1),
    ("impatient", STREAM, "truncated", 1),
    ("eof", SLOW, "eof", 1),
    ("exits-zero-though-cut", SLOW, "eof", 0),
    ("reset", SLOW, "reset", 1),
    ("reset", STREAM, "reset", 1),
    ("truncates", SLOW, "truncated", 1),
    ("answers-500", SLOW, "5xx", 1),
    ("streams-end-hard", SSE, "truncated", 0),
    ("streams-end-hard", WEBSOCKET, "truncated", 0),
    ("streams-go-on", SSE, "truncated", 1),
    ("dies-of-term", SSE, "truncated", -15),
    ("dies-of-term", IDLE, "closed", -15),
    ("no-close-header", SLOW, "completed", 0),
    ("dies-of-term", SLOW, "eof", -15),
    ("kills-worker", SLOW, "eof", 0),
    ("exits-three", SLOW, "completed-with-close", 3),
]


@pytest.mark.parametrize(
    ("mode", "request_", "outcome", "code"), IN_FLIGHT, ids=[f"{m}-{r.kind}" for m, r, *_ in IN_FLIGHT]
)
def test_each_end_of_a_request_has_its_word(serve, mode, request_, outcome, code):
    story = serve(mode)
    story.asks(request_ * 3)
    story.signal("SIGTERM")
    assert story.await_exit(10) == code
    story.finish()
    assert story.outcomes() == [outcome]
    [signalled] = story.told("signalled")
    assert signalled["pids"] == [story.pid]
    [exited] = story.told("exited")
    assert (exited["code"], exited["pid"]) == (code, story.pid)
    assert exited["how"] == ("SIGTERM" if code == -15 else f"exit code {code}")
    assert story.told("killed") == []


def test_a_websocket_is_told_with_the_code_of_who_goes_away(serve):
    story = serve("good")
    story.asks(WEBSOCKET)
    story.signal("SIGTERM")
    story.finish(kill_after=5)
    [returned] = story.returned()
    assert "1001" in returned["detail"]


def test_who_keeps_alive_and_is_not_told_finds_the_end_on_a_used_connection(serve):
    story = serve("drops-kept")
    story.asks(Request(again=True) * 2, phase="again")
    story.signal("SIGTERM")
    story.finish(kill_after=5)
    assert story.outcomes("again") == ["eof"]
    assert all("its connection" in returned["detail"] for returned in story.returned("again"))


def test_who_keeps_alive_and_is_told_ends_well(serve):
    story = serve("lame-duck", env={"LAME_DUCK": "0.3"})
    story.asks(Request(again=True) * 2, phase="again")
    story.signal("SIGTERM")
    story.finish(kill_after=5)
    assert story.outcomes("again") == ["completed-with-close"]


def test_what_is_still_in_flight_when_patience_ends_was_never_answered(serve):
    """The words are of what the server did, not of what our killing it did to the connections."""
    story = serve("ignores-term")
    story.asks(LONG, IDLE)
    story.signal("SIGTERM")
    story.finish(kill_after=0.3)
    assert {each["outcome"] for each in story.returned()} == {"never-answered", "open"}
    assert story.told("killed")
    assert story.exit["how"] in {"SIGABRT", "SIGKILL"}


def test_idle_connections_that_hold_the_exit_have_their_time(serve):
    story = serve("holds-idle")
    story.asks(IDLE)
    story.signal("SIGTERM")
    story.finish(kill_after=10)
    assert story.exit["took"] >= 0.8
    [returned] = story.returned()
    assert returned["outcome"] == "closed"


# -- new connections -----------------------------------------------------------------------------------------------


def test_a_listener_that_is_closed_at_once_refuses(serve):
    story = serve("closes-at-once")
    story.watch()
    story.signal("SIGTERM")
    assert story.await_listener_closed(5)
    story.route(0.3, "routed", every=0.02)
    story.finish(kill_after=10)
    assert story.outcomes("routed") == ["refused"]
    assert story.states() == ["listening", "closed"]
    closed = next(each["took"] for each in story.told("listener") if each["state"] == "closed")
    assert story.exit["took"] - closed > 0.4


def test_an_answer_that_never_comes_is_no_completion(serve):
    story = serve("accepts-and-never-answers", env={"LAME_DUCK": "3"})
    story.hears()
    story.asks(Request() * 3, phase="routed")
    story.clients.finish(0.3)
    assert story.alive
    assert story.outcomes("routed") == ["never-answered"]


def test_who_waits_to_be_accepted_is_told_as_backlog(serve):
    story = serve("stops-accepting", env={"LAME_DUCK": "1.0"})
    story.watch()
    story.hears()
    story.driver.send(Request() * 3, "routed")
    assert wait_until(lambda: any(each["backlog"] for each in story.told("listener")), 5)
    assert story.await_inside("routed", deadline=0.2) == 0
    story.finish(kill_after=10)
    assert story.outcomes("routed") == ["reset"]
    assert story.states() == ["listening", "closed"]


def test_a_port_that_another_socket_has_is_rebound(serve):
    story = serve("rebinds")
    story.watch()
    story.signal("SIGTERM")
    story.finish(kill_after=10)
    assert "rebound" in story.states()


def test_a_listener_that_an_orphan_holds_is_still_there(serve):
    story = serve("orphan-listens")
    story.watch()
    story.signal("SIGTERM")
    assert story.await_exit(10) == 0
    assert not story.await_listener_closed(0.3)
    assert story.states() == ["listening"]
    assert len(story.note_survivors(0.2)) == 1


# -- readiness -----------------------------------------------------------------------------------------------------


def order_of(story):
    """The moments of the first 503 and of the end of the listener, None where they did not come."""
    flips = [each["took"] for each in story.told("readiness") if each["status"] == 503]
    ends = [each["took"] for each in story.told("listener") if each["state"] == "closed"]
    return (flips or [None])[0], (ends or [None])[0]


def watched_to_the_end(story):
    story.watch(readiness="/ready")
    assert wait_until(lambda: any(each["ready"] for each in story.told("readiness")), 5)
    story.signal("SIGTERM")
    story.route(0.4, "routed", every=0.02)
    story.finish(kill_after=10)
    assert story.states() == ["listening", "closed"]
    return order_of(story)


def test_a_lame_duck_says_no_long_before_its_listener_goes(serve):
    story = serve("lame-duck")
    flipped, closed = watched_to_the_end(story)
    assert flipped < closed
    assert closed >= 1.0
    assert set(story.outcomes("routed")) <= {"completed", "completed-with-close"}


def test_who_says_no_behind_the_end_of_its_listener_says_it_to_nobody(serve):
    story = serve("flips-late")
    flipped, closed = watched_to_the_end(story)
    assert flipped is None
    assert closed < 0.6
    assert [each["status"] for each in story.told("readiness")] == [200, 0]


def test_who_never_says_no_is_never_heard_to(serve):
    flipped, closed = watched_to_the_end(serve("never-flips"))
    assert flipped is None
    assert closed >= 0.6


# -- the exit ------------------------------------------------------------------------------------------------------


def test_the_instant_of_the_end_is_that_of_the_end(serve):
    story = serve("lingers")
    story.signal("SIGTERM")
    story.finish(kill_after=10)
    assert story.exit["took"] >= 1.0


def test_a_drain_that_takes_twice_its_time_is_seen(serve):
    story = serve("drains-twice")
    story.asks(LONG)
    story.signal("SIGTERM")
    story.finish(kill_after=10)
    assert (story.exit["code"], story.outcomes()) == (1, ["5xx"])
    assert story.exit["took"] >= 1.2


def test_who_wakes_up_at_the_next_connection_alone_does_not_end(serve):
    story = serve("next-connection")
    story.watch()
    story.signal("SIGTERM")
    assert story.await_exit(0.4) is None
    assert story.states() == ["listening"]
    story.driver.send(Request(), "next")
    assert story.await_exit(10) == 0
    story.finish()
    assert story.outcomes("next")[0].startswith("completed")  # it may answer before it has heard itself


def test_who_ends_by_itself_ended_before_the_signal(serve):
    story = serve("dies-idle")
    assert story.await_exit(10) == 4
    [exited] = story.told("exited")
    assert exited["took"] is None
    assert not story.alive
    assert story.signal("SIGTERM") == []


def test_a_second_signal_forces_with_the_cleanup(serve):
    story = serve("good")
    story.asks(LONG)
    story.signal("SIGTERM")
    assert story.await_exit(0.1) is None
    story.signal("SIGTERM")
    assert story.await_exit(5) == 1
    assert [each["number"] for each in story.told("signalled")] == [1, 2]
    assert story.output().count("CLEANUP") == 1


def test_a_second_signal_that_kills_is_told_as_that(serve):
    story = serve("second-kills")
    story.asks(LONG)
    story.signal("SIGTERM")
    assert story.await_exit(0.2) is None
    story.signal("SIGTERM")
    assert story.await_exit(5) == -15
    assert story.exit["how"] == "SIGTERM"
    assert "CLEANUP" not in story.output()


def test_a_second_signal_that_does_nothing_is_seen_by_the_time(serve):
    story = serve("second-ignored", env={"DRAIN": "0.8"})
    story.asks(LONG)
    story.signal("SIGTERM")
    assert story.await_exit(0.2) is None
    story.signal("SIGTERM")
    assert story.await_exit(5) == 1
    assert story.exit["took"] >= 0.8


# -- who does not end ----------------------------------------------------------------------------------------------


def test_who_ignores_the_signal_says_where_it_is_and_is_killed(serve):
    story = serve("ignores-term")
    story.signal("SIGTERM")
    story.finish(kill_after=0.2)
    [stuck] = story.told("stuck")
    assert "in wait" in stuck["stacks"]
    assert story.told("killed")
    assert not story.alive


def test_who_is_stuck_in_a_lock_is_seen_there(serve):
    story = serve("deadlocks")
    story.signal("SIGTERM")
    story.finish(kill_after=0.2)
    [stuck] = story.told("stuck")
    assert "in waits_for_ever" in stuck["stacks"]


@pytest.mark.parametrize("mode", ["needs-kill", "stops"])
def test_who_cannot_be_asked_is_killed_all_the_same(serve, mode):
    story = serve(mode)
    story.asks(LONG)
    story.signal("SIGTERM")
    story.finish(kill_after=0.2)
    [stuck] = story.told("stuck")
    assert "no stacks" in stuck["stacks"]
    [killed] = story.told("killed")
    assert story.pid in killed["pids"]
    assert story.exit["how"] == "SIGKILL"


# -- what it prints ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", ["floods", "floods-binary"])
def test_a_megabyte_to_standard_error_holds_nobody(serve, mode):
    story = serve(mode)
    story.asks(SLOW)
    story.signal("SIGTERM")
    story.finish(kill_after=10)
    assert story.exit["code"] == 0
    assert story.outcomes() == ["completed-with-close"]
    assert story.driver.output.stat().st_size > 1_000_000
    assert story.output_tail().endswith("CLEANUP\n")
    assert len(story.output_tail()) <= 4000


def test_a_traceback_stands_in_the_output(serve):
    story = serve("prints-traceback")
    story.signal("SIGTERM")
    story.finish(kill_after=10)
    assert "KeyError: 'farewell'" in story.output_tail()


def test_what_a_body_says_is_kept(serve):
    texts = {}
    for mode in ("good", "leaks-exception", "echoes-bad-line"):
        story = serve(mode)
        story.driver.send(Request(path="/error"), f"{mode} error")
        bad = Request(kind="raw", data=b"GET /\xff<script> HTTP/9\r\n\r\n")
        story.driver.send(bad, f"{mode} line")
        assert story.await_answers([f"{mode} error", f"{mode} line"], 5)
        for about in ("error", "line"):
            [returned] = story.returned(f"{mode} {about}")
            texts[mode, about] = (returned["status"], returned["text"])
    assert {about: status for (_, about), (status, _) in texts.items()} == {"error": 500, "line": 400}
    assert [mode for mode, about in texts if "hunter2" in texts[mode, about][1]] == ["leaks-exception"]
    assert [mode for mode, about in texts if "script" in texts[mode, about][1]] == ["echoes-bad-line"]


# -- whom it leaves behind -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "mode", ["orphan", "orphan-daemon", "orphan-unmarked", "orphan-late", "orphan-listens", "orphan-worker"]
)
def test_whoever_outlives_the_server_is_named(serve, mode):
    story = serve(mode)
    story.signal("SIGTERM")
    assert story.await_exit(10) == 0
    [pid] = story.note_survivors(0.2)
    [survivors] = story.told("survivors")
    assert survivors["pids"] == [pid] != [story.pid]
    [command] = survivors["commands"]
    assert ("sleep 20" if mode == "orphan-unmarked" else mode) in command
    assert look(pid)


@pytest.mark.parametrize("mode", ["good", "workers", "kills-worker", "zombies"])
def test_who_leaves_nobody_behind_is_not_accused(serve, mode):
    story = serve(mode)
    story.signal("SIGTERM")
    assert story.await_exit(10) == 0
    assert story.note_survivors(1.0) == []


def test_a_worker_that_serves_on_is_told_by_its_answers(serve):
    story = serve("orphan-worker")
    story.watch()
    story.asks(SLOW)
    story.signal("SIGTERM")
    assert story.await_exit(10) == 0
    story.finish(grace=1)
    assert story.outcomes() == ["completed"]
    assert story.states() == ["listening"]


def test_zombies_are_named_while_their_parent_lives(serve):
    story = serve("zombies")
    assert len(story.note_zombies(0.2)) == 2
    [zombies] = story.told("zombies")
    assert all(look(pid).dead and look(pid).parent == story.pid for pid in zombies["pids"])


def test_a_worker_that_is_replaced_leaves_no_zombie(serve):
    story = serve("workers")
    [worker] = story.note_workers()
    processes.kill(worker)
    assert wait_until(lambda: story.note_workers() not in ([worker], []), 5)
    assert story.note_zombies(2) == []
    assert story.alive


# -- signals -------------------------------------------------------------------------------------------------------


def test_a_group_is_the_leader_and_its_workers(serve):
    story = serve("workers")
    everybody = sorted([story.pid, *story.note_workers()])
    assert sorted(story.signal("SIGINT", "group")) == everybody
    assert story.await_exit(10) == 0


def test_a_tree_holds_those_who_left_the_session(serve):
    story = serve("orphan-daemon")
    [orphan] = story.note_workers()
    assert story.signal("SIGTERM", "tree") == [story.pid, orphan]
    assert story.await_exit(10) == 0
    assert story.note_survivors(1.0) == []


def test_over_a_unix_socket_it_is_the_same(serve):
    story = serve("good", argv=argv_of("good", "{uds}"))
    story.watch()
    story.asks(SLOW * 2)
    story.signal("SIGTERM")
    story.finish(kill_after=5)
    assert (story.exit["code"], story.outcomes()) == (0, ["completed-with-close"])
    assert story.states() == ["listening", "closed"]


def test_closing_it_in_the_middle_leaves_nothing(serve):
    story = serve("workers")
    story.asks(LONG, SSE, IDLE)
    began = time.monotonic()
    story.close()
    assert time.monotonic() - began < 5
