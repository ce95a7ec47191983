"""One seed a run: where it comes from, where it is told, and that it gives the same numbers again."""

from __future__ import annotations

import re

import pytest

DRAWS = """
import pytest
def test_draws(chaos):
    print(f"\\ndrawn {chaos.seed} {chaos.rng('load').random()}")
"""
HEADER = re.compile(r"^prodpatterns: chaos seed (\d+) \(repeat with --chaos-seed=\1\)$", re.MULTILINE)
DRAWN = re.compile(r"drawn (\d+) (\S+)")


def drawn(result: pytest.RunResult) -> tuple[str, str]:
    match = DRAWN.search(result.stdout.str())
    assert match is not None, result.stdout.str()
    return match[1], match[2]


@pytest.mark.parametrize(
    ("marker", "option", "ini", "expected"),
    [
        (1, 2, 3, 1),
        (1, 2, None, 1),
        (1, None, 3, 1),
        (1, None, None, 1),
        (0, 2, 3, 0),
        (None, 2, 3, 2),
        (None, 0, 3, 0),
        (None, 2, None, 2),
        (None, None, 3, 3),
        (None, None, 0, 0),
    ],
)
def test_the_marker_wins_over_the_option_over_the_ini_key(suite, marker, option, ini, expected):
    suite.makepyfile(DRAWS.replace("def ", f"@pytest.mark.chaos(seed={marker})\ndef "))
    options = [] if option is None else [f"--chaos-seed={option}"]
    keys = [] if ini is None else ["-o", f"chaos_seed={ini}"]
    result = suite.runpytest_inprocess("-s", *options, *keys)
    result.assert_outcomes(passed=1)
    assert drawn(result)[0] == str(expected)


def test_a_fresh_seed_is_drawn_each_run_and_told_in_the_header(suite):
    suite.makepyfile(DRAWS)
    first, second = suite.runpytest_inprocess("-s"), suite.runpytest_inprocess("-s")
    seeds = [HEADER.search(result.stdout.str())[1] for result in (first, second)]
    assert seeds == [drawn(first)[0], drawn(second)[0]]
    assert seeds[0] != seeds[1]


def test_the_marker_closest_to_the_test_wins_for_each_keyword_on_its_own(suite):
    suite.makepyfile(
        """
        import pytest
        pytestmark = pytest.mark.chaos(seed=1, strict=True)

        @pytest.mark.chaos(seed=2)
        class TestIt:
            def test_class(self, chaos):
                assert (chaos.seed, chaos.strict) == (2, True)

            @pytest.mark.chaos(seed=3, strict=False)
            def test_function(self, chaos):
                assert (chaos.seed, chaos.strict) == (3, False)

        def test_module(chaos):
            assert (chaos.seed, chaos.strict) == (1, True)
        """
    )
    suite.runpytest_inprocess().assert_outcomes(passed=3)


def test_last_repeats_the_run_before_with_the_same_draws(suite):
    suite.makepyfile(DRAWS)
    first = drawn(suite.runpytest_inprocess("-s"))
    assert drawn(suite.runpytest_inprocess("-s", "--chaos-seed=last")) == first
    assert drawn(suite.runpytest_inprocess("-s", "--chaos-seed=last")) == first, "last of last"


def test_last_works_in_the_ini_file_and_for_a_run_with_workers(suite):
    suite.makepyfile(DRAWS)
    first = suite.runpytest_subprocess("-n2")
    first.assert_outcomes(passed=1)
    seed = HEADER.search(first.stdout.str())[1]
    assert drawn(suite.runpytest_inprocess("-s", "-o", "chaos_seed=last"))[0] == seed


