"""Each pool scenario holds for pools that keep its promise, and deviates, with evidence, for one that breaks it."""

from __future__ import annotations

import re

import pytest
from scenarios.small_pool import SERVICE, SmallTarget

from pytest_prodpatterns.scenarios import Verdict, get, packaged, run_scenario
from pytest_prodpatterns.scenarios.actions._pool_bench import PoolBench

NAMES = [name.removeprefix("pool/") for name in packaged() if name.startswith("pool/")]

FLAWS = [
    (
        "sigkill-mid-task",
        "forgets",
        r"0 of 1 callers were told .* in the killed task; the others got 1 no answer",
    ),
    (
        "sigkill-mid-task",
        "breaks",
        r"0 of 20 callers got their answer queued behind it; 20 expected .*20 Broken\)",
    ),
    ("sigkill-mid-task", "mute", r"Mute does not tell SIGKILL in the killed task: ''"),
    (
        "sigkill-mid-task",
        "shrinks",
        r"1 worker was busy at once in the quiet at the end; at least 2 expected .*",
    ),
    (
        "sigkill-idle",
        "forgets-after-idling",
        r"\d+ of \d+ callers were answered after .*; \d+ had no answer after .*",
    ),
    (
        "sigkill-while-writing-a-large-result",
        "waits-for-the-rest",
        r"0 of 1 callers were told .* in the large result; the others got 1 no answer",
    ),
    ("os-exit", "mute", r"Mute does not tell exit code 77 in the task that leaves: ''"),
    (
        "os-exit",
        "breaks",
        r"1 of 11 callers got their answer beside it and queued behind it; 11 .*10 Broken\)",
    ),
    (
        "segfault",
        "forgets",
        r"0 of 1 callers were told .* in the task that crashes; the others got 1 no answer",
    ),
    ("segfault", "mute", r"Mute does not tell SIGSEGV in the task that crashes: ''"),
    ("sigstop", "strands", r"5 of 10 callers got their answer beside the frozen worker; .*5 no answer\)"),
    ("sigstop", "patient", r"shutdown did not return within \d\.\d s"),
    ("sys-exit-in-task", "catches-only-exceptions", r"0 of 1 callers got an error .*1 no answer\)"),
    ("keyboard-interrupt-in-task", "catches-only-exceptions", r"0 of 1 callers got an error .*1 no answer\)"),
    ("unpicklable-argument", "pickles-late", r"0 of 1 callers got an error .*1 no answer\)"),
    ("unpicklable-result", "swallows", r"0 of 1 callers got an error .*1 no answer\)"),
    ("unpicklable-exception", "swallows", r"0 of 1 callers got an error .*1 no answer\)"),
    ("unpicklable-exception", "vague", r"TypeError \(.*\) does not say 'LockedError' with an error that .*"),
    ("two-argument-exception", "unpickles-in-the-keeper", r"0 of 1 callers got an error .*1 no answer\)"),
    ("two-argument-exception", "vague", r"TypeError \(.*\) does not say 'the disk is on fire' with .*"),
    ("initializer-fails", "starts-for-ever", r"0 of 3 callers got an error .*3 no answer\)"),
    ("initializer-fails", "answers-and-goes-on", r"\d+ workers were started .*; at most 20 expected"),
    ("initializer-fails", "ignores-what-was-raised", r"Mute \(''\) does not say 'the initializer cannot .*"),
    ("poison-task", "never-gives-up", r"a task ran \d+ times in the poison; 1 to 3 expected"),
    ("task-timeout", "waits-for-the-end", r"0 of 1 callers got an error without end; .*1 no answer\)"),
    (
        "task-timeout",
        "only-stops-waiting",
        r"1 of 1 workers are still in a task without end, 1.5 s later; 0 expected",
    ),
    (
        "queue-full-blocks",
        "unbounded",
        r"20 of 20 calls were accepted while the queue was full; 1 to 6 expected",
    ),
    (
        "queue-full-rejects",
        "unbounded",
        r"20 of 20 calls were accepted while the queue was full; 4 to 6 expected",
    ),
    (
        "queue-full-rejects",
        "rejects-early",
        r"1 of 20 calls were accepted while the queue was full; 4 to 6 .*",
    ),
    (
        "queue-full-rejects",
        "runs-rejected",
        r"16 of 16 rejected tasks ran while the queue was full; 0 expected",
    ),
    (
        "queue-full-times-out",
        "gives-up-at-once",
        r"a call was rejected after 0\.0\d s .*; 0\.45 to 3 expected",
    ),
    ("queue-full-times-out", "waits-for-ever", r"vacuous: no call was rejected while the queue was full .*"),
    (
        "event-loop-stays-responsive",
        "blocks-the-loop",
        r"the event loop stood still for 1\.\d\d s at worst .*",
    ),
    ("two-callers-get-their-own", "mixes", r"\d+ of 400 callers got their answer of two callers; .*wrong.*"),
    ("shutdown-with-immune-task", "patient", r"shutdown did not return within \d\.\d s"),
    ("shutdown-with-immune-task", "polite", r"shutdown did not return within \d\.\d s"),
    (
        "shutdown-with-full-queue",
        "forgets-those-who-wait",
        r"\d of 7 callers were answered .* no answer after .*",
    ),
    ("shutdown-with-full-queue", "drops-silently", r"\d+ of 22 callers were answered .* no answer after .*"),
    (
        "shutdown-with-uncollected-results",
        "drops-results",
        r"\d+ of 20 callers got their answer .*; 20 expected .*",
    ),
    (
        "parent-sigkill-leaves-no-orphan",
        "outlives-its-parent",
        r"2 workers lived 1\.5 s after the parent; nobody expected",
    ),
    (
        "parent-sigterm-drains",
        "drains-nothing",
        r"\d+ of 60 accepted tasks were finished before SIGTERM; 60 expected",
    ),
    ("storm", "forgets", r"\d+ tasks, \d+ kills: .* hung, .*; at most 0 hung expected"),
    ("recovers-to-full-strength", "shrinks", r"0 workers were busy at once after the busy workers died; .*"),
]


