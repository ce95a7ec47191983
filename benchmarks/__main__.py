"""Run the benchmarks and write docs/benchmarks.md: `python -m benchmarks [virtual_time|breaker|processes …]`."""

from __future__ import annotations

import datetime as dt
import importlib
import importlib.metadata
import json
import platform
import sys
from pathlib import Path

from benchmarks._measure import Figure, to_json

MODULES = ("virtual_time", "breaker", "processes")
PEERS = (
    "chaostoolkit",
    "circuitbreaker",
    "fluxgate",
    "looptime",
    "nopanic",
    "pyresilience",
    "pytest-asyncio",
    "seedloop",
)
PAGE = Path(__file__).parents[1] / "docs" / "benchmarks.md"
RESULTS = Path(__file__).with_name("results.json")

HEAD = """\
# Benchmarks

Each figure stands beside its peer and was measured with it in one run, turn by turn, in CPU time where the
table says CPU or ns. The ratio is the median over the rounds, its quartiles beside it; the absolute numbers are
medians on the machine of that day and mean little elsewhere. Run it yourself, in an
environment of its own (looptime's pytest plugin disturbs the test suite) on Python 3.12 or newer (seedloop):

```sh
python -m pip install -e ".[dev,benchmarks]"
python -m benchmarks
```

"""


def _row(figure: Figure) -> str:
    low, high = figure.spread
    verdict = "yes" if figure.reached else "**no**"
    name = f"{figure.name} ({figure.note})" if figure.note else figure.name
    return (
        f"| {name} | {figure.peer} | {figure.ours:,.0f} | {figure.theirs:,.0f} | {figure.unit} "
        f"| **{figure.ratio:.2f}** ({low:.2f} to {high:.2f}) | {figure.reach} | {verdict} |"
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


def main(names: list[str]) -> None:
    """Run the named modules, or all; only a full run writes the page."""
    chosen = names or list(MODULES)
    figures: list[Figure] = []
    for name in chosen:
        for measure in importlib.import_module(f"benchmarks.{name}").FIGURES:
            for figure in measure():
                figures.append(figure)
                print(_row(figure), flush=True)
    if not names:
        PAGE.write_text(_page(figures), encoding="utf-8")
        RESULTS.write_text(json.dumps(json.loads(to_json(figures)), indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main(sys.argv[1:])
