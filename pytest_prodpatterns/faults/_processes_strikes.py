"""Signals to a process: `kill`, `terminate`, `interrupt`, `send_signal`.

Theory of operation.  A strike is told to the lab before it is sent, so that its consequences stand behind it in the
timeline, and it returns when its effect is seen: a death, or that a signal is no longer pending.
"""

from __future__ import annotations

import signal
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

from pytest_prodpatterns.faults import _processes_table as table
from pytest_prodpatterns.faults._processes_victim import (
    DEADLINE,
    NoEffect,
    Target,
    Victim,
    forget,
    until,
)
from pytest_prodpatterns.lab import InjectedFault, Undo, current_lab, inject, now

__tracebackhide__ = True  # pytest shows the line of the user; --full-trace shows ours, too

STOPS: Final = {signal.SIGSTOP, signal.SIGTSTP, signal.SIGTTIN, signal.SIGTTOU}


@dataclass(frozen=True, slots=True)
class Struck:
    """What was done to a process.

    Attributes:
        pid: The process.
        signal: The signal's name, for example "SIGKILL".
        at: When, in seconds on the lab's clock.
    """

    pid: int
    signal: str
    at: float


def kill(target: Target, *, deadline: float = DEADLINE) -> Struck:
    """Kill a process with SIGKILL and wait until it has ended; nobody need have reaped it.

    Args:
        target: A pid, or anything with a `.pid`: `Popen`, a process of asyncio, multiprocessing or psutil.
        deadline: Real seconds within which it must end.

    Raises:
        TypeError: When the target stands for no process.
        ValueError: When it is not started, or not proven to be a descendant of this process.
        ProcessLookupError: When it has ended already.
        NoEffect: When it does not end in time.
    """
    return send("kill", target, signal.SIGKILL, deadline)


def terminate(target: Target, *, deadline: float = DEADLINE) -> Struck:
    """Send SIGTERM, and wait until it has arrived; what the process makes of it is its own affair.

    Args:
        target: A pid, or anything with a `.pid`.
        deadline: Real seconds within which the signal must arrive.

    Raises:
        NoEffect: When it does not, for the process blocks the signal or is stopped; and as `kill` does.
    """
    return send("terminate", target, signal.SIGTERM, deadline)


def interrupt(target: Target, *, deadline: float = DEADLINE) -> Struck:
    """Send SIGINT, as Ctrl-C does, and wait until it has arrived; see `terminate`."""
    return send("interrupt", target, signal.SIGINT, deadline)


def send_signal(target: Target, number: int | str, *, deadline: float = DEADLINE) -> Struck:
    """Send any signal, and wait until it has arrived; see `terminate`.

    Args:
        target: A pid, or anything with a `.pid`.
        number: The signal, as its number or its name ("SIGUSR1").
        deadline: Real seconds within which the signal must arrive.

    Raises:
        ValueError: When there is no such signal, or it stops processes: `stop` also continues them.
    """
    return send("send_signal", target, signal_of("send_signal", number), deadline)


def signal_of(verb: str, number: int | str) -> signal.Signals:
    """Return a signal by number or name.

    Raises:
        ValueError: When there is none, or it is one that stops or continues.
    """
    try:
        found = signal.Signals[number] if isinstance(number, str) else signal.Signals(number)
    except (KeyError, ValueError):
        raise ValueError(
            f"{verb}(): there is no signal {number!r}; expected a name such as 'SIGUSR1', or a number"
        ) from None
    if found in STOPS:
        raise ValueError(f"{verb}(): {found.name} stops a process; use stop, which continues it, too")
    if found is signal.SIGCONT:
        raise ValueError(f"{verb}(): SIGCONT continues a process; use cont")
    return found


def send(verb: str, target: Target, number: signal.Signals, deadline: float, who: str = "") -> Struck:
    """Strike a process with a signal that needs no undoing, and wait for the effect."""
    with Victim(verb, target) as victim:
        fault = inject(verb, f"{number.name} to pid {victim.pid}{who}")
        struck = hit(fault, victim, number)
        await_effect(verb, victim, number, deadline)
        return struck


def arm(name: str, description: str, take_back: Callable[[], Any]) -> tuple[InjectedFault, Undo]:
    """Register a fault and how to take it back, with the lab if there is one."""
    lab, title = current_lab(), f"{name}: {description}"
    undo = lab.on_undo(title, take_back) if lab else Undo(title, take_back)
    return inject(name, description), undo


def hit(fault: InjectedFault, victim: Victim, number: signal.Signals) -> Struck:
    """Tell the lab of a signal, and send it."""
    at = now()
    fault.fire(pid=victim.pid, signal=number.name)
    victim.send(number)
    return Struck(victim.pid, number.name, at)


def await_effect(verb: str, victim: Victim, number: signal.Signals, deadline: float) -> None:
    """Wait until a signal is seen to have reached a process: for SIGKILL, until it has ended.

    Raises:
        NoEffect: When it is not.
    """
    if number is signal.SIGKILL:
        await_death(verb, victim, deadline)
    elif not until(lambda: victim.ended() or not table.is_pending(victim.pid, number), deadline):
        raise NoEffect(
            f"{verb}(): {number.name} has not reached pid {victim.pid} within {deadline:g} s:"
            " the process blocks the signal, or is stopped"
        )


def await_death(verb: str, victim: Victim, deadline: float) -> None:
    """Wait until a process that was killed has ended.

    Raises:
        NoEffect: When it lives on.
    """
    if not victim.ended(deadline):
        raise NoEffect(f"{verb}(): pid {victim.pid} lives on {deadline:g} s after SIGKILL")
    forget(victim.process)
