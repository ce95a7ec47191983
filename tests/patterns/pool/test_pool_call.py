"""Calls and values on paper: every form, what is copied and what is not, and what is refused at the door."""

from __future__ import annotations

import functools
import math
import operator
import os.path
import pickle
import re
import sys
import threading
import types

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_prodpatterns.patterns.pool import _call
from pytest_prodpatterns.patterns.pool._call import (
    LARGE,
    ItemsEncoder,
    decode_call,
    decode_value,
    encode_call,
    encode_value,
    name_of_call,
)


def plain(*args, **kwargs):
    return args, kwargs


def größe():
    return "a name beyond ASCII"


async def in_a_loop():
    """A coroutine function."""


def decorated(func):
    @functools.wraps(func)
    def wrapper(*args):
        return func(*args)

    return wrapper


@decorated
def wrapped(number):
    return number


class Adder:
    """A callable object with methods of every kind."""

    def __init__(self, base=0):
        self.base = base

    def __eq__(self, other):
        return type(other) is Adder and other.base == self.base

    __hash__ = None

    def __call__(self, number):
        return self.base + number

    def add(self, number):
        return self.base + number

    @classmethod
    def make(cls, base):
        return cls(base)

    @staticmethod
    def double(number):
        return 2 * number

    async def later(self):
        """A coroutine function, bound."""


class AsyncCallable:
    async def __call__(self):
        """Called by awaiting."""


class Buffers:
    """Arrives as a tuple of buffers, as arrays do that pickle by protocol 5."""

    def __init__(self, *contents):
        self.contents = contents

    def __reduce_ex__(self, protocol):
        return tuple, ([pickle.PickleBuffer(content) for content in self.contents],)


def arrived(message):
    """Join the parts of a message into what the other side gets: a body, and buffers."""
    data = memoryview(bytearray(b"".join(map(bytes, message.parts))))
    assert message.size == len(data)
    at = len(data) - sum(message.buffers)
    body, buffers = data[:at], []
    for length in message.buffers:
        buffers.append(data[at : at + length])
        at += length
    return body, buffers


def there_and_back(func, args=(), kwargs=None, context=None):
    found, *rest = decode_call(*arrived(encode_call(func, args, kwargs or {}, context)))
    return found, *rest


def taken_apart(func):
    """What makes two callables the same, beyond their own idea of it."""
    if isinstance(func, functools.partial):
        return func.func, func.args, func.keywords
    if isinstance(func, types.MethodType | types.BuiltinMethodType):
        return func.__name__, func.__self__
    return func("ab") if isinstance(func, operator.itemgetter) else func


# --- every form --------------------------------------------------------------------------------------------

FUNCTIONS = [plain, größe, wrapped, os.path.join]
OBJECTS = [
    len,
    math.sqrt,
    dict,
    Adder,
    Adder(3),
    Adder(3).add,
    Adder.make,
    Adder.double,
    Adder.add,
    functools.partial(plain, 1, two=2),
    operator.itemgetter(1),
    "text".upper,
]


@pytest.mark.parametrize("context", [None, {0: "value", 2: None}])
@pytest.mark.parametrize(
    ("args", "kwargs"), [((), {}), ((1, "two"), {}), ((), {"three": 3}), ((None,), {"four": [4]})]
)
@pytest.mark.parametrize("func", [*FUNCTIONS, *OBJECTS], ids=name_of_call)
def test_a_call_arrives_as_it_was_made(func, args, kwargs, context):
    found, found_args, found_kwargs, found_context = there_and_back(func, args, kwargs, context)
    assert taken_apart(found) == taken_apart(func)
    assert (tuple(found_args), dict(found_kwargs), found_context) == (args, kwargs, context)


@pytest.mark.parametrize("context", [None, {0: "value"}])
@pytest.mark.parametrize("star", [False, True])
@pytest.mark.parametrize("func", [plain, "{}".format, functools.partial(plain, 1)], ids=name_of_call)
def test_a_call_for_several_items_is_one_call_for_each(func, star, context):
    items = ((1, 2), (3, 4))
    message = ItemsEncoder(func, star=star)(items, context)
    run, args, kwargs, found_context = decode_call(*arrived(message))
    assert run(*args, **kwargs) == (
        [func(*item) for item in items] if star else [func(item) for item in items]
    )
    assert found_context == context


