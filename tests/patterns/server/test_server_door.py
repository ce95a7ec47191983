"""The door: descriptors run out, clients come while it is shut, and what is left of a socket file."""

from __future__ import annotations

import asyncio
import contextlib
import os
import resource
import socket
import threading
import time
from pathlib import Path

import pytest
from server_support import SECONDS, read, request, server_process, soon
from test_server_shutdown import LOOPS, REPEAT

from pytest_prodpatterns.patterns.server import ProductionServer, ServerState, _door


def cpu(pid):
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def limit(pid, more):
    """Let the process have so many more descriptors than it has."""
    _, hard = resource.prlimit(pid, resource.RLIMIT_NOFILE)
    there = sum(1 for _ in Path(f"/proc/{pid}/fd").iterdir())
    resource.prlimit(pid, resource.RLIMIT_NOFILE, (there + more, hard))


@LOOPS
def test_without_descriptors_connections_wait_quietly_and_are_answered_once_there_are_some(uvloop):
    with server_process(uvloop=uvloop) as server:
        server.ready()
        pid = server.popen.pid
        limit(pid, 3)
        crowd = [server.connect() for _ in range(3)]
        late = server.connect(request("/health", close=True))
        server.says("connections have to wait")
        used, since = cpu(pid), time.monotonic()
        late.settimeout(1.5)
        with pytest.raises(TimeoutError):
            late.recv(1)
        assert cpu(pid) - used < 0.3 * (time.monotonic() - since)
        assert server.output.count("connections have to wait") == 1
        assert "Traceback" not in server.output
        for client in crowd:
            client.close()
        assert b" 200 " in read(late)
        assert server.status("/health") == 200
        server.says("connections are accepted again")
        server.signal()
        assert server.exit(within=2) == 0


def test_a_stop_without_descriptors_is_no_different():
    with server_process() as server:
        server.ready()
        limit(server.popen.pid, 2)
        for _ in range(4):
            server.connect(request("/health"))
        server.says("connections have to wait")
        server.signal()
        assert server.exit(within=2) == 0


@LOOPS
@pytest.mark.parametrize("_", range(2 * REPEAT))
def test_who_comes_while_the_door_is_shut_is_answered_or_refused_and_never_reset(uvloop, _):
    ends = []

    def knock():
        while "refused" not in ends:
            try:
                client = socket.create_connection(("127.0.0.1", server.port), timeout=SECONDS)
            except ConnectionRefusedError:
                ends.append("refused")
                break
            with client:
                try:
                    client.sendall(request("/health", close=True))
                    ends.append(read_strictly(client).partition(b"\r\n")[0])
                except OSError as error:
                    ends.append(repr(error))

    with server_process(uvloop=uvloop, access_log=False) as server:
        server.ready()
        threads = [threading.Thread(target=knock) for _ in range(6)]
        for thread in threads:
            thread.start()
        soon(lambda: len(ends) > 50)
        server.signal()
        for thread in threads:
            thread.join()
        assert server.exit(within=2) == 0
    assert set(ends) == {b"HTTP/1.1 200 OK", "refused"}


def read_strictly(client):
    data = b""
    while more := client.recv(65536):
        data += more
    return data


@pytest.mark.asyncio
async def test_while_the_door_is_shut_newcomers_do_not_get_in_and_who_is_there_already_is_answered(
    monkeypatch,
):
    monkeypatch.setattr(_door, "SHUTTING", 1.0)
    server = ProductionServer("127.0.0.1", 0)
    await server.start_server()
    address = server._life.runner.addresses[0]
    early = socket.create_connection(address, timeout=SECONDS)  # waits in the queue: the loop has no turn
    stopping = asyncio.create_task(server.stop())
    while server.state is not ServerState.DRAINING:
        await asyncio.sleep(0)
    await asyncio.sleep(0.05)  # behind that state the filter comes first
    with pytest.raises(TimeoutError):
        await asyncio.to_thread(socket.create_connection, address, 0.3)
    early.sendall(request("/health"))
    assert b" 200 " in await asyncio.to_thread(read, early)
    early.close()
    await stopping


@pytest.mark.asyncio
async def test_a_unix_socket_is_left_alone_when_somebody_else_has_put_theirs_there(tmp_path):
    path = tmp_path / "socket"
    async with ProductionServer(unix_socket=str(path)).running():
        path.rename(tmp_path / "old")
        async with ProductionServer(unix_socket=str(path)).running():
            pass
        assert not path.exists()
        path.touch()
    assert path.exists()


@pytest.mark.asyncio
async def test_the_remains_of_a_unix_socket_are_removed_and_a_live_one_is_in_use(tmp_path):
    path = tmp_path / "socket"
    with contextlib.closing(socket.socket(socket.AF_UNIX)) as dead:
        dead.bind(str(path))
    async with ProductionServer(unix_socket=str(path)).running():
        with pytest.raises(OSError, match="in use"):
            await ProductionServer(unix_socket=str(path)).start_server()
        assert path.exists()
    assert not path.exists()


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "0.0.0.0", "::1", "::", None])
@pytest.mark.asyncio
async def test_every_address_of_a_host_has_the_same_port(host):
    server = ProductionServer(host, 0)
    async with server.running() as url:
        port = int(url.rpartition(":")[2])
        assert url.startswith("http://[") is (host in {"::1", "::"})
        address = {"::1": "::1", "::": "::1"}.get(host, "127.0.0.1")
        with socket.create_connection((address, port), timeout=SECONDS):
            pass
        ports = {address[1] for address in server._life.runner.addresses}
        assert ports == {port}


@pytest.mark.asyncio
async def test_a_name_that_means_nothing_is_an_error_of_the_address():
    with pytest.raises(OSError):
        await ProductionServer("no-such-host.invalid", 0).start_server()
