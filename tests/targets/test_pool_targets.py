"""Each pool that we know, driven through its host: right answers, clean ends, deaths that are told."""

from __future__ import annotations

import os
import signal
import time

import pytest

from pytest_prodpatterns import targets
from pytest_prodpatterns.lab import ChaosLab
from pytest_prodpatterns.targets import TargetError
from pytest_prodpatterns.targets._host import HostDied, HostHung, start_time
from pytest_prodpatterns.targets.pool import PoolSettings
from pytest_prodpatterns.targets.pool._driver import NoSuchWorker, PoolDriver


@pytest.fixture
def lab():
    with ChaosLab(1, "pools") as lab:
        yield lab


@pytest.fixture
def driven(lab):
    """Return a function that starts a pool and hands out its driver."""
    drivers = []

    def start(name="ppe-fork", **settings):
        try:
            target = targets.resolve("pool", name)
        except TargetError as error:
            pytest.skip(str(error))
        driver = PoolDriver(target, lab)
        drivers.append(driver)
        assert driver.start(PoolSettings(**settings), deadline=60)
        return driver

    yield start
    for driver in drivers:
        host = driver.host
        members = [] if host is None else host.descendants()
        driver.close()
        assert not [member for member in members if member.lives]
        assert host is None or start_time(host.pid) is None
        assert host is None or not host.directory.exists()


def answers(lab, phase):
    return [event.attributes for event in lab.timeline.where("caller", "returned", phase=phase)]


def outcomes(lab, phase):
    return [answer["outcome"] for answer in answers(lab, phase)]


@pytest.mark.parametrize("name", targets.known("pool"))
def test_it_answers_and_leaves_nothing_behind(name, driven, lab):
    driver = driven(name)
    assert len(driver.warm_up(2, deadline=60)) == 2
    driver.submit("echo", 5, "echo", ["a", 1])
    assert driver.await_returned("echo", deadline=30)
    assert [answer["value"] for answer in answers(lab, "echo")] == ["['a', 1]"] * 5
    assert outcomes(lab, "echo") == ["ok"] * 5
    driver.submit("raises", 1, "error", "boo")
    assert driver.await_returned("error", deadline=30)
    [answer] = answers(lab, "error")
    assert (answer["outcome"], answer["where"], answer["error"]) == ("raised", "result", "ValueError")
    assert "boo" in answer["text"]
    assert driver.shutdown(patience=30) == "ok"
    driver.close()


@pytest.mark.parametrize("name", targets.known("pool"))
def test_a_killed_worker_never_hangs_the_driver(name, driven, lab):
    driver = driven(name, workers=2)
    driver.submit("hold", 1, "victim")
    assert driver.await_entered("victim", 1, deadline=60) == 1
    [pid] = driver.busy_workers("victim")
    assert driver.kill("busy", phase="victim") == pid
    assert pid not in driver.worker_pids()
    driver.release("victim")
    began = time.monotonic()
    driver.await_returned("victim", deadline=0.5)
    assert time.monotonic() - began < 5


def test_events_carry_call_phase_and_pid(driven, lab):
    driver = driven()
    [call] = driver.submit("tell_pid", 1, "who")
    assert driver.await_returned("who")
    [entered] = lab.timeline.where("dependency:tell_pid", "entered")
    assert entered.attributes == {"call": call, "phase": "who", "pid": entered.process}
    [answer] = answers(lab, "who")
    assert answer["value"] == entered.process
    kinds = {event.kind for event in lab.timeline if event.attributes.get("call") == call}
    assert kinds == {"called", "accepted", "entered", "left", "returned"}


def test_numbers_of_calls_are_unique_over_callers_and_phases(driven, lab):
    driver = driven()
    first = driver.submit("work", 3, "a", callers=2)
    second = driver.submit("work", 2, "b")
    assert (first, second) == ([1, 2, 3, 4, 5, 6], [7, 8])
    assert driver.await_returned(["a", "b"])
    assert sorted(answer["value"] for answer in answers(lab, "a")) == first


