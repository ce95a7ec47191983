"""Several processes on one port."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
import sys
import time
from pathlib import Path

import pytest
import uvloop
from server_support import Load, Process, free_port, read, request, server_process, soon

from pytest_prodpatterns.patterns.server import ProductionServer, ServerState
from pytest_prodpatterns.patterns.server._post import Post


def workers(server):
    pid = server.popen.pid
    return {int(each) for each in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()}


def alive(pid):
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def test_workers_share_the_port_and_a_stop_drains_them_all():
    with server_process(workers=2) as server:
        server.ready()
        pids = soon(lambda: len(workers(server)) == 2 and workers(server))
        clients = [server.connect(request("/sleep?t=1")) for _ in range(8)]
        server.says("HANDLER", 8)
        server.signal()
        assert all(read(client).startswith(b"HTTP/1.1 200") for client in clients)
        assert server.exit(within=3) == 0
        assert not [pid for pid in pids if alive(pid)]
        assert "not a clean end" not in server.output


def test_a_killed_worker_is_replaced_and_the_rest_serves_on():
    with server_process(workers=2) as server:
        server.ready()
        victim, other = soon(lambda: len(workers(server)) == 2 and sorted(workers(server)))
        os.kill(victim, signal.SIGKILL)
        soon(lambda: len(workers(server) - {victim}) == 2)
        assert other in workers(server)
        server.ready()
        server.signal()
        assert server.exit(within=3) == 0


SERVE = [sys.executable, "-c", "from pytest_prodpatterns.cli._serve import serve; serve(prog_name='serve')"]
APP = """
from aiohttp import web

async def version(request):
    return web.Response(text="VERSION")

