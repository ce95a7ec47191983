"""Run the benchmarks and write docs/benchmarks.md: `python -m benchmarks [virtual_time|breaker|pool|processes|server …]`."""

from __future__ import annotations

import datetime as dt
import importlib
import importlib.metadata
import json
import platform
import sys
from pathlib import Path

from benchmarks._measure import Figure, to_json

MODULES = ("virtual_time", "breaker", "pool", "processes", "server")
PEERS = (
    "aiohttp",
    "chaostoolkit",
    "circuitbreaker",
    "deadpool-executor",
    "fluxgate",
    "granian",
    "gunicorn",
    "hypercorn",
    "looptime",
    "nopanic",
    "pebble",
    "pyresilience",
    "pytest-asyncio",
    "seedloop",
    "uvicorn",
    "uvloop",
)
PAGE = Path(__file__).parents[1] / "docs" / "benchmarks.md"
RESULTS = Path(__file__).with_name("results.json")

HEAD = """\
# Benchmarks

Each figure stands beside its peer and was measured with it in one run, turn by turn, in CPU time where the
table says CPU or ns, in wall time elsewhere. The ratio is the median over the rounds, its quartiles beside it; the
absolute numbers are medians on the machine of that day and mean little elsewhere. Run it yourself, in an
environment of its own (looptime's pytest plugin disturbs the test suite) on Python 3.12 or newer (seedloop):

```sh
python -m pip install -e ".[dev,benchmarks]"
python -m benchmarks
```

"""


def _number(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 or not value else f"{value:.3g}"


def _row(figure: Figure) -> str:
    low, high = figure.spread
    verdict = {True: "yes", False: "**no**", None: "-"}[figure.reached]
    name = f"{figure.name} ({figure.note})" if figure.note else figure.name
    return (
        f"| {name} | {figure.peer} | {_number(figure.ours)} | {_number(figure.theirs)} | {figure.unit} "
        f"| **{figure.ratio:.2f}** ({low:.2f} to {high:.2f}) | {figure.reach or '-'} | {verdict} |"
    )


def _versions() -> str:
    found = []
    for name in PEERS:
        try:
            found.append(f"{name} {importlib.metadata.version(name)}")
        except importlib.metadata.PackageNotFoundError:
            found.append(f"{name} not installed (left out)")
    return ", ".join(found)


def _page(figures: list[Figure]) -> str:
    lines = [
        "| figure | beside | ours | theirs | unit | ratio (quartiles) | reach | reached |",
        "|---|---|---|---|---|---|---|---|",
        *map(_row, figures),
        "",
        (
            f"Measured on {dt.datetime.now(tz=dt.UTC).date()} with {platform.python_implementation()} "
            f"{platform.python_version()} on {platform.system()} {platform.machine()}. {_versions()}."
        ),
        "",
    ]
    return HEAD + "\n".join(lines)


def _earlier() -> list[Figure]:
    """Return the figures of the last run."""
    if not RESULTS.exists():
        return []
    rows = json.loads(RESULTS.read_text(encoding="utf-8"))
    for row in rows:
        del row["reached"]  # is computed
        row["spread"] = tuple(row["spread"])
    return [Figure(**row) for row in rows]


def _merged(earlier: list[Figure], measured: list[Figure]) -> list[Figure]:
    """Return the earlier figures with those that were measured again in their places, and the new ones behind."""
    again = {(figure.name, figure.peer): figure for figure in measured}
    kept = [again.pop((figure.name, figure.peer), figure) for figure in earlier]
    return kept + list(again.values())


def main(names: list[str]) -> None:
    """Run the named modules, or all, and write the page; figures of other modules stay as they were."""
    figures: list[Figure] = []
    for name in names or MODULES:
        for measure in importlib.import_module(f"benchmarks.{name}").FIGURES:
            for figure in measure():
                figures.append(figure)
                print(_row(figure), flush=True)
    if names:
        figures = _merged(_earlier(), figures)
    PAGE.write_text(_page(figures), encoding="utf-8")
    RESULTS.write_text(json.dumps(json.loads(to_json(figures)), indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main(sys.argv[1:])