def test_a_wrong_answer_is_told(lab):
    from concurrent.futures import Future

    from pytest_prodpatterns.targets.pool._calls import Call

    class Liar:
        full_errors = staticmethod(tuple)

    future = Future()
    future.set_result("b")
    Call(1, "echo", "lie", ["a"]).make(lambda *args: future, Liar(), "")
    assert outcomes(lab, "lie") == ["wrong"]


def test_who_gets_no_answer_hangs_and_that_is_told_once(driven, lab):
    driver = driven()
    driver.submit("hold", 1, "stuck")
    assert not driver.await_returned("stuck", deadline=0.1)
    assert not driver.await_returned("stuck", deadline=0.1)
    [hung] = lab.timeline.where("caller:hold", "hung")
    assert hung.attributes["phase"] == "stuck"
    driver.release("stuck")
    assert driver.await_returned("stuck")


def test_tasks_that_hold_are_let_go_by_phase(driven):
    driver = driven()
    driver.submit("hold", 1, "one")
    driver.submit("hold", 1, "two")
    assert driver.await_entered("one", 1) == driver.await_entered("two", 1) == 1
    assert len(driver.busy_workers()) == 2
    driver.release("one")
    assert driver.await_left("one", 1) == 1
    assert len(driver.busy_workers()) == len(driver.busy_workers("two")) == len(driver.idle_workers()) == 1
    driver.release("two")
    assert driver.await_returned(["one", "two"])


def test_full_strength_is_counted_in_workers_that_hold_at_once(driven):
    driver = driven(workers=2)
    assert driver.await_strength(2, "strength") == 2
    assert driver.await_strength(2, "strength") == 2  # the same phase again
    assert driver.await_strength(3, "too many", deadline=0.3) == 2


def test_unless_a_worker_is_as_asked_there_is_none(driven):
    driver = driven()
    with pytest.raises(
        NoSuchWorker, match=r"^no busy worker in a task of 'x': 0 are known and live, 0 of them busy$"
    ):
        driver.kill("busy", phase="x")


def test_all_workers_can_be_struck_and_any_signal_sent(driven):
    driver = driven("ours")
    pids = driver.warm_up(2)
    driver.kill("all")
    assert not set(pids) & set(driver.worker_pids())
    successor = driver.warm_up(1)
    driver.kill(successor[0], signal="SIGTERM")


def test_a_worker_is_frozen_and_thawed(driven, lab):
    driver = driven()
    driver.submit("hold", 1, "frozen")
    driver.await_entered("frozen", 1)
    pid = driver.stop("busy", phase="frozen")
    driver.release("frozen")
    assert not driver.await_returned("frozen", deadline=0.2)
    driver.cont(pid)
    assert driver.await_returned("frozen")


def test_a_frozen_worker_is_thawed_with_the_lab():
    with ChaosLab(1, "frozen") as lab:
        driver = PoolDriver(targets.resolve("pool", "ppe-fork"), lab)
        driver.start(PoolSettings())
        driver.submit("hold", 1, "frozen")
        driver.await_entered("frozen", 1)
        driver.stop("busy")
        lab.undo.run()
        driver.release("frozen")
        assert driver.await_returned("frozen")
        driver.close()


def test_a_worker_is_caught_while_it_writes(driven, lab):
    driver = driven("ours")
    pid = driver.kill_while_writing("large")
    assert pid is not None
    assert driver.await_returned("large")
    [answer] = answers(lab, "large")
    assert answer["error"] == "WorkerCrashed"
    assert answer["pid"] == pid
    [left] = lab.timeline.where("dependency:held_large_result", "left")
    assert left.process == pid
    faults = [event for event in lab.timeline.where("fault") if event.kind in {"fired", "undone"}]
    struck = [event.attributes.get("pid") for event in lab.timeline.where("fault", "fired")]
    assert struck[:2] == [driver.host.pid, pid], faults  # nobody could read while it was killed


