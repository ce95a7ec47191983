"""Faults to the workers of a pool: ours or a stranger's, chosen by what they do, or by the seed."""

from __future__ import annotations

import contextlib
import multiprocessing
import signal
import subprocess
import threading
import time
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass

import pytest
from processes_support import state, until

from pytest_prodpatterns.faults import processes
from pytest_prodpatterns.faults.processes import NoEffect, Worker
from pytest_prodpatterns.lab import ChaosLab, HasWorkers, WorkerInfo

SOON = 15


@dataclass
class Place:
    pid: int
    state: str


class Pool:
    """As little of a pool as is needed: it says what its workers do."""

    name = "pool-1"

    def __init__(self, *states):
        self.children = [subprocess.Popen(["sleep", "60"]) for _ in states]
        self.places = [Place(child.pid, state) for child, state in zip(self.children, states, strict=True)]

    def workers(self):
        return tuple(self.places)

    def close(self):
        for child in self.children:
            child.kill()
            child.wait()


@pytest.fixture
def make_pool():
    with contextlib.ExitStack() as stack:

        def make(*states):
            return stack.enter_context(contextlib.closing(Pool(*states)))

        yield make


def test_a_pool_that_tells_is_recognised(make_pool):
    pool = make_pool("busy", "idle")
    assert isinstance(pool, HasWorkers)
    assert isinstance(pool.workers()[0], WorkerInfo)
    assert processes.workers(pool) == tuple(Worker(each.pid, each.state) for each in pool.places)


@pytest.mark.parametrize(("which", "place"), [("busy", 1), ("idle", 0)])
def test_the_worker_that_was_meant_is_killed(make_pool, which, place):
    pool = make_pool("idle", "busy", "starting")
    with ChaosLab(1, strict=True) as lab:
        struck = processes.kill_worker(pool, which)
        assert lab.never_fired() == []
    assert struck.pid == pool.places[place].pid
    assert [state(each.pid) == "Z" for each in pool.places] == [place == 0, place == 1, False]
    armed, fired = lab.timeline
    assert armed.attributes["description"] == f"SIGKILL to pid {struck.pid}, a worker ({which}) of pool-1"
    assert fired.attributes == {"pid": struck.pid, "signal": "SIGKILL"}


def test_any_signal_will_do(make_pool):
    pool = make_pool("busy")
    assert processes.kill_worker(pool, signal="SIGTERM").signal == "SIGTERM"
    processes.wait(pool.children[0])
    assert pool.children[0].wait() == -signal.SIGTERM


def test_all_workers_of_this_moment_are_struck_but_those_who_leave_anyway(make_pool):
    pool = make_pool("idle", "stopping", "busy", "starting")
    stopped = processes.stop_worker(pool, "all")
    assert [each.pid for each in stopped] == [pool.places[place].pid for place in (0, 2, 3)]
    assert [state(each.pid) == "T" for each in pool.places] == [True, False, True, True]
    for each in stopped:
        each.cont()
    struck = processes.kill_worker(pool, "all")
    assert [each.pid for each in struck] == [each.pid for each in stopped]


def test_a_stopped_worker_goes_on_at_the_end(make_pool):
    pool = make_pool("busy")
    with ChaosLab(1):
        processes.stop_worker(pool)
        assert state(pool.places[0].pid) == "T"
    assert state(pool.places[0].pid) in "RSD"
    with processes.stop_worker(pool) as stopped:
        assert state(stopped.pid) == "T"
    assert state(pool.places[0].pid) in "RSD"


@pytest.mark.parametrize(("seed", "others"), [(1, 2), (1234, 3)])
def test_the_seed_decides_at_random(make_pool, seed, others):
    def chosen():
        with ChaosLab(seed, "test"):
            return [places.index(processes.worker(pool, "random").pid) for _ in range(20)]

    pool = make_pool("busy", "idle", "starting")
    places = [place.pid for place in pool.places]
    first = chosen()
    assert chosen() == first
    assert set(first) == {0, 1, 2}
    with ChaosLab(others, "test"):
        assert [places.index(processes.worker(pool, "random").pid) for _ in range(20)] != first


def test_it_waits_for_a_worker_that_fits(make_pool):
    pool = make_pool("idle")
    timer = threading.Timer(0.05, lambda: setattr(pool.places[0], "state", "busy"))
    timer.start()
    assert processes.worker(pool).state == "busy"
    timer.join()


def test_a_worker_that_has_left_meanwhile_is_no_victim(make_pool):
    pool = make_pool("busy", "busy")
    gone, here = pool.children
    gone.kill()
    until(lambda: state(gone.pid) == "Z", "it has ended")
    assert processes.workers(pool) == (Worker(here.pid, "busy"),)
    assert processes.kill_worker(pool).pid == here.pid


