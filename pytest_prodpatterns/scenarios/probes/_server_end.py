"""How a server ends: promises over its signals, its exit, its listener and its processes."""

from __future__ import annotations

from pytest_prodpatterns.scenarios.probes._history import Answer, answer, vacuous
from pytest_prodpatterns.scenarios.probes._server_history import (
    Life,
    Told,
    command,
    life,
    lives,
    plural,
    unseen,
)
from pytest_prodpatterns.scenarios.probes._server_times import (
    allowed,
    before_deadline,
    clean_codes,
    how,
    where_it_stood,
)


def ends_in_time(within: float, signal: int = 1, drain: bool = False) -> Answer:
    """Promise that the server ends soon after a signal; its lame duck comes on top of the first one.

    A further one has to end it well before the end of its drain, which would end it anyhow.

    Args:
        within: Seconds that it may take.
        signal: The number of the signal from which they count.
        drain: Whether the time that it has for its drain comes on top.
    """
    now = life()
    told = now.signal(signal)
    if told is None:
        return vacuous("no signal was sent" if signal == 1 else f"no signal number {signal} was sent")
    most = allowed(command(), within, drain=drain) if signal == 1 else before_deadline(command(), within)
    name = told.attributes["signal"] if signal == 1 else f"{told.attributes['signal']} number {signal}"
    took, end = now.took(signal), now.end()
    if took is None or end is None:
        evidence = f"it had not ended {now.waited(signal):.1f} s after {name}; at most {most:g} s expected"
        return answer(False, evidence + where_it_stood(now))
    evidence = f"it ended {took:.2f} s after {name} ({end.attributes['how']}); at most {most:g} s expected"
    return answer(took <= most, evidence, took=took)


def drains_as_long_as_it_may() -> Answer:
    """Promise that a request gets all the time that the server was told to drain, before it is cut off."""
    now, least = life(), allowed(command(), 0.9 * (command().drain or 0.0))
    took = now.took()
    if now.signal() is None or took is None:
        return vacuous("the server did not end by itself behind a signal")
    evidence = f"requests had {took:.2f} s to end; {least:g} s at least expected"
    return answer(took >= least, evidence, took=took)


def ends_cleanly() -> Answer:
    """Promise an exit code that says that nothing was lost: 0, or what the signal itself would have left."""
    now = life()
    told, end = now.signal(), now.end()
    if told is None:
        return vacuous("no signal was sent")
    if end is None:
        return answer(False, "it did not end by itself" + where_it_stood(now))
    codes = clean_codes(told.attributes["signal"])
    wanted = f"{codes[0]}, {codes[1]} or {told.attributes['signal']}"
    return answer(end.attributes["code"] in codes, f"{end.attributes['how']}; {wanted} expected")


def exit_codes_tell() -> Answer:
    """Promise that the exit code of an end that lost requests differs from that of a clean one."""
    told = [one for one in lives() if one.signal() is not None]
    if len(told) != 2:
        return vacuous("there were no two ends to compare")
    clean, bad = told
    lost = [call for call in _every(bad) if call.under_way(bad.before_signal) and not call.done]
    ends = clean.end(), bad.end()
    if ends[0] is None or ends[1] is None:
        which = "the clean end" if ends[0] is None else "the end that lost requests"
        return answer(False, f"{which} had to be enforced: an exit code was never seen" + where_it_stood(bad))
    if not lost:
        return vacuous("no request was lost when it was forced to end")
    codes = [int(end.attributes["code"]) for end in ends if end is not None]
    good = clean_codes(str(told[0].signal().attributes["signal"]))  # type: ignore[union-attr]
    evidence = f"{how(codes[0])} after a clean end, {how(codes[1])} after {plural(len(lost), 'request')} {_was(lost)} lost"
    if codes[0] not in good:
        evidence += f"; {good[0]}, {good[1]} or {how(good[2])} expected for the clean one"
    return answer(codes[0] in good and codes[1] != codes[0], evidence, codes=codes, lost=len(lost))


def every_start_ends_in_time(within: float) -> Answer:
    """Promise that the server ends soon after a signal that came while it started, whenever that was.

    Args:
        within: Seconds that it may take.
    """
    hit = [one for one in lives() if one.signal() is not None]
    if not hit:
        return vacuous("no signal came while it started")
    most = allowed(command(), within)
    late = [one for one in hit if (took := one.took()) is None or took > most]
    name = hit[0].signal().attributes["signal"]  # type: ignore[union-attr]
    if not late:
        worst = max(took for one in hit if (took := one.took()) is not None)
        evidence = f"{len(hit)} of {len(hit)} starts ended after {name}, within {worst:.2f} s; at most {most:g} s expected"
        return answer(True, evidence, worst=worst)
    took = late[0].took()
    waited = f"was not over {late[0].waited():.1f} s" if took is None else f"ended {took:.2f} s"
    moment = late[0].of_server("moment")
    when = f" at {moment[0].attributes['part']:.0%} of it" if moment else ""
    evidence = f"{len(late)} of {len(hit)} starts did not end in time: one {waited} after {name}{when}; at most {most:g} s"
    return answer(False, f"{evidence} expected{where_it_stood(late[0])}", late=len(late))


def nobody_is_left() -> Answer:
    """Promise that no process of the server outlives it, in any of its lives."""
    told = [event for one in lives() for event in one.of_server("survivors")]
    if not told:
        if any(one.of_server("killed") for one in lives()):
            return answer(False, "it had to be killed with everything that it had started")
        return unseen("survivors", "nobody looked for processes behind its end")
    left = [event for event in told if event.attributes["pids"]]
    within = told[-1].attributes["within"]
    if not left:
        return answer(True, f"no process lived {within:g} s after the end")
    pids, commands = left[0].attributes["pids"], left[0].attributes["commands"]
    evidence = (
        f"{plural(len(pids), 'process')} lived {within:g} s after the end; nobody expected: {commands[0]}"
    )
    return answer(False, evidence, left=len(pids))


def port_is_free() -> Answer:
    """Promise that the address can be had again after the end."""
    told = life().of_server("port")
    if not told:
        return unseen("port", "nobody tried to have the address again")
    holders = told[-1].attributes["holders"]
    if told[-1].attributes["free"]:
        return answer(True, "the address could be had again at once")
    whose = f", {plural(len(holders), 'process')} had it" if holders else ""
    return answer(False, f"the address could not be had again after the end{whose}", holders=len(holders))


def listener_closes(within: float) -> Answer:
    """Promise that nobody listens any more soon after the signal; the lame duck comes on top.

    Args:
        within: Seconds that it may take.
    """
    now = life()
    if now.signal() is None:
        return vacuous("no signal was sent")
    if not now.of_server("listener"):
        return unseen("listener", "nobody looked at the listener")
    most = allowed(command(), within)
    closed = now.listener_closed()
    if closed is None:
        return answer(
            False, f"it still listened {now.waited():.1f} s after the signal; at most {most:g} s expected"
        )
    evidence = f"nobody listened any more {closed:.2f} s after the signal; at most {most:g} s expected"
    return answer(closed <= most, evidence, took=closed)


def _every(one: Life) -> list[Told]:
    return one.calls(
        list({str(event.attributes["phase"]) for event in one.events if "phase" in event.attributes})
    )


def _was(lost: list[Told]) -> str:
    return "was" if len(lost) == 1 else "were"
