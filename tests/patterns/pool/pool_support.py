"""Tasks that workers of every start method can import, doors to hold them at, and waiting for evidence.

Nothing here sleeps for a time that a test relies on: a task that has to be held stands before a `Gate`, and a
test looks for evidence until a deadline.  The deadlines are far beyond what a healthy pool needs.
"""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import faulthandler
import logging
import os
import resource
import signal
import socket
import subprocess
import sys
import textwrap
import threading
import time
import uuid
from collections import Counter
from pathlib import Path

import psutil

from pytest_prodpatterns.patterns.pool._ledger import WINDOW_LIMIT

METHODS = ("fork", "forkserver", "spawn")
REPEAT = int(os.environ.get("POOL_REPEAT", "2"))
"""How often each kill of the matrix is repeated; 50 before a release."""

SECONDS = 10.0
"""How long evidence may take before the test fails: a hang, not slowness."""
SLACK = 0.5
"""How much later than its deadline a call may return."""
LONG = 60.0
"""How long a held task waits at most when nobody comes."""
MEGABYTE = 1_000_000


# --- in the test -------------------------------------------------------------------------------------------


def soon(condition, what="", seconds=SECONDS):
    """Wait until the condition holds, and return what it returned."""
    end = time.monotonic() + seconds
    while True:
        seen = condition()
        if seen:
            return seen
        assert time.monotonic() < end, f"waited {seconds} s in vain: {what or condition}"
        time.sleep(0.002)


def bounded(function, *args, seconds=SECONDS, **kwargs):
    """Call the function in a thread, so that a hang fails the test instead of stopping it."""
    outcome = []

    def call():
        try:
            outcome.append((function(*args, **kwargs), None))
        except BaseException as error:
            outcome.append((None, error))

    thread = threading.Thread(target=call, name="bounded", daemon=True)
    thread.start()
    thread.join(seconds)
    assert outcome, f"{getattr(function, '__name__', function)} has not returned after {seconds} s"
    thread.join(seconds)
    value, error = outcome[0]
    if error is not None:
        raise error
    return value


def timed(function, *args, **kwargs):
    """Return what the function returned, and how many seconds it took."""
    begin = time.monotonic()
    value = bounded(function, *args, **kwargs)
    return value, time.monotonic() - begin


def run(coroutine, seconds=30.0):
    """Run on a loop of its own, bounded, that is nobody's current loop before or afterwards."""
    loop = asyncio.new_event_loop()
    try:
        return loop.run_until_complete(asyncio.wait_for(coroutine, seconds))
    finally:
        loop.run_until_complete(loop.shutdown_asyncgens())
        loop.run_until_complete(loop.shutdown_default_executor())
        loop.close()


def status(pid):
    """The letter of a process: R, S, T (stopped), Z; X when it is gone."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return "X"


def alive(pid):
    return status(pid) not in "XZ"


def gone(*pids, seconds=SECONDS):
    soon(lambda: not any(map(alive, pids)), f"{pids} should have ended", seconds)


def ready(pool):
    """Pids of the workers that can work."""
    return [worker.pid for worker in pool.workers() if worker.state in ("idle", "busy") and alive(worker.pid)]


def idle(pool):
    return [worker.pid for worker in pool.workers() if worker.state == "idle" and alive(worker.pid)]


def at_full_strength(pool, seconds=SECONDS):
    soon(lambda: len(ready(pool)) == pool.num_workers, "the pool should be at full strength", seconds)
    return ready(pool)


def all_idle(pool):
    """Wait until each worker is there and has nothing to do; return their pids."""
    soon(lambda: len(idle(pool)) == pool.num_workers, "all workers should be idle")
    return idle(pool)


def busy(pool, gate, count=None, **kwargs):
    """Hold so many workers (all of them by default) at the gate; return the futures of their tasks."""
    count = pool.num_workers if count is None else count
    before = len(gate.entered)
    futures = [pool.submit(hold, gate, f"held {number}", **kwargs) for number in range(count)]
    gate.await_entered(before + count)
    return futures


def hand_out(pool):
    """Lay what waits behind the tasks that run, as the next answer does when tasks are short."""
    books = pool._engine._books
    with books.lock:
        for desk in books.ledger.desks:
            desk.window = WINDOW_LIMIT
            books.ledger.offer(desk)
        books.dispatch()


@contextlib.contextmanager
def supervisor_kept(pool, gate):
    """Keep the supervisor in the callback of a task, so that it reads no answer; the gate is that task's own."""
    inside, go = threading.Event(), threading.Event()

    def keep(_):
        inside.set()
        go.wait(LONG)

    pool.submit(hold, gate).add_done_callback(keep)
    gate.open()
    assert inside.wait(SECONDS)
    try:
        yield
    finally:
        go.set()