BENCH = "pytest_prodpatterns.scenarios.actions._pool_bench"


@pytest.fixture
def small(monkeypatch):
    """Let hosts know the small pool."""
    monkeypatch.setattr("pytest_prodpatterns.targets.pool._driver.SERVICE", SERVICE)


@pytest.fixture
def impatient(monkeypatch):
    """Give who hangs less patience than a library gets."""
    monkeypatch.setattr("pytest_prodpatterns.targets.pool._driver.PATIENCE", 1.5)
    monkeypatch.setattr(f"{BENCH}.IMPATIENCE", 0.3)
    patience = PoolBench.patience
    monkeypatch.setattr(PoolBench, "patience", lambda self, seconds: min(patience(self, seconds), 1.5))


@pytest.mark.parametrize("name", NAMES)
def test_a_pool_that_shares_nothing_with_ours_can_keep_every_promise(name, small):
    outcome = run_scenario(f"pool/{name}", target=SmallTarget(), seed=7)
    assert (outcome.verdict, outcome.evidence) == (Verdict.HELD, outcome.evidence)


@pytest.mark.parametrize(("name", "flaw", "evidence"), FLAWS)
def test_a_broken_promise_is_found_and_told(name, flaw, evidence, small, impatient):
    outcome = run_scenario(f"pool/{name}", target=SmallTarget(flaw), seed=7)
    assert outcome.verdict is Verdict.DEVIATED, outcome.evidence
    assert re.fullmatch(evidence, outcome.evidence), outcome.evidence


def test_every_scenario_is_shown_able_to_fail():
    assert {name for name, _flaw, _evidence in FLAWS} == set(NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_every_file_says_what_it_does_and_why_it_matters(name):
    scenario = get(f"pool/{name}")
    assert scenario.subject == "pool"
    assert "pool" in scenario.tags
    assert len(scenario.explain.split()) > 40
