"""`patch_flaky`: puts a fault before the callable that a name stands for, wherever the name is looked up."""

from __future__ import annotations

import difflib
import functools
import importlib
import inspect
import pkgutil
import sys
from collections.abc import Callable, Iterable
from types import TracebackType
from typing import Any, Final, NamedTuple, Self

from pytest_prodpatterns.faults._flaky import ALWAYS, Flaky, arm, unique_name
from pytest_prodpatterns.faults._injection import Injection, checked
from pytest_prodpatterns.faults._plan import Plan
from pytest_prodpatterns.faults._scene import Fault
from pytest_prodpatterns.faults._shells import kind_of
from pytest_prodpatterns.lab import InjectedFault

__tracebackhide__ = True  # pytest shows the line of the user; --full-trace shows ours, too

_MISSING: Final = object()


class FlakyPatch:
    """A name that stands for a flaky callable until it is undone; leaving its `with` block undoes it.

    Args:
        place: The name.
        injection: The fault before it.
        shell: What the name stands for now.
    """

    def __init__(self, place: str, injection: Injection, shell: Flaky[..., Any]) -> None:
        self.place = place
        self.shell = shell
        self._injection = injection

    @property
    def calls(self) -> int:
        """How many calls there were so far, struck or not."""
        return self._injection.calls

    @property
    def fault(self) -> InjectedFault:
        """The injected fault as the lab knows it; `fault.fired` counts how often it struck."""
        return self._injection.fault

    def undo(self) -> None:
        """Give the name back and release what hangs; a second time does nothing.

        Raises:
            RuntimeError: When somebody else replaced the name meanwhile; it is left as it is. Try again when
                that is undone; the lab does, too.
        """
        self._injection.undo()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.undo()

    def __repr__(self) -> str:
        return f"<FlakyPatch {self.place}: {self.fault.description}>"


def patch_flaky(
    place: str, *, fault: Fault, when: Plan | str = ALWAYS, name: str | None = None
) -> FlakyPatch:
    """Replace what a name stands for by the same callable with a fault before it, from now on.

    The lab undoes it at the end of the test. Without a lab use it as a context manager. As with any patch,
    name the place where the callable is looked up: `app.checkout:charge`, if `app.checkout` did
    `from app.payments import charge`.

    Args:
        place: `module:attribute` or `module:Class.method`; functions, methods of each kind, and instances.
        fault: What happens, for example `raises(ConnectionError)`.
        when: At which calls, a plan or its text; the first call is call 1.
        name: The name in the timeline; by default what stands behind the colon.

    Raises:
        ValueError: When `place` does not read like `module:attribute`.
        ModuleNotFoundError: When there is no such module; with the nearest name.
        AttributeError: When there is no such attribute; with the nearest name.
        TypeError: When it stands for no function, or it cannot be replaced, or the fault cannot strike it.
    """
    spot = _find(place)
    target = _callable_in(place, spot)
    fault, when = checked(f"patch_flaky({place!r})", kind_of(target), fault, when)
    _try_replacing(place, spot)
    put: list[Any] = []  # what we wrote there, once we did
    injection = Injection(
        name or unique_name(place.partition(":")[2], target), fault, when, lambda: _put_back(place, spot, put)
    )
    shell = arm(target, injection)
    put.append(_as_descriptor(spot, shell))
    setattr(spot.owner, spot.name, put[0])
    return FlakyPatch(place, injection, shell)


class _Spot(NamedTuple):
    """Where a name is written: `raw` is what lookup finds, `own` what the owner's own namespace holds."""

    owner: Any
    name: str
    raw: Any
    own: Any


