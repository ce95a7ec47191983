"""Attack every target of a subject that is installed, and write its page: `python -m benchmarks.report_cards pool`.

`--runs N` repeats every scenario and refuses to write a page when a verdict is not the same each time.
"""

from __future__ import annotations

import argparse
import datetime as dt
import platform
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from pytest_prodpatterns.cli._options import Settings
from pytest_prodpatterns.cli._pool import run_in_processes
from pytest_prodpatterns.scenarios import Outcome, Verdict, get, packaged, run_scenario
from pytest_prodpatterns.targets import TargetError, known, resolve

DOCS = Path(__file__).parents[1] / "docs"
SIGNS = {Verdict.HELD: "✓", Verdict.DEVIATED: "**✗**", Verdict.NOT_APPLICABLE: "n/a"}

BREAKER = """\
# Which breaker keeps its promises

The packaged breaker scenarios, run against ours and against nine published libraries. Nothing here is an
opinion: each mark is the verdict of a run, judged by what entered the dependency and what the callers got. Each
library is used as its documentation says; the thresholds and, where there is one, the limit at half-open are set
for the scenario, everything else is the library's default; the configuration stands on its card. What a library cannot do at all (n/a) is not held against it; what it does differently from what it should
do (✗) stands there with the evidence. Some of it may be a choice of its authors that fits your case.

`prodpatterns explain breaker/recovers` says what a scenario does and why it matters,
`prodpatterns check breaker pybreaker` makes a card yourself, and the whole page comes from

```sh
python -m pip install -e ".[dev]"
python -m benchmarks.report_cards breaker
```

Read some rows together: a breaker without any limit at half-open cannot be wedged by a hung probe, and one that
takes cancellations for failures sees a caller's timeout, but opens on clients that hang up as well.

Which exceptions count is left at the default, and some libraries let you choose. `pybreaker` and `purgatory` hold
keyboard-interrupt-is-not-a-failure with `exclude=[KeyboardInterrupt]`. With `asyncio.CancelledError` excluded,
`purgatory` holds cancellation-does-not-open; as it takes an excluded exception for a success,
cancellation-does-not-reset and cancelled-probe-is-neutral still deviate, and caller-timeout-counts does then.

open-error-tells-when asks for a number or a duration. `circuitbreaker` tells the remaining seconds in the text of
its error, and as `open_remaining` of the breaker.

`purgatory` keeps circuits by name. Threads that are the first to ask its synchronous factory for a name, at the same
moment, may get a circuit each, so its circuit is fetched once before the calls of a scenario.

A promise that holds here was not refuted; that is all a test can say. In particular the counting of threads is
attacked on an interpreter with the GIL. `nopanic`, `interlock-cb` and ours run on virtual time, the others on
real time with breaks of a fraction of a second.
"""

POOL = """\
# Which worker pool keeps its promises

The packaged pool scenarios, run against ours and against what Python programs use. Nothing here is an opinion: each
mark is the verdict of a run, judged by what tasks began and ended (they say so themselves, from the workers), by what
the callers got, and by which processes live. Each library is used as its documentation says, with two workers; what it
cannot do at all (n/a) is not held against it, what it does differently from what it should do (✗) stands on its card
with the evidence. Some of it may be a choice of its authors that fits your case: `ProcessPoolExecutor` and loky break as
a whole when a worker dies, by design, and tell every caller so.

`prodpatterns explain pool/sigkill-mid-task` says what a scenario does and why it matters,
`prodpatterns check pool pebble` makes a card yourself, and the whole page comes from

```sh
python -m pip install -e ".[dev]"
python -m benchmarks.report_cards pool
```

A call that has no answer after several seconds is counted as hung; that a patient caller would get one some day, no
test can exclude. Deaths meet a pool at a moment that the machine decides, so a promise that held here was not refuted,
and no more: `pebble` answered shutdown-with-immune-task in six of ten runs, and left its callers waiting in four. It
keeps sigkill-idle when it notices the death while a task runs; when none runs at that moment, it takes all workers
for dead and breaks.
"""

SERVER = """\
# Which server keeps its promises

The packaged server scenarios, run against ours and against what Python programs are served by. Nothing here is an
opinion: each mark is the verdict of a run, judged by what clients got on raw sockets, by what the kernel says of the
listener, and by which processes live. Every server is started by the command on its card, with the same small
application, and is told to drain two seconds where it can be told. What it cannot do at all (n/a) is not held against
it, what it does differently from what it should do (✗) stands on its card with the evidence. Some of it may be a choice
of its authors that fits your case.

`prodpatterns explain server/sigterm-in-flight` says what a scenario does and why it matters,
[shutdown.md](shutdown.md) how to ask your own server, `prodpatterns check server uvicorn` makes a card yourself, and
the whole page comes from

```sh
python -m pip install -e ".[dev]"    # and nginx from your distribution
python -m benchmarks.report_cards server --jobs 3
```

Signals and requests meet a server at a moment that the machine decides, so a promise that held here was not refuted,
and no more. Of two runs on one day, granian held 13 and 15 promises, gunicorn-gthread 14 and 15, gunicorn-asgi 17 and 16;
all others gave the same counts.
"""

HEADS = {"breaker": BREAKER, "pool": POOL, "server": SERVER}


