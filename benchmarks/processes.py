"""What whole processes cost: the plugin's start-up, and a scenario on the command line."""

from __future__ import annotations

import os
import sys
import sysconfig
import tempfile
from collections.abc import Callable
from pathlib import Path

from benchmarks._measure import Figure, child_cost, compare, interleave

SCRIPTS = Path(sysconfig.get_path("scripts"))
SCENARIOS = Path(__file__).parents[1] / "scenarios"
SMALLEST = SCENARIOS / "breaker" / "opens-at-threshold.yaml"


def _in(folder: str, command: list[str], which: int) -> Callable[[], float]:
    environment = os.environ | {"PYTHONDONTWRITEBYTECODE": "", "NO_COLOR": "1"}
    return lambda: child_cost(command, cwd=folder, env=environment)[which]


def start_up() -> list[Figure]:
    """Measure the CPU time that the plugin adds to a run of pytest that does not use it."""
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "test_empty.py").write_text("def test_empty():\n    pass\n")
        pytest = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--collect-only"]
        # Nothing but pytest, pytest-asyncio and (or not) us: other plugins would drown the difference.
        only = ["-p", "pytest_asyncio.plugin"]
        os.environ["PYTEST_DISABLE_PLUGIN_AUTOLOAD"] = "1"
        try:
            costs = interleave(
                {
                    "with": _in(folder, [*pytest, *only, "-p", "pytest_prodpatterns.plugin"], 0),
                    "without": _in(folder, [*pytest, *only], 0),
                },
                25,
            )
        finally:
            del os.environ["PYTEST_DISABLE_PLUGIN_AUTOLOAD"]
    figure = compare(
        "plugin start-up, CPU of pytest + pytest-asyncio",
        costs,
        ours="with",
        peer="without",
        unit="ms CPU",
        reach="<= 1.1",
    )
    added = figure.ours - figure.theirs
    figure.note = f"+{added:.1f} ms (reach: ≤ +10 ms)"
    figure.peer = "the same without us"
    return [figure]


def scenarios() -> list[Figure]:
    """Measure `prodpatterns run` beside `chaos run`."""
    with tempfile.TemporaryDirectory() as folder:
        chaos = [str(SCRIPTS / "chaos"), "--no-version-check", "run", "--journal-path", os.devnull]
        ours = [str(SCRIPTS / "prodpatterns"), "run"]
        one = interleave(
            {
                "ours": _in(folder, [*ours, "breaker/opens-at-threshold"], 0),
                "chaos run": _in(folder, [*chaos, str(SMALLEST)], 0),
            },
            9,
        )
        count = len(list(SCENARIOS.glob("breaker/*.yaml")))
        single = _in(folder, [*chaos, str(SMALLEST)], 1)
        every = interleave(
            {
                "ours": _in(folder, [*ours, "breaker/*"], 1),
                "chaos run": lambda: count * single(),
            },
            5,
        )
    return [
        compare(
            "smallest scenario, whole process",
            one,
            ours="ours",
            peer="chaos run",
            unit="ms CPU",
            reach="<= 1.2",
        ),
        compare(
            f"all {count} breaker scenarios on our breaker",
            every,
            ours="ours",
            peer="chaos run",
            unit="ms wall",
            reach="<= 0.2",
            note=f"peer: {count} x one `chaos run`",
        ),
    ]


FIGURES = [start_up, scenarios]
