"""Servers that misbehave, each in exactly one way: `python bad_servers.py MODE PORT` (or the path of a socket).

Theory of operation.  `Good` does all of it right, in threads, of the standard library's quickest parts: the main
thread accepts and hears signals in one place (`wait`), each connection has a thread.  A mode is a subclass that
spoils one step of it, and its name is that of the class in small letters with hyphens.  What came in flight ends in
`cut_short`, so most modes are one method.

It says READY when it listens, HANDLER_START when a slow handler begins, LEAVING when it heard the signal and
CLEANUP when it cleans up.  DRAIN, LAME_DUCK, LIMIT and HEADER_TIMEOUT in the environment set what they say.
"""

from __future__ import annotations

import os
import re
import select
import signal
import socket
import struct
import sys
import threading
import time

ONE_MEGABYTE = 1 << 20
LIFE = 20.0
"""Seconds after which whatever a mode leaves behind ends by itself: a test that fails leaves nothing for long."""

YOUTH = 0.25
"""Seconds in which the request of a new connection arrives: until then it is not idle, although nothing is asked."""

SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGQUIT, signal.SIGHUP)
PROBLEM = '{"type": "about:blank", "title": "%s", "status": %d}'
REASONS = {200: "OK", 400: "Bad Request", 404: "Not Found", 405: "Method Not Allowed", 408: "Request Timeout",
           413: "Content Too Large", 431: "Request Header Fields Too Large", 500: "Internal Server Error",
           503: "Service Unavailable"}  # fmt: skip


def say(text):
    write(1, (text + "\n").encode())


def write(fd, data):
    while data:
        data = data[os.write(fd, data) :]


class Forced(Exception):
    """A second signal came."""


class HangUp(Exception):
    """The connection is to be closed."""


class Connection:
    """One client: its socket, what was read and not used, and whether a request of it is being answered."""

    def __init__(self, sock):
        self.sock = sock
        self.rest = b""
        self.busy = False
        self.used = False
        self.born = time.monotonic()

    def more(self, until=None):
        """Read some more; raise HangUp when nothing comes any more."""
        self.sock.settimeout(None if until is None else max(0.001, until - time.monotonic()))
        data = self.sock.recv(1 << 16)
        self.sock.settimeout(30)
        if not data:
            raise HangUp
        self.rest += data

    def close(self, *, reset=False):
        if reset:
            self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.sock.close()

    def linger(self):
        """Close so that what was written arrives, although the client still writes."""
        self.sock.shutdown(socket.SHUT_WR)
        until = time.monotonic() + 1
        while time.monotonic() < until:
            self.rest = b""
            self.more(until)


