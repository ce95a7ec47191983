"""The lab of a test: who has one, and that its faults are undone whatever happens."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

LEDGER = """
import os, pathlib, pytest

def note(word):
    with open("ledger", "a") as file:
        file.write(word + "\\n")
"""


def ledger(suite: pytest.Pytester) -> list[str]:
    path = suite.path / "ledger"
    return path.read_text().split() if path.exists() else []


@pytest.mark.parametrize(
    ("test", "expected"),
    [
        ("def test_it(chaos): ...", True),
        ("@pytest.mark.chaos\ndef test_it(): ...", True),
        ("@pytest.mark.chaos\nclass TestIt:\n    def test_it(self): ...", True),
        ("@pytest.fixture\ndef mine(chaos): ...\n\ndef test_it(mine): ...", True),
        ("def test_it(request): request.getfixturevalue('chaos')", True),
        ("def test_it(tmp_path): ...", False),
        ("@pytest.mark.skip\ndef test_it(chaos): ...", False),
    ],
)
def test_a_test_has_a_lab_when_it_says_so(suite, test, expected):
    suite.makepyfile(f"import pytest\n\n{test}")
    suite.makeconftest(
        """
        import sys, pytest
        @pytest.hookimpl(wrapper=True, trylast=True)
        def pytest_runtest_teardown(item):
            lab = sys.modules.get("pytest_prodpatterns.lab")
            current = lab and lab.current_lab()
            print("\\nlab:", current and current.test)
            return (yield)
        """
    )
    result = suite.runpytest_subprocess("-s")
    assert result.ret == 0
    lines = [line for line in result.stdout.lines if line.startswith("lab:")]
    assert lines[0].endswith("::test_it") == expected, lines


def test_the_lab_knows_its_test_and_is_current(suite):
    suite.makepyfile(
        test_it="""
        import pytest
        from pytest_prodpatterns.lab import current_lab, emit
        @pytest.mark.parametrize("n", [1])
        def test_it(chaos, n):
            assert current_lab() is chaos
            assert chaos.test == "test_it.py::test_it[1]"
            emit("caller:me", "called")
            assert [event.kind for event in chaos.timeline] == ["called"]
        def test_after():
            assert current_lab() is None
        """
    )
    suite.runpytest_inprocess().assert_outcomes(passed=2)


def test_faults_are_undone_behind_the_body_and_before_the_fixtures_newest_first(suite):
    suite.makepyfile(
        LEDGER
        + """
@pytest.fixture
def component(chaos):
    yield
    note("component-down")
    chaos.inject("late", "by a fixture", undo=lambda: note("undo-late")).fire()

def test_it(component, chaos):
    chaos.inject("a", "", undo=lambda: note("undo-a")).fire()
    chaos.inject("b", "", undo=lambda: note("undo-b")).fire()
    note("body")
"""
    )
    suite.runpytest_inprocess().assert_outcomes(passed=1)
    assert ledger(suite) == ["body", "undo-b", "undo-a", "component-down", "undo-late"]


@pytest.mark.parametrize("body", ["assert 0", "pytest.skip('x')", "pytest.xfail('x')", "raise OSError"])
def test_faults_are_undone_however_the_body_ends(suite, body):
    suite.makepyfile(
        LEDGER + f"def test_it(chaos):\n    chaos.on_undo('x', lambda: note('undone'))\n    {body}\n"
    )
    suite.runpytest_inprocess()
    assert ledger(suite) == ["undone"]


def test_faults_are_undone_when_setup_failed(suite):
    suite.makepyfile(
        LEDGER
        + """
@pytest.fixture
def component():
    yield
    note("component-down")

@pytest.fixture
def broken(chaos, component):
    chaos.inject("a", "", undo=lambda: note("undo")).fire()
    raise OSError("no disk")

def test_it(broken): ...
"""
    )
    result = suite.runpytest_inprocess()
    result.assert_outcomes(errors=1)
    result.stdout.fnmatch_lines(["*- chaos timeline -*", "*fault:a*armed*"])
    assert ledger(suite) == ["undo", "component-down"]


def test_one_undo_that_fails_stops_no_other_and_fails_the_test_by_name(suite):
    suite.makepyfile(
        LEDGER
        + """
def fail():
    raise OSError("no such process")

def test_it(chaos):
    chaos.inject("a", "first", undo=lambda: note("undo-a")).fire()
    chaos.inject("b", "second", undo=fail).fire()
    chaos.inject("c", "third", undo=lambda: note("undo-c")).fire()

