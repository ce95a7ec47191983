"""The fixtures `worker_pool`, `make_worker_pool`, `process_faults` and `full_queue`, and the option `--chaos-pool`."""

from __future__ import annotations

import importlib.util
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

HEAD = """
import os, pathlib, signal, time
import pytest

def note(*pids):
    with open("pids.txt", "a") as file:
        file.writelines(f"{pid}\\n" for pid in pids)
"""


@pytest.fixture
def run(suite):
    """Run tests in a process of their own: pools have threads and children."""

    def run(code: str, *arguments: str, timeout: float = 60):
        suite.makepyfile(HEAD + code)
        return suite.runpytest_subprocess(*arguments, timeout=timeout)

    return run


def noted(suite) -> list[int]:
    return [int(line) for line in (suite.path / "pids.txt").read_text().split()]


def state(pid: int) -> str:
    """Return the letter of a process: R, S, T (stopped), Z; X when it is gone."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return "X"


def alive(pid: int) -> bool:
    return state(pid) not in "ZX"


def until(condition, what):
    deadline = time.monotonic() + 15
    while not condition():
        assert time.monotonic() < deadline, what
        time.sleep(0.01)


def test_given_parameters_win_over_the_marker_over_the_settings(all_at_once):
    cases = [
        (None, "", "", 2),
        ({"num_workers": 1}, "", "", 1),
        (None, "num_workers=3", "", 3),
        ({"num_workers": 1}, "num_workers=3", "", 3),
        ({"num_workers": 1}, "num_workers=3", "num_workers=4", 4),
        ({"num_workers": 1}, "", "num_workers=4", 4),
    ]
    override = "@pytest.fixture\ndef worker_pool_settings():\n    return {!r}\n"
    all_at_once(
        HEAD
        + (override.format(settings) if settings else "")
        + f"""
@pytest.mark.worker_pool({marker})
def test_it(make_worker_pool):
    assert make_worker_pool({given}).num_workers == {workers}
"""
        for settings, marker, given, workers in cases
    ).assert_outcomes(passed=len(cases))


def test_pools_are_started_and_numbered_and_told_in_the_timeline(run):
    result = run(
        """
def test_it(chaos, worker_pool, make_worker_pool, worker_pool_settings):
    assert worker_pool_settings == {"num_workers": 2, "max_queue_size": 100}
    assert (worker_pool.num_workers, worker_pool.max_queue_size) == (2, 100)
    other, named = make_worker_pool(), make_worker_pool(name="thumbnails")
    assert [pool.name for pool in (worker_pool, other, named)] == ["pool-1", "pool-2", "thumbnails"]
    sources = [event.source for event in chaos.timeline.where("pool", "started")]
    assert sources == ["pool:pool-1", "pool:pool-2", "pool:thumbnails"]
    assert named.submit(abs, -1).result(10) == 1
"""
    )
    result.assert_outcomes(passed=1)


UNKNOWN = "a worker pool has no parameter 'num_worker'; did you mean 'num_workers'? It takes num_workers, *"


BAD_PARAMETERS = [
    ("{}", "num_worker=3", "", f"marker worker_pool: {UNKNOWN}"),
    ("{'num_worker': 3}", "", "", f"fixture worker_pool_settings: {UNKNOWN}"),
    ("{}", "", "num_worker=3", f"make_worker_pool(): {UNKNOWN}"),
    ("{'num_workers': 0}", "", "", "fixture worker_pool_settings: *num_workers*0*"),
    ("{}", "num_workers=0", "", "marker worker_pool: *num_workers*0*"),
    ("None", "", "", "fixture worker_pool_settings must return a dict, not None"),
]


def test_a_bad_parameter_is_told_with_the_place_where_it_stands(told_with_its_place):
    told_with_its_place(
        BAD_PARAMETERS,
        lambda settings, marker, given: (
            f"""{HEAD}
@pytest.fixture
def worker_pool_settings(): return {settings}
@pytest.mark.worker_pool({marker})
def test_it({"make_" if given else ""}worker_pool):
    make_worker_pool({given})
"""
        ),
    )


def test_a_test_that_passed_leaves_its_pools_time_to_drain(run, suite):
    result = run(
        """
def test_it(worker_pool):
    for number in range(4):
        worker_pool.submit(slowly, number)
def slowly(number):
    time.sleep(0.2)
    open(f"{number}.txt", "w").close()
"""
    )
    result.assert_outcomes(passed=1)
    assert [(suite.path / f"{number}.txt").exists() for number in range(4)] == [True] * 4


STUCK = """
def stuck():
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    note(os.getpid())
    time.sleep(60)

def living():
    pids = pathlib.Path("pids.txt").read_text().split()
    return [pid for pid in pids if os.path.exists(f"/proc/{pid}")]

def start(pool):
    for _ in range(2):
        pool.submit(stuck)
    while not os.path.exists("pids.txt") or len(pathlib.Path("pids.txt").read_text().split()) < 2:
        time.sleep(0.01)
"""


@pytest.mark.parametrize(
    "body",
    [
        "assert False",
        "raise KeyboardInterrupt",
        "pytest.fail('no')",
    ],
)
def test_the_pools_of_a_failed_test_are_gone_at_once(run, suite, body):
    result = run(
        STUCK
        + f"""
@pytest.fixture(autouse=True)
def clock():
    yield
    with open("ended.txt", "w") as file:
        file.write(f"{{time.monotonic() - began[0]}} {{len(living())}}")

began = []

