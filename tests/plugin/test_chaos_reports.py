"""What a report tells: the timeline of a failing test, how to repeat it, and the events file."""

from __future__ import annotations

import json
import re
import shlex
from collections import Counter

import pytest

FAILING = """
import pytest
from pytest_prodpatterns.lab import emit

@pytest.mark.parametrize("word", ["a b", "it's", "$HOME"])
def test_draws(chaos, word):
    chaos.inject("charge", "raises OSError", undo=lambda: None).fire(call=3)
    emit("breaker:payments", "transition", previous="closed", state="open", reason="5 consecutive failures")
    pytest.fail(f"drawn {chaos.rng('load').random()}", pytrace=False)

def test_passes(chaos):
    chaos.inject("charge", "raises OSError").fire()
"""
REPEAT = re.compile(r"^repeat with: (pytest .*)$", re.MULTILINE)
DRAWN = re.compile(r"^drawn (\S+)$", re.MULTILINE)


@pytest.mark.parametrize("workers", [[], ["-n2"]], ids=["one process", "xdist"])
def test_a_failing_test_shows_its_timeline_and_how_to_repeat_it(suite, workers):
    suite.makepyfile(test_it=FAILING)
    result = suite.runpytest_subprocess("--chaos-seed=42", "test_it.py::test_draws[it's]", *workers)
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(
        [
            "drawn *",
            "*- chaos timeline -*",
            "4 events",
            't+0.000s  fault:charge      armed       description="raises OSError"',
            "t+0.*s  fault:charge      fired       call=3",
            't+0.*s  breaker:payments  transition  closed -> open reason="5 consecutive failures"',
            't+0.*s  lab               undone      name="charge: raises OSError"',
            """repeat with: pytest 'test_it.py::test_draws[[]it'"'"'s[]]' --chaos-seed=42""",
        ],
        consecutive=True,
    )


def test_the_command_really_repeats_the_test_with_the_same_numbers(suite):
    suite.makepyfile(test_it=FAILING)
    first = suite.runpytest_subprocess("-n2")
    first.assert_outcomes(failed=3, passed=1)
    text = first.stdout.str()
    sections = re.findall(r"^drawn (\S+)$.*?^repeat with: pytest (.*?)$", text, re.MULTILINE | re.DOTALL)
    assert len(sections) == 3
    for drawn, command in sections:
        again = suite.runpytest_inprocess(*shlex.split(command))
        again.assert_outcomes(failed=1)
        assert DRAWN.findall(again.stdout.str()) == [drawn]


def test_the_command_is_right_from_another_directory(suite, monkeypatch):
    (suite.mkdir("tests") / "test_it.py").write_text(FAILING)
    monkeypatch.chdir(suite.mkdir("elsewhere"))
    first = suite.runpytest_inprocess("../tests", "-k", "HOME", "--chaos-strict")
    (command,) = REPEAT.findall(first.stdout.str())
    assert command.startswith("pytest '../tests/test_it.py::test_draws[$HOME]' --chaos-seed=")
    assert command.endswith(" --chaos-strict")
    again = suite.runpytest_inprocess(*shlex.split(command)[1:])
    assert DRAWN.findall(again.stdout.str()) == DRAWN.findall(first.stdout.str()) != []


def test_a_test_that_passes_or_has_no_lab_shows_nothing(suite):
    suite.makepyfile("def test_it(): assert 0\ndef test_lab(chaos): print('x')\n")
    text = suite.runpytest_inprocess("-rA").stdout.str()
    assert "chaos timeline" not in text
    assert "repeat with:" not in text.partition("test session starts")[2].partition("collected")[2]


def test_a_slip_without_an_event_shows_no_timeline_but_random_numbers_can_be_repeated(suite):
    suite.makepyfile(
        test_it="""
        import pytest
        @pytest.fixture
        def broken(chaos): return 1 + ""
        def test_set_up(broken): ...
        def test_slip(circuit_breaker): circuit_breaker.cal()
        def test_drawn(chaos): assert chaos.rng("load").random() < 0
        """
    )
    result = suite.runpytest_inprocess("--chaos-seed=7")
    result.assert_outcomes(failed=2, errors=1)
    assert "nothing happened" not in result.stdout.str()
    assert [
        line for line in result.outlines if "chaos timeline" in line or line.startswith("repeat with")
    ] == [
        "-------------------------------- chaos timeline --------------------------------",
        "repeat with: pytest test_it.py::test_drawn --chaos-seed=7",
    ]


