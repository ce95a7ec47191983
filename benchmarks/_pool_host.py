"""The process that one contender of benchmarks/pool.py lives in: `python -m benchmarks._pool_host NAME`.

It reads a request a line (`{"figure": "one_by_one", "count": 5000}`), runs that measurement on its own pool, and
answers with one line of JSON. What a task has to tell the parent goes through named pipes, so that it arrives
whatever happens to the worker, and from workers that were not forked off this process, too.
"""

from __future__ import annotations

import gc
import json
import os
import queue
import random
import select
import signal
import statistics
import struct
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

WORKERS = 2
HUNG = 10.0
"""Seconds without any task coming back after which the tasks in flight count as hung."""
MEBIBYTE = 1 << 20
RECORD = struct.Struct("=ii")
"""What a task tells when it begins: its number and its worker's pid."""


def no_op(value: object = None) -> object:
    """Give the argument back."""
    return value


def tell(pipe: str, number: int) -> None:
    """Write down that this task began here."""
    descriptor = os.open(pipe, os.O_WRONLY)
    try:
        os.write(descriptor, RECORD.pack(number, os.getpid()))
    finally:
        os.close(descriptor)


def hold(pipe: str) -> None:
    """Tell, and run until the worker is killed."""
    tell(pipe, 0)
    time.sleep(60)


def meet(pipe: str, gate: str) -> None:
    """Tell, and run until the gate is opened."""
    tell(pipe, 0)
    os.close(os.open(gate, os.O_RDONLY))


def brief_work(pipe: str, number: int) -> int:
    """Tell, take 3 ms, and return the task's number."""
    tell(pipe, number)
    time.sleep(0.003)
    return number


class Told:
    """The reading end of the pipe that tasks tell through."""

    def __init__(self, folder: str) -> None:
        self.path = str(Path(folder) / "told")
        os.mkfifo(self.path)
        self._descriptor = os.open(self.path, os.O_RDWR | os.O_NONBLOCK)
        self.records: list[tuple[int, int]] = []

    def drain(self) -> None:
        """Take what is there."""
        try:
            while data := os.read(self._descriptor, RECORD.size * 512):
                self.records.extend(RECORD.iter_unpack(data))
        except BlockingIOError:
            pass

    def expect(self, count: int, seconds: float = 10.0) -> list[int]:
        """Wait for so many more records and return their pids."""
        before, deadline = len(self.records), time.monotonic() + seconds
        while len(self.records) < before + count:
            if not select.select([self._descriptor], [], [], max(0.0, deadline - time.monotonic()))[0]:
                raise TimeoutError(f"{len(self.records) - before} of {count} tasks began in {seconds} s")
            self.drain()
        return [pid for _, pid in self.records[before:]]


@dataclass
class Contender:
    """A pool under one set of names.

    Attributes:
        submit: `submit(function, *args)` returns a future of whatever kind.
        result: Name of the method of that future that waits for the value.
        map: `map(function, iterable, chunk)` yields the values.
        pids: The workers that the library lists now.
        close: Ends the pool.
    """

    submit: Callable[..., Any]
    close: Callable[[], object]
    result: str = "result"
    map: Callable[[Callable[..., Any], Iterable[Any], int], Iterable[Any]] | None = None
    pids: Callable[[], list[int]] | None = None


def ours(*, queue_size: int | None = 1000, retries: int = 0, start_method: str = "fork") -> Contender:
    from pytest_prodpatterns.patterns.pool import WorkerPool, retry

    on_crash = retry(retries) if retries else "fail"
    pool = WorkerPool(WORKERS, queue_size, start_method=start_method, on_crash=on_crash)
    pool.start()
    return Contender(
        submit=pool.submit,
        map=lambda function, items, chunk: pool.map(function, items, chunksize=chunk),
        pids=lambda: [worker.pid for worker in pool.workers()],
        close=lambda: pool.shutdown(deadline=5.0),
    )


def multiprocessing_pool() -> Contender:
    import multiprocessing

    pool = multiprocessing.get_context("fork").Pool(WORKERS)
    return Contender(
        submit=lambda function, *args: pool.apply_async(function, args),
        result="get",
        map=pool.map,
        close=pool.terminate,
    )