def test_a_call_for_several_items_travels_with_the_name_of_its_function_and_the_items_alone():
    (part,) = ItemsEncoder(plain, star=False)((1, 2)).parts
    assert bytes(part).endswith(f"{plain.__module__}:{plain.__qualname__}".encode() + pickle.dumps((1, 2), 5))


def test_buffers_of_items_are_copied_and_travel_beside_them():
    data = bytearray(b"changed later" * 9_999)
    message = ItemsEncoder(plain, star=False)((pickle.PickleBuffer(data),))
    data[:] = bytes(len(data))
    run, (_func, items), _kwargs, _context = decode_call(*arrived(message))
    assert message.buffers
    assert bytes(items[0]).startswith(b"changed later")


@pytest.mark.parametrize("func", [plain, functools.partial(plain)], ids=["named", "pickled"])
def test_an_item_that_does_not_pickle_is_told_with_the_function(func):
    with pytest.raises(Exception, match="pickle") as caught:
        ItemsEncoder(func, star=False)((1, lambda: None))
    assert any("cannot be sent to a worker" in note for note in caught.value.__notes__)


def test_what_cannot_be_called_is_refused_before_any_item():
    with pytest.raises(TypeError, match="a task must be callable, got 3"):
        ItemsEncoder(3, star=False)


@pytest.mark.parametrize("func", FUNCTIONS, ids=name_of_call)
def test_a_function_travels_as_its_name(func):
    (part,) = encode_call(func, (), {}).parts
    assert part.endswith(f"{func.__module__}:{func.__qualname__}".encode())
    assert len(part) == 3 + len(f"{func.__module__}:{func.__qualname__}".encode()), "and nothing else"
    assert there_and_back(func)[0] is func


def test_an_empty_context_is_none():
    assert there_and_back(plain, (), {}, {}) == (plain, (), {}, None)


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text() | st.binary(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner) | st.tuples(inner, inner),
    max_leaves=8,
)


@given(
    func=st.sampled_from([plain, len, Adder(1), Adder(2).add]),
    args=st.lists(VALUES, max_size=3),
    kwargs=st.dictionaries(st.text(), VALUES, max_size=3),
    context=st.none() | st.dictionaries(st.integers(0, 300), VALUES, min_size=1, max_size=2),
)
def test_any_arguments_arrive(func, args, kwargs, context):
    found, found_args, found_kwargs, found_context = there_and_back(func, tuple(args), kwargs, context)
    assert taken_apart(found) == taken_apart(func)
    assert (list(found_args), found_kwargs, found_context) == (args, kwargs, context)


@given(VALUES)
def test_any_value_arrives(value):
    found = decode_value(*arrived(encode_value(value)))
    assert (type(found), found) == (type(value), value)


@pytest.mark.parametrize("size", [0, 1, LARGE - 1, LARGE, LARGE + 1, 3 * LARGE])
@pytest.mark.parametrize(
    "kind", [bytes, bytearray, lambda size: "ä" * size], ids=["bytes", "bytearray", "str"]
)
def test_values_of_every_size_arrive(kind, size):
    value = kind(size)
    found = decode_value(*arrived(encode_value(value)))
    assert (type(found), found) == (type(value), value)
    call = there_and_back(plain, (value, [value]), {"key": value})
    assert call == (plain, (value, [value]), {"key": value}, None)


# --- what is copied and what is not --------------------------------------------------------------------------


@pytest.mark.parametrize(
    "encode",
    [
        encode_value,
        lambda data: encode_call(plain, (1, data), {}),
        lambda data: encode_call(plain, (), {"key": data}),
        lambda data: encode_call(Adder(1), (data,), {}),
        lambda data: encode_call(plain, (data,), {}, {0: "context"}),
    ],
    ids=["value", "argument", "keyword", "object", "context"],
)
def test_large_bytes_are_not_copied(encode):
    data = bytes(LARGE)
    message = encode(data)
    assert [part for part in message.parts if part is data]
    assert message.size - LARGE < 1000


def test_a_large_bytearray_that_is_a_result_is_not_copied():
    data = bytearray(LARGE)
    assert [part for part in encode_value(data).parts if part is data]


@pytest.mark.parametrize(
    ("args", "changed"),
    [
        ((bytearray(LARGE),), 0),
        ((bytes(LARGE), bytearray(LARGE)), 1),
        ((bytearray(10),), 0),
        (([1, 2, 3],), 0),
    ],
    ids=["large", "beside bytes", "small", "list"],
)
def test_what_is_changed_after_the_submit_is_not_changed_in_the_call(args, changed):
    message = encode_call(plain, args, {})
    before = len(args[changed]), bytes(args[changed])
    args[changed].clear()
    _func, found, _kwargs, _context = decode_call(*arrived(message))
    assert (len(found[changed]), bytes(found[changed])) == before


