"""`crash_at`: a callable whose n-th call in a process ends that process, without a word and without cleaning up.

Theory of operation.  Calls count in each process for itself, from 1, however often the callable is pickled on its
way there; a worker that takes the place of a crashed one counts anew.  The process that armed it is never ended:
there the calls go through, and do not count.
"""

from __future__ import annotations

import os
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Generic, ParamSpec, TypeVar, overload

from pytest_prodpatterns.faults._flaky import unique_name
from pytest_prodpatterns.faults._patch import FlakyPatch, patch_flaky
from pytest_prodpatterns.faults._plan import Moment, Plan
from pytest_prodpatterns.faults._scene import Answer, Fault, Scene
from pytest_prodpatterns.faults._shells import name_of
from pytest_prodpatterns.faults._tell import Teller
from pytest_prodpatterns.lab import InjectedFault, inject

__tracebackhide__ = True  # pytest shows the line of the user; --full-trace shows ours, too

P = ParamSpec("P")
R = TypeVar("R")

_counts: dict[str, int] = {}  # calls in this process, by crash; empty in a fresh child


class Crash:
    """When a process is to end, and with which code; the same crash wherever it is pickled to.

    Args:
        call: At which call in a process, from 1.
        exit_code: With which code, from 0 to 255.
    """

    def __init__(self, call: int, exit_code: int) -> None:
        self.call = call
        self.exit_code = exit_code
        self._owner = os.getpid()
        self._token = uuid.uuid4().hex

    def is_due(self) -> bool:
        """Count a call of this process; tell whether it is the one."""
        if os.getpid() == self._owner:
            return False
        count = _counts[self._token] = _counts.get(self._token, 0) + 1
        return count == self.call

    def __str__(self) -> str:
        return f"os._exit({self.exit_code}) at call {self.call} in a child"


class Crashing(Generic[P, R]):
    """A callable that ends its process at a call; it can be pickled when the callable itself can.

    Args:
        target: What to call.
        crash: When.
        name: Its name in the timeline.

    Attributes:
        fault: The injected fault as the lab knows it; None in another process.
    """

    def __init__(self, target: Callable[P, R], crash: Crash, name: str) -> None:
        self.fault: InjectedFault | None = inject(name, str(crash))
        self._target = target
        self._crash = crash
        self._teller = Teller(name)
        self.__name__ = name_of(target)
        self.__qualname__ = getattr(target, "__qualname__", self.__name__)
        self.__doc__ = target.__doc__

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R:
        if self._crash.is_due():
            self._teller.fired(call=self._crash.call, pid=os.getpid(), exit_code=self._crash.exit_code)
            os._exit(self._crash.exit_code)
        return self._target(*args, **kwargs)

    def __getstate__(self) -> dict[str, Any]:
        return vars(self) | {"fault": None}

    def __repr__(self) -> str:
        return f"<{self.__qualname__} with {self._crash}>"


@overload
def crash_at(
    target: Callable[P, R], *, call: int = 1, exit_code: int = 1, name: str | None = None
) -> Crashing[P, R]: ...


@overload
def crash_at(target: str, *, call: int = 1, exit_code: int = 1, name: str | None = None) -> FlakyPatch: ...


def crash_at(
    target: Callable[P, R] | str, *, call: int = 1, exit_code: int = 1, name: str | None = None
) -> Crashing[P, R] | FlakyPatch:
    """Let the n-th call in a child process end that process, as `os._exit` does.

    A function comes back as a callable that can be submitted to a pool as a task. A name is replaced, as
    `patch_flaky` does, for this process and the children that it forks; the lab, or a `with` block, undoes it.
    In this process itself nothing happens.

    Args:
        target: A function, or "module:attribute".
        call: At which call in a process, from 1.
        exit_code: With which code, from 0 to 255.
        name: The name in the timeline; by default the target's.

    Raises:
        ValueError: When `call` or `exit_code` is out of range.
        TypeError: When one is no whole number, or the target cannot be called or replaced.
    """
    crash = Crash(_whole("call", call, 1, None), _whole("exit_code", exit_code, 0, 255))
    if isinstance(target, str):
        return patch_flaky(target, fault=_Crashes(crash), when=_WhenDue(crash), name=name)
    if not callable(target):
        raise TypeError(f"crash_at(): target must be a function or 'module:attribute', not {target!r}")
    return Crashing(target, crash, name or unique_name(name_of(target), target))


@dataclass(frozen=True, slots=True, repr=False)
class _Crashes(Fault):
    crash: Crash

    def strike(self, scene: Scene) -> Answer | None:  # noqa: ARG002
        os._exit(self.crash.exit_code)

    def __str__(self) -> str:
        return f"os._exit({self.crash.exit_code})"


@dataclass(frozen=True, slots=True, repr=False)
class _WhenDue(Plan):
    crash: Crash

    def decide(self, moment: Moment) -> bool:  # noqa: ARG002
        return self.crash.is_due()

    def __str__(self) -> str:
        return f"call {self.crash.call} in a child"


def _whole(argument: str, value: Any, least: int, most: int | None) -> int:
    expected = f"a whole number from {least}" + (f" to {most}" if most is not None else "")
    if isinstance(value, bool) or not isinstance(value, int):
        raise TypeError(f"crash_at(): {argument} must be {expected}, not {value!r}")
    if value < least or (most is not None and value > most):
        raise ValueError(f"crash_at(): {argument} must be {expected}, not {value!r}")
    return value


os.register_at_fork(after_in_child=_counts.clear)
