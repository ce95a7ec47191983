"""How a call and its value are written for the way to a worker and back.

Theory of operation.  The caller's thread writes the call, so that what cannot be pickled raises there and the
pool never hears of it. A function that its module knows by name travels as that name, everything else (bound
methods, partials, callable objects) is pickled together with its arguments. No arguments, no pickle. Large
byte strings are not copied: a streaming pickler hands them over as they are, and buffers of pickle protocol 5
travel beside the pickle (PEP 574). So a message is a list of parts, written by one vectored send. A call may
wait, and be sent again: what its caller could change meanwhile is copied.

Layout of a call: one byte that says which of the six forms follows, the length of the name (two bytes), the
name, the pickle. Out-of-band buffers follow behind; the frame's header tells how many.
"""

from __future__ import annotations

import importlib
import pickle
import struct
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from itertools import starmap
from types import FunctionType
from typing import Any, Final, TypeAlias

Buffer: TypeAlias = bytes | bytearray | memoryview

LARGE: Final = 1 << 16
"""Bytes from which on a byte string is not copied."""

CO_COROUTINE: Final = 0x80
"""The flag of `inspect.CO_COROUTINE`, without the import."""

_FORM: Final = struct.Struct("<BH")
_BARE, _ARGUMENTS, _KEYWORDS, _WHOLE, _EACH, _STAR = range(6)
_CONTEXT: Final = 0x80
"""Flag of a form: values of context variables stand before the arguments."""

_protocol: Final = pickle.HIGHEST_PROTOCOL


class Message:
    """Parts of a message, in order.

    Attributes:
        parts: The pickle's parts, then the out-of-band buffers.
        buffers: Lengths of the out-of-band buffers, in bytes.
        size: Bytes of all parts.
    """

    __slots__ = ("buffers", "parts", "size")

    def __init__(self, parts: Sequence[Buffer], buffers: Sequence[int] = ()) -> None:
        self.parts = parts
        self.buffers = buffers
        self.size = len(parts[0]) if len(parts) == 1 else sum(map(len, parts))


class _Parts(list[Buffer]):
    """A file that keeps what is written to it as it is."""

    write = list.append


def encode_value(value: Any) -> Message:
    """Return a value, ready to be sent.

    Raises:
        Exception: Whatever pickling it raises.
    """
    if type(value) in (bytes, bytearray, str) and len(value) < LARGE:
        return Message((pickle.dumps(value, _protocol),))
    return _encode(b"", value, large=_is_large(value))


def decode_value(body: memoryview, buffers: Sequence[memoryview] = ()) -> Any:
    """Return the value that `encode_value` wrote."""
    return pickle.loads(body, buffers=buffers)  # noqa: S301 - a worker of ours wrote it


def encode_call(
    func: Callable[..., Any],
    args: Sequence[Any],
    kwargs: Mapping[str, Any],
    context: Mapping[int, Any] | None = None,
) -> Message:
    """Return a call, ready to be sent.

    Args:
        func: What to call.
        args: Its positional arguments.
        kwargs: Its keyword arguments.
        context: Values of context variables by place, see `_context`.

    Raises:
        TypeError: When `func` cannot be called by a worker: it is not callable, or a coroutine function.
        Exception: Whatever pickling the call raises.
    """
    name = _name_of(func) if type(func) is FunctionType else None
    if name is None:
        check_callable(func)
        form, name, payload = _WHOLE, b"", (func, args, kwargs)
    elif kwargs:
        form, payload = _KEYWORDS, (args, kwargs)  # type: ignore[assignment]
    elif args or context:
        form, payload = _ARGUMENTS, args  # type: ignore[assignment]
    else:
        return Message((_FORM.pack(_BARE, len(name)) + name,))
    if context:
        form, payload = form | _CONTEXT, (context, payload)  # type: ignore[assignment]
    large = _any_large(args) or (bool(kwargs) and _any_large(kwargs.values()))
    try:
        message = _encode(_FORM.pack(form, len(name)) + name, payload, large=large)
    except Exception as error:
        error.add_note(_what_to_do(func, named=bool(name)))
        raise
    return message if len(message.parts) == 1 else _unchanging(message)


class ItemsEncoder:
    """Write calls of one function, each for several items; the value of such a call is a list.

    Args:
        func: Called with one item after the other.
        star: Whether an item is a tuple of arguments.

    Raises:
        TypeError: When a worker cannot call `func`.
    """

    def __init__(self, func: Callable[..., Any], *, star: bool) -> None:
        check_callable(func)
        self.star = star
        self._func = func
        name = _name_of(func) if type(func) is FunctionType else None
        self._head = name and _FORM.pack(_STAR if star else _EACH, len(name)) + name

    def __call__(self, items: Sequence[Any], context: Mapping[int, Any] | None = None) -> Message:
        """Return the call for these items, ready to be sent.

        Raises:
            Exception: Whatever pickling the call raises.
        """
        if self._head is None or context:
            return encode_call(_star if self.star else _each, (self._func, items), {}, context)
        try:
            message = _encode(self._head, items, large=False)
        except Exception as error:
            error.add_note(_what_to_do(self._func, named=True))
            raise
        return message if len(message.parts) == 1 else _unchanging(message)


