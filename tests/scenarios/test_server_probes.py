"""What the promises of a server make of a history, told event by event; and what actions do where they cannot act."""

from __future__ import annotations

import os
import re
import time

import pytest
from scenarios.small_server import DRAIN, HEADER_TIMEOUT, LAME_DUCK, LIMIT, small

from pytest_prodpatterns.lab import ChaosLab
from pytest_prodpatterns.lab._timeline import Event
from pytest_prodpatterns.scenarios import NotInjected, Run
from pytest_prodpatterns.scenarios._run import set_current
from pytest_prodpatterns.scenarios._subjects import SUBJECTS
from pytest_prodpatterns.scenarios.actions import _server_bench
from pytest_prodpatterns.scenarios.actions import server as actions
from pytest_prodpatterns.scenarios.probes import server as probes
from pytest_prodpatterns.targets._host import start_time
from pytest_prodpatterns.targets.server._protocol import OUTCOMES, REQUIREMENTS, ServerCommand
from pytest_prodpatterns.targets.server._target import from_command


class History:
    """A history that is written by hand; `now` is the machine's time."""

    def __init__(self, lab):
        self.lab = lab
        self.now = 100.0
        self.number = 0

    def tell(self, source, kind, process=None, **attributes):
        process = process or os.getpid()
        self.lab.timeline.adopt(Event(0, 0.0, self.now, process, "", source, kind, attributes))
        return self

    def server(self, kind, **attributes):
        return self.tell("server:small", kind, **attributes)

    def wait(self, seconds):
        self.now += seconds
        return self

    def started(self):
        self.number = 0
        return self.server("started", pid=1, command="small", port=1)

    def signalled(self, signal="SIGTERM", number=1):
        return self.server("signalled", signal=signal, target="leader", pids=[1], number=number)

    def exited(self, took, code=0):
        how = f"exit code {code}" if code >= 0 else "SIGKILL"
        return self.server("exited", pid=1, code=code, how=how, took=took)

    def begun(self, phase="p", enters=True, kind="request"):
        self.number += 1
        self.tell(f"client:{kind}", "called", call=self.number, phase=phase, path="/")
        if enters:
            self.tell(f"client:{kind}", "entered", call=self.number, phase=phase, how="accepted and read")
        return self

    def ended(self, outcome="completed", call=None, phase="p", took=0.1, **details):
        if outcome in {"completed", "completed-with-close", "5xx"}:
            details = {"status": 500 if outcome == "5xx" else 200, **details}
        number = call or self.number
        return self.tell(
            "client:request", "returned", call=number, phase=phase, outcome=outcome, took=took, **details
        )

    def whole(self, outcome="completed", phase="p", **details):
        return self.begun(phase).ended(outcome, phase=phase, **details)

    def in_flight(self, *outcomes, phase="p", **details):
        """Requests that are inside at the signal, and how they end behind it."""
        first = self.number + 1
        for _ in outcomes:
            self.begun(phase)
        self.signalled()
        for number, outcome in enumerate(outcomes, first):
            if outcome is not None:
                self.ended(outcome, number, phase, **details)
        return self


@pytest.fixture
def begin():
    """Begin a run against a target; it ends with the test."""
    lab = ChaosLab(7, "attack")
    runs = []
    with lab:

        def make(target):
            run = Run(name="attack", subject="server", target=target, lab=lab)
            runs.append(run)
            set_current(run)
            return run

        try:
            yield make
        finally:
            for run in runs:
                run.stack.close()
            set_current(None)


@pytest.fixture
def history(begin):
    return History(begin(small()).lab)


ALL = {
    "ends_in_time": {"within": 2.0},
    "drains_as_long_as_it_may": {},
    "ends_cleanly": {},
    "exit_codes_tell": {},
    "every_start_ends_in_time": {"within": 2.0},
    "nobody_is_left": {},
    "port_is_free": {},
    "listener_closes": {"within": 1.0},
    "in_flight_complete": {"phase": "p"},
    "endless_ones_are_told": {"phase": "p"},
    "responses_say_close": {"phase": "p"},
    "reused_connections_lose_nothing": {"phase": "p"},
    "idle_ones_are_closed": {"phase": ["p", "q"]},
    "are_let_go": {"phase": "p", "within": 3.0},
    "answered_or_refused": {"phase": "p"},
    "routed_requests_are_served": {"phase": "p"},
    "readiness_turns_first": {"within": 0.5},
    "serves": {"phase": "p"},
    "keeps_running": {},
    "clients_errors_are_told": {"phase": "p", "statuses": ["4xx"]},
    "says_nothing_of": {"phase": "p", "words": ["secret"]},
    "memory_stays": {"at_most": 64},
    "log_stays_small": {"at_most": 10},
    "connections_are_given_back": {},
    "slow_ones_are_cut_off": {"phase": "p", "slack": 1.5},
    "sheds": {"phase": "p"},
    "ended_workers_are_waited_for": {},
    "workers_are_replaced": {},
}
"""Every promise, with arguments."""


