"""One run of a scenario: each way it can go, the verdict it gets, and what is left behind."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest
import tiny
from tiny import activity

from pytest_prodpatterns.lab import current_lab
from pytest_prodpatterns.scenarios import (
    Outcome,
    ScenarioError,
    ScenarioInterrupted,
    Verdict,
    current_run,
    run_scenario,
)

ACT = activity("act")


def play(path: Path, *method, target=None, seed=7, **changes) -> Outcome:
    file = tiny.write(path / "one.yaml", *method, **changes)
    return run_scenario(str(file), target=target or tiny.Target(), seed=seed)


def promises(*probes):
    return {"title": "Promises", "probes": list(probes)}


LATE = promises(activity("entered", "probe", at_least=3))
CASES = [
    ("a kept promise", [ACT], {}, "held", "1 of 1 calls entered"),
    ("a broken one", [ACT], {"steady_state_hypothesis": LATE}, "deviated", "1 of 3 calls entered"),
    ("no observation", [activity("draw")], {}, "deviated", "vacuous: no call"),
    (
        "a fault that never fired",
        [ACT, activity("fault", fires=False)],
        {},
        "not injected",
        "fault never fired: tiny (breaks)",
    ),
    (
        "a broken promise beside it",
        [ACT, activity("fault", fires=False)],
        {"steady_state_hypothesis": LATE},
        "deviated",
        "1 of 3 calls entered (fault never fired: tiny (breaks))",
    ),
    (
        "an action that cannot",
        [activity("fail", how="not applicable")],
        {},
        "not applicable",
        "it has no wheels",
    ),
    (
        "a fault that cannot be",
        [activity("fail", how="not injected")],
        {},
        "not injected",
        "the disk is read-only",
    ),
    (
        "an action that raises",
        [ACT, activity("fail", how="value")],
        {},
        "not injected",
        "fail: ValueError: no good",
    ),
    (
        "a cancelled action",
        [activity("fail", how="cancelled")],
        {},
        "not injected",
        "an action raised CancelledError",
    ),
    (
        "an action that exits",
        [activity("fail", how="exit")],
        {},
        "not injected",
        "something called sys.exit(3)",
    ),
    (
        "an undo that fails",
        [ACT, activity("fault", undo="/nonexistent/file")],
        {},
        "rollback failed",
        "while undoing tiny: breaks: FileNotFoundError: [Errno 2] No such file or directory: '/nonexistent/file'",
    ),
    (
        "a rollback that fails",
        [ACT],
        {"rollbacks": [activity("fail", how="value")]},
        "rollback failed",
        "fail: ValueError: no good",
    ),
    (
        "a probe that raises",
        [ACT],
        {"steady_state_hypothesis": promises(activity("broken_probe", "probe"))},
        "deviated",
        "before any fault: broken probe: OSError: the probe broke",
    ),
    (
        "a promise broken from the outset",
        [ACT],
        {"steady_state_hypothesis": promises(activity("plain_probe", "probe") | {"tolerance": 41})},
        "deviated",
        "before any fault: plain probe: got 42, tolerance 41",
    ),
    (
        "a foreign probe",
        [ACT],
        {"steady_state_hypothesis": promises(activity("plain_probe", "probe") | {"tolerance": 42})},
        "held",
        "plain probe: got 42, tolerance 42",
    ),
]


@pytest.mark.parametrize(
    ("method", "changes", "verdict", "evidence"),
    [case[1:] for case in CASES],
    ids=[case[0] for case in CASES],
)
def test_each_way_a_run_goes_has_its_verdict(tmp_path, method, changes, verdict, evidence) -> None:
    outcome = play(tmp_path, *method, **changes)
    assert (outcome.verdict, outcome.evidence) == (verdict, evidence)
    entry = outcome.journal["prodpatterns"]
    assert (entry["verdict"], entry["evidence"], entry["seed"]) == (verdict, evidence, 7)
    status, deviated = outcome.journal["status"], outcome.journal["deviated"]
    fine = status == "completed" and not deviated
    assert fine == (verdict in ("held", "not applicable")), "the exit code of `chaos run` would lie"
    json.dumps(entry)
    assert current_lab() is None


def test_a_requirement_that_the_target_lacks_is_not_applicable_and_nothing_runs(tmp_path) -> None:
    extension = tiny.experiment()["extensions"][0] | {"requires": ["async"]}
    marker = tmp_path / "rolled-back"
    outcome = play(
        tmp_path,
        target=tiny.Target(("async",)),
        extensions=[extension],
        rollbacks=[activity("open_something", path=str(marker))],
    )
    assert (outcome.verdict, outcome.evidence) == ("not applicable", "tiny has no async")
    assert outcome.journal["run"] == []
    assert not marker.exists()


def test_undo_exit_stack_and_events_come_before_the_verdict(tmp_path) -> None:
    broken, opened = tmp_path / "broken", tmp_path / "opened"
    broken.touch()
    outcome = play(
        tmp_path, ACT, activity("fault", undo=str(broken)), activity("open_something", path=str(opened))
    )
    assert outcome.verdict == "held"
    assert not broken.exists()
    assert opened.read_text() == "closed"
    kinds = [event["kind"] for event in outcome.timeline]
    assert kinds == ["entered", "armed", "fired", "undone"]


def test_a_target_that_was_handed_over_stays_open(tmp_path) -> None:
    target = tiny.Target()
    play(tmp_path, target=target)
    assert target.closed == 0


def test_a_target_that_was_resolved_is_closed_and_its_failure_is_a_failed_rollback(
    tmp_path, monkeypatch
) -> None:
    target = tiny.Target(close_error=OSError("stuck"))
    monkeypatch.setattr("pytest_prodpatterns.targets.resolve", lambda subject, spec: target)
    outcome = play(tmp_path, target="anything")
    assert target.closed == 1
    assert (outcome.verdict, outcome.evidence) == ("rollback failed", "closing the target: OSError: stuck")


def test_a_target_that_cannot_be_had_is_not_injected(tmp_path) -> None:
    outcome = play(tmp_path, target="nosuch")
    assert outcome.verdict == "not injected"
    assert outcome.evidence.startswith("could not begin: TargetError: unknown breaker 'nosuch'")


def test_the_same_seed_draws_the_same_numbers_and_another_one_others(tmp_path) -> None:
    def numbers(seed):
        timeline = play(tmp_path, ACT, activity("draw"), seed=seed).timeline
        return [event["attributes"]["number"] for event in timeline if event["kind"] == "drawn"]

    assert numbers(7) == numbers(7) != numbers(8)


@pytest.mark.parametrize(("how", "cause"), [("interrupt", "Ctrl-C"), ("sigterm", "SIGTERM")])
def test_an_interrupt_is_raised_again_after_everything_was_undone(tmp_path, how, cause) -> None:
    broken = tmp_path / "broken"
    broken.touch()
    handler = signal.getsignal(signal.SIGTERM)
    with pytest.raises(KeyboardInterrupt) as caught:
        play(tmp_path, activity("fault", undo=str(broken)), activity("fail", how=how))
    assert isinstance(caught.value, ScenarioInterrupted)
    assert caught.value.outcome.evidence == f"interrupted by {cause}; everything was rolled back"
    assert not broken.exists()
    assert signal.getsignal(signal.SIGTERM) == handler
    assert play(tmp_path).verdict == "held", "the next run must not suffer"


def test_a_forked_child_does_not_inherit_the_engines_signal_handlers(tmp_path) -> None:
    answer = tmp_path / "answer"
    code = (
        "import tiny, sys; from pathlib import Path\n"
        "from pytest_prodpatterns.scenarios import run_scenario\n"
        "run_scenario(sys.argv[1], target=tiny.Target())\n"
    )
    file = tiny.write(tmp_path / "one.yaml", ACT, activity("fork_and_report", path=str(answer)))
    subprocess.run([sys.executable, "-c", code, file], cwd=Path(__file__).parent, check=True, timeout=60)
    assert answer.read_text() == "True"


def test_one_run_at_a_time(tmp_path, monkeypatch) -> None:
    raised: list[BaseException] = []

    def nested() -> None:
        tiny.act()
        try:
            run_scenario(str(tmp_path / "one.yaml"), target=tiny.Target())
        except RuntimeError as error:
            raised.append(error)

    monkeypatch.setattr(tiny, "nested", nested, raising=False)
    assert play(tmp_path, activity("nested")).verdict == "held"
    assert str(raised[0]) == "the scenario tiny/one is running; one at a time in a process"


def test_not_inside_a_running_loop_and_not_in_another_thread(tmp_path) -> None:
    async def inside() -> None:
        play(tmp_path)

    loop = asyncio.new_event_loop()
    with (
        contextlib.closing(loop),
        pytest.raises(RuntimeError, match=r"^a scenario runs its own loops, and one"),
    ):
        loop.run_until_complete(inside())
    errors: list[BaseException] = []

    def elsewhere() -> None:
        try:
            play(tmp_path)
        except RuntimeError as error:
            errors.append(error)

    thread = threading.Thread(target=elsewhere)
    thread.start()
    thread.join(30)
    assert str(errors[0]) == "a scenario runs in the main thread only: the engine sets signal handlers"


def test_actions_outside_a_scenario_say_so() -> None:
    with pytest.raises(
        RuntimeError, match=r"^no scenario is running: actions and probes of pytest-prodpatterns"
    ):
        current_run()


def test_the_engine_is_quiet_unless_asked(tmp_path, capfd) -> None:
    file = str(tiny.write(tmp_path / "one.yaml", activity("fail", how="value")))
    run_scenario(file, target=tiny.Target())
    assert capfd.readouterr() == ("", "")
    run_scenario(file, target=tiny.Target(), verbose=True)
    assert "Running experiment: A tiny scenario" in capfd.readouterr().err
    assert not logging.getLogger("chaostoolkit").handlers


def test_variables_reach_the_actions_and_unknown_ones_are_refused(tmp_path) -> None:
    configuration = tiny.experiment()["configuration"] | {"calls": 1}
    file = str(
        tiny.write(
            tmp_path / "one.yaml",
            activity("act", calls="${calls}"),
            configuration=configuration,
            steady_state_hypothesis=LATE,
        )
    )
    outcome = run_scenario(file, target=tiny.Target(), variables={"calls": 3})
    assert outcome.verdict == "held"
    with pytest.raises(ScenarioError, match=r"has no variable 'cals'; did you mean 'calls'\?$"):
        run_scenario(file, target=tiny.Target(), variables={"cals": 3})
    with pytest.raises(ScenarioError, match=r"^the variable 'seed' has an option of its own: use --seed$"):
        run_scenario(file, target=tiny.Target(), variables={"seed": 3})


def test_a_missing_environment_variable_is_an_error_of_the_file(tmp_path) -> None:
    configuration = tiny.experiment()["configuration"] | {"key": {"type": "env", "key": "NOT_SET_ANYWHERE"}}
    with pytest.raises(ScenarioError, match=r"one\.yaml: Configuration makes reference .* NOT_SET_ANYWHERE$"):
        play(tmp_path, configuration=configuration)


def test_an_outcome_survives_the_way_between_processes(tmp_path) -> None:
    outcome = play(tmp_path)
    again = Outcome.from_plain(json.loads(json.dumps(outcome.to_plain(), default=repr)))
    assert again.as_dict() == outcome.as_dict()
    assert again.verdict is Verdict.HELD
    assert outcome.reproduce == f"prodpatterns run {tmp_path}/one.yaml --target tiny --seed 7"
