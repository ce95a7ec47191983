"""The server that the tests start as a process: `python served_app.py '{"lame_duck": 1}'`; it writes what happens to stderr."""

from __future__ import annotations

import asyncio
import json
import os
import re
import signal
import sys
import time
from pathlib import Path

from aiohttp import web

from pytest_prodpatterns.patterns.server import ProductionServer, _run


def say(word):
    sys.stderr.write(f"{word}\n")
    sys.stderr.flush()


class Served(ProductionServer):
    def setup_routes(self):
        super().setup_routes()
        add = self.app.router.add_route
        add("GET", "/sleep", self.sleep)
        add("GET", "/thread", self.thread)
        add("GET", "/stream", self.stream)
        add("GET", "/ws", self.ws)
        add("GET", "/events", self.events)
        add("POST", "/upload", self.upload)
        add("GET", "/block", self.block)
        self.app.on_cleanup.append(self.first_cleanup)
        self.app.on_cleanup.append(self.second_cleanup)
        self.app.on_shutdown.append(self.shutdown_hook)

    async def sleep(self, request):
        say("HANDLER")
        try:
            await asyncio.sleep(float(request.query["t"]))
        except asyncio.CancelledError:
            say("CANCELLED")
            raise
        return web.json_response({"pid": __import__("os").getpid()})

    async def block(self, request):
        say("HANDLER")
        match request.query["how"]:
            case "sleep":
                time.sleep(float(request.query["t"]))
            case "spin":
                end = time.monotonic() + float(request.query["t"])
                while time.monotonic() < end:
                    pass
            case "regex":  # holds the interpreter's lock
                re.match("(a+)+b", "a" * 40)
            case "library":  # a call into C that goes on when it is interrupted
                wait_in_c(float(request.query["t"]))
        return web.Response(text="done")

    async def thread(self, request):
        say("HANDLER")
        await asyncio.to_thread(time.sleep, 60)
        return web.Response()

    async def stream(self, request):
        response = web.StreamResponse()
        response.enable_chunked_encoding()
        await response.prepare(request)
        await response.write(b"first\n")
        say("HANDLER")
        await asyncio.sleep(float(request.query["t"]))
        await response.write(b"last\n")
        return response

    async def events(self, request):
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await response.prepare(request)
        await response.write(b"data: hello\n\n")
        say("HANDLER")
        await self.draining.wait()
        await response.write(b"event: bye\n\n")
        return response

    async def ws(self, request):
        socket = web.WebSocketResponse()
        await socket.prepare(request)
        say("HANDLER")
        async for message in socket:
            await socket.send_str(message.data)
        return socket

    async def upload(self, request):
        say("HANDLER")
        return web.json_response({"bytes": len(await request.read())})

    async def shutdown_hook(self, app):
        say("SHUTDOWN")

    async def first_cleanup(self, app):
        say("CLEANUP-1")
        await asyncio.sleep(OPTIONS.get("slow_cleanup", 0))
        if OPTIONS.get("bad_cleanup"):
            raise ValueError("cleanup went wrong")

    async def second_cleanup(self, app):
        say("CLEANUP-2")


def wait_in_c(seconds):
    import ctypes
    import threading

    lock = ctypes.create_string_buffer(64)  # a pthread_mutex_t of zeroes
    library = ctypes.CDLL(None)
    library.pthread_mutex_lock(lock)
    timer = threading.Timer(seconds, library.pthread_mutex_unlock, [lock])
    timer.daemon = True
    timer.start()
    say("IN C")
    library.pthread_mutex_lock(lock)


OPTIONS = json.loads(sys.argv[1]) if len(sys.argv) > 1 else {}


OWN = {"bad_cleanup", "slow_cleanup", "start", "gate", "hook", "host_fails", "stubborn", "early"}


def build():
    server = Served("127.0.0.1", **{key: value for key, value in OPTIONS.items() if key not in OWN})
    server.app.cleanup_ctx.append(resource)
    if OPTIONS.keys() & {"start", "gate", "stubborn"}:
        server.app.on_startup.append(heavy)
    if "host_fails" in OPTIONS:
        server.app.on_startup.append(fail)
    if "hook" in OPTIONS:
        server.on_drain(drain)
    return server


def signal_early():
    """Tell ourselves to stop while the loop is made, or when it runs and the server has not begun."""
    factory, serve = _run._loop_factory, Served.serve

    def tell():
        os.kill(os.getpid(), signal.SIGTERM)

    def made(wanted):
        return lambda: (tell(), (factory(wanted) or asyncio.new_event_loop)())[1]

    async def begun(server):
        tell()
        return await serve(server)

    if OPTIONS["early"] == "the loop is made":
        _run._loop_factory = made
    else:
        Served.serve = begun


async def resource(app):
    say("RESOURCE-TAKEN")
    yield
    say("RESOURCE-GIVEN-BACK")


async def heavy(app):
    say("STARTING")
    if "gate" in OPTIONS:
        while not Path(OPTIONS["gate"]).exists():
            await asyncio.sleep(0.01)
    elif "stubborn" in OPTIONS:
        while True:
            try:
                await asyncio.sleep(60)
            except asyncio.CancelledError:
                say("NOT YET")
    elif OPTIONS["start"] == "sleep":
        time.sleep(60)
    elif OPTIONS["start"] == "library":
        wait_in_c(60)
    else:
        await asyncio.sleep(OPTIONS["start"])


async def fail(app):
    raise ValueError("no start today")


async def drain(left):
    say("DRAIN-HOOK")
    await asyncio.sleep(OPTIONS["hook"])
    say("DRAIN-HOOK-DONE")


if __name__ == "__main__":
    if "early" in OPTIONS:
        signal_early()
    raise SystemExit(build().main())