def test_an_array_that_is_changed_after_the_submit_is_not_changed_in_the_call():
    memory = bytearray(b"abc")
    message = encode_call(plain, (Buffers(memory),), {})
    memory[:] = b"xyz"
    _func, ((buffer,),), _kwargs, _context = decode_call(*arrived(message))
    assert bytes(buffer) == b"abc"


def test_buffers_travel_beside_the_pickle():
    contents = [bytearray(b"first"), b"", b"third" * LARGE, bytearray(7)]
    message = encode_call(plain, (Buffers(*contents),), {})
    assert message.buffers == [len(content) for content in contents]
    assert len(message.parts) == 1 + len(contents)
    assert len(message.parts[0]) < 1000
    _func, (found,), _kwargs, _context = decode_call(*arrived(message))
    assert [*map(bytes, found)] == [*map(bytes, contents)]
    assert [view.readonly for view in found] == [False, True, True, False]


def test_buffers_that_nobody_can_change_are_not_copied():
    data = b"constant" * LARGE
    *_, part = encode_call(plain, (Buffers(data),), {}).parts
    assert part.obj is data


@pytest.mark.parametrize("encode", [encode_value, lambda value: encode_call(plain, (value,), {})])
def test_buffers_and_large_bytes_may_come_together(encode):
    value = [Buffers(bytearray(b"ab"), b"cd"), bytes(LARGE), Buffers(b"ef")]
    message = encode(value)
    assert message.buffers == [2, 2, 2]
    body, buffers = arrived(message)
    found = decode_value(body, buffers) if encode is encode_value else decode_call(body, buffers)[1][0]
    assert [*map(bytes, found[0])] == [b"ab", b"cd"]
    assert found[1] == value[1]
    assert bytes(found[2][0]) == b"ef"


def test_a_buffer_with_gaps_is_refused():
    with pytest.raises(
        pickle.PicklingError,
        match=r"^PickleBuffer can not be pickled when .* non-contiguous buffer\nan argument of plain cannot be sent to a worker: it must be picklable$",
    ):
        encode_call(plain, (Buffers(memoryview(bytearray(10))[::2]),), {})


# --- functions that have no name -------------------------------------------------------------------------------


def test_a_function_whose_place_another_has_taken_is_refused(monkeypatch):
    original = plain
    monkeypatch.setattr(sys.modules[__name__], "plain", len)
    with pytest.raises(
        pickle.PicklingError, match=r"it's not the same object as .*plain\nplain cannot be sent to a worker, "
    ):
        encode_call(original, (1,), {})


def test_a_function_that_was_deleted_is_refused(monkeypatch):
    original = plain
    monkeypatch.delattr(sys.modules[__name__], "plain")
    with pytest.raises(pickle.PicklingError, match=r"plain"):
        encode_call(original, (), {})


def local_function():
    def inner():
        """Nobody finds it."""

    return inner


@pytest.mark.parametrize("func", [lambda: None, local_function(), functools.partial(lambda: None)])
def test_a_function_that_no_module_knows_is_refused(func):
    with pytest.raises((pickle.PicklingError, AttributeError), match=r"<l(ambda|ocals)>"):
        encode_call(func, (), {})


def test_a_function_without_a_module_is_refused():
    func = types.FunctionType(plain.__code__, {}, "stray")
    func.__module__, func.__qualname__ = None, "stray"
    with pytest.raises(pickle.PicklingError, match=r"stray"):
        encode_call(func, (), {})


def test_a_name_too_long_for_the_form_is_pickled(monkeypatch):
    name = "f" * LARGE
    func = types.FunctionType(plain.__code__, globals(), name)
    func.__qualname__ = name
    monkeypatch.setitem(globals(), name, func)
    assert there_and_back(func, (1,)) == (func, (1,), {}, None)


def test_a_worker_that_lacks_the_function_says_so(monkeypatch):
    message = encode_call(plain, (), {})
    monkeypatch.delattr(sys.modules[__name__], "plain")
    with pytest.raises(
        AttributeError,
        match=rf"^the worker's '{__name__}' has no 'plain': a task's function must stand in a module that workers"
        r" can import$",
    ):
        decode_call(*arrived(message))


