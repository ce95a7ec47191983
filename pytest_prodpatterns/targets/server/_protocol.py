"""What a server under test is, what is asked of it, and the words in which the history tells what came of it.

Theory of operation.  A server is a *command*: nothing is known of it but its processes, its sockets and what its
clients get.  Four parts look at it, and each does one thing:

- the *keeper* (`_keeper`, in a host process of its own) starts the command, sends it signals, sees the instant of
  its end, adopts what it leaves behind, and knows every process that it ever started;
- the *kernel* (`_sockets`) tells whether its port listens, who waits there to be accepted, and what it has read;
- the *clients* (`_clients`, a thread with an event loop of its own) make requests and find one word for each end;
- the *driver* (`_driver`) puts them together, and writes the history that reports and promises are made of.

**The events** (all of plain data).  `call` is the number of a request, from 1, unique in a run; `phase` the name
that was given to a group of requests.  KIND is `Request.kind`, NAME is `ServerCommand.name`.

Told of requests:

    client:KIND  called    call, phase, method, path
    client:KIND  entered   call, phase, how                the server has it: `how` is "accepted and read" (the kernel
                                                           says so), "first byte" (it answered something), "log", "asked"
    client:KIND  returned  call, phase, outcome, took, and what there is of: status, close, bytes, text, detail,
                           content_type, retry_after, request_id
        outcome  one of OUTCOMES;  took: seconds since `called`
        close    the server said that the connection ends (`Connection: close`)
        bytes    of body that came;  text: the first 300 characters of it
        detail   what else can be said in a few words, e.g. "the second request on its connection"

Told of the server:

    server:NAME  started    pid, command, port or uds
    server:NAME  ready      how, took                      seconds since `started`
    server:NAME  readiness  status, ready, took            at the first look and at each change; status 0: no answer;
                                                           took: seconds since the first signal, None before it
    server:NAME  listener   state, backlog, took           "listening", "closed", "rebound" (another socket has the
                                                           port), at the first look and at each change
    server:NAME  signalled  signal, target, pids, number   target: "leader", "group", "tree"; number: 1 for the first
    server:NAME  exited     pid, code, how, took           code as Popen.returncode; how: "exit code 0", "SIGKILL";
                                                           took: seconds since the first signal, None before it
    server:NAME  stuck      stacks                         it was asked for its stacks before it was killed
    server:NAME  killed     pids, why                      by the driver: its patience ended
    server:NAME  survivors  pids, commands, within         alive so many seconds after the end of the leader
    server:NAME  zombies    pids, within                   ended and not waited for by the living server
    server:NAME  workers    pids                           the descendants of the leader that live
    server:NAME  not-observed  what, why                   this machine cannot show it

The faults are told by the lab: `fault:SIGTERM` `armed` and `fired`, and so on.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Literal, TypeAlias

Kind: TypeAlias = Literal[
    "request",
    "stream",
    "sse",
    "websocket",
    "idle",
    "silent",
    "half-headers",
    "half-body",
    "slow-headers",
    "raw",
]
"""What a request is like on the wire."""

OUTCOMES: Final[Mapping[str, str]] = {
    "completed": "a whole response, below 500",
    "completed-with-close": "the same, and the server said that the connection ends",
    "5xx": "a whole response that says that the server failed",
    "cancelled": "the server ended it in the protocol's own words before it was done (a close frame, the end of an"
    " endless stream)",
    "eof": "the connection was closed before any response",
    "reset": "the connection was reset before a response was whole",
    "truncated": "the connection was closed in the middle of a response",
    "refused": "nobody listened",
    "never-answered": "connected, and no response came",
    "unreachable": "the connection could not be made in time: nobody accepts, and nobody refuses",
    "closed": "a connection without a request in flight was closed by the server: as it should",
    "open": "a connection without a request in flight was still open in the end",
    "abandoned": "the client hung up, as it was told to",
}
"""Outcome -> what it means."""

DONE: Final = frozenset({"completed", "completed-with-close", "closed", "cancelled"})
"""Outcomes by which nothing is lost; `cancelled` for those that can have no end of their own."""
RETRY_SAFE: Final = frozenset({"refused"})
"""Outcomes after which a client may try again without harm; a 503 is another."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Request:
    """Something that a client does; times in seconds.

    Attributes:
        kind: What it is like on the wire.
        path: Path and query; `{seconds}` in it is filled by `seconds`.
        method: Of HTTP.
        headers: Further header fields.
        body: Bytes of the body; sent with a Content-Length.
        times: How many of them, each on a connection of its own.
        data: Kind `raw` alone: exactly what is sent.
        seconds: What `{seconds}` in the path becomes.
        hang_up: After how long the client closes the connection; None for never.
        pace: Kind `slow-headers` alone: the time between two bytes.
        again: Whether, behind a complete response, the same connection is used for one more request each 50 ms,
            until the server says that it closes, or closes it.
    """

    kind: Kind = "request"
    path: str = "/"
    method: str = "GET"
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes = b""
    times: int = 1
    data: bytes = b""
    seconds: float | None = None
    hang_up: float | None = None
    pace: float = 0.1
    again: bool = False

    def __mul__(self, times: int) -> Request:
        """Return the same request, so many times."""
        if not isinstance(times, int) or isinstance(times, bool) or times < 1:
            raise ValueError(f"a request is multiplied by a whole number from 1, not {times!r}")
        return dataclasses.replace(self, times=self.times * times)

    __rmul__ = __mul__


