"""How a server is known to be up, and in which ways it can fail to come up."""

from __future__ import annotations

import contextlib
import os
import socket
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Final

from pytest_prodpatterns.targets.server import _sockets
from pytest_prodpatterns.targets.server._address import status_of
from pytest_prodpatterns.targets.server._errors import DiedBeforeReady, ListensElsewhere, NeverReady

if TYPE_CHECKING:
    from pytest_prodpatterns.targets.server._process import ServerProcess

PAUSE: Final = 0.01
ELSEWHERE: Final = 1.5
"""Seconds that a server may listen somewhere else alone; behind them, that is where it listens."""
LONGEST: Final = 1.0
"""Seconds that one answer may take."""
_BAD: Final = 400

Sign = Callable[[], bool]


class Notices:
    """The socket on which a server says READY=1, as systemd has it (sd_notify).

    Args:
        path: Where; it goes into NOTIFY_SOCKET.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.setblocking(False)
        self._socket.bind(os.fspath(path))
        self._ready = False

    def ready(self) -> bool:
        """Tell whether it said so."""
        with contextlib.suppress(BlockingIOError):
            while not self._ready:
                self._ready = b"READY=1" in self._socket.recv(4096).split(b"\n")
        return self._ready

    def close(self) -> None:
        """Stop listening."""
        self._socket.close()


class _Answers:
    """The sign that a path is answered with a status below 400.

    Args:
        driver: What drives the server.
        path: The path.

    Attributes:
        last: The last status; 0 for no answer.
    """

    def __init__(self, driver: ServerProcess, path: str) -> None:
        self._driver = driver
        self._path = path
        self._within = min(LONGEST, driver.command.start_within)
        self.last = 0

    def __call__(self) -> bool:
        self.last = status_of(self._driver.address, self._path, self._within)
        return 0 < self.last < _BAD


def sign_of(driver: ServerProcess) -> tuple[Sign, str]:
    """Return how to see that the server is up, and that in words."""
    told = driver.command.ready
    if told == "notify":
        return driver.notices.ready, "READY=1 on its NOTIFY_SOCKET"
    if told.startswith("log:"):
        words = told.removeprefix("log:").encode()
        return lambda: words in driver.output.read_bytes(), f"{words.decode()!r} in its output"
    if told.startswith("/"):
        return _Answers(driver, told), f"a status below 400 for {told}"
    return lambda: listens(driver), f"a listener on {driver.place}"


def await_ready(driver: ServerProcess, sign: Sign, words: str, deadline: float) -> None:
    """Wait until the server is up.

    Args:
        driver: What drives it.
        sign: Whether it is up.
        words: What is waited for.
        deadline: Seconds.

    Raises:
        DiedBeforeReady: It ended.
        ListensElsewhere: It listens, but not where it should.
        NeverReady: It was not up in time.
    """
    began = time.monotonic()
    elsewhere = _Elsewhere(driver)
    while not sign() or has_stranger(driver):
        took = time.monotonic() - began
        if (exit_ := driver.exit) is not None:
            text = f"the server ended before it was ready ({exit_['how']}), {took:.1f} s behind its start"
            raise DiedBeforeReady(f"{text}: {driver.shown}", driver.output_tail())
        elsewhere.look(late=took > deadline)
        if took > deadline:
            raise NeverReady(_why(driver, sign, words, deadline), driver.output_tail())
        time.sleep(PAUSE)


class _Elsewhere:
    """Where else the server listens, while it does not listen where it should."""

    def __init__(self, driver: ServerProcess) -> None:
        self._driver = driver
        self._since: float | None = None

    def look(self, *, late: bool) -> None:
        """Look; a server may open several ports, one behind the other, so it gets a moment.

        Raises:
            ListensElsewhere: That is where it listens.
        """
        driver, now = self._driver, time.monotonic()
        places = [] if listens(driver) else driver.other_places()
        self._since = (self._since or now) if places else None
        if self._since is not None and (late or now - self._since > ELSEWHERE):
            raise ListensElsewhere(
                f"the server listens on {', '.join(places)} and not on {driver.place}; let the command say where by"
                " {port} (or {uds}), or let it read PORT from its environment",
                driver.output_tail(),
            )


def listens(driver: ServerProcess) -> bool:
    """Tell whether somebody listens at the address of a server."""
    found = _sockets.listeners(driver.address)
    return driver.accepts() if found is None else bool(found)


def has_stranger(driver: ServerProcess) -> bool:
    """Tell whether somebody listens at the address of a server, and is none of its processes."""
    found = _sockets.listeners(driver.address) or []
    owners = {pid for each in found for pid in _sockets.owner_pids(each.inode)}
    return bool(owners) and owners.isdisjoint(driver.look()["pids"])


def _why(driver: ServerProcess, sign: Sign, words: str, deadline: float) -> str:
    text = f"the server was not ready within {deadline:g} s; it was waited for {words}"
    if isinstance(sign, _Answers):
        text += f" (the last answer: {sign.last})" if sign.last else " (it does not answer)"
    if has_stranger(driver):
        text += f"; {driver.place} is held by another process"
    return f"{text}; its process {driver.pid} lives: {driver.shown}"
