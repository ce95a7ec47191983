"""Exceptions that pickle, print or load badly, each in one way; importable, as those of an application are."""

from __future__ import annotations

import asyncio
import builtins
import sys
import threading
from dataclasses import dataclass
from pathlib import Path

HERE = {"parent": False}
"""Whether the code runs in the parent; tests set it between sealing and opening."""


def explode(kind):
    raise kind("exploded while loading")


def explode_in_the_parent(kind, text):
    if HERE["parent"]:
        explode(kind)
    return EvilInTheParent(kind, text)


class TwoArguments(Exception):
    def __init__(self, code, hint):
        super().__init__(f"code {code}")
        self.code, self.hint = code, hint


class Reworded(Exception):
    """Pickle makes another exception of it: "code code 7"."""

    def __init__(self, code):
        super().__init__(f"code {code}")
        self.code = code


class KeywordOnly(Exception):
    def __init__(self, *, code):
        super().__init__(f"code {code}")
        self.code = code


class NoArguments(Exception):
    def __init__(self):
        super().__init__("always the same")


class OwnNew(Exception):
    def __new__(cls, code, hint):
        return super().__new__(cls, code)

    def __init__(self, code, hint):
        super().__init__(code)
        self.hint = hint


class Slotted(Exception):
    __slots__ = ("code", "never_set")

    def __init__(self, text):
        super().__init__(text)
        self.code = None


@dataclass(frozen=True)
class Frozen(Exception):
    code: int
    hint: str = "none"


class NoSuchPlace(FileNotFoundError):
    def __init__(self, path, extra):
        super().__init__(2, "no such place", path)
        self.extra = extra


class BadByte(UnicodeDecodeError):
    def __init__(self, data, at):
        super().__init__("utf-8", data, at, at + 1, "bad")


class NoSuchPlugin(ImportError):
    def __init__(self, plugin, extra):
        super().__init__("no plugin", name=plugin)


class TwoBases(ValueError, OSError):
    def __init__(self, code, hint):
        super().__init__(code)
        self.hint = hint


class CodedGroup(ExceptionGroup):
    def __new__(cls, text, errors, code):
        self = super().__new__(cls, text, errors)
        self.code = code
        return self


class FixedGroup(ExceptionGroup):
    """Takes other arguments than the group that it is."""

    def __new__(cls, errors):
        return super().__new__(cls, "fixed", errors)

    def __init__(self, errors):
        super().__init__(errors)


class NoSuchField(AttributeError):
    def __init__(self, name, owner):
        super().__init__("no such field", name=name, obj=owner)


class HoldsALock(Exception):
    def __init__(self):
        super().__init__("locked", threading.Lock())
        self.lock = threading.Lock()
        self.code = 7


class Thoughtful(Exception):
    """Its author wrote `__reduce__`, and changed an argument there on purpose."""

    def __init__(self, resource):
        super().__init__(resource)

    def __reduce__(self):
        return Thoughtful, ("a stand-in",)


class BadReduce(Exception):
    def __init__(self, kind):
        super().__init__(kind)

    def __reduce__(self):
        raise self.args[0]("exploded while pickling")


class BadLoad(Exception):
    def __reduce__(self):
        return explode, self.args


class LoadsAsANumber(Exception):
    def __reduce__(self):
        return int, ("7",)


class EvilInTheParent(Exception):
    def __reduce__(self):
        return explode_in_the_parent, self.args


def leave_in_the_parent(text):
    return (SystemExit if HERE["parent"] else LeavesInTheParent)(text)


class LeavesInTheParent(Exception):
    """Loads as an exception that would end the parent."""

    def __reduce__(self):
        return leave_in_the_parent, self.args


def a_number_in_the_parent(text):
    return 7 if HERE["parent"] else NumberInTheParent(text)


class NumberInTheParent(Exception):
    def __reduce__(self):
        return a_number_in_the_parent, self.args


class OnlyInTheWorker:
    """Loads in the worker alone."""

    def __reduce__(self):
        return only_in_the_worker, ()


def only_in_the_worker():
    return explode(KeyboardInterrupt) if HERE["parent"] else OnlyInTheWorker()


class BadText(Exception):
    def __str__(self):
        raise SystemExit(3)

    __repr__ = __str__


class TextIsANumber(Exception):
    def __str__(self):
        return 7  # noqa: PLE0307


class EvilText(str):
    __slots__ = ()

    def __reduce__(self):
        raise KeyboardInterrupt

    def __str__(self):
        return self

    def __len__(self):
        raise KeyboardInterrupt

    def __format__(self, spec):
        raise KeyboardInterrupt


class SaysEvilText(Exception):
    def __str__(self):
        return EvilText("an evil text")


class EvilEquality:
    def __eq__(self, other):
        raise SystemExit

    __hash__ = None


class Unwilling(Exception):
    """Raises wherever one may touch it."""

    def _refuse(self, *args):
        raise KeyboardInterrupt

    args = __dict__ = __notes__ = __cause__ = __context__ = __traceback__ = __class__ = property(_refuse)
    __str__ = __repr__ = __setattr__ = __eq__ = __setstate__ = with_traceback = add_note = _refuse
    __hash__ = None


class SeesAll(Exception):
    def __getattribute__(self, name):
        raise SystemExit(name)


class ShyMeta(type):
    def __getattribute__(cls, name):
        raise SystemExit(name)


class Shy(Exception, metaclass=ShyMeta):
    pass


