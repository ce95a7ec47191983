"""One worker on the workbench: we are its pool, and hold the other ends of all that joins it to one."""

from __future__ import annotations

import contextvars
import logging
import os
import pickle
import select
import signal
import socket
import threading
import time
from pathlib import Path

import pytest
from pool_support import (
    MEGABYTE,
    SECONDS,
    alive,
    boom,
    echo,
    everything,
    fork_process,
    gone,
    hold,
    keep,
    notes,
    resident,
    return_lock,
    soon,
    status,
    tell_pid,
)

from pytest_prodpatterns.patterns.pool import RemoteError, _wire
from pytest_prodpatterns.patterns.pool._call import Message, decode_value, encode_call
from pytest_prodpatterns.patterns.pool._context import locate
from pytest_prodpatterns.patterns.pool._launch import connect, launch
from pytest_prodpatterns.patterns.pool._remote import unpack_error
from pytest_prodpatterns.patterns.pool._worker import Channel, Setup, Worker

VARIABLE = contextvars.ContextVar("VARIABLE", default="unset")
NAMES = {value: name for name, value in vars(_wire).items() if name.isupper() and type(value) is int}


OPEN = set()
"""The benches of this process."""


def let_go():
    """A forked worker must not hold what ends it when it is closed, as the pool sees to as well."""
    for each in OPEN:
        each.ends.close_in_child()


os.register_at_fork(after_in_child=let_go)


class Bench:
    """The pool's side, by hand."""

    def __init__(self, method="fork", **setup):
        self.ends, channel = connect()
        OPEN.add(self)
        self.process = launch(method, "worker-on-the-bench", channel, Setup(**setup))
        self.pid = self.process.pid
        self.frames, self.waiting = _wire.Frames(self.ends.sock), []

    def token(self, *numbers):
        os.write(self.ends.tokens_in, b"".join(map(_wire.TOKEN.pack, numbers)))

    def call(self, seq, func, *args, context=None, token=True):
        if token:
            self.token(seq)
        self.send(_wire.frame(_wire.TASK, seq, encode_call(func, args, {}, context)))

    def send(self, parts):
        """Send, and listen meanwhile: a worker that waits until it is heard takes no calls."""
        sock, rest = self.ends.sock, memoryview(b"".join(map(bytes, parts)))
        while rest:
            heard, free, _ = select.select([sock], [sock], [], SECONDS)
            assert heard or free, "the worker takes nothing"
            if heard:
                self.waiting += self.frames.receive()
            if free:
                rest = rest[sock.send(rest) :]

    def retract(self):
        """Take back what it has not begun; return the numbers."""
        try:
            data = os.read(self.ends.tokens_out, 1 << 16)
        except BlockingIOError:
            return []
        return [number for (number,) in _wire.TOKEN.iter_unpack(data)]

    def say(self):
        """The next frame that it says; None at the end."""
        end = time.monotonic() + SECONDS
        while not self.waiting:
            if self.frames.ended:
                return None
            assert time.monotonic() < end, "the worker says nothing"
            if select.select([self.ends.sock], [], [], 0.1)[0]:
                try:
                    self.waiting += self.frames.receive()
                except ConnectionResetError:  # it left with calls unread
                    return None
        return self.waiting.pop(0)

    def hears(self, kind, seq=0):
        said = self.say()
        assert said is not None, "it has ended"
        assert (NAMES[said.kind], said.seq) == (NAMES[kind], seq)
        return said

    def value(self, seq):
        said = self.hears(_wire.VALUE, seq)
        return decode_value(said.body, said.buffers)

    def error(self, seq):
        return unpack_error(self.hears(_wire.ERROR, seq).body)

    def hang_up(self):
        self.ends.sock.shutdown(socket.SHUT_WR)

    def exit_code(self):
        self.process.join(SECONDS)
        return self.process.exitcode

    def close(self):
        if self.process.is_alive():
            os.killpg(self.pid, signal.SIGKILL)
        self.process.join(SECONDS)
        self.process.close()
        self.ends.close()
        OPEN.discard(self)


@pytest.fixture
def bench(nothing_left):
    """Start workers; each has said that it is ready."""
    benches = []

    def start(*args, ready=True, **setup):
        benches.append(Bench(*args, **setup))
        if ready:
            benches[-1].hears(_wire.READY)
        return benches[-1]

    yield start
    for each in benches:
        each.close()