class Good:
    """All of it right: the others are this one but for one thing."""

    drain = 2.0
    lame_duck = 0.0
    limit = 0
    header_timeout = 1.0

    def __init__(self, where):
        self.where = where
        for name in ("drain", "lame_duck", "limit", "header_timeout"):
            setattr(self, name, float(os.environ.get(name.upper(), getattr(self, name))))
        self.lock = threading.Lock()
        self.connections = set()
        self.signals = 0
        self.ready = True
        self.leaving = False
        self.told = threading.Event()  # streams and websockets say good-bye
        self.cut = threading.Event()  # the drain is over: what is in flight is cut short
        self.listener = None

    # -- the life of it ------------------------------------------------------------------------------------

    def run(self):
        signal.alarm(120)  # whoever started it may be gone
        self.begin()
        self.listener = self.listen()
        self.prepare()
        self.catch()
        self.tell_ready()
        try:
            self.wait(None)
            say("LEAVING")
            self.leave()
        except Forced:
            self.forced()

    def begin(self):
        """Happens before it listens."""

    def prepare(self):
        """Happens when it listens, before there are threads."""

    def listen(self):
        if not self.where.isdigit():
            listener = socket.socket(socket.AF_UNIX)
            listener.bind(self.where)
        else:
            listener = socket.socket()
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.bind(("127.0.0.1", int(self.where)))
        listener.listen(2048)
        listener.setblocking(False)
        return listener

    def catch(self):
        self.awake, self.waker = os.pipe()
        os.set_blocking(self.awake, False)
        os.set_blocking(self.waker, False)
        signal.set_wakeup_fd(self.waker)
        for number in SIGNALS:
            signal.signal(number, lambda *_: None)

    def tell_ready(self):
        say("READY")
        if path := os.environ.get("NOTIFY_SOCKET"):
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as line:
                line.sendto(b"READY=1", "\0" + path[1:] if path.startswith("@") else path)

    def wait(self, seconds, until=lambda: False):
        """Accept until the next signal, the time or `until`; a second signal raises."""
        deadline = None if seconds is None else time.monotonic() + seconds
        while not until():
            poll = select.poll()
            poll.register(self.awake, select.POLLIN)
            if self.accepting():
                poll.register(self.listener, select.POLLIN)
            left = None if deadline is None else deadline - time.monotonic()
            if left is not None and left <= 0:
                return
            for fd, _ in poll.poll(left and left * 1000):
                if fd != self.awake:
                    self.accept()
                    continue
                if came := len(os.read(self.awake, 1 << 16).replace(b"\0", b"")):
                    self.signals += came
                    if self.signals > 1:
                        raise Forced
                    return

    def accepting(self):
        return self.listener is not None

    def accept(self):
        """Take whoever waits; return whether anybody did."""
        try:
            sock = self.listener.accept()[0]
        except BlockingIOError:
            return False
        except OSError:  # no file descriptor left: it gets better or it does not
            time.sleep(0.02)
            return True
        connection = Connection(sock)
        with self.lock:
            self.connections.add(connection)
        threading.Thread(target=self.serve, args=(connection,), daemon=True).start()
        return True

    # -- the end of it -------------------------------------------------------------------------------------

    def leave(self):
        self.leaving = True
        self.flip()
        self.duck()
        self.stop_listening()
        self.dismiss()
        self.finish(self.drained(self.drain))

    def flip(self):
        self.ready = False

    def duck(self):
        self.wait(self.lame_duck)

    def stop_listening(self):
        while self.accept():
            pass
        self.listener.close()
        self.listener = None

    def dismiss(self):
        """Streams are told, idle connections closed; what arrived whole is still answered."""
        self.told.set()
        with self.lock:
            for connection in self.connections:
                if time.monotonic() - connection.born < YOUTH:
                    threading.Timer(YOUTH, self.dismiss_idle, [connection]).start()
                elif not connection.busy:
                    self.dismiss_one(connection)

    def dismiss_idle(self, connection):
        with self.lock:
            if connection in self.connections and not connection.busy:
                self.dismiss_one(connection)

    def dismiss_one(self, connection):
        try:
            connection.sock.shutdown(socket.SHUT_RD)
        except OSError:
            pass

    def drained(self, seconds):
        """Wait for what is in flight; return whether nothing was cut."""
        self.wait(seconds, self.quiet)
        whole = self.quiet()
        if not whole:
            self.cut.set()
            self.wait(1.0, self.quiet)
        return whole

    def quiet(self):
        with self.lock:
            return not self.connections

    def finish(self, whole):
        self.clean_up()
        os._exit(0 if whole else 1)

    def forced(self):
        self.cut.set()
        self.clean_up()
        os._exit(1)

    def clean_up(self):
        say("CLEANUP")

    # -- a connection --------------------------------------------------------------------------------------

    def serve(self, connection):
        try:
            self.converse(connection)
        except (HangUp, OSError):
            pass
        finally:
            connection.close()
            with self.lock:
                self.connections.discard(connection)
            try:
                os.write(self.waker, b"\0")
            except BlockingIOError:  # it is awake
                pass

    def converse(self, connection):
        while True:
            try:
                head = self.head(connection)
            except TimeoutError:
                self.refuse(connection, 408)
            if head is None:
                self.refuse(connection, 431)
            line, _, rest = head.partition(b"\r\n")
            match = re.fullmatch(rb"([A-Z]+) (/[!-~]*) HTTP/1\.[01]", line)
            if match is None:
                self.bad_line(connection, line)
            method, path = (word.decode() for word in match.groups())
            pairs = re.findall(r"(?m)^([^:\s]+):\s*(.*?)\r?$", rest.decode("latin-1"))
            fields = {name.lower(): value for name, value in pairs}
            size = int(fields.get("content-length", 0))
            if size > ONE_MEGABYTE:
                self.refuse(connection, 413)
            until = time.monotonic() + 5
            while len(connection.rest) < size:
                connection.more(until)
            body, connection.rest = connection.rest[:size], connection.rest[size:]
            with self.lock:
                connection.busy = True
            self.route(connection, method, path, fields, body)
            with self.lock:
                connection.busy = False
                if self.leaving or fields.get("connection", "").lower() == "close":
                    return

    def head(self, connection):
        until = time.monotonic() + self.header_timeout if connection.rest else None
        while b"\r\n\r\n" not in connection.rest:
            if len(connection.rest) > 65_536:
                return None
            connection.more(until)
            until = until or time.monotonic() + self.header_timeout
        head, _, connection.rest = connection.rest.partition(b"\r\n\r\n")
        return head

    def bad_line(self, connection, line):
        self.refuse(connection, 400)

    def refuse(self, connection, status, text=None):
        self.answer(connection, status, text or PROBLEM % (REASONS[status], status), close=True)
        connection.linger()
        raise HangUp

    def answer(self, connection, status, text, *, close=False, head=False, more=""):
        kind = "application/problem+json" if status >= 400 else "text/plain"
        fields = f"Content-Type: {kind}\r\nContent-Length: {len(text)}\r\n{more}{self.closing(close)}"
        start = f"HTTP/1.1 {status} {REASONS[status]}\r\n{fields}\r\n"
        connection.sock.sendall((start + ("" if head else text)).encode())

    def closing(self, close):
        return "Connection: close\r\n" if close or self.leaving else ""

    # -- the handlers --------------------------------------------------------------------------------------

    def route(self, connection, method, path, fields, body):
        path, _, query = path.partition("?")
        seconds = float(query.partition("seconds=")[2] or 1)
        if self.limit and path != "/ready" and sum(each.busy for each in list(self.connections)) > self.limit:
            text = PROBLEM % (REASONS[503], 503)
            self.answer(connection, 503, text, more="Retry-After: 1\r\n")
        elif path == "/":
            self.answer(connection, 200, "ok\n", head=method == "HEAD")
        elif path == "/ready":
            self.readiness(connection)
        elif path == "/slow":
            self.slow(connection, seconds)
        elif path == "/stream":
            self.stream(connection, seconds)
        elif path == "/sse":
            self.sse(connection)
        elif path == "/ws" and "sec-websocket-key" in fields:
            self.websocket(connection, fields)
        elif path == "/json":
            self.json(connection, body)
        elif path == "/error":
            self.error(connection)
        else:
            self.answer(connection, 404, PROBLEM % (REASONS[404], 404))

    def readiness(self, connection):
        status = 200 if self.ready else 503
        self.answer(connection, status, "ready\n" if self.ready else PROBLEM % (REASONS[503], 503))

    def slow(self, connection, seconds):
        say("HANDLER_START")
        if self.cut.wait(seconds):
            self.cut_short(connection)
        else:
            self.answer(connection, 200, "done\n")

    def cut_short(self, connection):
        """What a request in flight gets when its time is over."""
        self.answer(connection, 503, PROBLEM % (REASONS[503], 503))

    def begin_stream(self, connection, kind):
        more = f"Content-Type: {kind}\r\nTransfer-Encoding: chunked\r\n{self.closing(close=False)}"
        connection.sock.sendall(f"HTTP/1.1 200 OK\r\n{more}\r\n".encode())

    def chunk(self, connection, text):
        connection.sock.sendall(f"{len(text):x}\r\n{text}\r\n".encode())

    def stream(self, connection, seconds):
        say("HANDLER_START")
        self.begin_stream(connection, "text/plain")
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            self.chunk(connection, "some of it\n")
            if self.cut.wait(0.02):
                self.cut_stream(connection)
                raise HangUp
        self.chunk(connection, "")

    def cut_stream(self, connection):
        """The client must see that the end is missing: the connection is closed."""

    def sse(self, connection):
        say("HANDLER_START")
        self.begin_stream(connection, "text/event-stream")
        while True:
            self.chunk(connection, "data: tick\n\n")
            if self.told.wait(0.02):
                return self.end_sse(connection)

    def end_sse(self, connection):
        self.chunk(connection, "event: bye\ndata: bye\n\n")
        self.chunk(connection, "")

    def websocket(self, connection, fields):
        import base64
        import hashlib

        key = fields["sec-websocket-key"] + "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
        accept = base64.b64encode(hashlib.sha1(key.encode()).digest()).decode()
        connection.sock.sendall(
            b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            + f"Sec-WebSocket-Accept: {accept}\r\n\r\n".encode()
        )
        say("HANDLER_START")
        connection.sock.sendall(b"\x81\x05hello")
        while not self.told.wait(0.02):
            if select.select([connection.sock], [], [], 0)[0]:
                raise HangUp
        self.end_websocket(connection)

    def end_websocket(self, connection):
        connection.sock.sendall(b"\x88\x02" + struct.pack("!H", 1001))
        connection.linger()

    def json(self, connection, body):
        import json

        try:
            json.loads(body)
        except (ValueError, RecursionError):
            self.answer(connection, 400, PROBLEM % (REASONS[400], 400))
        else:
            self.answer(connection, 200, "thanks\n")

    def error(self, connection):
        try:
            raise RuntimeError("the-password-is-hunter2")
        except RuntimeError as error:
            self.answer(connection, 500, self.told_of(error))

    def told_of(self, error):
        return PROBLEM % (REASONS[500], 500)