def test_next(chaos): ...
"""
    )
    result = suite.runpytest_inprocess()
    result.assert_outcomes(passed=2, errors=1)
    assert ledger(suite) == ["undo-c", "undo-a"]
    result.stdout.fnmatch_lines(
        [
            "*ERROR at teardown of test_it*",
            "1 fault could not be undone:",
            "OSError: no such process",
            "while undoing b: second",
            "*- chaos timeline -*",
            "*rollback-failed*b: second*",
        ]
    )


def test_a_failed_rollback_is_told_beside_a_fixture_that_fails_too(suite):
    suite.makepyfile(
        """
        import pytest
        @pytest.fixture
        def component(chaos):
            yield
            raise RuntimeError("stuck")
        def test_it(component, chaos):
            chaos.on_undo("the proxy", lambda: 1 / 0)
        """
    )
    result = suite.runpytest_inprocess()
    result.assert_outcomes(passed=1, errors=1)
    text = result.stdout.str()
    assert "RuntimeError: stuck" in text
    assert "1 fault could not be undone:" in text
    assert "while undoing the proxy" in text


def test_a_test_that_is_run_again_gets_a_new_lab(suite):
    suite.makeconftest(
        """
        from _pytest.runner import runtestprotocol
        def pytest_runtest_protocol(item, nextitem):
            for _ in range(2):
                item._initrequest()
                runtestprotocol(item, nextitem=nextitem)
            return True
        """
    )
    suite.makepyfile("def test_it(chaos):\n    assert not chaos.faults\n    chaos.inject('a', 'b').fire()\n")
    suite.runpytest_inprocess().assert_outcomes(passed=2)


def test_a_fault_that_never_fired_is_listed(suite):
    suite.makepyfile(test_it="def test_it(chaos): chaos.inject('charge', 'raises OSError')")
    result = suite.runpytest_inprocess()
    result.assert_outcomes(passed=1)
    result.stdout.fnmatch_lines(
        ["*= chaos: faults that never fired =*", "test_it.py::test_it: charge (raises OSError)"]
    )


def test_a_fault_that_fired_is_not_listed(suite):
    suite.makepyfile(test_it="def test_it(chaos): chaos.inject('charge', 'raises OSError').fire()")
    assert "never fired" not in suite.runpytest_inprocess("--chaos-strict").stdout.str()


@pytest.mark.parametrize(
    ("arguments", "marker", "outcome"),
    [
        (["--chaos-strict"], "chaos", "failed"),
        (["-o", "chaos_strict=true"], "chaos", "failed"),
        ([], "chaos(strict=True)", "failed"),
        (["--chaos-strict"], "chaos(strict=False)", "passed"),
        (["-o", "chaos_strict=true"], "chaos(strict=False)", "passed"),
        (["-o", "chaos_strict=false"], "chaos", "passed"),
        (["--chaos-strict", "-o", "chaos_strict=false"], "chaos", "failed"),
    ],
)
def test_under_strict_a_fault_that_never_fired_fails_the_test(suite, arguments, marker, outcome):
    suite.makepyfile(
        f"import pytest\n@pytest.mark.{marker}\n"
        "def test_it(chaos):\n    chaos.inject('charge', 'raises OSError')\n    chaos.inject('x', 'y').fire()\n"
    )
    result = suite.runpytest_inprocess(*arguments)
    result.assert_outcomes(**{outcome: 1})
    assert ("fault never fired: charge (raises OSError)" in result.stdout.lines) == (outcome == "failed")


def test_strict_does_not_hide_why_a_test_failed(suite):
    suite.makepyfile("def test_it(chaos):\n    chaos.inject('charge', 'x')\n    assert 1 == 2\n")
    result = suite.runpytest_inprocess("--chaos-strict")
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["E*assert 1 == 2", "*- chaos timeline -*", "fault never fired: charge (x)"])


def wait_for(suite: pytest.Pytester, word: str) -> None:
    deadline = time.monotonic() + 30
    while word not in ledger(suite):
        assert time.monotonic() < deadline, f"{word} never came"
        time.sleep(0.01)


@pytest.mark.parametrize("where", ["body", "setup"])
def test_ctrl_c_undoes_before_the_fixtures_are_torn_down(suite, where):
    suite.makepyfile(
        LEDGER
        + f"""
import threading

@pytest.fixture
def component(chaos):
    chaos.inject("a", "", undo=lambda: note("undo")).fire()
    yield
    note("component-down")

@pytest.fixture
def second(component):
    if {where!r} == "setup":
        hang()

def hang():
    note("ready")
    threading.Event().wait(30)

def test_it(second):
    hang()
