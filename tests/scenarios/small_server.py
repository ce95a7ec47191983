"""A small server that keeps every promise, and can be told to break each of them.

It shares no code with ours, and needs the standard library alone: that it holds all scenarios shows that they can be
held, and each flaw shows that a scenario can fail.  `python small_server.py PORT FLAW WORKERS LAME_DUCK` runs it; as
a module it makes targets of it.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import errno
import hashlib
import json
import os
import signal
import socket
import struct
import sys
import time
import traceback

LAME_DUCK = 1.2
DRAIN = 2.0
LIMIT = 20
HEADER_TIMEOUT = 1.0
MOST_HEADERS = 64_000
MOST_BODY = 1_000_000
SECRET = "prodpatterns-secret-4711"
SIGNALS = {signal.SIGTERM, signal.SIGINT}
FOREVER = 3600.0


class Refused(Exception):
    """What came is the client's fault."""

    def __init__(self, status, text="no"):
        super().__init__(text)
        self.status, self.text = status, text


class Head:
    """The head of a request."""

    def __init__(self, data, flaw):
        lines = data.decode("latin-1").split("\r\n")
        words = lines[0].split(" ")
        if len(words) != 3 or not words[0].isalpha() or not words[2].startswith("HTTP/1."):
            if flaw == "fails-at-bad-lines":
                raise RuntimeError("what is that?")
            raise Refused(400, f"bad request line: {lines[0]!r}" if flaw == "echoes" else "bad request line")
        self.method, target, _version = words
        self.path, _, query = target.partition("?")
        self.seconds = float(query.partition("seconds=")[2] or 1.0)
        fields = (line.partition(":") for line in lines[1:] if line)
        self.fields = {name.strip().lower(): value.strip() for name, _, value in fields}
        self.length = int(self.fields.get("content-length", 0))


class Connection:
    """One client."""

    def __init__(self, server, reader, writer):
        self.server, self.flaw = server, server.flaw
        self.reader, self.writer = reader, writer
        self.busy = False
        self.task = asyncio.current_task()

    async def serve(self):
        while await self.one():
            pass

    async def one(self):
        """Answer one request; tell whether another one may come."""
        try:
            head = await self.head()
            if head is None:
                return False
            if self.flaw == "hangs-up-on-requests" and self.server.leaving:
                return False
            body = await self.body(head)
            self.busy = True
            return await self.answer(head, body)
        except Refused as refused:
            await self.respond(refused.status, {"error": refused.text}, close=True)
            return False
        except TimeoutError:
            return False
        except (ConnectionError, asyncio.IncompleteReadError):
            return False
        except RuntimeError as error:
            text = traceback.format_exc() if self.flaw == "tells-the-traceback" else "internal error"
            text = str(error) if self.flaw == "tells-the-text" else text
            await self.respond(500, {"error": text}, close=True)
            return False
        finally:
            self.busy = False

    async def head(self):
        first = await self.reader.read(1)
        if not first:
            return None
        patient = self.flaw == "patient-with-headers" or self.flaw.startswith("waits-for-")
        limit = FOREVER if patient else HEADER_TIMEOUT
        async with asyncio.timeout(limit):
            try:
                data = first + await self.reader.readuntil(b"\r\n\r\n")
            except asyncio.LimitOverrunError:
                raise Refused(431) from None
        return Head(data[:-4], self.flaw)

    async def body(self, head):
        if self.flaw == "collects-everything":
            return await self.reader.readexactly(head.length)
        if head.length > MOST_BODY:
            if self.flaw != "swallows-everything":
                raise Refused(413)
            left = head.length
            while left:
                left -= len(await self.reader.read(min(left, 1 << 16)))
            return b"{}"
        async with asyncio.timeout(FOREVER if self.flaw.startswith("waits-for-") else 5.0):
            return await self.reader.readexactly(head.length)

    async def answer(self, head, body):
        match head.path:
            case "/slow":
                return await self.slow(head)
            case "/stream":
                return await self.stream(head.seconds)
            case "/events":
                return await self.events()
            case "/ws":
                return await self.websocket(head)
            case "/fail":
                raise RuntimeError(SECRET)
            case "/ready":
                no = self.server.leaving and self.flaw != "stays-ready"
                return await self.respond(503 if no else 200, {"ready": not no})
            case "/json":
                return await self.respond(200, self.parsed(body))
        return await self.respond(200, {"status": "healthy"})

    def parsed(self, body):
        try:
            return {"got": json.loads(body)}
        except (ValueError, RecursionError) as error:
            if self.flaw == "fails-at-bad-json":
                raise RuntimeError("no JSON") from error
            raise Refused(400) from error

    async def slow(self, head):
        server = self.server
        if server.active >= LIMIT and self.flaw != "takes-everybody-in":
            again = "" if self.flaw == "sheds-rudely" else "Retry-After: 1\r\n"
            return await self.respond(503, {"error": "busy"}, more=again)
        server.active += 1
        try:
            await asyncio.sleep(head.seconds)
        finally:
            server.active -= 1
        if self.flaw == "dies-of-hang-ups" and self.reader.at_eof():
            os._exit(1)
        if self.flaw == "keeps-connections" and self.reader.at_eof():
            return False  # nothing is written, so that the kernel never hears that it is over
        if self.flaw == "fails-in-the-drain" and server.leaving:
            return await self.respond(500, {"error": "the pool is closed"})
        return await self.respond(200, {"slept": head.seconds})

    def begin(self, more):
        self.writer.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n" + more + b"\r\n")

    def chunk(self, data):
        self.writer.write(b"%x\r\n%b\r\n" % (len(data), data))

    async def stream(self, seconds):
        self.begin(b"")
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            self.chunk(b"more")
            await self.writer.drain()
            if self.flaw == "cuts-streams" and self.server.draining.is_set():
                return False
            await asyncio.sleep(0.05)
        self.chunk(b"")
        await self.writer.drain()
        return not self.server.leaving

    async def events(self):
        self.begin(b"Content-Type: text/event-stream\r\n")
        while not self.server.draining.is_set():
            self.chunk(b"data: tick\n\n")
            await self.writer.drain()
            await asyncio.sleep(0.05)
        if self.flaw == "cuts-events":
            self.writer.write(b"c\r\ndata:")
            return False
        self.chunk(b"")
        await self.writer.drain()
        return False

    async def websocket(self, head):
        key = head.fields["sec-websocket-key"] + "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
        accept = base64.b64encode(hashlib.sha1(key.encode()).digest())
        self.writer.write(
            b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            b"Sec-WebSocket-Accept: " + accept + b"\r\n\r\n"
        )
        await self.server.draining.wait()
        if self.flaw != "drops-websockets":
            self.writer.write(b"\x88\x02" + struct.pack("!H", 1001))
            await self.writer.drain()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(0.3):
                    await self.reader.read(64)
        return False

    async def respond(self, status, value, *, more="", close=False):
        data = json.dumps(value).encode()
        close = close or (self.server.leaving and self.flaw != "never-says-close")
        more += "Connection: close\r\n" if close else ""
        head = f"HTTP/1.1 {status} X\r\nContent-Type: application/json\r\nContent-Length: {len(data)}\r\n{more}\r\n"
        self.writer.write(head.encode() + data)
        await self.writer.drain()
        return not close