# -- what is in flight at the signal ---------------------------------------------------------------------------


class Impatient(Good):
    """Cuts what is in flight as good as at once, and otherwise leaves as it should."""

    drain = 0.1


class Eof(Impatient):
    """Closes in flight, exits with 1."""

    def cut_short(self, connection):
        raise HangUp


class ExitsZeroThoughCut(Eof):
    """Closes in flight, and says that all went well."""

    def finish(self, whole):
        super().finish(True)


class Reset(Impatient):
    def cut_short(self, connection):
        connection.close(reset=True)
        raise HangUp

    cut_stream = cut_short


class Truncates(Impatient):
    def cut_short(self, connection):
        connection.sock.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nonly the beginn")
        raise HangUp


class Answers500(Impatient):
    def cut_short(self, connection):
        self.answer(connection, 500, PROBLEM % (REASONS[500], 500))


class StreamsEndHard(Good):
    """Event streams and websockets are closed without a word, in the middle of one."""

    def end_sse(self, connection):
        connection.sock.sendall(b"ff\r\ndata: half of i")
        raise HangUp

    def end_websocket(self, connection):
        raise HangUp


class StreamsGoOn(Good):
    """Event streams and websockets are not told, so they go on to the deadline."""

    drain = 0.5

    def dismiss(self):
        told, self.told = self.told, threading.Event()
        super().dismiss()
        self.told = told

    def sse(self, connection):
        say("HANDLER_START")
        self.begin_stream(connection, "text/event-stream")
        while not self.cut.wait(0.02):
            self.chunk(connection, "data: tick\n\n")
        raise HangUp