def ask(name, **more):
    return getattr(probes, name)(**{**ALL[name], **more})


def test_every_promise_is_asked_here():
    assert set(probes.__all__) == set(ALL)


@pytest.mark.parametrize("name", ALL)
def test_a_promise_without_observations_is_vacuous(name, history):
    assert ask(name)["status"] == "vacuous"
    history.started()
    assert ask(name)["status"] == ("held" if name == "keeps_running" else "vacuous")


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("listener_closes", "listener"),
        ("readiness_turns_first", "readiness"),
        ("nobody_is_left", "survivors"),
        ("ended_workers_are_waited_for", "zombies"),
        ("workers_are_replaced", "workers"),
        ("memory_stays", "memory"),
        ("connections_are_given_back", "connections"),
    ],
)
def test_what_cannot_be_observed_is_never_kept(name, kind, history):
    history.started().signalled()
    history.server("not-observed", what=kind, why="the kernel is coy").exited(0.1)
    answer = ask(name)
    assert (answer["status"], answer["evidence"]) == ("vacuous", "not observed: the kernel is coy")


def two_signals(history):
    return history.started().signalled().wait(1.0).signalled(number=2)


def killed(history, stacks=""):
    history.started().signalled().wait(4.0).server("stuck", stacks=stacks)
    return history.server("killed", pids=[1], why="patience").exited(4.1, -9)


STACKS = """Fatal Python error: Aborted

Thread 0x2 (most recent call first):
  File "/srv/other.py", line 1 in other

Current thread 0x1 (most recent call first):
  File "/usr/lib/python3.11/threading.py", line 320 in wait
  File "/srv/app.py", line 7 in forever
  File "/srv/app.py", line 9 in <module>
"""

END = [
    (lambda h: h.started().signalled().exited(0.1), "ends_in_time", {}, "held", rf"it ended 0\.10 s after SIGTERM \(exit code 0\); at most {2 + LAME_DUCK:g} s expected"),
    (lambda h: h.started().signalled().exited(2.1 + LAME_DUCK), "ends_in_time", {}, "deviated", r"it ended 3\.30 s after SIGTERM .*"),
    (lambda h: h.started().signalled().exited(2.1 + LAME_DUCK + DRAIN), "ends_in_time", {"drain": True}, "deviated", r".*; at most 5\.2 s expected"),
    (lambda h: h.started().signalled().exited(1.9 + LAME_DUCK + DRAIN), "ends_in_time", {"drain": True}, "held", r".*"),
    (lambda h: two_signals(h).exited(2.4), "ends_in_time", {"signal": 2}, "held", r"it ended 1\.40 s after SIGTERM number 2 .*; at most 1\.5 s expected"),
    (lambda h: two_signals(h).exited(2.6), "ends_in_time", {"signal": 2}, "deviated", r"it ended 1\.60 s after SIGTERM number 2 .*"),
    (lambda h: h.started().signalled().exited(0.1), "ends_in_time", {"signal": 2}, "vacuous", r"no signal number 2 was sent"),
    (killed, "ends_in_time", {}, "deviated", r"it had not ended 4\.0 s after SIGTERM; at most 3\.2 s expected"),
    (lambda h: killed(h, STACKS), "ends_in_time", {}, "deviated", r".* expected; it stood in forever \(app\.py:7\)"),
    (lambda h: h.started().signalled().exited(LAME_DUCK + DRAIN), "drains_as_long_as_it_may", {}, "held", r"requests had 3\.20 s to end; 3 s at least expected"),
    (lambda h: h.started().signalled().exited(DRAIN), "drains_as_long_as_it_may", {}, "deviated", r"requests had 2\.00 s .*"),
    (killed, "drains_as_long_as_it_may", {}, "vacuous", r".*"),
    (lambda h: h.started().signalled().exited(0.1, 0), "ends_cleanly", {}, "held", r"exit code 0; 0, 143 or SIGTERM expected"),
    (lambda h: h.started().signalled().exited(0.1, 143), "ends_cleanly", {}, "held", r".*"),
    (lambda h: h.started().signalled().exited(0.1, -15), "ends_cleanly", {}, "held", r".*"),
    (lambda h: h.started().signalled("SIGINT").exited(0.1, 130), "ends_cleanly", {}, "held", r"exit code 130; 0, 130 or SIGINT expected"),
    (lambda h: h.started().signalled("SIGINT").exited(0.1, 143), "ends_cleanly", {}, "deviated", r"exit code 143; .*"),
    (lambda h: h.started().signalled().exited(0.1, 1), "ends_cleanly", {}, "deviated", r"exit code 1; .*"),
    (lambda h: h.started().signalled().exited(0.1, -9), "ends_cleanly", {}, "deviated", r"SIGKILL; .*"),
    (lambda h: killed(h, STACKS), "ends_cleanly", {}, "deviated", r"it did not end by itself; it stood in forever \(app\.py:7\)"),
    (lambda h: h.started().server("survivors", pids=[], commands=[], within=1.0), "nobody_is_left", {}, "held", r"no process lived 1 s after the end"),
    (lambda h: h.started().server("survivors", pids=[7, 8], commands=["worker a", "worker b"], within=3.0), "nobody_is_left", {}, "deviated", r"2 processes lived 3 s after the end; nobody expected: worker a"),
    (lambda h: h.started().server("survivors", pids=[7], commands=["w"], within=1.0).started().server("survivors", pids=[], commands=[], within=1.0), "nobody_is_left", {}, "deviated", r"1 process lived .*"),
    (killed, "nobody_is_left", {}, "deviated", r"it had to be killed with everything that it had started"),
    (lambda h: h.started().server("port", free=True, holders=[]), "port_is_free", {}, "held", r"the address could be had again at once"),
    (lambda h: h.started().server("port", free=False, holders=[7]), "port_is_free", {}, "deviated", r"the address could not be had again after the end, 1 process had it"),
    (lambda h: h.started().server("port", free=False, holders=[]), "port_is_free", {}, "deviated", r"the address could not be had again after the end"),
]  # fmt: skip

