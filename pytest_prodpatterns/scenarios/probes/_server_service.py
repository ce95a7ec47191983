"""How a server serves while things are wrong: promises over answers, memory, output and workers."""

from __future__ import annotations

from pytest_prodpatterns.scenarios.probes._history import Answer, answer, vacuous
from pytest_prodpatterns.scenarios.probes._server_history import (
    ANSWERED,
    Phases,
    Told,
    command,
    got,
    judged,
    life,
    named,
    plural,
    unseen,
    word,
)

AT_ONCE = 1.0
"""Seconds within which a server that has no place for a request must say so."""


def serves(phase: Phases, shed: bool = False) -> Answer:
    """Promise that every request is answered.

    Args:
        phase: The phases.
        shed: Whether a 503 is an answer as well, where the server was told how many requests it takes at once.
    """

    def judge(made: list[Told]) -> Answer:
        may_shed = shed and command().limit is not None
        bad = [call for call in made if not (call.outcome in ANSWERED or (may_shed and call.status == 503))]
        evidence = f"{len(made) - len(bad)} of {len(made)} requests were answered {named(phase)}"
        if bad:
            evidence += f"; {len(made)} expected ({got(made)})"
        return answer(not bad, evidence, bad=len(bad), requests=len(made))

    return judged(phase, judge)


def keeps_running() -> Answer:
    """Promise that the server has not ended, when nobody asked it to."""
    now = life()
    if not now.events:
        return vacuous("it was not started")
    ended = now.of_server("exited")
    if not ended:
        return answer(True, "it did not end")
    return answer(False, f"it ended by itself: {ended[0].attributes['how']}")


def clients_errors_are_told(phase: Phases, statuses: list[int | str], or_closed: bool = False) -> Answer:
    """Promise the status of an answer to what is the client's fault.

    Args:
        phase: The phases.
        statuses: Those that are right: numbers, or `4xx`.
        or_closed: Whether to close the connection is right as well.
    """
    wanted = ", ".join(str(status) for status in statuses) + (" or a closed connection" if or_closed else "")

    def fits(call: Told) -> bool:
        if call.status is None:
            return or_closed and call.outcome in {"eof", "reset", "closed", "truncated"}
        return any(status in {call.status, f"{call.status // 100}xx"} for status in statuses)

    def judge(made: list[Told]) -> Answer:
        wrong = [call for call in made if not fits(call)]
        evidence = f"{len(made) - len(wrong)} of {len(made)} requests got {wanted} {named(phase)}"
        evidence += f"; the others: {got(wrong)}" if wrong else f" ({got(made)})"
        return answer(not wrong, evidence, wrong=len(wrong), requests=len(made))

    return judged(phase, judge)


def says_nothing_of(phase: Phases, words: list[str]) -> Answer:
    """Promise that answers do not contain what is nobody's business.

    Args:
        phase: The phases.
        words: What must not be in them.
    """

    def judge(made: list[Told]) -> Answer:
        read = [call for call in made if call.ended is not None]
        if not read:
            return vacuous(f"no answer came {named(phase)}")
        for call in read:
            text = str(call.details.get("text", ""))
            for found in words:
                if found in text:
                    return answer(
                        False, f"an answer {named(phase)} contains {found!r}: {text[:160]!r}", word=found
                    )
        return answer(
            True, f"none of {len(read)} answers {named(phase)} tells more than it should ({got(read)})"
        )

    return judged(phase, judge)


def memory_stays(at_most: float) -> Answer:
    """Promise that the processes of the server grow by no more than that.

    Args:
        at_most: Megabytes.
    """
    told = life().of_server("measured", what="memory")
    if not told:
        return unseen("memory", "nobody measured the memory")
    grown = float(told[-1].attributes["value"])
    return answer(
        grown <= at_most, f"its memory grew by {grown:.0f} MB at most; {at_most:g} MB allowed", grown=grown
    )


def log_stays_small(at_most: float) -> Answer:
    """Promise that the server does not write and write.

    Args:
        at_most: Megabytes.
    """
    told = life().of_server("measured", what="output")
    if not told:
        return unseen("output", "nobody measured what it wrote")
    size = float(told[-1].attributes["value"])
    return answer(size <= at_most, f"it wrote {size:.2f} MB; {at_most:g} MB allowed", size=size)


