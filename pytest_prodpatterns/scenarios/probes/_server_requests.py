"""What becomes of requests and connections at the end of a server: promises over what clients got."""

from __future__ import annotations

from pytest_prodpatterns.scenarios.probes._history import Answer, answer, vacuous
from pytest_prodpatterns.scenarios.probes._server_history import (
    ANSWERED,
    WHOLE,
    Phases,
    Told,
    command,
    got,
    judged,
    life,
    named,
    unseen,
)
from pytest_prodpatterns.scenarios.probes._server_times import (
    allowed,
    before_deadline,
)


def in_flight_complete(phase: Phases) -> Answer:
    """Promise that requests that were inside the server at the signal get their whole response.

    Args:
        phase: The phases.
    """

    def judge(made: list[Told]) -> Answer:
        inside = _in_flight(made)
        if not inside:
            return vacuous(f"no request was in flight at the signal ({named(phase)})")
        lost = [call for call in inside if call.outcome not in ANSWERED or (call.status or 0) >= 400]
        if lost:
            evidence = f"{len(lost)} of {len(inside)} requests in flight were lost: {got(lost)}"
        else:
            evidence = f"{len(inside)} of {len(inside)} requests in flight were completed"
        return answer(not lost, evidence, lost=len(lost), requests=len(inside))

    return judged(phase, judge)


def endless_ones_are_told(phase: Phases) -> Answer:
    """Promise that streams without an end, and websockets, are ended in the words of their protocol.

    Args:
        phase: The phases.
    """

    def judge(made: list[Told]) -> Answer:
        inside = _in_flight(made)
        if not inside:
            return vacuous(f"nothing was open at the signal ({named(phase)})")
        untold = [call for call in inside if not call.done]
        evidence = f"{len(inside) - len(untold)} of {len(inside)} were told of the end {named(phase)}"
        if untold:
            evidence += f"; the others: {got(untold)}"
        return answer(not untold, evidence, untold=len(untold), calls=len(inside))

    return judged(phase, judge)


def responses_say_close(phase: Phases) -> Answer:
    """Promise that responses to requests that were in flight at the signal say that the connection ends.

    Args:
        phase: The phases.
    """

    def judge(made: list[Told]) -> Answer:
        came = [call for call in _in_flight(made) if call.outcome in WHOLE]
        if not came:
            return vacuous(f"no response came after the signal ({named(phase)})")
        said = sum(call.outcome == "completed-with-close" or bool(call.details.get("close")) for call in came)
        evidence = f"{said} of {len(came)} responses after the signal said Connection: close"
        return answer(said == len(came), f"{evidence}; {len(came)} expected", said=said, responses=len(came))

    return judged(phase, judge)


def reused_connections_lose_nothing(phase: Phases) -> Answer:
    """Promise that whoever uses a connection again gets a response, or is told before the next request.

    Args:
        phase: The phases.
    """

    def judge(made: list[Told]) -> Answer:
        lost = [call for call in made if not call.done]
        evidence = (
            f"{len(lost)} of {len(made)} connections lost a request {named(phase)}; 0 expected ({got(made)})"
        )
        return answer(not lost, evidence, lost=len(lost), connections=len(made))

    return judged(phase, judge)


def idle_ones_are_closed(phase: Phases) -> Answer:
    """Promise that connections without a request are closed by the server.

    Args:
        phase: The phases.
    """

    def judge(made: list[Told]) -> Answer:
        kept = [call for call in made if not call.done]
        evidence = f"{len(made) - len(kept)} of {len(made)} connections without a request were closed"
        return answer(
            not kept, f"{evidence}{f'; the others: {got(kept)}' if kept else ''}", remaining=len(kept)
        )

    return judged(phase, judge)


def are_let_go(phase: Phases, within: float) -> Answer:
    """Promise that the server ends connections without a whole request itself, well before its drain ends everything.

    Args:
        phase: The phases.
        within: Seconds that it may take at most, from the end of the lame duck.
    """
    most = allowed(command(), before_deadline(command(), within))

    def judge(made: list[Told]) -> Answer:
        signal = life().signal()
        if signal is None:
            return vacuous("no signal was sent")
        late = [call for call in made if call.ended is None or call.at - signal.real > most]
        evidence = (
            f"{len(late)} of {len(made)} connections were held for more than {most:g} s after the signal"
        )
        if not late:
            worst = max(0.0, *(call.at - signal.real for call in made))
            evidence = f"{len(made)} of {len(made)} connections were let go within {worst:.2f} s; at most {most:g} s expected"
        return answer(not late, evidence, late=len(late), connections=len(made))

    return judged(phase, judge)


def answered_or_refused(phase: Phases) -> Answer:
    """Promise that who connects after the signal is answered or refused, and never left to wait.

    Args:
        phase: The phases.
    """

    def judge(made: list[Told]) -> Answer:
        late = _late(made)
        if not late:
            return vacuous(f"nobody connected after the signal {named(phase)}")
        bad = [call for call in late if call.outcome not in WHOLE | {"refused"}]
        evidence = (
            f"{len(bad)} of {len(late)} new connections were neither answered nor refused ({got(late)})"
        )
        return answer(not bad, evidence, bad=len(bad), connections=len(late))

    return judged(phase, judge)


def routed_requests_are_served(phase: Phases) -> Answer:
    """Promise that no request fails which a balancer still sends.

    Args:
        phase: The phases.
    """

    def judge(made: list[Told]) -> Answer:
        late = len(_late(made))
        if not late:
            return vacuous(f"nothing was sent after the signal {named(phase)}")
        failed = [call for call in made if call.outcome not in ANSWERED]
        evidence = (
            f"{len(failed)} of {len(made)} requests failed, {late} of them sent after the signal; 0 expected"
        )
        if failed:
            evidence += f" ({got(failed)})"
        return answer(not failed, evidence, failed=len(failed), requests=len(made), late=late)

    return judged(phase, judge)


def readiness_turns_first(within: float) -> Answer:
    """Promise that the readiness says no soon after the signal, and while the server still accepts.

    Args:
        within: Seconds that it may take.
    """
    now = life()
    signal = now.signal()
    if signal is None:
        return vacuous("no signal was sent")
    told = now.of_server("readiness")
    if not any(event.attributes["ready"] for event in told if event.seq < now.before_signal):
        return unseen("readiness", "the readiness was not seen to say yes")
    no = next(
        (event for event in told if event.seq > now.before_signal and not event.attributes["ready"]), None
    )
    if no is None:
        return answer(False, f"the readiness never said no; within {within:g} s expected")
    took, status = float(no.attributes["took"]), int(no.attributes["status"])
    if not status:
        return answer(
            False,
            f"nobody answered for the readiness {took:.2f} s after the signal; a no expected",
            took=took,
        )
    closed = now.listener_closed()
    evidence = f"the readiness said {status} {took:.2f} s after the signal; at most {within:g} s expected"
    if closed is not None and closed < took:
        evidence += f", and before the listener closed, which was at {closed:.2f} s"
    return answer(took <= within and (closed is None or took <= closed), evidence, took=took, closed=closed)


def _in_flight(made: list[Told]) -> list[Told]:
    seq = life().before_signal
    return [call for call in made if call.under_way(seq)]


def _late(made: list[Told]) -> list[Told]:
    seq = life().before_signal
    return [call for call in made if seq and call.made > seq]