# --- its life, from the first word to the last -----------------------------------------------------------------


@pytest.mark.parametrize("method", ["fork", "forkserver", "spawn"])
def test_a_worker_is_ready_answers_and_leaves_when_the_pool_hangs_up(bench, method):
    worker = bench(method)
    worker.call(1, tell_pid)
    worker.call(2, everything, 1, "two")
    assert worker.value(1) == worker.pid
    assert worker.value(2) == ((1, "two"), {})
    worker.hang_up()
    assert worker.say() is None
    assert worker.exit_code() == 0


def note_start(path):
    with Path(path).open("a") as file:
        file.write(f"{os.getpid()}\n")


def fail_to_start(kind):
    raise kind("no database today")


def test_the_initializer_runs_once_and_before_it_is_ready(bench, tmp_path):
    worker = bench(initializer=note_start, initargs=(tmp_path / "started",))
    assert (tmp_path / "started").read_text() == f"{worker.pid}\n"
    worker.call(1, echo, 1)
    assert worker.value(1) == 1
    assert (tmp_path / "started").read_text() == f"{worker.pid}\n"


@pytest.mark.parametrize("kind", [ValueError, SystemExit, KeyboardInterrupt])
def test_an_initializer_that_fails_is_the_last_thing_that_happens(bench, kind):
    worker = bench(initializer=fail_to_start, initargs=(kind,), ready=False)
    error = unpack_error(worker.hears(_wire.BOOT_FAILED).body)
    assert "no database today" in str(error)
    assert isinstance(error, ValueError if kind is ValueError else RemoteError)
    assert worker.say() is None
    assert worker.exit_code() == 0


def test_a_pool_that_is_gone_is_no_error(bench, gate, capfd):
    worker = bench()
    worker.call(1, hold, gate)
    gate.await_entered()
    worker.ends.sock.close()
    gate.open()
    assert worker.exit_code() == 0
    assert capfd.readouterr().err == ""


@pytest.mark.parametrize("phase", ["idle", "busy", "stopped"])
def test_the_whole_family_dies_when_the_lifeline_is_cut(bench, gate, phase):
    worker, family = bench(), []
    if phase == "busy":
        worker.call(1, fork_process, gate)
        gate.await_entered()
        family += [int(word) for word, _pid in notes(gate.folder + "/grandchild")]
        assert all(map(alive, family))
    elif phase == "stopped":
        os.kill(worker.pid, signal.SIGSTOP)
        soon(lambda: status(worker.pid) == "T")
    worker.ends.lifeline.close()
    assert worker.exit_code() == -signal.SIGKILL
    gone(*family)


# --- answers ---------------------------------------------------------------------------------------------------


def test_an_answer_tells_how_long_the_task_took(bench):
    worker = bench()
    worker.call(1, time.sleep, 0.05)
    assert 0.05 <= worker.hears(_wire.VALUE, 1).seconds < SECONDS
    worker.call(2, echo)
    assert 0 < worker.hears(_wire.VALUE, 2).seconds < 0.05


def test_each_answer_is_said_before_the_next_call_begins(bench, gate):
    worker = bench()
    worker.token(1, 2)
    worker.send(
        [
            part
            for seq, call in [(1, encode_call(echo, ("one",), {})), (2, encode_call(hold, (gate,), {}))]
            for part in _wire.frame(_wire.TASK, seq, call)
        ]
    )
    gate.await_entered()
    assert worker.value(1) == "one"
    gate.open()
    assert worker.value(2) == "held"


def test_large_calls_and_answers_pass(bench):
    worker, data = bench(), os.urandom(MEGABYTE) * 5
    worker.call(1, echo, data)
    assert worker.value(1) == data


def raise_it(kind, *args):
    raise kind(*args)


@pytest.mark.parametrize("kind", [ValueError, SystemExit, KeyboardInterrupt, GeneratorExit])
def test_whatever_a_task_raises_only_that_task_fails(bench, kind):
    worker = bench()
    worker.call(1, raise_it, kind, "by the task")
    worker.call(2, tell_pid)
    error = worker.error(1)
    assert isinstance(error, ValueError if kind is ValueError else RemoteError)
    assert "by the task" in str(error)
    assert worker.value(2) == worker.pid