class NoCloseHeader(Good):
    """Keep-alive clients are not told that it leaves."""

    lame_duck = 0.3

    def closing(self, close):
        return "Connection: close\r\n" if close else ""


class DropsKept(Good):
    """Takes a request on a connection that it kept, and hangs up without an answer."""

    lame_duck = 0.5

    def route(self, connection, *request):
        if self.leaving and connection.used:
            raise HangUp
        connection.used = True
        super().route(connection, *request)

    def closing(self, close):
        return "Connection: close\r\n" if close else ""


class HoldsIdle(Good):
    """Idle connections keep it until the deadline."""

    drain = 0.8

    def dismiss_one(self, connection):
        pass


# -- the listener and the readiness ----------------------------------------------------------------------------


class IgnoresTerm(Good):
    def catch(self):
        super().catch()
        signal.signal(signal.SIGTERM, signal.SIG_IGN)


class LooksAway(Good):
    """Still a while there after the signal, in one way or another, and does not say that it leaves."""

    lame_duck = 0.6

    def flip(self):
        pass


class AcceptsAndNeverAnswers(LooksAway):
    def route(self, connection, *request):
        if self.leaving:
            with self.lock:
                connection.busy = False
            time.sleep(LIFE)
        super().route(connection, *request)

    def quiet(self):
        with self.lock:
            return not any(connection.busy for connection in self.connections)


