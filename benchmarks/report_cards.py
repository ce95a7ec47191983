"""Attack every breaker that is installed and write docs/which-breaker.md: `python -m benchmarks.report_cards`.

`--runs N` repeats every scenario and refuses to write a page when a verdict is not the same each time.
"""

from __future__ import annotations

import argparse
import datetime as dt
import platform
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path

from pytest_prodpatterns.scenarios import Outcome, Verdict, packaged, run_scenario
from pytest_prodpatterns.targets import TargetError, known, resolve

PAGE = Path(__file__).parents[1] / "docs" / "which-breaker.md"
SIGNS = {Verdict.HELD: "✓", Verdict.DEVIATED: "**✗**", Verdict.NOT_APPLICABLE: "n/a"}

HEAD = """\
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
python -m benchmarks.report_cards
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


def measure(name: str, scenarios: list[str], runs: int) -> Card | None:
    """Run all scenarios against one target; None when it is not installed."""
    try:
        target = resolve("breaker", name)
    except TargetError as error:
        print(error, file=sys.stderr)
        return None
    card = Card(name, target.version, target.description)
    started = time.perf_counter()
    for run in range(runs):
        for scenario in scenarios:
            card.outcomes.setdefault(scenario, []).append(run_scenario(scenario, target=name, seed=run))
    card.seconds = (time.perf_counter() - started) / runs
    print(f"{name} {card.version}: {card.count(Verdict.HELD)} held, {card.count(Verdict.DEVIATED)} deviated")
    return card


def page(cards: list[Card], scenarios: list[str], runs: int) -> str:
    """Return the whole page."""
    today = dt.datetime.now(tz=dt.UTC).date().isoformat()
    times = f"{runs} times, with the same verdicts each time" if runs > 1 else "once"
    lines = [
        HEAD,
        f"Measured on {today} with Python {platform.python_version()}, every scenario {times}.",
        "",
        *_summary(cards),
        "",
        "## All verdicts",
        "",
        "| scenario | " + " | ".join(card.name for card in cards) + " |",
        "|---|" + ":-:|" * len(cards),
    ]
    for scenario in scenarios:
        marks = " | ".join(SIGNS[card.first(scenario).verdict] for card in cards)
        lines.append(f"| {scenario.removeprefix('breaker/')} | {marks} |")
    lines.append("")
    for card in cards:
        lines += _card(card)
    return "\n".join(lines).rstrip() + "\n"


def _summary(cards: list[Card]) -> list[str]:
    lines = [
        "| breaker | version | held | deviated | not applicable | seconds a card |",
        "|---|---|--:|--:|--:|--:|",
    ]
    for card in cards:
        counts = " | ".join(str(card.count(verdict)) for verdict in SIGNS)
        lines.append(f"| {card.name} | {card.version} | {counts} | {card.seconds:.1f} |")
    return lines


def _card(card: Card) -> list[str]:
    lines = [f"## {card.name} {card.version}", "", f"Configured as `{card.description}`.", ""]
    deviated = [name for name in card.outcomes if card.first(name).verdict is Verdict.DEVIATED]
    lines += [f"- ✗ {name.removeprefix('breaker/')}: {_cell(card.first(name))}" for name in deviated]
    reasons: dict[str, list[str]] = {}
    for name in card.outcomes:
        if card.first(name).verdict is Verdict.NOT_APPLICABLE:
            reasons.setdefault(_cell(card.first(name)), []).append(name.removeprefix("breaker/"))
    lines += [f"- n/a {', '.join(names)}: {reason}" for reason, names in reasons.items()]
    if not deviated:
        lines.append("- ✓ no scenario deviated")
    return [*lines, ""]


def _cell(outcome: Outcome) -> str:
    return outcome.evidence.replace("|", "\\|").replace("<", "&lt;").replace("*", "\\*")


def main() -> int:
    """Measure, and write the page if every verdict is stable."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--runs", type=int, default=1, help="how often each scenario runs (1)")
    parser.add_argument("--output", type=Path, default=PAGE, help="the page to write")
    options = parser.parse_args()
    scenarios = [name for name in packaged() if name.startswith("breaker/")]
    measured = [measure(name, scenarios, options.runs) for name in known("breaker")]
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
    options.output.write_text(page(cards, scenarios, options.runs), encoding="utf-8")
    print(f"wrote {options.output}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
