"""The timeline: one history, in order, from all threads and processes."""

from __future__ import annotations

import itertools
import json
import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from pytest_prodpatterns.lab import ChaosLab, Event, Timeline, _lab, _timeline, emit, use_clock
from pytest_prodpatterns.lab._timeline import SPOOL_VARIABLE, SpoolWriter


@pytest.fixture
def spool(tmp_path):
    return tmp_path / "spool.jsonl"


def wait(pid):
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0


def test_events_are_numbered_from_one_without_gaps():
    timeline = Timeline("test")
    for _ in range(3):
        timeline.emit("a:b", "c")
    assert [event.seq for event in timeline] == [1, 2, 3]
    assert len(timeline) == 3


def test_an_event_says_when_where_and_in_which_test():
    with use_clock(lambda: 60.0):
        timeline = Timeline("test_it")
        timeline.emit("breaker:payments", "transition", previous="closed", state="open")
    (event,) = timeline.events
    assert (event.at, event.process, event.test) == (60.0, os.getpid(), "test_it")
    assert event.real > 0
    assert (event.source, event.kind) == ("breaker:payments", "transition")
    assert event.attributes == {"previous": "closed", "state": "open"}


def test_a_timeline_may_have_a_clock_of_its_own():
    timeline = Timeline(clock=lambda: 5.0)
    timeline.emit("a:b", "c")
    assert timeline.events[0].at == 5.0


def test_an_event_survives_json():
    timeline = Timeline("tëst")
    timeline.emit("a:b", "c", text="ü\n", number=1.5, nothing=None, many=[1, 2])
    (event,) = timeline.events
    line = event.to_json()
    assert "\n" not in line
    assert Event.from_json(line) == event
    assert json.loads(line)["seq"] == 1


def test_what_json_does_not_know_appears_as_its_repr():
    timeline = Timeline()
    timeline.emit("a:b", "c", error=OSError("x"))
    assert json.loads(timeline.events[0].to_json())["attributes"] == {"error": "OSError('x')"}


@pytest.mark.parametrize(
    ("source", "kind", "attributes", "found"),
    [
        (None, None, {}, [1, 2, 3, 4]),
        ("breaker", None, {}, [1, 2]),
        ("breaker:b", None, {}, [2]),
        ("break", None, {}, []),
        (None, "fired", {}, [3, 4]),
        ("fault", "fired", {"call": 2}, [4]),
        (None, None, {"state": None}, [2]),
        (None, None, {"missing": None}, []),
    ],
)
def test_events_are_found_by_source_kind_and_attributes(source, kind, attributes, found):
    timeline = Timeline()
    timeline.emit("breaker:a", "transition", state="open")
    timeline.emit("breaker:b", "transition", state=None)
    timeline.emit("fault:x", "fired", call=1)
    timeline.emit("fault:x", "fired", call=2)
    assert [event.seq for event in timeline.where(source, kind, **attributes)] == found


def test_threads_lose_no_event():
    timeline = Timeline()

    def work():
        for _ in range(200):
            timeline.emit("a:b", "c")

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [event.seq for event in timeline] == list(range(1, 1601))


def test_a_forked_child_writes_into_the_same_history():
    with ChaosLab(1, "test") as lab:
        emit("a:b", "before")
        pid = os.fork()
        if pid == 0:  # pragma: no cover
            emit("a:b", "child", number=7)
            os._exit(0)
        wait(pid)
        emit("a:b", "after")
    assert [(event.kind, event.process) for event in lab.timeline] == [
        ("before", os.getpid()),
        ("child", pid),
        ("after", os.getpid()),
    ]
    assert lab.timeline.events[1].attributes == {"number": 7}


def test_a_child_started_anew_writes_into_the_same_history():
    code = "from pytest_prodpatterns.lab import emit; emit('a:b', 'child', text='x')"
    with ChaosLab(1, "test") as lab:
        subprocess.run([sys.executable, "-c", code], check=True, timeout=30)
        assert [event.kind for event in lab.timeline] == ["child"]
    assert lab.timeline.events[0].attributes == {"text": "x"}
    assert lab.timeline.events[0].test == "test"


def test_half_a_line_is_not_read_before_its_end_comes(spool):
    timeline = Timeline(spool=str(spool))
    SpoolWriter(str(spool)).emit("a:b", "c")
    line = spool.read_bytes()
    with spool.open("ab") as file:
        file.write(line[:10])
        file.flush()
        assert len(timeline) == 1
        file.write(line[10:])
    assert len(timeline) == 2


def test_a_spool_that_is_gone_is_no_error_for_the_child(tmp_path):
    SpoolWriter(str(tmp_path / "no" / "spool")).emit("a:b", "c")


