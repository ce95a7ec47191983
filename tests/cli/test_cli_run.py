"""`prodpatterns run` and `check`: what they print, what they write, and how they leave."""

from __future__ import annotations

import contextlib
import importlib.metadata
import json
import os
import pty
import re
import signal
import subprocess
import sys
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest

from pytest_prodpatterns.cli import main

sys.path.insert(0, str(Path(__file__).parents[1] / "scenarios"))
import tiny  # noqa: E402
from tiny import activity  # noqa: E402

PROGRAM = [sys.executable, "-m", "pytest_prodpatterns"]
TINY = str(Path(tiny.__file__).parent)
LATE = {"title": "Late", "probes": [activity("entered", "probe", at_least=9)]}


@pytest.fixture
def call(capsys, monkeypatch, tmp_path):
    """Run the command in this process; return exit code, stdout and stderr."""
    monkeypatch.chdir(tmp_path)

    def run(*words):
        with pytest.raises(SystemExit) as caught:
            main([str(word) for word in words])
        out, err = capsys.readouterr()
        return caught.value.code, out, err

    return run


def scenario(path: Path, how: str) -> Path:
    """Write a file that ends with this verdict."""
    undo = activity("fault", undo="/nonexistent/file")
    held = activity("act")
    files = {
        "held": {"method": [held]},
        "deviated": {"method": [held], "steady_state_hypothesis": LATE},
        "not applicable": {"method": [activity("fail", how="not applicable")]},
        "not injected": {"method": [activity("fail", how="value")]},
        "rollback failed": {"method": [held, undo]},
    }
    changes = files[how]
    return tiny.write(path / f"{how.replace(' ', '-')}.yaml", *changes.pop("method"), **changes)


CODES = {"held": 0, "not applicable": 0, "deviated": 1, "not injected": 3, "rollback failed": 4}


@pytest.mark.parametrize(("verdict", "code"), CODES.items())
def test_each_verdict_has_its_exit_code_and_its_line(call, tmp_path, verdict, code) -> None:
    file = scenario(tmp_path, verdict)
    returned, out, err = call("run", file, "--seed", 7)
    assert (returned, err) == (code, "")
    lines = out.splitlines()
    assert re.match(rf"^{verdict} +{re.escape(str(file))}  \S", lines[0])
    assert lines[2] == f"1 scenario against ours: 1 {verdict} (seed 7)"
    again = [f"repeat with: prodpatterns run {file} --target ours --seed 7"]
    assert lines[3:] == (again if code else [])


def test_what_went_wrong_stands_last_with_one_line_to_repeat_any_of_it(call, tmp_path) -> None:
    bad, fine = ("deviated", "not injected", "rollback failed"), ("held", "not applicable")
    files = [scenario(tmp_path, verdict) for verdict in (*bad, *fine)]
    lines = call("run", *files, "--seed", 7)[1].splitlines()
    shown = [re.match(r"\S+( \S+)?(?=  )", line)[0] for line in lines[: len(files)]]
    assert shown == [*fine, *bad]
    assert lines[-2].startswith("5 scenarios against ours: ")
    assert lines[-1] == "repeat with: prodpatterns run NAME --target ours --seed 7"
    code, text = in_terminal([*PROGRAM, "run", *map(str, files)], {"PYTHONPATH": TINY})
    assert re.findall(rf"({'|'.join((*bad, *fine))}) *(?:\x1b\S*)? +/", text) == [*fine, *bad]


@pytest.mark.parametrize(
    ("verdicts", "code"),
    [
        (["held", "not applicable"], 0),
        (["held", "deviated"], 1),
        (["deviated", "not injected"], 3),
        (["not injected", "rollback failed", "deviated"], 4),
    ],
)
def test_the_worst_verdict_decides(call, tmp_path, verdicts, code) -> None:
    files = [scenario(tmp_path, verdict) for verdict in verdicts]
    assert call("run", *files)[0] == code


