"""The servers that we know how to start, each with the same small application, configured as it recommends.

Where a server can be told how long it drains, it is told two seconds, so that a scenario need not wait for its
default; where it sheds load on request, it is asked to.  What it cannot do at all is said in one line.
"""

from __future__ import annotations

import difflib
import importlib.util
import shutil
import sys
from dataclasses import dataclass, field, replace
from typing import Any, Final

from pytest_prodpatterns.targets._base import TargetError
from pytest_prodpatterns.targets.server._protocol import ServerCommand
from pytest_prodpatterns.targets.server._target import ServerTarget

_HERE: Final = __package__
_PYTHON: Final = sys.executable
DRAIN: Final = 2
"""Seconds that every server is told to drain."""
LIMIT: Final = 20
"""Requests at once, for those that shed load."""
_ROUTES: Final[dict[str, Any]] = {
    "path": "/health",
    "slow_path": "/slow?seconds={seconds}",
    "stream_path": "/stream?seconds={seconds}",
    "json_path": "/api/process",
    "error_path": "/fail",
}
_SYNC_ROUTES: Final = _ROUTES
_ASYNC_ROUTES: Final = {**_ROUTES, "sse_path": "/events"}
_SOCKET_ROUTES: Final = {**_ASYNC_ROUTES, "websocket_path": "/ws"}
_NO_READINESS: Final = {
    "readiness": "has no readiness of its own",
    "lame-duck": "serves nothing new behind the signal: it has no lame duck (`prodpatterns wrap` gives it one)",
}
_NO_LIMIT: Final = {"limit": "sheds no load"}
_NO_HEADER_TIMEOUT: Final = {"header-timeout": "has no time limit for headers"}


@dataclass(frozen=True)
class _Entry:
    """A server that we know.

    Attributes:
        argv: Its command.
        known: What is known of it.
        needs: The modules that must be there, or programs where a `!` stands before.
        distribution: Whose version it has.
        lacks: Requirement -> why it cannot do that at all.
        env: Variables for it.
    """

    argv: tuple[str, ...]
    known: dict[str, Any]
    needs: tuple[str, ...] = ()
    distribution: str = ""
    lacks: dict[str, str] = field(default_factory=dict)
    env: dict[str, str] = field(default_factory=dict)


def _ours(**env: str) -> _Entry:
    argv = (_PYTHON, "-m", "pytest_prodpatterns", "serve", f"{_HERE}._demo:make_server", "--port", "{port}")
    known = {
        **_SOCKET_ROUTES,
        "ready": "/ready",
        "readiness": "/ready",
        "drain": float(DRAIN),
        "lame_duck": 1.2,
        "limit": LIMIT,
        "header_timeout": 1.0,
    }
    return _Entry((*argv, "--host", "127.0.0.1"), known, distribution="pytest-prodpatterns", env=env)


def _module(*words: str) -> tuple[str, ...]:
    return (_PYTHON, "-m", *words)


_NGINX: Final = """\
daemon off;
worker_processes 2;
pid nginx.pid;
error_log stderr;
events { worker_connections 2048; }
http {
  access_log off;
  client_header_timeout 1s;
  client_body_temp_path body;
  proxy_temp_path proxy;
  fastcgi_temp_path fastcgi;
  uwsgi_temp_path uwsgi;
  scgi_temp_path scgi;
  server { listen 127.0.0.1:{port} backlog=2048; location / { return 200 "ok"; } }
}
"""
_ASGI: Final = f"{_HERE}._demo_asgi:app"
_WSGI: Final = f"{_HERE}._demo_wsgi:app"
_GUNICORN: Final = (
    *_module("gunicorn", "--bind", "127.0.0.1:{port}", "--graceful-timeout", str(DRAIN)),
    "--workers",
    "2",
)
_LATE: Final = {**_NO_READINESS, **_NO_LIMIT, **_NO_HEADER_TIMEOUT}