LISTENER = [
    (lambda h: h.signalled().server("listener", state="closed", backlog=0, took=0.2), "held", r"nobody listened any more 0\.20 s after the signal; at most 2\.2 s expected"),
    (lambda h: h.signalled().server("listener", state="closed", backlog=0, took=3.0), "deviated", r"nobody listened any more 3\.00 s .*"),
    (lambda h: h.signalled().wait(5.0).exited(5.0), "deviated", r"it still listened 5\.0 s after the signal; .*"),
    (lambda h: h, "vacuous", r"no signal was sent"),
]  # fmt: skip


@pytest.mark.parametrize(("build", "name", "arguments", "status", "evidence"), END)
def test_what_the_end_tells(build, name, arguments, status, evidence, history):
    build(history)
    answer = ask(name, **arguments)
    assert answer["status"] == status, answer["evidence"]
    assert re.fullmatch(evidence, answer["evidence"]), answer["evidence"]


@pytest.mark.parametrize(("build", "status", "evidence"), LISTENER)
def test_what_the_listener_tells(build, status, evidence, history):
    history.started().server("listener", state="listening", backlog=0, took=None)
    build(history)
    answer = ask("listener_closes")
    assert answer["status"] == status, answer["evidence"]
    assert re.fullmatch(evidence, answer["evidence"]), answer["evidence"]


def test_an_address_that_somebody_else_took_is_not_closed(history):
    history.started().server("listener", state="listening", backlog=0, took=None).signalled()
    history.server("listener", state="rebound", backlog=0, took=0.1)
    assert ask("listener_closes")["status"] == "deviated"


# -- requests in flight


@pytest.mark.parametrize("outcome", sorted(OUTCOMES))
def test_only_a_whole_answer_completes_what_was_in_flight(outcome, history):
    history.started().in_flight("completed", outcome, "completed-with-close")
    answer = ask("in_flight_complete")
    if outcome in {"completed", "completed-with-close"}:
        assert (answer["status"], answer["evidence"]) == (
            "held",
            "3 of 3 requests in flight were completed",
        )
    else:
        assert answer["status"] == "deviated"
        assert answer["observed"] == {"lost": 1, "requests": 3}


def test_the_evidence_counts_what_was_lost_in_which_way(history):
    history.started().begun().in_flight("reset", "eof", "reset", "completed", None)
    history.ended("5xx", 1, status=503)
    evidence = ask("in_flight_complete")["evidence"]
    assert evidence == "5 of 6 requests in flight were lost: 1 status 503, 2 reset, 1 eof, 1 no answer"


