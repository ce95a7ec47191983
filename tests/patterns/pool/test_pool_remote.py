"""The way of an exception from the worker to the caller: of its own type, with its traceback, and never a danger.

Most tests go the way within one process: what is different in the parent is what `HERE` tells to the nasty ones.
One test lets another process do the packing.
"""

from __future__ import annotations

import copyreg
import importlib
import pickle
import subprocess
import sys
import textwrap
import threading
import time
import traceback
from pathlib import Path

import nasty_errors
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from nasty_errors import (
    ALL,
    HERE,
    BadByte,
    BadLoad,
    BadReduce,
    BadText,
    CodedGroup,
    EvilEquality,
    EvilInTheParent,
    Frozen,
    HoldsALock,
    KeywordOnly,
    LeavesInTheParent,
    Liar,
    LoadsAsANumber,
    NoArguments,
    NoSuchPlace,
    NoSuchPlugin,
    OnlyInTheWorker,
    OwnNew,
    Reworded,
    SaysEvilText,
    Slotted,
    StandIn,
    TextIsANumber,
    Thoughtful,
    TwoArguments,
    TwoBases,
    local_type,
    raised,
)

from pytest_prodpatterns.patterns.pool import RemoteError, RemoteTraceback, TaskTimeout
from pytest_prodpatterns.patterns.pool import _remote as remote
from pytest_prodpatterns.patterns.pool._remote import pack_error, unpack_error

MOST = 2_000_000
"""Bytes that a packed exception may have, roughly: 1 MiB of parts, and the texts."""


@pytest.fixture(autouse=True)
def worker():
    """Begin in the worker, with nothing remembered."""
    HERE["parent"] = False
    remote._stacks.clear()
    yield
    HERE["parent"] = False


def sent(error):
    """Return what arrives in the parent when a task raises the error."""
    data = pack_error(raised(error))
    HERE["parent"] = True
    try:
        return unpack_error(data)
    finally:
        HERE["parent"] = False


def worker_says(error):
    return error.__cause__.args[0]


# --- whatever comes -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ALL)  # by name, for pytest does not bear the sight of some
def test_every_exception_arrives_as_an_exception_with_its_traceback(name):
    begin = time.monotonic()
    data = pack_error(raised(ALL[name]()))
    assert len(data) < MOST
    HERE["parent"] = True
    error = unpack_error(data)
    assert time.monotonic() - begin < 5
    kind = type(error)
    assert issubclass(kind, Exception)
    assert not issubclass(kind, SystemExit | KeyboardInterrupt | GeneratorExit)
    cause = vars(BaseException)["__cause__"].__get__(error)
    assert type(cause) is RemoteTraceback


@pytest.mark.parametrize("name", sorted(set(ALL) - {"long chain"}))
def test_the_callers_exception_shows_where_the_task_failed(name):
    error = sent(ALL[name]())
    text = vars(BaseException)["__cause__"].__get__(error).args[0]
    assert "Traceback (most recent call last):\n" in text
    assert "in raised\n" in text
    assert "    raise error\n" in text


def test_another_process_packs_them_all(tmp_path):
    file = tmp_path / "packed"
    subprocess.run([sys.executable, nasty_errors.__file__, str(file)], check=True, timeout=60)
    HERE["parent"] = True
    packed = pickle.loads(file.read_bytes())
    assert packed.keys() == ALL.keys()
    for name, data in packed.items():
        error = unpack_error(data)
        assert issubclass(type(error), Exception), name
    # The program's main module is not ours, so its own types arrive by name and text.
    error = unpack_error(packed["two arguments"])
    assert (type(error), error.type_name, error.text) == (RemoteError, "__main__.TwoArguments", "code 7")
    error = unpack_error(packed["OSError"])
    assert (type(error), error.type_name) == (RemoteError, "__main__.NoSuchPlace")
    assert (type(unpack_error(packed["ordinary"])), unpack_error(packed["ordinary"]).args) == (
        ValueError,
        ("x", 3),
    )


# --- as itself ----------------------------------------------------------------------------------------------