def test_no_worker_can_be_caught_where_there_is_no_pool(driven):
    driver = driven()
    driver.kill_host()
    assert driver.kill_while_writing("large") is None


def test_a_full_queue_is_told_from_an_error(driven, lab):
    driver = driven("ours", queue_size=1, when_full="reject")
    driver.submit("hold", 2, "busy")
    driver.await_entered("busy", 2)
    driver.submit("work", 3, "more")
    assert driver.accepted("more") == 1
    assert outcomes(lab, "more") == ["rejected"] * 2
    assert {answer["error"] for answer in answers(lab, "more")} == {"QueueFull"}
    driver.release("busy")
    assert driver.await_returned(["busy", "more"])


def test_a_submit_that_blocks_does_not_block_the_driver(driven, lab):
    driver = driven("ours", queue_size=1)
    driver.submit("hold", 2, "busy")
    driver.await_entered("busy", 2)
    began = time.monotonic()
    assert len(driver.submit("work", 3, "more", patience=0.2)) == 3
    assert time.monotonic() - began < 3
    assert driver.accepted("more") == 1
    driver.release("busy")
    assert driver.await_accepted("more", 3) == 3
    assert driver.await_returned("more")
    assert outcomes(lab, "more") == ["ok"] * 3


def test_futures_can_be_cancelled(driven, lab):
    driver = driven(workers=1)
    driver.submit("hold", 1, "busy")
    driver.await_entered("busy", 1)
    driver.submit("work", 5, "queued")
    assert driver.cancel("queued") >= 3  # some have gone to the worker's queue
    driver.release("busy")
    assert driver.await_returned(["busy", "queued"])
    assert "cancelled" in outcomes(lab, "queued")


def test_the_lag_of_a_loop_is_measured(driven, lab):
    driver = driven("ours")
    lag = driver.loop_lag("work", 3, "loop", seconds=0.2)
    assert driver.await_returned("loop")
    assert outcomes(lab, "loop") == ["ok"] * 3
    [event] = lab.timeline.where("target:ours", "lag")
    assert event.attributes["worst"] == lag < 0.2
    assert event.attributes["ticks"] >= 1


def test_a_blocked_loop_is_measured_while_it_is_blocked(driven):
    driver = driven("deadpool", queue_size=1)
    driver.submit("hold", 2, "busy")
    driver.await_entered("busy", 2, deadline=30)
    driver.submit("work", 3, "fill", patience=0.3)
    lag = driver.loop_lag("work", 2, "loop", seconds=0.3)
    assert 0.2 < lag < 2
    driver.release("busy")
    assert driver.await_returned(["busy", "fill", "loop"])


def test_a_storm_counts_what_it_killed(driven, lab):
    driver = driven("ours", retries=5)
    driver.warm_up(2)
    killed = driver.storm(100, "storm", milliseconds=10, window=8, kills=3, every=10)
    assert killed == 3
    assert outcomes(lab, "storm") == ["ok"] * 100
    [storm] = lab.timeline.where("target:ours", "storm")
    assert storm.attributes["made"] == 100
    assert storm.attributes["pools"] == 1


def test_in_a_storm_the_caller_replaces_a_broken_pool(driven, lab):
    driver = driven("ppe-fork")
    driver.warm_up(2)
    driver.storm(100, "storm", milliseconds=10, window=8, kills=2, every=10)
    assert len(answers(lab, "storm")) == 100
    [storm] = lab.timeline.where("target:ppe-fork", "storm")
    assert storm.attributes["pools"] == len(lab.timeline.where("target", "rebuilt")) + 1 > 1
    assert {event.attributes["why"] for event in lab.timeline.where("target", "rebuilt")} == {
        "BrokenProcessPool"
    }


def test_a_shutdown_that_hangs_is_evidence(driven, lab):
    driver = driven()
    driver.submit("hold", 1, "immune")
    driver.await_entered("immune", 1)
    assert driver.shutdown(patience=0.3) == "hung"
    [event] = lab.timeline.where("target", "shutdown")
    assert event.attributes["where"].startswith("threading.py")
    assert "in shutdown" in event.attributes["stacks"]


