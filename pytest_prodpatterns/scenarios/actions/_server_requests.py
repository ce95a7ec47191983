"""What clients do to a server: requests of every kind, and the waits for them."""

from __future__ import annotations

from typing import Literal

from pytest_prodpatterns.scenarios._run import NotInjected, current_run
from pytest_prodpatterns.scenarios.actions._server_bench import (
    REQUIRED,
    Path,
    bench,
    refuse_too_many,
)
from pytest_prodpatterns.scenarios.probes._server_history import Phases, life
from pytest_prodpatterns.targets.server._protocol import Kind, Request

REST = 0.3
"""Seconds for which the rest of a group of requests is waited for, once the first is inside: some servers take only
so many at once."""

MEGABYTE = 1_000_000


def send(  # noqa: PLR0917 - a file names its arguments, never counts them
    phase: str,
    path: Path = "quick",
    kind: Kind | None = None,
    times: int = 1,
    seconds: float | None = None,
    into_drain: float | None = None,
    beyond_drain: float | None = None,
    hang_up: float | None = None,
    again: bool = False,
    where_it_can: bool = False,
) -> None:
    """Begin requests, all at once, each on a connection of its own.

    Args:
        phase: What the history calls them.
        path: What is asked for: `quick`, `slow`, `stream`, `sse`, `websocket`, `json`, `error`, `readiness`.
        kind: What they are like on the wire; by default what goes with the path.
        times: How many; at most half of what the server was told to take at once, so that it turns nobody away.
        seconds: How long the answer takes, where that can be set.
        into_drain: The same, counted from the end of the lame duck.
        beyond_drain: The same, counted from the end of the time that the server has for its drain.
        hang_up: After how many seconds the client closes the connection.
        again: Whether the connection is used again and again, until the server says or does something about it.
        where_it_can: Do it only where the path is known; `requires` is too strong where the rest of the scenario
            applies to all.
    """
    here = bench()
    if (
        where_it_can
        and path != "quick"
        and (reason := current_run().target.missing(REQUIRED[path])) is not None
    ):
        here.tell("spared", what=phase, why=reason)
        return
    if into_drain is not None:
        seconds = here.behind_lame_duck(into_drain)
    if beyond_drain is not None:
        seconds = here.behind_lame_duck(here.command.drain or 0.0) + beyond_drain
    request = here.request(path, kind, seconds, hang_up=hang_up, again=again)
    here.driver.send(request, phase, here.welcome(times))


def send_half(phase: str, part: Literal["half-headers", "half-body"], times: int = 1) -> None:
    """Begin requests whose second half never comes.

    Args:
        phase: What the history calls them.
        part: What is cut: `half-headers` or `half-body`.
        times: How many.
    """
    here = bench()
    path = here.upload_path() if part == "half-body" else "quick"
    method, body = ("POST", b'{"half": "of it"}') if part == "half-body" else (None, None)
    here.driver.send(here.request(path, part, None, method=method, body=body), phase, times)


def send_bodies(phase: str, bodies: list[str], nested: int = 0) -> None:
    """POST each of some texts to the path that takes JSON.

    Args:
        phase: What the history calls the requests.
        bodies: What is sent; signs up to U+00FF are sent as one byte each.
        nested: How many brackets are opened by one more body, which closes none.
    """
    here = bench()
    for body in [*bodies, *(["[" * nested] if nested else [])]:
        here.driver.send(here.request("json", None, None, body=body.encode("latin-1")), phase)


def send_large_body(phase: str, megabytes: int = 100, within: float = 10.0) -> None:
    """POST a body of that size, wait for the end of it, and measure by how much the server grew at most.

    Args:
        phase: What the history calls the request.
        megabytes: The size.
        within: Seconds that it may take.
    """
    here = bench()
    before = here.peaks()
    if not before:
        here.tell("not-observed", what="memory", why="this machine does not tell the peak of a process")
    request = here.request(here.upload_path(), None, None, method="POST", body=bytes(megabytes * MEGABYTE))
    here.driver.send(request, phase)
    here.driver.await_answers(phase, float(within))
    if before:
        usual = max(before.values())
        grown = sum(max(0.0, peak - before.get(pid, usual)) for pid, peak in here.peaks().items())
        here.tell("measured", what="memory", value=round(grown, 1))


