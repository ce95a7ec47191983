"""Starting worker processes by any start method, and what each leaves to be closed.

`multiprocessing` starts them, so that its rules hold here too: the main module is prepared under spawn and
forkserver, coverage follows, a worker may start processes of its own.
"""

from __future__ import annotations

import multiprocessing
import multiprocessing.connection  # now: whoever waits for a process needs it, and may be out of descriptors
import multiprocessing.process
import os
import socket
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any, Final

from pytest_prodpatterns.patterns.pool._worker import Channel, Setup, main

if TYPE_CHECKING:
    from multiprocessing.process import BaseProcess

SEND_BUFFER: Final = 1 << 20
_FORK_WARNING: Final = r"This process \(pid=\d+\) is multi-threaded"


class Ends:
    """The pool's ends of what joins it to one worker.

    Attributes:
        sock: The channel; not blocking.
        tokens_in: Where tokens go in.
        tokens_out: Where they can be taken out again; not blocking.
        lifeline: Closing it kills the worker's process group.
    """

    __slots__ = ("lifeline", "sock", "tokens_in", "tokens_out")

    def __init__(self, sock: socket.socket, tokens_in: int, tokens_out: int, lifeline: socket.socket) -> None:
        self.sock = sock
        self.tokens_in = tokens_in
        self.tokens_out = tokens_out
        self.lifeline = lifeline

    def close(self) -> None:
        """Close all."""
        self.close_in_child()
        with suppress(OSError):
            os.close(self.tokens_out)

    def close_in_child(self) -> None:
        """Close what a forked worker must not hold; it takes tokens from the end that it shares with the pool."""
        self.sock.close()
        self.lifeline.close()
        with suppress(OSError):
            os.close(self.tokens_in)


def connect() -> tuple[Ends, Channel]:
    """Return the two sides of a new connection between the pool and a worker."""
    mine, yours = socket.socketpair()
    for sock in (mine, yours):  # large values need fewer turns; the kernel gives what it allows
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SEND_BUFFER)
    lifeline, held = socket.socketpair()
    mine.setblocking(False)
    out, in_ = os.pipe()
    os.set_blocking(out, False)
    return Ends(mine, in_, out, lifeline), Channel(yours, out, held)


def launch(method: str, name: str, channel: Channel, setup: Setup) -> BaseProcess:
    """Start a worker; its ends are closed here once it has them.

    Args:
        method: `fork`, `spawn` or `forkserver`.
        name: The name of the process.
        channel: The worker's ends.
        setup: What it is told.

    Raises:
        Exception: When the process cannot be started, or, but for fork, the setup cannot be pickled.
    """
    if method == "forkserver":
        _preload()
    kind: Any = multiprocessing.get_context(method)
    process: BaseProcess = kind.Process(target=main, args=(channel, setup), name=name, daemon=False)
    try:
        with _quietly(method):
            process.start()
    finally:
        # ours to wait for, and nobody else's: multiprocessing would join it at the interpreter's end
        multiprocessing.process._children.discard(process)  # type: ignore[attr-defined]  # noqa: SLF001
        channel.sock.close()
        channel.lifeline.close()
    return process


@contextmanager
def _quietly(method: str) -> Iterator[None]:
    """Keep quiet Python's general warning against a fork beside threads, which a pool has by its nature.

    What it warns of stands in the documentation of `start_method`; said at each worker that is replaced, it
    would be noise in every test suite. The list of filters is never replaced, so other threads may change it.
    """
    if method != "fork" or sys.version_info < (3, 12):
        yield
        return
    warnings.filterwarnings("ignore", _FORK_WARNING, DeprecationWarning, r"multiprocessing\.popen_fork$")
    added = warnings.filters[0]
    try:
        yield
    finally:
        with suppress(ValueError):
            warnings.filters.remove(added)


def _preload() -> None:
    """Have a fork server that is still to be started import what workers need, once instead of in each of them.

    The public `set_forkserver_preload` would replace what the application has set.
    """
    from multiprocessing.forkserver import _forkserver  # noqa: PLC0415

    server: Any = _forkserver
    modules = getattr(server, "_preload_modules", None)
    started = getattr(server, "_forkserver_pid", None) is not None
    if modules is not None and not started and main.__module__ not in modules:
        server._preload_modules = [*modules, main.__module__]  # noqa: SLF001
