"""The same file gives the same verdict under plain `chaos run`: in process for all, the real command for some."""

from __future__ import annotations

import json
import logging
import os
import subprocess
import sys
from pathlib import Path

import pytest
import tiny
from tiny import activity

from pytest_prodpatterns.scenarios import load, packaged, run_scenario

BREAKER = [name for name in packaged() if name.startswith("breaker/")]
CHAOS = Path(sys.executable).with_name("chaos")
BAD_BREAKER = '''
class Shut:
    """A breaker that never opens."""

    def call(self, function, *arguments, **named):
        return function(*arguments, **named)


def make(failure_threshold, recovery_timeout, success_threshold):
    return Shut()
'''


KEPT_BY_A_DEAF_BREAKER = {
    "cancellation-does-not-open",
    "hung-probe-does-not-wedge",
    "keeps-signature",
    "keyboard-interrupt-is-not-a-failure",
    "late-failure-does-not-extend",
    "original-exception-reaches-caller",
    "recovers",
    "slow-calls-run-side-by-side",
    "stale-failure-changes-nothing",
    "wall-clock-back",
}
"""What holds on a breaker that never opens."""


def engine(path: Path, monkeypatch: pytest.MonkeyPatch, target: str = "ours") -> dict:
    """Run a file as `chaos run` does, without our runner."""
    from chaoslib.experiment import ensure_experiment_is_valid, run_experiment
    from chaoslib.loader import load_experiment

    monkeypatch.setenv("PRODPATTERNS_TARGET", target)
    monkeypatch.setenv("PRODPATTERNS_SEED", "7")
    monkeypatch.setattr(logging.getLogger("chaostoolkit"), "disabled", True)
    experiment = load_experiment(str(path))
    ensure_experiment_is_valid(experiment)
    return run_experiment(experiment, settings={"runtime": experiment["runtime"]})


def chaos_run(path: Path, directory: Path, **environment: str) -> tuple[int, dict]:
    """Run a file with the real command; return its exit code and the journal."""
    journal = directory / "journal.json"
    command = [CHAOS, "--no-version-check", "--no-log-file", "run", "--journal-path", journal, path]
    done = subprocess.run(
        command,
        cwd=directory,
        env=os.environ | environment,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert journal.exists(), done.stderr
    return done.returncode, json.loads(journal.read_text())


@pytest.mark.parametrize("name", BREAKER)
def test_the_engine_alone_gives_our_verdict_on_our_breaker(name, monkeypatch) -> None:
    path = packaged()[name]
    ours = run_scenario(load(path, name), seed=7)
    entry = engine(path, monkeypatch)["prodpatterns"]
    assert (entry["verdict"], entry["evidence"]) == (ours.verdict, ours.evidence) == ("held", ours.evidence)
    assert entry["seed"] == 7


@pytest.mark.parametrize("name", BREAKER)
def test_the_engine_alone_gives_our_verdict_on_a_breaker_that_deviates(name, monkeypatch) -> None:
    path = packaged()[name]
    ours = run_scenario(load(path, name), seed=7, target="tiny:make_deaf")
    entry = engine(path, monkeypatch, "tiny:make_deaf")["prodpatterns"]
    assert (entry["verdict"], entry["evidence"]) == (ours.verdict, ours.evidence)
    kept = name.removeprefix("breaker/") in KEPT_BY_A_DEAF_BREAKER
    assert ours.verdict == ("held" if kept else "deviated"), ours.evidence


@pytest.mark.parametrize("name", ["pool/sigkill-mid-task", "pool/shutdown-with-full-queue"])
@pytest.mark.parametrize("target", ["ours", "ppe-fork"])
def test_the_engine_alone_gives_our_verdict_on_a_pool(name, target, monkeypatch) -> None:
    path = packaged()[name]
    ours = run_scenario(load(path, name), seed=7, target=target)
    entry = engine(path, monkeypatch, target)["prodpatterns"]
    assert (entry["verdict"], entry["target"]) == (ours.verdict, target), entry["evidence"]


def last_attempt(timeline):
    """What happened, from where a busy machine did not delay it: then all is done once more."""
    kinds = [event["kind"] for event in timeline]
    repeated = [at for at, kind in enumerate(kinds) if kind == "repeated"]
    return kinds[repeated[-1] + 1 :] if repeated else kinds[kinds.index("made") :]


@pytest.mark.skipif(not CHAOS.exists(), reason="chaostoolkit is not installed")
@pytest.mark.parametrize(
    ("target", "code", "status"), [("ours", 0, "completed"), ("bad_breaker:make", 1, "completed")]
)
def test_the_real_command_agrees_on_what_holds_and_what_deviates(
    tmp_path, monkeypatch, target, code, status
) -> None:
    (tmp_path / "bad_breaker.py").write_text(BAD_BREAKER)
    monkeypatch.syspath_prepend(tmp_path)
    path = packaged()["breaker/opens-at-threshold"]
    ours = run_scenario(load(path, "breaker/opens-at-threshold"), seed=7, target=target)
    environment = {"PRODPATTERNS_TARGET": target, "PRODPATTERNS_SEED": "7", "PYTHONPATH": str(tmp_path)}
    returned, journal = chaos_run(path, tmp_path, **environment)
    assert (returned, journal["status"]) == (code, status)
    entry = journal["prodpatterns"]
    assert (entry["verdict"], entry["evidence"], entry["target"]) == (ours.verdict, ours.evidence, target)
    assert last_attempt(entry["timeline"]) == last_attempt(ours.timeline)


@pytest.mark.skipif(not CHAOS.exists(), reason="chaostoolkit is not installed")
@pytest.mark.parametrize(
    ("how", "verdict", "code"),
    [("not applicable", "not applicable", 0), ("value", "not injected", 1), ("interrupt", "not injected", 1)],
)
def test_the_real_command_exits_as_the_verdict_says(tmp_path, how, verdict, code) -> None:
    path = tiny.write(tmp_path / "one.yaml", activity("act"), activity("fail", how=how))
    returned, journal = chaos_run(path, tmp_path, PYTHONPATH=str(Path(tiny.__file__).parent))
    assert (returned, journal["prodpatterns"]["verdict"]) == (code, verdict)