class StopsAccepting(LooksAway):
    """The kernel goes on connecting clients to it, and nobody takes them."""

    def accepting(self):
        return super().accepting() and not self.leaving

    def stop_listening(self):
        self.listener.close()
        self.listener = None


class ClosesAtOnce(LooksAway):
    """Refuses at once, and is still there for a while."""

    lame_duck = 0.0

    def finish(self, whole):
        self.wait(0.6)
        super().finish(whole)


class FlipsLate(LooksAway):
    """Readiness says no only when nobody can connect any more; who is connected is served a while."""

    lame_duck = 0.0

    def closing(self, close):
        return "Connection: close\r\n" if close else ""

    def leave(self):
        self.stop_listening()
        self.wait(0.3)
        self.ready = False
        self.wait(0.3)
        super().leave()

    def stop_listening(self):
        if self.listener:
            super().stop_listening()


class NeverFlips(LooksAway):
    """Serves on for a while, and its readiness says yes to the end."""


class LameDuck(Good):
    """As it should be: readiness first, the listener a second later."""

    lame_duck = 1.0


class Rebinds(LooksAway):
    """Closes its listener, and another has the port."""

    def stop_listening(self):
        super().stop_listening()
        self.again = self.listen()

    def drained(self, seconds):
        self.wait(0.4)
        return super().drained(seconds)


# -- the end ---------------------------------------------------------------------------------------------------


class DrainsTwice(Good):
    """Waits its deadline once more."""

    drain = 0.6

    def drained(self, seconds):
        self.wait(seconds, self.quiet)
        return super().drained(seconds)


class Lingers(Good):
    """All is done, and it does not go."""

    def finish(self, whole):
        time.sleep(1.0)
        super().finish(whole)


class NextConnection(Good):
    """The classic: the handler sets a flag, and the loop looks at it when the next client comes."""

    stop = False

    def catch(self):
        super().catch()
        signal.signal(signal.SIGTERM, lambda *_: setattr(self, "stop", True))
        signal.set_wakeup_fd(-1)

    def wait(self, seconds, until=lambda: False):
        if self.stop:
            return super().wait(seconds, until)
        self.listener.setblocking(True)
        while not self.stop:
            self.accept()
        self.listener.setblocking(False)


class ExitsThree(Good):
    """A clean end, and a code that says otherwise."""

    def finish(self, whole):
        self.clean_up()
        os._exit(3)


class DiesOfTerm(Good):
    def catch(self):
        super().catch()
        signal.signal(signal.SIGTERM, signal.SIG_DFL)


class SecondKills(Good):
    """The second signal ends it on the spot, without its cleanup."""

    def leave(self):
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        super().leave()


class SecondIgnored(Good):
    """No number of signals makes it quicker."""

    def leave(self):
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        super().leave()


class NeedsKill(Good):
    """Blocks every signal that can be blocked, SIGABRT too."""

    def catch(self):
        super().catch()
        signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())


class Deadlocks(Good):
    """Stuck in a lock; its stacks say where."""

    def leave(self):
        self.waits_for_ever(threading.Lock())

    def waits_for_ever(self, lock):
        with lock, lock:
            pass


class Stops(Good):
    """Stopped, as by SIGSTOP: cannot even say where it is."""

    def leave(self):
        os.kill(os.getpid(), signal.SIGSTOP)
        super().leave()


class DiesIdle(Good):
    """Ends by itself before anybody asks it to."""

    def tell_ready(self):
        super().tell_ready()
        threading.Timer(0.3, os._exit, [4]).start()


# -- what it prints --------------------------------------------------------------------------------------------