def test_a_request_that_was_given_up_in_the_drain_is_lost(history):
    history.started().in_flight("completed-with-close", status=408)
    assert ask("in_flight_complete")["evidence"] == "1 of 1 requests in flight were lost: 1 status 408"


def test_requests_that_came_later_or_were_over_before_were_not_in_flight(history):
    history.started().whole()
    history.begun(enters=False).signalled().ended("refused")
    history.begun().ended("reset")
    assert ask("in_flight_complete")["evidence"] == "no request was in flight at the signal (p)"
    assert ask("endless_ones_are_told")["evidence"] == "nothing was open at the signal (p)"


@pytest.mark.parametrize(
    ("outcome", "status", "evidence"),
    [
        ("cancelled", "held", r"2 of 2 were told of the end p"),
        ("completed", "held", r".*"),
        ("truncated", "deviated", r"1 of 2 were told of the end p; the others: 1 truncated"),
        ("reset", "deviated", r".*1 reset"),
        (None, "deviated", r".*1 no answer"),
    ],
)
def test_an_endless_stream_is_ended_in_its_own_words(outcome, status, evidence, history):
    history.started().in_flight("cancelled", outcome)
    answer = ask("endless_ones_are_told")
    assert answer["status"] == status
    assert re.fullmatch(evidence, answer["evidence"]), answer["evidence"]


@pytest.mark.parametrize(
    ("outcomes", "status", "evidence"),
    [
        (["completed-with-close"] * 2, "held", r"2 of 2 responses after the signal said .*; 2 expected"),
        (["completed-with-close", "completed"], "deviated", r"1 of 2 responses .*; 2 expected"),
        (["reset"], "vacuous", r"no response came after the signal \(p\)"),
    ],
)
def test_responses_in_the_drain_say_close(outcomes, status, evidence, history):
    history.started().in_flight(*outcomes)
    answer = ask("responses_say_close")
    assert answer["status"] == status
    assert re.fullmatch(evidence, answer["evidence"]), answer["evidence"]


@pytest.mark.parametrize(
    ("outcome", "kept"),
    [("completed-with-close", True), ("closed", True), ("completed", True), ("eof", False), ("reset", False)],
)
def test_a_reused_connection_may_end_only_between_two_requests(outcome, kept, history):
    history.started().whole("closed").whole(outcome)
    answer = ask("reused_connections_lose_nothing")
    assert answer["status"] == ("held" if kept else "deviated")
    assert answer["evidence"].startswith(f"{1 - kept} of 2 connections lost a request p; 0 expected (")


@pytest.mark.parametrize(("outcome", "kept"), [("closed", True), ("open", False), ("reset", False)])
def test_idle_connections_have_to_be_closed(outcome, kept, history):
    history.started().whole("closed", phase="q").whole(outcome)
    answer = ask("idle_ones_are_closed")
    assert answer["status"] == ("held" if kept else "deviated")
    if outcome == "open":
        assert answer["evidence"] == "1 of 2 connections without a request were closed; the others: 1 open"


@pytest.mark.parametrize(
    ("after", "evidence"),
    [
        (LAME_DUCK + 1.4, r"2 of 2 connections were let go within 2\.60 s; at most 2\.7 s expected"),
        (LAME_DUCK + 1.6, r"1 of 2 connections were held for more than 2\.7 s after the signal"),
        (None, r"1 of 2 connections were held .*"),
    ],
)
def test_connections_are_let_go_before_the_drain_ends_everything(after, evidence, history):
    history.started().whole("closed").begun().signalled()
    if after is not None:
        history.wait(after).ended("closed", 2)
    answer = ask("are_let_go")
    assert answer["status"] == ("held" if "let go" in evidence else "deviated")
    assert re.fullmatch(evidence, answer["evidence"]), answer["evidence"]


def test_each_phase_of_a_promise_needs_observations(history):
    history.started().whole("closed", phase="q")
    assert ask("idle_ones_are_closed")["evidence"] == "no request was made p"


def test_a_part_that_was_left_out_is_no_broken_promise(history):
    history.started().server("spared", what="p", why="needs to know: a path that streams")
    answer = ask("endless_ones_are_told")
    assert (answer["status"], answer["evidence"]) == (
        "held",
        "nothing was asked p: the target needs to know: a path that streams",
    )


# -- new requests after the signal


