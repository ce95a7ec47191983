"""What a worker pool promises, each promise a probe over the history of calls and processes.

A *phase* names the calls that the method made under that name; where a promise speaks of several phases, they
are a list.  Everything is judged by what ran in the workers (their own events), by what the callers got, and by
which processes live; nothing by what a pool says of itself.
"""

from __future__ import annotations

import signal as signals
from collections import Counter
from typing import Final

from pytest_prodpatterns.scenarios._run import current_run
from pytest_prodpatterns.scenarios.probes._history import Answer, answer, vacuous
from pytest_prodpatterns.scenarios.probes._pool_counts import counted, excess, most_inside, waited
from pytest_prodpatterns.scenarios.probes._pool_errors import everything, tells
from pytest_prodpatterns.scenarios.probes._pool_history import (
    Phases,
    Told,
    calls,
    got,
    judged,
    named,
    of_target,
)

FEW: Final = 100
"""Tasks of a storm to which one kill comes at least; with fewer, the hand that kills came too late to say that they held."""


def everybody_is_answered(phase: Phases) -> Answer:
    """Promise that every caller gets a result or an error, whatever happens.

    Args:
        phase: The phases.
    """

    def judge(made: list[Told]) -> Answer:
        waiting = [call for call in made if call.unanswered]
        evidence = f"{len(made) - len(waiting)} of {len(made)} callers were answered {named(phase)}"
        if waiting:
            evidence += f"; {len(waiting)} had no answer after {waited(waiting)}"
        return answer(not waiting, evidence, waiting=len(waiting), calls=len(made))

    return judged(phase, judge)


def callers_got(phase: Phases, outcome: str = "ok", at_least: int | None = None) -> Answer:
    """Promise what the callers get.

    Args:
        phase: The phases.
        outcome: `ok` (the result of their own task), `error` (any), `rejected` or `cancelled`.
        at_least: How many of them; all by default.
    """

    def judge(made: list[Told]) -> Answer:
        fitting = sum(call.failed if outcome == "error" else call.outcome == outcome for call in made)
        wanted = len(made) if at_least is None else at_least
        evidence = f"{fitting} of {len(made)} callers got {_WORDS[outcome]} {named(phase)}; {wanted} expected"
        if fitting < wanted:
            evidence += f" (they got {got(made)})"
        return answer(fitting >= wanted, evidence, fitting=fitting, calls=len(made))

    return judged(phase, judge)


def victims_are_told(phase: Phases) -> Answer:
    """Promise that the callers of tasks whose worker died get an error, or the result of another run.

    Args:
        phase: The phases.
    """

    def judge(made: list[Told]) -> Answer:
        untold = [call for call in made if call.outcome != "raised" and not call.ran_again]
        evidence = f"{len(made) - len(untold)} of {len(made)} callers were told of the death of their worker {named(phase)}"
        if untold:
            evidence += f"; the others got {got(untold)}"
        else:
            evidence += f" ({got(made)})"
        return answer(not untold, evidence, untold=len(untold), calls=len(made))

    return judged(phase, judge)


def errors_tell_how_it_died(phase: Phases, exit_code: int | None = None, signal: str | None = None) -> Answer:
    """Promise that the error of a task whose worker died says how it died: the exit code, or the signal.

    Args:
        phase: The phases.
        exit_code: The exit code that it must tell.
        signal: The name of the signal that it must tell.
    """
    code = -signals.Signals[signal].value if signal is not None else exit_code or 0
    how = signal or f"exit code {code}"

    def judge(made: list[Told]) -> Answer:
        raised = [call for call in made if not call.ran_again]
        if not raised:
            return answer(True, f"the task ran again {named(phase)}, nobody needs to be told")
        silent = [call for call in raised if not tells(call.details, code, signal)]
        shown = (silent or raised)[0]
        word = "does not tell" if silent else "tells"
        text = str(shown.details.get("text", ""))
        evidence = f"{got([shown]).removeprefix('1 ')} {word} {how} {named(phase)}: {text[:120]!r}"
        return answer(not silent, evidence, silent=len(silent), calls=len(raised))

    return judged(phase, judge)


def errors_say(phase: Phases, words: list[str]) -> Answer:
    """Promise that the error of a caller tells what was raised in the worker: its type and its words.

    Args:
        phase: The phases.
        words: What must be found in its type, text, arguments or remote traceback.
    """

    def judge(made: list[Told]) -> Answer:
        for call in made:
            lost = [word for word in words if word not in everything(call.details)]
            if lost:
                what = f"{got([call]).removeprefix('1 ')} ({str(call.details.get('text', ''))[:120]!r})"
                return answer(False, f"{what} does not say {lost[0]!r} {named(phase)}", lost=lost)
        return answer(True, f"{got(made)} say what was raised {named(phase)}", calls=len(made))

    return judged(phase, judge)


