"""The lab: what one experiment shares."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from pytest_prodpatterns import lab as door
from pytest_prodpatterns.lab import (
    ChaosLab,
    RollbackError,
    current_lab,
    emit,
    inject,
    listening,
    now,
    use_clock,
)


def test_a_lab_is_current_inside_its_block_and_the_innermost_wins():
    before = current_lab()
    with ChaosLab(1) as outer:
        assert current_lab() is outer
        with ChaosLab(2) as inner:
            assert current_lab() is inner
            emit("a:b", "inner")
        emit("a:b", "outer")
        assert current_lab() is outer
    assert current_lab() is before
    assert [event.kind for event in inner.timeline] == ["inner"]
    assert [event.kind for event in outer.timeline] == ["outer"]


def test_nobody_listens_behind_the_block():
    with ChaosLab(1):
        assert listening()
    assert not listening()


def test_a_stream_is_the_same_for_the_same_seed_test_and_name():
    assert ChaosLab(1, "a").rng("x").random() == ChaosLab(1, "a").rng("x").random()
    lab = ChaosLab(1, "a")
    lab.rng("y").random()
    assert lab.rng("x").random() == ChaosLab(1, "a").rng("x").random(), "another stream was drawn from"


def test_without_a_seed_it_draws_one():
    assert ChaosLab().seed != ChaosLab().seed


@pytest.mark.parametrize("seed", [-1, "x", 1.5])
def test_a_bad_seed_is_refused(seed):
    with pytest.raises(ValueError, match=r"^a chaos seed is a whole number"):
        ChaosLab(seed)


def test_the_clock_of_the_lab_is_the_ambient_one():
    lab = ChaosLab(1)
    with use_clock(lambda: 9.0):
        assert lab.clock() == now() == 9.0


def test_a_fault_is_in_the_timeline_when_armed_fired_and_undone():
    with ChaosLab(1) as lab:
        fault = lab.inject("charge", "raises OSError on the first 2 calls", undo=lambda: None)
        fault.fire(call=1)
        fault.fire(call=2)
    assert fault.fired == 2
    assert repr(fault) == "<InjectedFault charge: raises OSError on the first 2 calls, fired 2 times>"
    assert [(e.source, e.kind, dict(e.attributes)) for e in lab.timeline] == [
        ("fault:charge", "armed", {"description": "raises OSError on the first 2 calls"}),
        ("fault:charge", "fired", {"call": 1}),
        ("fault:charge", "fired", {"call": 2}),
        ("lab", "undone", {"name": "charge: raises OSError on the first 2 calls"}),
    ]


def test_a_fault_that_never_fired_is_missed():
    with ChaosLab(1) as lab:
        lab.inject("a", "x").fire()
        missed = inject("b", "y")
    assert lab.never_fired() == [missed]


def test_a_fault_without_a_lab_is_only_counted():
    fault = inject("a", "x", undo=lambda: pytest.fail("nobody's duty but the caller's"))
    fault.fire()
    assert fault.fired == 1


def test_everything_is_undone_before_the_error_of_the_body_goes_on():
    undone = []
    with pytest.raises(OSError, match=r"^boom$"), ChaosLab(1) as lab:
        lab.on_undo("a", lambda: undone.append(current_lab()))
        raise OSError("boom")
    assert undone == [lab]


def test_undo_that_failed_is_raised_at_the_end_with_each_fault_named():
    lab = ChaosLab(1)
    with pytest.raises(RollbackError, match=r"^faults that could not be undone") as caught, lab:
        lab.inject("proxy", "partition", undo=lambda: 1 / 0)
    (error,) = caught.value.exceptions
    assert error.__notes__ == ["while undoing proxy: partition"]
    assert [event.kind for event in lab.timeline] == ["armed", "rollback-failed"]
    assert current_lab() is not lab


def test_nothing_stays_behind_in_the_temporary_directory():
    with ChaosLab(1) as lab:
        spool = Path(lab.timeline.spool)
        pid = os.fork()
        if pid == 0:  # pragma: no cover
            emit("a:b", "c")
            os._exit(0)
        os.waitpid(pid, 0)
        assert spool.exists()
    assert not spool.exists()
    assert len(lab.timeline) == 1


def test_the_door_of_the_floor_is_sorted_and_open():
    assert door.__all__ == sorted(set(door.__all__))
    assert all(hasattr(door, name) for name in door.__all__)