@pytest.mark.parametrize("outcome", sorted(OUTCOMES))
def test_who_connects_after_the_signal_is_answered_or_refused(outcome, history):
    history.started().whole("reset").signalled().whole("refused").whole(outcome)
    answer = ask("answered_or_refused")
    fine = outcome in {"completed", "completed-with-close", "5xx", "refused"}
    assert answer["status"] == ("held" if fine else "deviated")
    assert answer["observed"]["connections"] == 2
    assert answer["evidence"].startswith(
        f"{1 - fine} of 2 new connections were neither answered nor refused ("
    )


@pytest.mark.parametrize(
    ("outcomes", "status", "evidence"),
    [
        (["completed", "completed-with-close"], "held", r"0 of 3 requests failed, 2 of them sent after the signal; 0 .*"),
        (["refused", "reset"], "deviated", r"2 of 3 requests failed, .*; 0 expected \(1 refused, 1 reset\)"),
        (["5xx"], "deviated", r"1 of 2 requests failed, .* \(1 status 500\)"),
        ([], "vacuous", r"nothing was sent after the signal p"),
    ],
)  # fmt: skip
def test_what_a_balancer_sends_must_be_served(outcomes, status, evidence, history):
    history.started().whole().signalled()
    for outcome in outcomes:
        history.whole(outcome)
    answer = ask("routed_requests_are_served")
    assert answer["status"] == status
    assert re.fullmatch(evidence, answer["evidence"]), answer["evidence"]


READINESS = [
    ((True, 200), [("readiness", 503, 0.1), ("listener", 0, 1.2)], "held", r"the readiness said 503 0\.10 s after .*; at most 0\.5 s expected"),
    ((True, 200), [("readiness", 503, 0.1)], "held", r".*"),
    ((True, 200), [("readiness", 503, 0.7)], "deviated", r"the readiness said 503 0\.70 s .*"),
    ((True, 200), [("listener", 0, 0.1), ("readiness", 503, 0.3)], "deviated", r".*, and before the listener closed, which was at 0\.10 s"),
    ((True, 200), [("readiness", 0, 0.1)], "deviated", r"nobody answered for the readiness 0\.10 s after the signal; .*"),
    ((True, 200), [], "deviated", r"the readiness never said no; within 0\.5 s expected"),
    ((False, 503), [("readiness", 503, 0.1)], "vacuous", r"the readiness was not seen to say yes"),
]  # fmt: skip


@pytest.mark.parametrize(("before", "after", "status", "evidence"), READINESS)
def test_the_readiness_says_no_before_the_door_closes(before, after, status, evidence, history):
    history.started().server("readiness", ready=before[0], status=before[1], took=None).signalled()
    for kind, code, took in after:
        if kind == "readiness":
            history.server("readiness", ready=False, status=code, took=took)
        else:
            history.server("listener", state="closed", backlog=0, took=took)
    answer = ask("readiness_turns_first")
    assert answer["status"] == status
    assert re.fullmatch(evidence, answer["evidence"]), answer["evidence"]


# -- several lives


def two_lives(history, codes, outcome="reset", end=True):
    history.started().whole().signalled().exited(0.1, codes[0])
    history.started().in_flight("5xx" if outcome == "5xx" else outcome)
    return history.exited(0.5, codes[1]) if end else killed_later(history)


def killed_later(history):
    return history.wait(3.0).server("killed", pids=[1], why="patience").exited(3.0, -9)


@pytest.mark.parametrize(
    ("codes", "outcome", "status", "evidence"),
    [
        ((0, 1), "reset", "held", r"exit code 0 after a clean end, exit code 1 after 1 request was lost"),
        ((-15, 1), "5xx", "held", r"SIGTERM after a clean end, .*"),
        ((0, 0), "eof", "deviated", r"exit code 0 after a clean end, exit code 0 after 1 request was lost"),
        ((1, 2), "reset", "deviated", r".*; 0, 143 or SIGTERM expected for the clean one"),
        ((0, 1), "completed", "vacuous", r"no request was lost when it was forced to end"),
    ],
)
def test_exit_codes_of_two_ends_are_compared(codes, outcome, status, evidence, history):
    two_lives(history, codes, outcome)
    answer = ask("exit_codes_tell")
    assert answer["status"] == status
    assert re.fullmatch(evidence, answer["evidence"]), answer["evidence"]


def test_one_end_alone_is_compared_with_nothing(history):
    history.started().in_flight("reset").exited(0.5, 1)
    assert ask("exit_codes_tell")["status"] == "vacuous"


