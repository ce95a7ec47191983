"""The process in which a target lives: it reads requests from its engine and answers them, whatever hangs.

Run as a script, with the descriptor of a socket.  The first line that comes over it says what to load: a
*service*, an object whose methods are the verbs.  Each further line is a request.  Every verb runs in a thread
of its own, so one that hangs blocks none that comes later; only those that the service lists in `on_main` run
in the main thread, which does nothing else but wait for them.  Signals find it there: a SIGTERM does to this
process what it would do to an application that holds the same target.

Nothing of the engine is imported here, and only little of the standard library: a target that starts new
interpreters may load this file again in each of them.
"""

from __future__ import annotations

import faulthandler
import importlib
import json
import os
import queue
import signal
import socket
import sys
import threading
import traceback
from contextlib import suppress
from typing import Any

STACKS_SIGNAL = getattr(signal, "SIGRTMIN", signal.SIGUSR2 - 5) + 5
"""Asks for the stacks of all threads, on standard error; a signal that no library uses for itself."""

TURN = 0.05
"""Seconds after which the main thread looks up."""


class Office:
    """Take requests, have them performed, send the answers.

    Args:
        line: The connection to the engine.
    """

    def __init__(self, line: socket.socket) -> None:
        self._line = line
        self._sending = threading.Lock()
        self._desk: queue.SimpleQueue[dict[str, Any] | None] = queue.SimpleQueue()  # for the main thread
        self._requests = line.makefile("rb")
        first = json.loads(self._requests.readline())
        sys.path[:] = first["path"]
        module, _, name = first["service"].partition(":")
        self._service = getattr(importlib.import_module(module), name)()
        os.register_at_fork(after_in_child=self._let_go)

    def serve(self) -> None:
        """Perform what belongs to the main thread, until the engine lets this process go."""
        threading.Thread(target=self._read, name="requests", daemon=True).start()
        while (request := self._next()) is not None:
            try:
                self._answer(request, value=self._perform(request))
            except Exception as error:  # noqa: BLE001 - it belongs to whoever asked
                self._fail(request, error)

    def _next(self) -> dict[str, Any] | None:
        """Wait for a request; in turns, for a signal that comes just before a wait is handled when it ends."""
        while True:
            with suppress(queue.Empty):
                return self._desk.get(timeout=TURN)

    def _read(self) -> None:
        with suppress(OSError):
            for line in self._requests:
                self._dispatch(json.loads(line))
        abandon()

    def _dispatch(self, request: dict[str, Any]) -> None:
        if request["verb"] == "leave":
            self._desk.put(None)
        elif request["verb"] in self._service.on_main:
            self._desk.put(request)
        else:
            name = f"{request['verb']} {request['id']}"
            threading.Thread(target=self._handle, args=(request,), name=name, daemon=True).start()

    def _handle(self, request: dict[str, Any]) -> None:
        try:
            self._answer(request, value=self._perform(request))
        except BaseException as error:  # noqa: BLE001 - it belongs to whoever asked
            self._fail(request, error)

    def _perform(self, request: dict[str, Any]) -> Any:
        return getattr(self._service, request["verb"])(**request["arguments"])

    def _fail(self, request: dict[str, Any], error: BaseException) -> None:
        text = "".join(traceback.format_exception(error))
        self._answer(request, error=type(error).__name__, text=_text(error), traceback=text[-4000:])

    def _let_go(self) -> None:
        """Close the line in a forked child; not by `close`, which would wait for the file made of it."""
        if (descriptor := self._line.detach()) >= 0:
            os.close(descriptor)

    def _answer(self, request: dict[str, Any], **answer: Any) -> None:
        line = json.dumps({"id": request["id"], **answer}, default=repr) + "\n"
        with self._sending, suppress(OSError):  # an engine that is gone needs no answer
            self._line.sendall(line.encode())


def abandon() -> None:
    """End at once, with all descendants: the engine is gone, and what lives here is nobody's any more."""
    import psutil  # noqa: PLC0415

    with suppress(psutil.Error):
        for child in psutil.Process().children(recursive=True):
            with suppress(psutil.Error):
                child.kill()
    os._exit(70)


def _text(error: BaseException) -> str:
    try:
        return str(error)
    except Exception as worse:  # noqa: BLE001 - an error of a stranger may do anything
        return f"<its str() raises {type(worse).__name__}>"


def main(descriptor: int) -> None:
    """Serve the engine at the other end of a socket."""
    faulthandler.enable()
    faulthandler.register(STACKS_SIGNAL)
    line = socket.socket(fileno=descriptor)
    line.set_inheritable(False)
    Office(line).serve()


if __name__ == "__main__":
    main(int(sys.argv[1]))