def test_an_initializer_that_fails_is_heard_of(driven, lab):
    driver = driven("ours", initializer="fails")
    driver.submit("work", 2, "doomed")
    assert driver.await_returned("doomed")
    assert outcomes(lab, "doomed") == ["raised"] * 2
    assert lab.timeline.where("dependency:initializer", "entered")


def test_a_pool_that_cannot_be_made_is_told(lab):
    driver = PoolDriver(targets.resolve("pool", "ours"), lab)
    assert not driver.start(PoolSettings(workers=0))
    assert not driver.made
    [event] = lab.timeline.where("target:ours", "refused")
    assert event.attributes["error"] == "ValueError"
    driver.close()


@pytest.mark.parametrize("how", ["SIGKILL", "SIGTERM"])
def test_the_death_of_the_parent_and_its_orphans_are_told(driven, lab, how):
    driver = driven("ppe-fork")
    driver.submit("hold", 2, "busy")
    driver.await_entered("busy", 2)
    workers = driver.worker_pids()
    if how == "SIGKILL":
        driver.kill_host()
    else:
        assert driver.signal_host(how) == how
    assert sorted(driver.orphans(0.1)) == sorted(workers)
    [died] = lab.timeline.where("target", "host-died")
    assert died.attributes["how"] == how
    [orphans] = lab.timeline.where("target", "orphans")
    assert sorted(orphans.attributes["pids"]) == sorted(workers)
    assert not driver.await_returned("busy", deadline=30)  # from the dead, nothing is waited for
    assert lab.timeline.where("caller:hold", "hung")
    assert driver.shutdown() == "raised"
    assert driver.submit("work", 1, "late")
    assert driver.cancel("late") == 0
    assert driver.loop_lag("work", 1, "later") is None
    assert driver.storm(10, "latest") == 0


def test_a_parent_that_drains_ends_after_its_tasks(driven, lab):
    driver = driven("ours", drain_on_sigterm=20.0)
    driver.submit("work", 10, "accepted", 10)
    assert driver.signal_host("SIGTERM", deadline=20) in {"SIGTERM", "exit code 143"}
    assert driver.orphans(2) == []
    assert driver.await_returned("accepted")
    assert outcomes(lab, "accepted") == ["ok"] * 10


def test_a_driver_starts_anew(driven):
    driver = driven()
    first = driver.host
    driver.start(PoolSettings())
    assert not first.alive
    driver.submit("work", 1, "again")
    assert driver.await_returned("again")


def test_before_its_start_a_driver_knows_nothing(lab):
    driver = PoolDriver(targets.resolve("pool", "ours"), lab)
    assert driver.orphans() == driver.worker_pids() == driver.idle_workers() == []
    assert driver.signal_host("SIGTERM") is None
    assert driver.await_strength(1, "none") == 0
    driver.release("nothing")
    driver.close()


def test_a_host_that_dies_or_hangs_at_the_start_is_an_error(lab, monkeypatch):
    target = targets.resolve("pool", "ours")
    for load, kind in (("dies", HostDied), ("hangs", HostHung)):
        target.load = {
            "factory": {"module": "targets.pool_factories", "path": load, "file": None, "name": load}
        }
        driver = PoolDriver(target, lab)
        with pytest.raises(kind):
            driver.start(PoolSettings(), deadline=1.5)
        driver.close()


def test_a_stopped_parent_can_be_closed(lab):
    driver = PoolDriver(targets.resolve("pool", "ppe-fork"), lab)
    driver.start(PoolSettings())
    pids = driver.warm_up(2)
    os.kill(driver.host.pid, signal.SIGSTOP)
    began = time.monotonic()
    driver.close()
    assert time.monotonic() - began < 5
    assert not [pid for pid in pids if start_time(pid) is not None]