ITSELF = {
    "ordinary": (ValueError("x", 3), {"args": ("x", 3)}),
    "two arguments": (TwoArguments(7, "again"), {"args": ("code 7",), "code": 7, "hint": "again"}),
    "not reworded": (Reworded(7), {"args": ("code 7",), "code": 7}),
    "keyword only": (KeywordOnly(code=7), {"args": ("code 7",), "code": 7}),
    "no arguments": (NoArguments(), {"args": ("always the same",)}),
    "own __new__": (OwnNew(1, 2), {"args": (1,), "hint": 2}),
    "slots": (Slotted("x"), {"args": ("x",), "code": None}),
    "frozen": (Frozen(7), {"code": 7, "hint": "none"}),
    "OSError": (
        NoSuchPlace("/place", 9),
        {"errno": 2, "strerror": "no such place", "filename": "/place", "extra": 9},
    ),
    "UnicodeDecodeError": (
        BadByte(b"abc", 1),
        {"encoding": "utf-8", "object": b"abc", "start": 1, "end": 2, "reason": "bad"},
    ),
    "ImportError": (NoSuchPlugin("app", 1), {"name": "app", "msg": "no plugin"}),
    "two bases": (TwoBases(1, 2), {"args": (1,), "hint": 2}),
    "__reduce__ on purpose": (Thoughtful("a stand-in"), {"args": ("a stand-in",)}),
    "__reduce__ fails": (BadReduce(SystemExit), {"args": (SystemExit,)}),
    "loading fails": (BadLoad(KeyboardInterrupt), {"args": (KeyboardInterrupt,)}),
    "loads as a number": (LoadsAsANumber(7), {"args": (7,)}),
    "text is a number": (TextIsANumber(7), {"args": (7,)}),
    "a pool's": (TaskTimeout(task_id="1", timeout=2, pid=3), {"task_id": "1", "timeout": 2, "pid": 3}),
    "a group": (ExceptionGroup("many", [ValueError(1)]), {"message": "many"}),
}


@pytest.mark.parametrize(("error", "attributes"), ITSELF.values(), ids=ITSELF)
def test_an_exception_arrives_as_itself(error, attributes):
    arrived = sent(error)
    assert type(arrived) is type(error)
    assert {name: getattr(arrived, name) for name in attributes} == attributes
    try:
        text = str(error)
    except Exception:
        return
    assert str(arrived) == text


def test_a_slot_that_was_set_later_travels():
    error = Slotted("x")
    error.code = 7
    assert sent(error).code == 7


def test_an_unset_slot_stays_unset():
    assert not hasattr(sent(Slotted("x")), "never_set")


def test_a_reduce_that_replaces_an_argument_on_purpose_is_trusted():
    arrived = sent(Thoughtful(threading.Lock()))
    assert (type(arrived), arrived.args) == (Thoughtful, ("a stand-in",))


def test_what_does_not_pickle_arrives_as_its_repr():
    arrived = sent(HoldsALock())
    assert (type(arrived), arrived.code) == (HoldsALock, 7)
    first, second = arrived.args
    assert first == "locked"
    assert second.startswith("<unlocked _thread.lock object at ")
    assert arrived.lock.startswith("<unlocked _thread.lock object at ")


def test_what_does_not_like_to_be_compared_arrives_all_the_same():
    (arrived,) = sent(ValueError(EvilEquality())).args
    assert type(arrived) is EvilEquality


def test_a_repr_that_fails_is_replaced_by_words():
    error = TwoArguments(1, BadText())
    error.lock = LocklikeWithoutRepr()
    arrived = sent(error)
    assert arrived.lock == f"<{__name__}.LocklikeWithoutRepr: repr() failed>"
    assert type(arrived.hint) is BadText


class LocklikeWithoutRepr:
    def __reduce__(self):
        raise TypeError("no")

    def __repr__(self):
        raise KeyboardInterrupt


def test_the_members_of_a_group_arrive_as_themselves():
    inner = CodedGroup("inner", [TwoArguments(1, "a"), local_type()("hidden")], 7)
    outer = sent(ExceptionGroup("outer", [Reworded(3), inner]))
    first, second = outer.exceptions
    assert (type(outer), outer.message) == (ExceptionGroup, "outer")
    assert (type(first), str(first), first.code) == (Reworded, "code 3", 3)
    assert (type(second), second.message, second.code) == (CodedGroup, "inner", 7)
    third, fourth = second.exceptions
    assert (type(third), third.hint) == (TwoArguments, "a")
    assert (type(fourth), fourth.text) == (RemoteError, "hidden")