def process_pool_executor() -> Contender:
    import concurrent.futures
    import multiprocessing

    context = multiprocessing.get_context("fork")
    pool = concurrent.futures.ProcessPoolExecutor(WORKERS, mp_context=context)
    return Contender(
        submit=pool.submit,
        map=lambda function, items, chunk: pool.map(function, items, chunksize=chunk),
        close=lambda: pool.shutdown(cancel_futures=True),
    )


def pebble() -> Contender:
    import multiprocessing

    from pebble import ProcessPool

    pool = ProcessPool(WORKERS, context=multiprocessing.get_context("fork"))

    def close() -> None:
        pool.stop()
        pool.join(5.0)

    return Contender(submit=lambda function, *args: pool.schedule(function, args), close=close)


def deadpool(*, start_method: str = "fork") -> Contender:
    from deadpool import Deadpool

    pool = Deadpool(WORKERS, mp_context=start_method)
    return Contender(
        submit=pool.submit,
        pids=lambda: [worker.pid for worker in list(pool.existing_workers)],
        close=lambda: pool.shutdown(wait=False, cancel_futures=True),
    )


class Echo:
    """A forked child that sends a mebibyte back: what the kernel takes for it, without any pool."""

    def __init__(self) -> None:
        import socket

        self._socket, theirs = socket.socketpair()
        self._buffer = bytearray(MEBIBYTE)
        self.pid = os.fork()
        if not self.pid:
            self._socket.close()
            while self._receive(theirs):
                theirs.sendall(self._buffer)
            os._exit(0)
        theirs.close()

    def _receive(self, source: Any) -> bool:
        view, got = memoryview(self._buffer), 0
        while got < MEBIBYTE:
            read = source.recv_into(view[got:])
            if not read:
                return False
            got += read
        return True

    def submit(self, _function: Callable[..., Any], data: bytes) -> Echo:
        self._socket.sendall(data)
        return self

    def result(self) -> bytearray:
        self._receive(self._socket)
        return self._buffer

    def close(self) -> None:
        self._socket.close()
        os.waitpid(self.pid, 0)


def raw_socketpair() -> Contender:
    echo = Echo()
    return Contender(submit=echo.submit, close=echo.close)


MAKERS: dict[str, Callable[..., Contender]] = {
    "ours": ours,
    "multiprocessing.Pool": multiprocessing_pool,
    "ProcessPoolExecutor": process_pool_executor,
    "pebble": pebble,
    "deadpool": deadpool,
    "raw socketpair": raw_socketpair,
}


class Bench:
    """The measurements, on a pool that is made when the first one asks for it."""

    def __init__(self, name: str, options: dict[str, Any], folder: str) -> None:
        self._make = lambda: MAKERS[name](**options)
        self._pool: Contender | None = None
        self._told = Told(folder)
        self._gate = str(Path(folder) / "gate")
        os.mkfifo(self._gate)

    @property
    def pool(self) -> Contender:
        if self._pool is None:
            self._pool = self._make()
        return self._pool

    def close(self) -> None:
        if self._pool is not None:
            self._pool.close()

    def one_by_one(self, count: int) -> float:
        """Submit so many tasks, then take so many results; return tasks a second."""
        submit, result = self.pool.submit, self.pool.result
        start = time.perf_counter()
        futures = [submit(no_op, number) for number in range(count)]
        values = [getattr(future, result)() for future in futures]
        took = time.perf_counter() - start
        assert values == list(range(count))
        return count / took

    def map_chunks(self, count: int, chunk: int) -> float:
        """Map over so many items; return items a second."""
        assert self.pool.map is not None
        start = time.perf_counter()
        values = list(self.pool.map(no_op, range(count), chunk))
        took = time.perf_counter() - start
        assert values == list(range(count))
        return count / took

    def round_trip(self, count: int, size: int = 0) -> float:
        """Send one task at a time, with a payload there and back; return the median in microseconds."""
        submit, result = self.pool.submit, self.pool.result
        value: object = bytes(size) if size else None
        times = []
        for _ in range(count):
            start = time.perf_counter_ns()
            back = getattr(submit(no_op, value), result)()
            times.append(time.perf_counter_ns() - start)
        assert back == value
        return statistics.median(times) / 1e3

    def first_result(self) -> float:
        """Make a pool and take its first result; return milliseconds."""
        start = time.perf_counter()
        pool = self._make()
        value = getattr(pool.submit(no_op, 1), pool.result)()
        took = time.perf_counter() - start
        pool.close()
        assert value == 1
        return took * 1e3

    def kill(self) -> tuple[float, float]:
        """Kill a busy worker; return milliseconds to the caller's error, and to all workers at work again."""
        victim = self.pool.submit(hold, self._told.path)
        (pid,) = self._told.expect(1)
        start = time.perf_counter()
        os.kill(pid, signal.SIGKILL)
        error = victim.exception(timeout=HUNG)
        failed = time.perf_counter() - start
        assert error is not None
        guests = [self.pool.submit(meet, self._told.path, self._gate) for _ in range(WORKERS)]
        pids = self._told.expect(WORKERS)
        restored = time.perf_counter() - start
        assert len(set(pids)) == WORKERS
        assert pid not in pids
        opened = os.open(self._gate, os.O_WRONLY)
        for guest in guests:
            guest.result(timeout=HUNG)
        os.close(opened)
        return failed * 1e3, restored * 1e3

    def storm(self, tasks: int, kills: int, every: int, window: int, seed: int) -> dict[str, float]:
        """Kill workers at random while tasks run; return what became of each task, and the seconds it took."""
        self.round_trip(20)
        storm = Storm(self.pool, self._told, kills, every, random.Random(seed))
        return storm.run(tasks, window)