class Server:
    """One process that serves."""

    def __init__(self, listener, flaw, lame_duck):
        self.listener, self.flaw, self.lame_duck = listener, flaw, lame_duck
        self.active = 0
        self.leaving = False
        self.lost = 0
        self.connections = set()
        self.kept = []
        self.signals = 0
        self.told = asyncio.Event()
        self.forced = asyncio.Event()
        self.draining = asyncio.Event()

    async def run(self):
        loop = asyncio.get_running_loop()
        loop.set_exception_handler(self.failed)
        for number in SIGNALS:
            if self.flaw == "sleeps-through-signals":
                signal.signal(number, lambda *_: self.note())
            elif self.flaw != f"ignores-{signal.Signals(number).name}":
                loop.add_signal_handler(number, self.note)
            else:
                signal.signal(number, signal.SIG_IGN)
        most = 1 << 30 if self.flaw == "takes-any-header" else MOST_HEADERS
        server = await asyncio.start_server(self.connected, sock=self.listener, backlog=1024, limit=most)
        await self.told.wait()
        self.leaving = True
        if self.flaw == "drops-everything":
            os._exit(0)
        if self.flaw != "has-no-lame-duck":
            await self.wait(self.forced, self.lame_duck)
        if self.flaw == "keeps-the-listener":
            loop.remove_reader(self.listener.fileno())
        else:
            server.close()
        await self.drain()
        return 1 if self.lost and self.flaw != "leaves-with-0" else 3 if self.flaw == "leaves-with-3" else 0

    def note(self):
        self.signals += 1
        self.told.set()
        if self.signals > 1 and self.flaw != "has-no-hurry":
            self.forced.set()

    async def connected(self, reader, writer):
        connection = Connection(self, reader, writer)
        self.connections.add(connection)
        if self.flaw == "fears-crowds" and len(self.connections) > 20:
            writer.transport.abort()
        if self.flaw == "keeps-connections":
            self.kept.append(os.dup(writer.get_extra_info("socket").fileno()))
        try:
            await connection.serve()
        except asyncio.CancelledError:
            pass
        finally:
            self.connections.discard(connection)
            if self.flaw == "resets":
                writer.get_extra_info("socket").setsockopt(
                    socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0)
                )
            writer.close()

    async def drain(self):
        self.draining.set()
        begin = time.monotonic()
        deadline = begin + DRAIN * (
            2 if self.flaw == "drains-twice" else 0 if self.flaw == "has-no-time" else 1
        )
        if self.flaw == "resets":
            deadline = begin
        while self.connections and not self.forced.is_set():
            idle = [each for each in self.connections if not each.busy]
            patience = {"waits-for-all": FOREVER, "waits-for-the-deadline": DRAIN}.get(self.flaw, 0.1)
            if time.monotonic() > begin + patience:
                for connection in idle:
                    connection.task.cancel()
            if len(idle) < len(self.connections) and time.monotonic() > deadline:
                break
            await asyncio.sleep(0.02)
        rest = [each for each in self.connections if each.busy]
        self.lost = len(rest)
        for connection in rest:
            connection.task.cancel()
        await asyncio.sleep(0.05)

    @staticmethod
    async def wait(event, seconds):
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(event.wait(), seconds)

    def failed(self, loop, context):
        if getattr(context.get("exception"), "errno", None) != errno.EMFILE:
            return
        if self.flaw == "dies-of-emfile":
            os._exit(1)
        if self.flaw == "fills-its-log":
            sys.stderr.write("too many open files\n" * 600_000)
        if self.flaw == "never-accepts-again":
            loop._start_serving = lambda *_: None


