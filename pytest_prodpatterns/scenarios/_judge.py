"""From the engine's journal to a verdict: one pure function, so that every way to run a file agrees.

Theory of operation.  Only the promises decide between `held` and `deviated`.  But the engine also calls an
experiment fine whose faults never happened, so before the promises count we ask: was the run stopped, could
everything be taken back, did the method act, and did each fault that was armed fire?  A promise that is
broken stays broken although a fault did not fire (a target that deviates early may never reach it);
a promise that seems kept is worth nothing then.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from pytest_prodpatterns.scenarios._verdict import Verdict


@dataclass
class Findings:
    """What the control saw beside the engine's journal.

    Attributes:
        early: A verdict that was clear before the end, with its evidence.
        interrupted: What stopped the run from outside, for example `Ctrl-C`; empty when nothing did.
        never_fired: The faults that were armed and did not take effect, each in words.
        rollback_failures: What could not be taken back, each in words.
    """

    early: tuple[Verdict, str] | None = None
    interrupted: str = ""
    never_fired: list[str] = field(default_factory=list)
    rollback_failures: list[str] = field(default_factory=list)


def judge(journal: Mapping[str, Any], findings: Findings) -> tuple[Verdict, str]:
    """Return the verdict on a finished run, and its evidence in one line.

    Args:
        journal: The engine's journal.
        findings: What the control saw.
    """
    failures = findings.rollback_failures + [_failure(run) for run in _failed(journal.get("rollbacks"))]
    if failures:
        return Verdict.ROLLBACK_FAILED, one_line("; ".join(failures))
    if findings.early is not None:
        return findings.early
    if findings.interrupted:
        return Verdict.NOT_INJECTED, f"interrupted by {findings.interrupted}; everything was rolled back"
    return _judge_promises(journal, findings.never_fired)


def _judge_promises(journal: Mapping[str, Any], never_fired: Sequence[str]) -> tuple[Verdict, str]:
    states = journal["steady_states"]
    before, after = states.get("before"), states.get("after")
    if before is not None and not before["steady_state_met"]:
        return Verdict.DEVIATED, f"before any fault: {_broken(before)}"
    if (stopped := _stopped(journal)) is not None:
        return Verdict.NOT_INJECTED, stopped
    if after is None:
        return Verdict.NOT_INJECTED, "no promise was asked after the method"
    missing = f"fault never fired: {'; '.join(never_fired)}"
    if not after["steady_state_met"]:
        return Verdict.DEVIATED, _broken(after) + (f" ({missing})" if never_fired else "")
    if never_fired:
        return Verdict.NOT_INJECTED, missing
    return Verdict.HELD, _evidence(after["probes"][0])


def _stopped(journal: Mapping[str, Any]) -> str | None:
    for run in _failed(journal.get("run")):
        return _failure(run)
    if journal.get("status") in ("aborted", "interrupted"):
        return f"the method was {journal['status']}"
    return None


def _failed(runs: Sequence[Mapping[str, Any]] | None) -> list[Mapping[str, Any]]:
    return [run for run in runs or () if run.get("status") != "succeeded"]


def _failure(run: Mapping[str, Any]) -> str:
    return f"{run['activity']['name']}: {failure_text(run)}"


def failure_text(run: Mapping[str, Any]) -> str:
    """Return why an activity failed, without the engine's own wrapping."""
    lines = run.get("exception") or ["did not finish"]
    return one_line(lines[-1]).removeprefix("chaoslib.exceptions.ActivityFailed: ")


def _broken(state: Mapping[str, Any]) -> str:
    probe = state["probes"][-1]
    return _failure(probe) if probe["status"] != "succeeded" else _evidence(probe)


def _evidence(probe: Mapping[str, Any]) -> str:
    output, name = probe.get("output"), probe["activity"]["name"]
    if isinstance(output, Mapping) and output.get("evidence"):
        return one_line(str(output["evidence"]))
    expected = probe["activity"].get("tolerance")
    return one_line(f"{name}: got {output!r}, tolerance {expected!r}")


def one_line(text: str) -> str:
    """Return `text` with every run of white space, line ends included, as one space."""
    return " ".join(text.split())
