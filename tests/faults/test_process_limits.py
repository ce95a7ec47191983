"""Processes that get less: of the time (throttle), of the memory (oom, starve), or of calls (crash_at)."""

from __future__ import annotations

import json
import math
import multiprocessing
import os
import pickle
import resource
import subprocess
import sys
import textwrap
import time
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path

import pytest
from processes_support import Script, state, until

from pytest_prodpatterns.faults import patch_flaky, processes, raises
from pytest_prodpatterns.lab import ChaosLab, guard

SOON = 15
MIB = 1 << 20
ALLOCATE = """
try:
    bytearray(int(line))
except MemoryError:
    print("out of memory", flush=True)
else:
    print("got it", flush=True)
"""


# --- time ------------------------------------------------------------------------------------------------


def cpu_seconds(pid):
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def test_a_throttled_process_stands_still_most_of_the_time():
    with Script(
        "import threading; threading.Thread(target=lambda: [None for _ in iter(int, 1)], daemon=True).start()"
    ) as script:
        with processes.throttle(script, 0.1, period=0.05) as throttled:
            assert throttled.pid == script.pid
            until(lambda: throttled.turns > 3, "it takes turns")
            begin, used = time.monotonic(), cpu_seconds(script.pid)
            until(lambda: throttled.turns > 20, "it takes turns")
            passed = time.monotonic() - begin
            assert passed > 17 * 0.05 * 0.95, "it stood still for 0.045 s in each turn"
            assert (cpu_seconds(script.pid) - used) / passed < 0.5
            assert len(guard()) == 1
        assert state(script.pid) in "RSD"
        assert len(guard()) == 0


def test_a_throttled_process_answers_all_the_same():
    with (
        Script(each_line="print('here', flush=True)") as script,
        processes.throttle(script, 0.2, period=0.02),
    ):
        assert [script.ask() for _ in range(5)] == ["here"] * 5


def test_the_lab_ends_the_throttling():
    with Script() as script, ChaosLab(1, strict=True) as lab:
        throttled = processes.throttle(script, period=0.02)
        assert lab.never_fired() == []
        lab.undo.run()
        turns = throttled.turns
        assert state(script.pid) in "RSD"
        throttled.cont()
        assert throttled.turns == turns
    assert [event.kind for event in lab.timeline] == ["armed", "fired", "undone"]
    assert lab.timeline.events[0].attributes["description"] == f"pid {script.pid} gets 0.2 of each 0.02 s"


def test_a_process_may_end_while_it_is_throttled():
    with Script() as script, processes.throttle(script, period=0.02):
        processes.kill(script)
    assert len(guard()) == 0


def test_cont_ends_the_throttling():
    with Script() as script:
        throttled = processes.throttle(script, period=0.02)
        processes.cont(script)
        assert not throttled._thread.is_alive()
        assert state(script.pid) in "RSD"


@pytest.mark.parametrize(
    ("arguments", "kind", "message"),
    [
        ({"share": 0}, ValueError, r"share must be a number above 0 and below 1, not 0$"),
        ({"share": 1}, ValueError, r"share must be a number above 0 and below 1, not 1$"),
        ({"share": math.nan}, ValueError, r"share must be a number above 0 and below 1, not nan$"),
        ({"share": "0.2"}, TypeError, r"share must be a number above 0 and below 1, not '0.2'$"),
        ({"share": True}, TypeError, r"share must be a number above 0 and below 1, not True$"),
        ({"period": 0}, ValueError, r"period must be seconds from 0.01 to 60, not 0$"),
        ({"period": math.inf}, ValueError, r"period must be seconds from 0.01 to 60, not inf$"),
    ],
)
def test_a_wrong_turn_is_named(arguments, kind, message):
    with Script() as script, pytest.raises(kind, match=rf"^throttle\(\): {message}"):
        processes.throttle(script, **arguments)


# --- memory ----------------------------------------------------------------------------------------------


def test_a_starved_process_gets_no_memory_until_it_is_relented():
    with Script(each_line=ALLOCATE) as script, ChaosLab(1, strict=True) as lab:
        before = resource.prlimit(script.pid, resource.RLIMIT_AS)
        assert script.ask(64 * MIB) == "got it"
        with processes.starve(script, headroom=16 * MIB) as starved:
            assert (starved.pid, starved.signal) == (script.pid, "RLIMIT_AS")
            assert script.ask(64 * MIB) == "out of memory"
            assert script.ask(1 * MIB) == "got it"
        assert script.ask(64 * MIB) == "got it"
        assert resource.prlimit(script.pid, resource.RLIMIT_AS) == before
        processes.starve(script)
        assert script.ask(64 * MIB) == "out of memory"
        assert lab.never_fired() == []
        lab.undo.run()
        assert script.ask(64 * MIB) == "got it"


def test_a_starved_process_may_end():
    with Script() as script, processes.starve(script):
        processes.kill(script)


def test_a_child_is_born_with_a_limit(tmp_path):
    with ChaosLab(1, strict=True) as lab:
        with Script(each_line=ALLOCATE, preexec_fn=processes.oom(512 * MIB)) as script:
            assert resource.prlimit(script.pid, resource.RLIMIT_AS)[0] == 512 * MIB
            assert script.ask(600 * MIB) == "out of memory"
        assert lab.never_fired() == []
        (fired,) = lab.timeline.where("fault:oom", "fired")
        assert fired.attributes == {"pid": script.pid, "limit": 512 * MIB}


