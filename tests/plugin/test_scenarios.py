"""Scenarios as tests: the packaged ones on request, `*.chaos.yaml` in the user's tree."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from pytest_prodpatterns.scenarios import packaged

NEVER = """
class Shut:
    "A breaker that never opens."

    def call(self, function, *arguments, **named):
        return function(*arguments, **named)


def make(failure_threshold, recovery_timeout, success_threshold):
    return Shut()
"""


def text_of(name: str) -> str:
    return packaged()[name].read_text(encoding="utf-8")


def test_without_an_option_no_packaged_scenario_is_collected(suite) -> None:
    suite.makepyfile("def test_one(): pass")
    suite.runpytest().assert_outcomes(passed=1)


def test_all_packaged_scenarios_are_collected_and_those_of_breakers_hold_on_ours(suite) -> None:
    result = suite.runpytest("--chaos-scenarios", "--collect-only", "-q")
    assert [line for line in result.stdout.lines if "scenarios::" in line] == [
        f"scenarios::{name}" for name in packaged()
    ]
    result = suite.runpytest(
        "--chaos-scenario=breaker/*", "-v"
    )  # the others take minutes: `prodpatterns run`
    result.assert_outcomes(passed=sum(name.startswith("breaker/") for name in packaged()))
    result.stdout.fnmatch_lines(["scenarios::breaker/recovers PASSED*"])


def test_a_scenario_that_does_not_apply_is_a_skip_with_the_reason(suite) -> None:
    result = suite.runpytest("--chaos-scenario=server/no-zombies", "-rs")
    result.assert_outcomes(skipped=1)
    result.stdout.fnmatch_lines(["SKIPPED*it has worker processes (--workers)"])


def test_scenarios_of_subjects_that_have_no_such_target_are_left_out(suite) -> None:
    breakers = [name for name in packaged() if name.startswith("breaker/")]
    result = suite.runpytest("--chaos-scenarios", "--chaos-target=circuitbreaker", "--collect-only", "-q")
    assert [line for line in result.stdout.lines if "scenarios::" in line] == [
        f"scenarios::{name}" for name in breakers
    ]
    asked = suite.runpytest("--chaos-scenario=pool/storm", "--chaos-target=circuitbreaker")
    assert asked.ret == pytest.ExitCode.USAGE_ERROR
    asked.stderr.fnmatch_lines(["ERROR: --chaos-target=circuitbreaker: unknown pool 'circuitbreaker'*"])


def test_globs_select_and_stand_beside_the_users_own_tests(suite) -> None:
    suite.makepyfile("def test_one(): pass")
    words = ("--chaos-scenario=breaker/wall-*", "--chaos-scenario=breaker/recovers")
    result = suite.runpytest(*words, "-v")
    result.assert_outcomes(passed=4)
    result.stdout.fnmatch_lines(["*::test_one PASSED*", "scenarios::breaker/wall-clock-back PASSED*"])
    suite.runpytest(*words, "-k", "forward").assert_outcomes(passed=1, deselected=3)


def test_a_file_in_the_tree_is_one_test(suite) -> None:
    Path("mine.chaos.yaml").write_text(text_of("breaker/recovers"), encoding="utf-8")
    Path("other.yaml").write_text("not: ours", encoding="utf-8")
    result = suite.runpytest("-v")
    result.assert_outcomes(passed=1)
    result.stdout.fnmatch_lines(["mine.chaos.yaml::A breaker recovers by itself PASSED*"])


def test_an_invalid_file_is_a_collection_error_that_tells_every_line(suite) -> None:
    spoiled = text_of("breaker/recovers").replace("rollbacks: {strategy", "rollback: {strategy")
    Path("bad.chaos.yaml").write_text(spoiled, encoding="utf-8")
    result = suite.runpytest()
    result.assert_outcomes(errors=1)
    result.stdout.re_match_lines(
        [r".*bad\.chaos\.yaml:\d+: unknown key 'rollback' in 'runtime'; did you mean"]
    )


def test_a_deviation_reads_well(suite) -> None:
    suite.makepyfile(never=NEVER)
    result = suite.runpytest_subprocess(
        "--chaos-scenario=breaker/opens-at-threshold", "--chaos-target=never:make", "--chaos-seed=7",
        "-p", "no:cacheprovider", "--import-mode=importlib", "-o", "pythonpath=.",
    )  # fmt: skip
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(
        [
            "deviated: 5 of 5 calls reached the dependency after the third failure; 0 expected",
            "scenario breaker/opens-at-threshold, target never:make, seed 7",
            "  broken  it is open after the third failure",
            "* events*",
            "*dependency:*entered*",
            "repeat with: prodpatterns run breaker/opens-at-threshold --target never:make --seed 7",
        ]
    )
    result.stdout.no_fnmatch_line("*scenarios.py:*")
    # A single attempt has no number; on a busy machine there may be more, and the last one is shown.
    assert set(re.findall(r"attempt=(\d)", result.stdout.str())) != {"1"}


def test_not_applicable_is_a_skip_with_the_reason(suite) -> None:
    pytest.importorskip("pybreaker")
    result = suite.runpytest(
        "--chaos-scenario=breaker/cancellation-does-not-open", "--chaos-target=pybreaker", "-rs"
    )
    result.assert_outcomes(skipped=1)
    result.stdout.fnmatch_lines(["SKIPPED*not applicable: pybreaker has no asyncio API*"])


@pytest.mark.parametrize(
    ("option", "told"),
    [
        (
            "--chaos-scenario=breaker/recover",
            "*--chaos-scenario: no scenario is called*did you mean 'breaker/recovers'?*",
        ),
        ("--chaos-scenario=recovers", "*did you mean 'breaker/recovers'?*"),
    ],
)
def test_an_unknown_scenario_is_a_usage_error(suite, option, told) -> None:
    result = suite.runpytest(option)
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines([told])


@pytest.mark.parametrize("asked", ["--chaos-scenarios", "--chaos-scenario=breaker/recovers"])
@pytest.mark.parametrize("spread", [(), ("-n", "2")])
def test_an_unknown_target_is_a_usage_error(suite, asked, spread) -> None:
    if spread:
        pytest.importorskip("xdist")
    result = suite.runpytest_subprocess(asked, "--chaos-target=nosuch", *spread)
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["ERROR: --chaos-target=nosuch: unknown breaker 'nosuch'*"])
    result.stdout.no_fnmatch_line("*collected*")


def test_a_factory_that_cannot_be_loaded_is_a_usage_error(suite) -> None:
    result = suite.runpytest("--chaos-scenarios", "--chaos-target=nosuch_module:make")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["ERROR: --chaos-target=nosuch_module:make: cannot load the factory*"])


def test_a_factory_may_stand_beside_the_test_modules(suite) -> None:
    module = Path("below/test_beside_a_factory.py")
    module.parent.mkdir()
    module.write_text("def test_one(): pass", encoding="utf-8")
    module.with_name("breakers_beside_tests.py").write_text(NEVER, encoding="utf-8")
    options = ("--chaos-scenario=breaker/opens-at-threshold", "--chaos-target=breakers_beside_tests:make")
    suite.runpytest_subprocess("below", *options).assert_outcomes(passed=1, failed=1)


def test_a_file_s_unknown_target_fails_without_a_chain_of_tracebacks(suite) -> None:
    Path("mine.chaos.yaml").write_text(text_of("breaker/recovers"), encoding="utf-8")
    result = suite.runpytest("--chaos-target=nosuch")
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["--chaos-target=nosuch: unknown breaker 'nosuch'*"])
    result.stdout.no_fnmatch_line("*Traceback*")
    result.stdout.no_fnmatch_line("*During handling*")


def test_a_target_that_nothing_attacks_is_told(suite) -> None:
    suite.makepyfile("def test_one(): pass")
    told = "--chaos-target=pybreaker attacks nothing: no scenario was asked for (--chaos-scenarios)"
    result = suite.runpytest("--chaos-target=pybreaker", "-W", "default")
    result.assert_outcomes(passed=1, warnings=1)
    result.stdout.fnmatch_lines([f"*PytestWarning: {told}"])
    strict = suite.runpytest("--chaos-target=pybreaker", "-W", "error")
    assert strict.ret == pytest.ExitCode.USAGE_ERROR
    strict.stderr.fnmatch_lines([f"ERROR: {told}"])


def test_events_and_seed_follow_the_options_of_the_plugin(suite) -> None:
    result = suite.runpytest(
        "--chaos-scenario=breaker/recovers", "--chaos-seed=7", "--chaos-events=events.jsonl"
    )
    result.assert_outcomes(passed=1)
    events = [json.loads(line) for line in Path("events.jsonl").read_text(encoding="utf-8").splitlines()]
    assert {event["test"] for event in events} == {"breaker/recovers"}
    assert "entered" in {event["kind"] for event in events}


def test_scenarios_spread_over_processes(suite) -> None:
    pytest.importorskip("xdist")
    result = suite.runpytest_subprocess("--chaos-scenario=breaker/open*", "-n", "2")
    result.assert_outcomes(passed=4)