def test_a_fault_that_never_fired_is_told_once(suite):
    suite.makepyfile(
        test_it="""
        def test_strict(chaos): chaos.inject("charge", "raises OSError")
        def test_fails_anyway(chaos):
            chaos.inject("refund", "raises OSError")
            assert 0
        """
    )
    result = suite.runpytest_inprocess("--chaos-strict", "-rN")
    result.assert_outcomes(failed=2)
    told = [line for line in result.outlines if "never fired" in line]
    assert told == [
        "fault never fired: charge (raises OSError)",
        "fault never fired: refund (raises OSError)",
    ]


@pytest.mark.parametrize("workers", [[], ["-n2"]], ids=["one process", "xdist"])
def test_the_events_of_all_tests_are_written_once(suite, workers):
    suite.makepyfile(
        test_it="""
        import os, pytest, subprocess, sys
        from pytest_prodpatterns.lab import emit
        @pytest.mark.parametrize("n", range(6))
        def test_it(chaos, n):
            emit("caller:me", "called", n=n, odd={1, 2}, text="ü")
            if n == 5:
                pid = os.fork()
                if pid == 0:
                    emit("caller:child", "called")
                    os._exit(0)
                os.waitpid(pid, 0)
                assert 0
        def test_without(): ...
        """
    )
    (suite.path / "events.jsonl").write_text("old\n")
    result = suite.runpytest_subprocess("--chaos-events=events.jsonl", *workers)
    result.assert_outcomes(passed=6, failed=1)
    lines = (suite.path / "events.jsonl").read_text(encoding="utf-8").splitlines()
    events = [json.loads(line) for line in lines]
    assert Counter(event["test"] for event in events) == {
        f"test_it.py::test_it[{n}]": 2 if n == 5 else 1 for n in range(6)
    }
    assert {
        (e["attributes"]["n"], e["attributes"]["text"]) for e in events if e["source"] == "caller:me"
    } == {(n, "ü") for n in range(6)}
    assert set(events[0]) == {"seq", "at", "real", "process", "test", "source", "kind", "attributes"}


def test_the_events_path_of_the_option_is_relative_to_here_that_of_the_ini_key_to_the_root(
    suite, monkeypatch
):
    suite.makepyfile("def test_it(chaos): chaos.inject('a', 'b').fire()")
    monkeypatch.chdir(suite.mkdir("here"))
    suite.runpytest_inprocess("..", "--chaos-events=o.jsonl", "-o", "chaos_events=no.jsonl").assert_outcomes(
        passed=1
    )
    suite.runpytest_inprocess("..", "-o", "chaos_events=i.jsonl").assert_outcomes(passed=1)
    found = sorted(str(path.relative_to(suite.path)) for path in suite.path.rglob("*.jsonl"))
    assert found == ["here/o.jsonl", "i.jsonl"]
    assert len((suite.path / "i.jsonl").read_text().splitlines()) == 2


def test_an_events_file_that_cannot_be_written_is_a_usage_error(suite):
    result = suite.runpytest_inprocess("--chaos-events=no/such/place.jsonl")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(
        ["ERROR: --chaos-events: cannot write *place.jsonl: No such file or directory"]
    )


def test_workers_report_faults_that_never_fired_to_the_controller(suite):
    suite.makepyfile(
        test_it="""
        import pytest
        @pytest.mark.parametrize("n", range(4))
        def test_it(chaos, n): chaos.inject(f"charge-{n}", "raises OSError")
        """
    )
    result = suite.runpytest_subprocess("-n2")
    result.assert_outcomes(passed=4)
    text = result.stdout.str().partition("chaos: faults that never fired")[2]
    told = re.findall(r"^test_it\.py::test_it\[(\d)\]: charge-\1 \(raises OSError\)$", text, re.MULTILINE)
    assert sorted(told) == ["0", "1", "2", "3"]


def test_the_plugin_works_without_xdist_cache_and_terminal(suite):
    suite.makepyfile("def test_it(chaos): chaos.inject('a', 'b')")
    result = suite.runpytest_subprocess("-p", "no:xdist", "-p", "no:cacheprovider", "-p", "no:terminal")
    assert result.ret == 0


@pytest.mark.parametrize("workers", ["-n0", "-n1"])
def test_attributes_that_no_file_takes_break_no_report(suite, workers):
    suite.makepyfile(
        r"""
        from pytest_prodpatterns.lab import emit
        def test_it(chaos):
            emit("a:b", "c", text="\udc80", keys={(1, 2): 3})
            assert False
        """
    )
    result = suite.runpytest_subprocess("--chaos-events=e.jsonl", workers)
    result.assert_outcomes(failed=1)
    assert json.loads((suite.path / "e.jsonl").read_text())["attributes"]["keys"] == "{(1, 2): 3}"