def executions(
    phase: Phases, at_most: int | None = None, at_least: int | None = None, exactly: int | None = None
) -> Answer:
    """Promise how often each task of a phase is run.

    Args:
        phase: The phases.
        at_most: No more often than this.
        at_least: No less often than this.
        exactly: This often.
    """

    def judge(made: list[Told]) -> Answer:
        runs = [len(call.visits) for call in made]
        low, high = (exactly, exactly) if exactly is not None else (at_least or 0, at_most)
        worst = next((run for run in runs if run < low or (high is not None and run > high)), None)
        times = max(runs) if worst is None else worst
        wanted = str(low) if low == high else f"{low} to {high}" if high is not None else f"at least {low}"
        evidence = f"a task ran {times} time{'s' * (times != 1)} {named(phase)}; {wanted} expected"
        return answer(worst is None, evidence, runs=sorted(set(runs)), calls=len(made))

    return judged(phase, judge)


def inside_at_once(phase: str, at_least: int) -> Answer:
    """Promise that so many different workers are in a task at the same time.

    Args:
        phase: The phase.
        at_least: How many.
    """

    def judge(made: list[Told]) -> Answer:
        inside = most_inside(made)
        evidence = f"{inside} worker{'s were' if inside != 1 else ' was'} busy at once {phase}; at least {at_least} expected"
        if inside < at_least:
            evidence += f" ({len(made)} callers got {got(made)})"
        return answer(inside >= at_least, evidence, inside=inside, calls=len(made))

    return judged(phase, judge)


def accepted_while_held(phase: str, held: str, at_most: int | None = None, at_least: int = 0) -> Answer:
    """Promise how many calls a pool accepts while all its workers are held.

    Args:
        phase: The phase of the calls.
        held: The phase of the tasks that hold the workers.
        at_most: No more than this.
        at_least: No fewer than this.
    """

    def judge(made: list[Told]) -> Answer:
        ends = [visit.left for call in calls(held) for visit in call.visits if visit.left is not None]
        if not ends:
            return vacuous(f"no worker was held {held}")
        taken = sum(call.accepted is not None and call.accepted < min(ends) for call in made)
        kept = taken >= at_least and (at_most is None or taken <= at_most)
        wanted = f"{at_least} to {at_most}" if at_most is not None else f"at least {at_least}"
        evidence = f"{taken} of {len(made)} calls were accepted {phase}; {wanted} expected"
        return answer(kept, evidence, accepted=taken, calls=len(made))

    return judged(phase, judge)


def rejected_tasks_never_run(phase: str) -> Answer:
    """Promise that a task that was not accepted is not run.

    Args:
        phase: The phase.
    """

    def judge(made: list[Told]) -> Answer:
        rejected = [call for call in made if call.failed and call.accepted is None]
        if not rejected:
            return vacuous(f"no call was rejected {phase}")
        ran = sum(bool(call.visits) for call in rejected)
        return answer(not ran, f"{ran} of {len(rejected)} rejected tasks ran {phase}; 0 expected", ran=ran)

    return judged(phase, judge)


def rejections_take(phase: str, at_least: float = 0.0, at_most: float | None = None) -> Answer:
    """Promise after how many seconds a call that finds no place is rejected.

    Args:
        phase: The phase.
        at_least: No sooner than this.
        at_most: No later than this.
    """

    def judge(made: list[Told]) -> Answer:
        took = [float(call.details["took"]) for call in made if call.failed and call.accepted is None]
        if not took:
            return vacuous(f"no call was rejected {phase} (callers got {got(made)})")
        wrong = [one for one in took if one < at_least or (at_most is not None and one > at_most)]
        shown = wrong[0] if wrong else max(took)
        wanted = f"{at_least:g} to {at_most:g}" if at_most is not None else f"at least {at_least:g}"
        evidence = f"a call was rejected after {shown:.2f} s {phase}; {wanted} expected"
        return answer(not wrong, evidence, took=took)

    return judged(phase, judge)


def loop_stays_responsive(phase: str, at_most: float) -> Answer:
    """Promise that submitting on an event loop does not hold the loop up.

    Args:
        phase: The phase.
        at_most: Seconds that the loop may stand still at worst.
    """
    seen = [event for event in of_target("lag") if event.attributes.get("phase") == phase]
    if not seen:
        return vacuous(f"no event loop was watched {phase}")
    worst = max(float(event.attributes["worst"]) for event in seen)
    evidence = f"the event loop stood still for {worst:.2f} s at worst {phase}; at most {at_most:g} expected"
    return answer(worst <= at_most, evidence, worst=worst)


def shutdown_ends() -> Answer:
    """Promise that a shutdown returns."""
    seen = of_target("shutdown")
    if not seen:
        return _spared() or vacuous("no shutdown was asked for")
    told = seen[-1].attributes
    took, outcome = float(told["took"]), told["outcome"]
    if outcome == "hung":
        return answer(False, f"shutdown did not return within {took:.1f} s", took=took)
    how = "returned" if outcome == "ok" else f"raised {told.get('error')}"
    return answer(True, f"shutdown {how} after {took:.2f} s", took=took)


def processes_are_gone() -> Answer:
    """Promise that the workers have ended after a shutdown."""
    return _gone(None, "live")


