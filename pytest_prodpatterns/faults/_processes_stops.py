"""Processes that stand still and go on: `stop`, `cont`; and `kill_tree`, which stops a tree to kill all of it.

Theory of operation.  What is to be stopped is told to `lab.guard()` first, so that it runs again even if this
process is killed meanwhile.  One fault at a time holds a process, for whoever undoes first continues it for both.
"""

from __future__ import annotations

import signal
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from functools import partial
from types import TracebackType
from typing import Self

from pytest_prodpatterns.faults import _processes_table as table
from pytest_prodpatterns.faults._processes_strikes import Struck, arm, await_death, hit
from pytest_prodpatterns.faults._processes_table import Process
from pytest_prodpatterns.faults._processes_victim import DEADLINE, NoEffect, Target, Victim, below, until
from pytest_prodpatterns.lab import Undo, guard, inject

__tracebackhide__ = True  # pytest shows the line of the user; --full-trace shows ours, too


@dataclass(frozen=True, slots=True)
class Stopped(Struck):
    """A process that stands still until `cont()`, until its `with` block is left, or until the lab undoes it."""

    _undo: Undo = field(repr=False, compare=False)

    def cont(self) -> None:
        """Let the process go on; a second time does nothing."""
        self._undo.run()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.cont()


held: dict[Process, tuple[str, Undo]] = {}
"""What is stopped now, or stopped and continued all the time, by which verb, and how to let it go on."""


def stop(target: Target, *, deadline: float = DEADLINE) -> Stopped:
    """Let a process stand still (SIGSTOP), until it is continued: by `cont`, a `with` block, or the lab's end.

    Args:
        target: A pid, or anything with a `.pid`.
        deadline: Real seconds within which all its threads must stand still.

    Raises:
        ValueError: When it is stopped already; and as `kill` does.
        NoEffect: When it goes on; the signal is taken back then.
    """
    return halt("stop", target, deadline)


def cont(target: Target, *, deadline: float = DEADLINE) -> None:
    """Continue a process that was stopped, by `stop` or by anybody, or end its throttling.

    Args:
        target: A pid, or anything with a `.pid`.
        deadline: Real seconds within which it must go on.

    Raises:
        NoEffect: When it still stands still; and as `kill` does.
    """
    with Victim("cont", target) as victim:
        if victim.process in held:
            held[victim.process][1].run()
        else:
            victim.send(signal.SIGCONT)
        if not until(partial(_goes_on, victim), deadline):
            raise NoEffect(f"cont(): pid {victim.pid} still stands still after {deadline:g} s")


def kill_tree(target: Target, *, deadline: float = DEADLINE) -> tuple[Struck, ...]:
    """Kill a process and everything below it, and wait until all have ended.

    The tree is stopped first, from the root down, so that nothing in it can start another process meanwhile.

    Args:
        target: The root: a pid, or anything with a `.pid`.
        deadline: Real seconds within which all must end.

    Returns:
        One record for each process, the root first.
    """
    victims: list[Victim] = []
    with ExitStack() as stack:
        root = stack.enter_context(Victim("kill_tree", target))
        try:
            _stop_tree(root, victims, stack)
            fault = inject(
                "kill_tree", f"SIGKILL to pid {root.pid} and {len(victims) - 1} processes below it"
            )
            struck = [hit(fault, victim, signal.SIGKILL) for victim in victims]
            for victim in victims:
                await_death("kill_tree", victim, deadline)
        finally:
            _let_go(victims)
    return tuple(struck)


def halt(verb: str, target: Target, deadline: float, who: str = "") -> Stopped:
    """Stop a process, and see to it that it goes on."""
    victim = Victim(verb, target)
    try:
        refuse_stopped(verb, victim)
        guard().stopped(victim.pid)
    except BaseException:
        victim.close()
        raise
    fault, undo = arm(verb, f"SIGSTOP to pid {victim.pid}{who}", lambda: go_on(verb, victim))
    held[victim.process] = verb, undo
    try:
        struck = hit(fault, victim, signal.SIGSTOP)
        _await_standstill(verb, victim, deadline)
    except BaseException:
        undo.run()
        raise
    return Stopped(struck.pid, struck.signal, struck.at, undo)


def go_on(verb: str, victim: Victim) -> None:
    """Continue a process that we stopped, and let go of it.

    Raises:
        NoEffect: When it still stands still.
    """
    held.pop(victim.process, None)
    with victim, suppress(ProcessLookupError):
        victim.send(signal.SIGCONT)
        if not until(partial(_goes_on, victim), DEADLINE):
            raise NoEffect(f"{verb}(): pid {victim.pid} still stands still {DEADLINE:g} s after SIGCONT")
    guard().continued(victim.pid)


def refuse_stopped(verb: str, victim: Victim) -> None:
    """Refuse a process that somebody stopped: who undoes first would continue it for both.

    Raises:
        ValueError: When it is so.
    """
    if victim.process in held:
        raise ValueError(
            f"{verb}(): {held[victim.process][0]}() holds pid {victim.pid} already; undo that first"
        )
    if table.is_stopped(victim.pid):
        raise ValueError(f"{verb}(): pid {victim.pid} is stopped already, and not by us")


def _await_standstill(verb: str, victim: Victim, deadline: float) -> None:
    if not until(partial(_stands_still, victim), deadline):
        raise NoEffect(f"{verb}(): pid {victim.pid} still goes on {deadline:g} s after SIGSTOP")
    if victim.ended():
        raise ProcessLookupError(f"{verb}(): pid {victim.pid} has ended while it was stopped")


def _stands_still(victim: Victim) -> bool:
    return table.is_stopped(victim.pid) or victim.ended()


def _goes_on(victim: Victim) -> bool:
    return not table.is_stopped(victim.pid) or victim.ended()


def _stop_tree(root: Victim, victims: list[Victim], stack: ExitStack) -> None:
    """Fill `victims` with a tree of processes that are all stopped, parents before their children."""
    fresh = [root]
    while fresh:
        victims += fresh
        for victim in fresh:
            guard().stopped(victim.pid)
            with suppress(ProcessLookupError):
                victim.send(signal.SIGSTOP)
            until(partial(_stands_still, victim), DEADLINE)
        known = {victim.process for victim in victims}
        fresh = []
        for process in below(root.pid):
            if process not in known:
                with suppress(ProcessLookupError):
                    fresh.append(stack.enter_context(Victim("kill_tree", process)))


def _let_go(victims: list[Victim]) -> None:
    """Continue what is left of a tree: nothing, unless we were interrupted."""
    for victim in victims:
        with suppress(ProcessLookupError):
            victim.send(signal.SIGCONT)
        guard().continued(victim.pid)
