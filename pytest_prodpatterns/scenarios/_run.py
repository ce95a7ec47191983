"""What an action or a probe can reach while its scenario runs, and how it says that it cannot act.

Theory of operation.  The engine (chaostoolkit-lib) calls actions and probes as plain functions with the
arguments of the file, and nothing else.  The control module opens a `Run` before the first of them and closes
it after the last; they reach it through `current_run()`.  There is one run at a time in a process, as the
engine itself keeps its state in module globals.

**A promise in a file.**  A promise is a probe of the steady-state hypothesis.  It returns
`{"status": "held" | "deviated" | "vacuous", "evidence": "one line", "observed": plain data}`, never raises,
and has the tolerance `[held]`: for a list, the engine looks whether the output's `status` is a member, so the
file means the same under plain `chaos run` (a bare `held` would be compared with the whole dictionary).
A probe need not know when it is asked: the control turns `vacuous` into `held` before the method and into
`deviated` ("vacuous: …") after it, in the probe's output itself, before the engine looks at the tolerance.

A complete file (`scenario` is the name: the path below `scenarios/` without its suffix; random streams depend
on it, whoever runs the file)::

    version: "1.0.0"
    title: A breaker opens at its threshold
    description: Five failures in a row open the breaker, no earlier and no later.
    tags: [breaker, opening]
    configuration:
      target: {type: env, key: PRODPATTERNS_TARGET, default: ours}
      seed: {type: env, key: PRODPATTERNS_SEED, env_var_type: int, default: 0}
    extensions:
      - name: prodpatterns
        scenario: breaker/opens-at-threshold
        subject: breaker
        requires: [async]            # optional; each is handed to target.missing()
        explain: |
          Prose for `prodpatterns explain`: what it does, and why it matters.
    controls:
      - name: prodpatterns
        provider: {type: python, module: pytest_prodpatterns.scenarios.control}
    runtime: {rollbacks: {strategy: always}}
    steady-state-hypothesis:
      title: The breaker opens at the fifth failure
      probes:
        - type: probe
          name: opens at the threshold
          tolerance: [held]
          provider:
            type: python
            module: pytest_prodpatterns.scenarios.probes.breaker
            func: entered_exactly
            arguments: {calls: 5}
    method:                            # actions only; no background, no pauses
      - type: action
        name: make a breaker that opens after five failures
        provider:
          type: python
          module: pytest_prodpatterns.scenarios.actions.breaker
          func: make_breaker
          arguments: {failure_threshold: 5}
    rollbacks: []
"""

from __future__ import annotations

import contextlib
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pytest_prodpatterns.lab import ChaosLab
    from pytest_prodpatterns.targets import Target

Phase: TypeAlias = Literal["before", "method", "after", "rollback"]


class NotApplicable(Exception):  # noqa: N818
    """The target cannot do at all what the scenario asks for; the text is the reason, in one line."""


class NotInjected(Exception):  # noqa: N818
    """A fault could not be brought about; the text is the reason, in one line."""


@dataclass(eq=False, kw_only=True)
class Run:
    """One run of one scenario against one target.

    Attributes:
        name: The scenario's name, for example `breaker/recovers`.
        subject: What kind of target it attacks, for example `breaker`.
        target: What it attacks.
        lab: Seed, timeline, undo stack and injected faults of this run.
        requirements: What the scenario requires of the target.
        stack: Closed after the rollbacks, in reverse order: loops, clocks, whatever the actions opened.
        state: Scratch space of the subject's actions and probes.
        phase: Where the run stands; `before` while the hypothesis is asked the first time.
    """

    name: str
    subject: str
    target: Target
    lab: ChaosLab
    requirements: Sequence[str] = ()
    stack: contextlib.ExitStack = field(default_factory=contextlib.ExitStack)
    state: dict[str, Any] = field(default_factory=dict)
    phase: Phase = "before"


_current: Run | None = None


def current_run() -> Run:
    """Return the run that is under way.

    Raises:
        RuntimeError: When no scenario runs; actions and probes work inside a scenario only.
    """
    if _current is None:
        raise RuntimeError(
            "no scenario is running: actions and probes of pytest-prodpatterns work inside a scenario only;"
            " start one with `prodpatterns run`, pytest --chaos-scenarios, or `chaos run`"
            " (the file needs the control pytest_prodpatterns.scenarios.control)"
        )
    return _current


def running() -> Run | None:
    """Return the run that is under way, or None."""
    return _current


def set_current(run: Run | None) -> None:
    """Make `run` the one that `current_run()` returns; for the control, and for tests of actions."""
    global _current  # noqa: PLW0603
    _current = run