def decode_call(
    body: memoryview, buffers: Sequence[memoryview] = ()
) -> tuple[Callable[..., Any], Sequence[Any], Mapping[str, Any], Mapping[int, Any] | None]:
    """Return function, arguments, keyword arguments and context of what `encode_call` wrote.

    Raises:
        Exception: Whatever importing the function or unpickling the arguments raises.
    """
    form, length = _FORM.unpack_from(body)
    start = _FORM.size + length
    func = _resolve(bytes(body[_FORM.size : start])) if length else None
    if form == _BARE:
        return func, (), {}, None  # type: ignore[return-value]
    payload = pickle.loads(body[start:], buffers=buffers)  # noqa: S301 - our parent wrote it
    context = None
    if form & _CONTEXT:
        form &= ~_CONTEXT
        context, payload = payload
    if form == _ARGUMENTS:
        return func, payload, {}, context  # type: ignore[return-value]
    if form == _KEYWORDS:
        return func, payload[0], payload[1], context  # type: ignore[return-value]
    if form in {_EACH, _STAR}:
        return _each if form == _EACH else _star, (func, payload), {}, context
    return *payload, context


def _each(func: Callable[[Any], Any], items: Iterable[Any]) -> list[Any]:
    return [*map(func, items)]


def _star(func: Callable[..., Any], items: Iterable[Any]) -> list[Any]:
    return [*starmap(func, items)]


def name_of_call(func: Callable[..., Any]) -> str:
    """Return what reports call a task that calls `func`; never raises."""
    plain: Any = func.func if isinstance(func, partial) else func
    try:
        name = plain.__qualname__
    except Exception:  # noqa: BLE001 - a callable object's own code
        name = None
    return name if isinstance(name, str) else type(plain).__qualname__


def check_callable(func: Any) -> None:
    """Check that a worker can call `func`.

    Raises:
        TypeError: When it is not callable, or a coroutine function.
    """
    if not callable(func):
        raise TypeError(f"a task must be callable, got {func!r}")
    plain = func.func if isinstance(func, partial) else func
    code = getattr(plain, "__code__", None) or getattr(type(plain).__call__, "__code__", None)
    if code is not None and code.co_flags & CO_COROUTINE:
        raise TypeError(
            f"{name_of_call(func)} is a coroutine function, and a worker runs plain functions; wrap it:"
            " def task(...): return asyncio.run(...)"
        )


def _what_to_do(func: Callable[..., Any], *, named: bool) -> str:
    """Return which part of a call cannot be pickled, and what to do about it."""
    if not named:
        try:
            pickle.dumps(func, _protocol)
        except Exception:  # noqa: BLE001 - whatever its class does
            return (
                f"{name_of_call(func)} cannot be sent to a worker, which finds functions by name: define it with def"
                " at the top of a module that workers can import"
            )
    return f"an argument of {name_of_call(func)} cannot be sent to a worker: it must be picklable"


def _encode(head: bytes, payload: Any, *, large: bool) -> Message:
    if not large:
        buffers: list[pickle.PickleBuffer] = []
        data = pickle.dumps(payload, _protocol, buffer_callback=buffers.append)
        if not buffers:
            return Message((head + data,))
        return _with_buffers([head + data], buffers)
    parts = _Parts([head] if head else [])
    buffers = []
    pickle.Pickler(parts, _protocol, buffer_callback=buffers.append).dump(payload)
    return _with_buffers(parts, buffers)


def _with_buffers(parts: list[Buffer], buffers: list[pickle.PickleBuffer]) -> Message:
    raw = [buffer.raw() for buffer in buffers]
    return Message([*parts, *raw], [len(view) for view in raw])


def _unchanging(message: Message) -> Message:
    parts = [part if _is_frozen(part) else bytes(part) for part in message.parts]
    return Message(parts, message.buffers)


def _is_frozen(part: Buffer) -> bool:
    return part.readonly if type(part) is memoryview else type(part) is bytes


def _any_large(values: Iterable[Any]) -> bool:
    return any(_is_large(value) for value in values)


def _is_large(value: Any) -> bool:
    return type(value) in (bytes, bytearray) and len(value) >= LARGE


def _name_of(func: FunctionType) -> bytes | None:
    """Return `module:name` if that is how a worker can find this very function, else None."""
    module = sys.modules.get(func.__module__)
    name = func.__qualname__
    if module is None or module.__dict__.get(name) is not func:
        return None
    if func.__code__.co_flags & CO_COROUTINE:
        check_callable(func)
    encoded = f"{func.__module__}:{name}".encode()
    return encoded if len(encoded) < LARGE else None


def _resolve(name: bytes) -> Any:
    module_name, _, attribute = name.decode().partition(":")
    module = sys.modules.get(module_name)
    if module is None:
        module = importlib.import_module(module_name)
    try:
        return getattr(module, attribute)
    except AttributeError:
        raise AttributeError(
            f"the worker's {module_name!r} has no {attribute!r}: a task's function must stand in a module that"
            " workers can import"
        ) from None
