"""`ServerContract`: the packaged scenarios as tests of somebody's own server."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path

import pytest

from pytest_prodpatterns.scenarios import packaged

# What an inner run in this process loads must be loaded before, or there would be two of each: see conftest.
for module in (
    "chaoslib.experiment",
    "pytest_prodpatterns.contracts",
    "pytest_prodpatterns.faults.processes",
    "pytest_prodpatterns.scenarios.actions.server",
    "pytest_prodpatterns.scenarios.control",
    "pytest_prodpatterns.scenarios.probes.server",
    "pytest_prodpatterns.targets.server._driver",
    "pytest_prodpatterns.targets.server._target",
    "pytest_prodpatterns.targets.server.shutdown",
):
    importlib.import_module(module)

COUNT = sum(name.startswith("server/") for name in packaged())
SCRIPT = Path(__file__).parents[1] / "targets" / "shutdown_server.py"
WORDS = [sys.executable, "-S", str(SCRIPT), "{port}"]


def contract(name, body, *words, attributes=""):
    return f"""
    from pytest_prodpatterns import ServerContract, shutdown

    WORDS = {[*WORDS, *words]!r}

    class {name}(ServerContract):
        {attributes or "path = '/'"}

        def command(self):
            {body}
    """


def outcomes(suite, source, *args):
    suite.makepyfile(source)
    return suite.runpytest_inprocess("-p", "no:cacheprovider", *args)


def test_a_good_server_keeps_the_promises(suite):
    source = contract(
        "TestGood", "return WORDS", attributes='slow_path = "/slow={seconds}"; ready = "/ready"'
    )
    chosen = "sigterm-idle or sigterm-in-flight or listener-is-gone or no-orphans"
    outcomes(suite, source, "-k", chosen).assert_outcomes(passed=4, deselected=COUNT - 4)


def test_a_server_command_will_do_as_well(suite):
    body = "return shutdown.ServerCommand(argv=tuple(WORDS), slow_path='/slow={seconds}')"
    result = outcomes(suite, contract("TestCommand", body), "-k", "sigterm-in-flight")
    result.assert_outcomes(passed=1, deselected=COUNT - 1)


def test_a_scenario_that_does_not_apply_is_skipped_with_the_reason(suite):
    chosen = "sigterm-in-flight or sigterm-streaming"
    result = outcomes(suite, contract("TestPlain", "return WORDS"), "-rs", "-k", chosen)
    result.assert_outcomes(skipped=2, deselected=COUNT - 2)
    result.stdout.fnmatch_lines(["SKIPPED *needs to know: a path that takes a while to answer*"])


def test_a_deviation_fails_with_evidence_timeline_and_a_way_to_repeat_it(suite, monkeypatch):
    monkeypatch.setenv("COLUMNS", "300")
    source = contract("TestBad", "return WORDS", "cut", attributes='slow_path = "/slow={seconds}"')
    result = outcomes(suite, source, "-k", "sigterm-in-flight", "--chaos-seed=7")
    result.assert_outcomes(failed=1, deselected=COUNT - 1)
    result.stdout.fnmatch_lines(
        [
            "deviated: *",
            "broken promise: what is in flight is completed",
            "what it does, and why it matters: prodpatterns explain server/sigterm-in-flight",
            "*server:TestBad*signalled*",
            "repeat with: pytest *test_scenario?server/sigterm-in-flight?*--chaos-seed=7*",
            "FAILED *::test_scenario[[]server/sigterm-in-flight[]] - *deviated: *",
        ]
    )
    result.stdout.no_fnmatch_line("*contracts/_server.py*")


def test_the_contract_itself_is_no_test_where_it_is_imported(suite):
    source = "from pytest_prodpatterns import ServerContract\n\ndef test_one(): pass"
    outcomes(suite, source).assert_outcomes(passed=1)


def test_a_contract_without_command_says_so(suite):
    source = """
    from pytest_prodpatterns import ServerContract

    class TestNothing(ServerContract):
        pass
    """
    result = outcomes(suite, source, "-k", "sigterm-idle")
    result.assert_outcomes(failed=1, deselected=COUNT - 1)
    assert (
        "TestNothing has to define command(self), which returns the words of a command" in result.stdout.lines
    )
    result.stdout.no_fnmatch_line("*NotImplementedError*")


@pytest.mark.parametrize(
    ("body", "attributes", "complaint"),
    [
        ("WORDS", "", "command() returned None; is a `return` missing?"),
        ("return 'uvicorn app:app'", "", "command must be a list of words, not 'uvicorn app:app'*"),
        ("return []", "", "command must have words; it is empty"),
        ("return WORDS", "slow_path = 'slow'", "slow-path must be a path that begins with /, not 'slow'"),
        ("return WORDS", "drain = -1", "drain must be a number of seconds above 0, not -1"),
        ("return WORDS", "ready = 'soon'", "ready must be *, not 'soon'"),
        ("return WORDS", "env = {'A': 1}", "env: A must be a text, not 1"),
    ],
)
def test_what_is_no_server_is_told_apart_from_one_that_deviates(suite, body, attributes, complaint):
    source = contract("TestOdd", body, attributes=attributes)
    result = outcomes(suite, source, "-k", "sigterm-idle")
    result.assert_outcomes(failed=1, deselected=COUNT - 1)
    result.stdout.fnmatch_lines([f"TestOdd: {complaint}"])
    result.stdout.no_fnmatch_line("*During handling*")


def test_environment_and_directory_are_those_of_the_class(suite):
    code = "import os, runpy; assert os.environ['COLOUR'] == 'blue'; runpy.run_path('server.py')"
    suite.makefile(".py", server=SCRIPT.read_text())
    source = f"""
    import sys
    from pytest_prodpatterns import ServerContract

    class TestPlace(ServerContract):
        cwd = {str(suite.path)!r}
        env = {{"COLOUR": "blue"}}

        def command(self):
            return [sys.executable, "-c", {code!r}, "{{port}}"]
    """
    suite.makepyfile(test_place=source)
    result = suite.runpytest_inprocess("-p", "no:cacheprovider", "-k", "sigterm-idle", "test_place.py")
    result.assert_outcomes(passed=1, deselected=COUNT - 1)


def test_each_scenario_is_one_test_item_with_its_name(suite):
    result = outcomes(suite, contract("TestGood", "return WORDS"), "--collect-only", "-q")
    result.stdout.fnmatch_lines(["*::TestGood::test_scenario?server/sigterm-in-flight?"])
    assert len([line for line in result.outlines if "test_scenario" in line]) == COUNT