"""
    )
    process = subprocess.Popen(
        [sys.executable, "-m", "pytest", "-q"],
        cwd=suite.path,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )
    wait_for(suite, "ready")
    process.send_signal(signal.SIGINT)
    output, _ = process.communicate(timeout=30)
    assert process.returncode == pytest.ExitCode.INTERRUPTED, output.decode()
    assert ledger(suite) == ["ready", "undo", "component-down"]


def test_a_rollback_that_fails_behind_ctrl_c_is_told(suite):
    suite.makepyfile(
        test_it="""
        def test_it(chaos):
            chaos.on_undo("the proxy", lambda: 1 / 0)
            raise KeyboardInterrupt
        """
    )
    result = suite.runpytest_subprocess()
    assert result.ret == pytest.ExitCode.INTERRUPTED
    result.stdout.fnmatch_lines(
        ["test_it.py::test_it: 1 fault could not be undone:", "while undoing the proxy"]
    )


@pytest.mark.parametrize("func_only", [False, True])
def test_the_signal_method_of_pytest_timeout_undoes(suite, func_only):
    pytest.importorskip("pytest_timeout")
    suite.makepyfile(
        LEDGER
        + f"""
import threading
@pytest.fixture
def component(chaos):
    yield
    note("component-down")

@pytest.mark.timeout(0.3, method="signal", func_only={func_only})
def test_it(component, chaos):
    chaos.inject("a", "", undo=lambda: note("undo")).fire()
    threading.Event().wait(30)

def test_next(chaos): ...
"""
    )
    result = suite.runpytest_subprocess()
    result.assert_outcomes(failed=1, passed=1)
    result.stdout.fnmatch_lines(["*Timeout*", "*- chaos timeline -*", "*fault:a*fired*"])
    assert ledger(suite) == ["undo", "component-down"]


def test_a_timeout_in_the_middle_of_an_undo_runs_the_others_and_the_fixtures(suite):
    pytest.importorskip("pytest_timeout")
    suite.makepyfile(
        LEDGER
        + """
import threading
@pytest.fixture
def component(chaos):
    yield
    note("component-down")

@pytest.mark.timeout(0.3, method="signal")
def test_it(component, chaos):
    chaos.on_undo("first", lambda: note("undo"))
    chaos.on_undo("hangs", lambda: threading.Event().wait(30))

def test_next(chaos): ...
"""
    )
    result = suite.runpytest_subprocess()
    result.assert_outcomes(failed=1, passed=1)
    assert ledger(suite) == ["undo", "component-down"]


def gone(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] in "ZX"
    except FileNotFoundError:
        return True


@pytest.mark.parametrize("death", ["timeout", "exit", "kill"])
def test_the_reaper_cleans_up_when_nothing_in_the_process_can(suite, death):
    if death == "timeout":
        pytest.importorskip("pytest_timeout")
    bodies = {
        "timeout": "threading.Event().wait(30)",
        "exit": "os._exit(3)",
        "kill": "os.kill(os.getpid(), signal.SIGKILL)",
    }
    suite.makepyfile(
        LEDGER
        + f"""
import signal, subprocess, sys, threading
from pytest_prodpatterns.lab import guard

@pytest.mark.timeout(0.5, method="thread")
def test_it(chaos):
    process = subprocess.Popen(["sleep", "60"])
    guard().started(process.pid)
    guard().stopped(process.pid)
    process.send_signal(signal.SIGSTOP)
    note(str(process.pid))
    {bodies[death]}
"""
    )
    result = suite.runpytest_subprocess()
    assert result.ret not in {0, pytest.ExitCode.TESTS_FAILED} or death == "timeout"
    (pid,) = map(int, ledger(suite))
    deadline = time.monotonic() + 10
    try:
        while not gone(pid):
            assert time.monotonic() < deadline, "the reaper did not kill what the test had started"
            time.sleep(0.01)
    finally:
        if not gone(pid):
            os.kill(pid, signal.SIGKILL)


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (
            [],
            "nothing runs this async test: mark it with @pytest.mark.asyncio, or with @pytest.mark.virtual_time *",
        ),
        (["-p", "no:asyncio"], "async def functions are not natively supported."),
    ],
)
def test_an_async_test_that_nobody_runs_fails_with_advice(suite, options, told):
    suite.makefile(".ini", pytest="[pytest]")  # ours has keys of pytest-asyncio
    suite.makepyfile("async def test_it(circuit_breaker): ...")
    result = suite.runpytest_subprocess(*options)
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["*_ test_it _*", told])


def test_a_foreign_async_test_that_nobody_runs_is_left_to_pytest(suite):
    suite.makepyfile("async def test_it(): ...")
    result = suite.runpytest_inprocess()
    result.stdout.fnmatch_lines(["async def functions are not natively supported."])


def test_a_failure_that_reads_like_pytests_own_advice_stays(suite):
    suite.makepyfile(
        """
        import pytest
        def test_it(chaos): pytest.fail("other trouble")
        """
    )
    suite.runpytest_inprocess().stdout.fnmatch_lines(["E*Failed: other trouble"])
