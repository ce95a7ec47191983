"""What happens to processes: they are killed, frozen, slowed down, run out of memory, or crash on their own.

A target is a pid, or anything with a `.pid`.  Only descendants of this process are struck, each strike is told to
the lab and returns when its effect is seen, and what was stopped is always continued.
"""

from __future__ import annotations

from pytest_prodpatterns.faults._processes_crash import Crashing, crash_at
from pytest_prodpatterns.faults._processes_memory import MemoryLimit, Starved, oom, starve
from pytest_prodpatterns.faults._processes_pools import Worker, workers
from pytest_prodpatterns.faults._processes_stops import Stopped, cont, kill_tree, stop
from pytest_prodpatterns.faults._processes_strikes import Struck, interrupt, kill, send_signal, terminate
from pytest_prodpatterns.faults._processes_throttle import Throttled, throttle
from pytest_prodpatterns.faults._processes_victim import HasPid, NoEffect, Target, alive, descendants, wait
from pytest_prodpatterns.faults._processes_workers import kill_worker, stop_worker, worker

__tracebackhide__ = True  # pytest shows the line of the user; --full-trace shows ours, too

__all__ = [
    "Crashing",
    "HasPid",
    "MemoryLimit",
    "NoEffect",
    "ProcessFaults",
    "Starved",
    "Stopped",
    "Struck",
    "Target",
    "Throttled",
    "Worker",
    "alive",
    "cont",
    "crash_at",
    "descendants",
    "interrupt",
    "kill",
    "kill_tree",
    "kill_worker",
    "oom",
    "send_signal",
    "starve",
    "stop",
    "stop_worker",
    "terminate",
    "throttle",
    "wait",
    "worker",
    "workers",
]


class ProcessFaults:
    """The functions of this module as one object: what the fixture `process_faults` hands out."""

    def __init__(self) -> None:
        self.alive = alive
        self.cont = cont
        self.crash_at = crash_at
        self.descendants = descendants
        self.interrupt = interrupt
        self.kill = kill
        self.kill_tree = kill_tree
        self.kill_worker = kill_worker
        self.oom = oom
        self.send_signal = send_signal
        self.starve = starve
        self.stop = stop
        self.stop_worker = stop_worker
        self.terminate = terminate
        self.throttle = throttle
        self.wait = wait
        self.worker = worker
        self.workers = workers
