"""A small server for the tests of the probe: `python shutdown_server.py PORT|PATH [WORD …]`; the words say what it does.

lame-duck    /ready says 503, and it listens on for 0.3 s behind the signal
deaf         it does not hear signals        cut       it ends at once, whatever is in flight
slow-end     it ends 0.4 s behind the drain  second    it ends at the second signal only
orphan       it leaves a process behind      raise     it prints a traceback at its end
code=N       its exit code                   notify    it says READY=1
die=PATH     it ends when that is asked for  default   SIGTERM does what it does by default, behind the drain
silent       it never listens                elsewhere it listens on another port
unready      /ready says 503 at all times
"""

import asyncio
import os
import signal
import socket
import subprocess
import sys
import traceback

PLACE, *WORDS = sys.argv[1:]
VALUES = dict(word.split("=", 1) for word in WORDS if "=" in word)
RESPONSE = "HTTP/1.1 {} X\r\nContent-Length: 2\r\nConnection: {}\r\n\r\nok"


def say(text):
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


class Server:
    def __init__(self):
        self.leaving = False
        self.told = asyncio.Event()
        self.signals = 0
        self.busy = set()
        self.connections = set()

    async def serve(self, reader, writer):
        self.connections.add(writer)
        try:
            while head := await reader.readuntil(b"\r\n\r\n"):
                self.busy.add(writer)
                path = head.split()[1].decode()
                writer.write((await self.answer(path)).encode())
                self.busy.discard(writer)
                if self.leaving:
                    break
        except (asyncio.IncompleteReadError, asyncio.CancelledError, ConnectionError):
            pass
        finally:
            self.busy.discard(writer)
            self.connections.discard(writer)
            writer.close()

    async def answer(self, path):
        status = 200
        if path == VALUES.get("die"):
            say("asked to die")
            os._exit(7)
        if path.startswith("/slow"):
            say("HANDLER")
            await asyncio.sleep(float(path.partition("=")[2] or 0.3))
        if path == "/ready" and (self.leaving or "unready" in WORDS):
            status = 503
        return RESPONSE.format(status, "close" if self.leaving else "keep-alive")

    def hear(self):
        self.signals += 1
        say(f"HEARD {self.signals}")
        if "second" not in WORDS or self.signals == 2:
            self.leaving = True
            self.told.set()

    async def main(self):
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, (lambda: None) if "deaf" in WORDS else self.hear)
        listener = await self.listen()
        say("LISTENING")
        await self.told.wait()
        if "lame-duck" in WORDS:
            await asyncio.sleep(0.3)
        if listener is not None:
            listener.close()
        while self.busy and "cut" not in WORDS:
            await asyncio.sleep(0.005)
        for writer in list(self.connections):
            writer.transport.abort() if "cut" in WORDS else writer.close()
        if "slow-end" in WORDS:
            await asyncio.sleep(0.4)
        await asyncio.sleep(0.01)  # for what was written
        finish()  # within the loop: a loop that ends complains about connections that it has just accepted

    async def listen(self):
        if "silent" in WORDS:
            return None
        if "/" in PLACE:
            return await asyncio.start_unix_server(self.serve, PLACE)
        port = 0 if "elsewhere" in WORDS else int(PLACE)
        listener = await asyncio.start_server(self.serve, "127.0.0.1", port, backlog=100)
        if "notify" in WORDS:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as line:
                line.sendto(b"READY=1", os.environ["NOTIFY_SOCKET"])
        return listener


def finish():
    if "orphan" in WORDS:
        orphan = subprocess.Popen(["sleep", "30"], start_new_session=True)
        say(f"ORPHAN {orphan.pid}")
    if "raise" in WORDS:
        try:
            raise ValueError("a farewell")
        except ValueError:
            traceback.print_exc()
    say("CLEANUP")
    if "default" in WORDS:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        os.kill(os.getpid(), signal.SIGTERM)
    os._exit(int(VALUES.get("code", 0)))


say(f"\xe9 {os.environ.get('PORT')}")
sys.stdout.buffer.write(b"\xff\xfe not text\n")
asyncio.run(Server().main())