def test_the_request_for_its_stacks_may_end_a_server_and_is_no_end_by_itself(history):
    history.started().signalled().wait(4.0).exited(4.0, -6).server("stuck", stacks="")
    assert (
        ask("ends_in_time", within=9.0)["evidence"]
        == "it had not ended 4.0 s after SIGTERM; at most 10.2 s expected"
    )
    assert ask("ends_cleanly")["status"] == "deviated"


def test_an_end_that_had_to_be_enforced_tells_nothing_by_its_code(history):
    two_lives(history, (0, 1), end=False)
    answer = ask("exit_codes_tell")
    assert answer["status"] == "deviated"
    assert answer["evidence"].startswith("the end that lost requests had to be enforced")


def test_calls_of_one_life_are_not_mixed_up_with_those_of_the_next(history):
    history.started().whole("reset").started().whole()
    assert ask("serves")["observed"] == {"bad": 0, "requests": 1}


def test_who_ends_while_its_signal_is_on_its_way_has_ended_by_it(history):
    history.started().server("listener", state="listening", backlog=0, took=None).signalled()
    history.server("listener", state="closed", backlog=0, took=None).wait(0.2).exited(None)
    assert ask("ends_in_time")["evidence"].startswith("it ended 0.20 s after SIGTERM")
    assert ask("listener_closes")["observed"] == {"took": 0.0}


def test_what_a_server_says_of_itself_decides_nothing(history):
    history.started().signalled().exited(0.1, 1)
    for kind in ("started", "exited"):
        history.tell("server:small", kind, process=4711, code=0, how="exit code 0", took=0.0)
    assert ask("ends_cleanly")["evidence"] == "exit code 1; 0, 143 or SIGTERM expected"


def test_one_start_that_goes_on_is_found_among_others(history):
    for part in (0.25, 0.5, 0.8):
        history.started().server("moment", part=part).signalled()
        if part == 0.5:
            history.wait(4.0).server("stuck", stacks="").server("killed", pids=[1], why="").exited(4.0, -9)
        else:
            history.exited(0.2, -15)
    answer = ask("every_start_ends_in_time")
    assert answer["status"] == "deviated"
    assert answer["evidence"] == (
        "1 of 3 starts did not end in time: one was not over 4.0 s after SIGTERM at 50% of it; at most 3.2 s expected"
    )


def test_starts_that_end_are_told_with_the_slowest(history):
    for took in (0.1, 0.4):
        history.started().signalled().exited(took, -15)
    answer = ask("every_start_ends_in_time")
    assert answer["evidence"] == "2 of 2 starts ended after SIGTERM, within 0.40 s; at most 3.2 s expected"
    history.started().signalled().exited(9.0)
    assert ask("every_start_ends_in_time")["evidence"].startswith(
        "1 of 3 starts did not end in time: one ended 9.00 s"
    )


# -- service


@pytest.mark.parametrize(
    ("outcome", "details", "shed", "kept"),
    [
        ("completed", {"status": 404}, False, True),
        ("completed-with-close", {}, False, True),
        ("5xx", {"status": 503}, False, False),
        ("5xx", {"status": 503}, True, True),
        ("5xx", {"status": 500}, True, False),
        ("refused", {}, True, False),
        ("never-answered", {}, False, False),
    ],
)
def test_who_is_served(outcome, details, shed, kept, history):
    history.started().whole().whole(outcome, **details)
    answer = ask("serves", shed=shed)
    assert answer["status"] == ("held" if kept else "deviated")
    assert answer["evidence"].startswith(f"{1 + kept} of 2 requests were answered p")


def test_a_503_is_no_answer_where_nobody_set_a_limit(begin):
    history = History(begin(small(limit=None)).lab)
    history.started().whole("5xx", status=503)
    assert (
        ask("serves", shed=True)["evidence"] == "0 of 1 requests were answered p; 1 expected (1 status 503)"
    )


def test_a_server_that_ended_without_a_signal_does_not_run(history):
    history.started().server("exited", pid=1, code=1, how="exit code 1", took=None)
    assert ask("keeps_running")["evidence"] == "it ended by itself: exit code 1"


@pytest.mark.parametrize(
    ("outcome", "status", "or_closed", "kept"),
    [
        ("completed", 400, False, True),
        ("completed-with-close", 431, False, True),
        ("completed", 200, False, False),
        ("5xx", 500, False, False),
        ("5xx", 501, False, True),
        ("eof", None, False, False),
        ("eof", None, True, True),
        ("reset", None, True, True),
        ("never-answered", None, True, False),
    ],
)
def test_the_fault_of_a_client_has_a_status_of_its_own(outcome, status, or_closed, kept, history):
    history.started().whole(outcome, status=status)
    answer = ask("clients_errors_are_told", statuses=["4xx", 501], or_closed=or_closed)
    assert answer["status"] == ("held" if kept else "deviated"), answer["evidence"]