def connections_are_given_back() -> Answer:
    """Promise that the server has no more connections than before, once its clients have gone."""
    told = [event.attributes for event in life().of_server("measured", what="connections")]
    if len(told) < 2:
        return unseen("connections", "nobody counted its connections")
    before, after, within = told[0]["value"], told[-1]["value"], told[-1]["within"]
    evidence = (
        f"it had {plural(after, 'connection')} {within:g} s after its clients had gone; {before} expected"
    )
    if after <= before:
        evidence = (
            f"it had {plural(after, 'connection')} after its clients had gone, {before} before they came"
        )
    return answer(after <= before, evidence, before=before, after=after)


def slow_ones_are_cut_off(phase: Phases, slack: float) -> Answer:
    """Promise that clients that take too long for their headers are cut off in time.

    Args:
        phase: The phases.
        slack: Seconds that it may take longer than the server was told.
    """
    most = (command().header_timeout or 0.0) + slack

    def judge(made: list[Told]) -> Answer:
        kept = [call for call in made if call.ended is None or not _cut_off(call) or call.took > most]
        if kept:
            evidence = (
                f"{len(kept)} of {len(made)} slow clients were not cut off within {most:g} s: {_ends(kept)}"
            )
        else:
            worst = max(call.took for call in made)
            evidence = f"{len(made)} of {len(made)} slow clients were cut off, within {worst:.2f} s; at most {most:g} s expected"
        return answer(not kept, evidence, remaining=len(kept), clients=len(made))

    return judged(phase, judge)


def sheds(phase: Phases) -> Answer:
    """Promise that who comes beyond the limit is sent away at once, by a 503 that says when to come back.

    Args:
        phase: The phases.
    """

    def judge(made: list[Told]) -> Answer:
        limit = command().limit
        sent_away = [call for call in made if call.status == 503]
        polite = [call for call in sent_away if call.details.get("retry_after") and call.took <= AT_ONCE]
        evidence = f"{len(polite)} of {len(made)} requests beyond the limit of {limit} got 503 with Retry-After at once"
        if len(polite) < len(made):
            rude = [call for call in made if call not in polite]
            evidence += f"; the others: {', '.join(sorted({_why_rude(call) for call in rude}))}"
        return answer(len(polite) == len(made), evidence, polite=len(polite), requests=len(made))

    return judged(phase, judge)


def ended_workers_are_waited_for() -> Answer:
    """Promise that a worker that ended does not stay behind as a zombie."""
    told = life().of_server("zombies")
    if not told:
        return unseen("zombies", "nobody looked for zombies")
    pids, within = told[-1].attributes["pids"], told[-1].attributes["within"]
    evidence = f"{plural(len(pids), 'zombie')} {within:g} s after a worker was killed; 0 expected"
    return answer(not pids, evidence, zombies=len(pids))


def workers_are_replaced() -> Answer:
    """Promise that a new worker comes for one that was killed."""
    told = [set(event.attributes["pids"]) for event in life().of_server("workers")]
    if len(told) < 2 or not told[0]:
        return unseen("workers", "no worker was seen")
    before, after = told[0], told[-1]
    new = len(after - before)
    evidence = f"{plural(len(before), 'worker')} before one was killed, {len(after)} after, {new} of them new"
    return answer(bool(new) and len(after) >= len(before), evidence, before=len(before), after=len(after))


def _cut_off(call: Told) -> bool:
    return call.outcome in {"closed", "eof", "reset", "truncated"} or call.status in {400, 408}


def _ends(calls: list[Told]) -> str:
    return ", ".join(
        sorted({f"{word(call)}{f' after {call.took:.2f} s' if call.ended else ''}" for call in calls})
    )


def _why_rude(call: Told) -> str:
    if call.status != 503:
        return word(call)
    return (
        "503 without Retry-After" if not call.details.get("retry_after") else f"503 after {call.took:.2f} s"
    )
