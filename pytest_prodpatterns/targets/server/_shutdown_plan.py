"""What a shutdown probe is asked to do, checked before anything is started."""

from __future__ import annotations

import os
import signal as signals
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, TypedDict

from pytest_prodpatterns.patterns import _checks
from pytest_prodpatterns.targets.server._presets import (
    KUBERNETES,
    Preset,
    changed,
    checked_preset,
    required_seconds,
)
from pytest_prodpatterns.targets.server._protocol import Request, ServerCommand
from pytest_prodpatterns.targets.server._requests import HANDLED, Sign, checked_path
from pytest_prodpatterns.targets.server._running import RunningServer
from pytest_prodpatterns.targets.server._shutdown_checks import (
    checked_armed,
    checked_requests,
    checked_sign,
    checked_then,
    command_of,
    refuse_unknown,
    signal_name,
)

__tracebackhide__ = True  # pytest shows the line of the user; --full-trace shows ours, too

Command = ServerCommand | Sequence[str | os.PathLike[str]]
InFlight = Request | Iterable[Request]
_TARGETS: Final = ("leader", "group", "tree")


class Options(TypedDict, total=False):
    """What a probe may be told beside the command; times in seconds, those behind the signal counted from it."""

    #: How the server is known to be up: `http("/ready")`, `port()`, `log("Running on")`, `notify()`, or a callable
    #: that gets the `RunningServer`. By default `port()`.
    ready: Sign
    #: How long it may take to come up; 20 by default.
    start_within: float
    #: What is under way when the signal comes: `get("/slow") * 8`, `sse("/events")`, `idle_keepalive(3)`, …
    in_flight: InFlight
    #: How a request is known to be inside its handler: `log("HANDLER_START")`, once for each, or a callable. By
    #: default the kernel is asked: the server has accepted the connection and read all that was sent.
    armed: Sign
    #: How long that may take; 10 by default.
    arm_within: float
    #: The first signal; by default the preset's.
    signal: str | signals.Signals
    #: Who gets it: `leader`, `group` or `tree`; by default as the preset says.
    target: str
    #: Further signals with their times; by default the preset's.
    then: Iterable[tuple[float, str | signals.Signals]]
    #: How long the exit may take; by default the preset's grace period.
    within: float
    #: When it is killed; by default at the end of the preset's grace period, or of `within` if that is later.
    kill_after: float
    #: The path that says whether traffic is welcome; by default the `ServerCommand`'s, if it is one.
    readiness: str
    #: How long new connections go on coming behind the signal; by default the preset's.
    route_for: float
    #: What they ask for; `/` by default.
    route: str
    #: Variables for the server, besides those of this process.
    env: Mapping[str, str]
    #: Where it runs.
    cwd: str | os.PathLike[str]
    #: Who stops it; Kubernetes by default.
    preset: Preset
    #: What the history calls it.
    name: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Plan:
    """What is done to one server.

    Attributes:
        command: The server.
        sign: How it is known to be up, where the command cannot say it.
        handled: Requests that are to be inside a handler when the signal comes.
        waiting: Other connections that are to be there.
        armed: How the former are known to be inside; None: the kernel says so.
        arm_within: How long that may take.
        preset: Signals and times, with all that was given instead.
        within: How long the exit may take.
        kill_after: When it is killed.
        readiness: The path that says whether traffic is welcome, or None.
        route: What new connections ask for.
    """

    command: ServerCommand
    sign: Callable[[RunningServer], bool] | None
    handled: tuple[Request, ...]
    waiting: tuple[Request, ...]
    armed: Sign | None
    arm_within: float
    preset: Preset
    within: float
    kill_after: float
    readiness: str | None
    route: str

    @property
    def usual_codes(self) -> list[int]:
        """Exit codes of a clean end: 0, or the signal's own where the answers prove that all was done before."""
        number = signals.Signals[self.preset.signal].value
        return [0, -number, 128 + number] if self.handled else [0]


def plan_of(command: Any, options: Mapping[str, Any]) -> Plan:
    """Return the plan.

    Args:
        command: The words of a command, or a `ServerCommand`.
        options: As in `Options`.

    Raises:
        TypeError: Something is of the wrong kind.
        ValueError: Something cannot be meant.
    """
    refuse_unknown("a shutdown probe", options, Options.__annotations__)
    given = {name: value for name, value in options.items() if value is not None}
    requests = checked_requests(given.get("in_flight", ()))
    preset = _preset(given)
    killed = required_seconds("kill_after", given.get("kill_after", preset.grace))
    within = required_seconds("within", given.get("within", min(preset.grace, killed)))
    kill_after = killed if "kill_after" in given else max(killed, within)
    if kill_after < within:
        raise ValueError(f"kill_after must be at least within ({within:g} s), not {kill_after:g}")
    server = command_of(command, given)
    readiness = given.get("readiness", server.readiness)
    return Plan(
        command=server,
        sign=checked_sign("ready", given.get("ready")),
        handled=tuple(each for each in requests if each.kind in HANDLED),
        waiting=tuple(each for each in requests if each.kind not in HANDLED),
        armed=checked_armed(given.get("armed")),
        arm_within=required_seconds("arm_within", given.get("arm_within", 10.0)),
        preset=preset,
        within=within,
        kill_after=kill_after,
        readiness=None if readiness is None else checked_path("readiness", readiness),
        route=checked_path("route", given.get("route", server.path)),
    )


def _preset(given: Mapping[str, Any]) -> Preset:
    preset = checked_preset(given.get("preset", KUBERNETES))
    target = given.get("target", preset.target)
    route_for = required_seconds("route_for", given.get("route_for", preset.route_for), zero=True)
    return changed(
        preset,
        signal=signal_name(given.get("signal", preset.signal)),
        target=_checks.choice("target", target, _TARGETS),
        then=checked_then(given.get("then", preset.then)),
        route_for=route_for,
    )
