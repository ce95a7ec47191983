"""What scenarios do to a server.

The server is a command, started anew by each scenario as a child of a host process; time is real.  A *phase* names
a group of requests; the promises speak of phases.  Waits have generous deadlines and end as soon as their evidence
is there.  A file says what kind of path it means (`quick`, `slow`, …); the target knows which that is.
"""

from __future__ import annotations

from pytest_prodpatterns.scenarios.actions._server_faults import (
    be_quiet,
    count_connections,
    exhaust_descriptors,
    force_an_end,
    kill_worker,
    look_at_address,
    measure_output,
    send_signal,
    signal_while_it_starts,
    start_server,
    wait_for_exit,
)
from pytest_prodpatterns.scenarios.actions._server_requests import (
    open_at_once,
    route,
    send,
    send_bodies,
    send_half,
    send_large_body,
    send_large_header,
    send_raw,
    send_slow_headers,
    send_up_to_the_limit,
    wait_for_answers,
    wait_until_cut_off,
    wait_until_inside,
)

__all__ = [
    "be_quiet",
    "count_connections",
    "exhaust_descriptors",
    "force_an_end",
    "kill_worker",
    "look_at_address",
    "measure_output",
    "open_at_once",
    "route",
    "send",
    "send_bodies",
    "send_half",
    "send_large_body",
    "send_large_header",
    "send_raw",
    "send_signal",
    "send_slow_headers",
    "send_up_to_the_limit",
    "signal_while_it_starts",
    "start_server",
    "wait_for_answers",
    "wait_for_exit",
    "wait_until_cut_off",
    "wait_until_inside",
]