class Floods(Good):
    """A megabyte to standard error: who reads a pipe too late never sees it end."""

    flood = b"one more line of a long farewell\n" * (ONE_MEGABYTE // 33 + 1)

    def leave(self):
        self.leaving = True  # what ends while it writes says `Connection: close` too
        write(2, self.flood)
        super().leave()


class FloodsBinary(Floods):
    flood = bytes(range(256)) * (ONE_MEGABYTE // 256)


class PrintsTraceback(Good):
    def leave(self):
        import traceback

        try:
            raise KeyError("farewell")
        except KeyError:
            write(2, traceback.format_exc().encode())
        super().leave()


class LeaksException(Good):
    def told_of(self, error):
        return repr(error)


class EchoesBadLine(Good):
    def bad_line(self, connection, line):
        self.refuse(connection, 400, "cannot read " + line.decode("ascii", "replace"))


# -- whom it leaves behind -------------------------------------------------------------------------------------


def sleep_on():
    """What an orphan does; it holds nothing of the server but its output."""
    os.closerange(3, 256)
    time.sleep(LIFE)
    os._exit(0)


class Orphan(Good):
    """A child of it lives on, in its session."""

    def prepare(self):
        if os.fork() == 0:
            sleep_on()


class OrphanDaemon(Good):
    """What it left behind has a session of its own, and forked twice to get there."""

    def prepare(self):
        self.daemon()

    def daemon(self):
        if (child := os.fork()) == 0:
            os.setsid()
            if os.fork():
                os._exit(0)
            self.live_on()
        os.waitpid(child, 0)

    def live_on(self):
        sleep_on()


class OrphanUnmarked(OrphanDaemon):
    """The same, another program, and with an environment of its own."""

    def live_on(self):
        os.execve("/bin/sleep", ["sleep", str(LIFE)], {})


class OrphanLate(OrphanDaemon):
    """The same, at the very last."""

    def prepare(self):
        pass

    def finish(self, whole):
        if os.fork() == 0:
            os.setsid()
            if os.fork():
                os._exit(0)
            sleep_on()
        super().finish(whole)


class OrphanListens(OrphanDaemon):
    """What it left behind holds its listening socket, and nobody is there to accept."""

    def live_on(self):
        time.sleep(LIFE)
        os._exit(0)


class Zombies(Good):
    """Does not wait for its children that ended."""

    def prepare(self):
        for _ in range(2):
            if (child := os.fork()) == 0:
                os._exit(0)
            os.waitid(os.P_PID, child, os.WEXITED | os.WNOWAIT)


class Worker(Good):
    """Serves for a parent, and listens to it alone: a signal to the whole group is for the parent."""

    def catch(self):
        super().catch()
        for number in SIGNALS:
            signal.signal(number, signal.SIG_IGN)
        signal.signal(signal.SIGUSR1, lambda *_: None)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGUSR1])

    def tell_ready(self):
        pass

    def clean_up(self):
        pass


class Workers(Good):
    """A parent that listens and children that serve: ended, waited for and replaced as it should be."""

    count = 1

    def run(self):
        signal.alarm(120)
        signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGUSR1])  # until a worker can hear it
        self.listener = self.listen()
        self.catch()
        self.workers = {self.fork() for _ in range(self.count)}
        self.tell_ready()
        while not self.signals:
            for worker in [worker for worker in self.workers if self.ended(worker)]:
                self.workers = self.workers - {worker} | {self.fork()}
            self.wait(0.05)
        self.leave()

    def fork(self):
        if (child := os.fork()) == 0:
            worker = Worker(self.where)
            worker.listen = lambda: self.listener
            worker.run()
        return child

    def accepting(self):
        return False

    def ended(self, worker):
        return os.waitpid(worker, os.WNOHANG)[0] != 0

    def leave(self):
        self.listener.close()
        for worker in self.workers:
            os.kill(worker, signal.SIGUSR1)
        codes = [os.waitpid(worker, 0)[1] for worker in self.workers]
        self.finish(not any(codes))


