"""The presets, and whether a shutdown fits into the time that an orchestrator leaves."""

from __future__ import annotations

import dataclasses
import re

import pytest

from pytest_prodpatterns.patterns.server import ProductionServer
from pytest_prodpatterns.targets.server.shutdown import CTRL_C, DOCKER, KUBERNETES, SYSTEMD, Preset, budget


@pytest.mark.parametrize(
    ("preset", "signal", "target", "grace", "then", "route_for"),
    [
        (KUBERNETES, "SIGTERM", "leader", 30, (), 1),
        (SYSTEMD, "SIGTERM", "group", 90, (), 0),
        (DOCKER, "SIGTERM", "leader", 10, (), 0),
        (CTRL_C, "SIGINT", "group", 10, ((1.0, "SIGINT"),), 0),
    ],
)
def test_a_preset_says_who_stops_a_server_how(preset, signal, target, grace, then, route_for):
    assert (preset.signal, preset.target, preset.grace) == (signal, target, grace)
    assert (preset.then, preset.route_for) == (then, route_for)


def test_a_preset_is_varied_by_replace():
    mine = dataclasses.replace(KUBERNETES, grace=60.0)
    assert (mine.grace, mine.route_for) == (60.0, 1.0)
    with pytest.raises(dataclasses.FrozenInstanceError):
        mine.grace = 1.0


@pytest.mark.parametrize(
    ("parts", "total", "left", "words"),
    [
        ({"drain": 20}, 20, 10, "drain 20 s = 20 s of 30 s"),
        ({"drain": 0}, 0, 30, "nothing = 0 s of 30 s"),
        (
            {"pre_stop": 5, "lame_duck": 3, "drain": 15, "cleanup": 1.5},
            24.5,
            5.5,
            "preStop 5 s + lame duck 3 s + drain 15 s + cleanup 1.5 s = 24.5 s of 30 s",
        ),
        ({"drain": 4, "drain_counted": 2, "grace": DOCKER}, 8, 2, "drain (2 x 4 s) 8 s = 8 s of 10 s"),
        ({"drain": 80, "grace": SYSTEMD}, 80, 10, "drain 80 s = 80 s of 90 s"),
        ({"drain": 50, "grace": Preset(name="mine", grace=60)}, 50, 10, "drain 50 s = 50 s of 60 s"),
    ],
)
def test_a_shutdown_that_fits(parts, total, left, words):
    fits = budget(**parts)
    assert (fits.total, fits.left) == (total, left)
    assert str(fits) == words


@pytest.mark.parametrize(
    ("parts", "text"),
    [
        (
            {"drain": 60, "drain_counted": 2},
            (
                "a shutdown takes up to 120 s (drain (2 x 60 s) 120 s), which is not below the grace period of 30 s: its"
                " end is SIGKILL; shorten the drain, or lengthen the grace period"
            ),
        ),
        (
            {"drain": 30},
            (
                "a shutdown takes up to 30 s (drain 30 s), which is not below the grace period of 30 s: its"
                " end is SIGKILL; shorten the drain, or lengthen the grace period"
            ),
        ),
        (
            {"drain": 5, "pre_stop": 20, "lame_duck": 5, "cleanup": 2, "grace": 31.5},
            (
                "a shutdown takes up to 32 s (preStop 20 s + lame duck 5 s + drain 5 s + cleanup 2 s), which is not below"
                " the grace period of 31.5 s: its end is SIGKILL; shorten the preStop, or lengthen the grace period"
            ),
        ),
    ],
)
def test_a_shutdown_that_does_not_fit_names_each_part(parts, text):
    with pytest.raises(AssertionError, match=f"^{re.escape(text)}$"):
        budget(**parts)


def test_a_drain_without_a_limit_never_fits():
    with pytest.raises(AssertionError, match=r"^the drain has no limit, and the grace period is 30 s: "):
        budget(drain=None)


def test_the_budget_of_our_own_server():
    server = ProductionServer(lame_duck=3, drain_timeout=20, cleanup_timeout=5)
    fits = budget(lame_duck=3, drain=20, cleanup=5)
    assert fits.total <= server.budget < fits.grace


@pytest.mark.parametrize(
    ("parts", "error", "text"),
    [
        (
            {"drain": -1},
            ValueError,
            "drain must be a finite number of seconds of at least 0, or None, not -1",
        ),
        ({"drain": "20"}, TypeError, "drain must be a finite number of seconds"),
        ({"drain": float("nan")}, ValueError, "drain must be a finite number"),
        (
            {"drain": 1, "lame_duck": None},
            TypeError,
            "lame_duck must be a finite number of seconds, not None",
        ),
        ({"drain": 1, "cleanup": True}, TypeError, "cleanup must be a finite number"),
        ({"drain": 1, "drain_counted": 0}, ValueError, "drain_counted must be a whole number of at least 1"),
        ({"drain": 1, "grace": 0}, ValueError, "grace must be a finite number of seconds above 0"),
        ({"drain": 1, "grace": "KUBERNETES"}, TypeError, "grace must be a finite number"),
    ],
)
def test_bad_times_are_refused(parts, error, text):
    with pytest.raises(error, match=f"^{re.escape(text)}"):
        budget(**parts)