def test_a_result_that_does_not_pickle_is_an_error_with_a_note(bench):
    worker = bench()
    worker.call(1, return_lock)
    error = worker.error(1)
    assert (type(error), str(error)) == (TypeError, "cannot pickle '_thread.lock' object")
    assert error.__notes__ == ["the task ran to its end, but its result cannot be pickled"]
    worker.call(2, boom)
    assert not hasattr(worker.error(2), "__notes__")


def test_a_call_that_cannot_be_read_fails_alone(bench):
    worker = bench()
    worker.token(1)
    worker.send(_wire.frame(_wire.TASK, 1, Message([b"\x01\x00\x00 this is no pickle"])))
    worker.call(2, echo, 2)
    assert isinstance(worker.error(1), pickle.UnpicklingError)
    assert worker.value(2) == 2


def tell_and_set(value):
    before = VARIABLE.get()
    VARIABLE.set(value)
    return before


def test_context_variables_are_set_for_one_task(bench):
    worker = bench(places=locate([VARIABLE]))
    worker.call(1, tell_and_set, "mine", context={0: "traveller"})
    worker.call(2, tell_and_set, "mine", context={0: "another"})
    assert [worker.value(1), worker.value(2)] == ["traveller", "another"]
    worker.call(3, tell_and_set, "mine")
    assert worker.value(3) == "unset"


# --- tokens ----------------------------------------------------------------------------------------------------


def test_what_was_taken_back_is_never_run_and_the_worker_says_so(bench, gate):
    worker = bench()
    worker.call(1, hold, gate, "one")
    gate.await_entered()
    worker.call(2, hold, gate, "two")
    worker.call(3, hold, gate, "three")
    assert worker.retract() == [2, 3]
    gate.open()
    assert worker.value(1) == "one"
    worker.hears(_wire.SKIPPED)
    worker.call(4, hold, gate, "four")
    assert worker.value(4) == "four"
    assert [word for word, _pid in gate.entered] == ["one", "four"]


def test_a_worker_takes_one_token_for_each_call_and_no_more(bench, gate):
    worker = bench()
    worker.token(1, 2, 3)
    for seq in (1, 2, 3):
        worker.call(seq, hold if seq == 2 else echo, *([gate] if seq == 2 else [seq]), token=False)
    gate.await_entered()
    assert worker.retract() == [3]
    gate.open()
    assert [worker.value(1), worker.value(2)] == [1, "held"]
    worker.hears(_wire.SKIPPED)


def test_a_token_of_a_later_call_does_not_start_one_that_was_taken_back(bench, gate):
    worker = bench()
    worker.call(1, hold, gate, "one")
    gate.await_entered()
    worker.call(2, hold, gate, "two")
    worker.call(3, hold, gate, "three")
    assert worker.retract() == [2, 3]
    worker.call(4, hold, gate, "four")
    gate.open()
    assert [worker.value(1), worker.value(4)] == ["one", "four"]
    assert [word for word, _pid in gate.entered] == ["one", "four"]
    worker.call(5, echo, "no word of what was skipped in between")
    assert worker.value(5).startswith("no word")


def test_a_call_without_a_token_is_not_run(bench, tmp_path):
    worker = bench()
    worker.call(1, note_start, tmp_path / "ran", token=False)
    worker.hears(_wire.SKIPPED)
    assert not (tmp_path / "ran").exists()


def test_a_worker_whose_pool_lost_the_tokens_leaves(bench):
    worker = bench()
    os.close(worker.ends.tokens_in)
    worker.ends.tokens_in = os.open("/dev/null", os.O_WRONLY)
    worker.call(1, echo, token=False)
    assert worker.exit_code() == 0


# --- its share -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("share", [1, 3])
def test_a_worker_leaves_when_it_has_done_its_share(bench, share):
    worker = bench(max_tasks=share)
    worker.token(*range(1, 6))
    calls = [_wire.frame(_wire.TASK, seq, encode_call(echo, (seq,), {})) for seq in range(1, 6)]
    worker.send([part for parts in calls for part in parts])
    assert [worker.value(seq) for seq in range(1, share + 1)] == [*range(1, share + 1)]
    worker.hears(_wire.LEAVING)
    assert worker.say() is None
    assert worker.exit_code() == 0
    assert worker.retract() == [*range(share + 1, 6)], "the rest was not begun"