def test_an_answer_is_searched_for_what_must_not_be_in_it(history):
    history.started().whole(text="internal error").whole("5xx", text="Oh no: the secret is out")
    assert ask("says_nothing_of")["evidence"] == "an answer p contains 'secret': 'Oh no: the secret is out'"
    assert ask("says_nothing_of", words=["Traceback"])["status"] == "held"


@pytest.mark.parametrize(
    ("name", "what", "value", "status", "evidence"),
    [
        ("memory_stays", "memory", 12.3, "held", r"its memory grew by 12 MB at most; 64 MB allowed"),
        ("memory_stays", "memory", 102.0, "deviated", r"its memory grew by 102 MB .*"),
        ("log_stays_small", "output", 0.25, "held", r"it wrote 0\.25 MB; 10 MB allowed"),
        ("log_stays_small", "output", 11.0, "deviated", r"it wrote 11\.00 MB; .*"),
    ],
)
def test_what_was_measured_is_compared(name, what, value, status, evidence, history):
    history.started().server("measured", what=what, value=value)
    answer = ask(name)
    assert answer["status"] == status
    assert re.fullmatch(evidence, answer["evidence"]), answer["evidence"]


def test_connections_are_compared_with_those_before(history):
    history.started().server("measured", what="connections", value=0, within=0.0)
    assert ask("connections_are_given_back")["status"] == "vacuous"
    history.server("measured", what="connections", value=3, within=4.0)
    answer = ask("connections_are_given_back")
    assert answer["status"] == "deviated"
    assert answer["evidence"] == "it had 3 connections 4 s after its clients had gone; 0 expected"
    history.server("measured", what="connections", value=0, within=4.0)
    assert ask("connections_are_given_back")["status"] == "held"


@pytest.mark.parametrize(
    ("outcome", "details", "kept"),
    [
        ("closed", {"took": HEADER_TIMEOUT}, True),
        ("reset", {"took": HEADER_TIMEOUT}, True),
        ("completed", {"status": 408, "took": HEADER_TIMEOUT}, True),
        ("completed", {"status": 200, "took": HEADER_TIMEOUT}, False),
        ("closed", {"took": HEADER_TIMEOUT + 1.6}, False),
        ("never-answered", {}, False),
    ],
)
def test_who_is_slow_with_headers_is_cut_off_in_time(outcome, details, kept, history):
    history.started().whole("closed", took=1.0).whole(outcome, **details)
    answer = ask("slow_ones_are_cut_off")
    assert answer["status"] == ("held" if kept else "deviated"), answer["evidence"]


@pytest.mark.parametrize(
    ("details", "evidence"),
    [
        ({"outcome": "5xx", "status": 503, "retry_after": "1"}, rf"2 of 2 requests beyond the limit of {LIMIT} .* at once"),
        ({"outcome": "5xx", "status": 503}, r"1 of 2 .*; the others: 503 without Retry-After"),
        ({"outcome": "5xx", "status": 503, "retry_after": "1", "took": 1.5}, r".*; the others: 503 after 1\.50 s"),
        ({"outcome": "completed", "status": 200}, r".*; the others: completed"),
        ({"outcome": "never-answered"}, r".*; the others: no answer"),
    ],
)  # fmt: skip
def test_who_is_too_much_is_sent_away_at_once_and_told_when_to_come_back(details, evidence, history):
    history.started().whole("5xx", status=503, retry_after="1").whole(**details)
    answer = ask("sheds")
    assert answer["status"] == ("deviated" if "others" in evidence else "held")
    assert re.fullmatch(evidence, answer["evidence"]), answer["evidence"]


@pytest.mark.parametrize(
    ("before", "after", "status"),
    [([1, 2], [2, 3], "held"), ([1, 2], [2], "deviated"), ([1, 2], [1, 2], "deviated"), ([], [], "vacuous")],
)
def test_a_new_worker_comes_for_a_killed_one(before, after, status, history):
    history.started().server("workers", pids=before).server("workers", pids=before)
    history.server("workers", pids=after)
    assert ask("workers_are_replaced")["status"] == status


def test_zombies_are_counted(history):
    history.started().server("zombies", pids=[7], within=2.0)
    assert (
        ask("ended_workers_are_waited_for")["evidence"]
        == "1 zombie 2 s after a worker was killed; 0 expected"
    )
    history.server("zombies", pids=[], within=2.0)
    assert ask("ended_workers_are_waited_for")["status"] == "held"


