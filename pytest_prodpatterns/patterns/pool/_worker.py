"""A worker: it reads calls, runs them one after the other, and answers each at once.

Theory of operation.  Three descriptors join it to the pool, and nothing that another process can damage.

- The *channel*, a socketpair of its own: frames with calls come in, frames with answers go out, each answer
  before the next call begins, so that what has finished is on its way whatever happens next. The pool closing
  its side is the order to leave.
- The *tokens*, a pipe: for each call that the pool sends it puts a token with the call's number in first. A
  worker takes the token before it begins the call; the pool can take tokens out again. A pipe gives each
  token to one reader only, so a call that the pool took back from a worker that is stuck, stopped or slow is
  never begun by it as well, and the pool knows of a dead worker what it had begun.
- The *lifeline*: nothing is ever sent on it. The kernel is told to kill this worker's whole process group
  when the other end closes (F_SETSIG), which happens when the pool's process ends, however it ends. That
  works while the worker is stuck in C code, under every start method, and for the processes that tasks
  start. (PR_SET_PDEATHSIG does not: it watches the thread that forked, and under forkserver the forkserver.)
"""

from __future__ import annotations

import _signal  # type: ignore[import-not-found]
import contextlib
import fcntl
import os
import select
import signal
import socket
import threading
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from time import perf_counter
from typing import TYPE_CHECKING, Any, Final

from pytest_prodpatterns.lab import follow
from pytest_prodpatterns.patterns.pool import _wire
from pytest_prodpatterns.patterns.pool._call import Message, decode_call, encode_value
from pytest_prodpatterns.patterns.pool._remote import pack_error

if TYPE_CHECKING:
    from types import FrameType

    from pytest_prodpatterns.patterns.pool._call import Buffer
    from pytest_prodpatterns.patterns.pool._context import Place

_PAGE: Final = os.sysconf("SC_PAGE_SIZE")


@dataclass(frozen=True, slots=True, kw_only=True)
class Setup:
    """What a worker is told when it starts.

    Attributes:
        initializer: Called once, before the first task.
        initargs: Its arguments.
        places: Where the context variables are that travel with tasks.
        log_levels: Levels of the parent's loggers, if log records travel, else None.
        max_tasks: Tasks after which it leaves, or None.
        max_memory: Bytes of resident memory from which on it leaves after a task, or None.
        spool: Where the parent's timeline reads the events of its children, or None.
    """

    initializer: Callable[..., object] | None = None
    initargs: Sequence[Any] = ()
    places: Sequence[Place] = ()
    log_levels: Mapping[str, int] | None = None
    max_tasks: int | None = None
    max_memory: int | None = None
    spool: str | None = None


class Channel:
    """A worker's ends of what joins it to the pool.

    Attributes:
        sock: The channel.
        tokens: The reading end of the tokens' pipe.
        lifeline: The lifeline.
    """

    def __init__(self, sock: socket.socket, tokens: int, lifeline: socket.socket) -> None:
        self.sock = sock
        self.tokens = tokens
        self.lifeline = lifeline

    def __getstate__(self) -> Any:  # for spawn and forkserver: the descriptors themselves travel
        from multiprocessing.reduction import DupFd  # noqa: PLC0415

        return self.sock, DupFd(self.tokens), self.lifeline

    def __setstate__(self, state: Any) -> None:
        self.sock, tokens, self.lifeline = state
        self.tokens = tokens.detach()
        os.set_blocking(self.tokens, False)


def main(channel: Channel, setup: Setup) -> None:
    """Be a worker until the pool closes the channel."""
    _leave_parent_behind(channel.lifeline)
    follow(setup.spool)
    worker = Worker(channel, setup)
    try:
        if worker.boot():
            worker.serve()
    except (BrokenPipeError, ConnectionResetError):
        pass  # the pool is gone, or wants no answer any more


