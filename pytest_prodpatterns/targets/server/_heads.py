"""The bytes that a client sends first, for each kind of request."""

from __future__ import annotations

from typing import Final

from pytest_prodpatterns.targets.server._address import LOOPBACK, Address
from pytest_prodpatterns.targets.server._protocol import Request

HALF: Final = 1024
"""Bytes of body that a half-sent request announces where it has none of its own."""


def path_of(request: Request) -> str:
    """Return the path of a request, with its seconds filled in."""
    seconds = 1.0 if request.seconds is None else request.seconds
    return request.path.replace("{seconds}", f"{seconds:g}")


def parts_of(request: Request, address: Address, **fields: str) -> list[bytes]:
    """Return what a client sends at first, in pieces, so that a large body is not copied.

    Args:
        request: The request.
        address: Where it goes.
        fields: Header fields of its kind, with `_` for `-`; those of the request win.
    """
    if request.kind == "raw":
        return [request.data]
    if request.kind == "silent":
        return []
    body = request.body
    if request.kind == "half-body":
        body = body or b"x" * HALF
    host = f"{LOOPBACK}:{address}" if isinstance(address, int) else "localhost"
    known = {"Host": host, **{name.replace("_", "-"): value for name, value in fields.items()}}
    if body or request.method in {"POST", "PUT", "PATCH"}:
        known["Content-Length"] = str(len(body))
    given = {name.lower() for name in request.headers}
    lines = [f"{request.method} {path_of(request)} HTTP/1.1"]
    lines += [f"{name}: {value}" for name, value in known.items() if name.lower() not in given]
    lines += [f"{name}: {value}" for name, value in request.headers.items()]
    head = "\r\n".join(lines).encode()
    if request.kind == "half-headers":
        return [head + b"\r\nX-Half: "]
    if request.kind == "slow-headers":
        return [head + b"\r\nX-Slow: "]
    if request.kind == "half-body":
        body = body[: len(body) // 2]
    return [head + b"\r\n\r\n", body]


__all__ = ["HALF", "parts_of", "path_of"]
