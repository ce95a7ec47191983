"""How a figure is measured: interleaved rounds, CPU time of this thread, the median of the rounds' ratios.

Wall time on a busy machine says more about the neighbours than about the code. So the contenders take turns in
an order that changes from round to round, each turn is timed in CPU seconds of its own thread (in wall time where
several processes work on it), and what is reported is the median over the rounds of the ratio *within* a round,
with the quartiles beside it.
"""

from __future__ import annotations

import gc
import json
import random
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field

Turn = Callable[[], float]
"""One turn of one contender; returns what it cost, in the figure's unit."""


@dataclass
class Figure:
    """One row of the table.

    Attributes:
        name: What is measured.
        peer: What it stands beside.
        ours: Our median, in `unit`.
        theirs: The peer's median, in `unit`.
        unit: Unit of both.
        ratio: Median over the rounds of ours / theirs.
        spread: Lower and upper quartile of that ratio.
        reach: The aim, for example `<= 0.4`; empty for a row that is there to compare only.
    """

    name: str
    peer: str
    ours: float
    theirs: float
    unit: str
    ratio: float
    spread: tuple[float, float]
    reach: str
    note: str = field(default="")

    @property
    def reached(self) -> bool | None:
        """Whether the ratio keeps the aim, if there is one."""
        if not self.reach:
            return None
        sign, _, limit = self.reach.partition(" ")
        return self.ratio <= float(limit) if sign == "<=" else self.ratio >= float(limit)


def interleave(
    contenders: Mapping[str, Turn], rounds: int, *, warm_up: bool = True
) -> dict[str, list[float]]:
    """Let the contenders take turns.

    Args:
        contenders: Name to turn.
        rounds: How many turns each gets, after one that is thrown away.
        warm_up: Whether there is one to throw away.

    Returns:
        Name to the cost of each turn; index i of each list is round i.
    """
    order = list(contenders)
    shuffle = random.Random(0).shuffle
    costs: dict[str, list[float]] = {name: [] for name in contenders}
    for round_number in range(0 if warm_up else 1, rounds + 1):
        shuffle(order)
        for name in order:
            gc.collect()
            gc.disable()
            cost = contenders[name]()
            gc.enable()
            if round_number:
                costs[name].append(cost)
    return costs


def compare(
    name: str,
    costs: Mapping[str, Sequence[float]],
    *,
    ours: str,
    peer: str,
    unit: str,
    reach: str,
    bare: str | None = None,
    note: str = "",
) -> Figure:
    """Make a row of the table from interleaved costs.

    Args:
        name: What is measured.
        costs: What `interleave` returned.
        ours: Our contender.
        peer: The one beside it.
        unit: Unit of the costs.
        reach: The aim, for example `<= 0.4`; empty for a row that is there to compare only.
        bare: A contender whose cost is taken off both first.
        note: A remark for the table.
    """
    base = costs[bare] if bare else [0.0] * len(costs[ours])
    our = [cost - floor for cost, floor in zip(costs[ours], base, strict=True)]
    their = [cost - floor for cost, floor in zip(costs[peer], base, strict=True)]
    ratios = [a / b for a, b in zip(our, their, strict=True)]
    low, _, high = statistics.quantiles(ratios, n=4)
    middle = statistics.median
    return Figure(name, peer, middle(our), middle(their), unit, middle(ratios), (low, high), reach, note)


def cpu_nanoseconds(work: Callable[[], object], calls: int) -> float:
    """Run `work` once and return its thread CPU time in nanoseconds a call."""
    start = time.thread_time_ns()
    work()
    return (time.thread_time_ns() - start) / calls


def child_cost(command: Sequence[str], **options: object) -> tuple[float, float]:
    """Run a command and return (CPU milliseconds of the process and its children, wall milliseconds)."""
    script = (
        "import json,os,resource,subprocess,sys,time\n"
        "start=time.perf_counter()\n"
        "done=subprocess.run(json.loads(sys.argv[1]),stdout=subprocess.DEVNULL,stderr=subprocess.PIPE)\n"
        "wall=time.perf_counter()-start\n"
        "use=resource.getrusage(resource.RUSAGE_CHILDREN)\n"
        "print(json.dumps([done.returncode,(use.ru_utime+use.ru_stime)*1e3,wall*1e3,done.stderr.decode()]))\n"
    )
    out = subprocess.run(
        [sys.executable, "-c", script, json.dumps(list(command))],
        check=True,
        capture_output=True,
        text=True,
        timeout=300,
        **options,  # type: ignore[call-overload]
    )
    code, cpu, wall, stderr = json.loads(out.stdout)
    if code:
        raise RuntimeError(f"{command} ended with {code}: {stderr}")
    return cpu, wall


def to_json(figures: Sequence[Figure]) -> str:
    """Return the figures as JSON."""
    return json.dumps([asdict(figure) | {"reached": figure.reached} for figure in figures], indent=1)