def leave_behind():
    """Leave a process behind that lives for a while, with all that is open."""
    if not os.fork():
        for number in SIGNALS:
            signal.signal(number, signal.SIG_IGN)
        time.sleep(8.0)
        os._exit(0)


def run(listener, flaw, lame_duck, lifeline=None):
    async def main():
        if lifeline is not None and flaw != "outlives-its-parent":
            asyncio.get_running_loop().add_reader(lifeline, os._exit, 1)
        return await Server(listener, flaw, lame_duck).run()

    if flaw == "leaves-the-port":
        os.dup(listener.fileno())
    code = asyncio.run(main())
    if flaw in {"leaves-a-child", "leaves-the-port"}:
        leave_behind()
    return code


def supervise(listener, flaw, lame_duck, number):
    """Keep so many workers, and tell them of the end."""
    signal.pthread_sigmask(signal.SIG_BLOCK, {*SIGNALS, signal.SIGCHLD})
    lifeline, mine = os.pipe()
    workers, codes = set(), []

    def start():
        pid = os.fork()
        if not pid:
            os.close(mine)
            signal.pthread_sigmask(signal.SIG_UNBLOCK, {*SIGNALS, signal.SIGCHLD})
            os._exit(run(listener, flaw, lame_duck, lifeline))
        workers.add(pid)

    for _ in range(number):
        start()
    leaving = False
    while workers:
        came = signal.sigwait({*SIGNALS, signal.SIGCHLD})
        if came == signal.SIGCHLD:
            while flaw != "never-waits" and workers and (ended := os.waitpid(-1, os.WNOHANG))[0]:
                workers.discard(ended[0])
                codes.append(os.waitstatus_to_exitcode(ended[1]))
                if not leaving and flaw != "never-replaces":
                    start()
        else:
            leaving = True
            listener.close()
            for pid in workers:
                os.kill(pid, came)
    return max(codes)


def main(port, flaw, workers, lame_duck):
    if flaw == "sleeps-through-its-start":
        for number in SIGNALS:
            signal.signal(number, signal.SIG_IGN)
        time.sleep(0.5)
    listener = socket.create_server(("127.0.0.1", int(port)), backlog=1024)
    if int(workers):
        return supervise(listener, flaw, float(lame_duck), int(workers))
    return run(listener, flaw, float(lame_duck))


def small(flaw="", workers=0, lame_duck=LAME_DUCK, **known):
    """Return the target of a small server.

    Args:
        flaw: What is wrong with it.
        workers: How many workers it has; with none it serves by itself.
        lame_duck: For how long it serves on behind the signal; 0 for not at all.
        known: What is known of it, instead of all there is.
    """
    from pytest_prodpatterns.targets.server._protocol import ServerCommand
    from pytest_prodpatterns.targets.server._target import ServerTarget

    everything = {
        "readiness": "/ready",
        "slow_path": "/slow?seconds={seconds}",
        "stream_path": "/stream?seconds={seconds}",
        "sse_path": "/events",
        "websocket_path": "/ws",
        "json_path": "/json",
        "error_path": "/fail",
        "drain": DRAIN,
        "lame_duck": lame_duck or None,
        "limit": LIMIT,
        "header_timeout": HEADER_TIMEOUT,
        "workers": bool(workers),
    }
    argv = (sys.executable, "-S", "-P", __file__, "{port}", flaw or "none", str(workers), str(lame_duck))
    return ServerTarget(ServerCommand(argv=argv, name="small", **{**everything, **known}))


if __name__ == "__main__":
    raise SystemExit(main(*sys.argv[1:]))