def test_json_is_one_document_and_nothing_else(call, tmp_path) -> None:
    files = [scenario(tmp_path, verdict) for verdict in ("held", "deviated")]
    code, out, err = call("run", *files, "--seed", 7, "--json")
    document = json.loads(out)
    durations = [entry.pop("duration") for entry in document["scenarios"]]
    assert all(0 <= duration < 30 for duration in durations)
    assert (code, err) == (1, "")
    entry = {"subject": "breaker", "target": "ours"}
    assert document == {
        "seed": 7,
        "verdict": "deviated",
        "scenarios": [
            {"name": str(files[0]), **entry, "verdict": "held", "evidence": "1 of 1 calls entered"},
            {"name": str(files[1]), **entry, "verdict": "deviated", "evidence": "1 of 9 calls entered"},
        ],
    }


def test_files_are_written_for_machines(call, tmp_path) -> None:
    files = [scenario(tmp_path, verdict) for verdict in CODES]
    code, _, _ = call(
        "run", *files, "--seed", 7, "--journal", "j.json", "--junit", "j.xml", "--events", "e.jsonl"
    )
    assert code == 4
    journals = json.loads((tmp_path / "j.json").read_text())
    assert [journal["prodpatterns"]["verdict"] for journal in journals] == list(CODES)
    assert all(
        {"experiment", "status", "steady_states", "run", "chaoslib-version"} <= set(one) for one in journals
    )
    suite = ET.parse(tmp_path / "j.xml").getroot()[0]
    assert {key: suite.get(key) for key in ("tests", "failures", "errors", "skipped")} == {
        "tests": "5",
        "failures": "1",
        "errors": "2",
        "skipped": "1",
    }
    assert [case[0].tag for case in suite.findall("testcase")] == [
        "system-out",
        "skipped",
        "failure",
        "error",
        "error",
    ]
    assert suite.find("properties/property").attrib == {"name": "seed", "value": "7"}
    told = [case.findtext("system-out").splitlines()[-1] for case in suite.findall("testcase")]
    assert told == [f"repeat with: prodpatterns run {file} --target ours --seed 7" for file in files]
    events = [json.loads(line) for line in (tmp_path / "e.jsonl").read_text().splitlines()]
    assert {"entered", "armed", "fired", "rollback-failed"} <= {event["kind"] for event in events}


def test_junit_numbers_repetitions(call, tmp_path) -> None:
    twice, once = scenario(tmp_path, "held"), scenario(tmp_path, "not applicable")
    call("run", twice, "--repeat", 2, "--junit", "twice.xml")
    call("run", twice, once, "--junit", "once.xml")

    def names(file):
        return [case.get("name") for case in ET.parse(tmp_path / file).iter("testcase")]

    assert names("twice.xml") == [f"{twice} [ours] #1", f"{twice} [ours] #2"]
    assert names("once.xml") == [f"{twice} [ours]", f"{once} [ours]"]


def test_the_document_of_an_interrupted_run_says_so(call, tmp_path, monkeypatch) -> None:
    def interrupted(self, outcome):
        raise KeyboardInterrupt

    monkeypatch.setattr("pytest_prodpatterns.cli._console.JsonConsole.done", interrupted)
    code, out, _ = call("run", scenario(tmp_path, "held"), scenario(tmp_path, "deviated"), "--json")
    document = json.loads(out)
    assert (code, document["interrupted"], len(document["scenarios"])) == (130, True, 1)


def test_a_shared_breaker_and_a_breaker_in_place_of_a_factory_are_refused(
    call, tmp_path, monkeypatch
) -> None:
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "payments_of_one.py").write_text(
        "import pybreaker\n"
        "bank = pybreaker.CircuitBreaker()\n"
        "def shared(failure_threshold, recovery_timeout):\n"
        "    return bank\n"
    )
    told = (
        "Error: payments_of_one:bank is a CircuitBreaker, not a factory of breakers; write: def make_breaker("
        "*, failure_threshold, recovery_timeout, success_threshold): return CircuitBreaker(...)\n"
    )
    assert call("check", "breaker", "payments_of_one:bank") == (2, "", told)
    told = "Error: payments_of_one:shared returned the same breaker twice; each scenario needs a new one\n"
    assert call("check", "breaker", "payments_of_one:shared") == (2, "", told)


def test_one_scenario_leaves_one_journal_as_the_toolkit_does(call, tmp_path) -> None:
    call("run", scenario(tmp_path, "held"), "--journal", "j.json")
    assert json.loads((tmp_path / "j.json").read_text())["status"] == "completed"


