"""A handler that blocks the event loop: it is seen, and it cannot hold up an end for ever."""

from __future__ import annotations

import asyncio
import json
import signal
import time

import aiohttp
import pytest
from aiohttp import web
from server_support import request, server_process, soon
from test_server_shutdown import LOOPS
from test_server_workers import alive
from test_server_workers import workers as children
from uvloop import new_event_loop

from pytest_prodpatterns.patterns.server import ProductionServer
from pytest_prodpatterns.patterns.server._pulse import Pulse

QUICK = {"drain_timeout": 0.3, "cleanup_timeout": 0.3}


@LOOPS
@pytest.mark.parametrize("how", ["sleep", "spin", "regex", "library"])
def test_the_end_comes_by_its_deadline_and_the_stack_tells_what_held_it_up(how, uvloop):
    with server_process(uvloop=uvloop, **QUICK) as server:
        server.ready()
        client = server.connect(request(f"/block?how={how}&t=60"))
        server.says("HANDLER")
        server.signal()
        assert server.exit(within=6) == 1
        assert ("in wait_in_c" if how == "library" else "in block") in server.output
        client.close()


@LOOPS
def test_a_second_signal_waits_two_seconds_for_a_blocked_loop_and_no_longer(uvloop):
    with server_process(uvloop=uvloop, drain_timeout=60) as server:
        server.ready()
        client = server.connect(request("/block?how=sleep&t=60"))
        server.says("HANDLER")
        server.signal()
        time.sleep(0.1)  # two pending signals of one kind are one
        server.signal()
        assert server.exit(within=6) == 1
        assert "in block" in server.output
        client.close()


def test_a_loop_that_comes_back_in_time_cleans_up():
    with server_process(drain_timeout=60) as server:
        server.ready()
        client = server.connect(request("/block?how=sleep&t=1"))
        server.says("HANDLER")
        server.signal()
        time.sleep(0.1)
        server.signal()
        assert server.exit(within=6) == 1
        assert server.output.count("CLEANUP-2") == 1
        assert "in block" not in server.output
        client.close()


@pytest.mark.parametrize("workers", [1, 2])
def test_a_forced_end_leaves_the_cleanup_its_time(workers):
    with server_process(workers=workers, slow_cleanup=3.5, cleanup_timeout=20) as server:
        server.ready()
        server.says("listening", workers)
        client = server.connect(request("/sleep?t=60"))
        server.says("HANDLER")
        server.signal()
        server.says("SHUTDOWN", workers)
        server.signal()
        assert server.exit(within=6) == 1
        assert server.output.count("CLEANUP-2") == workers
        assert "Timeout" not in server.output  # the watchdog did not bite
        client.close()


@pytest.mark.parametrize("second", [False, True], ids=["deadline", "second signal"])
def test_a_worker_with_a_blocked_loop_writes_its_stack_and_is_ended(second):
    with server_process(workers=2, **(QUICK if not second else {"drain_timeout": 60})) as server:
        server.ready()
        server.says("listening", 2)
        client = server.connect(request("/block?how=sleep&t=60"))
        server.says("HANDLER")
        server.signal()
        if second:
            server.says("SHUTDOWN")  # the other worker's
            server.signal()
        assert server.exit(within=6) == 1
        assert "in block" in server.output
        client.close()


def test_a_worker_with_a_blocked_loop_does_not_outlive_its_supervisor():
    with server_process(workers=2, **QUICK) as server:
        server.ready()
        client = server.connect(request("/block?how=sleep&t=60"))
        server.says("HANDLER")
        workers = children(server)
        assert len(workers) == 2
        server.popen.kill()
        soon(lambda: not any(map(alive, workers)))
        client.close()


@pytest.mark.parametrize("limit", [None, 1.2])
@pytest.mark.asyncio
async def test_health_tells_how_late_the_loop_is_and_says_503_beyond_the_limit(limit):
    server = ProductionServer("127.0.0.1", 0, max_loop_lag=limit)

    async def block(_request):
        time.sleep(2)
        return web.Response()

    server.app.router.add_get("/block", block)
    async with server.running() as url, aiohttp.ClientSession(url) as client:

        async def health():
            async with client.get("/health") as answer:
                return answer.status, await answer.json()

        status, body = await health()
        assert (status, body["status"]) == (200, "healthy")
        assert body["loop_lag"] < 1.2
        async with client.get("/block"):
            pass
        status, body = await health()
        assert 1.7 <= body["loop_lag"] < 10
        assert (status, body["status"]) == ((200, "healthy") if limit is None else (503, "lagging"))
        async with client.get("/metrics") as answer:
            [line] = [
                each for each in (await answer.text()).splitlines() if each.startswith("event_loop_lag")
            ]
        assert float(line.split()[1]) >= 1.7
        async with asyncio.timeout(20):
            while (await health())[1]["loop_lag"] > 1.2:
                await asyncio.sleep(0.05)
        assert (await health())[0] == 200


@LOOPS
def test_a_lag_is_told_before_the_loop_has_come_round_again(uvloop):
    async def block():
        pulse = Pulse(bool)
        await asyncio.sleep(0)
        time.sleep(1)
        lag = pulse.lag
        pulse.stop()
        return lag, pulse.lag

    with asyncio.Runner(loop_factory=new_event_loop if uvloop else None) as runner:
        lag, stopped = runner.run(block())
    assert lag >= 0.7
    assert stopped == 0


def test_a_lag_that_still_lasts_is_told_to_who_asks_behind_it():
    with server_process() as server:
        server.ready()
        server.connect(request("/block?how=sleep&t=1"))
        server.says("HANDLER")
        answer = server.get("/health")
        assert json.loads(answer.rpartition(b"\r\n\r\n")[2])["loop_lag"] >= 0.7
        server.signal(signal.SIGTERM)
        assert server.exit(within=2) == 0
