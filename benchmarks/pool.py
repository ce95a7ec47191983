"""What a task costs in a worker pool, and what a killed worker costs, beside other pools: 2 workers each.

Every contender lives in a process of its own (`_pool_host.py`), which stays for all rounds of a figure with its pool
open, and is silent while the others have their turns. So no pool forks out of a process in which the threads of
another one run, nobody's imports weigh on anybody's children, a pool that hangs can be killed with all its workers,
and nothing is timed but the pool: starting an interpreter and importing the library are not. Only the storm begins
afresh each time, for what it does to a pool stays.

Wall time, as most of the work is done by other processes. Fork for all, but for deadpool, which starts its workers
through a forkserver unless told otherwise: it stands there twice where that matters, and we beside it likewise.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from typing import Any

from benchmarks._measure import Figure, Turn, compare, interleave

PATIENCE = 90.0
"""Seconds after which a turn is given up and its process killed."""
TASKS = 5_000
STORM = {"tasks": 2_000, "kills": 200, "every": 10, "window": 64}
Spec = tuple[str, dict[str, Any]]
"""A contender of `_pool_host.MAKERS` and its options."""

POOL: Spec = ("multiprocessing.Pool", {})
EXECUTOR: Spec = ("ProcessPoolExecutor", {})
PEBBLE: Spec = ("pebble", {})
DEADPOOL: Spec = ("deadpool", {"start_method": "forkserver"})
DEADPOOL_FORK: Spec = ("deadpool", {"start_method": "fork"})


class Host:
    """One contender in its process."""

    def __init__(self, spec: Spec) -> None:
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115  # closed with the host
        self._process = subprocess.Popen(
            [sys.executable, "-W", "ignore", "-m", "benchmarks._pool_host", spec[0], json.dumps(spec[1])],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            start_new_session=True,
        )

    def ask(self, figure: str, **parameters: Any) -> Any:
        """Let the contender take its turn and return what it measured."""
        assert self._process.stdin
        assert self._process.stdout
        self._process.stdin.write(json.dumps({"figure": figure, **parameters}).encode() + b"\n")
        self._process.stdin.flush()
        ready, _, _ = select.select([self._process.stdout], [], [], PATIENCE)
        answer = self._process.stdout.readline() if ready else b""
        if not answer:
            self._errors.seek(0)
            text = self._errors.read().decode()[-2000:]
            raise RuntimeError(f"no answer to {figure} within {PATIENCE} s\n{text}")
        return json.loads(answer)

    def close(self) -> None:
        """End the process, and by force what is left of it and of its workers."""
        assert self._process.stdin
        assert self._process.stdout
        with contextlib.suppress(subprocess.TimeoutExpired, BrokenPipeError):
            self._process.stdin.close()
            self._process.wait(5)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()
        self._process.stdout.close()
        self._errors.close()


@contextlib.contextmanager
def _hosts(specs: dict[str, Spec]) -> Iterator[dict[str, Host]]:
    with contextlib.ExitStack() as stack:
        hosts = {}
        for name, spec in specs.items():
            hosts[name] = Host(spec)
            stack.callback(hosts[name].close)
        yield hosts


def _rounds(
    specs: dict[str, Spec], rounds: int, figure: str, pick: Callable[[Any], float] = float, **parameters: Any
) -> dict[str, list[float]]:
    """Let each contender take the same measurement in turn, each in its own process."""

    def turn(host: Host) -> Turn:
        return lambda: pick(host.ask(figure, **parameters))

    with _hosts(specs) as hosts:
        return interleave({name: turn(host) for name, host in hosts.items()}, rounds)


def _rows(costs: dict[str, list[float]], name: str, unit: str, reaches: dict[str, str]) -> list[Figure]:
    return [
        compare(name, costs, ours="ours", peer=peer, unit=unit, reach=reach)
        for peer, reach in reaches.items()
    ]


def one_by_one() -> list[Figure]:
    """Measure tasks that do nothing: all submitted one by one, then all results taken one by one."""
    specs: dict[str, Spec] = {
        "ours": ("ours", {"queue_size": None}),
        "bounded": ("ours", {}),
        POOL[0]: POOL,
        EXECUTOR[0]: EXECUTOR,
    }
    costs = _rounds(specs, 12, "one_by_one", count=TASKS)
    name = f"{TASKS:,} no-op tasks one by one".replace(",", " ")
    return [
        *_rows(costs, name, "tasks/s", {POOL[0]: ">= 1.2", EXECUTOR[0]: ">= 4"}),
        compare(
            "the same, our queue of 1 000 full most of the time",
            costs,
            ours="bounded",
            peer=POOL[0],
            unit="tasks/s",
            reach="",
        ),
    ]


def latency() -> list[Figure]:
    """Measure submit to result, one task at a time."""
    specs = {"ours": ("ours", {}), EXECUTOR[0]: EXECUTOR, POOL[0]: POOL}
    costs = _rounds(specs, 15, "round_trip", count=1_000)
    return _rows(costs, "submit to result, p50", "µs", {EXECUTOR[0]: "<= 0.75", POOL[0]: ""})


def chunks() -> list[Figure]:
    """Measure `map` in chunks of 50."""
    specs = {"ours": ("ours", {"queue_size": None}), POOL[0]: POOL, EXECUTOR[0]: EXECUTOR}
    costs = _rounds(specs, 15, "map_chunks", count=100_000, chunk=50)
    return _rows(costs, "map in chunks of 50", "tasks/s", {POOL[0]: ">= 1.0", EXECUTOR[0]: ""})


def payload() -> list[Figure]:
    """Measure a mebibyte there and back."""
    specs = {"ours": ("ours", {}), PEBBLE[0]: PEBBLE, "raw socketpair": ("raw socketpair", {})}
    costs = _rounds(specs, 15, "round_trip", count=50, size=1 << 20)
    return _rows(costs, "1 MiB there and back, p50", "µs", {PEBBLE[0]: "<= 0.5", "raw socketpair": ""})


def start_up() -> list[Figure]:
    """Measure the making of a pool until its first result."""
    costs = _rounds({"ours": ("ours", {}), EXECUTOR[0]: EXECUTOR}, 25, "first_result")
    return _rows(costs, "start to first result", "ms", {EXECUTOR[0]: "<= 1.0"})


def kill() -> list[Figure]:
    """Measure SIGKILL to the caller's error, and to all workers at work again."""
    fork = {"ours": ("ours", {}), "deadpool (fork)": DEADPOOL_FORK}
    served = {
        "ours (forkserver)": ("ours", {"start_method": "forkserver"}),
        "deadpool (its default, forkserver)": DEADPOOL,
    }
    error, full = "SIGKILL to the caller's error", "SIGKILL to full strength"
    figures = _rows(
        _rounds(fork, 15, "kill", lambda answer: answer[0]), error, "ms", {"deadpool (fork)": "<= 1.2"}
    )
    costs = _rounds(fork | served, 15, "kill", lambda answer: answer[1])
    figures += _rows(
        costs, full, "ms", {"deadpool (its default, forkserver)": "<= 0.2", "deadpool (fork)": ""}
    )
    figures.append(
        compare(
            f"{full}, both through a forkserver",
            costs,
            ours="ours (forkserver)",
            peer="deadpool (its default, forkserver)",
            unit="ms",
            reach="",
        )
    )
    return figures


