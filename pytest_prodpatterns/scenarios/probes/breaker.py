"""What a circuit breaker promises, each promise a probe over the history of calls.

A *phase* names the calls that the method made under that name.  Everything is judged by what entered the
dependency and by what the callers got; nothing by what a breaker says of its state.
"""

from __future__ import annotations

import pickle
from typing import TYPE_CHECKING

from pytest_prodpatterns.scenarios._run import current_run
from pytest_prodpatterns.scenarios.probes._history import (
    Answer,
    Told,
    answer,
    calls,
    events,
    got,
    judged,
    vacuous,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from pytest_prodpatterns.scenarios.actions._bench import Bench


def dependency_entered(
    phase: str, exactly: int | None = None, at_most: int | None = None, at_least: int | None = None
) -> Answer:
    """Promise how many calls of a phase reach the dependency.

    Args:
        phase: The phase.
        exactly: This many.
        at_most: No more than this.
        at_least: No fewer than this.
    """

    def judge(made: list[Told]) -> Answer:
        entered = sum(call.entered is not None for call in made)
        kept, wanted = _compared(entered, exactly, at_most, at_least)
        evidence = f"{entered} of {len(made)} calls reached the dependency {phase}; {wanted} expected"
        if not kept and entered < len(made):
            evidence += f" (callers got {got(made)})"
        return answer(kept, evidence, entered=entered, calls=len(made))

    return judged(phase, judge)


def inside_at_once(phase: str, at_most: int | None = None, at_least: int | None = None) -> Answer:
    """Promise how many calls of a phase are inside the dependency at the same time.

    Args:
        phase: The phase.
        at_most: No more than this.
        at_least: No fewer than this.
    """

    def judge(made: list[Told]) -> Answer:
        inside = _most_inside(made)
        kept, wanted = _compared(inside, None, at_most, at_least)
        evidence = (
            f"{inside} of {len(made)} calls were inside the dependency at once {phase}; {wanted} expected"
        )
        return answer(kept, evidence, inside=inside, calls=len(made))

    return judged(phase, judge)


def callers_got(phase: str, outcome: str, at_least: int | None = None) -> Answer:
    """Promise what the callers of a phase get.

    Args:
        phase: The phase.
        outcome: `ok`, `raised`, `rejected` or `cancelled`.
        at_least: How many of them; all by default.
    """

    def judge(made: list[Told]) -> Answer:
        fitting = sum(call.outcome == outcome for call in made)
        wanted = len(made) if at_least is None else at_least
        evidence = f"{fitting} of {len(made)} callers got {_WORDS[outcome]} {phase}; {wanted} expected"
        if fitting < wanted:
            evidence += f" (they got {got(made)})"
        return answer(fitting >= wanted, evidence, fitting=fitting, calls=len(made))

    return judged(phase, judge)


def nobody_waits(phase: str) -> Answer:
    """Promise that a caller is let in or rejected, and never left waiting.

    Args:
        phase: The phase.
    """

    def judge(made: list[Told]) -> Answer:
        waiting = sum(call.outcome in {"blocked", "waiting"} for call in made)
        evidence = f"{waiting} of {len(made)} callers were left waiting {phase}; 0 expected"
        return answer(not waiting, evidence, waiting=waiting, calls=len(made))

    return judged(phase, judge)


def original_error(phase: str) -> Answer:
    """Promise that callers whose call reached the dependency get the very exception that it raised.

    Args:
        phase: The phase.
    """

    def judge(made: list[Told]) -> Answer:
        raised = [call for call in made if call.entered is not None]
        if not raised:
            return vacuous(f"no call reached the dependency {phase}")
        replaced = [call for call in raised if not call.details.get("original")]
        evidence = f"{len(raised) - len(replaced)} of {len(raised)} callers got the dependency's own exception {phase}"
        if replaced:
            evidence += f"; the others got {got(replaced)}"
        return answer(not replaced, evidence, replaced=len(replaced))

    return judged(phase, judge)


def same_admission(before: str, after: str) -> Answer:
    """Promise that what happened between two phases did not stop calls from being let in.

    Args:
        before: The earlier phase.
        after: The later one.
    """
    first, second = calls(before), calls(after)
    if not first or not second:
        return vacuous(f"no call was made {before}, or none {after}")
    was = sum(call.entered is not None for call in first)
    then = sum(call.entered is not None for call in second)
    evidence = f"{was} of {len(first)} calls reached the dependency {before}, {then} of {len(second)} {after}"
    return answer(then >= was, evidence, before=was, after=then)


def rejections_tell_when(phase: str, at_most: float) -> Answer:
    """Promise that the error of a rejected call says for how many seconds more the breaker stays open.

    Args:
        phase: The phase.
        at_most: No more seconds than this.
    """

    def judge(made: list[Told]) -> Answer:
        rejected = [call for call in made if call.outcome == "rejected"]
        if not rejected:
            return vacuous(f"no call was rejected {phase}")
        told = [call.details["retry_after"] for call in rejected]
        name = rejected[0].details["error"]
        if None in told:
            return answer(
                False, f"{name} holds no time to come back, as a number or a duration, {phase}", told=told
            )
        wrong = [seconds for seconds in told if not 0 < seconds <= at_most]
        evidence = f"{name} says {told[0]:.0f} s {phase}; more than 0 and at most {at_most:g} expected"
        if wrong:
            evidence = f"{name} says {wrong[0]:.0f} s {phase}; more than 0 and at most {at_most:g} expected"
        return answer(not wrong, evidence, told=told)

    return judged(phase, judge)


def rejections_pickle(phase: str) -> Answer:
    """Promise that the error of a rejected call survives the way to another process.

    Args:
        phase: The phase.
    """
    errors = _rejections(phase)
    if not errors:
        return vacuous(f"no call was rejected {phase}")
    complaint = _pickling_complaint(errors[0])
    name = type(errors[0]).__name__
    return answer(complaint is None, complaint or f"{name} came back whole", error=name)


def rejections_are_fresh(phase: str) -> Answer:
    """Promise that each rejected caller gets an error of its own.

    Args:
        phase: The phase.
    """
    errors = _rejections(phase)
    if len(errors) < 2:
        return vacuous(f"{len(errors)} calls were rejected {phase}; at least 2 are needed")
    distinct = len({id(error) for error in errors})
    name = type(errors[0]).__name__
    evidence = f"{len(errors)} callers got {len(errors)} different {name} objects"
    if distinct < len(errors):
        evidence = f"{len(errors)} callers shared {distinct} {name} object{'s' * (distinct > 1)}"
    return answer(distinct == len(errors), evidence, errors=len(errors), distinct=distinct)


def decorator_keeps_signature() -> Answer:
    """Promise that a decorated function looks like the one that was written."""
    seen = [event for event in events() if event.source == "target:decorator"]
    if not seen:
        return vacuous("nothing was decorated")
    for event in seen:
        kind = event.attributes["guard"]
        if event.kind == "refused":
            return answer(False, f"it does not decorate {kind} functions: {event.attributes['error']}")
        if event.attributes["lost"]:
            return answer(False, f"decorated {kind} functions change: {'; '.join(event.attributes['lost'])}")
    kinds = " and ".join(event.attributes["guard"] for event in seen)
    return answer(True, f"decorated {kinds} functions kept name, text, signature and kind")


def guarded_or_refused(kind: str, healthy: str, after: str) -> Answer:
    """Promise that a decorated function of a kind is guarded to its end, or refused when it is decorated.

    Args:
        kind: `async`, `generator` or `async generator`.
        healthy: The phase in which it works.
        after: The phase after failures that must have opened the breaker.
    """
    if kind == "generator" and (reason := current_run().target.missing("sync")) is not None:
        return answer(True, f"no plain generators: {reason}")
    refused = any(event.kind == "refused" and event.attributes["guard"] == kind for event in events())
    if refused:
        return answer(True, f"{kind} functions are refused when they are decorated")
    worked, then = calls(healthy), calls(after)
    if not worked or not then:
        return vacuous(f"no {kind} function was called")
    if any(call.outcome != "ok" for call in worked):
        return answer(False, f"decorated {kind} functions do not work: callers got {got(worked)}")
    entered = sum(call.entered is not None for call in then)
    evidence = f"{entered} of {len(then)} calls reached the dependency {after}; 0 expected"
    return answer(entered == 0, evidence, entered=entered, calls=len(then))


_WORDS = {
    "ok": "their answer",
    "raised": "the dependency's error",
    "rejected": "a rejection",
    "cancelled": "their cancellation",
}


def _compared(
    number: int, exactly: int | None, at_most: int | None, at_least: int | None
) -> tuple[bool, str]:
    if exactly is not None:
        return number == exactly, str(exactly)
    if at_most is not None:
        return number <= at_most, f"at most {at_most}"
    return number >= (at_least or 0), f"at least {at_least or 0}"


def _most_inside(made: list[Told]) -> int:
    steps = [(call.entered, 1) for call in made if call.entered] + [
        (call.left, -1) for call in made if call.left
    ]
    inside = most = 0
    for _seq, step in sorted(steps):
        inside += step
        most = max(most, inside)
    return most


def _rejections(phase: str) -> list[BaseException]:
    bench: Bench | None = current_run().state.get("bench")
    if bench is None:
        return []
    made = [call for call in bench.driver.calls if call.phase == phase]
    return [call.error for call in made if call.error is not None and not call.entered]


def _pickling_complaint(error: BaseException) -> str | None:
    name = type(error).__name__
    try:
        back = pickle.loads(pickle.dumps(error))  # noqa: S301 - our own bytes
    except Exception as failure:  # noqa: BLE001 - pickling code of strangers raises anything
        return f"{name} does not pickle: {type(failure).__name__}: {failure}"
    if type(back) is not type(error):
        return f"{name} came back as {type(back).__name__}"
    same: Callable[[BaseException], str] = str
    if same(back) != same(error):
        return f"{name} {str(error)!r} came back as {str(back)!r}"
    return None
