"""The way of an exception from a worker to the caller, with the traceback that only the worker can tell."""

from __future__ import annotations

import pickle
import traceback
from collections.abc import Iterator
from types import TracebackType
from typing import Any, Final, TypeAlias

from pytest_prodpatterns.patterns.pool._errors import RemoteError
from pytest_prodpatterns.patterns.pool._salvage import DICT, seal_error, seal_name, unseal_error
from pytest_prodpatterns.patterns.pool._sealed import Room, safe_repr, safe_str, shorten, type_name

# The code of strangers may raise anything, SystemExit included: hence the broad excepts.
# ruff: noqa: BLE001, S301

_ROOM: Final = 1 << 20
_LONGEST_TRACEBACK: Final = 1 << 16
_MOST_NOTES: Final = 100
_OURS: Final = __name__.rpartition(".")[0]
_CAUSE: Final[Any] = vars(BaseException)["__cause__"]
_TRACEBACK: Final[Any] = vars(BaseException)["__traceback__"]
_HEADING: Final = "Traceback (most recent call last):\n"
_ENDS_THE_CALLER: Final = (SystemExit, KeyboardInterrupt, GeneratorExit)

_Place: TypeAlias = tuple[str, str, int, int]
_MOST_STACKS: Final = 64
_DEEPEST_STACK: Final = 100
_stacks: Final[dict[tuple[_Place, ...], str]] = {}
"""Formatted stacks by their places: what fails in one way tends to fail so often."""


class RemoteTraceback(Exception):  # noqa: N818 - it is the cause of an error, and none itself
    """The traceback of a task's exception, as its worker formatted it.

    It is the `__cause__` of each exception that a task raised, so that Python and pytest print it above.

    Args (by position):
        text: The formatted traceback, with all causes and contexts.
    """

    __module__ = _OURS

    def __str__(self) -> str:
        return f'\n"""\n{"".join(self.args)}"""'


def pack_error(error: BaseException) -> bytes:
    """Return a task's exception as bytes, for `unpack_error`; never raises.

    The size is bounded: about 1 MiB of arguments and attributes, 64 Ki characters of traceback.
    """
    try:
        sealed = seal_error(error, Room(_ROOM)) if _may_travel(error) else seal_name(error)
        return pickle.dumps((sealed, _notes(error), _formatted(error)), pickle.HIGHEST_PROTOCOL)
    except BaseException:
        return pickle.dumps((seal_name(error), [], ""), pickle.HIGHEST_PROTOCOL)


def unpack_error(data: bytes | bytearray | memoryview) -> Exception:
    """Return the exception that `pack_error` wrote, with a `RemoteTraceback` as its cause; never raises.

    It is of its own type whenever that type can be imported here, else a `RemoteError`; so are SystemExit,
    KeyboardInterrupt and whatever else is no `Exception`.
    """
    try:
        sealed, notes, text = pickle.loads(data)
        error: Any = unseal_error(sealed)
        if not _may_travel(error):
            error = RemoteError(type_name=sealed[0], text=sealed[1])
        return _finished(error, notes, text)
    except BaseException as failure:
        return RemoteError(type_name="unknown", text=f"the exception could not be read: {safe_repr(failure)}")


def _may_travel(error: BaseException) -> bool:
    """Return whether an exception may arrive as itself: not if it would end the caller."""
    kind = type(error)
    return issubclass(kind, Exception) and not issubclass(kind, _ENDS_THE_CALLER)


def _finished(error: Exception, notes: list[str], text: str) -> Exception:
    if type(error) is RemoteError and not error.traceback:
        error.traceback = text
    attributes = DICT.__get__(error)
    if notes and type(attributes.get("__notes__")) is not list:  # a `__reduce__` forgot them
        attributes["__notes__"] = notes
    _CAUSE.__set__(error, RemoteTraceback(text))
    return error


def _notes(error: BaseException) -> list[str]:
    notes = DICT.__get__(error).get("__notes__")
    if type(notes) is not list:
        return []
    return [safe_str(note) for note in notes[:_MOST_NOTES]]


def _formatted(error: BaseException) -> str:
    stack: TracebackType | None = None
    try:
        stack = _of_the_task(_TRACEBACK.__get__(error))
        text = _at_once(error, stack) if _stands_alone(error) else _in_full(error, stack)
    except BaseException:
        lines = "".join(traceback.format_tb(stack))
        text = f"{_HEADING}{lines}{type_name(type(error))}: {safe_str(error)}\n"
    return shorten(text, _LONGEST_TRACEBACK)


def _of_the_task(stack: TracebackType | None) -> TracebackType | None:
    """Return the part of a traceback that is not the pool's."""
    inner = stack
    while inner is not None and _is_ours(inner):
        inner = inner.tb_next
    return inner or stack


def _is_ours(stack: TracebackType) -> bool:
    return str(stack.tb_frame.f_globals.get("__name__")).startswith(f"{_OURS}.")


def _stands_alone(error: BaseException) -> bool:
    linked = error.__cause__ is not None or error.__context__ is not None
    return not linked and not isinstance(error, BaseExceptionGroup | NameError)  # NameError looks into frames


def _in_full(error: BaseException, stack: TracebackType | None) -> str:
    return "".join(traceback.format_exception(type(error), error, stack))


def _at_once(error: BaseException, stack: TracebackType | None) -> str:
    """Return what `_in_full` returns, quicker where the same place fails again and again."""
    last = "".join(traceback.format_exception_only(error))
    if stack is None:
        return last
    place = tuple(_place(each) for each in _walk(stack))
    lines = _stacks.get(place)
    if lines is None:
        lines = "".join(traceback.format_tb(stack))
        _remember(place, lines)
    return f"{_HEADING}{lines}{last}"


def _remember(place: tuple[_Place, ...], lines: str) -> None:
    if len(place) > _DEEPEST_STACK:
        return
    if len(_stacks) >= _MOST_STACKS:
        _stacks.clear()
    _stacks[place] = lines


def _walk(stack: TracebackType | None) -> Iterator[TracebackType]:
    while stack is not None:
        yield stack
        stack = stack.tb_next


def _place(stack: TracebackType) -> _Place:
    code = stack.tb_frame.f_code
    return code.co_filename, code.co_qualname, stack.tb_lineno, stack.tb_lasti