def test_many_children_write_whole_lines(spool):
    timeline, pids = Timeline(spool=str(spool)), []
    for number in range(6):
        pid = os.fork()
        if pid == 0:  # pragma: no cover
            writer = SpoolWriter(str(spool))
            for index in range(50):
                writer.emit("a:b", "c", number=number, index=index, filler="x" * 300)
            os._exit(0)
        pids.append(pid)
    for pid in pids:
        wait(pid)
    by_child = {pid: [e.attributes["index"] for e in timeline if e.process == pid] for pid in pids}
    assert by_child == {pid: list(range(50)) for pid in pids}


def test_the_variable_that_children_read_stands_only_while_the_lab_is_open(monkeypatch):
    monkeypatch.delenv(SPOOL_VARIABLE, raising=False)
    with ChaosLab(1) as outer:
        assert os.environ[SPOOL_VARIABLE] == outer.timeline.spool
        with ChaosLab(1) as inner:
            assert os.environ[SPOOL_VARIABLE] == inner.timeline.spool
        assert os.environ[SPOOL_VARIABLE] == outer.timeline.spool
    assert SPOOL_VARIABLE not in os.environ


class Shy:
    def __repr__(self):
        raise OSError


def circle():
    ring = []
    ring.append(ring)
    return ring


@pytest.mark.parametrize("value", [{(1, 2): 3}, circle(), Shy(), [Shy()], "\udc80", b"\xff"])
def test_any_attribute_becomes_a_line_that_a_file_takes(spool, value):
    timeline = Timeline(spool=str(spool))
    SpoolWriter(str(spool)).emit("a:b", "child", value=value, other=1)
    timeline.emit("a:b", "here", value=value, other=1)
    for event in timeline:
        line = event.to_json().encode()
        assert Event.from_json(line.decode()).attributes["other"] in {1, "1"}
    assert [event.kind for event in timeline] == ["child", "here"]


@pytest.mark.parametrize("line", [b"\xff\x00", b"", b"3", b"{}", b'{"real": 1.0, "pro'])
def test_a_line_that_is_no_event_is_told_and_hides_no_other(spool, line):
    writer, timeline = SpoolWriter(str(spool)), Timeline(spool=str(spool))
    writer.emit("a:b", "before")
    with spool.open("ab") as file:
        file.write(line + b"\n")
    writer.emit("a:b", "after")
    assert [event.kind for event in timeline] == ["before", "unreadable", "after"]


def test_a_signal_handler_that_emits_while_the_spool_is_read_doubles_no_event(spool, monkeypatch):
    timeline = Timeline(spool=str(spool))
    for _ in range(3):
        SpoolWriter(str(spool)).emit("a:b", "child")

    def open_and_be_interrupted(*args):
        monkeypatch.undo()
        timeline.emit("a:b", "signal")
        return Path(args[0]).open(*args[1:])

    monkeypatch.setitem(vars(_timeline), "open", open_and_be_interrupted)
    timeline.emit("a:b", "here")
    SpoolWriter(str(spool)).emit("a:b", "late")
    assert [event.kind for event in timeline] == ["child"] * 3 + ["signal", "here", "late"]


def test_a_forked_child_that_leaves_the_block_leaves_the_spool_to_its_parent():
    with ChaosLab() as lab:
        if (pid := os.fork()) == 0:
            emit("a:b", "child")
            lab.__exit__(None, None, None)
            os._exit(0)
        wait(pid)
        assert [event.kind for event in lab.timeline] == ["child"]


def test_no_two_labs_share_a_spool_even_when_a_pid_comes_round_again(monkeypatch):
    monkeypatch.setattr(_lab, "_spools", itertools.repeat(1))
    assert ChaosLab().timeline.spool != ChaosLab().timeline.spool


def test_an_interrupted_rollback_leaves_no_spool_behind():
    def interrupt():
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt), ChaosLab() as lab:
        spool = lab.timeline.spool
        SpoolWriter(spool).emit("a:b", "child")
        lab.on_undo("it", interrupt)
    assert not Path(spool).exists()


def test_an_adopted_event_keeps_its_times_and_gets_a_place_in_this_history() -> None:
    with ChaosLab(7, "theirs") as theirs:
        theirs.timeline.emit("breaker:charge", "transition", state="open")
    with ChaosLab(7, "ours") as ours:
        ours.timeline.emit("lab", "begun")
        original = theirs.timeline.events[0]
        ours.timeline.adopt(original)
        adopted = ours.timeline.events[-1]
    assert (adopted.seq, adopted.test) == (2, "ours")
    assert (adopted.at, adopted.real, adopted.attributes) == (original.at, original.real, original.attributes)