def test_an_exception_held_by_another_arrives_as_itself():
    error = TwoArguments(1, TwoArguments(2, threading.Lock()))
    error.causes = [Reworded(3), ValueError(4)]
    arrived = sent(error)
    assert (type(arrived.hint), arrived.hint.code) == (TwoArguments, 2)
    assert [(type(each), str(each)) for each in arrived.causes] == [(Reworded, "code 3"), (ValueError, "4")]
    assert type(arrived.causes) is list
    error.causes = tuple(error.causes)
    assert type(sent(error).causes) is tuple


def test_a_group_that_takes_other_arguments_keeps_its_members():
    arrived = sent(ALL["group of other arguments"]())
    assert (type(arrived), arrived.message) == (nasty_errors.FixedGroup, "fixed")
    assert [type(each) for each in arrived.exceptions] == [TwoArguments]


@pytest.mark.parametrize("name", ["unwilling", "odd attributes", "sees all", "number in the parent"])
def test_a_type_that_can_be_imported_arrives_as_itself_however_odd(name):
    error = ALL[name]()
    assert type(sent(error)) is type(error)


def test_what_lacked_an_attribute_stays_behind():
    arrived = sent(ALL["AttributeError"]())
    assert (type(arrived), arrived.name, arrived.obj) == (nasty_errors.NoSuchField, "x", None)


def test_an_exception_that_holds_itself_arrives():
    arrived = sent(nasty_errors.in_a_circle())
    assert (type(arrived), arrived.args[0], type(arrived.me)) == (ValueError, "round", RemoteError)


def test_a_type_that_lets_others_pickle_it_is_left_to_them(monkeypatch):
    monkeypatch.setitem(
        copyreg.dispatch_table, TwoArguments, lambda error: (TwoArguments, ("their code", "theirs"))
    )
    arrived = sent(TwoArguments(1, "ours"))
    assert (arrived.args, arrived.hint) == (("code their code",), "theirs")


def test_the_attributes_of_what_went_wrong_stay_with_an_attribute_error():
    with pytest.raises(AttributeError) as caught:
        _ = object().missing
    arrived = sent(caught.value)
    assert (type(arrived), arrived.args) == (AttributeError, caught.value.args)


# --- not as itself ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "type_name", "text"),
    [
        ("SystemExit", "SystemExit", "3"),
        ("KeyboardInterrupt", "KeyboardInterrupt", ""),
        ("GeneratorExit", "GeneratorExit", ""),
        ("CancelledError", "asyncio.exceptions.CancelledError", ""),
        ("BaseExceptionGroup", "BaseExceptionGroup", "many (1 sub-exception)"),
        ("ends the caller", "nasty_errors.EndsTheCaller", "3"),
        ("local type", "nasty_errors.local_type.<locals>.Local", "x"),
        ("shy type", "a type without a name", ""),
        ("liar", "OSError", ""),
        ("leaves in the parent", "nasty_errors.LeavesInTheParent", "x"),
    ],
)
def test_what_may_not_or_cannot_arrive_as_itself_is_a_remote_error(name, type_name, text):
    error = sent(ALL[name]())
    assert (type(error), error.type_name, error.text) == (RemoteError, type_name, text)
    assert str(error) == (f"{type_name}: {text}" if text else type_name)
    assert error.traceback == worker_says(error)
    assert error.traceback
    assert state_of(pickle.loads(pickle.dumps(error))) == state_of(error)


def test_of_what_would_end_the_caller_nothing_but_words_is_packed():
    sealed, _, _ = pickle.loads(pack_error(SystemExit(3)))
    assert sealed == ("SystemExit", "3", ("", ""), None)


def test_the_main_module_of_a_spawned_worker_is_called_main():
    hidden = local_type()
    hidden.__module__, hidden.__qualname__ = "__mp_main__", "Hidden"
    assert sent(hidden("x")).type_name == "__main__.Hidden"


def state_of(error):
    return type(error), error.args, vars(error)


def test_a_liar_does_not_arrive_as_the_type_it_claims_to_be():
    assert (Liar.__module__, Liar.__qualname__) == ("builtins", "OSError")
    assert not isinstance(sent(Liar()), OSError)