def test_a_worker_imports_the_module_or_says_which_is_missing(monkeypatch):
    module = types.ModuleType("module_of_a_caller")
    exec("def func(): pass", module.__dict__)
    monkeypatch.setitem(sys.modules, module.__name__, module)
    message = encode_call(module.func, (), {})
    monkeypatch.delitem(sys.modules, module.__name__)
    with pytest.raises(ModuleNotFoundError, match=r"^No module named 'module_of_a_caller'$"):
        decode_call(*arrived(message))
    monkeypatch.setattr(
        _call.importlib, "import_module", lambda name: {"module_of_a_caller": module}[name], raising=True
    )
    assert decode_call(*arrived(message))[0] is module.func


# --- what is refused at the door -------------------------------------------------------------------------------


@pytest.mark.parametrize("thing", [None, 3, "len", [len]])
def test_what_cannot_be_called_is_refused(thing):
    with pytest.raises(TypeError) as caught:
        encode_call(thing, (), {})
    assert str(caught.value) == f"a task must be callable, got {thing!r}"


def local_coroutine_function():
    async def inner():
        """Neither importable nor a plain function."""

    return inner


@pytest.mark.parametrize(
    ("func", "name"),
    [
        (in_a_loop, "in_a_loop"),
        (functools.partial(in_a_loop), "in_a_loop"),
        (Adder(1).later, "Adder.later"),
        (Adder.later, "Adder.later"),
        (local_coroutine_function(), "local_coroutine_function.<locals>.inner"),
        (AsyncCallable(), "AsyncCallable"),
    ],
    ids=["function", "partial", "method", "unbound", "local", "object"],
)
def test_coroutine_functions_are_refused_with_a_way_out(func, name):
    with pytest.raises(TypeError) as caught:
        encode_call(func, (), {})
    assert str(caught.value) == (
        f"{name} is a coroutine function, and a worker runs plain functions; wrap it:"
        " def task(...): return asyncio.run(...)"
    )


@pytest.mark.parametrize(
    ("args", "kwargs"),
    [((threading.Lock(),), {}), ((), {"lock": threading.Lock()}), ((bytes(LARGE), threading.Lock()), {})],
    ids=["argument", "keyword", "behind large bytes"],
)
def test_arguments_that_do_not_pickle_are_refused(args, kwargs):
    with pytest.raises(
        TypeError,
        match=r"^cannot pickle '_thread.lock' object\nan argument of plain cannot be sent to a worker: it must be picklable$",
    ):
        encode_call(plain, args, kwargs)


# --- names -----------------------------------------------------------------------------------------------------


class Secretive:
    """Raises whenever it is asked for something that it does not have."""

    def __call__(self):
        return None

    def __getattr__(self, name):
        raise RuntimeError("do not ask")


class Misnamed:
    __qualname__ = "Misnamed"

    def __init__(self):
        self.__qualname__ = 3


NAMES = [
    (plain, "plain"),
    (len, "len"),
    (Adder, "Adder"),
    (Adder(1), "Adder"),
    (Adder(1).add, "Adder.add"),
    (wrapped, "wrapped"),
    (functools.partial(plain, 1), "plain"),
    (functools.partial(functools.partial(plain, 1), 2), "plain"),
    (functools.partial(Adder(1)), "Adder"),
    (operator.itemgetter(1), "itemgetter"),
    (Secretive(), "Secretive"),
    (Misnamed(), "Misnamed"),
    (None, "NoneType"),
]


@pytest.mark.parametrize("number", range(len(NAMES)), ids=[name for _func, name in NAMES])
def test_a_task_has_a_name_whatever_it_calls(number):
    func, name = NAMES[number]
    assert name_of_call(func) == name


@pytest.mark.parametrize(
    ("func", "args", "note"),
    [
        (
            lambda: 1,
            (),
            r"<lambda> cannot be sent to a worker, .* define it with def at the top of a module .*",
        ),
        (abs, (lambda: 1,), r"an argument of abs cannot be sent to a worker: it must be picklable"),
        (
            pytest.raises,
            (lambda: 1,),
            r"an argument of raises cannot be sent to a worker: it must be picklable",
        ),
    ],
    ids=["function", "argument of a builtin", "argument of a function"],
)
def test_what_cannot_be_pickled_is_told_with_what_to_do(func, args, note):
    with pytest.raises((AttributeError, pickle.PicklingError)) as caught:
        encode_call(func, args, {})
    assert re.fullmatch(note, caught.value.__notes__[-1])
