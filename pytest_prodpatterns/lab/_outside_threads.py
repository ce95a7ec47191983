"""Which threads may still have something to say to the loop.

A thread counts from the moment virtual time begins, unless it was busy before that: a thread that reads from a
terminal, a test runner's channel or a watchdog has nothing to do with the test.  A thread that waits without a
time-out to be handed something (an idle worker of a pool) cannot act by itself, so it does not count; but one
that was idle at the start and was given work since does.
"""

# ruff: noqa: SLF001 - CPython shows the frames of other threads under a private name only

from __future__ import annotations

import sys
import threading
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from types import FrameType

    Frames = dict[int, FrameType]

_WAIT = threading.Condition.wait.__code__
_WORKER = "concurrent.futures.thread"
_CHILD_WATCHER = "asyncio-waitpid"


class Threads:
    """The threads of this process, as seen by the loop that runs in the current one."""

    def __init__(self) -> None:
        self._known: set[threading.Thread] = {threading.current_thread()}
        frames = sys._current_frames()
        self._known.update(
            thread
            for thread in threading.enumerate()
            if not thread.name.startswith(_CHILD_WATCHER) and not _idle(thread, frames)
        )

    def strangers(self) -> bool:
        """Tell at little cost whether there is any thread to look at."""
        return not self._known.issuperset(threading.enumerate())

    def busy(self) -> list[threading.Thread]:
        """Return the threads that may still act on the loop."""
        found = [thread for thread in threading.enumerate() if thread not in self._known]
        if not found:
            return found
        frames = sys._current_frames()
        return [thread for thread in found if thread.is_alive() and not _idle(thread, frames)]

    def leave_out_current(self) -> None:
        """Leave the current thread out: it is the one that runs the loop."""
        self._known.add(threading.current_thread())


def _idle(thread: threading.Thread, frames: Frames) -> bool:
    frame = frames.get(thread.ident or 0)
    if frame is None:
        return False
    if frame.f_code is _WAIT:
        return _waits_for_a_notification(frame)
    return _is_worker(frame) and _waits_for_work(frame, frames)


def _waits_for_a_notification(frame: FrameType) -> bool:
    names = frame.f_locals
    condition, waiter = names.get("self"), names.get("waiter")
    return (
        names.get("timeout") is None and waiter is not None and waiter in getattr(condition, "_waiters", ())
    )


def _is_worker(frame: FrameType) -> bool:
    return frame.f_code.co_name == "_worker" and frame.f_globals.get("__name__") == _WORKER


def _waits_for_work(frame: FrameType, frames: Frames) -> bool:
    names = frame.f_locals
    queue, executor = names.get("work_queue"), names.get("executor_reference", _nobody)()
    if names.get("work_item") is not None or queue is None or not queue.empty():
        return False
    return executor is None or not _was_handed_work(executor, frames)


def _nobody() -> None:
    """Stand in for a weak reference that leads nowhere."""


def _was_handed_work(executor: Any, frames: Frames) -> bool:
    """Tell whether some worker that seems to wait has been given a call: 3.13 hands it over past the queue.

    Its executor then counts fewer idle workers than there are waiting. (The count of 3.11 is too high.)
    """
    waiting = [frame for thread in list(executor._threads) if (frame := frames.get(thread.ident))]
    return sys.version_info >= (3, 13) and executor._idle_semaphore._value < sum(map(_is_worker, waiting))