def test_tasks_that_fail_are_part_of_the_share(bench):
    worker = bench(max_tasks=2)
    worker.call(1, boom)
    worker.call(2, boom)
    assert [str(worker.error(seq)) for seq in (1, 2)] == ["boom", "boom"]
    worker.hears(_wire.LEAVING)


def test_a_worker_leaves_when_it_has_grown_too_large(bench):
    worker = bench(max_memory=resident() + 60 * MEGABYTE)
    worker.call(1, echo, 1)
    assert worker.value(1) == 1
    worker.call(2, keep, 100)
    worker.value(2)
    worker.hears(_wire.LEAVING)
    assert worker.exit_code() == 0


# --- signals ---------------------------------------------------------------------------------------------------


def pending(pid):
    """Whether a signal waits that the process has not taken."""
    text = Path(f"/proc/{pid}/status").read_text()
    return any(
        int(line.split()[1], 16) for line in text.splitlines() if line.startswith(("SigPnd", "ShdPnd"))
    )


def interrupt(pid):
    os.kill(pid, signal.SIGINT)
    soon(lambda: not pending(pid))


def test_an_interrupt_while_it_is_idle_is_ignored(bench):
    worker = bench()
    for seq in range(1, 6):
        soon(lambda: status(worker.pid) == "S")
        interrupt(worker.pid)
        worker.call(seq, tell_pid)
        assert worker.value(seq) == worker.pid


def test_an_interrupt_while_a_task_runs_ends_the_task(bench, gate):
    worker = bench()
    worker.call(1, hold, gate)
    gate.await_entered()
    interrupt(worker.pid)
    error = worker.error(1)
    assert (type(error), error.type_name) == (RemoteError, "KeyboardInterrupt")
    worker.call(2, tell_pid)
    assert worker.value(2) == worker.pid


def test_an_interrupt_while_it_answers_does_not_cut_the_answer(bench):
    worker, size = bench(), 20 * MEGABYTE
    worker.call(1, bytes, size)
    assert select.select([worker.ends.sock], [], [], SECONDS)[0]
    soon(lambda: status(worker.pid) == "S", "the channel is full, and it waits")
    interrupt(worker.pid)
    assert worker.value(1) == bytes(size)


def test_an_interrupt_while_a_task_logs_does_not_cut_the_record(bench):
    worker = bench(log_levels={"": logging.INFO})
    worker.call(1, log_much)
    assert select.select([worker.ends.sock], [], [], SECONDS)[0]
    soon(lambda: status(worker.pid) == "S", "the channel is full, and it waits")
    interrupt(worker.pid)
    end = time.monotonic() + 3
    while select.select([worker.ends.sock], [], [], max(0.0, end - time.monotonic()))[0]:
        said = worker.say()
        if said.kind == _wire.ERROR:
            break
        assert NAMES.get(said.kind) == "LOG"
    assert unpack_error(said.body).type_name == "KeyboardInterrupt"


def log_much():
    for number in range(100):
        logging.getLogger("much").warning("%d %s", number, "\u20ac" * 65_000)


def handlers():
    return {signum: signal.getsignal(signum) for signum in (signal.SIGTERM, signal.SIGUSR1, signal.SIGHUP)}


def blocked():
    return sorted(signal.pthread_sigmask(signal.SIG_BLOCK, ()))


def test_signals_are_as_in_a_new_process_whatever_the_parent_does_with_them(bench):
    previous = signal.signal(signal.SIGTERM, lambda *_: None), signal.signal(signal.SIGHUP, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGUSR2})
    try:
        worker = bench()
    finally:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGUSR2})
        signal.signal(signal.SIGTERM, previous[0])
        signal.signal(signal.SIGHUP, previous[1])
    worker.call(1, handlers)
    assert worker.value(1) == {
        signal.SIGTERM: signal.SIG_DFL,
        signal.SIGUSR1: signal.SIG_DFL,
        signal.SIGHUP: signal.SIG_IGN,
    }
    worker.call(2, blocked)
    assert worker.value(2) == []
    worker.call(3, os.getpgrp)
    assert worker.value(3) == worker.pid


