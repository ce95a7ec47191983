"""The life of one run: opened before the first activity, closed after the last, whatever happens between.

The control module is a set of functions that the engine looks up by name; the state they share is here, in
one `Session` at a time.  Whoever starts the engine in process (`run_scenario`) leaves an `Order` first; under
plain `chaos run` there is none, and the file's configuration decides.
"""

from __future__ import annotations

import contextlib
import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from pytest_prodpatterns.lab import ChaosLab, parse_seed
from pytest_prodpatterns.scenarios import _run
from pytest_prodpatterns.scenarios._judge import Findings, judge, one_line
from pytest_prodpatterns.scenarios._run import NotApplicable, Run
from pytest_prodpatterns.scenarios._verdict import Verdict

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from pytest_prodpatterns.targets import Target

EXTENSION: Final = "prodpatterns"
"""The name of our block under `extensions`, and of our entry in the journal."""


@dataclass(eq=False)
class Order:
    """What the caller of the engine wants, instead of what the file's configuration says.

    Attributes:
        name: The scenario's name.
        target: A spec for `targets.resolve`, or the target itself.
        seed: The seed of the lab.
        session: The session that took the order; None until the engine began.
    """

    name: str
    target: str | Target
    seed: int
    session: Session | None = None


class Session:
    """One run of one experiment, from `open` to `close`."""

    def __init__(self, order: Order | None = None) -> None:
        self.order = order
        self.findings = Findings()
        self.run: Run | None = None
        self.closed = False
        self.seed = 0 if order is None else order.seed
        self.spec = "ours" if order is None else str(getattr(order.target, "name", order.target))

    def open(self, experiment: Mapping[str, Any], configuration: Mapping[str, Any]) -> Run:
        """Resolve the target, enter a lab, and make this the current run.

        Raises:
            NotApplicable: When the target lacks what the scenario requires.
            Exception: Whatever a wrong seed, a wrong extension or an unusable target raises.
        """
        extension = extension_of(experiment)
        name = self.order.name if self.order else extension.get("scenario") or experiment["title"]
        if self.order is None:
            self.seed = parse_seed(configuration.get("seed", 0))
            self.spec = str(configuration.get("target", self.spec))
        target = self._target(extension["subject"])
        requirements = list(extension.get("requires") or ())
        lab = ChaosLab(self.seed, name, strict=True)
        self.run = Run(
            name=name, subject=extension["subject"], target=target, lab=lab, requirements=requirements
        )
        lab.__enter__()
        _run.set_current(self.run)
        for requirement in requirements:
            if (reason := target.missing(requirement)) is not None:
                raise NotApplicable(reason)
        return self.run

    def _target(self, subject: str) -> Target:
        if self.order is not None and not isinstance(self.order.target, str):
            return self.order.target
        from pytest_prodpatterns import targets  # noqa: PLC0415 (needed here only, and not light)

        return targets.resolve(subject, self.spec)

    def close(self) -> None:
        """Take everything back: undo stack, the run's exit stack, the target, the lab; each on its own.

        Failures go to `findings.rollback_failures`; an interrupt is raised after the rest was closed.
        """
        run = self.run
        if run is None or self.closed:
            return
        self.closed = True
        self.findings.never_fired = [f"{fault.name} ({fault.description})" for fault in run.lab.never_fired()]
        with contextlib.ExitStack() as closing:  # last in, first out
            closing.callback(_run.set_current, None)
            closing.callback(self._attempt, "the lab", lambda: run.lab.__exit__(None, None, None))
            if self.order is None or isinstance(self.order.target, str):
                closing.callback(self._attempt, "closing the target", run.target.close)
            closing.callback(self._attempt, "closing what the method opened", run.stack.close)
            closing.callback(self._undo, run.lab)

    def _undo(self, lab: ChaosLab) -> None:
        self.findings.rollback_failures += [_describe("undo", error) for error in lab.undo.run()]

    def _attempt(self, what: str, action: Callable[[], object]) -> None:
        try:
            action()
        except Exception as error:  # noqa: BLE001 (whatever it is, it is a rollback that failed)
            self.findings.rollback_failures.append(_describe(what, error))

    def finish(self, journal: dict[str, Any]) -> None:
        """Close the run, judge it, and write the verdict into the engine's journal."""
        run = self.run
        self.close()
        verdict, evidence = judge(journal, self.findings)
        _set_status(journal, verdict, interrupted=bool(self.findings.interrupted))
        journal[EXTENSION] = {
            "verdict": str(verdict),
            "evidence": evidence,
            "seed": self.seed,
            "target": self.spec,
            "version": f"{run.target.name} {run.target.version}" if run else None,
            "interrupted": bool(self.findings.interrupted),
            "timeline": [json.loads(event.to_json()) for event in run.lab.timeline] if run else [],
        }


def extension_of(experiment: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return our block under `extensions`.

    Raises:
        LookupError: When the experiment has none.
    """
    for extension in experiment.get("extensions") or ():
        if extension.get("name") == EXTENSION:
            found: Mapping[str, Any] = extension
            return found
    raise LookupError(f"the experiment has no extension named {EXTENSION!r}")


def _set_status(journal: dict[str, Any], verdict: Verdict, *, interrupted: bool) -> None:
    """Let the engine's exit code agree: `held` and `not applicable` end with 0, all else with 1."""
    if interrupted:
        return
    if verdict in (Verdict.HELD, Verdict.NOT_APPLICABLE):
        journal["status"], journal["deviated"] = "completed", False
    elif verdict is Verdict.DEVIATED:
        journal["status"], journal["deviated"] = "completed", True
    else:
        journal["status"] = "failed"


def _describe(what: str, error: Exception) -> str:
    notes = " ".join(getattr(error, "__notes__", ()))
    return one_line(f"{notes or what}: {type(error).__name__}: {error}")
