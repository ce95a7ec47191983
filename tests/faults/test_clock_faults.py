"""Wall clock faults: what moves, what does not, and that time comes back."""

from __future__ import annotations

import datetime as dt
import os
import tempfile
import time
from contextlib import AbstractContextManager
from typing import Any

import pytest
import time_machine

from pytest_prodpatterns import faults
from pytest_prodpatterns.lab import ChaosLab


def real() -> float:
    """Return the wall time of the system, whatever stands before it."""
    return (time_machine.escape_hatch.time if time_machine.escape_hatch.is_travelling() else time).time()


def unmoved() -> bool:
    """Tell whether the wall clock still agrees with the file system's."""
    with tempfile.TemporaryFile() as file:
        return abs(os.fstat(file.fileno()).st_mtime - time.time()) < 5


@pytest.mark.parametrize("seconds", [3600, -3600, 0.5, -1e6])
def test_the_wall_clock_jumps_and_ticks_on(seconds: float) -> None:
    with faults.wall_clock_jump(seconds):
        assert time.time() - real() == pytest.approx(seconds, abs=0.1)
        assert dt.datetime.now(dt.UTC).timestamp() - real() == pytest.approx(seconds, abs=0.1)
        begin = time.time_ns()
        assert moves_on(begin)
    assert unmoved()


def moves_on(begin: int) -> bool:
    deadline = time.monotonic() + 5
    while time.time_ns() <= begin:
        if time.monotonic() > deadline:
            return False
    return True


def test_a_frozen_wall_clock_stands_still() -> None:
    with faults.freeze():
        begin, monotonic = time.time(), time.monotonic()
        while time.monotonic() < monotonic + 0.02:
            assert time.time() == begin
        assert begin == pytest.approx(real(), abs=1)


def test_a_skewed_wall_clock_runs_at_its_rate() -> None:
    with faults.skew(1000):
        begin, real_begin = time.time(), real()
        while real() < real_begin + 0.02:
            pass
        passed, real_passed = time.time() - begin, real() - real_begin
    assert passed / real_passed == pytest.approx(1000, rel=0.5)


@pytest.mark.parametrize(
    "fault", [lambda: faults.wall_clock_jump(1e6), faults.freeze, lambda: faults.skew(1e6)]
)
def test_the_monotonic_clock_does_not_notice(fault: Any) -> None:
    begin = time.monotonic()
    with fault():
        assert 0 <= time.monotonic() - begin < 60
        assert 0 <= time.perf_counter_ns()


def test_the_lab_records_and_undoes() -> None:
    with ChaosLab(1, strict=True) as lab:
        with faults.wall_clock_jump(-60):
            pass
        assert lab.never_fired() == []
    assert [(event.source, event.kind) for event in lab.timeline] == [
        ("fault:wall-clock", "armed"),
        ("fault:wall-clock", "fired"),
        ("lab", "undone"),
    ]
    assert lab.timeline.events[1].attributes["shift"] == pytest.approx(-60, abs=0.1)


def test_the_lab_undoes_what_was_not_left() -> None:
    with ChaosLab(1):
        left_open: AbstractContextManager[Any] = faults.wall_clock_jump(1e6)
        left_open.__enter__()
    assert unmoved()
    left_open.__exit__(None, None, None)
    assert unmoved()


def test_an_error_in_the_block_restores_the_clock() -> None:
    with pytest.raises(KeyError), faults.wall_clock_jump(1e6):
        raise KeyError
    assert unmoved()


@pytest.mark.parametrize("inner", [lambda: faults.wall_clock_jump(1), faults.freeze, lambda: faults.skew(2)])
def test_one_clock_fault_at_a_time(inner: Any) -> None:
    message = r"^(wall_clock_jump\(1\)|freeze\(\)|skew\(2\)): the wall clock is replaced already, .*leave that first$"
    with faults.freeze(), pytest.raises(RuntimeError, match=message):
        inner().__enter__()
    with time_machine.travel(0), pytest.raises(RuntimeError, match=message):
        inner().__enter__()


@pytest.mark.parametrize(
    ("make", "kind", "message"),
    [
        (
            lambda: faults.wall_clock_jump(0),
            ValueError,
            r"^wall_clock_jump\(\): seconds must be a finite number other than 0, not 0$",
        ),
        (
            lambda: faults.wall_clock_jump(float("nan")),
            ValueError,
            r"^wall_clock_jump\(\): seconds .* not nan$",
        ),
        (
            lambda: faults.wall_clock_jump("3"),
            TypeError,
            r"^wall_clock_jump\(\): seconds must be a number, not '3'$",
        ),
        (lambda: faults.skew(True), TypeError, r"^skew\(\): rate must be a number, not True$"),
        (lambda: faults.skew(0), ValueError, r"^skew\(\): rate must be a finite number other than 0, not 0$"),
        (lambda: faults.skew(-1), ValueError, r"^skew\(\): rate must be above 0 and other than 1, not -1$"),
        (lambda: faults.skew(1), ValueError, r"^skew\(\): rate must be above 0 and other than 1, not 1$"),
    ],
)
def test_a_wrong_argument_is_named(make: Any, kind: type[Exception], message: str) -> None:
    with pytest.raises(kind, match=message):
        make().__enter__()