class Storm:
    """A caller that keeps a window of tasks in flight and kills a worker per so many completions."""

    def __init__(self, pool: Contender, told: Told, kills: int, every: int, dice: random.Random) -> None:
        assert pool.pids is not None
        self._pool, self._pids, self._told = pool, pool.pids, told
        self._most, self._every, self._dice = kills, every, dice
        self._killed: set[int] = set()
        self._done: queue.SimpleQueue[Any] = queue.SimpleQueue()
        self._waiting: dict[Any, int] = {}
        self._outcomes: Counter[str] = Counter()

    def _submit(self, number: int) -> None:
        future = self._pool.submit(brief_work, self._told.path, number)
        self._waiting[future] = number
        future.add_done_callback(self._done.put)

    def _collect(self, future: Any) -> None:
        number = self._waiting.pop(future)
        error = future.exception()
        if error is not None:
            self._outcomes["error"] += 1
            self._outcomes[f"error {type(error).__name__}"] += 1
        else:
            self._outcomes["ok" if future.result() == number else "wrong"] += 1

    def _kill(self) -> None:
        """Kill one of the workers that the library lists, if any is left that was not killed before."""
        candidates = sorted(set(self._pids()) - self._killed)
        if candidates:
            pid = self._dice.choice(candidates)
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                pass
            self._killed.add(pid)

    def run(self, tasks: int, window: int) -> dict[str, float]:
        start = time.perf_counter()
        submitted = finished = 0
        while finished < tasks:
            while submitted < tasks and len(self._waiting) < window:
                self._submit(submitted)
                submitted += 1
            try:
                self._collect(self._done.get(timeout=HUNG))
            except queue.Empty:
                break
            finished += 1
            if len(self._killed) < min(self._most, finished // self._every):
                self._kill()
        took = time.perf_counter() - start
        self._told.drain()
        runs = Counter(number for number, _ in self._told.records)
        return {
            **self._outcomes,
            "ok": self._outcomes["ok"],
            "error": self._outcomes["error"],
            "hung": len(self._waiting),
            "lost": tasks - finished - len(self._waiting),
            "twice": sum(count > 1 for count in runs.values()),
            "kills": len(self._killed),
            "seconds": took,
        }


def main() -> None:
    name, options = sys.argv[1], json.loads(sys.argv[2])
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)  # what a worker prints is no answer
    with tempfile.TemporaryDirectory() as folder:
        bench = Bench(name, options, folder)
        for line in sys.stdin:
            request = json.loads(line)
            measure = getattr(bench, request.pop("figure"))
            gc.collect()
            gc.disable()
            answer = measure(**request)
            gc.enable()
            print(json.dumps(answer), file=answers)
        bench.close()


if __name__ == "__main__":
    main()
