"""How those who stop servers go about it, and whether a shutdown fits into the time that they leave."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any, Final

from pytest_prodpatterns.patterns import _checks

__tracebackhide__ = True  # pytest shows the line of the user; --full-trace shows ours, too


@dataclass(frozen=True, kw_only=True, slots=True)
class Preset:
    """Who stops a server how; times in seconds.  `dataclasses.replace` makes another one of it.

    Attributes:
        name: What reports call it.
        signal: The first signal.
        target: Who gets it: `leader` (the command's own process), `group` or `tree`.
        grace: What it waits, from the first signal on, until it kills.
        then: Further signals, each with its time since the first one.
        route_for: How long new connections still come after the signal.
    """

    name: str
    signal: str = "SIGTERM"
    target: str = "leader"
    grace: float = 30.0
    then: tuple[tuple[float, str], ...] = ()
    route_for: float = 0.0


KUBERNETES: Final = Preset(name="Kubernetes", route_for=1.0)
"""TERM to the first process, while the balancers go on sending for a while; KILL after 30 s."""
SYSTEMD: Final = Preset(name="systemd", target="group", grace=90.0)
"""TERM to all processes of the unit; KILL after 90 s."""
DOCKER: Final = Preset(name="Docker", grace=10.0)
"""TERM to the first process; KILL after 10 s."""
CTRL_C: Final = Preset(name="Ctrl-C", signal="SIGINT", target="group", grace=10.0, then=((1.0, "SIGINT"),))
"""INT to all processes of the terminal's group, and once more by an impatient user."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Budget:
    """What a shutdown takes at most, and what there is; seconds.

    Attributes:
        parts: What it consists of, by name.
        total: All of it.
        grace: When the orchestrator kills.
    """

    parts: dict[str, float]
    total: float
    grace: float

    @property
    def left(self) -> float:
        """What remains until the kill."""
        return self.grace - self.total

    def __str__(self) -> str:
        return f"{told(self.parts)} = {self.total:g} s of {self.grace:g} s"


def budget(
    *,
    drain: float | None,
    pre_stop: float = 0.0,
    lame_duck: float = 0.0,
    cleanup: float = 0.0,
    grace: float | Preset = KUBERNETES,
    drain_counted: int = 1,
) -> Budget:
    """Check that a shutdown ends before the orchestrator kills it.

    Args:
        drain: The longest that requests in flight may take; None if nothing limits it.
        pre_stop: The preStop hook; it runs within the grace period.
        lame_duck: How long the server serves on after the signal.
        cleanup: The cleanup hooks.
        grace: The grace period, or a preset.
        drain_counted: How often the server waits for `drain`; aiohttp does so twice.

    Returns:
        The sum, and what is left.

    Raises:
        AssertionError: The sum is not below the grace period.
        TypeError: A time is no number.
        ValueError: A time is out of range.
    """
    times = {"pre_stop": pre_stop, "lame_duck": lame_duck, "cleanup": cleanup}
    seconds = {name: required_seconds(name, value, zero=True) for name, value in times.items()}
    period = grace.grace if isinstance(grace, Preset) else required_seconds("grace", grace)
    drain = _checks.seconds_or_none("drain", drain, zero=True)
    counted = _checks.whole("drain_counted", drain_counted)
    if drain is None:
        raise AssertionError(
            f"the drain has no limit, and the grace period is {period:g} s: a single slow request ends in SIGKILL,"
            " and no cleanup runs; give the server a deadline (uvicorn: --timeout-graceful-shutdown)"
        )
    parts = {"preStop": seconds["pre_stop"], "lame duck": seconds["lame_duck"]}
    parts["drain" if counted == 1 else f"drain ({counted} x {drain:g} s)"] = counted * drain
    parts["cleanup"] = seconds["cleanup"]
    result = Budget(parts=parts, total=sum(parts.values()), grace=period)
    if result.total >= period:
        longest = max(parts, key=parts.__getitem__)
        raise AssertionError(
            f"a shutdown takes up to {result.total:g} s ({told(parts)}), which is not below the grace period of"
            f" {period:g} s: its end is SIGKILL; shorten the {longest.partition(' (')[0]},"
            " or lengthen the grace period"
        )
    return result


def told(parts: dict[str, float]) -> str:
    """Return parts of a sum in words; those of nothing are left out."""
    return " + ".join(f"{name} {seconds:g} s" for name, seconds in parts.items() if seconds) or "nothing"


def checked_preset(preset: Any) -> Preset:
    """Return a preset if it is one."""
    if isinstance(preset, Preset):
        return preset
    raise TypeError(
        f"preset must be a Preset, such as shutdown.KUBERNETES, SYSTEMD, DOCKER or CTRL_C, not {preset!r}"
    )


def changed(preset: Preset, **values: Any) -> Preset:
    """Return a preset with the values that are not None."""
    return dataclasses.replace(preset, **{name: value for name, value in values.items() if value is not None})


def required_seconds(name: str, value: Any, *, zero: bool = False) -> float:
    """Return `value` if it is a finite number of seconds."""
    if value is None:
        raise TypeError(f"{name} must be a finite number of seconds, not None")
    checked = _checks.seconds_or_none(name, value, zero=zero)
    assert checked is not None
    return checked