# --- log records -----------------------------------------------------------------------------------------------


def log_and_return(value):
    logging.getLogger("worker").warning("on the way to %s", value)
    return value


def text_of(said):
    attributes, _extras = pickle.loads(said.body)
    return attributes["msg"]


def test_a_record_goes_before_the_answer(bench):
    worker = bench(log_levels={"": logging.INFO})
    worker.call(1, log_and_return, 7)
    assert text_of(worker.hears(_wire.LOG)) == "on the way to 7"
    assert worker.value(1) == 7


def test_without_levels_no_record_travels(bench):
    worker = bench()
    worker.call(1, log_and_return, 7)
    assert worker.value(1) == 7


def start_chatter():
    """Start a thread that logs and logs."""
    threading.Thread(target=chatter, daemon=True).start()


def chatter():
    for number in range(2000):
        logging.getLogger("worker").warning("%d %s", number, "x" * 5000)


def test_records_of_a_thread_and_large_answers_do_not_mix(bench):
    worker, data = bench(log_levels={"": logging.INFO}), os.urandom(MEGABYTE) * 3
    worker.call(1, start_chatter)
    for seq in range(2, 7):
        worker.call(seq, echo, data)
    records, answers = 0, []
    while records < 2000 or len(answers) < 6:
        said = worker.say()
        if said.kind == _wire.LOG:
            assert text_of(said).startswith(f"{records} ")
            records += 1
        else:
            answers.append(decode_value(said.body, said.buffers))
    assert answers == [None] + [data] * 5


class Desk:
    """A socket on which somebody speaks in the middle of a frame: a finalizer, or the handler of a signal."""

    def __init__(self):
        self.got, self.interruptions = b"", []

    def setblocking(self, flag):
        assert flag

    def sendall(self, data):
        half = len(data) // 2
        self.got += data[:half]
        while self.interruptions:
            self.interruptions.pop(0)()
        self.got += data[half:]

    def sendmsg(self, parts):
        self.sendall(bytes(parts[0]))
        return len(parts[0])

    def frames(self):
        here, there = socket.socketpair()
        with here, there:
            here.sendall(self.got)
            here.close()
            frames, found = _wire.Frames(there), []
            while not frames.ended:
                found += [(NAMES[one.kind], bytes(one.body)) for one in frames.receive()]
        return found


@pytest.fixture
def mute(nothing_left):
    """A worker in this process, and the desk that it speaks to."""
    desk, previous = Desk(), signal.getsignal(signal.SIGINT)
    with socket.socket() as lifeline:
        yield Worker(Channel(desk, -1, lifeline), Setup()), desk
    signal.signal(signal.SIGINT, previous)


@pytest.mark.parametrize("parts", [[b"the answer"], [b"the ", b"answer"]])
def test_a_record_that_is_written_during_a_send_goes_behind(mute, parts):
    worker, desk = mute
    desk.interruptions = [lambda: worker._send_log(b"first"), lambda: worker._send_log(b"second")]
    worker._send(_wire.VALUE, 1, Message(parts))
    assert desk.frames() == [("VALUE", b"the answer"), ("LOG", b"first"), ("LOG", b"second")]
    worker._send_log(b"third")
    worker._send(_wire.VALUE, 2, Message([b"next"]))
    assert desk.frames()[3:] == [("LOG", b"third"), ("VALUE", b"next")]


def test_a_record_of_another_thread_waits_for_the_end_of_the_frame(mute):
    worker, desk = mute
    other = threading.Thread(target=worker._send_log, args=(b"from beside",))

    def start():
        other.start()
        other.join(0.05)
        assert other.is_alive(), "it waits"

    desk.interruptions = [start]
    worker._send(_wire.VALUE, 1, Message([b"answer"]))
    other.join(SECONDS)
    assert desk.frames() == [("VALUE", b"answer"), ("LOG", b"from beside")]


def test_an_interrupt_of_an_idle_worker_raises_nothing(mute):
    worker, _desk = mute
    signal.raise_signal(signal.SIGINT)
    worker._running = True
    with pytest.raises(KeyboardInterrupt):
        signal.raise_signal(signal.SIGINT)