@pytest.mark.parametrize("method", ["fork", "forkserver"])
def test_the_workers_of_a_pool_have_a_limit(method):
    with ChaosLab(1, strict=True) as lab:
        context = multiprocessing.get_context(method)
        with ProcessPoolExecutor(1, mp_context=context, initializer=processes.oom(1024 * MIB)) as pool:
            assert isinstance(pool.submit(bytearray, 1500 * MIB).exception(SOON), MemoryError)
            assert pool.submit(abs, -1).result(SOON) == 1
        assert lab.never_fired() == []


def test_the_limit_is_not_for_this_process():
    limit = processes.oom(512 * MIB)
    with pytest.raises(
        RuntimeError, match=r"^oom\(\): the limit is for a child process, and this is its parent;"
    ):
        limit()
    assert resource.getrlimit(resource.RLIMIT_AS)[0] != 512 * MIB


@pytest.mark.parametrize(
    ("call", "kind", "message"),
    [
        (lambda: processes.oom(0), ValueError, r"^oom\(\): limit must be at least 1 bytes, not 0$"),
        (lambda: processes.oom("1G"), TypeError, r"^oom\(\): limit must be a number of bytes, not '1G'$"),
        (lambda: processes.oom(1.5), TypeError, r"^oom\(\): limit must be a number of bytes, not 1.5$"),
        (
            lambda: processes.starve(2, headroom=-1),
            ValueError,
            r"^starve\(\): headroom must be at least 0 bytes, not -1$",
        ),
    ],
)
def test_a_wrong_limit_is_named(call, kind, message):
    with pytest.raises(kind, match=message):
        call()


# --- crashes ---------------------------------------------------------------------------------------------


def double(number):
    """Return twice as much."""
    return 2 * number


@pytest.mark.parametrize("method", ["fork", "forkserver", "spawn"])
def test_a_task_ends_its_process_at_the_nth_call(method):
    with ChaosLab(1, strict=True) as lab:
        crashing = processes.crash_at(double, call=3, exit_code=7)
        with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context(method)) as pool:
            assert [pool.submit(crashing, number).result(SOON) for number in (1, 2)] == [2, 4]
            worker = processes.worker(pool, "random")
            assert isinstance(pool.submit(crashing, 3).exception(SOON), BrokenProcessPool)
        assert lab.never_fired() == []
        (fired,) = lab.timeline.where("fault:double", "fired")
        assert fired.attributes == {"call": 3, "pid": worker.pid, "exit_code": 7}


def test_each_process_counts_its_own_calls():
    crashing = processes.crash_at(double, call=2, exit_code=5)
    for _ in range(3):
        assert crashing(1) == 2  # here it does not count
        pid = os.fork()
        if pid == 0:
            crashing(1)
            crashing(1)
            os._exit(0)
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 5


def test_this_process_never_ends():
    with ChaosLab(1) as lab:
        crashing = processes.crash_at(double)
        assert [crashing(number) for number in range(3)] == [0, 2, 4]
        assert [fault.name for fault in lab.never_fired()] == ["double"]


def test_a_crashing_callable_looks_like_the_callable():
    crashing = processes.crash_at(double, call=2)
    assert (crashing.__name__, crashing.__doc__) == ("double", "Return twice as much.")
    assert crashing.fault.description == "os._exit(1) at call 2 in a child"
    copy = pickle.loads(pickle.dumps(crashing))
    assert copy(3) == 6
    assert copy.fault is None
    assert repr(copy) == "<double with os._exit(1) at call 2 in a child>"


def test_a_name_crashes_in_forked_children_until_it_is_undone():
    with ChaosLab(1, strict=True) as lab:
        with processes.crash_at("json:loads", call=2, exit_code=9) as patch:
            assert json.loads("1") == json.loads("1") == json.loads("1") == 1
            pid = os.fork()
            if pid == 0:
                json.loads("1")
                json.loads("1")
                os._exit(0)
            assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 9
            assert patch.place == "json:loads"
        assert lab.never_fired() == []
        assert [event.process for event in lab.timeline.where("fault:loads", "fired")] == [pid]


def test_a_fault_that_fires_in_a_child_only_has_fired():
    with ChaosLab(1) as lab:
        patch_flaky("textwrap:dedent", fault=raises(OSError))
        assert len(lab.never_fired()) == 1
        pid = os.fork()
        if pid == 0:
            try:
                textwrap.dedent("")
            finally:
                os._exit(0)
        os.waitpid(pid, 0)
        assert lab.never_fired() == []


@pytest.mark.parametrize(
    ("call", "kind", "message"),
    [
        (
            lambda: processes.crash_at(3),
            TypeError,
            r"target must be a function or 'module:attribute', not 3$",
        ),
        (
            lambda: processes.crash_at(double, call=0),
            ValueError,
            r"call must be a whole number from 1, not 0$",
        ),
        (
            lambda: processes.crash_at(double, call="1"),
            TypeError,
            r"call must be a whole number from 1, not '1'$",
        ),
        (
            lambda: processes.crash_at(double, exit_code=256),
            ValueError,
            r"exit_code must be a whole number from 0 to 255, not 256$",
        ),
        (
            lambda: processes.crash_at(double, exit_code=-9),
            ValueError,
            r"exit_code must be a whole number from 0 to 255, not -9$",
        ),
    ],
)
def test_a_wrong_crash_is_named(call, kind, message):
    with pytest.raises(kind, match=rf"^crash_at\(\): {message}"):
        call()


def test_the_limit_of_a_script_by_its_own_hand():
    code = "from pytest_prodpatterns.faults import processes\nprocesses.oom(1 << 30)()\n"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=30, check=False
    )
    assert "RuntimeError: oom(): the limit is for a child process" in done.stderr