def test_a_type_that_cannot_be_imported_may_name_a_stand_in():
    arrived = sent(nasty_errors.with_a_stand_in())
    assert (type(arrived), arrived.args) == (StandIn, ("hidden",))


def test_a_remote_error_of_another_pool_keeps_its_own_traceback():
    error = RemoteError(type_name="app.Odd", text="odd", traceback="from far away")
    arrived = sent(error)
    assert (arrived.type_name, arrived.traceback) == ("app.Odd", "from far away")
    assert "in raised" in worker_says(arrived)


# --- what works in the worker only --------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [ValueError, SystemExit, KeyboardInterrupt])
def test_a_type_that_explodes_in_the_parent_arrives_around_its_text(kind):
    error = EvilInTheParent(kind, "x")
    text = str(error)
    arrived = sent(error)
    assert (type(arrived), arrived.args) == (EvilInTheParent, (text,))


def test_an_argument_that_explodes_in_the_parent_does_not_cost_the_type():
    error = TwoArguments(1, "hint")
    error.tool = OnlyInTheWorker()
    arrived = sent(error)
    assert (type(arrived), arrived.hint) == (TwoArguments, "hint")
    assert arrived.tool == "<nasty_errors.OnlyInTheWorker that cannot be loaded here>"


def test_a_type_that_turns_into_an_exit_in_the_parent_is_a_remote_error():
    arrived = sent(LeavesInTheParent("x"))
    assert type(arrived) is RemoteError


def test_a_type_that_the_parent_cannot_import_is_a_remote_error(tmp_path, monkeypatch):
    Path(tmp_path, "only_there.py").write_text(
        textwrap.dedent("""
            class Ordinary(Exception): pass
            class TwoArguments(Exception):
                def __init__(self, a, b): super().__init__(a)
        """)
    )
    monkeypatch.syspath_prepend(tmp_path)
    there = importlib.import_module("only_there")
    packed = [pack_error(raised(there.Ordinary("x"))), pack_error(raised(there.TwoArguments("x", 1)))]
    monkeypatch.undo()
    monkeypatch.delitem(sys.modules, "only_there")
    for name, data in zip(["Ordinary", "TwoArguments"], packed, strict=True):
        error = unpack_error(data)
        assert (type(error), error.type_name, error.text) == (RemoteError, f"only_there.{name}", "x")


@given(st.binary(max_size=40))
def test_any_bytes_are_some_exception(data):
    error = unpack_error(b"\x00" + data)
    assert type(error) is RemoteError
    assert error.text.startswith("the exception could not be read: ")


@pytest.mark.parametrize("make", [ValueError, HoldsALock, SystemExit])
def test_half_a_message_is_some_exception(make):
    data = pack_error(raised(make()))
    for length in range(len(data)):
        assert type(unpack_error(data[:length])) is RemoteError
    assert type(unpack_error(memoryview(data))) is type(unpack_error(bytearray(data)))


# --- the traceback ------------------------------------------------------------------------------------------


def deep(levels, error):
    if levels:
        deep(levels - 1, error)
    raise error


def fails(error, levels=3):
    try:
        deep(levels, error)
    except BaseException as caught:
        return caught


def chained(first, second, how):
    try:
        try:
            raise first
        except Exception as cause:
            if how == "from":
                raise second from cause
            if how == "from None":
                raise second from None
            raise second  # noqa: B904
    except Exception as caught:
        return caught


TRACEBACKS = {
    "plain": lambda: fails(ValueError("x")),
    "no traceback": lambda: ValueError("x"),
    "recursion": lambda: fails(ValueError("x"), levels=300),
    "notes": lambda: noted(fails(ValueError("x")), "one", "two\nlines"),
    "cause": lambda: chained(ValueError(1), KeyError(2), "from"),
    "context": lambda: chained(ValueError(1), KeyError(2), "while"),
    "suppressed": lambda: chained(ValueError(1), KeyError(2), "from None"),
    "group": lambda: fails(ExceptionGroup("many", [ValueError(1), fails(KeyError(2))])),
    "name error": lambda: a_name_error(),
    "attribute error": lambda: an_attribute_error(),
    "syntax error": lambda: a_syntax_error(),
    "two arguments": lambda: fails(TwoArguments(1, 2)),
    "local type": lambda: fails(local_type()("x")),
}


