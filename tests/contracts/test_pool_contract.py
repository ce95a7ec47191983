"""`WorkerPoolContract`: the packaged scenarios as tests of somebody's own pool."""

from __future__ import annotations

import importlib

import pytest

from pytest_prodpatterns.scenarios import packaged

# What an inner run in this process loads must be loaded before, or there would be two of each: see conftest.
for module in (
    "chaoslib.experiment",
    "pytest_prodpatterns.contracts",
    "pytest_prodpatterns.faults.processes",
    "pytest_prodpatterns.scenarios.actions.pool",
    "pytest_prodpatterns.scenarios.control",
    "pytest_prodpatterns.scenarios.probes.pool",
    "pytest_prodpatterns.targets.pool._target",
):
    importlib.import_module(module)

COUNT = sum(name.startswith("pool/") for name in packaged())

OURS = """
    from pytest_prodpatterns.contracts import WorkerPoolContract
    from pytest_prodpatterns.patterns.pool import WorkerPool, retry

    class TestOurPool(WorkerPoolContract):
        def make_executor(self, *, num_workers, max_queue_size=1000, when_full, queue_timeout=None, retries):
            return WorkerPool(
                num_workers, max_queue_size, when_full=when_full, queue_timeout=queue_timeout,
                on_crash=retry(retries) if retries else "fail",
            )
"""

PLAIN = """
    import concurrent.futures
    from pytest_prodpatterns.contracts import WorkerPoolContract

    class TestPlain(WorkerPoolContract):
        def make_executor(self, *, max_workers):
            return concurrent.futures.ProcessPoolExecutor(max_workers)
"""


def outcomes(suite, source, *args):
    suite.makepyfile(source)
    return suite.runpytest_inprocess("-p", "no:cacheprovider", *args)


def test_our_pool_keeps_the_promises(suite):
    chosen = "sigkill-mid-task or queue-full-rejects or poison or two-argument or drains"
    outcomes(suite, OURS, "-k", chosen).assert_outcomes(passed=5, deselected=COUNT - 5)


def test_a_scenario_that_does_not_apply_is_skipped_with_the_reason(suite):
    result = outcomes(suite, PLAIN, "-rs", "-k", "queue-full-blocks or task-timeout or initializer-fails")
    result.assert_outcomes(skipped=3, deselected=COUNT - 3)
    result.stdout.fnmatch_lines(["*ProcessPoolExecutor accepts any number of tasks"])
    result.stdout.fnmatch_lines(["*TestPlain takes no initializer and initargs"])


def test_a_deviation_fails_with_evidence_timeline_and_a_way_to_repeat_it(suite, monkeypatch):
    monkeypatch.setenv("COLUMNS", "300")
    result = outcomes(suite, PLAIN, "-k", "os-exit", "--chaos-seed=7")
    result.assert_outcomes(failed=1, deselected=COUNT - 1)
    result.stdout.fnmatch_lines(
        [
            "deviated: 0 of 11 callers got their answer beside it and queued behind it; 11 expected *",
            "broken promise: the task in the other worker and those in the queue succeed",
            "what it does, and why it matters: prodpatterns explain pool/os-exit",
            "*caller:exit_now*returned*",
            "*fault:exit_now*fired*",
            "repeat with: pytest *test_scenario?pool/os-exit?*--chaos-seed=7*",
            "FAILED *::test_scenario[[]pool/os-exit[]] - *deviated: *",
        ]
    )
    result.stdout.no_fnmatch_line("*_pool.py*")


def test_the_contract_itself_is_no_test_where_it_is_imported(suite):
    source = "from pytest_prodpatterns.contracts import WorkerPoolContract\n\ndef test_one(): pass"
    outcomes(suite, source).assert_outcomes(passed=1)


def test_a_contract_without_make_executor_says_so(suite):
    source = """
    from pytest_prodpatterns.contracts import WorkerPoolContract

    class TestNothing(WorkerPoolContract):
        pass
    """
    result = outcomes(suite, source, "-k", "os-exit")
    result.assert_outcomes(failed=1, deselected=COUNT - 1)
    reason = "TestNothing has to define make_executor(self, *, num_workers, max_queue_size)"
    assert reason in result.stdout.lines
    result.stdout.no_fnmatch_line("*NotImplementedError*")


@pytest.mark.parametrize(
    ("body", "complaint"),
    [
        ("raise OSError('no room')", "*TestOdd raised OSError('no room')*"),
        ("return None", "TestOdd returned None; expected an Executor (is a `return` missing?)"),
        ("return 7", "TestOdd returned something of type int; expected an Executor, which has submit(*"),
    ],
)
def test_what_is_no_executor_is_told_apart_from_one_that_deviates(suite, body, complaint):
    source = f"""
    from pytest_prodpatterns.contracts import WorkerPoolContract

    class TestOdd(WorkerPoolContract):
        def make_executor(self, *, num_workers):
            {body}
    """
    result = outcomes(suite, source, "-k", "os-exit")
    result.assert_outcomes(failed=1, deselected=COUNT - 1)
    result.stdout.fnmatch_lines([complaint])
    result.stdout.no_fnmatch_line("*During handling*")


def test_a_class_is_looked_at_once_whatever_the_number_of_scenarios(suite):
    suite.makeconftest(
        """
        import pytest
        from pytest_prodpatterns.targets.pool import _target

        looked = []

        @pytest.fixture(autouse=True)
        def watch(monkeypatch):
            look = _target._inspected
            monkeypatch.setattr(_target, "_inspected", lambda *a, **k: looked.append(1) or look(*a, **k))

        def pytest_terminal_summary(terminalreporter):
            terminalreporter.write_line(f"looked {len(looked)} times")
        """
    )
    result = outcomes(suite, PLAIN, "-k", "two-callers or unpicklable-result")
    result.assert_outcomes(passed=2, deselected=COUNT - 2)
    result.stdout.fnmatch_lines(["looked 1 times"])


def test_each_scenario_is_one_test_item_with_its_name(suite):
    result = outcomes(suite, PLAIN, "--collect-only", "-q")
    result.stdout.fnmatch_lines(["*::TestPlain::test_scenario?pool/sigkill-mid-task?"])
