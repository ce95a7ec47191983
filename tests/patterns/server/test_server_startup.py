"""Start-up: what is answered while it lasts, and how it ends when a signal comes."""

from __future__ import annotations

import signal

import pytest
from server_support import SECONDS, read, request, server_process, soon
from test_server_shutdown import LOOPS, head_has

ROUTES = {"/startup": 503, "/ready": 503, "/health": 200, "/metrics": 200, "/api/data": 503, "/nowhere": 503}


@LOOPS
def test_an_orchestrator_is_answered_while_the_server_starts_and_all_others_are_told_to_wait(
    uvloop, tmp_path
):
    gate = tmp_path / "gate"
    with server_process(uvloop=uvloop, gate=str(gate), retry_after=7) as server:
        server.says("STARTING")
        assert {path: server.status(path) for path in ROUTES} == ROUTES
        assert head_has(server.get("/api/data"), b"Retry-After: 7")
        assert b"application/problem+json" in server.get("/api/data")
        early = server.connect(request("/health"))
        assert b" 200 " in early.recv(4096)
        gate.touch()
        server.ready()
        assert server.status("/startup") == server.status("/api/data") == 200
        early.sendall(request("/api/data", close=True))  # on the connection of the start-up
        assert b" 200 " in read(early)
        server.signal()
        assert server.exit(within=2) == 0


@LOOPS
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
@pytest.mark.parametrize("start", [60, "sleep"], ids=["awaits", "blocks"])
def test_a_signal_ends_the_start_up_promptly_and_cleans_up_what_had_started(start, number, uvloop):
    with server_process(start=start, uvloop=uvloop, lame_duck=30) as server:
        server.says("STARTING")
        client = server.connect(request("/health")) if start == 60 else None
        server.signal(number)
        assert server.exit(within=2) == 0
        assert server.output.count("RESOURCE-GIVEN-BACK") == 1
        assert "Traceback" not in server.output
        if client is not None:
            read(client)  # answered, and closed without a reset
        assert server.status("/health") is None


def test_a_start_up_that_does_not_let_itself_be_ended_is_left_behind_and_the_exit_code_tells():
    with server_process(stubborn=True) as server:
        server.says("STARTING")
        server.signal()
        assert server.exit(within=3) == 1
        assert "start-up was cut off" in server.output
        assert server.output.count("RESOURCE-GIVEN-BACK") == 1


def test_a_start_up_that_hangs_in_c_is_ended_by_force_with_its_stack():
    with server_process(start="library", cleanup_timeout=0.5, lame_duck=30) as server:
        server.says("IN C")
        server.signal()
        assert server.exit(within=6) == 1
        assert "in wait_in_c" in server.output


def test_a_start_up_that_fails_frees_the_port_and_is_told_with_its_traceback():
    with server_process(host_fails=True) as server:
        assert server.exit(within=SECONDS) == 1
        assert "no start today" in server.output
        assert server.output.count("RESOURCE-GIVEN-BACK") == 1


def test_a_signal_that_comes_as_start_up_ends_is_not_lost(tmp_path):
    gate = tmp_path / "gate"
    with server_process(gate=str(gate)) as server:
        server.says("STARTING")
        gate.touch()
        server.signal()
        assert server.exit(within=2) == 0
        soon(lambda: server.status("/health") is None)


@LOOPS
@pytest.mark.parametrize("early", ["the loop is made", "the loop runs"])
def test_a_signal_before_the_server_has_begun_is_not_lost_and_counts_once(early, uvloop):
    with server_process(early=early, uvloop=uvloop) as server:
        assert server.exit(within=SECONDS) == 0
        assert "not a clean end" not in server.output
