"""Each server scenario holds for servers that keep its promise, and deviates, with evidence, for one that breaks it."""

from __future__ import annotations

import re

import pytest
from scenarios.small_server import LAME_DUCK, SECRET, small

from pytest_prodpatterns.scenarios import Verdict, get, packaged, run_scenario
from pytest_prodpatterns.scenarios.actions import _server_bench
from pytest_prodpatterns.targets.server import _demo

NAMES = [name.removeprefix("server/") for name in packaged() if name.startswith("server/")]
OF_WORKERS = {"no-zombies", "no-orphans"}
"""Scenarios that say something only where there are workers."""

FLAWS = [
    ("sigterm-idle", "sleeps-through-signals", r"it had not ended 2\.\d s after SIGTERM; at most 2 s expected; it stood in \w+ \(small_server\.py:\d+\)"),
    ("sigterm-idle", "ignores-SIGTERM", r"it had not ended 2\.\d s after SIGTERM; at most 2 s expected.*"),
    ("sigterm-idle", "leaves-with-3", r"exit code 3; 0, 143 or SIGTERM expected"),
    ("sigterm-idle", "leaves-a-child", r"1 process lived 1 s after the end; nobody expected: .*small_server\.py.*"),
    ("sigint-idle", "ignores-SIGINT", r"it had not ended 2\.\d s after SIGINT; at most 2 s expected.*"),
    ("sigterm-in-flight", "drops-everything", r"3 of 3 requests in flight were lost: 3 eof"),
    ("sigterm-in-flight", "resets", r"3 of 3 requests in flight were lost: 3 reset"),
    ("sigterm-in-flight", "fails-in-the-drain", r"3 of 3 requests in flight were lost: 3 status 500"),
    ("sigterm-streaming", "cuts-streams", r"2 of 2 requests in flight were lost: 2 truncated"),
    ("sigterm-streaming", "cuts-events", r"0 of 1 were told of the end in an event stream; the others: 1 truncated"),
    ("sigterm-streaming", "drops-websockets", r"0 of 1 were told of the end in a websocket; the others: 1 truncated"),
    ("sigterm-over-deadline", "drains-twice", r"it (ended|had not ended) \d\.\d+ s after SIGTERM.*; at most 3\.6 s expected.*"),
    ("sigterm-over-deadline", "has-no-time", r"requests had 0\.\d\d s to end; 1\.8 s at least expected"),
    ("second-signal-forces", "has-no-hurry", r"it ended 1\.\d\d s after SIGTERM number 2 \(exit code 1\); at most 1\.5 s expected"),
    ("sigterm-during-start-up", "sleeps-through-its-start", r"[123] of 3 starts did not end in time: one was not over \d\.\d s after SIGTERM at \d\d% of it; .*"),
    ("keep-alive-clients-are-told", "never-says-close", r"0 of 4 responses after the signal said Connection: close; 4 expected"),
    ("keep-alive-clients-are-told", "hangs-up-on-requests", r"10 of 10 connections lost a request on connections used again; 0 expected \(10 eof\)"),
    ("idle-connections-do-not-delay", "waits-for-all", r"it had not ended 2\.\d s after SIGTERM; at most 2 s expected.*"),
    ("half-sent-requests-do-not-delay", "waits-for-all", r"it had not ended 3\.\d s after SIGTERM; at most 3 s expected.*"),
    ("half-sent-requests-do-not-delay", "waits-for-the-deadline", r"5 of 5 connections were held for more than 1\.5 s after the signal"),
    ("new-connections-during-drain", "keeps-the-listener", r"\d+ of \d+ new connections were neither answered nor refused \(.*\)"),
    ("lame-duck", "has-no-lame-duck", r"\d+ of \d+ requests failed, \d+ of them sent after the signal; 0 expected \(.*refused.*\)"),
    ("lame-duck", "stays-ready", r"nobody answered for the readiness 1\.\d\d s after the signal; a no expected"),
    ("exit-code-tells-the-truth", "leaves-with-0", r"exit code 0 after a clean end, exit code 0 after 2 requests were lost"),
    ("no-orphans", "outlives-its-parent", r"2 processes lived 3 s after the end; nobody expected: .*small_server\.py.*"),
    ("no-zombies", "never-waits", r"1 zombie 2 s after a worker was killed; 0 expected"),
    ("no-zombies", "never-replaces", r"2 workers before one was killed, 1 after, 0 of them new"),
    ("listener-is-gone", "leaves-the-port", r"the address could not be had again after the end, 1 process had it"),
    ("malformed-json", "fails-at-bad-json", r"0 of 5 requests got 4xx with malformed JSON; the others: 5 status 500"),
    ("large-body", "collects-everything", r"its memory grew by 1\d\d MB at most; 64 MB allowed"),
    ("large-body", "swallows-everything", r"0 of 1 requests got 4xx, 501 or a closed connection with a large body; the others: 1 .*"),
    ("large-headers", "takes-any-header", r"0 of 1 requests got 4xx or a closed connection with large headers; the others: 1 completed"),
    ("slow-headers", "patient-with-headers", r"3 of 3 slow clients were not cut off within 2\.5 s: no answer"),
    ("bad-request-line", "echoes", r"an answer with a bad request line contains 'prodpatterns-4711': .*"),
    ("bad-request-line", "fails-at-bad-lines", r"0 of 2 requests got 4xx with a bad request line; the others: 2 status 500"),
    ("handler-exception-leaks-nothing", "tells-the-traceback", r"an answer in a handler that raises contains 'Traceback': .*"),
    ("handler-exception-leaks-nothing", "tells-the-text", r"an answer in a handler that raises contains 'prodpatterns-secret-4711': .*"),
    ("client-disconnect", "dies-of-hang-ups", r"0 of 5 requests were answered afterwards; 5 expected \(5 refused\)"),
    ("client-disconnect", "keeps-connections", r"it had \d+ connections 2 s after its clients had gone; 0 expected"),
    ("thousand-connections", "fears-crowds", r"\d+ of 1000 requests were answered all at once; 1000 expected \(.*\)"),
    ("sheds-load", "takes-everybody-in", r"0 of 10 requests beyond the limit of 20 got 503 with Retry-After at once; the others: completed"),
    ("sheds-load", "sheds-rudely", r"0 of 10 .*; the others: 503 without Retry-After"),
    ("survives-file-descriptor-exhaustion", "dies-of-emfile", r"it ended by itself: exit code 1"),
    ("survives-file-descriptor-exhaustion", "never-accepts-again", r"0 of 5 requests were answered afterwards; 5 expected \(5 no answer\)"),
    ("survives-file-descriptor-exhaustion", "fills-its-log", r"it wrote \d+\.\d\d MB; 10 MB allowed"),
]  # fmt: skip


