"""Real server processes and raw sockets for the tests of the server."""

from __future__ import annotations

import collections
import contextlib
import http.client
import json
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

APP = Path(__file__).with_name("served_app.py")
SECONDS = 15.0
SLACK = 5.0
"""Seconds by which a busy machine may be late; what a test tells from the right time is later by far."""


def soon(condition, what="", seconds=SECONDS):
    """Wait until the condition holds, and return what it returned."""
    end = time.monotonic() + seconds
    while not (seen := condition()):
        assert time.monotonic() < end, f"waited {seconds} s in vain: {what or condition}"
        time.sleep(0.01)
    return seen


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


class Process:
    """A server process and its output."""

    def __init__(self, command, port, **options):
        self.port = port
        self._clients = []
        self._file = tempfile.TemporaryFile()
        self.popen = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=self._file,
            stderr=self._file,
            start_new_session=True,
            **options,
        )

    @property
    def output(self):
        size = self._file.seek(0, 2)
        self._file.seek(0)
        text = self._file.read(size).decode(errors="replace")
        return text

    def says(self, word, times=1):
        soon(lambda: self.output.count(word) >= times, f"{word} in\n{self.output}")

    def ready(self):
        soon(lambda: self.status("/ready") == 200, self.output)
        return self

    def status(self, path):
        answer = self.get(path)
        return int(answer.split()[1]) if answer else None

    def connect(self, data=b""):
        client = socket.create_connection(("127.0.0.1", self.port), timeout=SECONDS)
        self._clients.append(client)
        client.sendall(data)
        return client

    def get(self, path, close=True):
        """Send one request on a connection of its own and return all bytes; nothing when refused."""
        try:
            with self.connect(request(path, close=close)) as client:
                return read(client)
        except OSError:
            return b""

    def signal(self, number=signal.SIGTERM):
        self.popen.send_signal(number)

    def exit(self, within):
        """Return the exit code; the process has to end within that time, on a machine that is not busy."""
        start = time.monotonic()
        try:
            code = self.popen.wait(within + 10)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"still alive after {within + 10} s\n{self.output}") from None
        took = time.monotonic() - start
        assert took <= within + SLACK, f"took {took:.2f} s\n{self.output}"
        return code

    def close(self):
        for client in self._clients:
            client.close()
        if self.popen.poll() is None:
            self.popen.kill()
        self.popen.wait()
        self._file.close()


def request(path, *, method="GET", close=False, headers="", body=b""):
    ending = "Connection: close\r\n" if close else ""
    return f"{method} {path} HTTP/1.1\r\nHost: x\r\n{headers}{ending}\r\n".encode() + body


def read(client, seconds=SECONDS):
    """Return all that comes until the end of the stream."""
    client.settimeout(seconds)
    data = b""
    with contextlib.suppress(ConnectionResetError):
        while more := client.recv(65536):
            data += more
    return data


class Load:
    """Clients that ask again and again, and what they got: `seen` counts bodies, `lost` says what was no answer."""

    def __init__(self, port, path, *, clients=6, keep_alive=False, patient=True):
        self.seen, self.lost = collections.Counter(), []
        self._patient = patient  # goes on when something was lost
        self._port, self._keep_alive = port, keep_alive
        self._path = path
        self._over = threading.Event()
        self._threads = [threading.Thread(target=self._ask) for _ in range(clients)]

    def __enter__(self):
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_):
        self._over.set()
        for thread in self._threads:
            thread.join()

    def answers(self):
        return sum(self.seen.copy().values())

    def _ask(self):
        client = None
        while not self._over.wait(0.002):  # the server's workers want a processor, too
            try:
                client = client or http.client.HTTPConnection("127.0.0.1", self._port, timeout=SECONDS)
                client.request("GET", self._path, headers={} if self._keep_alive else {"Connection": "close"})
                answer = client.getresponse()
                body = answer.read()
                self.seen[answer.status, body] += 1
                if answer.will_close:
                    client.close()
                    client = None
            except (OSError, http.client.HTTPException) as error:
                self.lost.append(repr(error))
                client.close()
                client = None
                if not self._patient:
                    break
        if client is not None:
            client.close()


@contextlib.contextmanager
def server_process(**options):
    port = options.setdefault("port", free_port())
    process = Process([sys.executable, "-X", "faulthandler", str(APP), json.dumps(options)], port)
    try:
        yield process
    finally:
        process.close()
