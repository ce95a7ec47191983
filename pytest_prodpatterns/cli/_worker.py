"""One process of `-j N`: takes one scenario a line on stdin, answers with one outcome a line on stdout.

`python -m pytest_prodpatterns.cli._worker`.  Whatever a scenario prints goes to stderr.  The process stands in
a session of its own, so that Ctrl-C on the terminal reaches the parent alone, which then interrupts each
worker by signal; a worker whose parent is gone reads the end of stdin and leaves.  SIGINT is blocked when it
starts, and let in once it can answer: an interrupt while Python loads would end in a traceback.
"""

from __future__ import annotations

import json
import os
import signal
import sys
from pathlib import Path
from typing import Any

from pytest_prodpatterns.scenarios import Outcome, ScenarioInterrupted, run_scenario
from pytest_prodpatterns.scenarios._scenario import load
from pytest_prodpatterns.scenarios._verdict import INTERRUPTED


def main() -> None:
    """Serve until stdin ends, or until a run is interrupted."""
    with os.fdopen(os.dup(1), "w", encoding="utf-8") as answers:
        os.dup2(2, 1)
        for line in sys.stdin:
            try:
                outcome = _run(json.loads(line))
            except ScenarioInterrupted as interrupt:
                outcome = interrupt.outcome
            answers.write(json.dumps(outcome.to_plain(), default=repr) + "\n")
            answers.flush()
            if outcome.interrupted:
                return


def _run(request: dict[str, Any]) -> Outcome:
    scenario = load(Path(request["path"]), request["name"] if request["packaged"] else None)
    return run_scenario(
        scenario,
        target=request["target"],
        seed=request["seed"],
        variables=request["variables"],
        verbose=request["verbose"],
    )


if __name__ == "__main__":
    try:
        signal.signal(signal.SIGINT, signal.default_int_handler)  # it may be ignored, as under nohup
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
        main()
    except KeyboardInterrupt:
        # Not sys.exit: an interrupt that passed through exec(), as in the making of a dataclass, counts as
        # unhandled for CPython, which then kills itself by SIGINT at the very end.
        os._exit(INTERRUPTED)