app = web.Application()
app.router.add_get("/", version)
"""


def write(path, version):
    path.write_text(APP.replace("VERSION", version))
    os.utime(path, (len(version), len(version)))  # else its bytecode may be taken for the same


@pytest.mark.parametrize("keep_alive", [False, True], ids=["connect", "keep-alive"])
def test_a_hangup_brings_new_code_and_loses_no_request_under_load(keep_alive, tmp_path):
    write(tmp_path / "shop.py", "old")
    port = free_port()
    words = [*SERVE, "shop:app", "--workers", "2", "--port", str(port), "--no-access-log"]
    server = Process(words, port, cwd=tmp_path)
    with contextlib.closing(server), Load(port, "/", keep_alive=keep_alive) as load:
        soon(lambda: load.seen)
        server.says("listening", 2)
        old = workers(server)
        assert len(old) == 2
        load.lost.clear()  # refused before anybody listened
        write(tmp_path / "shop.py", "newer")
        server.signal(signal.SIGHUP)
        soon(lambda: len(workers(server)) == 2 and not workers(server) & old, seconds=40)
        before = load.seen[200, b"newer"]
        soon(lambda: load.seen[200, b"newer"] > before + 100)
        assert load.lost == []
        assert load.seen.keys() == {(200, b"old"), (200, b"newer")}
        load.__exit__()
        server.signal()
        assert server.exit(within=3) == 0


def test_a_hangup_waits_for_what_is_in_flight_and_readiness_stays():
    with server_process(workers=2) as server:
        server.ready()
        server.says("listening", 2)
        old = workers(server)
        client = server.connect(request("/sleep?t=4"))
        server.says("HANDLER")
        probe = server.connect(request("/ready") + request("/ready"))
        with Load(server.port, "/ready", clients=1) as load:
            server.signal(signal.SIGHUP)
            soon(lambda: len(workers(server)) == 2 and not workers(server) & old, seconds=40)
        assert load.lost == []
        assert {status for status, _ in load.seen} == {200}
        assert read(client).startswith(b"HTTP/1.1 200")
        assert b" 503 " not in read(probe)
        server.signal()
        assert server.exit(within=3) == 0


def test_a_restart_with_code_that_cannot_start_leaves_the_old_workers_in_place(tmp_path):
    write(tmp_path / "shop.py", "old")
    port = free_port()
    server = Process([*SERVE, "shop:app", "--workers", "2", "--port", str(port)], port, cwd=tmp_path)
    with contextlib.closing(server):
        server.says("listening", 2)
        old = workers(server)
        (tmp_path / "shop.py").write_text("import no_such_module_here\n")
        server.signal(signal.SIGHUP)
        server.says("the restart is given up")
        for _ in range(30):  # nothing more comes: for a moment one has to look
            assert workers(server) == old
            time.sleep(0.05)
        assert server.output.count("the restart is given up") == 1
        assert server.get("/").endswith(b"old")
        server.signal()
        assert server.exit(within=3) == 0


def test_a_stop_while_workers_import_is_prompt(tmp_path):
    (tmp_path / "shop.py").write_text(
        "import os, sys, time\nif 'PRODPATTERNS_SERVER_WORKER' in os.environ:\n"
        "    sys.stderr.write('IMPORTING\\n')\n    time.sleep(60)\nfrom aiohttp import web\napp = web.Application()\n"
    )
    port = free_port()
    server = Process([*SERVE, "shop:app", "--workers", "2", "--port", str(port)], port, cwd=tmp_path)
    with contextlib.closing(server):
        server.says("IMPORTING", 2)
        pids = workers(server)
        server.signal()
        assert server.exit(within=2) == 0
        assert not any(map(alive, pids))


def test_any_worker_tells_what_all_have_counted_and_the_dead_are_not_in_flight():
    with server_process(workers=2) as server:
        server.ready()
        server.says("listening", 2)
        [directory] = metrics_directories(server)
        for _ in range(30):
            server.get("/api/data")
        held = [server.connect(request("/sleep?t=60")) for _ in range(6)]
        server.says("HANDLER", 6)

        def metrics():
            text = server.get("/metrics").decode().partition("\r\n\r\n")[2]
            lines = [line.rpartition(" ") for line in text.splitlines() if not line.startswith("#")]
            return {name: float(value) for name, _, value in lines}

        counted = 'http_requests_total{method="GET",status="200"}'
        for _ in range(10):
            values = metrics()
            assert values[counted] >= 30
            assert values["http_request_duration_seconds_count"] >= 30
        soon(lambda: metrics()["http_requests_in_flight"] == 7)  # with the one that asks
        victim = owner(server, held[0])
        others = sum(owner(server, each) != victim for each in held)
        os.kill(victim, signal.SIGKILL)
        soon(lambda: metrics()["http_requests_in_flight"] == others + 1)
        assert metrics()[counted] >= 30
        assert Path(directory).is_dir()
        server.signal()
        server.says("SHUTDOWN")
        server.signal()
        server.exit(within=5)
        assert not Path(directory).exists()


def metrics_directories(server):
    found = set()
    for pid in workers(server):
        for variable in Path(f"/proc/{pid}/environ").read_bytes().split(b"\0"):
            name, _, value = variable.partition(b"=")
            if name == b"PROMETHEUS_MULTIPROC_DIR":
                found.add(value.decode())
    return found


def owner(server, client):
    """Return the worker that has the other end of this connection."""
    wanted = f":{client.getsockname()[1]:04X}"
    rows = (line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:])
    [inode] = [row[9] for row in rows if row[2].endswith(wanted) and row[1].endswith(f":{server.port:04X}")]
    for pid in workers(server):
        for descriptor in Path(f"/proc/{pid}/fd").iterdir():
            with contextlib.suppress(OSError):
                if str(descriptor.readlink()) == f"socket:[{inode}]":
                    return pid
    raise AssertionError("nobody has it")


def test_workers_share_a_unix_socket_too(tmp_path):
    path = tmp_path / "socket"
    with server_process(workers=2, unix_socket=str(path)) as server:
        server.says("listening", 2)

        def ask():
            with socket.socket(socket.AF_UNIX) as client:
                client.connect(str(path))
                client.sendall(request("/health", close=True))
                return read(client)

        old = workers(server)
        server.signal(signal.SIGHUP)
        while workers(server) & old:
            assert b" 200 " in ask()
        server.signal()
        assert server.exit(within=3) == 0
        assert not path.exists()


def test_no_metrics_and_no_socket_are_left_behind_by_a_killed_supervisor():
    with server_process(workers=2) as server:
        server.ready()
        server.says("listening", 2)
        [directory] = metrics_directories(server)
        pids = workers(server)
        server.popen.kill()
        soon(lambda: not any(map(alive, pids)))
        assert not Path(directory).exists()


def test_no_worker_outlives_a_killed_supervisor():
    with server_process(workers=2) as server:
        server.ready()
        pids = soon(lambda: len(workers(server)) == 2 and workers(server))
        server.popen.kill()
        soon(lambda: not [pid for pid in pids if alive(pid)])


def test_a_signal_to_the_whole_group_is_not_a_second_signal_but_two_are():
    with server_process(workers=2) as server:
        server.ready()
        soon(lambda: len(workers(server)) == 2)
        client = server.connect(request("/sleep?t=1"))
        server.says("HANDLER")
        os.killpg(server.popen.pid, signal.SIGINT)
        assert read(client).startswith(b"HTTP/1.1 200")
        assert server.exit(within=3) == 0
    with server_process(workers=2) as server:
        server.ready()
        client = server.connect(request("/sleep?t=60"))
        server.says("HANDLER")
        server.signal()
        server.says("SHUTDOWN")
        server.signal()
        assert server.exit(within=3) == 1
        client.close()


def test_a_worker_that_hears_its_group_and_its_supervisor_loses_no_request():
    with server_process(workers=2) as server:
        server.ready()
        server.says("listening", 2)
        client = server.connect(request("/sleep?t=1"))
        server.says("HANDLER")
        for pid in workers(server):
            os.kill(pid, signal.SIGINT)
        server.says("SHUTDOWN", 2)
        for pid in workers(server):
            with contextlib.suppress(ProcessLookupError):  # the one without a request has left
                os.kill(pid, signal.SIGTERM)
        assert read(client).startswith(b"HTTP/1.1 200")
        assert "a second signal" not in server.output


def test_workers_that_cannot_start_are_not_started_for_ever():
    with server_process(workers=2, uvloop=False, host_fails=True) as server:
        assert server.exit(within=30) == 1
        assert "workers in a row died before they were ready" in server.output


@pytest.mark.parametrize("factory", [None, uvloop.new_event_loop], ids=["asyncio", "uvloop"])
def test_a_worker_stops_when_the_supervisor_went_without_reading(factory):
    ours, theirs = socket.socketpair()

    async def serve():
        server = ProductionServer("127.0.0.1", 0)
        server._post = Post(theirs, [])
        serving = asyncio.create_task(server.serve())
        while server.state is not ServerState.READY:
            await asyncio.sleep(0.01)
        await asyncio.sleep(0.05)  # what was sent is left unread: the end of the channel is a reset
        ours.close()
        async with asyncio.timeout(5):
            return await serving

    with theirs, asyncio.Runner(loop_factory=factory) as runner:
        assert runner.run(serve()) == 0