def tasks_are_over(phase: str) -> Answer:
    """Promise that no task of a phase runs any more, whoever gave up waiting for it.

    Args:
        phase: The phase.
    """
    return _gone(phase, f"are still in a task {phase},")


def no_orphans() -> Answer:
    """Promise that no process of the pool outlives its parent."""
    seen = of_target("orphans")
    if not seen:
        return vacuous("the parent was not ended")
    told = seen[-1].attributes
    alive = len(told["pids"])
    evidence = f"no process of the pool lived {told['within']:g} s after its parent"
    if alive:
        kinds = Counter(_kind(str(command)) for command in told["commands"])
        left = " and ".join(f"{number} {kind}{'s' * (number > 1)}" for kind, number in kinds.items())
        evidence = f"{left} lived {told['within']:g} s after the parent; nobody expected"
    return answer(not alive, evidence, alive=alive)


def accepted_tasks_finish(phase: str) -> Answer:
    """Promise that what the parent accepted is finished before the parent ends.

    Args:
        phase: The phase.
    """

    def judge(made: list[Told]) -> Answer:
        accepted = [call for call in made if call.accepted is not None]
        if not accepted:
            return vacuous(f"no call was accepted {phase}")
        died = of_target("host-died")
        if not died:
            return answer(False, "the parent did not end", accepted=len(accepted))
        finished = sum(any(visit.left is not None for visit in call.visits) for call in accepted)
        evidence = (
            f"{finished} of {len(accepted)} accepted tasks were finished {phase}; {len(accepted)} expected"
        )
        return answer(finished == len(accepted), evidence, finished=finished, accepted=len(accepted))

    return judged(phase, judge)


def starts(at_most: int) -> Answer:
    """Promise that workers whose initializer fails are not started again and again.

    Args:
        at_most: How many starts are enough.
    """
    begun = len(current_run().lab.timeline.where("dependency:initializer", "entered"))
    if not begun:
        return vacuous("no worker was started with an initializer")
    evidence = f"{begun} workers were started with the failing initializer; at most {at_most} expected"
    return answer(begun <= at_most, evidence, starts=begun)


def failure_surfaces(phase: str, words: list[str]) -> Answer:
    """Promise that a pool that cannot work says why: when it is made, or to each caller.

    Args:
        phase: The phase.
        words: What must be found in the error's type, text, arguments or remote traceback.
    """
    refused = of_target("refused")
    if refused and all(word in everything(refused[-1].attributes) for word in words):
        return answer(True, f"making the pool raised {refused[-1].attributes['error']}, which says why")
    return errors_say(phase, words)


def somebody_is_told(phase: str) -> Answer:
    """Promise that a pool that cannot work refuses to be made, or answers each caller with an error.

    Args:
        phase: The phase.
    """
    refused = of_target("refused")
    if refused:
        return answer(True, f"making the pool raised {refused[-1].attributes['error']}")
    return callers_got(phase, "error")


def storm_loses_nothing(phase: str) -> Answer:
    """Promise that each task of a storm ends exactly once: a checker of the total queue, as in Jepsen.

    Where the pool runs tasks of dead workers again, nothing is lost. Elsewhere each kill costs one task at most,
    whose caller gets an error, and nothing runs twice. Nobody waits for ever, and nobody gets a wrong answer.

    Args:
        phase: The phase.
    """

    def judge(made: list[Told]) -> Answer:
        kills = len(current_run().lab.timeline.where("fault", "fired", signal="SIGKILL"))
        again = current_run().target.missing("retry") is None
        count = counted(made)
        failures = excess(count, kills, again=again)
        told = ", ".join(f"{number} {word}" for word, number in count.items())
        evidence = f"{len(made)} tasks, {kills} kills: {told}"
        if not failures and kills * FEW < len(made):
            return vacuous(f"{evidence}; a storm has one kill in {FEW} tasks at least")
        if failures:
            evidence += f"; {' and '.join(failures)}"
        return answer(not failures, evidence, kills=kills, calls=len(made), **count)

    return judged(phase, judge)


def _kind(command: str) -> str:
    helpers = {"forkserver": "fork server", "resource_tracker": "resource tracker"}
    return next((name for word, name in helpers.items() if word in command), "worker")


def _gone(phase: str | None, still: str) -> Answer:
    seen = [event for event in of_target("processes") if event.attributes.get("phase") == phase]
    if not seen:
        return _spared() or vacuous("nobody looked for processes")
    told = seen[-1].attributes
    alive, known = len(told["pids"]), told["known"]
    if not known:
        return vacuous("no worker is known")
    evidence = f"{alive} of {known} workers {still} {told['within']:g} s later; 0 expected"
    return answer(not alive, evidence, alive=alive, known=known)


def _spared() -> Answer | None:
    seen = of_target("spared")
    return answer(True, f"no shutdown was asked for: {seen[-1].attributes['why']}") if seen else None


_WORDS = {
    "ok": "their answer",
    "error": "an error",
    "rejected": "a rejection",
    "cancelled": "their cancellation",
}