REQUIREMENTS: Final[Mapping[str, str]] = {
    "slow-path": "a path that takes a while to answer (--slow-path '/slow?seconds={seconds}')",
    "slow-path-seconds": "a slow path whose time can be set ({seconds} in --slow-path)",
    "stream-path": "a path whose response body comes little by little (--stream-path)",
    "sse-path": "a path with an endless event stream (--sse-path)",
    "websocket-path": "a path that is a websocket (--websocket-path)",
    "json-path": "a path that takes JSON by POST (--json-path)",
    "error-path": "a path whose handler raises (--error-path)",
    "readiness": "a path that says whether traffic is welcome (--readiness)",
    "lame-duck": "it serves on for a while after the signal, while its readiness says no (--lame-duck SECONDS)",
    "drain-deadline": "it was told how long it may drain (--drain SECONDS)",
    "limit": "it was told how many requests it takes at once (--limit N)",
    "header-timeout": "it gives up clients that are slow with their headers (--header-timeout SECONDS)",
    "workers": "it has worker processes (--workers)",
}
"""What a scenario may require -> what must be known of the server."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ServerCommand:
    """A server, as a command and what is known of it; times in seconds.

    Attributes:
        argv: The words of the command; `{port}` and `{uds}` in them, and in the values of `env`, are filled in.
        name: What reports call it.
        env: Variables for it, besides those of this process; it also gets PORT.
        cwd: Where it runs; None for here.
        ready: How it is known to be up: `port`, a path such as `/ready` (a status below 400), `log:TEXT`, or
            `notify` (sd_notify's READY=1).
        start_within: How long it may take until then.
        readiness: The path that says whether traffic is welcome; None where there is none.
        path: A path that answers quickly.
        slow_path: A path that takes a while, about one second unless `{seconds}` stands in it.
        stream_path: A path whose body comes little by little and ends; `{seconds}` may stand in it.
        sse_path: A path with an endless event stream.
        websocket_path: A path that is a websocket.
        json_path: A path that takes JSON by POST.
        error_path: A path whose handler raises.
        drain: How long it may drain at most; None where that is not known.
        lame_duck: How long it serves on after the signal; None where it does not.
        limit: How many requests it takes at once; None for any number.
        header_timeout: How long a client may take for its headers; None where that is not known.
        workers: Whether it has worker processes.
        grace: What the orchestrator waits until it kills, by the preset.
    """

    argv: tuple[str, ...]
    name: str = ""
    env: Mapping[str, str] = field(default_factory=dict)
    cwd: str | None = None
    ready: str = "port"
    start_within: float = 20.0
    readiness: str | None = None
    path: str = "/"
    slow_path: str | None = None
    stream_path: str | None = None
    sse_path: str | None = None
    websocket_path: str | None = None
    json_path: str | None = None
    error_path: str | None = None
    drain: float | None = None
    lame_duck: float | None = None
    limit: int | None = None
    header_timeout: float | None = None
    workers: bool = False
    grace: float = 30.0

    def missing(self, requirement: str) -> str | None:
        """Return in one line why a scenario that requires this means nothing here, or None.

        Args:
            requirement: One of REQUIREMENTS.
        """
        if requirement == "slow-path-seconds":
            there = self.slow_path is not None and "{seconds}" in self.slow_path
        else:
            name = "drain" if requirement == "drain-deadline" else requirement.replace("-", "_")
            there = bool(getattr(self, name))
        return None if there else f"needs to know: {REQUIREMENTS[requirement]}"

    def plain(self) -> dict[str, Any]:
        """Return it as plain data."""
        return dataclasses.asdict(self)