def kill(pid, sign=signal.SIGKILL):
    os.kill(pid, sign)


def stop(pid):
    """Stop a process and wait until it stands."""
    os.kill(pid, signal.SIGSTOP)
    soon(lambda: status(pid) == "T", f"{pid} should have stopped")


class Gate:
    """A door: who comes writes down a word and its pid, and goes on when the door is open."""

    def __init__(self, folder):
        self.folder = str(folder)

    def pass_through(self, word):
        note(self.folder + "/entered", word)
        door, end = Path(self.folder, "open"), time.monotonic() + LONG
        while not door.exists():
            if time.monotonic() > end:
                raise TimeoutError("nobody opened the gate")
            time.sleep(0.002)

    def open(self):
        Path(self.folder, "open").touch()

    @property
    def entered(self):
        """All that came, in order, as (word, pid)."""
        return notes(self.folder + "/entered")

    def await_entered(self, count=1):
        return soon(lambda: len(self.entered) >= count and self.entered, f"{count} tasks should have begun")

    def pid_of(self, word):
        return next(pid for entered, pid in reversed(self.entered) if entered == word)


def notes(path):
    """What tasks noted in a file, in order, as (word, pid)."""
    try:
        lines = Path(path).read_text().splitlines()
    except FileNotFoundError:
        return []
    return [(word, int(pid)) for pid, word in (line.split(" ", 1) for line in lines)]


def children():
    """All processes that this one started and has not reaped yet."""
    # Not /proc/self/task/*/children: the children of a thread that ends just then are in none of these files.
    return sorted(child.pid for child in psutil.Process().children())


def descriptors():
    """How many descriptors of each kind are open."""
    found = Counter()
    for descriptor in Path("/proc/self/fd").iterdir():
        try:
            target = str(descriptor.readlink())
        except FileNotFoundError:
            continue
        found[target.split("[")[0] if not target.startswith("/") else target] += 1
    found.pop(f"/proc/{os.getpid()}/fd", None)
    return found


