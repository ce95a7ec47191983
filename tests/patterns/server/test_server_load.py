"""Many clients at once: what a stop costs them, and what they cost the server."""

from __future__ import annotations

import asyncio
import contextlib
import re
import signal
from pathlib import Path

import pytest
from server_support import SECONDS, Load, read, request, server_process, soon
from test_server_shutdown import LOOPS, head_has


@LOOPS
@pytest.mark.parametrize("keep_alive", [False, True], ids=["connect", "keep-alive"])
def test_a_balancer_that_goes_on_routing_through_the_lame_duck_loses_nothing(keep_alive, uvloop):
    with server_process(uvloop=uvloop, lame_duck=2) as server:
        server.ready()
        with Load(server.port, "/sleep?t=0.05", keep_alive=keep_alive) as load:
            soon(lambda: load.answers() > 10)
            server.signal()
            soon(lambda: server.status("/ready") == 503)
            seen = load.answers()
            soon(lambda: load.answers() > seen + 20)
        assert load.lost == []
        assert {status for status, _ in load.seen} == {200}
        assert server.exit(within=4) == 0


@LOOPS
def test_busy_keep_alive_clients_lose_nothing_but_new_connections_when_there_is_no_lame_duck(uvloop):
    with server_process(uvloop=uvloop) as server:
        server.ready()
        with Load(server.port, "/sleep?t=0.05", clients=16, keep_alive=True, patient=False) as load:
            soon(lambda: load.answers() > 50)
            server.signal()
            assert server.exit(within=3) == 0
        assert {status for status, _ in load.seen} == {200}
        assert all("refused" in each for each in load.lost)


def test_a_request_on_an_old_connection_in_a_drain_is_answered_and_told_to_close_or_finds_it_closed():
    with server_process() as server:
        server.ready()
        busy = server.connect(request("/sleep?t=1"))
        server.says("HANDLER")
        old = [server.connect(request("/health")) for _ in range(8)]
        for client in old:
            assert b" 200 " in client.recv(4096)
        server.signal()
        server.says("SHUTDOWN")
        for client in old:
            with contextlib.suppress(BrokenPipeError, ConnectionResetError):
                client.sendall(request("/health"))
            answer = read(client)
            assert answer == b"" or head_has(answer, b"Connection: close")
        assert b" 200 " in read(busy)
        assert server.exit(within=2) == 0


@LOOPS
def test_a_thousand_connections_at_once_are_all_answered(uvloop):
    async def ask():
        reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
        writer.write(request("/sleep?t=0.5", close=True))
        answer = await reader.read()
        writer.close()
        return answer[:15]

    async def crowd():
        async with asyncio.timeout(60):
            return await asyncio.gather(*(ask() for _ in range(1000)))

    with server_process(uvloop=uvloop, access_log=False) as server:
        server.ready()
        assert set(asyncio.run(crowd())) == {b"HTTP/1.1 200 OK"}
        server.signal()
        assert server.exit(within=2) == 0


@pytest.mark.parametrize(
    "sent", [b"GET / HTTP/1.1\r\nHos", b"POST /upload HTTP/1.1\r\nHost: x\r\nContent-Le"]
)
def test_half_sent_requests_hold_up_neither_others_nor_the_end(sent):
    with server_process(header_timeout=60) as server:
        server.ready()
        clients = [server.connect(sent) for _ in range(50)]
        assert server.status("/health") == 200
        server.signal()
        assert server.exit(within=2) == 0
        assert {read(client) for client in clients} == {b""}


def test_a_trickle_of_headers_is_cut_off_and_does_not_hold_up_the_end():
    with server_process(header_timeout=0.5) as server:
        server.ready()
        client = server.connect(b"GET / HTTP/1.1\r\n")
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            for number in range(200):
                client.sendall(b"X-%d: x\r\n" % number)
                client.settimeout(0.05)
                with contextlib.suppress(TimeoutError):
                    assert client.recv(1) == b""
                    break
        assert number < 100
        assert server.status("/health") == 200


@pytest.mark.parametrize("declared", [True, False], ids=["content length", "chunked"])
def test_a_body_beyond_the_limit_is_a_413_and_never_held_in_memory(declared):
    piece = b"x" * 65536
    with server_process() as server:
        server.ready()
        server.status("/health")
        before = peak(server.popen.pid)
        head = "Content-Length: 52428800\r\n" if declared else "Transfer-Encoding: chunked\r\n"
        client = server.connect(request("/upload", method="POST", headers=head, close=True))
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            for _ in range(800):
                client.sendall(piece if declared else b"10000\r\n" + piece + b"\r\n")
        assert b" 413 " in read(client)
        assert peak(server.popen.pid) - before < 16_000


def peak(pid):
    return int(re.search(r"VmHWM:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text())[1])


@pytest.mark.parametrize("cancel", [False, True])
def test_what_becomes_of_a_handler_whose_client_went_away_is_for_the_user_to_say(cancel):
    with server_process(cancel_on_disconnect=cancel) as server:
        server.ready()
        server.connect(request("/sleep?t=0.7")).close()
        server.says("HANDLER")
        if cancel:
            server.says("CANCELLED")
        else:
            server.says('"path": "/sleep')  # the access log: it ran to its end
            assert "CANCELLED" not in server.output
        server.signal(signal.SIGTERM)
        assert server.exit(within=SECONDS) == 0
        assert "Traceback" not in server.output