def test_a_file_that_cannot_be_written_is_refused(call, tmp_path) -> None:
    code, _, err = call("run", scenario(tmp_path, "held"), "--journal", "nowhere/j.json")
    assert (code, err.splitlines()[-1]) == (
        2,
        "Error: cannot write nowhere/j.json: No such file or directory",
    )


def test_a_file_that_cannot_be_written_is_refused_before_anything_runs(call, tmp_path) -> None:
    code, out, _ = call("run", scenario(tmp_path, "held"), "--junit", "nowhere/j.xml")
    assert (code, out) == (2, "")


def test_what_a_target_prints_does_not_spoil_the_document(call, tmp_path, monkeypatch) -> None:
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "loud_breakers.py").write_text(
        "from pytest_prodpatterns import CircuitBreaker\n"
        "print('imported')\n"
        "def make(failure_threshold, recovery_timeout):\n"
        "    print('made')\n"
        "    return CircuitBreaker(failure_threshold, recovery_timeout, 1)\n"
    )
    code, out, err = call("run", "breaker/opens-at-threshold", "--target", "loud_breakers:make", "--json")
    assert (code, json.loads(out)["verdict"]) == (0, "held")
    assert set(err.split()) == {"imported", "made"}


def test_repetitions_are_counted_and_a_changed_verdict_is_told(call, tmp_path) -> None:
    fickle = tiny.write(tmp_path / "fickle.yaml", activity("fail_every_other_time", path=str(tmp_path / "n")))
    code, out, _ = call("run", scenario(tmp_path, "held"), fickle, "--repeat", 4, "--seed", 7)
    assert code == 3
    lines = out.splitlines()
    start = lines.index("8 runs of 2 scenarios against ours: 6 held, 2 not injected (seed 7)")
    assert lines[start + 1 : start + 3] == [
        "Same seed, another verdict, which points to a race:",
        f"  {fickle}: 2 held, 2 not injected",
    ]


def test_ctrl_c_before_a_run_begins_ends_with_130_too(call, monkeypatch) -> None:
    def interrupted(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr("pytest_prodpatterns.targets.resolve", interrupted)
    code, out, err = call("run", "breaker/recovers")
    assert (code, out, err) == (130, "", "Interrupted; nothing was running.\n")


def test_a_reader_that_leaves_early_causes_no_traceback(tmp_path) -> None:
    command = [*PROGRAM, "run", "breaker/wall-clock-*", "--seed", "7"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, cwd=tmp_path) as process:
        assert process.stdout is not None
        process.stdout.close()
        _, err = process.communicate(timeout=60)
    assert err == b""


def test_repeat_and_fail_fast(call, tmp_path) -> None:
    held, deviated = scenario(tmp_path, "held"), scenario(tmp_path, "deviated")
    document = json.loads(call("run", held, deviated, "--repeat", 3, "--fail-fast", "--json")[1])
    assert [entry["verdict"] for entry in document["scenarios"]] == ["held"] * 3 + ["deviated"]


def test_variables_are_set_and_unknown_ones_refused(call, tmp_path) -> None:
    configuration = tiny.experiment()["configuration"] | {"calls": 1}
    file = tiny.write(
        tmp_path / "one.yaml",
        activity("act", calls="${calls}"),
        configuration=configuration,
        steady_state_hypothesis=LATE,
    )
    assert call("run", file, "--var", "calls:int=9")[0] == 0
    assert call("run", file, "--var", "calls:int=8")[0] == 1
    code, out, err = call("run", file, "--var", "cals=9")
    assert (code, out) == (2, "")
    assert err == f"Error: {file} has no variable 'cals'; did you mean 'calls'?\n"
    assert "expected name=value" in call("run", file, "--var", "calls")[2]


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["run", "recover"], "did you mean 'breaker/recovers'?"),
        (
            ["run", "nosuch"],
            "Error: no scenario is called 'nosuch', and none matches it; `prodpatterns list`",
        ),
        (["run", "recovers"], "did you mean 'breaker/recovers'?"),
        (["run", "breaker/recover"], "did you mean 'breaker/recovers'?"),
        (["run", "breaker/nope"], "Error: no scenario is called 'breaker/nope', and none matches it; `prod"),
        (["run", "missing.yaml"], "Error: missing.yaml: cannot be read"),
        (["run", "--seed", "-1"], "a chaos seed is a whole number from 0"),
        (["run", "--repeat", "0"], "0 is not in the range"),
        (["run", "breaker/recovers", "--target", "pybraker"], "pybreaker"),
        (["run", "breaker/recovers", "--target", "nosuch_module:make"], "nosuch_module"),
        (["check", "braeker", "ours"], "no subject is called 'braeker'; did you mean 'breaker'?"),
        (["check", "breaker", "nosuch"], "circuitbreaker"),
        (["check", "breaker"], "Missing argument 'TARGET'"),
        (["explain", "recovers"], "did you mean 'breaker/recovers'?"),
        (["list", "nosuch"], "no scenario is called 'nosuch'"),
        (["lsit"], "No such command 'lsit'"),
    ],
)
def test_wrong_usage_ends_with_2_and_a_hint_and_prints_nothing_else(call, words, told) -> None:
    code, out, err = call(*words)
    assert (code, out) == (2, "")
    assert told in err