class Worker:
    """The loop of one worker."""

    def __init__(self, channel: Channel, setup: Setup) -> None:
        self._sock = channel.sock
        self._sock.setblocking(True)
        self._tokens = channel.tokens
        self._setup = setup
        self._claimed = 0  # the last token taken; never less than the number of a call that was begun
        self._done = 0
        self._pid = os.getpid()
        self._sending = threading.RLock()  # tasks may have threads that log
        self._writer = 0  # the thread that writes a frame: no exception may tear it
        self._interrupted = False  # whether SIGINT arrived meanwhile
        self._late: deque[Sequence[Buffer]] = deque()
        self._running = False  # whether a task is on: only then SIGINT raises
        signal.signal(signal.SIGINT, self._on_interrupt)

    def boot(self) -> bool:
        """Run the initializer and say so; return whether tasks may come."""
        setup = self._setup
        if setup.log_levels is not None:
            from pytest_prodpatterns.patterns.pool._logs import forward  # noqa: PLC0415

            forward(self._send_log, setup.log_levels)
        try:
            self._running = True
            if setup.initializer is not None:
                setup.initializer(*setup.initargs)
            _check_fits(setup.max_memory)
        except BaseException as error:  # noqa: BLE001 - whatever it is, the pool has to hear of it
            self._running = False
            self._send(_wire.BOOT_FAILED, 0, Message((pack_error(error),)))
            return False
        self._running = False
        self._send(_wire.READY, 0, Message((b"",)))
        return True

    def serve(self) -> None:
        """Answer calls until the pool closes the channel, or this worker has done its share."""
        frames = _wire.Frames(self._sock)
        while True:
            skipped = False
            for call in frames.receive():
                if not self._claim(call.seq):
                    skipped = True
                    continue
                skipped = False
                self._answer(call)
                if self._share_done():
                    self._send(_wire.LEAVING, 0, Message((b"",)))
                    return
            if frames.ended:
                return
            if skipped:
                self._send(_wire.SKIPPED, 0, Message((b"",)))

    def _claim(self, seq: int) -> bool:
        """Take the token of a call; return whether the call is this worker's to run."""
        if self._claimed < seq:
            try:
                token = os.read(self._tokens, 8)
            except BlockingIOError:
                return False
            if not token:
                raise BrokenPipeError
            self._claimed = int.from_bytes(token, "little")
        return self._claimed == seq

    def _answer(self, call: _wire.Frame) -> None:
        kind = _wire.VALUE
        start = perf_counter()
        try:
            self._running = True
            func, args, kwargs, context = decode_call(call.body, call.buffers)
            if context is None:
                value = func(*args, **kwargs)
            else:
                value = self._in_context(context, func, args, kwargs)
            message = _encoded(value)
        except BaseException as error:  # noqa: BLE001 - SystemExit too: the task fails, and nothing else
            self._running = False
            kind, message = _wire.ERROR, Message((pack_error(error),))
        self._running = False
        if os.getpid() != self._pid:  # the task forked, and this is the child, which has no answer to give
            os._exit(0)
        self._send(kind, call.seq, message, perf_counter() - start)
        self._done += 1

    def _in_context(self, values: Any, func: Any, args: Any, kwargs: Any) -> Any:
        from pytest_prodpatterns.patterns.pool._context import apply  # noqa: PLC0415

        return apply(self._setup.places, values).run(func, *args, **kwargs)

    def _send(self, kind: int, seq: int, message: Message, seconds: float = 0.0) -> None:
        parts = _wire.frame(kind, seq, message, seconds)
        with self._sending:
            self._write(parts)

    def _send_log(self, data: bytes) -> None:
        """Send a log record; one that this thread writes in the middle of a frame goes behind it."""
        parts = _wire.frame(_wire.LOG, 0, Message((data,)))
        with self._sending:
            if self._writer:
                self._late.append(parts)
            else:
                self._write(parts)

    def _write(self, parts: Sequence[Buffer]) -> None:
        """Write a frame, whole whatever interrupts it, and then what came late."""
        self._writer = threading.get_ident()
        _wire.send_all(self._sock, parts)
        while self._late:
            _wire.send_all(self._sock, self._late.popleft())
        self._writer = 0
        if self._interrupted and threading.current_thread() is threading.main_thread():
            self._interrupted = False
            if self._running:
                raise KeyboardInterrupt

    def _share_done(self) -> bool:
        setup = self._setup
        if setup.max_tasks is not None and self._done >= setup.max_tasks:
            return True
        return setup.max_memory is not None and _resident() >= setup.max_memory

    def _on_interrupt(self, signum: int, frame: FrameType | None) -> None:
        if self._writer == threading.get_ident():
            self._interrupted = True
        elif self._running:
            signal.default_int_handler(signum, frame)


def _encoded(value: Any) -> Message:
    try:
        return encode_value(value)
    except Exception as error:
        error.add_note("the task ran to its end, but its result cannot be pickled")
        raise


def _check_fits(limit: int | None) -> None:
    """Refuse to start with more memory than is allowed: every worker would leave after its first task."""
    if limit is not None and (resident := _resident()) >= limit:
        raise MemoryError(
            f"a new worker holds {resident} bytes already, and max_worker_memory is {limit};"
            " under fork it begins with what its parent holds"
        )


def _resident() -> int:
    with open("/proc/self/statm", "rb") as file:  # noqa: PTH123 - after each task
        return int(file.read().split()[1]) * _PAGE


def _leave_parent_behind(lifeline: socket.socket) -> None:
    """Become a process group of its own that lives as long as the pool, with signals as in a new process."""
    os.setpgid(0, 0)
    signal.set_wakeup_fd(-1)
    for signum in range(1, signal.NSIG):
        handler = _signal.getsignal(signum)  # the plain function: signal's makes an enum of each
        if callable(handler):
            with contextlib.suppress(OSError, ValueError):
                signal.signal(signum, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_SETMASK, ())
    fcntl.fcntl(lifeline, fcntl.F_SETOWN, -os.getpgrp())
    fcntl.fcntl(lifeline, fcntl.F_SETSIG, signal.SIGKILL)
    fcntl.fcntl(lifeline, fcntl.F_SETFL, fcntl.fcntl(lifeline, fcntl.F_GETFL) | os.O_ASYNC)
    watch = select.poll()
    watch.register(lifeline, 0)
    if watch.poll(0):  # it closed before the kernel was told
        os.killpg(0, signal.SIGKILL)
