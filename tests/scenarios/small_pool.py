"""A small worker pool that keeps every promise, and can be told to break each of them.

It shares no code with ours: that it holds all scenarios shows that they can be held, and each flaw shows that a
scenario can fail.  A thread keeps each worker: it takes a task, sends it, and reads the answer or the end of the
line.  Only what the scenarios need is here, and nothing is fast.
"""

from __future__ import annotations

import collections
import concurrent.futures
import contextlib
import os
import pickle
import queue
import select
import signal
import socket
import struct
import threading
import time
import traceback

from pytest_prodpatterns.targets.pool._protocol import ExecutorAdapter, initializer
from pytest_prodpatterns.targets.pool._service import PoolService
from pytest_prodpatterns.targets.pool._target import PoolTarget

BOOT_FAILURES = 3


class Died(RuntimeError):
    """A worker died in the middle of a task."""

    def __init__(self, pid, exitcode):
        super().__init__(f"worker {pid} ended with {exitcode}")
        self.pid, self.exitcode = pid, exitcode


class Mute(RuntimeError):
    """Something happened."""


class Closed(RuntimeError):
    """The pool was shut down."""


class Broken(RuntimeError):
    """The pool cannot work."""


class Full(queue.Full):
    """There is no place."""


class Remote(RuntimeError):
    """An error of a worker that could not come as it was."""


class Ended(Exception):
    """The other end of the line is closed."""


class Line:
    """Messages over a socket; the parent's end can be told to give up."""

    def __init__(self, sock):
        self.sock = sock

    def send(self, data):
        try:
            self.sock.sendall(struct.pack("!Q", len(data)) + data)
        except OSError as error:
            raise Ended from error

    def receive(self):
        (size,) = struct.unpack("!Q", self._exactly(8))
        return self._exactly(size)

    def _exactly(self, size):
        parts = []
        while size:
            try:
                part = self.sock.recv(min(size, 1 << 20))
            except OSError as error:
                raise Ended from error
            if not part:
                raise Ended
            parts.append(part)
            size -= len(part)
        return b"".join(parts)


class Task:
    def __init__(self, data):
        self.data = data
        self.future = concurrent.futures.Future()
        self.deaths = []
        self.keeper = None


