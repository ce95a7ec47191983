"""`flaky`: stands before a callable and lets a fault strike by plan."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Coroutine
from typing import Any, ParamSpec, Protocol, TypeVar, cast, overload

from pytest_prodpatterns.faults import _plan_terms
from pytest_prodpatterns.faults._injection import Injection, checked
from pytest_prodpatterns.faults._plan import Plan
from pytest_prodpatterns.faults._scene import Fault
from pytest_prodpatterns.faults._shells import kind_of, name_of, wrap
from pytest_prodpatterns.lab import InjectedFault, current_lab

__tracebackhide__ = True  # pytest shows the line of the user; --full-trace shows ours, too

P = ParamSpec("P")
R_co = TypeVar("R_co", covariant=True)
ALWAYS: Plan = _plan_terms.always()


class Flaky(Protocol[P, R_co]):
    """A callable with a fault before it: the same kind, signature and name as the callable itself.

    Attributes:
        calls: How many calls there were so far, struck or not.
        fault: The injected fault as the lab knows it; `fault.fired` counts how often it struck.
        undo: Takes the fault back now: what hangs is released, and calls go straight through.
    """

    calls: int
    fault: InjectedFault
    undo: Callable[[], None]
    __name__: str
    __wrapped__: Callable[..., Any]

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R_co: ...


@overload
def flaky(
    target: None = None, *, fault: Fault, when: Plan | str = ALWAYS, name: str | None = None
) -> Flaky[..., Coroutine[Any, Any, str]]: ...


@overload
def flaky(
    target: Callable[P, R_co], *, fault: Fault, when: Plan | str = ALWAYS, name: str | None = None
) -> Flaky[P, R_co]: ...


def flaky(
    target: Callable[..., Any] | None = None,
    *,
    fault: Fault,
    when: Plan | str = ALWAYS,
    name: str | None = None,
) -> Flaky[..., Any]:
    """Return `target` with a fault before it.

    Functions, coroutine functions, generators and async generators, bound methods, partials, builtins and
    callable objects keep their kind, signature and name. For several faults nest: the outer one strikes first.

    Args:
        target: What to call; without one, an async service that takes anything and answers "ok".
        fault: What happens, for example `raises(ConnectionError)`.
        when: At which calls, a plan or its text; the first call is call 1.
        name: The name in the timeline and of the random numbers behind `plan.rate`; by default the target's,
            with `#2`, `#3`, … for further faults of that name in one lab or one nest.

    Raises:
        TypeError: When the target is a class or cannot be called, or the fault cannot strike such a callable.
        PlanError: When the text in `when` is no plan.
    """
    target = _service() if target is None else target
    _refuse(target)
    fault, when = checked(f"flaky({name or name_of(target)})", kind_of(target), fault, when)
    return arm(target, Injection(name or unique_name(name_of(target), target), fault, when))


def arm(target: Callable[..., Any], injection: Injection) -> Flaky[..., Any]:
    """Return `target` behind the injection, with the attributes of `Flaky`."""
    shell = cast("Flaky[..., Any]", wrap(target, injection))
    shell.calls, shell.fault, shell.undo = 0, injection.fault, injection.undo
    injection.on_call = lambda count: setattr(shell, "calls", count)
    return shell


def unique_name(name: str, target: Callable[..., Any]) -> str:
    """Return `name`, numbered if the lab, or a fault around the target, has it already."""
    lab = current_lab()
    taken = {fault.name for fault in lab.faults} if lab else set()
    inner: Any = target
    while isinstance(getattr(inner, "fault", None), InjectedFault):
        taken.add(inner.fault.name)
        inner = inner.__wrapped__
    numbered = (f"{name}#{number}" for number in itertools.count(2))
    return next(each for each in itertools.chain([name], numbered) if each not in taken)


def _service() -> Callable[..., Coroutine[Any, Any, str]]:
    async def service(*_args: Any, **_kwargs: Any) -> str:
        return "ok"

    return service


def _refuse(target: Any) -> None:
    if isinstance(target, type):
        raise TypeError(
            f"flaky(): target must be a function or another callable, not the class {target.__name__};"
            f" for its methods use patch_flaky('{target.__module__}:{target.__qualname__}.METHOD', …)"
        )
    if isinstance(target, staticmethod | classmethod):
        raise TypeError(
            f"flaky(): target must be the function inside the {type(target).__name__}, not the descriptor"
        )
    if not callable(target):
        raise TypeError(f"flaky(): target must be callable, not {target!r}")
