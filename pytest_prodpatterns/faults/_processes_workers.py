"""Faults to the workers of a pool, chosen by what they do, or by the lab's seed."""

from __future__ import annotations

import random
import signal
import time
import weakref
from collections.abc import Callable
from contextlib import ExitStack, suppress
from typing import Any, Literal, TypeAlias, TypeVar, get_args, overload

from pytest_prodpatterns.faults._processes_pools import UNKNOWN, Worker, workers
from pytest_prodpatterns.faults._processes_stops import Stopped, halt
from pytest_prodpatterns.faults._processes_strikes import Struck, await_effect, hit, signal_of
from pytest_prodpatterns.faults._processes_victim import DEADLINE, NoEffect, Victim
from pytest_prodpatterns.lab import ChaosLab, current_lab, inject, stream

__tracebackhide__ = True  # pytest shows the line of the user; --full-trace shows ours, too

One: TypeAlias = Literal["busy", "idle", "random"]
Which: TypeAlias = Literal["busy", "idle", "random", "all"]
T = TypeVar("T")


def worker(pool: Any, which: One = "busy", *, deadline: float = DEADLINE) -> Worker:
    """Choose a worker of a pool, to be struck by any of our functions: `throttle(worker(pool))`.

    Args:
        pool: The pool; see `workers`.
        which: "busy", "idle" or "random": one of those, chosen by the lab's seed.
        deadline: Real seconds to wait until there is one.

    Raises:
        ValueError: When `which` is none of these words.
        TypeError: When we cannot tell which processes are its workers, or what they do.
        NoEffect: When there is no such worker in time.
    """
    return _choose("worker", pool, _checked("worker", which, get_args(One)), time.monotonic() + deadline)[0]


@overload
def kill_worker(
    pool: Any, which: One = "busy", *, signal: int | str = ..., deadline: float = ...
) -> Struck: ...


@overload
def kill_worker(
    pool: Any, which: Literal["all"], *, signal: int | str = ..., deadline: float = ...
) -> tuple[Struck, ...]: ...


def kill_worker(
    pool: Any, which: Which = "busy", *, signal: int | str = signal.SIGKILL, deadline: float = DEADLINE
) -> Struck | tuple[Struck, ...]:
    """Kill a worker of a pool; wait for one that may be killed, and then until it has ended.

    Args:
        pool: The pool; see `workers`.
        which: "busy", "idle" or "random": one of those, chosen by the lab's seed. "all": every worker of this
            moment.
        signal: Another signal, as its number or its name; then it must have arrived, as with `send_signal`.
        deadline: Real seconds for finding it, and for the effect on each.

    Returns:
        The record, for "all" one for each.

    Raises:
        ValueError: When `which` or `signal` is unknown, or the worker is no descendant of this process.
        TypeError: When we cannot tell which processes are its workers, or what they do.
        NoEffect: When there is no such worker in time, or it does not end.
    """
    number = signal_of("kill_worker", signal)
    strike = lambda found: _signal_all(found, number, deadline, _name_of(pool))  # noqa: E731
    return _strike("kill_worker", pool, which, deadline, strike)


@overload
def stop_worker(pool: Any, which: One = "busy", *, deadline: float = ...) -> Stopped: ...


@overload
def stop_worker(pool: Any, which: Literal["all"], *, deadline: float = ...) -> tuple[Stopped, ...]: ...


def stop_worker(
    pool: Any, which: Which = "busy", *, deadline: float = DEADLINE
) -> Stopped | tuple[Stopped, ...]:
    """Let a worker of a pool stand still until it is continued; see `stop`.

    Args:
        pool: The pool; see `workers`.
        which: As for `kill_worker`.
        deadline: Real seconds for finding it, and for the effect on each.

    Raises:
        ValueError: When `which` is unknown, or the worker is stopped already, or no descendant of this process.
        TypeError: When we cannot tell which processes are its workers, or what they do.
        NoEffect: When there is no such worker in time, or it does not stand still.
    """
    strike = lambda found: _stop_all(found, deadline, _name_of(pool))  # noqa: E731
    return _strike("stop_worker", pool, which, deadline, strike)