def storm() -> list[Figure]:
    """Measure a storm of kills; ours repeats what a killed worker was doing, the peer has nothing to do so."""
    specs: dict[str, Spec] = {
        "ours": ("ours", {"retries": 5}),
        "deadpool (its default, forkserver)": DEADPOOL,
        "deadpool (fork)": DEADPOOL_FORK,
    }
    told: dict[str, list[dict[str, Any]]] = {name: [] for name in specs}

    def turn(name: str) -> Turn:
        def take() -> float:
            with _hosts({name: specs[name]}) as hosts:
                told[name].append(hosts[name].ask("storm", seed=len(told[name]), **STORM))
            return float(told[name][-1]["seconds"])

        return take

    costs = interleave({name: turn(name) for name in specs}, 3, warm_up=False)
    name = "the storm: 2 000 tasks x 3 ms, 200 kills"
    figures = _rows(
        costs,
        f"{name}, wall time",
        "s",
        {"deadpool (its default, forkserver)": "<= 0.5", "deadpool (fork)": ""},
    )
    without = {name: [float(STORM["tasks"] - one["ok"]) for one in answers] for name, answers in told.items()}
    lost = _rows(
        without,
        f"{name}, tasks without a result",
        "tasks",
        {"deadpool (its default, forkserver)": "<= 0", "deadpool (fork)": "<= 0"},
    )
    for figure in lost:
        figure.note = f"ours: {_outcomes(told['ours'])}; peer: {_outcomes(told[figure.peer])}"
    return figures + lost


def _outcomes(answers: list[dict[str, Any]]) -> str:
    """Tell the medians of what became of the tasks; the worst of what must not be."""
    usual = {key: statistics.median(one[key] for one in answers) for key in ("ok", "error", "twice", "kills")}
    worst = {key: max(one[key] for one in answers) for key in ("hung", "lost")}
    return (
        f"{usual['ok']:.0f} ok, {usual['error']:.0f} errors, {worst['hung']} hung, {worst['lost']} lost, "
        f"{usual['twice']:.0f} run twice, {usual['kills']:.0f} kills"
    )


FIGURES = [one_by_one, latency, chunks, payload, start_up, kill, storm]
