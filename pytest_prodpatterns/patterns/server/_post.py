"""The post of a worker: what it got from its supervisor, and how the two talk.

Theory of operation.  A worker is the supervisor's own program, begun afresh: it imports everything again, and finds in
its environment, once it is about to serve, that it has a post: a channel to the supervisor, and the sockets to accept
from. Orders come down the channel as single bytes, and what became of them goes up. When the channel ends, the other
side is gone, so no worker outlives its supervisor. Orders are no signals: when a terminal or an init system signals
the whole group, a worker has not been told twice.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import shutil
import signal
import socket
import struct
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Final

from pytest_prodpatterns.patterns.server._metrics import DIRECTORY

VARIABLE: Final = "PRODPATTERNS_SERVER_WORKER"
LAME_DUCK, STOP, RETIRE, FORCE = b"L", b"S", b"R", b"F"
"""Orders."""
HEARING, READY, FORCED = b"h", b"r", b"f"
"""Answers: orders are heard from now on; requests are served; what was left is being cut off."""
_KEPT: Final = (signal.SIGINT, signal.SIGHUP)  # they come to a whole group, and not to a program that imports


@dataclass(frozen=True, slots=True)
class Post:
    """What a worker has from its supervisor."""

    channel: socket.socket
    listeners: list[socket.socket]
    directory: str | None = None
    """Where the metrics are; it is the supervisor's, who removes it unless it is killed."""

    def tell(self, word: bytes) -> None:
        """Answer; a supervisor that is gone needs none."""
        with contextlib.suppress(OSError):
            self.channel.send(word)

    @contextlib.contextmanager
    def orders(self, obey: Callable[[bytes], None]) -> Iterator[None]:
        """Have orders obeyed inside the block; b"" is the end of the supervisor."""
        loop = asyncio.get_running_loop()
        alone = False

        def read() -> None:
            nonlocal alone
            try:
                order = self.channel.recv(1)
            except BlockingIOError:
                return
            except OSError:  # the supervisor went before it read all that we sent
                order = b""
            if not order:
                alone = True
                loop.remove_reader(self.channel)
            obey(order)

        self.channel.setblocking(False)
        loop.add_reader(self.channel, read)
        self.tell(HEARING)
        try:
            yield
        finally:
            loop.remove_reader(self.channel)
            if alone and self.directory is not None:
                shutil.rmtree(self.directory, ignore_errors=True)


def take_up() -> Post | None:
    """Return the post that this process was started for, if it was."""
    text = os.environ.pop(VARIABLE, None)
    if text is None:
        return None
    told = json.loads(text)
    try:
        channel = socket.socket(fileno=told["channel"])
    except OSError:
        return None
    made_by, _, _ = struct.unpack("3i", channel.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))
    if made_by != told["supervisor"]:  # a child of a worker has read it
        channel.detach()
        return None
    post = Post(channel, [socket.socket(fileno=each) for each in told["listeners"]], told["directory"])
    for each in (channel, *post.listeners):
        each.set_inheritable(False)
    signal.signal(signal.SIGHUP, signal.SIG_IGN)  # it is for the supervisor
    return post


def hear_signals() -> None:
    """Let in the signals that were kept while nobody could handle them."""
    signal.pthread_sigmask(signal.SIG_UNBLOCK, _KEPT)


def start(listeners: list[socket.socket], directory: str | None) -> tuple[int, socket.socket]:
    """Begin this program afresh, as a worker, and return its pid and our end of the channel.

    Raises:
        OSError: When there can be no more processes, or sockets.
    """
    ours, theirs = socket.socketpair()
    with theirs, contextlib.ExitStack() as undo:
        undo.callback(ours.close)
        post = {
            "supervisor": os.getpid(),
            "channel": theirs.fileno(),
            "listeners": [each.fileno() for each in listeners],
            "directory": directory,
        }
        environment = os.environ | {VARIABLE: json.dumps(post)}
        if directory is not None:
            environment[DIRECTORY] = directory
        for each in (theirs, *listeners):
            each.set_inheritable(True)
        try:
            words = [sys.executable, *sys.orig_argv[1:]]
            pid = os.posix_spawn(sys.executable, words, environment, setsigmask=_KEPT)
        finally:
            for each in listeners:
                each.set_inheritable(False)
        undo.pop_all()
    ours.setblocking(False)
    return pid, ours
