"""What a pool tells the timeline, and what it counts."""

from __future__ import annotations

import threading

import pytest
from pool_support import (
    SECONDS,
    all_idle,
    at_full_strength,
    boom,
    busy,
    die,
    die_at_first,
    echo,
    fail_to_initialize,
    hold,
    kill,
    soon,
    stop,
    work,
)

from pytest_prodpatterns.lab import ChaosLab
from pytest_prodpatterns.patterns.pool import QueueFull, _crew, retry

KINDS = {
    "started",
    "worker-started",
    "worker-ready",
    "worker-died",
    "worker-hung",
    "submitted",
    "sent",
    "finished",
    "failed",
    "retried",
    "poisoned",
    "full",
    "broken",
    "closed",
    "stolen",
}


@pytest.fixture
def lab(nothing_left):
    with ChaosLab(1, "events") as lab:
        yield lab


def kinds(lab, name, task=None):
    attributes = {} if task is None else {"task": task}
    return [event.kind for event in lab.timeline.where(f"pool:{name}", **attributes)]


def test_the_life_of_a_pool_and_of_a_task(make, lab):
    pool = make(1, name="life")
    future = pool.submit(echo, 1)
    future.result(SECONDS)
    pid = at_full_strength(pool)[0]
    pool.shutdown()
    assert kinds(lab, "life", future.task_id) == ["submitted", "sent", "finished"]
    told = kinds(lab, "life")
    assert set(told) <= KINDS
    assert told[0] == "started"
    assert told[-1] == "closed" or told.index("closed") > told.index("finished")
    for kind in ("worker-started", "worker-ready"):
        (event,) = lab.timeline.where("pool:life", kind)
        assert event.attributes["pid"] == pid
    assert lab.timeline.where("pool:life", "sent", pid=pid, task=future.task_id)


def test_the_first_task_of_a_new_pool_waits_in_its_workers_channel_and_the_others_are_forked_behind_it(
    make, lab, monkeypatch
):
    monkeypatch.setattr(_crew, "UNDISTURBED", 2 * SECONDS)
    pool = make(3, name="new", start_method="fork")
    pool.submit(echo, 1).result(SECONDS)
    at_full_strength(pool)
    told = [
        kind for kind in kinds(lab, "new") if kind in {"worker-started", "sent", "worker-ready", "finished"}
    ]
    assert told[:3] == ["worker-started", "sent", "worker-ready"]
    assert told.index("finished") < [at for at, kind in enumerate(told) if kind == "worker-started"][1]


@pytest.mark.parametrize(
    "options",
    [{"start_method": "spawn"}, {"initializer": echo, "initargs": (1,)}],
    ids=["spawn", "initializer"],
)
def test_a_worker_that_takes_its_time_to_start_gets_its_first_task_when_it_is_ready(make, lab, options):
    pool = make(1, name="slow", **options)
    pool.submit(echo, 1).result(SECONDS)
    told = [kind for kind in kinds(lab, "slow") if kind in {"worker-started", "sent", "worker-ready"}]
    assert told == ["worker-started", "worker-ready", "sent"]


def test_tasks_stay_in_the_queue_while_every_worker_has_one_and_go_out_together(make, lab, gate):
    pool = make(1, name="queue")
    for number in range(200):
        pool.submit(echo, number).result(SECONDS)  # short tasks: many may lie with a worker
    (held,) = busy(pool, gate)
    waiting = [pool.submit(echo, number) for number in range(5)]
    assert [kinds(lab, "queue", future.task_id) for future in waiting] == [["submitted"]] * 5
    gate.open()
    assert [future.result(SECONDS) for future in [held, *waiting]] == ["held 0", *range(5)]


@pytest.mark.parametrize("chunksize", [1, 2])
def test_the_tasks_of_a_map_bear_the_name_of_its_function(make, lab, chunksize):
    assert [*make(1, name="map").map(echo, range(4), chunksize=chunksize)] == [*range(4)]
    assert {event.attributes["name"] for event in lab.timeline.where("pool:map", "submitted")} == {"echo"}


def test_a_failure(make, lab):
    pool = make(1, name="failing")
    future = pool.submit(boom)
    assert future.exception(SECONDS)
    soon(lambda: kinds(lab, "failing", future.task_id) == ["submitted", "sent", "failed"])


def test_a_crash(make, lab, gate):
    pool = make(1, name="crash")
    (future,) = busy(pool, gate)
    pid = gate.entered[0][1]
    kill(pid)
    assert future.exception(SECONDS)
    at_full_strength(pool)
    (died,) = lab.timeline.where("pool:crash", "worker-died")
    assert (died.attributes["pid"], died.attributes["exitcode"]) == (pid, -9)
    (failed,) = lab.timeline.where("pool:crash", "failed")
    assert failed.attributes["task"] == future.task_id
    assert died.seq < failed.seq
    assert len(lab.timeline.where("pool:crash", "worker-started")) == 2