def _find(place: str) -> _Spot:
    module_name, colon, path = place.partition(":") if isinstance(place, str) else ("", "", "")
    if not (colon and all(part.isidentifier() for part in [*module_name.split("."), *path.split(".")])):
        raise ValueError(
            f"patch_flaky(): place must read like 'package.module:attribute', not {place!r}{_hint(place)}"
        )
    owner: Any = _module(module_name)
    *outer, name = path.split(".")
    for part in outer:
        owner = _attribute(place, owner, part)
    _attribute(place, owner, name)  # its error tells more than the next line's; modules may make it only now
    raw = inspect.getattr_static(owner, name, _MISSING)
    own = vars(owner).get(name, _MISSING) if hasattr(owner, "__dict__") else _MISSING
    return _Spot(owner, name, getattr(owner, name) if raw is _MISSING else raw, own)


def _callable_in(place: str, spot: _Spot) -> Callable[..., Any]:
    inside: Any = spot.raw if isinstance(spot.owner, type) else getattr(spot.owner, spot.name)
    if isinstance(inside, staticmethod | classmethod):
        inside = inside.__func__
    if isinstance(inside, type):
        raise TypeError(
            f"patch_flaky(): {place!r} is a class; patch a method of it, for example '{place}.__init__'"
        )
    if not callable(inside):
        raise TypeError(f"patch_flaky(): {place!r} must be a function or a method, but it is {inside!r}")
    found: Callable[..., Any] = inside
    return found


def _as_descriptor(spot: _Spot, shell: Any) -> Any:
    """Return the shell so that lookup through the owner binds it as it bound what stood there."""
    if not isinstance(spot.owner, type):
        return shell
    if isinstance(spot.raw, classmethod):
        return classmethod(shell)
    binds = hasattr(type(spot.raw), "__get__") and not isinstance(spot.raw, staticmethod | functools.partial)
    return shell if binds else staticmethod(shell)


def _try_replacing(place: str, spot: _Spot) -> None:
    try:
        setattr(spot.owner, spot.name, spot.raw)
    except (AttributeError, TypeError) as error:
        raise TypeError(
            f"patch_flaky(): {place!r} cannot be replaced ({error}); patch the name in the module that uses it"
        ) from None
    _restore(spot)


def _put_back(place: str, spot: _Spot, put: list[Any]) -> None:
    current = inspect.getattr_static(spot.owner, spot.name, _MISSING)
    if current is not put[0]:
        raise RuntimeError(
            f"{place!r} was replaced by {current!r} after patch_flaky; undo the later patch first"
        )
    _restore(spot)


def _restore(spot: _Spot) -> None:
    if spot.own is _MISSING:
        delattr(spot.owner, spot.name)
    else:
        setattr(spot.owner, spot.name, spot.own)


def _module(name: str) -> Any:
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        missing = error.name or name
        if name != missing and not name.startswith(f"{missing}."):
            raise  # the module is there; something that it imports is not
        parent, _, leaf = missing.rpartition(".")
        near = _near(leaf, _modules_in(parent))
        text = f"patch_flaky(): there is no module {missing!r}{near}"
        raise ModuleNotFoundError(text, name=missing) from None


def _modules_in(parent: str) -> Iterable[str]:
    if not parent:
        return {*sys.stdlib_module_names, *(name.partition(".")[0] for name in sys.modules)}
    return [module.name for module in pkgutil.iter_modules(getattr(sys.modules.get(parent), "__path__", []))]


def _attribute(place: str, owner: Any, name: str) -> Any:
    try:
        return getattr(owner, name)
    except AttributeError:
        kind = "module" if inspect.ismodule(owner) else "class" if isinstance(owner, type) else "object"
        title = getattr(owner, "__name__", None) or repr(owner)
        raise AttributeError(
            f"patch_flaky({place!r}): {kind} {title} has no attribute {name!r}{_near(name, dir(owner))}",
            name=name,
            obj=owner,
        ) from None


def _near(name: str, known: Iterable[str]) -> str:
    near = difflib.get_close_matches(name, known, n=1)
    return f"; did you mean {near[0]!r}?" if near else ""


def _hint(place: object) -> str:
    if not isinstance(place, str) or ":" in place or "." not in place:
        return ""
    module, _, attribute = place.rpartition(".")
    return f"; did you mean '{module}:{attribute}'?"