class SmallPool(concurrent.futures.Executor):
    def __init__(self, settings, flaw="", *, initializer=None, initargs=()):
        self.settings = settings
        self.flaw = flaw
        self.initializer = (initializer, initargs)
        self.changed = threading.Condition()
        self.tasks = collections.deque()
        self.pending = 0
        self.boot_failures = 0
        self.broken = None
        self.submitted = 0
        self.closing = False
        self.forced = False
        self.processes = set()
        self.answers = queue.SimpleQueue()
        self.keepers = [
            threading.Thread(target=self._keep, args=(i,), daemon=True) for i in range(settings.workers)
        ]
        for keeper in self.keepers:
            keeper.start()

    # -- callers -------------------------------------------------------------------------------------------

    def submit(self, fn, /, *args):
        call = (fn, args)
        task = Task(call if self.flaw == "pickles-late" else pickle.dumps(call))
        with self.changed:
            self._refuse()
            if self.flaw == "runs-rejected" and self._full():
                self.tasks.append(task)
            self._wait_for_place()
            self._refuse()
            self.pending += 1
            self.submitted += 1
            task.keeper = self.submitted % self.settings.workers if self.flaw == "strands" else None
            self.tasks.append(task)
            self.changed.notify_all()
        return task.future

    def _refuse(self):
        if self.closing:
            raise Closed("the pool is shut down")
        if self.broken is not None:
            raise Broken(str(self.broken)) from self.broken

    def _full(self):
        size = self.settings.queue_size
        if size is None or self.flaw == "unbounded":
            return False
        return self.pending >= size + self.settings.workers - (3 if self.flaw == "rejects-early" else 0)

    def _wait_for_place(self):
        if not self._full():
            return
        if self.settings.when_full == "reject" or self.flaw == "gives-up-at-once":
            raise Full("the queue is full")

        def let_in():
            if self.flaw == "forgets-those-who-wait":
                return not self._full() and not self.closing
            return not self._full() or self.closing

        seconds = None if self.flaw == "waits-for-ever" else self.settings.queue_timeout
        if not self.changed.wait_for(let_in, seconds):
            raise Full("the queue stayed full")

    def shutdown(self, wait=True, *, cancel_futures=False, deadline=None):
        with self.changed:
            self.closing = True
            if cancel_futures or self.flaw == "drops-results":
                for task in self.tasks:
                    if self.flaw != "drops-silently":
                        task.future.cancel()
                self.pending -= len(self.tasks)
                self.tasks.clear()
            self.changed.notify_all()
        if self.flaw == "drops-results":
            deadline = 0.0
        until = None if deadline is None or self.flaw == "patient" else time.monotonic() + deadline
        if wait:
            for keeper in self.keepers:
                keeper.join(None if until is None else max(0.0, until - time.monotonic()))
            self.forced = True
            for pid in list(self.processes):
                self._strike(pid, signal.SIGTERM if self.flaw == "polite" else signal.SIGKILL)
            for keeper in self.keepers:
                keeper.join()

    @contextlib.contextmanager
    def drained_on_sigterm(self):
        def drain(number, frame):
            self.shutdown(cancel_futures=self.flaw == "drains-nothing")
            signal.signal(signal.SIGTERM, signal.SIG_DFL)
            os.kill(os.getpid(), signal.SIGTERM)

        signal.signal(signal.SIGTERM, drain)
        yield

    # -- keepers -------------------------------------------------------------------------------------------

    def _keep(self, index):
        worker = None
        while (task := self._take(index)) is not None:
            try:
                worker = self._serve(task, worker)
            except Exception as error:  # a keeper that dies of a bug leaves its task unanswered
                if self.flaw not in {"pickles-late", "unpickles-in-the-keeper"}:
                    self._finish(task, error=error)
            if worker is None and self.flaw == "shrinks":
                return
        if worker is not None:
            worker.close()

    def _take(self, index):
        def mine():
            return next((task for task in self.tasks if task.keeper in {None, index}), None)

        with self.changed:
            self.changed.wait_for(lambda: self.closing or mine())
            if (task := mine()) is not None:
                self.tasks.remove(task)
            return task

    def _serve(self, task, worker):
        """Run a task; return the worker, or None when it died."""
        while True:
            if worker is not None and select.select([worker.line.sock], [], [], 0)[0]:  # it died while idle
                worker.close()
                worker = None
                if self.flaw == "forgets-after-idling":
                    return None
            if worker is None and (worker := self._boot()) is None:
                self._finish(task, error=self.broken or Closed("the pool was shut down"))
                return None
            try:
                data = pickle.dumps(task.data) if self.flaw == "pickles-late" else task.data
                worker.line.send(data)
                self._answer(task, self._receive(worker, task))
                return worker
            except Ended:
                code = worker.close()
                if worker.late:
                    self._finish(task, error=TimeoutError("the task took too long"))
                    return None
                if not self._again(task, Died(worker.pid, code)):
                    return None
                worker = None

    def _receive(self, worker, task):
        limit = None if self.flaw == "waits-for-the-end" else self.settings.task_timeout
        if limit is not None and not select.select([worker.line.sock], [], [], limit)[0]:
            if self.flaw == "only-stops-waiting":
                self._finish(task, error=TimeoutError("the task took too long"))
            else:
                worker.late = True
                self._strike(worker.pid, signal.SIGTERM if self.flaw == "polite" else signal.SIGKILL)
        try:
            return worker.line.receive()
        except Ended:
            if self.flaw == "waits-for-the-rest":
                threading.Event().wait()
            raise

    def _again(self, task, death):
        """After the death of its worker: whether to run the task again."""
        task.deaths.append(death)
        if self.forced:
            self._finish(task, error=Closed("cut off by shutdown"))
        elif self.flaw in {"forgets", "catches-only-exceptions"}:
            with self.changed:
                self.pending -= 1
        elif self.flaw == "breaks":
            self._break(death)
            self._finish(task, error=death)
        elif len(task.deaths) <= self.settings.retries or self.flaw in {"never-gives-up", "runs-twice"}:
            return len(task.deaths) < 30
        else:
            self._finish(task, error=Mute() if self.flaw == "mute" else death)
        return False

    def _break(self, error):
        with self.changed:
            self.broken = error
            tasks = list(self.tasks)
            self.tasks.clear()
        for task in tasks:
            self._finish(task, error=Broken(str(error)))

    def _answer(self, task, data):
        try:
            kind, value = pickle.loads(data)
        except Exception as error:
            if self.flaw == "unpickles-in-the-keeper":
                raise
            kind, value = "error", Remote(str(error))
        if self.flaw == "mixes":
            with contextlib.suppress(queue.Empty):
                self.answers.put(value)
                value = self.answers.get_nowait() if self.answers.qsize() > 1 else value
        self._finish(task, **{kind: value})

    def _finish(self, task, **answer):
        with self.changed:
            self.pending -= 1
            self.changed.notify_all()
        with contextlib.suppress(concurrent.futures.InvalidStateError):
            if "error" in answer:
                task.future.set_exception(answer["error"])
            else:
                task.future.set_result(answer["value"])

    # -- workers -------------------------------------------------------------------------------------------

    def _boot(self):
        while not self.forced and self.broken is None:
            worker = Worker(self)
            try:
                if (told := worker.line.receive()) == b"ready":
                    self.boot_failures = 0
                    return worker
                worker.close()
                self.boot_failures += 1
                failure = pickle.loads(told)
            except Ended:
                worker.close()
                continue
            if self.flaw == "ignores-what-was-raised":
                failure = Mute()
            if self.boot_failures >= BOOT_FAILURES and self.flaw != "starts-for-ever":
                self._break(failure)
                if self.flaw == "answers-and-goes-on":
                    threading.Thread(target=self._go_on, daemon=True).start()
        return None

    def _go_on(self):
        for _ in range(30):
            worker = Worker(self)
            worker.line.receive()
            worker.close()

    def _strike(self, pid, number):
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, number)


