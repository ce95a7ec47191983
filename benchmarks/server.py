"""What a request costs in our server beside plain aiohttp, what a stop loses, and how long many connections take.

Each contender is a process of its own that stays for all rounds and is silent while the others have their turns. What
counts is the CPU time of its main thread, as the kernel has it, so neither the client nor the neighbours weigh in.
The connections are measured in wall time: what they cost is waiting, for SYNs that are sent again after a second.
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path

from benchmarks._measure import Figure, compare, interleave
from pytest_prodpatterns.targets import TargetError
from pytest_prodpatterns.targets.server import _catalogue

REQUESTS = 480
ROUNDS = 9
STARTS = 8
CLIENTS = 16
CONNECTIONS = 1_000
ASK = b"GET /health HTTP/1.1\r\nHost: x\r\n\r\n"
ASK_ONCE = b"GET %s HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
PEERS = ("aiohttp", "uvicorn", "uvicorn-workers", "hypercorn", "granian", "gunicorn", "gunicorn-asgi")
ROUTED = 1.0
"""Seconds that a balancer goes on routing behind the signal."""
EVERY = 0.01
ROUTERS = 4


class Server:
    """One contender in its process."""

    def __init__(self, kind: str, loop: str) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "benchmarks._server_host", kind, loop],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        assert self._process.stdout
        self.port = int(self._process.stdout.readline())

    def close(self) -> None:
        """End the process."""
        self._process.kill()
        self._process.communicate()

    def cpu_a_request(self) -> float:
        """Return the CPU microseconds of one request, with keep-alive connections that take turns."""
        with contextlib.ExitStack() as stack:
            clients = [
                stack.enter_context(socket.create_connection(("127.0.0.1", self.port), timeout=30))
                for _ in range(CLIENTS)
            ]
            _round(clients)
            start = self._cpu()
            for _ in range(REQUESTS // CLIENTS):
                _round(clients)
            return (self._cpu() - start) / (REQUESTS // CLIENTS * CLIENTS) / 1e3

    def crowd(self) -> float:
        """Return the milliseconds until each of many clients that come at once has its answer."""
        with contextlib.ExitStack() as stack:
            clients = [stack.enter_context(socket.socket()) for _ in range(CONNECTIONS)]
            start = time.perf_counter()
            _crowd(clients, self.port)
            return (time.perf_counter() - start) * 1e3

    def _cpu(self) -> int:
        return int(Path(f"/proc/{self._process.pid}/schedstat").read_text().split()[0])


def _round(clients: list[socket.socket]) -> None:
    for client in clients:
        client.sendall(ASK)
    for client in clients:
        answer = client.recv(4096)
        if not answer.endswith(b"}"):
            raise RuntimeError(f"no whole answer: {answer!r}")


def _crowd(clients: list[socket.socket], port: int) -> None:
    """Connect them all before anything else, as a crowd does, and take every answer to its end."""
    poll = select.epoll()
    ask = ASK_ONCE % b"/health"
    waiting = {client.fileno(): client for client in clients}
    for client in clients:
        client.setblocking(False)
        client.connect_ex(("127.0.0.1", port))
    for number in waiting:
        poll.register(number, select.EPOLLOUT)
    answers = dict.fromkeys(waiting, b"")
    end = time.monotonic() + 60
    while waiting:
        for number, event in poll.poll(max(0.0, end - time.monotonic())):
            client = waiting[number]
            if event & select.EPOLLOUT:
                client.send(ask)
                poll.modify(number, select.EPOLLIN)
            elif more := client.recv(65536):
                answers[number] += more
            else:
                poll.unregister(number)
                del waiting[number]
        if time.monotonic() > end:
            raise RuntimeError(f"{len(waiting)} of {CONNECTIONS} have no answer after a minute")
    poll.close()
    if not all(answer.endswith(b"}") for answer in answers.values()):
        raise RuntimeError("no whole answer")


class Balancer:
    """Sends each request on a connection of its own, and notices a stop only after a while.

    Args:
        port: Where to.
        path: What it asks for.
    """

    def __init__(self, port: int, path: str) -> None:
        self.sent, self.failed = 0, 0
        self._port = port
        self._ask = ASK_ONCE % path.encode()
        self._over = threading.Event()
        self._lock = threading.Lock()
        self._threads = [threading.Thread(target=self._route) for _ in range(ROUTERS)]
        for thread in self._threads:
            thread.start()

    def finish(self) -> None:
        """Route no more, and wait for what is under way."""
        self._over.set()
        for thread in self._threads:
            thread.join()

    def _route(self) -> None:
        while not self._over.wait(EVERY):
            good = self._exchange()
            with self._lock:
                self.sent += 1
                self.failed += not good

    def _exchange(self) -> bool:
        answer = b""
        try:
            with socket.create_connection(("127.0.0.1", self._port), timeout=5) as client:
                client.sendall(self._ask)
                while more := client.recv(65536):
                    answer += more
        except OSError:
            return False
        head, _, body = answer.partition(b"\r\n\r\n")
        return head.split(b" ", 2)[1:2] == [b"200"] and bool(body)


def _stop_under_load(name: str) -> tuple[int, int]:
    """Return how many requests were sent from half a second before the signal until it was noticed, and failed."""
    target = _catalogue.named(name)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    words = [word.replace("{port}", str(port)) for word in target.command.argv]
    environment = os.environ | dict(target.command.env) | {"PORT": str(port)}
    with tempfile.TemporaryFile() as output:
        process = subprocess.Popen(
            words,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            env=environment,
            start_new_session=True,
        )
        try:
            _await(port, target.command.path)
            balancer = Balancer(port, target.command.path)
            time.sleep(0.5)
            process.send_signal(signal.SIGTERM)
            time.sleep(ROUTED)
            balancer.finish()
            process.wait(30)
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
    return balancer.sent, balancer.failed


def _await(port: int, path: str) -> None:
    end = time.monotonic() + 60
    while time.monotonic() < end:
        with (
            contextlib.suppress(OSError),
            socket.create_connection(("127.0.0.1", port), timeout=5) as client,
        ):
            client.sendall(ASK_ONCE % path.encode())
            if b" 200 " in client.recv(100):
                return
        time.sleep(0.02)
    raise RuntimeError("it does not get ready")


@contextlib.contextmanager
def _servers(kinds: tuple[str, ...], loop: str) -> Iterator[dict[str, Server]]:
    with contextlib.ExitStack() as stack:
        servers = {}
        for kind in kinds:
            servers[kind] = Server(kind, loop)
            stack.callback(servers[kind].close)
        yield servers


def request() -> list[Figure]:
    """Measure a request, on both loops, bare and with everything.

    The same code may be a few per cent faster or slower in another process, by where things happen to lie in memory;
    so each contender is started anew several times.
    """
    figures = []
    kinds = ("ours", "aiohttp", "ours with all", "aiohttp with its log")
    for loop, reach in (("asyncio", "<= 1.15"), ("uvloop", "<= 1.05")):
        costs: dict[str, list[float]] = {kind: [] for kind in kinds}
        for _ in range(STARTS):
            with _servers(kinds, loop) as servers:
                turns = {kind: server.cpu_a_request for kind, server in servers.items()}
                for kind, found in interleave(turns, ROUNDS).items():
                    costs[kind] += found
        figures += [
            compare(
                f"CPU a request, {loop}, no access log",
                costs,
                ours="ours",
                peer="aiohttp",
                unit="µs",
                reach=reach,
            ),
            compare(
                f"CPU a request, {loop}, access log, ids, limits, metrics",
                costs,
                ours="ours with all",
                peer="aiohttp with its log",
                unit="µs",
                reach="<= 1.2",
            ),
        ]
    return figures


def crowd() -> list[Figure]:
    """Measure many connections at once."""
    with _servers(("ours", "aiohttp"), "asyncio") as servers:
        costs = interleave({kind: server.crowd for kind, server in servers.items()}, 5)
    name = f"{CONNECTIONS:,} connections at once".replace(",", " ")
    return [compare(name, costs, ours="ours", peer="aiohttp", unit="ms", reach="<= 0.5")]


def lame_duck() -> list[Figure]:
    """Count what is lost when a balancer goes on routing to a server that was told to stop, for a second."""
    rounds = 3
    ours = [_stop_under_load("ours") for _ in range(rounds)]
    figures = []
    for peer in PEERS:
        try:
            theirs = [_stop_under_load(peer) for _ in range(rounds)]
        except TargetError as error:
            print(f"left out: {error}")
            continue
        figures.append(
            _lost(
                "requests failed while a balancer routes on for 1 s",
                [failed for _, failed in ours],
                [failed for _, failed in theirs],
                peer=peer,
                note=f"of about {statistics.median(sent for sent, _ in [*ours, *theirs]):.0f} sent",
            )
        )
    return figures


def _lost(name: str, ours: list[int], theirs: list[int], *, peer: str, note: str) -> Figure:
    mine, their = statistics.median(ours), statistics.median(theirs)
    ratio = mine / their if their else float(mine > 0)
    spread = (min(ours) / max(1, *theirs), max(ours) / max(1, min(theirs)))
    return Figure(name, peer, mine, their, "requests", ratio, spread, "<= 0", note)


def check() -> list[Figure]:
    """Measure how long it takes to put every question to a healthy server."""
    limit, times = 60.0, []
    for _ in range(3):
        start = time.perf_counter()
        words = [sys.executable, "-m", "pytest_prodpatterns", "check", "server", "ours", "-j", "4"]
        done = subprocess.run(words, capture_output=True, text=True, timeout=600, check=False)
        if done.returncode:
            raise RuntimeError(
                f"{words} ended with {done.returncode}:\n{done.stdout[-2000:]}{done.stderr[-2000:]}"
            )
        times.append(time.perf_counter() - start)
    took = statistics.median(times)
    spread = (min(times) / limit, max(times) / limit)
    return [
        Figure(
            "check server ours -j 4, all scenarios",
            "its limit",
            took,
            limit,
            "s",
            took / limit,
            spread,
            "<= 1",
        )
    ]


FIGURES = [request, crowd, lame_duck, check]
