"""The parameters of a server, checked once at the door."""

from __future__ import annotations

import os
import ssl
from dataclasses import dataclass
from typing import Any, Final

from pytest_prodpatterns.patterns import _checks

__tracebackhide__ = True  # pytest shows the line of the user; --full-trace shows ours, too

MOST_PORTS: Final = 65535


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """What a server was told; each field is documented at `ProductionServer`."""

    name: str
    unix_socket: str | None
    tls: ssl.SSLContext | None
    lame_duck: float
    drain_timeout: float
    cleanup_timeout: float
    handler_timeout: float | None
    header_timeout: float
    keepalive_timeout: float
    max_body: int
    max_header: int
    max_headers: int
    max_concurrent: int
    retry_after: int
    max_loop_lag: float | None
    backlog: int
    workers: int
    reuse_port: bool
    access_log: bool
    metrics: bool
    cancel_on_disconnect: bool
    uvloop: bool | None

    @property
    def budget(self) -> float:
        """Seconds that a stop takes at most: what is blocked is ended by force behind them."""
        return self.lame_duck + self.drain_timeout + self.cleanup_timeout + 1.0


def checked(*, host: Any, port: Any, name: Any, unix_socket: Any, tls: Any, **rest: Any) -> Settings:
    """Return the settings.

    Raises:
        TypeError: When a parameter is of the wrong type.
        ValueError: When one is out of range.
    """
    if host is not None and not isinstance(host, str):
        raise TypeError(f"host must be a text or None, not {host!r}")
    if _checks.whole("port", port, least=0) > MOST_PORTS:
        raise ValueError(f"port must be at most {MOST_PORTS}, not {port!r}")
    if name is not None and not (isinstance(name, str) and name):
        raise TypeError(f"name must be a text that is not empty, not {name!r}")
    for field in ("lame_duck", "drain_timeout", "cleanup_timeout"):
        if rest[field] is None:
            raise TypeError(f"{field} must be a number of seconds, not None: nothing waits for ever here")
        rest[field] = _checks.seconds_or_none(field, rest[field], zero=True)
    for field in ("header_timeout", "keepalive_timeout"):
        rest[field] = _checks.seconds(field, rest[field])
    for field in ("handler_timeout", "max_loop_lag"):
        rest[field] = _checks.seconds_or_none(field, rest[field])
    for field in (
        "max_body",
        "max_header",
        "max_headers",
        "max_concurrent",
        "retry_after",
        "backlog",
        "workers",
    ):
        rest[field] = _checks.whole(field, rest[field])
    path = None if unix_socket is None else os.fspath(unix_socket)
    return Settings(name=name or (path or f"{host}:{port}"), unix_socket=path, tls=_context(tls), **rest)


def _context(tls: Any) -> ssl.SSLContext | None:
    if tls is None or isinstance(tls, ssl.SSLContext):
        return tls
    if isinstance(tls, tuple) and len(tls) == 2:
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        context.load_cert_chain(*tls)
        return context
    raise TypeError(f"tls must be an SSLContext or (certificate file, key file), not {tls!r}")