def send_large_header(phase: str, kilobytes: int = 200) -> None:
    """Send a request with a header field of that size.

    Args:
        phase: What the history calls the request.
        kilobytes: The size.
    """
    here = bench()
    here.driver.send(here.request("quick", None, None, headers={"X-Large": "x" * 1000 * kilobytes}), phase)


def send_slow_headers(phase: str, times: int = 1, pace: float = 0.1) -> None:
    """Begin requests whose headers come byte by byte, for longer than the server was told to wait.

    Args:
        phase: What the history calls them.
        times: How many.
        pace: Seconds between two bytes.
    """
    here = bench()
    here.driver.send(here.request("quick", "slow-headers", None, pace=pace), phase, times)


def send_raw(phase: str, texts: list[str]) -> None:
    """Send each of some texts as it is, on a connection of its own.

    Args:
        phase: What the history calls them.
        texts: What is sent; signs up to U+00FF are sent as one byte each.
    """
    for text in texts:
        bench().driver.send(Request(kind="raw", data=text.encode("latin-1")), phase)


def send_up_to_the_limit(phase: str, seconds: float = 1.5) -> None:
    """Send as many slow requests as the server takes at once, and wait until all of them are inside.

    Args:
        phase: What the history calls them.
        seconds: How long their answers take, where that can be set.

    Raises:
        NotInjected: Fewer came in.
    """
    here = bench()
    limit = here.command.limit or 0
    here.driver.send(here.request("slow", None, float(seconds)), phase, limit)
    inside = here.driver.await_inside(phase, limit, deadline=float(seconds))
    if inside < limit:
        raise NotInjected(f"{inside} of {limit} requests came into the server {phase}")


def open_at_once(phase: str, times: int = 1000, within: float = 15.0) -> None:
    """Make so many connections at once, each with a request for the quick path, and wait for the answers.

    Args:
        phase: What the history calls the requests.
        times: How many.
        within: Seconds that all may take.

    Raises:
        NotInjected: This process may not open as many files.
    """
    here = bench()
    refuse_too_many(times)
    here.driver.send(here.request("quick", None, None), phase, times)
    here.driver.await_answers(phase, float(within))


def route(phase: str, seconds: float = 1.0, into_drain: float | None = None, every: float = 0.02) -> None:
    """Begin to send requests for the quick path, each on a new connection, as a balancer does.

    Args:
        phase: What the history calls the requests.
        seconds: For how long.
        into_drain: The same, counted from the end of the lame duck.
        every: Seconds between two requests.
    """
    here = bench()
    lasts = seconds if into_drain is None else here.behind_lame_duck(into_drain)
    here.driver.route(float(lasts), phase=phase, every=every)


def wait_until_inside(phase: str, at_least: int = 1, within: float = 10.0) -> None:
    """Wait until requests of a phase are inside the server.

    Args:
        phase: The phase.
        at_least: How many must be; the rest gets a moment more.
        within: Seconds that it may take.

    Raises:
        NotInjected: Fewer came in.
    """
    driver = bench().driver
    if life().of_server("spared", what=phase):
        return
    inside = driver.await_inside(phase, at_least, deadline=float(within))
    if inside < at_least:
        raise NotInjected(f"{inside} of {at_least} requests came into the server {phase}, in {within:g} s")
    driver.await_inside(phase, None, deadline=REST)


def wait_for_answers(phase: Phases, within: float = 10.0) -> None:
    """Wait until every request of the phases has come to its end; one that has not has no answer.

    Args:
        phase: The phases.
        within: Seconds that it may take.
    """
    bench().driver.await_answers(phase, float(within))


def wait_until_cut_off(phase: Phases, slack: float = 1.5) -> None:
    """Wait until clients that are slow with their headers come to their end.

    Args:
        phase: The phases.
        slack: Seconds that it may take longer than the server was told.
    """
    here = bench()
    here.driver.await_answers(phase, (here.command.header_timeout or 0.0) + slack + 0.5)