def test_it(clock, worker_pool):
    start(worker_pool)
    began.append(time.monotonic())
    {body}
"""
    )
    assert result.ret != 0
    seconds, left = (suite.path / "ended.txt").read_text().split()
    assert float(seconds) < 1.5
    assert left == "0"


def test_immune_tasks_of_a_test_that_passed_are_gone_in_the_end(run, suite):
    run(STUCK + "def test_it(worker_pool):\n    start(worker_pool)\n").assert_outcomes(passed=1)
    assert not any(alive(pid) for pid in noted(suite))


def test_a_failed_setup_leaves_no_pool(run, suite):
    result = run(
        """
@pytest.fixture
def bad(worker_pool):
    note(worker_pool.submit(os.getpid).result(10))
    raise RuntimeError("no")

def test_it(bad): ...
"""
    )
    result.assert_outcomes(errors=1)
    assert noted(suite)
    assert not any(alive(pid) for pid in noted(suite))


def test_faults_end_before_the_pools_do(run):
    result = run(
        """
def test_it(chaos, worker_pool, process_faults, full_queue):
    full_queue(worker_pool)
    process_faults.stop_worker(worker_pool, "all")
    assert len(chaos.undo) == 3

def test_after(worker_pool):
    assert worker_pool.submit(abs, -1).result(10) == 1
""",
        "--chaos-strict",
    )
    result.assert_outcomes(passed=2)


def test_process_faults_are_bound_to_the_lab_of_the_test(run):
    result = run(
        """
@pytest.mark.chaos(seed=7)
def test_it(chaos, worker_pool, process_faults):
    future = worker_pool.submit(time.sleep, 60)
    struck = process_faults.kill_worker(worker_pool)
    assert future.exception(10).pid == struck.pid
    fired = chaos.timeline.where("fault:kill_worker", "fired")
    assert [event.attributes["pid"] for event in fired] == [struck.pid]
    died = chaos.timeline.where("pool", "worker-died")
    assert fired[0].seq < died[0].seq
""",
        "--chaos-strict",
    )
    result.assert_outcomes(passed=1)


def test_full_queue_is_let_go_before_the_fixtures_go_down(run):
    result = run(
        """
import queue
@pytest.fixture
def jobs():
    target = queue.Queue(2)
    yield target
    target.put_nowait("there is a place")

def test_it(jobs, full_queue):
    full_queue(jobs)
    with pytest.raises(queue.Full):
        jobs.put_nowait("more")
""",
        "--chaos-strict",
    )
    result.assert_outcomes(passed=1)


def test_a_stopped_process_goes_on_when_pytest_is_killed(suite):
    suite.makepyfile(
        HEAD
        + """
import subprocess
def test_it(process_faults):
    child = subprocess.Popen(["sleep", "60"])
    process_faults.stop(child)
    note(child.pid)
    time.sleep(60)
"""
    )
    pytest_run = subprocess.Popen(
        [sys.executable, "-m", "pytest", "-q"], cwd=suite.path, stdout=subprocess.DEVNULL
    )
    until(lambda: (suite.path / "pids.txt").exists() and noted(suite), "it runs")
    assert state(noted(suite)[0]) == "T"
    (child,) = noted(suite)
    pytest_run.kill()
    pytest_run.wait()
    try:
        until(lambda: state(child) in "RSD", "the reaper continues it")
    finally:
        os.kill(child, signal.SIGKILL)


# --- dask ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "ini", "place"),
    [(["--chaos-pool=dask"], "", "--chaos-pool"), ([], "dask", "ini key chaos_pool")],
)
def test_dask_that_is_not_installed_is_a_usage_error(suite, arguments, ini, place):
    suite.makepyfile(
        test_it="def test_it(): ...",
        hide="""
        import importlib.util
        real = importlib.util.find_spec
        importlib.util.find_spec = lambda name, *rest: None if name == "distributed" else real(name, *rest)
        """,
    )
    if ini:
        set_ini(suite, ini)
    suite.syspathinsert()
    result = suite.runpytest_subprocess("-p", "hide", *arguments)
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(
        [f'ERROR: {place}=dask: dask.distributed is not installed; install it with: *[[]dask]"']
    )


def set_ini(suite, kind):
    with (suite.path / "pytest.ini").open("a") as file:
        file.write(f"\nchaos_pool = {kind}\n")


def test_another_kind_of_pool_is_a_usage_error(suite):
    suite.makepyfile("def test_it(): ...")
    result = suite.runpytest_subprocess("--chaos-pool=ray")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["*--chaos-pool: invalid choice: 'ray'*"])
    set_ini(suite, "ray")
    result = suite.runpytest_subprocess()
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["ERROR: ini key chaos_pool: expected local or dask, not 'ray'"])


@pytest.mark.skipif(importlib.util.find_spec("distributed") is None, reason="distributed is not installed")
def test_pools_run_on_one_cluster(run):
    result = run(
        """
def test_one(worker_pool, process_faults):
    assert worker_pool.submit(abs, -1).result(20) == 1
    assert len(worker_pool.workers()) == 2
    note(*(each.pid for each in worker_pool.workers()))

def test_two(worker_pool, full_queue):
    assert {each.pid for each in worker_pool.workers()} == set(map(int, pathlib.Path("pids.txt").read_text().split()))
    with full_queue(worker_pool):
        pass
    assert worker_pool.submit(abs, -1).result(20) == 1
""",
        "--chaos-pool=dask",
        "-W",
        "ignore",
        timeout=120,
    )
    result.assert_outcomes(passed=2)
