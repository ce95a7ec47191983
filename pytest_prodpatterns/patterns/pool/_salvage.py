"""Exceptions, sealed: each arrives as its own type if that can be had at all.

Theory of operation.  Three ways are tried.

1. The ordinary pickle, if the worker sees it load as the same type with the same arguments. Pickle calls the
   type with `args`. An `__init__` that wants other arguments than it gives to `super().__init__` fails there; or
   it silently makes another exception, whose text is "code code 7".
2. The parts: the type by its address, and `args`, slots, C-level members and `__dict__`, each sealed for itself.
   They are put together by `__new__` of the built-in base. No constructor of the user's runs.
3. For a type without an address, one inside a function for instance, an ordinary pickle that loads as another
   exception: such a type may name a stand-in by its `__reduce__`.

When none works, or when what worked in the worker does not work here, the address and the text are left: the
type is made around its text, and where the type cannot be had, `RemoteError` stands for it.
"""

from __future__ import annotations

import copyreg
import importlib
import pickle
import sys
from collections.abc import Iterator
from contextlib import suppress
from types import GetSetDescriptorType, MemberDescriptorType
from typing import Any, Final, TypeGuard

from pytest_prodpatterns.patterns.pool._errors import RemoteError
from pytest_prodpatterns.patterns.pool._sealed import (
    Room,
    Sealed,
    address,
    round_trip,
    safe_str,
    seal,
    type_name,
    unseal,
)

# The code of strangers may raise anything, SystemExit included: hence the broad excepts.
# ruff: noqa: BLE001, S301

ARGS: Final[Any] = vars(BaseException)["args"]
DICT: Final[Any] = vars(BaseException)["__dict__"]
"""What every exception has, out of reach of a subclass that uses these names for something else."""

_DEEPEST: Final = 5
_HEAP_TYPE: Final = 1 << 9
"""Py_TPFLAGS_HEAPTYPE: the type was made by a class statement, not in C."""

_NOWHERE: Final = ("", "")
_WITHOUT_MEMBERS: Final = (BaseException, BaseExceptionGroup, object)
_NOT_TAKEN: Final = frozenset({"__dict__", "__weakref__"})


def seal_error(error: BaseException, room: Room, above: tuple[int, ...] = ()) -> Sealed:
    """Seal an exception, for `unseal_error`; never raises.

    Args:
        error: The exception.
        room: How much may be sealed.
        above: Ids of the exceptions whose parts it is.
    """
    if id(error) in above or len(above) >= _DEEPEST:
        return seal_name(error)
    kind = type(error)
    name, text, where = type_name(kind), safe_str(error), address(kind)
    room.charge(2 * len(name) + len(text))
    if _find(where) is not kind:  # it is local, or lies about its name
        where = _NOWHERE
    return name, text, where, _body(error, where, room, (*above, id(error)))


def seal_name(error: BaseException) -> Sealed:
    """Seal no more than what an exception is called and says: it arrives as `RemoteError`; never raises."""
    return type_name(type(error)), safe_str(error), _NOWHERE, None


def unseal_error(sealed: Sealed) -> BaseException:
    """Return a sealed exception: as itself, as its type around its text, or as `RemoteError`; never raises."""
    name, text, where, body = sealed
    error = _open(body, where)
    if error is None:
        error = _assemble(where, (text,), {}, {})
    return RemoteError(type_name=name, text=text) if error is None else error


def is_error(value: object) -> TypeGuard[BaseException]:
    """Return whether a value is an exception; not fooled by its `__class__`."""
    return issubclass(type(value), BaseException)


def _body(error: BaseException, where: tuple[str, str], room: Room, above: tuple[int, ...]) -> Sealed | None:
    try:
        data, loaded = round_trip(error)
        fits = data is not None and len(data) <= room.left
        if fits and _is_faithful(error, loaded):
            return _pickled(data, room)
        if where != _NOWHERE:
            return _take_apart(error, room, above)
        return _pickled(data, room) if fits and is_error(loaded) else None
    except BaseException:
        return None


def _pickled(data: bytes | None, room: Room) -> Sealed:
    room.charge(len(data or b""))
    return "pickle", data


def _open(body: Sealed | None, where: tuple[str, str]) -> BaseException | None:
    if body is None:
        return None
    if body[0] == "pickle":
        try:
            loaded = pickle.loads(body[1])
        except BaseException:
            return None
        return loaded if is_error(loaded) else None
    _, args, members, attributes = body
    return _assemble(
        where,
        tuple(map(_unseal_part, args)),
        {name: _unseal_part(part) for name, part in members.items()},
        {name: _unseal_part(part) for name, part in attributes.items()},
    )


