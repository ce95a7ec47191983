"""What users put in flight, and how they say that a server is up: each refused at the door when it cannot be meant."""

from __future__ import annotations

import json as _json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final, TypeAlias

from pytest_prodpatterns.patterns import _checks
from pytest_prodpatterns.targets.server._address import status_of
from pytest_prodpatterns.targets.server._protocol import Request
from pytest_prodpatterns.targets.server._running import RunningServer

__tracebackhide__ = True  # pytest shows the line of the user; --full-trace shows ours, too

Sign: TypeAlias = str | Callable[[RunningServer], bool]
"""How something is known of a server: `port`, `notify`, a path, `log:TEXT`, or a callable that gets the server."""

HANDLED: Final = frozenset({"request", "stream", "sse", "websocket", "raw"})
"""Kinds that a handler of the server works on: they are to be completed."""
IDLE: Final = frozenset({"idle", "silent"})
"""Kinds of connections on which nothing is asked."""
HALF_SENT: Final = frozenset({"half-headers", "half-body", "slow-headers"})
"""Kinds that never become a whole request."""

_TOKEN: Final = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_PATH: Final = re.compile(r"/[!-~]*")
_HALF: Final = 1024
_STATUS: Final = range(100, 600)


# -- requests ----------------------------------------------------------------------------------------------------


def get(path: str = "/", *, headers: Mapping[str, str] | None = None, again: bool = False) -> Request:
    """Return a GET; `get("/slow") * 8` are eight, each on a connection of its own.

    Args:
        path: Path and query.
        headers: Further header fields.
        again: Whether the connection is used again and again behind its answer, until the server ends it.
    """
    return Request(path=checked_path("path", path), headers=_headers(headers), again=again)


def post(
    path: str,
    *,
    json: Any = None,
    body: bytes | str | None = None,
    headers: Mapping[str, str] | None = None,
    method: str = "POST",
) -> Request:
    """Return a request with a body.

    Args:
        path: Path and query.
        json: What is sent as JSON.
        body: What is sent as it is, instead.
        headers: Further header fields.
        method: POST, PUT, PATCH, …
    """
    if json is not None and body is not None:
        raise ValueError("post() takes json or body, not both")
    if not isinstance(method, str) or not _TOKEN.fullmatch(method):
        raise ValueError(f"method must be one of HTTP, such as 'POST', not {method!r}")
    fields = _headers(headers)
    if body is None:
        fields = {"Content-Type": "application/json", **fields}
        body = _json.dumps(json)
    data = body.encode() if isinstance(body, str) else body
    if not isinstance(data, bytes):
        raise TypeError(f"body must be bytes or text, not {body!r}; for other data there is json=")
    return Request(path=checked_path("path", path), method=method.upper(), headers=fields, body=data)


def stream(path: str, *, headers: Mapping[str, str] | None = None) -> Request:
    """Return a GET whose response body comes little by little, and has an end."""
    return Request(kind="stream", path=checked_path("path", path), headers=_headers(headers))


def sse(path: str, *, headers: Mapping[str, str] | None = None) -> Request:
    """Return a client of an endless event stream: it is content when the stream ends in good order."""
    return Request(kind="sse", path=checked_path("path", path), headers=_headers(headers))


def websocket(path: str, *, headers: Mapping[str, str] | None = None) -> Request:
    """Return a websocket: it is content when it gets a close frame."""
    return Request(kind="websocket", path=checked_path("path", path), headers=_headers(headers))


def idle_keepalive(times: int = 1, *, path: str = "/") -> Request:
    """Return connections on which one request was answered, and which are kept alive."""
    return Request(kind="idle", path=checked_path("path", path), times=_checks.whole("times", times))


def never_sent(times: int = 1) -> Request:
    """Return connections on which nothing is ever sent."""
    return Request(kind="silent", times=_checks.whole("times", times))


def half_headers(times: int = 1, *, path: str = "/") -> Request:
    """Return requests of which only half of the head is sent."""
    return Request(kind="half-headers", path=checked_path("path", path), times=_checks.whole("times", times))


def half_body(times: int = 1, *, path: str = "/", body: bytes = b"x" * _HALF) -> Request:
    """Return POST requests of which only half of the body is sent."""
    if not isinstance(body, bytes) or len(body) < 2:
        raise ValueError(f"body must be bytes that have a half, not {body!r}")
    times = _checks.whole("times", times)
    return Request(kind="half-body", path=checked_path("path", path), method="POST", body=body, times=times)


def raw(data: bytes, times: int = 1) -> Request:
    """Return a client that sends exactly these bytes, and expects a response."""
    if not isinstance(data, bytes) or not data:
        raise TypeError(f"data must be bytes, and some, not {data!r}; for silence there is never_sent()")
    return Request(kind="raw", data=data, times=_checks.whole("times", times))


# -- signs -------------------------------------------------------------------------------------------------------


def http(path: str, status: int | None = None) -> Sign:
    """Return the sign that a path is answered.

    Args:
        path: Asked for by GET.
        status: The status that counts; by default any below 400.
    """
    path = checked_path("path", path)
    if status is None:
        return path
    if isinstance(status, bool) or not isinstance(status, int) or status not in _STATUS:
        raise ValueError(f"status must be one of HTTP, such as 200, not {status!r}")
    return Answers(path, status)


def port() -> Sign:
    """Return the sign that somebody listens at the server's port; it makes no connection."""
    return "port"


def log(text: str) -> Sign:
    """Return the sign that a text stands in the output; as `armed`, once for each request."""
    if not isinstance(text, str) or not text:
        raise TypeError(f"log() needs a text that the server prints, not {text!r}")
    return f"log:{text}"


def notify() -> Sign:
    """Return the sign that the server says READY=1 on the socket in NOTIFY_SOCKET (sd_notify)."""
    return "notify"


@dataclass(frozen=True, slots=True)
class Answers:
    """The sign that a path is answered with exactly this status."""

    path: str
    status: int

    def __call__(self, server: RunningServer) -> bool:
        """Ask."""
        return status_of(server.address, self.path) == self.status

    def __str__(self) -> str:
        return f"status {self.status} for {self.path}"


# -- checks ------------------------------------------------------------------------------------------------------


def checked_path(name: str, path: Any) -> str:
    """Return a path if it can stand in a request line."""
    if not isinstance(path, str):
        raise TypeError(f"{name} must be a path such as '/slow', not {path!r}")
    if "://" in path.partition("?")[0]:
        raise ValueError(
            f"{name} must be a path alone, such as '/slow', not the URL {path!r}: the port is ours"
        )
    if not _PATH.fullmatch(path):
        raise ValueError(
            f"{name} must begin with / and hold neither spaces nor other than ASCII (write %20), not {path!r}"
        )
    if "{" in path:
        raise ValueError(f"{name} must be the path itself; nothing is filled in here, got {path!r}")
    return path


def _headers(headers: Mapping[str, str] | None) -> dict[str, str]:
    if headers is None:
        return {}
    if not isinstance(headers, Mapping):
        raise TypeError(f"headers must be a mapping of names to texts, not {headers!r}")
    for name, value in headers.items():
        if not isinstance(name, str) or not _TOKEN.fullmatch(name):
            raise ValueError(f"headers: {name!r} is no name of a header field")
        if not isinstance(value, str) or not value.isprintable():
            raise ValueError(f"headers: {name} must be a text of one line, not {value!r}")
    return dict(headers)
