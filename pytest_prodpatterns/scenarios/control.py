"""The Chaos Toolkit control that every scenario declares; it works under plain `chaos run` as well.

The engine swallows what a control raises, except `InterruptExecution`; it goes on when an action fails, and
would call that experiment fine.  So whatever goes wrong before the first activity, and each failed action,
is noted as a finding and becomes an `InterruptExecution`; the verdict is made at the end, when rollbacks have
run, and goes into `journal["prodpatterns"]`.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

from chaoslib.exceptions import InterruptExecution
from chaoslib.run import RunEventHandler

from pytest_prodpatterns.scenarios import _signals
from pytest_prodpatterns.scenarios._judge import failure_text, one_line
from pytest_prodpatterns.scenarios._run import NotApplicable, NotInjected, running
from pytest_prodpatterns.scenarios._session import Order, Session
from pytest_prodpatterns.scenarios._verdict import Verdict
from pytest_prodpatterns.targets import TargetError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from chaoslib.run import EventHandlerRegistry

_session: Session | None = None
_order: Order | None = None


def place(order: Order | None) -> None:
    """Say what the next run is to attack; None lets the file's configuration decide."""
    global _order  # noqa: PLW0603
    _order = order


class _Interruptions(RunEventHandler):  # type: ignore[misc]  # chaoslib is not typed
    """Learn what stopped the engine: it swallows Ctrl-C and the exit of a target alike."""

    def __init__(self, session: Session) -> None:
        self._session = session

    def signal_exit(self) -> None:
        """Take note of Ctrl-C, or of somebody's `sys.exit()`."""
        error = sys.exception()
        if isinstance(error, SystemExit) and error.code not in (20, 30):  # the engine's SIGUSR1, SIGUSR2
            reason = f"something called sys.exit({error.code!r})"
            self._session.findings.early = (Verdict.NOT_INJECTED, reason)
        else:
            self._session.findings.interrupted = (
                "Ctrl-C" if isinstance(error, KeyboardInterrupt) else "a signal"
            )

    def interrupted(self, experiment: Any, journal: Any) -> None:  # noqa: ARG002
        """Take note of SIGTERM, or of an interruption by another control."""
        _note_interruption(self._session, str(sys.exception()))


def configure_control(event_registry: EventHandlerRegistry) -> None:
    """Begin a session, and listen to what interrupts the engine."""
    global _session, _order  # noqa: PLW0603
    _session = Session(_order)
    if _order is not None:
        _order.session, _order = _session, None
    event_registry.register(_Interruptions(_session))


def before_experiment_control(context: Mapping[str, Any], configuration: Mapping[str, Any]) -> None:
    """Open the lab and resolve the target.

    Raises:
        InterruptExecution: When the run cannot begin; the engine swallows any other exception.
    """
    session = _live()
    _signals.guard_children()
    try:
        session.open(context, configuration)
    except NotApplicable as error:
        _stop(session, Verdict.NOT_APPLICABLE, str(error))
    except Exception as error:  # noqa: BLE001 (the engine would swallow it and go on)
        _stop(session, Verdict.NOT_INJECTED, f"could not begin: {type(error).__name__}: {error}")


def before_method_control(context: Any) -> None:  # noqa: ARG001
    """Note that the method begins."""
    _enter("method")


def after_method_control(context: Any) -> None:  # noqa: ARG001
    """Note that promises count from now on."""
    _enter("after")


def before_rollback_control(context: Any) -> None:  # noqa: ARG001
    """Skip the rollbacks of a run that never began.

    Raises:
        InterruptExecution: When there is nothing to roll back.
    """
    run = running()
    if run is None or (run.phase == "before" and _live().findings.early is not None):
        raise InterruptExecution("nothing to roll back: the run never began")
    _enter("rollback")


def after_activity_control(context: Mapping[str, Any], state: dict[str, Any] | None) -> None:  # noqa: ARG001
    """Judge a promise without observations, and stop at an action that failed.

    Args:
        context: The activity.
        state: Its entry in the journal; None when it was not even begun.

    Raises:
        InterruptExecution: When an action of the method failed, or SIGTERM arrived.
    """
    run = running()
    if run is None or state is None:
        return
    if state.get("status") == "failed" and (reason := _interruption(state)):
        _note_interruption(_live(), reason)
        raise InterruptExecution(reason)
    if run.phase in ("before", "after"):
        _settle_vacuous(state, allowed=run.phase == "before")
    elif run.phase == "method" and state.get("status") == "failed":
        _stop(_live(), *_why(state))


def after_experiment_control(context: Any, state: dict[str, Any]) -> None:  # noqa: ARG001
    """Undo, judge, and write `journal["prodpatterns"]`."""
    session = _live()
    if state["status"] == "interrupted" and not (session.findings.early or session.findings.interrupted):
        session.findings.interrupted = "Ctrl-C"  # during the rollbacks the engine tells nobody
    session.finish(state)


def cleanup_control() -> None:
    """Undo what is still there, when something tore through the engine before the end."""
    global _session
    session, _session = _session, None
    if session is not None:
        session.close()


def _live() -> Session:
    if _session is None:
        raise InterruptExecution("the control pytest_prodpatterns.scenarios.control was not configured")
    return _session


def _enter(phase: Any) -> None:
    run = running()
    if run is not None:
        run.phase = phase


def _stop(session: Session, verdict: Verdict, evidence: str) -> None:
    session.findings.early = (verdict, one_line(evidence))
    raise InterruptExecution(f"{verdict}: {one_line(evidence)}")


def _interruption(state: Mapping[str, Any]) -> str:
    """Return the text of an `InterruptExecution` that the engine took for a failed activity, or nothing.

    The engine turns SIGTERM into one wherever the main thread stands, most likely inside an activity.
    """
    name, _, reason = failure_text(state).partition(": ")
    return reason if name == f"{InterruptExecution.__module__}.{InterruptExecution.__qualname__}" else ""


def _note_interruption(session: Session, reason: str) -> None:
    if session.findings.early is None and not session.findings.interrupted:
        if reason.startswith("SIGTERM"):
            session.findings.interrupted = "SIGTERM"
        else:
            session.findings.early = (Verdict.NOT_INJECTED, one_line(f"interrupted: {reason}"))


def _settle_vacuous(state: dict[str, Any], *, allowed: bool) -> None:
    output = state.get("output")
    if not isinstance(output, dict) or output.get("status") != "vacuous":
        return
    evidence = output.get("evidence") or "nothing was observed"
    if allowed:
        state["output"] = output | {"status": "held", "evidence": f"not yet: {evidence}"}
    else:
        state["output"] = output | {"status": "deviated", "evidence": f"vacuous: {evidence}"}


def _why(state: Mapping[str, Any]) -> tuple[Verdict, str]:
    text = failure_text(state)
    for kind, verdict in (
        (NotApplicable, Verdict.NOT_APPLICABLE),
        (NotInjected, Verdict.NOT_INJECTED),
        (TargetError, Verdict.NOT_INJECTED),
    ):
        prefix = f"{kind.__module__}.{kind.__qualname__}: "
        if text.startswith(prefix):
            return verdict, text.removeprefix(prefix)
    return Verdict.NOT_INJECTED, f"{state['activity']['name']}: {text}"