class KillsWorker(Workers):
    """Kills its worker in the middle of a request, and says that all went well."""

    def leave(self):
        self.listener.close()
        for worker in self.workers:
            os.kill(worker, signal.SIGKILL)
            os.waitpid(worker, 0)
        self.finish(True)


class OrphanWorker(Workers):
    """The parent goes, its worker serves on."""

    def leave(self):
        self.finish(True)


# -- bad starts ------------------------------------------------------------------------------------------------


class StartFails(Good):
    def begin(self):
        write(2, b"cannot read the configuration\n")
        sys.exit(3)


class StartRaises(Good):
    def begin(self):
        raise RuntimeError("no database")


class StartKilled(Good):
    def begin(self):
        say("about to run out of memory")
        os.kill(os.getpid(), signal.SIGKILL)


class StartFailsBinary(Good):
    def begin(self):
        write(2, bytes(range(256)) * 8 + b"\x1b[31mred\x1b[2J")
        sys.exit(3)


class StartFloods(Good):
    """Has much to say before it is ready: five megabytes."""

    def begin(self):
        write(1, b"one more line of a long greeting...\n" * (5 * ONE_MEGABYTE // 36))


class StartFloodsAndFails(StartFloods):
    def begin(self):
        super().begin()
        write(1, b"and then nothing\n")
        sys.exit(3)


class StartHangs(Good):
    """Never listens; a child of it does not either."""

    def begin(self):
        say("waiting for the database")
        if os.fork() == 0:
            sleep_on()
        time.sleep(LIFE)


class StartIgnoresTerm(StartHangs):
    """The same, and will not be asked to end."""

    def begin(self):
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        super().begin()


class StartFailsOrphan(Good):
    """Ends at once, and a child of it does not."""

    def begin(self):
        if os.fork() == 0:
            sleep_on()
        say("cannot read the configuration")
        sys.exit(3)


class StartDaemonizes(Good):
    """Goes to the background, as servers once did, and listens there."""

    def begin(self):
        parent = os.getpid()
        if os.fork():
            os._exit(0)
        os.setsid()
        while os.getppid() == parent:
            time.sleep(0.01)
        time.sleep(0.3)


class StartElsewhere(Good):
    """Listens, at a port that it chose itself."""

    def listen(self):
        self.where = "0"
        listener = super().listen()
        say(f"listening on port {listener.getsockname()[1]}")
        return listener


class StartUnready(Good):
    """Listens, and says for ever that it is not ready."""

    def readiness(self, connection):
        self.answer(connection, 500, PROBLEM % (REASONS[500], 500))


class StartSilent(Good):
    """Listens, and answers nobody."""

    def converse(self, connection):
        time.sleep(LIFE)


class StartTrickles(Good):
    """Listens, and answers a byte from time to time, without an end."""

    def readiness(self, connection):
        for byte in b"HTTP/1.1 200 OK\r\n" + b"X-More: and more\r\n" * 1000:
            connection.sock.sendall(bytes([byte]))
            time.sleep(0.2)


def mode_of(server):
    return re.sub(r"(?<!^)(?=[A-Z])|(?<=[a-z])(?=[0-9])", "-", server.__name__).lower()


def all_modes(server=Good):
    return {mode_of(server): server} | {
        name: each for child in server.__subclasses__() for name, each in all_modes(child).items()
    }


# -- for the tests ---------------------------------------------------------------------------------------------


def argv_of(mode, where="{port}"):
    """Return the command that starts a mode."""
    return (sys.executable, "-S", "-P", __file__, mode, where)


def pids_of(where):
    """Return the processes of all modes that were told to listen there, zombies not among them."""
    from pathlib import Path

    found = []
    for entry in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            words = entry.read_text(errors="replace").split("\0")
        except OSError:
            continue
        if __file__ in words and str(where) in words:
            found.append(int(entry.parent.name))
    return found


def is_free(port):
    """Tell whether nobody listens at a port."""
    with socket.socket() as sock:
        return sock.connect_ex(("127.0.0.1", port)) != 0


if __name__ == "__main__":
    threading.stack_size(256 * 1024)
    all_modes()[sys.argv[1]](sys.argv[2]).run()