def noted(error, *notes):
    for note in notes:
        error.add_note(note)
    return error


def a_name_error():
    number = 1
    try:
        return numbers + number  # noqa: F821
    except NameError as error:
        return error


def an_attribute_error():
    try:
        return "".uper()
    except AttributeError as error:
        return error


def a_syntax_error():
    try:
        compile("a b c", "a.py", "exec")
    except SyntaxError as error:
        return error


@pytest.mark.parametrize("make", TRACEBACKS.values(), ids=TRACEBACKS)
def test_the_traceback_is_what_python_prints_also_the_second_time(make):
    for _ in range(2):
        error = make()
        assert worker_says(unpack_error(pack_error(error))) == "".join(traceback.format_exception(error))


def test_the_same_place_with_another_text_says_the_other_text():
    first, second = (worker_says(unpack_error(pack_error(fails(ValueError(text))))) for text in "ab")
    assert (first, second) != (first, first)
    assert second == first.replace("ValueError: a", "ValueError: b")


def either(number):
    if number == 1:
        raise ValueError("x")
    return [[ValueError][number]("x"), 1 / 0] if number else 1 // 0


def test_places_in_the_same_function_are_told_apart():
    texts = set()
    for number in range(3):
        try:
            either(number)
        except Exception as error:
            text = worker_says(unpack_error(pack_error(error)))
            assert text == "".join(traceback.format_exception(error))
            texts.add(text)
    assert len(texts) == 3


def test_remembered_places_are_bounded():
    for number in range(3 * remote._MOST_STACKS):
        code = compile("\n" * number + "raise ValueError", "many.py", "exec")
        with pytest.raises(ValueError, match="^$") as caught:
            exec(code)
        pack_error(caught.value)
    pack_error(fails(ValueError(1), levels=2 * remote._DEEPEST_STACK))
    assert 0 < len(remote._stacks) <= remote._MOST_STACKS
    assert all(len(place) <= remote._DEEPEST_STACK for place in remote._stacks)


def test_the_pools_own_frames_are_not_shown():
    calls = {"__name__": f"{remote._OURS}._worker"}
    exec("def call(func): return func()", calls)
    with pytest.raises(ValueError, match="^x$") as caught:
        calls["call"](lambda: deep(0, ValueError("x")))
    text = worker_says(unpack_error(pack_error(caught.value.with_traceback(caught.tb.tb_next))))
    assert "in <lambda>" in text
    assert "in call" not in text


def test_an_error_of_the_pools_own_frames_alone_shows_them():
    calls = {"__name__": f"{remote._OURS}._worker"}
    exec("def call(): return {}['missing']", calls)
    with pytest.raises(KeyError) as caught:
        calls["call"]()
    text = worker_says(unpack_error(pack_error(caught.value.with_traceback(caught.tb.tb_next))))
    assert "in call" in text


def test_a_very_long_traceback_keeps_its_ends():
    error = ALL["long chain"]()
    text = worker_says(sent(error))
    assert len(text) < remote._LONGEST_TRACEBACK + 100
    assert text.startswith("ValueError: 0\n")
    assert text.endswith("ValueError: 2999\n")
    assert " characters …] " in text


def test_a_text_that_cannot_be_had_does_not_cost_the_traceback():
    assert worker_says(sent(ALL["bad text"]())).endswith("BadText: <exception str() failed>\n")
    error = ALL["unwilling"]()
    text = vars(BaseException)["__cause__"].__get__(sent(error)).args[0]
    assert text.endswith("    raise error\nnasty_errors.Unwilling: <nasty_errors.Unwilling: str() failed>\n")


def test_the_traceback_is_printed_above_the_exception():
    printed = "".join(traceback.format_exception(sent(ValueError("x"))))
    assert printed.startswith(
        'pytest_prodpatterns.patterns.pool.RemoteTraceback: \n"""\nTraceback (most recent'
    )
    assert 'ValueError: x\n"""\n\nThe above exception was the direct cause' in printed
    assert printed.endswith("\nValueError: x\n")