class Script:
    """A program of its own with a pool in it; everything that it started can be told by a mark in its environment."""

    def __init__(self, folder, body, *arguments, interpreter=()):
        self.mark = f"POOL_MARK={uuid.uuid4().hex}"
        path = Path(folder, f"script_{uuid.uuid4().hex}.py")
        path.write_text(PRELUDE + textwrap.indent(textwrap.dedent(body), "    ") + POSTLUDE)
        self.errors = path.with_suffix(".err")
        name, _, value = self.mark.partition("=")
        search = os.pathsep.join([str(Path(__file__).parent), os.environ.get("PYTHONPATH", "")])
        with self.errors.open("wb") as errors:
            self.process = subprocess.Popen(
                [sys.executable, *interpreter, str(path), *map(str, arguments)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,
                text=True,
                env={**os.environ, name: value, "PYTHONPATH": search},
                start_new_session=True,
            )
        self.pid = self.process.pid

    def line(self):
        """The next line that the program prints."""
        line = bounded(self.process.stdout.readline)
        assert line, f"the program ended early:\n{self.told()}"
        return line.strip()

    def say(self, line="go"):
        self.process.stdin.write(line + "\n")
        self.process.stdin.flush()

    def told(self):
        """What it wrote to its standard error."""
        return self.errors.read_text()

    def wait(self, seconds=SECONDS):
        """Its exit code."""
        return self.process.wait(seconds)

    def family(self):
        """Pids of all living processes that carry the mark."""
        found = []
        for entry in Path("/proc").glob("[1-9]*"):
            try:
                marked = self.mark.encode() in (entry / "environ").read_bytes().split(b"\0")
            except OSError:
                continue
            if marked and alive(int(entry.name)):
                found.append(int(entry.name))
        return found

    def kill(self, sign=signal.SIGKILL):
        os.kill(self.pid, sign)

    def close(self):
        for pid in self.family():
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                continue
        self.process.kill()
        self.process.communicate()


PRELUDE = """\
import asyncio, os, signal, sys, threading, time
from concurrent.futures import wait
from pool_support import *
from pytest_prodpatterns.patterns.pool import PoolClosed, WorkerPool

def say(*words):
    print(*words, flush=True)

def main(arguments):
"""
POSTLUDE = """
if __name__ == "__main__":
    main(sys.argv[1:])
"""


# --- in the worker -----------------------------------------------------------------------------------------


def note(path, word, value=None):
    """Write down that this ran, and where; return the value."""
    descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    try:
        os.write(descriptor, f"{os.getpid()} {word}\n".encode())
    finally:
        os.close(descriptor)
    return value


def echo(value=None):
    return value


def double(number):
    return 2 * number


def everything(*args, **kwargs):
    return args, kwargs


def tell_pid():
    return os.getpid()


def tell_main_thread():
    return threading.current_thread() is threading.main_thread()


def hold(gate, word="held", *, immune=False):
    """Stay until the gate opens; `immune` to SIGTERM when told so."""
    if immune:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    gate.pass_through(word)
    return word


def spin(gate, word="spinning"):
    """Ignore SIGTERM and use all the time there is."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    note(gate.folder + "/entered", word)
    end = time.monotonic() + LONG
    while time.monotonic() < end:
        pass


def work(seconds, value=None):
    """Take some time, as work does."""
    time.sleep(seconds)
    return value


def fail(error):
    raise error


def boom():
    raise ValueError("boom")


def die(code=1):
    os._exit(code)


def die_by(sign):
    os.kill(os.getpid(), sign)
    time.sleep(LONG)


def without_core():
    faulthandler.disable()
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def segfault():
    without_core()
    ctypes.string_at(0)


def abort():
    without_core()
    os.abort()


def die_at_first(times, path, value=None):
    """End the process in the first so many attempts; then return the value."""
    note(path, "attempt")
    if len(notes(path)) <= times:
        os.kill(os.getpid(), signal.SIGKILL)
    return value


def sum_of(data):
    return len(data), sum(memoryview(data).cast("B")[:1000]), type(data).__name__


def large(size):
    return bytes(size)


def start_process(gate, word="parent"):
    """Start a process that outlives this one unless somebody looks after it; say its pid; then hold."""
    process = subprocess.Popen(["sleep", str(LONG)], stdin=subprocess.DEVNULL)
    note(gate.folder + "/grandchild", str(process.pid))
    gate.pass_through(word)


def fork_process(gate, word="parent"):
    """Fork a process that inherits every descriptor that can be inherited; say its pid; then hold."""
    pid = os.fork()
    if not pid:
        time.sleep(LONG)
        os._exit(0)
    note(gate.folder + "/grandchild", str(pid))
    gate.pass_through(word)


def use_pool():
    """Run a pool inside the worker."""
    from pytest_prodpatterns.patterns.pool import WorkerPool

    with WorkerPool(1, 10) as pool:
        return os.getpid(), pool.submit(os.getpid).result(SECONDS)


def use_process():
    """Run a program inside the worker."""
    return subprocess.run(
        [sys.executable, "-c", "print(6 * 7)"], capture_output=True, text=True, check=True
    ).stdout


def write_stdout(text):
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()
    os.write(1, f"{text}\n".encode())
    return "written"


def keep(megabytes, store=[]):  # noqa: B006
    """Take memory and keep it; return how much the process had before."""
    before = resident()
    store.append(bytearray(os.urandom(1000) * (megabytes * 1000)))
    return before, os.getpid()


def resident():
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()


STATE = {}


def initialize(path=None, value=None):
    STATE["value"] = value
    if path is not None:
        note(path, "initialized")


def tell_state():
    return STATE.get("value"), os.getpid()


def fail_to_initialize(path):
    note(path, "tried")
    raise RuntimeError("no database today")


def fail_to_initialize_at_first(times, path):
    note(path, "tried")
    if len(notes(path)) <= times:
        raise RuntimeError("not yet")


def die_while_initializing(path):
    note(path, "tried")
    os._exit(7)


def hang_while_initializing(gate):
    gate.pass_through("initializing")


# --- values that are hard to carry -------------------------------------------------------------------------


class Lazy:
    """Arrives as what the function returns that is called where it is loaded."""

    def __init__(self, function, *args):
        self.function, self.args = function, args

    def __reduce__(self):
        return self.function, self.args


def load_behind(gate, word):
    gate.pass_through(word)
    return word


class SlowToPickle:
    """Its pickling, in the worker, takes until the gate is open."""

    def __init__(self, gate, word):
        self.gate, self.word = gate, word

    def __reduce__(self):
        self.gate.pass_through(self.word)
        return str, (self.word,)


def return_slow(gate, word):
    return SlowToPickle(gate, word)


SOCKET_WRITES = {"1", "20", "44", "46"}  # write, writev, sendto, sendmsg on x86-64


class Killer:
    """Bytes whose worker is killed while it writes them: a thread looks what the main thread does.

    The sockets get the smallest buffers there are, so that the writer waits for its reader again and again.
    """

    def __init__(self, size, skip):
        self.size, self.skip = size, skip

    def __reduce__(self):
        for descriptor in Path("/proc/self/fd").iterdir():
            with contextlib.suppress(OSError):
                if str(descriptor.readlink()).startswith("socket:"):
                    with socket.socket(fileno=os.dup(int(descriptor.name))) as channel:
                        channel.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
        threading.Thread(target=self._kill, daemon=True).start()
        return bytes, (bytes(self.size),)

    def _kill(self):
        doing, end, seen = Path(f"/proc/self/task/{os.getpid()}/syscall"), time.monotonic() + 1.0, 0
        while time.monotonic() < end and seen <= self.skip:
            seen += doing.read_text().split(" ", 1)[0] in SOCKET_WRITES
        os.kill(os.getpid(), signal.SIGKILL)


def return_and_die_writing(size, skip):
    return Killer(size, skip)


class WithLock:
    def __init__(self):
        self.lock = threading.Lock()


def return_lock():
    return threading.Lock()


def return_lambda():
    return lambda: None


def return_deep(depth=100_000):
    found = []
    for _ in range(depth):
        found = [found]
    return found


class Evil:
    """Its unpickling, in the caller, raises."""

    def __init__(self, error):
        self.error = error

    def __reduce__(self):
        return fail, (self.error,)


def return_evil(error):
    return Evil(error)


class FailsToPickle:
    def __init__(self, error):
        self.error = error

    def __reduce__(self):
        raise self.error


def return_that_fails_to_pickle(error):
    return FailsToPickle(error)


def return_bad_reduce():
    return BadReduce()


class TwoArguments(Exception):
    def __init__(self, code, reason):
        super().__init__(f"{code}: {reason}")
        self.code, self.reason = code, reason


class KeywordOnly(Exception):
    def __init__(self, *, code):
        super().__init__(code)
        self.code = code


class HoldsLock(Exception):
    def __init__(self, text):
        super().__init__(text)
        self.lock = threading.Lock()


class BadStr(Exception):
    def __str__(self):
        raise RuntimeError("no text")

    __repr__ = __str__


class BadReduce(Exception):
    def __reduce__(self):
        raise RuntimeError("no pickle")


def raise_by_name(name, *args, **kwargs):
    raise globals()[name](*args, **kwargs)


def raise_local():
    class Local(Exception):
        pass

    raise Local("from a function")


def raise_chain():
    try:
        boom()
    except ValueError as error:
        raise KeyError("outer") from error


def raise_group():
    raise ExceptionGroup("two at once", [ValueError("one"), TypeError("two")])


def raise_noted():
    error = ValueError("plain")
    error.add_note("look here")
    raise error


class Accumulator:
    """A callable object, and one with a method."""

    def __init__(self, base):
        self.base = base

    def __call__(self, number):
        return self.base + number

    def add(self, number):
        return self.base + number


def chatter(seconds):
    """Log all the time."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        logging.getLogger("chatter").warning("still at it")
        time.sleep(0.005)


def split():
    """Return twice: in the worker, and in a child of it."""
    return os.fork()