def test_workers_share_the_seed_of_the_controller(suite):
    suite.makepyfile(
        """
        import os, pathlib, pytest
        @pytest.mark.parametrize("n", range(8))
        def test_it(chaos, n):
            pathlib.Path(f"{n}.{chaos.seed}.{os.environ['PYTEST_XDIST_WORKER']}.seen").touch()
        """
    )
    result = suite.runpytest_subprocess("-n2")
    result.assert_outcomes(passed=8)
    seen = [path.name.split(".") for path in suite.path.glob("*.seen")]
    assert {seed for _, seed, _, _ in seen} == {HEADER.search(result.stdout.str())[1]}
    assert {worker for _, _, worker, _ in seen} == {"gw0", "gw1"}


def test_streams_depend_on_the_test_not_on_the_others_or_their_order(suite):
    suite.makepyfile(
        test_it="""
        def test_one(chaos):
            print(f"\\none {chaos.rng('load').random()}")
        def test_two(chaos):
            print(f"\\ntwo {chaos.rng('load').random()}")
        """
    )
    whole = suite.runpytest_inprocess("-s", "--chaos-seed=7").stdout.str()
    alone = suite.runpytest_inprocess("-s", "--chaos-seed=7", "test_it.py::test_two").stdout.str()
    draws = dict(re.findall(r"^(one|two) (\S+)", whole, re.MULTILINE))
    assert draws["one"] != draws["two"]
    assert f"two {draws['two']}" in alone


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (
            ["--chaos-seed=seven"],
            "ERROR: --chaos-seed: a chaos seed is a whole number from 0 to 4294967295, not 'seven', or 'last'",
        ),
        (
            ["--chaos-seed=-1"],
            "ERROR: --chaos-seed: a chaos seed is a whole number from 0 to 4294967295, not '-1', or 'last'",
        ),
        (
            ["-o", "chaos_seed=4294967296"],
            "ERROR: ini key chaos_seed: a chaos seed is a whole number from 0 to 4294967295, not '4294967296', or 'last'",
        ),
        (
            ["--chaos-seed=last"],
            "ERROR: --chaos-seed=last: no chaos test ran here before; give the seed as a number",
        ),
        (
            ["--chaos-seed=last", "-p", "no:cacheprovider"],
            "ERROR: --chaos-seed=last: pytest's cache is switched off; give the seed as a number",
        ),
    ],
)
def test_a_bad_seed_is_a_usage_error(suite, arguments, text):
    suite.makepyfile(DRAWS)
    result = suite.runpytest_inprocess(*arguments)
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    assert text in result.stderr.lines


@pytest.mark.parametrize(
    ("marker", "text"),
    [
        (
            "chaos(seed='x')",
            "bad marker chaos(seed='x'): a chaos seed is a whole number from 0 to 4294967295, not 'x'",
        ),
        ("chaos(strict='yes')", "bad marker chaos(strict='yes'): expected True or False"),
        ("chaos(sed=1)", "bad marker chaos(sed=…): it takes seed and strict"),
        ("chaos(1)", "bad marker chaos(1): it takes keyword arguments only"),
        ("circuit_breaker(3)", "bad marker circuit_breaker(3): it takes keyword arguments only"),
    ],
)
def test_a_bad_marker_fails_the_test_and_names_it(suite, marker, text):
    suite.makepyfile(
        test_it=f"""
        import pytest
        @pytest.mark.{marker}
        def test_marked(circuit_breaker): pass
        def test_plain(): pass
        """
    )
    result = suite.runpytest_inprocess()
    result.assert_outcomes(errors=1, passed=1)
    assert f"test_it.py::test_marked: {text}" in result.stdout.lines


def test_the_markers_are_registered_with_their_signatures(suite):
    result = suite.runpytest_inprocess("--markers")
    result.stdout.fnmatch_lines(
        ["@pytest.mark.chaos(seed=None, strict=None): *", "@pytest.mark.circuit_breaker([*][*]parameters): *"]
    )


def test_the_options_stand_in_one_group_of_the_help(suite):
    text = suite.runpytest_inprocess("--help").stdout.str()
    group = text.partition("\nprodpatterns: chaos labs, faults, scenarios:\n")[2]
    assert all(option in group for option in ("--chaos-seed=N|last", "--chaos-strict", "--chaos-events="))