class Liar(Exception):
    """Says it is `OSError`."""


Liar.__module__, Liar.__qualname__ = "builtins", "OSError"


class NumberedModule(Exception):
    pass


NumberedModule.__module__ = 7


class EndsTheCaller(SystemExit, ValueError):
    pass


def local_type(base=Exception):
    class Local(base):
        pass

    return Local


class StandIn(ValueError):
    pass


def with_a_stand_in():
    class Hidden(Exception):
        def __reduce__(self):
            return StandIn, self.args

    return Hidden("hidden")


def in_a_circle():
    error = ValueError("round")
    error.args = ("round", error, [error])
    error.me, error.more, error.lock = error, [error, error], threading.Lock()
    error.__cause__ = OSError("other")
    error.__cause__.__cause__ = error
    return error


def long_chain(length=3_000):
    error = None
    for number in range(length):
        new = ValueError(number)
        new.__context__ = error
        error = new
    return error


def deep_argument(depth=100_000):
    value = []
    for _ in range(depth):
        value = [value]
    return ValueError(value)


def large():
    error = TwoArguments("x" * 5_000_000, b"y" * 5_000_000)
    error.args += tuple(range(200_000))
    error.many = [TwoArguments(number, "z" * 1_000) for number in range(3_000)]
    error.__dict__.update((f"attribute{number}", "w" * 100) for number in range(20_000))
    error.__notes__ = ["n" * 50_000] * 1_000
    return error


def odd_attributes():
    error = TwoArguments(1, 2)
    error.__dict__[7] = error.__dict__[EvilText("name")] = "no name"
    error.__notes__ = ("not", "a", "list")
    return error


ALL = {
    "ordinary": lambda: ValueError("x", 3),
    "empty": ValueError,
    "two arguments": lambda: TwoArguments(7, "try again"),
    "reworded": lambda: Reworded(7),
    "keyword only": lambda: KeywordOnly(code=7),
    "no arguments": NoArguments,
    "own __new__": lambda: OwnNew(1, 2),
    "slotted": lambda: Slotted("x"),
    "frozen": lambda: Frozen(7),
    "OSError": lambda: NoSuchPlace("/place", 1),
    "UnicodeDecodeError": lambda: BadByte(b"abc", 1),
    "ImportError": lambda: NoSuchPlugin("app", 1),
    "two bases": lambda: TwoBases(1, 2),
    "group": lambda: ExceptionGroup("many", [TwoArguments(1, 2), BadText(), HoldsALock()]),
    "group of its own": lambda: CodedGroup("many", [TwoArguments(1, 2)], 7),
    "group of other arguments": lambda: FixedGroup([TwoArguments(1, 2)]),
    "AttributeError": lambda: NoSuchField("x", threading.Lock()),
    "number in the parent": lambda: NumberInTheParent("x"),
    "lock": HoldsALock,
    "thoughtful": lambda: Thoughtful(threading.Lock()),
    "bad __reduce__": lambda: BadReduce(ValueError),
    "__reduce__ leaves": lambda: BadReduce(SystemExit),
    "bad load": lambda: BadLoad(ValueError),
    "load leaves": lambda: BadLoad(SystemExit),
    "loads as a number": LoadsAsANumber,
    "evil in the parent": lambda: EvilInTheParent(KeyboardInterrupt, "x"),
    "leaves in the parent": lambda: LeavesInTheParent("x"),
    "evil argument": lambda: TwoArguments(OnlyInTheWorker(), OnlyInTheWorker()),
    "bad text": BadText,
    "text is a number": TextIsANumber,
    "evil text": SaysEvilText,
    "evil equality": lambda: ValueError(EvilEquality()),
    "unwilling": Unwilling,
    "sees all": SeesAll,
    "shy type": Shy,
    "liar": Liar,
    "numbered module": NumberedModule,
    "local type": lambda: local_type()("x"),
    "stand-in": with_a_stand_in,
    "in a circle": in_a_circle,
    "long chain": long_chain,
    "deep argument": deep_argument,
    "large": large,
    "odd attributes": odd_attributes,
    "RecursionError": lambda: RecursionError("maximum"),
    "MemoryError": MemoryError,
    "StopIteration": lambda: StopIteration(7),
    "SystemExit": lambda: SystemExit(3),
    "KeyboardInterrupt": KeyboardInterrupt,
    "GeneratorExit": GeneratorExit,
    "CancelledError": asyncio.CancelledError,
    "BaseExceptionGroup": lambda: BaseExceptionGroup("many", [KeyboardInterrupt()]),
    "ends the caller": lambda: EndsTheCaller(3),
    **{
        f"builtin {kind.__name__}": kind
        for kind in vars(builtins).values()
        if isinstance(kind, type)
        and issubclass(kind, Exception)
        and not issubclass(kind, UnicodeError | BaseExceptionGroup)
    },
}
"""Makers of exceptions, by name."""


def raised(error):
    """Return the error with a traceback, as a task's has one."""
    try:
        raise error
    except BaseException as caught:
        return caught


def main(path):
    """Write what `pack_error` makes of all of them, as a worker would."""
    import pickle

    from pytest_prodpatterns.patterns.pool._remote import pack_error

    packed = {name: pack_error(raised(make())) for name, make in ALL.items()}
    Path(path).write_bytes(pickle.dumps(packed))


if __name__ == "__main__":
    main(sys.argv[1])
