"""How the server ends: real processes, real signals, raw sockets."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

import pytest
from server_support import SECONDS, SLACK, read, request, server_process, soon

REPEAT = int(os.environ.get("SERVER_REPEAT", "1"))
LOOPS = pytest.mark.parametrize("uvloop", [False, True], ids=["asyncio", "uvloop"])


def listens(port):
    wanted = f":{port:04X}"
    rows = (line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:])
    return any(row[1].endswith(wanted) and row[3] == "0A" for row in rows)


def head_has(answer, line):
    return line.lower() in answer.partition(b"\r\n\r\n")[0].lower()


@LOOPS
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
@pytest.mark.parametrize("_", range(REPEAT))
def test_an_idle_server_leaves_at_once_with_0_and_frees_its_port(number, uvloop, _):
    with server_process(uvloop=uvloop) as server:
        server.ready()
        server.signal(number)
        soon(lambda: not listens(server.port), seconds=SLACK)
        assert server.exit(within=2) == 0
        assert server.output.count("SHUTDOWN") == server.output.count("CLEANUP-1") == 1
        assert "Traceback" not in server.output


@LOOPS
def test_requests_in_flight_are_answered_to_the_end_and_told_to_close(uvloop):
    with server_process(uvloop=uvloop) as server:
        server.ready()
        clients = [server.connect(request("/sleep?t=1")) for _ in range(5)]
        stream = server.connect(request("/stream?t=1"))
        server.says("HANDLER", 6)
        server.signal()
        for client in clients:
            answer = read(client)
            assert answer.startswith(b"HTTP/1.1 200")
            assert head_has(answer, b"Connection: close")
            client.close()
        assert read(stream).endswith(b"last\n\r\n0\r\n\r\n")
        stream.close()
        assert server.exit(within=2) == 0


@LOOPS
def test_the_deadline_is_kept_once_and_cut_off_requests_get_a_503_and_the_exit_code_tells(uvloop):
    with server_process(uvloop=uvloop, drain_timeout=4) as server:
        server.ready()
        client = server.connect(request("/sleep?t=60"))
        server.says("HANDLER")
        start = time.monotonic()
        server.signal()
        answer = read(client)
        assert 4 <= time.monotonic() - start < 7.5  # not twice
        assert answer.startswith(b"HTTP/1.1 503")
        assert head_has(answer, b"Retry-After: 1")
        assert server.exit(within=1) == 1
        for word in ("CANCELLED", "CLEANUP-1", "CLEANUP-2"):
            assert server.output.count(word) == 1
        assert "1 requests were cut off" in server.output


@LOOPS
def test_a_second_signal_forces_and_the_cleanup_runs_once(uvloop):
    with server_process(uvloop=uvloop) as server:
        server.ready()
        client = server.connect(request("/sleep?t=60"))
        server.says("HANDLER")
        server.signal()
        soon(lambda: not listens(server.port))
        server.signal()
        assert server.exit(within=1.5) == 1
        client.close()
        for word in ("SHUTDOWN", "CLEANUP-1", "CLEANUP-2"):
            assert server.output.count(word) == 1


def test_a_thread_of_a_handler_does_not_hold_up_a_forced_end():
    with server_process(drain_timeout=0.2) as server:
        server.ready()
        client = server.connect(request("/thread"))
        server.says("HANDLER")
        server.signal()
        assert server.exit(within=3.5) == 1
        client.close()


@LOOPS
def test_a_lame_duck_says_503_and_goes_on_serving(uvloop):
    with server_process(uvloop=uvloop, lame_duck=3) as server:
        server.ready()
        server.signal()
        soon(lambda: server.status("/ready") == 503, seconds=SLACK)
        assert server.status("/health") == 200
        data = server.get("/api/data", close=False)  # returns at the end of the stream: told to close
        assert data.startswith(b"HTTP/1.1 200")
        assert head_has(data, b"Connection: close")
        assert listens(server.port)
        assert server.exit(within=2) == 0


def test_ctrl_c_skips_the_lame_duck_and_a_second_signal_ends_it():
    with server_process(lame_duck=30) as server:
        server.ready()
        server.signal(signal.SIGINT)
        assert server.exit(within=2) == 0
    with server_process(lame_duck=30) as server:
        server.ready()
        server.signal()
        soon(lambda: server.status("/ready") == 503)
        server.signal()
        assert server.exit(within=2) == 1


@pytest.mark.parametrize(
    "sent",
    [
        b"",
        b"GET / HTTP/1.1\r\nHos",
        request("/health"),
        request("/upload", method="POST", headers="Content-Length: 100\r\n", body=b"half"),
    ],
    ids=["silent", "half a head", "keep-alive", "half a body"],
)
def test_connections_without_a_whole_request_do_not_hold_up_the_end(sent):
    with server_process() as server:
        server.ready()
        clients = [server.connect(sent) for _ in range(3)]
        if b"upload" in sent:
            server.says("HANDLER", 3)
        server.signal()
        assert server.exit(within=2.5) == 0
        for client in clients:
            client.close()


def test_a_body_that_still_comes_is_awaited():
    with server_process() as server:
        server.ready()
        client = server.connect(request("/upload", method="POST", headers="Content-Length: 8\r\n"))
        server.says("HANDLER")
        server.signal()
        soon(lambda: not listens(server.port))
        for _ in range(4):
            client.sendall(b"ab")
            time.sleep(0.4)  # a slow client is the matter here
        assert read(client).endswith(b'{"bytes": 8}')
        client.close()
        assert server.exit(within=1) == 0


UPGRADE = (
    "Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
    "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
)


def going_away(socket):
    """Wait for the close frame with 1001."""
    socket.settimeout(SECONDS)
    seen = b""
    while b"\x03\xe9" not in seen:
        more = socket.recv(4096)
        assert more, seen
        seen += more


@LOOPS
def test_streams_and_websockets_are_told(uvloop):
    with server_process(uvloop=uvloop) as server:
        server.ready()
        events = server.connect(request("/events"))
        socket = server.connect(request("/ws", headers=UPGRADE))
        server.says("HANDLER", 2)
        server.signal()
        assert b"event: bye" in read(events)
        going_away(socket)
        socket.sendall(b"\x88\x82\0\0\0\0\x03\xe9")
        read(socket)
        events.close()
        socket.close()
        assert server.exit(within=2) == 0


def test_a_websocket_whose_client_does_not_answer_the_close_does_not_hold_up_the_end():
    with server_process(drain_timeout=30) as server:
        server.ready()
        socket = server.connect(request("/ws", headers=UPGRADE))
        server.says("HANDLER")
        server.signal()
        going_away(socket)
        assert server.exit(within=4) == 0


def test_a_stream_that_begins_in_the_lame_duck_says_that_its_connection_ends():
    with server_process(lame_duck=3) as server:
        server.ready()
        server.signal()
        soon(lambda: server.status("/ready") == 503)
        answer = server.get("/stream?t=0.2", close=False)
        assert head_has(answer, b"Connection: close")
        assert answer.endswith(b"last\n\r\n0\r\n\r\n")
        assert server.exit(within=3) == 0


def test_background_work_drains_behind_the_requests():
    with server_process(hook=0.3) as server:
        server.ready()
        client = server.connect(request("/sleep?t=0.5"))
        server.says("HANDLER")
        server.signal()
        assert read(client).startswith(b"HTTP/1.1 200")
        assert "DRAIN-HOOK-DONE" not in server.output
        assert server.exit(within=2) == 0
        assert server.output.index("DRAIN-HOOK-DONE") < server.output.index("CLEANUP-1")
        client.close()


def test_background_work_that_does_not_end_is_cut_off_at_the_same_deadline():
    with server_process(hook=60, drain_timeout=0.5) as server:
        server.ready()
        server.signal()
        assert server.exit(within=2) == 1
        assert "not drained: drain" in server.output
        assert server.output.count("CLEANUP-2") == 1


def test_a_cleanup_hook_that_fails_stops_no_other_and_is_told_by_the_exit_code():
    with server_process(bad_cleanup=True) as server:
        server.ready()
        server.signal()
        assert server.exit(within=2) == 1
        assert server.output.count("CLEANUP-2") == 1


def test_a_port_in_use_is_one_clear_line():
    with server_process() as first:
        first.ready()
        with server_process(port=first.port) as second:
            assert second.exit(within=SECONDS) == 1
            assert "cannot serve: " in second.output
            assert "in use" in second.output
            assert "Traceback" not in second.output