def test_a_worker_that_ends_between_the_look_and_the_strike_is_passed_over(make_pool, monkeypatch):
    pool = make_pool("busy", "busy")
    monkeypatch.setattr("pytest_prodpatterns.faults._processes_pools.alive", lambda _pid: True)
    for child in pool.children[:1]:
        child.kill()
        child.wait()
    struck = processes.kill_worker(pool, "all")
    assert [each.pid for each in struck] == [pool.children[1].pid]


def test_no_worker_that_fits_in_time(make_pool):
    pool = make_pool("idle", "idle")
    first, second = (place.pid for place in pool.places)
    message = rf"^kill_worker\(\): no worker was busy in pool-1 in time: {first} idle, {second} idle$"
    with pytest.raises(NoEffect, match=message):
        processes.kill_worker(pool, deadline=0.02)
    message = r"^stop_worker\(\): there was no worker in pool-1 in time: it has no living worker$"
    with pytest.raises(NoEffect, match=message):
        processes.stop_worker(make_pool(), "random", deadline=0.02)


def test_a_worker_is_a_target_of_everything_else(make_pool):
    pool = make_pool("busy")
    with processes.throttle(processes.worker(pool)) as throttled:
        assert throttled.pid == pool.places[0].pid
    processes.kill_tree(processes.worker(pool))


@pytest.mark.parametrize("verb", [processes.kill_worker, processes.stop_worker, processes.worker])
def test_a_wrong_word_is_named(make_pool, verb):
    every = "" if verb is processes.worker else ", 'all'"
    message = rf"^{verb.__name__}\(\): which must be one of 'busy', 'idle', 'random'{every}, not 'bussy'$"
    with pytest.raises(ValueError, match=message):
        verb(make_pool("busy"), "bussy")


def test_a_signal_that_stops_is_not_for_killing(make_pool):
    with pytest.raises(ValueError, match=r"^kill_worker\(\): SIGSTOP stops a process; use stop"):
        processes.kill_worker(make_pool("busy"), signal="SIGSTOP")


@pytest.mark.parametrize("thing", [object(), 3, "pool"])
def test_what_is_no_pool_is_named(thing):
    message = (
        r"^cannot tell which processes are the workers of .*: give it a method workers\(\) .* or pass a list"
    )
    with pytest.raises(TypeError, match=message):
        processes.kill_worker(thing)


def test_threads_are_no_workers_to_kill():
    with ThreadPoolExecutor(1) as pool, pytest.raises(TypeError, match=r"^cannot tell which processes"):
        processes.kill_worker(pool)


def test_a_list_of_processes_is_a_pool(make_pool):
    pool = make_pool("busy", "busy")
    assert {each.pid for each in processes.kill_worker(pool.children, "all")} == {
        each.pid for each in pool.places
    }


# --- pools of the standard library ------------------------------------------------------------------------


@pytest.fixture(params=["fork", "forkserver", "spawn"])
def executor(request):
    with ProcessPoolExecutor(2, mp_context=multiprocessing.get_context(request.param)) as pool:
        yield pool


@pytest.fixture
def mp_pool():
    with multiprocessing.get_context("fork").Pool(2) as pool:
        yield pool


def test_workers_of_an_executor(executor):
    with pytest.raises(
        NoEffect, match=r"^worker\(\): no worker was idle in the ProcessPoolExecutor in time: it has no"
    ):
        processes.worker(executor, "idle", deadline=0.02)
    list(executor.map(abs, range(4)))
    assert {each.state for each in processes.workers(executor)} == {"idle"}
    # a third, for CPython's manager does not watch the worker that the last submit started
    waits = [executor.submit(time.sleep, 60) for _ in range(3)]
    struck = processes.kill_worker(executor)
    assert [type(each.exception(SOON)) for each in waits] == [BrokenProcessPool] * 3
    processes.wait(struck.pid)
    executor.shutdown()
    assert processes.workers(executor) == ()


def test_an_executor_that_does_not_show_which_of_its_workers_is_busy():
    with ProcessPoolExecutor(2, mp_context=multiprocessing.get_context("fork")) as pool:
        pool.submit(time.sleep, 60)
        message = (
            r"^kill_worker\(\): cannot tell which of the 2 workers of the ProcessPoolExecutor is busy: it has fewer"
            r" unfinished tasks than workers; take which='random' or 'all', or give every worker something to do$"
        )
        with pytest.raises(TypeError, match=message):
            processes.kill_worker(pool, deadline=0.02)
        assert {each.signal for each in processes.kill_worker(pool, "all")} == {"SIGKILL"}


def test_workers_of_a_multiprocessing_pool(mp_pool):
    mp_pool.map(abs, range(4))
    assert [each.state for each in processes.workers(mp_pool)] == ["idle", "idle"]
    waits = mp_pool.map_async(time.sleep, [0, 0, 60, 60], chunksize=1)
    with processes.stop_worker(mp_pool, "busy") as stopped:
        assert state(stopped.pid) == "T"
    assert not waits.ready()  # and no kill: this pool hangs when its idle worker dies
