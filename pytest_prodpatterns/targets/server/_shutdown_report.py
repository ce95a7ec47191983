"""`ShutdownReport`: what one shutdown was like, and assertions about it that tell the whole story when they fail."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Collection, Iterable
from typing import Final, NoReturn

from pytest_prodpatterns.patterns import _checks
from pytest_prodpatterns.targets.server._presets import required_seconds
from pytest_prodpatterns.targets.server._requests import HALF_SENT, HANDLED, IDLE
from pytest_prodpatterns.targets.server._shutdown_facts import Exchange, Exit
from pytest_prodpatterns.targets.server._shutdown_view import ShutdownView

__tracebackhide__ = True  # pytest shows the line of the user; --full-trace shows ours, too

TRACEBACKS: Final = (
    "Traceback (most recent call last)",
    "Exception ignored in",
    "Exception in thread",
    "\npanic: ",
    " panicked at ",
    "UnhandledPromiseRejection",
)
"""How programs of several languages say that something went wrong that nobody expected."""
_STILL_THERE: Final = frozenset({"open", "never-answered", "unknown"})
_GONE: Final = frozenset({"closed", "rebound"})
_OK: Final = range(200, 400)


class NotObserved(AssertionError):  # noqa: N818 - it says what happened
    """A promise can be neither confirmed nor refuted: what it is about was not seen."""

    __module__ = "pytest_prodpatterns.targets.server.shutdown"


class ShutdownReport(ShutdownView):
    """One shutdown, as its events tell it, and what can be asserted of it.

    Times are seconds since the signal.  An assertion that fails says in one line what was expected and what was
    seen, and then shows the timeline and the end of the output.  One that would say nothing (nothing was in flight,
    say) fails as well, and one about something that could not be observed raises `NotObserved`.
    """

    __module__ = "pytest_prodpatterns.targets.server.shutdown"

    # -- requests ----------------------------------------------------------------------------------------------------

    def assert_in_flight_completed(self) -> None:
        """Assert that what was inside a handler got its whole response: streams to their end, websockets a close."""
        handled = [each for each in self.requests if each.kind in HANDLED]
        if not handled:
            self._fail(
                "no request was in flight, so nothing is known: pass in_flight=[shutdown.get('/slow')]"
            )
        if not any(each.at_the_signal for each in handled):
            ends = _count(_fates(handled))
            self._fail(
                f"nothing was in flight any more when the signal came ({ends}), so nothing is known: take a path"
                " that answers more slowly"
            )
        if lost := [each for each in handled if not each.answered]:
            self._fail(
                f"{len(lost)} of {len(handled)} requests in flight were not completed: {_count(_fates(lost))};"
                " expected a whole response for each"
            )

    def assert_no_dropped_requests(self, *, strict: bool = False) -> None:
        """Assert that no new connection behind the signal came to grief.

        Args:
            strict: Whether those count as well after which a client may safely try again: refused, and 503.
        """
        if not self.routed:
            self._fail(
                "no new connection was made behind the signal, so nothing is known: pass route_for=1.0"
            )
        dropped = [each for each in self.routed if not (each.answered or (each.retry_safe and not strict))]
        if dropped:
            expected = (
                "an answer for each" if strict else "each answered, refused, or told to try again (503)"
            )
            self._fail(
                f"{len(dropped)} of {len(self.routed)} new connections behind the signal were dropped:"
                f" {_count(_fates(dropped))}; expected {expected}"
            )

    def assert_idle_connections_closed(self, within: float = 1.0, *, half_sent: bool = False) -> None:
        """Assert that the server closed connections on which nothing was asked, soon behind the signal.

        Args:
            within: Seconds since the signal.
            half_sent: Whether half-sent requests count, too.
        """
        within = required_seconds("within", within)
        kinds = IDLE | HALF_SENT if half_sent else IDLE
        idle = [each for each in self.requests if each.kind in kinds]
        if not any(each.at_the_signal for each in idle):
            why = "had been closed before the signal" if idle else "was there"
            self._fail(
                f"no idle connection {why}, so nothing is known: pass in_flight=[shutdown.idle_keepalive(3)]"
            )
        late = [each for each in idle if each.outcome in _STILL_THERE or (each.ended or 0.0) > within]
        if late:
            still = sum(each.outcome in _STILL_THERE for each in late)
            ends = [
                each.ended for each in late if each.ended is not None and each.outcome not in _STILL_THERE
            ]
            seen = [f"{still} never"] if still else []
            seen += [f"the last at {max(ends):+.2f} s"] if ends else []
            self._fail(
                f"{len(late)} of {len(idle)} idle connections were not closed within {within:g} s:"
                f" {', '.join(seen)}"
            )

    # -- readiness and listener --------------------------------------------------------------------------------------

    def assert_readiness_flipped_before_listener_closed(self) -> None:
        """Assert that the readiness said no while new connections could still be made."""
        if not self.readiness:
            self._missed("readiness", "nobody asked for the readiness: pass readiness='/ready'")
        before = [each.state for each in self.readiness if each.took <= 0]
        if not before or before[-1] not in _OK:
            seen = (before[-1] or "no answer") if before else "nothing"
            self._missed("readiness", f"the readiness never said yes before the signal: the last was {seen}")
        closed = self._listener_closed()
        flipped = next((each for each in self.readiness if each.took > 0 and each.state not in _OK), None)
        if flipped is None:
            self._fail(f"the readiness went on saying {before[-1]}; expected 503 before the listener closed")
        if not flipped.state:
            self._fail(
                f"the readiness said {before[-1]} until nobody answered any more, at {flipped.took:+.3f} s;"
                " expected 503 while new connections could still be made"
            )
        if flipped.took > closed:
            self._fail(
                f"the listener closed at {closed:+.3f} s, and the readiness said {flipped.state} at"
                f" {flipped.took:+.3f} s only; expected the other order"
            )

    def _listener_closed(self) -> float:
        if not self.listener:
            self._missed("listener", "the listener was not observed")
        for each in self.listener:
            if each.took > 0 and each.state in _GONE:
                return each.took
        return self._exit("it never closed, and no exit was seen").took

    # -- the end -----------------------------------------------------------------------------------------------------

    def assert_exit(self, code: int | Collection[int] | None = 0, within: float | None = None) -> None:
        """Assert how, and when, the process ended.

        Args:
            code: The exit code, or several; minus a signal's number where that may end it; None for any.
            within: Seconds since the signal; by default those of the run.
        """
        codes = _codes(code)
        limit = self.within if within is None else required_seconds("within", within)
        if self.killed:
            self._fail(f"the server did not end, and was killed; expected its end within {limit:g} s")
        end = self._exit("no exit was seen")
        if end.took < 0:
            self._fail(f"the server ended before the signal came ({end.how})")
        if end.took > limit:
            self._fail(f"the server ended {end.took:.2f} s behind the signal; expected at most {limit:g} s")
        if codes is not None and end.code not in codes:
            named = f"{end.how} ({end.code})" if end.code < 0 else end.how
            self._fail(f"the server ended with {named}; expected exit code {' or '.join(map(str, codes))}")

    def assert_no_survivors(self) -> None:
        """Assert that no process of the server lived on behind its exit, orphans and daemons included."""
        if self.killed:
            self._missed("survivors", "the server was killed with all that it had started")
        seen = self._facts.last("survivors")
        if seen is None:
            self._missed("survivors", "nobody looked for survivors")
        if seen["pids"]:
            named = zip(seen["pids"], seen["commands"], strict=False)
            each = ", ".join(f"{pid} ({command})" for pid, command in named)
            count = "1 process" if len(seen["pids"]) == 1 else f"{len(seen['pids'])} processes"
            self._fail(f"{count} of the server lived on {seen['within']:g} s behind its exit: {each}")

    def _exit(self, otherwise: str) -> Exit:
        if self.exit is None:
            self._missed("exited", otherwise)
        return self.exit

    # -- the output --------------------------------------------------------------------------------------------------

    def assert_no_traceback(self) -> None:
        """Assert that nothing printed behind the signal is a traceback, a panic or the like."""
        printed = "\n" + self._printed_behind_the_signal()
        for mark in TRACEBACKS:
            if mark in printed:
                line = printed[printed.index(mark) :].strip().partition("\n")[0]
                self._fail(f"the server printed {line!r} behind the signal; expected no traceback")

    def assert_log(self, text: str | re.Pattern[str]) -> None:
        """Assert that the server printed something behind the signal.

        Args:
            text: A text, or a compiled regular expression.
        """
        if not isinstance(text, str | re.Pattern) or text == "":
            raise TypeError(f"text must be a text that is not empty, or a compiled pattern, not {text!r}")
        pattern = text if isinstance(text, re.Pattern) else re.compile(re.escape(text))
        if pattern.search(self._printed_behind_the_signal()) is None:
            wanted = repr(pattern.pattern if isinstance(text, re.Pattern) else text)
            before = "; it had printed that before" if pattern.search(self.output) else ""
            self._fail(f"the server did not print {wanted} behind the signal{before}")

    def _printed_behind_the_signal(self) -> str:
        return self.output[self._printed :]

    # -- failing -----------------------------------------------------------------------------------------------------

    def _fail(self, reason: str) -> NoReturn:
        raise AssertionError(self.describe(reason))

    def _missed(self, what: str, otherwise: str) -> NoReturn:
        why = self._facts.not_observed(what)
        raise NotObserved(self.describe(otherwise if why is None else f"not observed: {what} ({why})"))


def _fates(exchanges: Iterable[Exchange]) -> Iterable[str]:
    for each in exchanges:
        yield f"answered {each.status}" if each.outcome == "5xx" else each.outcome


def _count(words: Iterable[str]) -> str:
    return ", ".join(f"{count} {word}" for word, count in Counter(words).most_common())


def _codes(code: int | Collection[int] | None) -> list[int] | None:
    if code is None:
        return None
    codes = [code] if isinstance(code, int) else code
    if isinstance(codes, str | bytes) or not isinstance(codes, Collection):
        raise TypeError(f"code must be an exit code, several, or None for any, not {code!r}")
    return sorted(_checks.whole("code", each, least=-64) for each in codes)