_ENTRIES: Final[dict[str, _Entry]] = {
    "ours": _ours(),
    "ours-asyncio": _ours(DEMO_UVLOOP="no"),
    "ours-workers": replace(
        _ours(DEMO_WORKERS="2"), known={**_ours().known, "workers": True, "limit": None}, lacks=_NO_LIMIT
    ),
    "aiohttp": _Entry(
        _module(f"{_HERE}._demo", "{port}", str(DRAIN)),
        {**_SOCKET_ROUTES, "drain": float(DRAIN)},
        distribution="aiohttp",
        lacks=_LATE,
    ),
    "uvicorn": _Entry(
        (
            *_module(
                "uvicorn", _ASGI, "--host", "127.0.0.1", "--port", "{port}", "--limit-concurrency", str(LIMIT)
            ),
            *("--timeout-graceful-shutdown", str(DRAIN)),
        ),
        {**_SOCKET_ROUTES, "drain": float(DRAIN), "limit": LIMIT},
        needs=("uvicorn",),
        distribution="uvicorn",
        lacks={**_NO_READINESS, **_NO_HEADER_TIMEOUT},
    ),
    "uvicorn-workers": _Entry(
        (
            *_module("uvicorn", _ASGI, "--host", "127.0.0.1", "--port", "{port}", "--workers", "2"),
            *("--timeout-graceful-shutdown", str(DRAIN)),
        ),
        {**_SOCKET_ROUTES, "drain": float(DRAIN), "workers": True},
        needs=("uvicorn",),
        distribution="uvicorn",
        lacks=_LATE,
    ),
    "hypercorn": _Entry(
        _module("hypercorn", _ASGI, "--bind", "127.0.0.1:{port}", "--graceful-timeout", str(DRAIN)),
        {**_SOCKET_ROUTES, "drain": float(DRAIN), "workers": True},
        needs=("hypercorn",),
        distribution="hypercorn",
        lacks=_LATE,
    ),
    "granian": _Entry(
        (
            *_module("granian", "--interface", "asgi", "--host", "127.0.0.1", "--port", "{port}"),
            *("--workers-kill-timeout", str(DRAIN), _ASGI),
        ),
        {**_SOCKET_ROUTES, "drain": float(DRAIN), "workers": True},
        needs=("granian",),
        distribution="granian",
        lacks=_LATE,
    ),
    "gunicorn": _Entry(
        (*_GUNICORN, _WSGI),
        {**_SYNC_ROUTES, "drain": float(DRAIN), "workers": True},
        needs=("gunicorn",),
        distribution="gunicorn",
        lacks=_LATE,
    ),
    "gunicorn-gthread": _Entry(
        (*_GUNICORN, "--worker-class", "gthread", "--threads", "32", _WSGI),
        {**_SYNC_ROUTES, "drain": float(DRAIN), "workers": True},
        needs=("gunicorn",),
        distribution="gunicorn",
        lacks=_LATE,
    ),
    "gunicorn-asgi": _Entry(
        (*_GUNICORN, "--worker-class", "asgi", _ASGI),
        {**_SOCKET_ROUTES, "drain": float(DRAIN), "workers": True},
        needs=("gunicorn",),
        distribution="gunicorn",
        lacks=_LATE,
    ),
    "http.server": _Entry(
        _module("http.server", "{port}", "--bind", "127.0.0.1"),
        {"path": "/"},
        lacks=_LATE,
    ),
    "nginx": _Entry(
        (
            "sh",
            "-c",
            'printf "%s" "$NGINX_CONF" >"$TMPDIR/nginx.conf"; exec nginx -p "$TMPDIR" -c nginx.conf -e stderr',
        ),
        {"path": "/", "header_timeout": 1.0, "workers": True},
        needs=("!nginx",),
        lacks={**_NO_READINESS, **_NO_LIMIT},
        env={"NGINX_CONF": _NGINX},
    ),
}
NAMES: Final = tuple(_ENTRIES)


def named(name: str) -> ServerTarget:
    """Return the target of that name.

    Raises:
        TargetError: There is none, or what it needs is not installed.
    """
    entry = _ENTRIES.get(name)
    if entry is None:
        near = difflib.get_close_matches(name, NAMES, n=1)
        hint = f"; did you mean {near[0]!r}?" if near else ""
        raise TargetError(
            f"no server is called {name!r}{hint} A command of yours goes behind --, with {{port}} where it is to"
            f" listen: prodpatterns check server -- {name} --port {{port}}"
        )
    for need in entry.needs:
        _refuse_missing(name, need)
    command = ServerCommand(**entry.known, argv=entry.argv, name=name, env=entry.env)
    return ServerTarget(command, name=name, spec=name, distribution=entry.distribution, lacks=entry.lacks)


def _refuse_missing(name: str, need: str) -> None:
    if need.startswith("!"):
        if shutil.which(need[1:]) is None:
            raise TargetError(f"{name} needs the program {need[1:]!r}, which is not on the PATH")
    elif importlib.util.find_spec(need) is None:
        raise TargetError(f"{name} is not installed; install it with: python -m pip install {need}")