@dataclass
class Card:
    """What was measured of one target."""

    name: str
    version: str
    description: str
    seconds: float = 0.0
    outcomes: dict[str, list[Outcome]] = field(default_factory=dict)

    def first(self, scenario: str) -> Outcome:
        return self.outcomes[scenario][0]

    def count(self, verdict: Verdict) -> int:
        return sum(self.first(scenario).verdict is verdict for scenario in self.outcomes)

    def unstable(self) -> list[str]:
        return [
            name for name, found in self.outcomes.items() if len({outcome.verdict for outcome in found}) > 1
        ]


def measure(subject: str, name: str, scenarios: list[str], runs: int, jobs: int) -> Card | None:
    """Run all scenarios against one target; None when it is not installed."""
    try:
        target = resolve(subject, name)
    except TargetError as error:
        print(error, file=sys.stderr)
        return None
    card = Card(name, target.version, target.description)
    started = time.perf_counter()
    card.outcomes = {scenario: [] for scenario in scenarios}
    for run in range(runs):
        for outcome in _outcomes(scenarios, name, run, jobs):
            card.outcomes[outcome.name].append(outcome)
    card.seconds = (time.perf_counter() - started) / runs
    print(f"{name} {card.version}: {card.count(Verdict.HELD)} held, {card.count(Verdict.DEVIATED)} deviated")
    return card


def _outcomes(scenarios: list[str], target: str, seed: int, jobs: int) -> Iterator[Outcome]:
    """Run the scenarios, several at a time where that is wanted."""
    if jobs == 1:
        return (run_scenario(scenario, target=target, seed=seed) for scenario in scenarios)
    settings = Settings(seed=seed, workers=jobs)
    return run_in_processes([get(scenario) for scenario in scenarios], target, settings, lambda _: None)


def page(subject: str, cards: list[Card], scenarios: list[str], runs: int) -> str:
    """Return the whole page."""
    today = dt.datetime.now(tz=dt.UTC).date().isoformat()
    times = f"{runs} times, with the same verdicts each time" if runs > 1 else "once"
    lines = [
        HEADS[subject],
        f"Measured on {today} with Python {platform.python_version()}, every scenario {times}.",
        "",
        *_summary(subject, cards),
        "",
        "## All verdicts",
        "",
        "| scenario | " + " | ".join(card.name for card in cards) + " |",
        "|---|" + ":-:|" * len(cards),
    ]
    for scenario in scenarios:
        marks = " | ".join(SIGNS[card.first(scenario).verdict] for card in cards)
        lines.append(f"| {_short(scenario)} | {marks} |")
    lines.append("")
    for card in cards:
        lines += _card(card)
    return "\n".join(lines).rstrip() + "\n"


def _summary(subject: str, cards: list[Card]) -> list[str]:
    lines = [
        f"| {subject} | version | held | deviated | not applicable | seconds a card |",
        "|---|---|--:|--:|--:|--:|",
    ]
    for card in cards:
        counts = " | ".join(str(card.count(verdict)) for verdict in SIGNS)
        lines.append(f"| {card.name} | {card.version} | {counts} | {card.seconds:.1f} |")
    return lines


def _card(card: Card) -> list[str]:
    lines = [f"## {card.name} {card.version}".rstrip(), "", f"Configured as `{card.description}`.", ""]
    deviated = [name for name in card.outcomes if card.first(name).verdict is Verdict.DEVIATED]
    lines += [f"- ✗ {_short(name)}: {_cell(card.first(name))}" for name in deviated]
    reasons: dict[str, list[str]] = {}
    for name in card.outcomes:
        if card.first(name).verdict is Verdict.NOT_APPLICABLE:
            reasons.setdefault(_cell(card.first(name)), []).append(_short(name))
    lines += [f"- n/a {', '.join(names)}: {reason}" for reason, names in reasons.items()]
    if not deviated:
        lines.append("- ✓ no scenario deviated")
    return [*lines, ""]


def _short(scenario: str) -> str:
    return scenario.partition("/")[2]


def _cell(outcome: Outcome) -> str:
    evidence = outcome.evidence.replace(sys.executable, "python")  # no path of the machine that measured
    return evidence.replace("|", "\\|").replace("<", "&lt;").replace("*", "\\*")


def main() -> int:
    """Measure, and write the page if every verdict is stable."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("subject", choices=sorted(HEADS))
    parser.add_argument("--runs", type=int, default=1, help="how often each scenario runs (1)")
    parser.add_argument("--jobs", type=int, default=1, help="how many scenarios run at a time (1)")
    parser.add_argument("--output", type=Path, help="the page to write (docs/which-SUBJECT.md)")
    options = parser.parse_args()
    subject: str = options.subject
    scenarios = [name for name in packaged() if name.startswith(f"{subject}/")]
    measured = [measure(subject, name, scenarios, options.runs, options.jobs) for name in known(subject)]
    cards = [card for card in measured if card is not None]
    faults = [f"{card.name}: {name} is unstable" for card in cards for name in card.unstable()]
    faults += [
        f"{card.name}: {name}: {card.first(name).verdict}: {card.first(name).evidence}"
        for card in cards
        for name in scenarios
        if card.first(name).verdict not in SIGNS
    ]
    if faults:
        print(*faults, sep="\n", file=sys.stderr)
        return 1
    output: Path = options.output or DOCS / f"which-{subject}.md"
    output.write_text(page(subject, cards, scenarios, options.runs), encoding="utf-8")
    print(f"wrote {output}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