class Worker:
    """One process, seen from its keeper."""

    def __init__(self, pool):
        self.late = False
        self.pool = pool
        ours, theirs = socket.socketpair()
        self.pid = os.fork()
        if not self.pid:
            os._exit(work(theirs.fileno(), pool.flaw, *pool.initializer))
        theirs.close()
        self.line = Line(ours)
        pool.processes.add(self.pid)

    def close(self):
        """Hang up; return how it ended."""
        self.line.sock.close()
        _, status = os.waitpid(self.pid, 0)
        self.pool.processes.discard(self.pid)
        return os.waitstatus_to_exitcode(status)


def work(descriptor, flaw, prepare, initargs):
    """Be a worker."""
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, signal.SIG_DFL)
    os.dup2(descriptor, 3)
    os.closerange(4, 4096)
    line = Line(socket.socket(fileno=3))
    try:
        if prepare is not None:
            prepare(*initargs)
    except Exception as error:
        line.send(pickle.dumps(error))
        return 1
    line.send(b"ready")
    requests = queue.SimpleQueue()
    threading.Thread(target=read, args=(line, requests, flaw), daemon=True).start()
    while (data := requests.get()) is not None:
        answer = perform(data, flaw)
        if answer is not None:
            line.send(answer)
    return 0


def read(line, requests, flaw):
    """Hand over what comes; the end of the line is the end of the parent."""
    try:
        while True:
            requests.put(line.receive())
    except Ended:
        if flaw != "outlives-its-parent":
            os._exit(0)


def perform(data, flaw):
    """Run a task and pack its answer, whatever it is."""
    try:
        fn, args = pickle.loads(data)
        answer = ("value", fn(*args))
    except BaseException as error:
        if flaw == "catches-only-exceptions" and not isinstance(error, Exception):
            os._exit(1)
        return packed_error(error, flaw)
    try:
        return pickle.dumps(answer)
    except Exception as error:
        return None if flaw == "swallows" else pickle.dumps(("error", error))


def packed_error(error, flaw):
    told = Remote("".join(traceback.format_exception(error)))
    if not isinstance(error, Exception):
        return pickle.dumps(("error", told))
    try:
        data = pickle.dumps(("error", error))
        if flaw != "unpickles-in-the-keeper":
            pickle.loads(data)
    except Exception as failure:
        return None if flaw == "swallows" else pickle.dumps(("error", failure if flaw == "vague" else told))
    return data


class SmallAdapter(ExecutorAdapter):
    """What the host calls."""

    name = "small"

    def __init__(self, flaw):
        self.flaw = flaw

    def full_errors(self):
        return (Full,)

    def make(self, settings):
        if self.flaw == "refuses-to-be-made":
            raise RuntimeError("no room")
        return SmallPool(settings, self.flaw, **initializer(settings))

    async def run_async(self, pool, fn, *args):
        import asyncio

        if self.flaw == "blocks-the-loop":
            return await asyncio.wrap_future(pool.submit(fn, *args))
        future = await asyncio.get_running_loop().run_in_executor(None, pool.submit, fn, *args)
        return await asyncio.wrap_future(future)

    def shutdown(self, pool, *, wait, cancel, deadline):
        pool.shutdown(wait, cancel_futures=cancel, deadline=deadline)

    def drain(self, pool, deadline):
        return pool.drained_on_sigterm()


class SmallService(PoolService):
    """The service of the host that knows no other pool."""

    def make(self, target, settings, gates):
        from pytest_prodpatterns.targets.pool import _service

        _service.load = lambda target: SmallAdapter(target["flaw"])
        super().make(target, settings, gates)


class SmallTarget(PoolTarget):
    def __init__(self, flaw="", lacks=()):
        super().__init__(
            "small", {"flaw": flaw}, "a small pool", dict.fromkeys(lacks, "too small"), version="1"
        )


SERVICE = f"{__name__}:SmallService"
"""What a host of small pools loads."""