def target(name, flaw=""):
    lame_duck = LAME_DUCK if name == "lame-duck" or not flaw else 0.0
    return small(flaw, 2 if name in OF_WORKERS else 0, lame_duck)


@pytest.fixture
def impatient(monkeypatch):
    """Wait for those who come too late no longer than is needed to see it."""
    monkeypatch.setattr(_server_bench, "OVERDUE", 0.4)


@pytest.mark.parametrize("name", NAMES)
def test_a_server_that_shares_nothing_with_ours_can_keep_every_promise(name):
    outcome = run_scenario(f"server/{name}", target=target(name), seed=7)
    assert (outcome.verdict, outcome.evidence) == (Verdict.HELD, outcome.evidence)


@pytest.mark.parametrize(("name", "flaw", "evidence"), FLAWS)
def test_a_broken_promise_is_found_and_told(name, flaw, evidence, impatient):
    outcome = run_scenario(f"server/{name}", target=target(name, flaw), seed=7)
    assert outcome.verdict is Verdict.DEVIATED, outcome.evidence
    assert re.fullmatch(evidence, outcome.evidence), outcome.evidence


def test_every_scenario_is_shown_able_to_fail():
    assert {name for name, _flaw, _evidence in FLAWS} == set(NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_every_file_says_what_it_does_and_why_it_matters(name):
    scenario = get(f"server/{name}")
    assert scenario.subject == "server"
    assert "server" in scenario.tags
    assert len(scenario.explain.split()) > 40


def test_the_word_that_must_not_leak_is_that_of_our_application():
    assert SECRET == _demo.SECRET
    assert SECRET in packaged()["server/handler-exception-leaks-nothing"].read_text()