def test_retries_and_poison(make, lab, tmp_path):
    pool = make(1, name="poison", on_crash=retry(2))
    future = pool.submit(die_at_first, 99, str(tmp_path / "log"))
    assert future.exception(SECONDS)
    soon(lambda: "poisoned" in kinds(lab, "poison"))
    told = kinds(lab, "poison", future.task_id)
    assert [kind for kind in told if kind in ("sent", "retried", "poisoned")] == [
        "sent",
        "retried",
        "sent",
        "retried",
        "sent",
        "poisoned",
    ]
    attempts = [
        e.attributes.get("attempt") for e in lab.timeline.where("pool:poison", "sent", task=future.task_id)
    ]
    assert attempts == [1, 2, 3]


def test_a_full_queue(make, lab, gate):
    pool = make(1, 1, name="full", when_full="reject")
    busy(pool, gate)
    pool.submit(echo)
    assert not lab.timeline.where("pool:full", "full")
    with pytest.raises(QueueFull):
        pool.submit(echo)
    assert lab.timeline.where("pool:full", "full")


def test_a_full_queue_that_blocks(make, lab, gate):
    pool = make(1, 1, name="blocking")
    busy(pool, gate)
    pool.submit(echo)
    thread = threading.Thread(target=pool.submit, args=(echo,))
    thread.start()
    soon(lambda: lab.timeline.where("pool:blocking", "full"))
    gate.open()
    thread.join(SECONDS)


def test_a_broken_pool(make, lab, tmp_path):
    pool = make(1, name="broken", initializer=fail_to_initialize, initargs=(str(tmp_path / "log"),))
    assert pool.submit(echo).exception(SECONDS)
    (event,) = soon(lambda: lab.timeline.where("pool:broken", "broken"))
    assert event.attributes["reason"]
    assert len(lab.timeline.where("pool:broken", "worker-died")) == 3
    assert not lab.timeline.where("pool:broken", "worker-ready")


def test_a_steal(make, lab):
    pool = make(2, name="steal")
    pool.start()
    pid = all_idle(pool)[0]
    stop(pid)
    try:
        futures = [pool.submit(echo, number) for number in range(20)]
        soon(lambda: sum(future.done() for future in futures) >= 19)
    finally:
        kill(pid, 18)
    assert [future.result(SECONDS) for future in futures] == list(range(20))
    stolen = lab.timeline.where("pool:steal", "stolen")
    sent = {
        task: len(lab.timeline.where("pool:steal", "sent", task=task))
        for task in (f.task_id for f in futures)
    }
    assert sum(sent.values()) == 20 + len(stolen), "what was sent twice was taken back once"
    assert all(event.attributes.get("task") for event in stolen)


def test_each_task_has_one_end(make, lab):
    pool = make(2, 50, name="ends")
    futures = [pool.submit(task, *args) for task, *args in [(echo, 1), (boom,), (die, 1), (echo, 2)] * 5]
    for future in futures:
        future.exception(SECONDS)
    at_full_strength(pool)
    ends = [
        e.attributes["task"]
        for e in lab.timeline.where("pool:ends")
        if e.kind in ("finished", "failed", "poisoned")
    ]
    assert sorted(ends) == sorted(future.task_id for future in futures)


def test_nothing_is_told_when_nobody_listens(make, gate):
    pool = make(1, name="silent")
    pool.submit(echo).result(SECONDS)
    with ChaosLab(1, "later") as lab:
        assert len(lab.timeline) == 0
        pool.submit(hold, gate, "now")
        gate.await_entered()
        assert kinds(lab, "silent")[:1] == ["submitted"]
        gate.open()


def test_accepted_is_finished_failed_crashed_or_cancelled(make, gate):
    """Invariant 14: nothing is lost from the books."""
    pool = make(2, 100, task_timeout=30, max_restarts=1000)
    held = busy(pool, gate)
    futures = [
        pool.submit(task, *args) for task, *args in [(echo, 1), (boom,), (die, 1), (echo, 2), (echo, 3)] * 6
    ]
    cancelled = [future for future in futures[::5] if future.cancel()]
    late = pool.options(timeout=0.05).submit(work, 30)
    held[0].cancel()
    gate.open()
    for future in [*futures, late, held[1]]:
        if not future.cancelled():
            future.exception(SECONDS)
    stats = soon(lambda: pool.stats().unfinished == 0 and pool.stats())
    assert len(cancelled) == 6
    assert stats.cancelled == 7
    assert stats.crashed == 6
    assert stats.timed_out == 1
    assert stats.submitted == len(futures) + len(held) + 1
    assert stats.completed + stats.failed + stats.cancelled == stats.submitted
    outcomes = [future.exception() for future in [*futures, late, held[1]] if not future.cancelled()]
    assert stats.failed == sum(error is not None for error in outcomes)