def test_an_invalid_file_stops_everything_before_it_begins(call, tmp_path) -> None:
    bad = tiny.write(tmp_path / "bad.yaml", activity("atc"))
    code, out, err = call("run", scenario(tmp_path, "held"), bad)
    assert (code, out) == (2, "")
    assert re.match(rf"^Error: {bad}:\d+: tiny has no function 'atc'; did you mean 'act'\?\n$", err)


def test_a_missing_library_names_the_package_to_install(call, monkeypatch) -> None:
    real = importlib.metadata.version

    def version(name: str) -> str:
        if name == "pybreaker":
            raise importlib.metadata.PackageNotFoundError(name)
        return real(name)

    monkeypatch.setattr(importlib.metadata, "version", version)
    code, out, err = call("check", "breaker", "pybreaker")
    assert (code, out) == (2, "")
    assert "python -m pip install pybreaker" in err


def test_check_is_a_report_card_of_every_scenario_of_the_subject(call) -> None:
    code, out, _ = call("check", "breaker", "ours", "--json")
    document = json.loads(out)
    assert code == 0, out
    assert {entry["subject"] for entry in document["scenarios"]} == {"breaker"}
    assert len(document["scenarios"]) >= 27


def test_the_user_s_own_target_is_found_where_the_command_is_called(tmp_path) -> None:
    (tmp_path / "mine.py").write_text(
        "from pytest_prodpatterns import CircuitBreaker\n"
        "def make(failure_threshold, recovery_timeout, success_threshold):\n"
        "    return CircuitBreaker(failure_threshold, recovery_timeout, success_threshold)\n"
    )
    command = Path(sys.executable).with_name("prodpatterns")
    done = subprocess.run(
        [command, "run", "breaker/recovers", "--target", "mine:make"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_processes_give_the_same_document_in_the_same_order(call, tmp_path, monkeypatch) -> None:
    monkeypatch.syspath_prepend(TINY)
    files = [scenario(tmp_path, verdict) for verdict in CODES]

    def rows(*options):
        code, out, _ = call("run", *files, "--seed", 7, "--json", *options)
        return code, [{**entry, "duration": 0} for entry in json.loads(out)["scenarios"]]

    assert rows("-j", 2) == rows()


def test_a_worker_that_dies_is_a_verdict_and_the_others_go_on(call, tmp_path, monkeypatch) -> None:
    monkeypatch.syspath_prepend(TINY)
    dies = tiny.write(tmp_path / "dies.yaml", activity("die"))
    files = [dies, scenario(tmp_path, "held"), scenario(tmp_path, "not applicable")]
    code, out, _ = call("run", *files, "-j", 2, "--json")
    found = [(entry["verdict"], entry["evidence"]) for entry in json.loads(out)["scenarios"]]
    lost = "the process that ran it was lost (killed by SIGKILL); nothing could be rolled back"
    assert (code, found[0]) == (4, ("rollback failed", lost))
    assert [verdict for verdict, _ in found[1:]] == ["held", "not applicable"]


@pytest.mark.parametrize(
    ("workers", "number", "told"),
    [
        (1, signal.SIGINT, "Ctrl-C"),
        (2, signal.SIGINT, "Ctrl-C"),
        (1, signal.SIGTERM, "SIGTERM"),
        (2, signal.SIGTERM, "Ctrl-C"),
    ],
)
def test_ctrl_c_rolls_back_says_so_and_ends_with_130(tmp_path, workers, number, told) -> None:
    broken, reached = tmp_path / "broken", tmp_path / "reached"
    broken.touch()
    os.mkfifo(reached)
    file = tiny.write(
        tmp_path / "one.yaml", activity("fault", undo=str(broken)), activity("hang", path=str(reached))
    )
    command = [*PROGRAM, "run", str(file), str(scenario(tmp_path, "held")), "-j", str(workers)]
    with started(command) as process:
        reached.read_text()  # opens once the method hangs
        process.send_signal(number)
        out, err = process.communicate(timeout=30)
    assert process.returncode == 130, out + err
    assert err == f"Interrupted during {file}; everything was rolled back.\n"
    assert not broken.exists()
    assert f"interrupted by {told}; everything was rolled back" in out


def test_ctrl_c_between_two_outcomes_lets_other_processes_roll_back(call, tmp_path, monkeypatch) -> None:
    monkeypatch.syspath_prepend(TINY)
    broken, reached = tmp_path / "broken", tmp_path / "reached"
    broken.touch()
    os.mkfifo(reached)
    hangs = tiny.write(
        tmp_path / "one.yaml", activity("fault", undo=str(broken)), activity("hang", path=str(reached))
    )

    def interrupted(self, outcome):
        if outcome.verdict == "held":
            reached.read_text()
            raise KeyboardInterrupt

    monkeypatch.setattr("pytest_prodpatterns.cli._console.Console.done", interrupted)
    code, _, err = call("run", hangs, scenario(tmp_path, "held"), "-j", 2)
    assert (code, err) == (130, f"Interrupted during {hangs}; everything was rolled back.\n")
    assert not broken.exists()


def test_a_terminal_gets_a_table(tmp_path) -> None:
    code, text = in_terminal([*PROGRAM, "run", str(scenario(tmp_path, "deviated"))], {"PYTHONPATH": TINY})
    assert code == 1
    plain = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", text)
    assert re.search(r"verdict +scenario +evidence", plain)
    assert "1 scenario against ours: 1 deviated" in plain
    assert "\x1b[1;31mdeviated" in text


def test_evidence_stands_below_the_name_where_the_terminal_is_narrow(tmp_path) -> None:
    name = "breaker/half-open-success-then-failure-reopens"
    _, text = in_terminal([*PROGRAM, "run", name], {"COLUMNS": "80"})
    lines = [line.rstrip() for line in re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", text).splitlines()]
    assert "verdict  scenario" in lines
    start = lines.index(f"held     {name}")
    assert lines[start + 1].startswith("         0 of 10 calls reached the dependency")
    assert all(len(line) <= 80 for line in lines[start:])


def test_no_color_is_respected(tmp_path) -> None:
    environment = {"PYTHONPATH": TINY, "NO_COLOR": "1"}
    _, text = in_terminal([*PROGRAM, "run", str(scenario(tmp_path, "deviated"))], environment)
    assert "deviated" in text
    assert not re.search(r"\x1b\[[0-9;]*3[0-7]m", text)


@contextlib.contextmanager
def started(command: list[str]):
    """Start a command that Ctrl-C can reach, in a session of its own; nothing of it outlives the block.

    Who runs the tests may ignore SIGINT (`nohup` does), and a child would inherit that.
    """
    with subprocess.Popen(
        command,
        env=os.environ | {"PYTHONPATH": TINY},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    ) as process:
        try:
            yield process
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)


def in_terminal(command: list[str], environment: dict[str, str]) -> tuple[int, str]:
    """Run a command on a terminal of its own; return its exit code and what it showed."""
    ours, theirs = pty.openpty()
    inherited = {name: value for name, value in os.environ.items() if name != "NO_COLOR"}
    settings = inherited | {"TERM": "xterm-256color", "COLUMNS": "160"} | environment
    with subprocess.Popen(command, stdout=theirs, stderr=theirs, stdin=theirs, env=settings) as process:
        os.close(theirs)
        shown = b""
        while True:
            try:
                data = os.read(ours, 4096)
            except OSError:  # the other end is closed
                break
            if not data:
                break
            shown += data
        os.close(ours)
        return process.wait(30), shown.decode()