def _is_faithful(error: BaseException, loaded: object) -> bool:
    """Return whether pickle gave back the same exception, as far as that can be seen cheaply."""
    kind = type(error)
    if type(loaded) is not kind:
        return False
    if kind in copyreg.dispatch_table:
        return True
    for each in kind.__mro__:
        if "__reduce__" in vars(each) or "__reduce_ex__" in vars(each):
            if each.__flags__ & _HEAP_TYPE:
                return True  # somebody wrote it, and will know
            break
        if each.__flags__ & _HEAP_TYPE and any(
            type(it) is MemberDescriptorType for it in vars(each).values()
        ):
            return False  # pickle forgets the slots of exceptions
    # Pickle sets what a `__dict__` has as attributes: one that is called "args" becomes the args.
    kept = DICT.__get__(error).keys() <= DICT.__get__(loaded).keys()
    try:
        return kept and bool(ARGS.__get__(loaded) == ARGS.__get__(error))
    except BaseException:  # numpy's arrays, for one, do not like the question
        return False


def _take_apart(error: BaseException, room: Room, above: tuple[int, ...]) -> Sealed:
    members = dict(_members_of(error))
    attributes = {name: value for name, value in DICT.__get__(error).items() if type(name) is str}
    args = [_seal_part(value, room, above) for value in _arguments(error) if room.left > 0]
    return (
        "parts",
        args,
        {name: _seal_part(value, room, above) for name, value in members.items() if room.left > 0},
        {name: _seal_part(value, room, above) for name, value in attributes.items() if room.left > 0},
    )


def _arguments(error: BaseException) -> tuple[Any, ...]:
    args: tuple[Any, ...] = ARGS.__get__(error)
    if isinstance(error, BaseExceptionGroup):  # what it was made of, whatever its own constructor takes
        return error.message, list(error.exceptions), *args[2:]
    return args


def _assemble(
    where: tuple[str, str], args: tuple[Any, ...], members: dict[str, Any], attributes: dict[str, Any]
) -> BaseException | None:
    try:
        kind = base = _find(where)
        while base.__flags__ & _HEAP_TYPE:
            base = base.__base__
        try:
            error = base.__new__(kind, *(args[:2] if base is BaseExceptionGroup else args))
        except TypeError:
            error = base.__new__(kind)
        if not is_error(error):
            return None
        ARGS.__set__(error, args)
        for name, member in _members(kind):
            if name in members:
                with suppress(Exception):
                    member.__set__(error, members[name])
        DICT.__get__(error).update(attributes)
    except BaseException:
        return None
    return error


def _find(where: tuple[str, str]) -> Any:
    """Return the type at an address, None when there is none."""
    module, name = where
    try:
        found = sys.modules.get(module) or importlib.import_module(module)
        for part in name.split("."):
            found = getattr(found, part)
    except BaseException:
        return None
    return found


def _members(kind: type) -> Iterator[tuple[str, Any]]:
    """Yield slots and the attributes that live in C: `errno`, `start`, `lineno` and their like."""
    for each in kind.__mro__:
        if each in _WITHOUT_MEMBERS:
            continue
        for name, member in vars(each).items():
            if name in _NOT_TAKEN or type(member) not in (MemberDescriptorType, GetSetDescriptorType):
                continue
            if each is not AttributeError or name != "obj":  # what lacked the attribute: large, and of no use
                yield name, member


def _members_of(error: BaseException) -> Iterator[tuple[str, Any]]:
    for name, member in _members(type(error)):
        try:
            value = member.__get__(error)
        except AttributeError:  # it was never set
            continue
        if value is not None or member.__objclass__.__flags__ & _HEAP_TYPE:  # None in C: never set as well
            yield name, value


def _seal_part(value: Any, room: Room, above: tuple[int, ...]) -> Sealed:
    if is_error(value):
        return "error", seal_error(value, room, above)
    if type(value) in (list, tuple) and value and all(is_error(each) for each in value):
        errors = [seal_error(each, room, above) for each in value if room.left > 0]
        return "errors", errors, type(value) is list
    return seal(value, room)


def _unseal_part(part: Sealed) -> Any:
    if part[0] == "error":
        return unseal_error(part[1])
    if part[0] == "errors":
        errors = [unseal_error(each) for each in part[1]]
        return errors if part[2] else tuple(errors)
    return unseal(part)