def _strike(
    verb: str, pool: Any, which: str, deadline: float, strike: Callable[[tuple[Worker, ...]], tuple[T, ...]]
) -> T | tuple[T, ...]:
    """Strike the chosen worker, or all; where they have ended meanwhile, choose again."""
    end = time.monotonic() + deadline
    _checked(verb, which, get_args(Which))
    while not (struck := strike(_choose(verb, pool, which, end))):
        pass
    return struck if which == "all" else struck[0]


def _signal_all(
    found: tuple[Worker, ...], number: signal.Signals, deadline: float, pool: str
) -> tuple[Struck, ...]:
    """Send a signal to workers at one time, then wait for its effect on each; pass over who has ended."""
    verb, struck, victims = "kill_worker", [], []
    with ExitStack() as stack:
        for each in found:
            with suppress(ProcessLookupError):
                victims.append((stack.enter_context(Victim(verb, each.pid)), each))
        for victim, each in victims:
            fault = inject(verb, f"{number.name} to pid {each.pid}{_described(each, pool)}")
            struck.append(hit(fault, victim, number))
        for victim, _each in victims:
            await_effect(verb, victim, number, deadline)
    return tuple(struck)


def _stop_all(found: tuple[Worker, ...], deadline: float, pool: str) -> tuple[Stopped, ...]:
    stopped = []
    for each in found:
        with suppress(ProcessLookupError):
            stopped.append(halt("stop_worker", each.pid, deadline, _described(each, pool)))
    return tuple(stopped)


def _choose(verb: str, pool: Any, which: str, end: float) -> tuple[Worker, ...]:
    """Wait until there are workers to choose from; return the chosen one, or all of them."""
    while True:
        present = workers(pool)
        fitting = [each for each in present if which in {"random", "all", each.state}]
        if fitting:
            return tuple(fitting) if which == "all" else (fitting[int(_draw() * len(fitting))],)
        if time.monotonic() >= end:
            raise _none_found(verb, pool, which, present)
        time.sleep(0.001)


def _none_found(verb: str, pool: Any, which: str, present: tuple[Worker, ...]) -> Exception:
    name = _name_of(pool)
    if any(each.state == UNKNOWN for each in present):
        return TypeError(
            f"{verb}(): cannot tell which of the {len(present)} workers of {name} is {which}: it has fewer"
            " unfinished tasks than workers; take which='random' or 'all', or give every worker something to do"
        )
    states = ", ".join(f"{each.pid} {each.state}" for each in present) or "it has no living worker"
    wanted = "there was no worker" if which in {"random", "all"} else f"no worker was {which}"
    return NoEffect(f"{verb}(): {wanted} in {name} in time: {states}")


def _described(each: Worker, pool: str) -> str:
    doing = "" if each.state == UNKNOWN else f" ({each.state})"
    return f", a worker{doing} of {pool}"


def _name_of(pool: Any) -> str:
    name = getattr(pool, "name", None)
    return name if isinstance(name, str) else f"the {type(pool).__name__}"


def _checked(verb: str, which: str, words: tuple[str, ...]) -> str:
    if which not in words:
        expected = ", ".join(map(repr, words))
        raise ValueError(f"{verb}(): which must be one of {expected}, not {which!r}")
    return which


_streams: weakref.WeakKeyDictionary[ChaosLab, random.Random] = weakref.WeakKeyDictionary()
_without_lab = stream(0, "", "workers")


def _draw() -> float:
    """Return the next number of the lab's stream for choosing workers; one a choice, however many there are."""
    lab = current_lab()
    if lab is None:
        return _without_lab.random()
    if lab not in _streams:
        _streams[lab] = lab.rng("workers")
    return _streams[lab].random()
