"""How servers shut down: the probe, its report, and what one tells it; `docs/shutdown.md` shows it."""

from __future__ import annotations

from pytest_prodpatterns.targets.server._errors import (
    CannotStart,
    DiedBeforeReady,
    ListensElsewhere,
    NeverReady,
    ServerError,
)
from pytest_prodpatterns.targets.server._presets import (
    CTRL_C,
    DOCKER,
    KUBERNETES,
    SYSTEMD,
    Budget,
    Preset,
    budget,
)
from pytest_prodpatterns.targets.server._probe import ShutdownProbe, assert_graceful_shutdown
from pytest_prodpatterns.targets.server._protocol import Request, ServerCommand
from pytest_prodpatterns.targets.server._requests import (
    get,
    half_body,
    half_headers,
    http,
    idle_keepalive,
    log,
    never_sent,
    notify,
    port,
    post,
    raw,
    sse,
    stream,
    websocket,
)
from pytest_prodpatterns.targets.server._running import RunningServer
from pytest_prodpatterns.targets.server._shutdown_facts import Change, Exchange, Exit
from pytest_prodpatterns.targets.server._shutdown_plan import Options
from pytest_prodpatterns.targets.server._shutdown_report import NotObserved, ShutdownReport

__all__ = [
    "CTRL_C",
    "DOCKER",
    "KUBERNETES",
    "SYSTEMD",
    "Budget",
    "CannotStart",
    "Change",
    "DiedBeforeReady",
    "Exchange",
    "Exit",
    "ListensElsewhere",
    "NeverReady",
    "NotObserved",
    "Options",
    "Preset",
    "Request",
    "RunningServer",
    "ServerCommand",
    "ServerError",
    "ShutdownProbe",
    "ShutdownReport",
    "assert_graceful_shutdown",
    "budget",
    "get",
    "half_body",
    "half_headers",
    "http",
    "idle_keepalive",
    "log",
    "never_sent",
    "notify",
    "port",
    "post",
    "raw",
    "sse",
    "stream",
    "websocket",
]