def test_a_remote_traceback_pickles():
    cause = sent(ValueError("x")).__cause__
    loaded = pickle.loads(pickle.dumps(cause))
    assert (type(loaded), str(loaded)) == (RemoteTraceback, str(cause))


@pytest.mark.parametrize(
    "make", [ValueError, HoldsALock, SystemExit, local_type(), lambda: TwoArguments(1, 2)]
)
def test_notes_arrive_once(make):
    arrived = sent(noted(make(), "first", "second"))
    assert arrived.__notes__ == ["first", "second"]
    assert worker_says(arrived).endswith("\nfirst\nsecond\n")


def test_notes_survive_a_reduce_that_forgets_them():
    assert sent(noted(Thoughtful(1), "kept")).__notes__ == ["kept"]


def test_an_odd_note_arrives_as_text():
    error = ValueError("x")
    error.__notes__ = [7, nasty_errors.EvilText("evil"), BadText()]
    data = pack_error(error)
    assert len(data) < MOST
    assert unpack_error(data).__notes__ == ["7", "evil", "<nasty_errors.BadText: str() failed>"]


# --- the size -----------------------------------------------------------------------------------------------


def test_a_large_argument_is_cut_and_the_rest_stays():
    error = TwoArguments("x", "hint")
    error.args = ("a" * 3_000_000, b"b" * 3_000_000, 7)
    first, second, third = sent(error).args
    assert (first[:3], len(first) < 1_100, third) == ("aaa", True, 7)
    assert (second[:4], type(second), len(second) < 1_100) == ("b'bb", str, True)
    assert " characters …] " in first


def test_a_large_text_is_cut():
    (text,) = sent(ValueError("a" * 3_000_000)).args
    assert (text[:3], text[-3:], len(text) < 1_100) == ("aaa", "aaa", True)


def test_a_large_argument_that_has_room_is_whole():
    error = sent(ValueError("a" * 900_000))
    assert error.args == ("a" * 900_000,)


def test_many_parts_are_cut_to_what_has_room():
    error = sent(ALL["large"]())
    assert type(error) is TwoArguments
    assert error.args[0].startswith("code xxx")
    assert 10 < len(error.args) < 200_000


# --- anything at all ----------------------------------------------------------------------------------------

KINDS = [
    Exception,
    ValueError,
    KeyError,
    TwoArguments,
    Reworded,
    Slotted,
    Frozen,
    TwoBases,
    BadText,
    SaysEvilText,
]

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.binary(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=10,
)
ANYTHING = VALUES | st.sampled_from(["lock", "error", "lambda", "evil"]).map(
    lambda kind: {
        "lock": threading.Lock(),
        "error": TwoArguments(1, threading.Lock()),
        "lambda": lambda: None,
        "evil": EvilEquality(),
    }[kind]
)


def bare(kind, args, attributes):
    """Make an exception without its constructor, as odd as can be."""
    base = OSError if issubclass(kind, OSError) else BaseException
    error = base.__new__(kind)
    vars(BaseException)["args"].__set__(error, tuple(args))
    vars(BaseException)["__dict__"].__get__(error).update(attributes)
    return error


@given(
    st.sampled_from(KINDS), st.lists(ANYTHING, max_size=4), st.dictionaries(st.text(), ANYTHING, max_size=4)
)
@example(ValueError, [], {"args": []})
@example(ValueError, [], {"__cause__": None})
def test_anything_arrives_as_its_own_type(kind, args, attributes):
    arrived = unpack_error(pack_error(bare(kind, args, attributes)))
    seen = type(arrived), len(vars(BaseException)["args"].__get__(arrived)), set(vars(arrived))
    assert seen[:2] == (
        kind,
        len(args),
    )  # not of `arrived` itself: pytest would ask some of these for their text
    assert seen[2] >= attributes.keys()


@given(
    st.sampled_from([Exception, ValueError, TwoArguments, Reworded, Slotted]),
    st.lists(VALUES, max_size=4),
    st.dictionaries(st.text(min_size=1), VALUES, max_size=4),
)
def test_what_pickles_arrives_unchanged(kind, args, attributes):
    arrived = unpack_error(pack_error(bare(kind, args, attributes)))
    assert repr(arrived.args) == repr(tuple(args))  # by repr, for nan is never equal
    assert repr({name: vars(arrived)[name] for name in attributes}) == repr(attributes)