def test_the_subject_knows_what_a_server_can_be_required_to_have():
    assert SUBJECTS["server"].requirements == frozenset(REQUIREMENTS)
    assert not SUBJECTS["server"].in_process
    assert set(_server_bench.REQUIRED.values()) <= set(REQUIREMENTS)


# -- actions that cannot act, or need not


def test_a_server_that_was_not_started_cannot_be_attacked(begin):
    begin(small())
    with pytest.raises(NotInjected, match=r"^the server was not started$"):
        actions.send("p")


def test_a_server_that_does_not_come_up_is_no_setting(begin):
    begin(from_command(["false"]))
    with pytest.raises(NotInjected, match=r"(?s)^the server ended before it was ready \(exit code 1\)"):
        actions.start_server()


def test_a_path_that_is_not_known_cannot_be_asked_for_but_may_be_left_out(begin):
    lab = begin(small(slow_path=None)).lab
    actions.start_server()
    with pytest.raises(NotInjected, match=r"^the target needs to know: a path that takes a while"):
        actions.send("p", path="slow")
    actions.send("p", path="slow", where_it_can=True)
    actions.wait_until_inside("p")
    assert not lab.timeline.where("client")
    assert ask("in_flight_complete")["status"] == "held"


def test_who_has_ended_gets_no_signal(begin):
    lab = begin(small(lame_duck=0.0)).lab
    actions.start_server()
    actions.send_signal()
    actions.wait_for_exit()
    with pytest.raises(NotInjected, match=r"^the server had ended before SIGINT: exit code 0$"):
        actions.send_signal("SIGINT")
    assert len(lab.timeline.where("server", "signalled")) == 1
    assert not lab.never_fired()


def test_a_server_without_workers_has_none_to_kill(begin):
    begin(small())
    actions.start_server()
    with pytest.raises(NotInjected, match=r"^the server has no worker process$"):
        actions.kill_worker()


def test_requests_that_do_not_come_in_are_no_setting(begin):
    begin(small())
    actions.start_server()
    _server_bench.bench().driver.signal("SIGSTOP")
    actions.send("p", path="slow")
    with pytest.raises(NotInjected, match=r"^0 of 1 requests came into the server p, in 0\.1 s$"):
        actions.wait_until_inside("p", within=0.1)
    with pytest.raises(NotInjected, match=r"^0 of 20 requests came into the server up to the limit$"):
        actions.send_up_to_the_limit("up to the limit", seconds=0.1)


def test_a_limit_that_does_not_bite_is_no_fault(begin):
    begin(small())
    actions.start_server()
    with pytest.raises(
        NotInjected, match=r"^the server took all 3 connections, and was to open 30 files more$"
    ):
        actions.exhaust_descriptors("p", extra=30, connections=3, seconds=0.3)


def test_more_connections_than_this_process_may_have_are_not_tried(begin, monkeypatch):
    import resource

    begin(small())
    monkeypatch.setattr(resource, "getrlimit", lambda _: (256, 512))
    with pytest.raises(NotInjected, match=r"^this process may open 512 files, and 1100 are needed; .*"):
        actions.open_at_once("p", times=1000)


def test_a_server_that_ends_while_it_starts_gets_no_signal(begin, monkeypatch):
    target = small()
    begin(target)
    driver = _server_bench.bench()
    ended = ServerCommand(argv=("true",), name="small")
    start = _server_bench.ServerBench.start

    def start_once(self, **how):
        start(self, **how)
        self.driver.command = ended

    monkeypatch.setattr(_server_bench.ServerBench, "start", start_once)
    with pytest.raises(NotInjected, match=r"^the server ended by itself at 80% of its start$"):
        actions.signal_while_it_starts([0.8])
    assert driver.driver.exit["code"] == 0


def test_many_requests_are_as_many_as_the_server_takes(begin):
    begin(small(limit=6))
    assert [_server_bench.bench().welcome(times) for times in (1, 3, 16)] == [1, 3, 3]
    begin(small(limit=None))
    assert _server_bench.bench().welcome(16) == 16


def test_nothing_lives_on_when_the_run_ends(begin):
    run = begin(small(workers=2))
    actions.start_server()
    end = time.monotonic() + 10
    while len(pids := _server_bench.bench().pids()) < 3:  # it was ready when one of them was
        assert time.monotonic() < end, pids
        time.sleep(0.01)
    run.stack.close()
    assert [pid for pid in pids if start_time(pid) is not None] == []
