"""Who waits for whom in a loop, and how to raise an error at the line that waits.

An error raised from the loop's own turn ends in a traceback through asyncio that names nobody.  So it is put into the
future that a task waits for, and comes up at that task's own `await`.  The task that asks is the one the caller drives
(the test, or the argument of `run_until_complete`); from there we follow what it waits for down to the last waiters.
Tasks it does not wait for are left alone: they may wait on purpose, for a later call.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
from asyncio.base_events import _run_until_complete_cb  # type: ignore[attr-defined]
from collections import deque
from pathlib import PurePath
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

Task = asyncio.Task[Any]
Future = asyncio.Future[Any]

_ASYNCIO = str(PurePath(asyncio.__file__).parent)


def raise_in_waiters(
    loop: asyncio.AbstractEventLoop, root: Task | None, make_error: Callable[[str], Exception]
) -> bool:
    """Raise an error in the tasks that keep `root` waiting.

    Args:
        loop: The loop, between two turns.
        root: The task that must go on; None takes the one that drives the loop, or else every task.
        make_error: Builds the error from the description of a task and of where it waits.

    Returns:
        Whether there was any task to raise it in.
    """
    waiting = {task: waiter for task in asyncio.all_tasks(loop) if (waiter := _waiter(task)) is not None}
    if root not in waiting:
        root = next((task for task in waiting if _drives(task)), None)
    roots = [root] if root is not None else list(waiting)
    found = dict(leaf for task in roots for leaf in _leaves(task, waiting, set()))
    for future, task in found.items():
        error = make_error(describe(task))
        with contextlib.suppress(asyncio.InvalidStateError):
            future.set_exception(error)
    return bool(found)


def waiting_elsewhere(loop: asyncio.AbstractEventLoop) -> list[str]:
    """Return a line for each waiting task of the loop."""
    return sorted(describe(task) for task in asyncio.all_tasks(loop) if _waiter(task) is not None)


def describe(task: Task) -> str:
    """Return which task it is and the line it waits at, the code of asyncio left out."""
    place = ""
    for code, line in _stack(task.get_coro()):
        if not place or not code.co_filename.startswith(_ASYNCIO):
            place = f" at {PurePath(code.co_filename).name}:{line} in {code.co_qualname}"
    return f"{task.get_name()}{place}"


def _stack(coro: Any) -> Iterator[tuple[Any, int]]:
    """Yield code and line of each coroutine in the chain of awaits, outermost first."""
    while coro is not None:
        for prefix in ("cr", "gi", "ag"):
            frame = getattr(coro, f"{prefix}_frame", None)
            if frame is not None:
                yield frame.f_code, frame.f_lineno
                coro = getattr(coro, f"{prefix}_await", None) or getattr(coro, "gi_yieldfrom", None)
                break
        else:
            return


def _waiter(task: Task) -> Future | None:
    waiter = getattr(task, "_fut_waiter", None)
    return waiter if waiter is not None and not waiter.done() else None


def _drives(task: Task) -> bool:
    return any(callback is _run_until_complete_cb for callback, _ in getattr(task, "_callbacks", None) or ())


def _leaves(task: Task, waiting: dict[Task, Future], seen: set[Task]) -> Iterator[tuple[Future, Task]]:
    """Yield the futures at the end of what `task` waits for, each with the task that awaits it."""
    if task in seen:
        return
    seen.add(task)
    futures, tasks = _awaited(task, waiting)
    for other in tasks:
        yield from _leaves(other, waiting, seen)
    for future in futures:
        yield future, task


def _awaited(task: Task, waiting: dict[Task, Future]) -> tuple[list[Future], list[Task]]:
    waiter = waiting[task]
    members = getattr(waiter, "_children", None) or [waiter]  # gather() waits for its children
    tasks = [future for future in members if isinstance(future, asyncio.Task) and future in waiting]
    futures = [future for future in members if not isinstance(future, asyncio.Task) and not future.done()]
    if tasks:
        return futures if members != [waiter] else [], tasks
    wakers = [other for other in waiting if other is not task and _wakes(other, waiter)]
    return ([], wakers) if wakers else (futures, [])


def _wakes(task: Task, future: Future) -> bool:
    """Tell whether the end of `task` is what `future` stands for: wait(), TaskGroup, shield()."""
    return any(
        thing is future
        for callback, _ in getattr(task, "_callbacks", None) or ()
        for thing in _reach(callback)
    )


def _reach(callback: Any) -> Iterator[Any]:
    """Yield what a done-callback can touch through the objects of asyncio and anyio themselves."""
    while isinstance(callback, functools.partial):
        yield from callback.args
        callback = callback.func
    todo = [getattr(callback, "__self__", None)]
    for cell in getattr(callback, "__closure__", None) or ():
        with contextlib.suppress(ValueError):
            todo.append(cell.cell_contents)
    seen = set()
    while todo:
        thing = todo.pop()
        if id(thing) not in seen:
            seen.add(id(thing))
            yield thing
            todo.extend(_parts(thing))


def _parts(thing: Any) -> Iterable[Any]:
    if isinstance(thing, list | tuple | set | deque):
        return thing
    if isinstance(thing, asyncio.Future | asyncio.AbstractEventLoop):
        return ()
    library = type(thing).__module__.partition(".")[0]
    return vars(thing).values() if library in {"asyncio", "anyio"} and hasattr(thing, "__dict__") else ()
