"""What a server promises, each promise a probe over the history of requests, signals and processes.

A *phase* names the requests that the method made under that name.  Everything is judged by what clients got, by what
the kernel showed, and by how processes ended; nothing by what a server says of itself.
"""

from __future__ import annotations

from pytest_prodpatterns.scenarios.probes._server_end import (
    drains_as_long_as_it_may,
    ends_cleanly,
    ends_in_time,
    every_start_ends_in_time,
    exit_codes_tell,
    listener_closes,
    nobody_is_left,
    port_is_free,
)
from pytest_prodpatterns.scenarios.probes._server_requests import (
    answered_or_refused,
    are_let_go,
    endless_ones_are_told,
    idle_ones_are_closed,
    in_flight_complete,
    readiness_turns_first,
    responses_say_close,
    reused_connections_lose_nothing,
    routed_requests_are_served,
)
from pytest_prodpatterns.scenarios.probes._server_service import (
    clients_errors_are_told,
    connections_are_given_back,
    ended_workers_are_waited_for,
    keeps_running,
    log_stays_small,
    memory_stays,
    says_nothing_of,
    serves,
    sheds,
    slow_ones_are_cut_off,
    workers_are_replaced,
)

__all__ = [
    "answered_or_refused",
    "are_let_go",
    "clients_errors_are_told",
    "connections_are_given_back",
    "drains_as_long_as_it_may",
    "ended_workers_are_waited_for",
    "endless_ones_are_told",
    "ends_cleanly",
    "ends_in_time",
    "every_start_ends_in_time",
    "exit_codes_tell",
    "idle_ones_are_closed",
    "in_flight_complete",
    "keeps_running",
    "listener_closes",
    "log_stays_small",
    "memory_stays",
    "nobody_is_left",
    "port_is_free",
    "readiness_turns_first",
    "responses_say_close",
    "reused_connections_lose_nothing",
    "routed_requests_are_served",
    "says_nothing_of",
    "serves",
    "sheds",
    "slow_ones_are_cut_off",
    "workers_are_replaced",
]
