"""`WorkerPoolContract`: every packaged pool scenario as a test of the user's own pool."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from pytest_prodpatterns.contracts._verdicts import tell
from pytest_prodpatterns.scenarios import run_scenario
from pytest_prodpatterns.scenarios._catalogue import packaged
from pytest_prodpatterns.targets import TargetError, from_instances

if TYPE_CHECKING:
    from pytest_prodpatterns.lab import ChaosLab
    from pytest_prodpatterns.targets import Target

SCENARIOS = [name for name in packaged() if name.startswith("pool/")]
SIGNATURE = "num_workers, max_queue_size"


class WorkerPoolContract:
    """Run each packaged pool scenario against the executor that `make_executor` returns.

    Subclass it in a test module, with a name that pytest collects, and write `make_executor`. The pools of the
    libraries that `prodpatterns check pool` knows are called as their documentation says; others as a
    `concurrent.futures.Executor`.

    **The executor is made in another process**, where nothing of pytest runs: a pool that hangs cannot hang the
    tests, and no signal handler of theirs reaches its workers. So `make_executor` is called there, on an object
    of your class that was made without arguments. It can use what your module imports and defines, and neither
    fixtures nor attributes that a test has set.

    A scenario that does not apply is skipped with the reason; one that deviates fails with the evidence, the
    broken promise, the timeline, and the command that runs it again.
    """

    def make_executor(self, *args: Any, **kwargs: Any) -> Any:
        """Return a new executor; write it as `make_executor(self, *, num_workers, max_queue_size, …)`.

        It is called with those of these keyword arguments that your signature names; a scenario that needs one
        which it does not name is skipped:

        - `num_workers` or `max_workers` (int): worker processes.
        - `max_queue_size` (int): accepted tasks that may wait beside the running ones; left out where the
          scenario does not care.
        - `when_full` (`"block"` or `"reject"`): what a submit does that finds the queue full.
        - `queue_timeout` (float): seconds that a blocking submit waits for a place.
        - `task_timeout` (float): seconds after which a running task is ended.
        - `retries` (int): how often the task of a worker that died may run again.
        - `initializer`, `initargs`: what each worker runs before its first task.
        """
        raise NotImplementedError

    @pytest.mark.parametrize("scenario", SCENARIOS)
    def test_scenario(self, scenario: str, chaos: ChaosLab) -> None:
        """Hold what the scenario promises."""
        tell(chaos, run_scenario(scenario, target=_target(type(self)), seed=chaos.seed))


_targets: dict[type, Target] = {}


def _target(kind: type[WorkerPoolContract]) -> Target:
    """Return the target of a class; what it makes is looked at once, in a process of its own."""
    if kind.make_executor is WorkerPoolContract.make_executor:
        pytest.fail(f"{kind.__name__} has to define make_executor(self, *, {SIGNATURE})", pytrace=False)
    if kind not in _targets:
        try:
            _targets[kind] = from_instances("pool", kind().make_executor, name=kind.__name__)
        except TargetError as error:
            reason = str(error)
        else:
            return _targets[kind]
        pytest.fail(reason, pytrace=False)  # here, so that no traceback of the error comes with it
    return _targets[kind]
