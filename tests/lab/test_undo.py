"""The undo stack: last in, first out, each on its own."""

from __future__ import annotations

import os

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_prodpatterns.lab import UndoStack
from pytest_prodpatterns.lab._undo import describe


def raiser(error: BaseException):
    def action():
        raise error

    return action


@given(st.lists(st.booleans(), max_size=12))
def test_everything_is_undone_newest_first_and_failures_stop_nothing(plan):
    stack, order = UndoStack(), []

    def action(index, fails):
        order.append(index)
        if fails:
            raise OSError(index)

    for index, fails in enumerate(plan):
        stack.push(str(index), lambda index=index, fails=fails: action(index, fails))
    failures = stack.run()
    assert order == list(reversed(range(len(plan))))
    assert [error.args[0] for error in failures] == [index for index in order if plan[index]]
    assert len(stack) == 0
    assert stack.run() == []


def test_what_was_undone_early_is_not_undone_again():
    stack, order = UndoStack(), []
    stack.push("a", lambda: order.append("a"))
    early = stack.push("b", lambda: order.append("b"))
    early.run()
    early.run()
    assert len(stack) == 1
    assert stack.run() == []
    assert order == ["b", "a"]


def test_an_early_undo_that_fails_is_told_to_the_caller_and_only_to_it():
    stack = UndoStack()
    early = stack.push("the proxy", raiser(OSError("gone")))
    with pytest.raises(OSError, match=r"^gone\nwhile undoing the proxy$"):
        early.run()
    assert stack.run() == []


def test_an_undo_may_register_another():
    stack, order = UndoStack(), []
    stack.push("a", lambda: stack.push("b", lambda: order.append("b")))
    assert stack.run() == []
    assert order == ["b"]


@pytest.mark.parametrize("interrupt", [KeyboardInterrupt, SystemExit])
def test_an_interrupt_lets_the_others_run_first(interrupt):
    stack, order = UndoStack(), []
    stack.push("a", lambda: order.append("a"))
    stack.push("b", raiser(interrupt()))
    with pytest.raises(interrupt):
        stack.run()
    assert order == ["a"]


def test_a_forked_child_does_not_undo_what_is_its_parents():
    stack, reading_writing = UndoStack(), os.pipe()
    stack.push("a", lambda: os.write(reading_writing[1], b"undone"))
    pid = os.fork()
    if pid == 0:  # pragma: no cover
        stack.run()
        os._exit(0)
    os.waitpid(pid, 0)
    os.set_blocking(reading_writing[0], False)
    with pytest.raises(BlockingIOError):
        os.read(reading_writing[0], 10)
    stack.run()
    assert os.read(reading_writing[0], 10) == b"undone"
    for descriptor in reading_writing:
        os.close(descriptor)


def test_the_description_names_each_fault_and_its_error():
    stack = UndoStack()
    stack.push("the proxy", raiser(OSError("gone")))
    stack.push("the clock", raiser(ValueError("bad")))
    text = describe(stack.run())
    assert "OSError: gone\nwhile undoing the proxy" in text
    assert "ValueError: bad\nwhile undoing the clock" in text
