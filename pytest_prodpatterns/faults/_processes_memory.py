"""Processes that run out of memory, by a limit on their address space (RLIMIT_AS).

The next allocation beyond it fails: Python raises `MemoryError`, other programs take what `malloc` tells them.
This is not the kernel's OOM killer; that one is a plain SIGKILL, see `kill`.
"""

from __future__ import annotations

import os
import resource
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Self

from pytest_prodpatterns.faults import _processes_table as table
from pytest_prodpatterns.faults._processes_strikes import Struck, arm
from pytest_prodpatterns.faults._processes_victim import NoEffect, Target, Victim
from pytest_prodpatterns.faults._tell import Teller
from pytest_prodpatterns.lab import Undo, inject, now

__tracebackhide__ = True  # pytest shows the line of the user; --full-trace shows ours, too


class MemoryLimit:
    """A limit to be set in a child process: an initializer of a pool, or `preexec_fn` of `subprocess`.

    Args:
        limit: How many bytes of address space the process may have.
    """

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self._owner = os.getpid()
        self._teller = Teller(inject("oom", f"address space of at most {limit} bytes").name)

    def __call__(self) -> None:
        """Set the limit in this process.

        Raises:
            RuntimeError: When this is the process that made it, which must live on.
        """
        if os.getpid() == self._owner:
            raise RuntimeError(
                "oom(): the limit is for a child process, and this is its parent; pass it on as"
                " initializer=oom(…) or preexec_fn=oom(…), and do not call it"
            )
        _soft, hard = resource.getrlimit(resource.RLIMIT_AS)
        self._teller.fired(pid=os.getpid(), limit=self.limit)  # before: it takes memory, too
        resource.setrlimit(resource.RLIMIT_AS, (self.limit, hard))


@dataclass(frozen=True, slots=True)
class Starved(Struck):
    """A process without memory until `relent()`, until its `with` block is left, or until the lab undoes it."""

    _undo: Undo = field(repr=False, compare=False)

    def relent(self) -> None:
        """Give the process back the limit that it had; a second time does nothing."""
        self._undo.run()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.relent()


def oom(limit: int) -> MemoryLimit:
    """Return a limit for child processes: pass it on as `initializer=` of a pool, or as `preexec_fn=`.

    Args:
        limit: How many bytes of address space the process may have; an idle interpreter has some hundred MB.

    Raises:
        ValueError: When it is less than 1.
        TypeError: When it is no whole number.
    """
    return MemoryLimit(_bytes("oom", "limit", limit, least=1))


def starve(target: Target, *, headroom: int = 0) -> Starved:
    """Take a running process the memory: its address space may grow by `headroom` bytes, and no more.

    Args:
        target: A pid, or anything with a `.pid`.
        headroom: How many bytes it still gets. What its allocator holds in reserve, it has anyway.

    Returns:
        The record, also a context manager: `relent()` takes the limit back, and so does the lab.

    Raises:
        ValueError: When `headroom` is negative, or the process is not proven to be a descendant of this one.
        TypeError: When it is no whole number, or the target stands for no process.
        ProcessLookupError: When the process has ended already.
        PermissionError: When the process runs as another user.
        NoEffect: When the limit does not show.
    """
    more = _bytes("starve", "headroom", headroom, least=0)
    victim = Victim("starve", target)
    try:
        before = resource.prlimit(victim.pid, resource.RLIMIT_AS)
        limit = table.address_space(victim.pid) + more
        fault, undo = arm(
            "starve", f"{more} bytes more for pid {victim.pid}", lambda: _relent(victim, before)
        )
    except BaseException:
        victim.close()
        raise
    try:
        at = now()
        fault.fire(pid=victim.pid, limit=limit)
        _set(victim, (limit, before[1]))
    except BaseException:
        undo.run()
        raise
    return Starved(victim.pid, "RLIMIT_AS", at, undo)


def _set(victim: Victim, limits: tuple[int, int]) -> None:
    resource.prlimit(victim.pid, resource.RLIMIT_AS, limits)
    if resource.prlimit(victim.pid, resource.RLIMIT_AS) != limits:
        raise NoEffect(f"starve(): the limit of pid {victim.pid} did not change")


def _relent(victim: Victim, before: tuple[int, int]) -> None:
    with victim:
        if not victim.ended():
            resource.prlimit(victim.pid, resource.RLIMIT_AS, before)


def _bytes(verb: str, argument: str, value: Any, *, least: int) -> int:
    if isinstance(value, bool) or not isinstance(value, int):
        raise TypeError(f"{verb}(): {argument} must be a number of bytes, not {value!r}")
    if value < least:
        raise ValueError(f"{verb}(): {argument} must be at least {least} bytes, not {value!r}")
    return value
