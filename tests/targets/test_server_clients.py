"""The clients of a server: each end of a request has its word, whatever the server does; TCP and unix sockets."""

from __future__ import annotations

import errno
import resource
import socket
import threading
import time

import pytest
from targets.raw_server import DEADLINE, Peer, listening, serving
from targets.server_scripts import (
    CHUNKED,
    CLOSING,
    EVENT,
    EVENTS,
    OK,
    answers,
    answers_and_closes,
    answers_and_resets,
    closes_at_once,
    closes_behind_what_came,
    closes_between,
    closes_on_the_second,
    eof_on_the_second,
    keeps_answering,
    never_answers,
    switches,
    times_out,
)

from pytest_prodpatterns.targets._family import wait_until
from pytest_prodpatterns.targets.server import _connection
from pytest_prodpatterns.targets.server._protocol import OUTCOMES, Request


def returned(history, phase="now"):
    return [dict(event.attributes) for event in history.where(kind="returned", phase=phase)]


ENDS = [
    # what the server does, to which request, the word for it, and what else is told
    ("whole", answers(OK), Request(), "completed", {"status": 200, "bytes": 2, "text": "ok", "close": False}),
    ("one byte at a time", answers(*(bytes([b]) for b in OK)), Request(), "completed", {"bytes": 2}),
    ("chunks", answers(CHUNKED, b"2\r\nok\r\n0\r\n\r\n"), Request(), "completed", {"text": "ok"}),
    (
        "interim",
        answers(b"HTTP/1.1 103 Hints\r\nLink: x\r\n\r\n", OK),
        Request(),
        "completed",
        {"status": 200},
    ),
    ("no content", answers(b"HTTP/1.1 204 No\r\n\r\n"), Request(), "completed", {"status": 204, "bytes": 0}),
    (
        "HEAD",
        answers(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n"),
        Request(method="HEAD"),
        "completed",
        {"bytes": 0},
    ),
    (
        "until its end",
        answers_and_closes(b"HTTP/1.1 200 OK\r\n\r\nok"),
        Request(),
        "completed",
        {"text": "ok"},
    ),
    (
        "not found",
        answers(b"HTTP/1.1 404 No\r\nContent-Length: 0\r\n\r\n"),
        Request(),
        "completed",
        {"status": 404},
    ),
    ("says close", answers(CLOSING), Request(), "completed-with-close", {"close": True}),
    (
        "fails",
        answers(
            b"HTTP/1.1 503 Busy\r\nRETRY-AFTER: 5\r\nx-request-id: abc\r\nContent-type: a/b\r\nContent-Length: 0\r\n\r\n"
        ),
        Request(),
        "5xx",
        {"status": 503, "retry_after": "5", "request_id": "abc", "content_type": "a/b"},
    ),
    (
        "a stream",
        answers(CHUNKED, b"1\r\na\r\n", b"1\r\nb\r\n0\r\n\r\n"),
        Request(kind="stream"),
        "completed",
        {"bytes": 2},
    ),
    ("closes before the head", answers_and_closes(), Request(), "eof", {"detail": None}),
    ("closes at a raw request", closes_behind_what_came, Request(kind="raw", data=b"x\r\n"), "eof", {}),
    ("resets before the head", answers_and_resets(), Request(), "reset", {"detail": "before any response"}),
    (
        "resets in the body",
        answers_and_resets(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nabc"),
        Request(),
        "reset",
        {"detail": "behind 3 of 9 bytes of the body", "bytes": 3, "status": 200},
    ),
    (
        "closes in the head",
        answers_and_closes(b"HTTP/1.1 200"),
        Request(),
        "truncated",
        {"detail": "in the head of the response"},
    ),
    (
        "closes in the body",
        answers_and_closes(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nabc"),
        Request(),
        "truncated",
        {"detail": "behind 3 of 9 bytes of the body"},
    ),
    (
        "closes in a chunk",
        answers_and_closes(CHUNKED, b"5\r\nab"),
        Request(kind="stream"),
        "truncated",
        {"detail": "inside a chunk, behind 2 bytes of the body"},
    ),
    (
        "closes between chunks",
        answers_and_closes(CHUNKED, b"2\r\nab\r\n"),
        Request(kind="stream"),
        "truncated",
        {"detail": "between chunks, behind 2 bytes of the body"},
    ),
    ("bad chunk", answers(CHUNKED, b"zz\r\n"), Request(), "truncated", {"detail": "a bad chunk size"}),
    (
        "two lengths",
        answers(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n"),
        Request(),
        "truncated",
        {"detail": "both Content-Length and Transfer-Encoding"},
    ),
    (
        "garbage",
        answers(b"<h1>no</h1>"),
        Request(),
        "truncated",
        {"detail": "not HTTP", "text": "<h1>no</h1>"},
    ),
    # event streams
    (
        "ends a stream",
        answers(EVENTS, EVENT, b"0\r\n\r\n"),
        Request(kind="sse"),
        "cancelled",
        {"status": 200, "bytes": 9},
    ),
    (
        "closes between chunked events",
        answers_and_closes(EVENTS, EVENT),
        Request(kind="sse"),
        "truncated",
        {"detail": "without its last chunk, between chunks, behind 9 bytes of the body"},
    ),
    (
        "closes between events",
        answers_and_closes(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\n", b"data: tick\n\n"),
        Request(kind="sse"),
        "cancelled",
        {"detail": "the connection was closed between two events"},
    ),
    (
        "closes in an event",
        answers_and_closes(EVENTS, EVENT, b"5\r\nda"),
        Request(kind="sse"),
        "truncated",
        {},
    ),
    ("closes before an event", answers_and_closes(EVENTS), Request(kind="sse"), "truncated", {}),
    ("no stream", answers(OK), Request(kind="sse"), "completed", {}),
    (
        "no stream now",
        answers(b"HTTP/1.1 503 No\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"),
        Request(kind="sse"),
        "5xx",
        {},
    ),
    # websockets
    (
        "takes leave",
        switches(b"\x81\x02hi", b"\x88\x06\x03\xe9away"),
        Request(kind="websocket"),
        "cancelled",
        {"detail": "close 1001 away", "status": 101, "text": "hi", "bytes": 2},
    ),
    (
        "vanishes",
        switches(b"\x81\x02hi"),
        Request(kind="websocket"),
        "truncated",
        {"detail": "no close frame, between two frames"},
    ),
    (
        "vanishes in a frame",
        switches(b"\x81\x09hi"),
        Request(kind="websocket"),
        "truncated",
        {"detail": "no close frame, inside a frame"},
    ),
    (
        "cheats",
        answers(b"HTTP/1.1 101 OK\r\nSec-WebSocket-Accept: nonsense\r\n\r\n"),
        Request(kind="websocket"),
        "truncated",
        {"detail": "the handshake does not answer the key"},
    ),
    (
        "no websocket",
        answers(b"HTTP/1.1 404 No\r\nContent-Length: 0\r\n\r\n"),
        Request(kind="websocket"),
        "completed",
        {"status": 404},
    ),
    # connections without a request in flight
    (
        "closes an idle one",
        answers_and_closes(OK),
        Request(kind="idle"),
        "closed",
        {"detail": "idle behind its response"},
    ),
    ("idle, but told to go", answers(CLOSING), Request(kind="idle"), "completed-with-close", {}),
    (
        "idle, but failed",
        answers(b"HTTP/1.1 500 No\r\nContent-Length: 0\r\n\r\n"),
        Request(kind="idle"),
        "5xx",
        {},
    ),
    ("idle, unanswered", answers_and_closes(), Request(kind="idle"), "eof", {}),
    ("closes a silent one", closes_at_once, Request(kind="silent"), "closed", {}),
    ("closes a half head", closes_behind_what_came, Request(kind="half-headers"), "closed", {}),
    ("closes slow headers", closes_behind_what_came, Request(kind="slow-headers", pace=5.0), "closed", {}),
    ("resets a half head", answers_and_resets(), Request(kind="half-body", method="POST"), "reset", {}),
    (
        "times a half head out",
        times_out,
        Request(kind="half-headers"),
        "completed-with-close",
        {"status": 408},
    ),
    ("rejects a half body", answers(OK), Request(kind="half-body", method="POST"), "completed", {}),
    # one request after the other
    (
        "close on the second",
        closes_on_the_second,
        Request(again=True),
        "completed-with-close",
        {"detail": "request 2 on its connection"},
    ),
    (
        "eof on the second",
        eof_on_the_second,
        Request(again=True),
        "eof",
        {"detail": "request 2 on its connection"},
    ),
    (
        "closes between two",
        closes_between,
        Request(again=True),
        "closed",
        {"detail": "idle behind its response"},
    ),
]


@pytest.mark.parametrize(
    ("script", "request_", "outcome", "facts", "unix"),
    [
        pytest.param(*row[1:], unix, id=f"{row[0]}-{'unix' if unix else 'tcp'}")
        for row in ENDS
        for unix in (False, True)
        if not (unix and row[3] == "reset")  # a unix socket is reset in another way
    ],
)
def test_each_end_has_its_word(history, clients_of, script, request_, outcome, facts, unix):
    with serving(script, unix=unix) as server:
        clients = clients_of(server.address)
        clients.send(request_, "now")
        assert clients.wait("now", DEADLINE), clients.states("now")
    (told,) = returned(history)
    assert told["outcome"] == outcome, told
    assert {name: told.get(name) for name in facts} == facts


def test_a_unix_socket_is_reset_by_a_close_with_unread_bytes(history, clients_of):
    def script(peer: Peer):
        peer.exactly(1)

    with serving(script, unix=True) as server:
        clients = clients_of(server.address)
        clients.send(Request(), "now")
        assert clients.wait("now", DEADLINE)
    assert returned(history)[0]["outcome"] == "reset"


@pytest.mark.parametrize(
    "script", [answers_and_resets(EVENTS, EVENT), answers_and_resets(EVENTS, b"5\r\nda")]
)
def test_a_reset_truncates_an_event_stream(history, clients_of, script):
    with serving(script) as server:
        clients = clients_of(server.address)
        clients.send(Request(kind="sse"), "now")
        assert clients.wait("now", DEADLINE)
    (told,) = returned(history)
    assert (told["outcome"], told["detail"].split()[0]) == ("truncated", "reset")


LEFT = [
    ("a request", never_answers, Request(), "never-answered", "sent"),
    ("a raw one", never_answers, Request(kind="raw", data=b"nonsense"), "never-answered", "sent"),
    ("half an answer", answers(OK[:-1]), Request(), "truncated", "answering"),
    ("an idle one", answers(OK), Request(kind="idle"), "open", "answering"),
    ("a silent one", never_answers, Request(kind="silent"), "open", "sent"),
    ("half a head", never_answers, Request(kind="half-headers"), "open", "sent"),
    ("half a body", never_answers, Request(kind="half-body", method="POST"), "open", "sent"),
    ("slow headers", never_answers, Request(kind="slow-headers", pace=0.01), "open", "sent"),
    ("an event stream", answers(EVENTS, EVENT), Request(kind="sse"), "open", "answering"),
    ("one after the other", None, Request(again=True), "completed", "answering"),
]


@pytest.mark.parametrize("unix", [False, True], ids=["tcp", "unix"])
@pytest.mark.parametrize(
    ("script", "request_", "outcome", "stage"), [row[1:] for row in LEFT], ids=[row[0] for row in LEFT]
)
def test_what_has_no_end_gets_its_last_word(history, clients_of, script, request_, outcome, stage, unix):
    with serving(script or keeps_answering, unix=unix) as server:
        clients = clients_of(server.address)
        (call,) = clients.send(request_, "now")
        assert wait_until(lambda: clients.states("now") == {call: stage}, DEADLINE), clients.states("now")
        assert not clients.wait("now", 0.05)
        assert clients.open("now") == [call]
        began = time.monotonic()
        clients.finish(8.0 if request_.again else 0.05)
        assert time.monotonic() - began < 5
        assert clients.wait("now", 0)
        assert (clients.states("now"), clients.open("now"), clients.ports("now")) == ({call: "done"}, [], {})
    (told,) = returned(history)
    assert told["outcome"] == outcome, told


def test_a_websocket_stays_open_and_answers_pings(history, clients_of):
    pongs = []

    def script(peer: Peer):
        switches(b"\x89\x04ping")(peer)
        header, masked = peer.exactly(2), peer.exactly(8)
        pongs.append((header, bytes(b ^ masked[i % 4] for i, b in enumerate(masked[4:]))))
        peer.await_end()

    with serving(script) as server:
        clients = clients_of(server.address)
        clients.send(Request(kind="websocket"), "now")
        assert wait_until(lambda: pongs, DEADLINE)
        clients.finish(0)
    assert pongs == [(b"\x8a\x84", b"ping")]
    assert returned(history)[0]["outcome"] == "open"


def test_a_websocket_answers_the_close_frame(clients_of):
    answers_ = []

    def script(peer: Peer):
        switches(b"\x88\x02\x03\xe9")(peer)
        answers_.append(peer.exactly(8))
        answers_.append(peer.await_end())

    with serving(script) as server:
        clients_of(server.address).send(Request(kind="websocket"), "now")
        assert wait_until(lambda: len(answers_) == 2, DEADLINE)
    frame, ended = answers_
    assert frame[:2] == b"\x88\x82"
    assert ended


# -- no connection ---------------------------------------------------------------------------------------------


def test_nobody_listens(history, clients_of, tmp_path):
    with serving(closes_at_once) as server:
        port = server.address
    for address in (
        port,
        str(tmp_path / "nothing"),
    ):
        clients = clients_of(address)
        clients.send(Request(), "now")
        assert clients.wait("now", DEADLINE)
    tcp, unix = returned(history)
    assert (tcp["outcome"], unix["outcome"]) == ("refused", "refused")
    assert unix["detail"] == "No such file or directory"
    assert [event.kind for event in history.events] == ["called", "returned"] * 2


def test_a_unix_socket_that_nobody_holds_any_more_refuses(history, clients_of, tmp_path):
    path = str(tmp_path / "socket")
    with socket.socket(socket.AF_UNIX) as left:
        left.bind(path)
    clients = clients_of(path)
    clients.send(Request(), "now")
    assert clients.wait("now", DEADLINE)
    assert returned(history)[0]["outcome"] == "refused"


@pytest.mark.parametrize("unix", [False, True], ids=["tcp", "unix"])
def test_a_full_backlog_is_unreachable(history, clients_of, unix):
    with listening(unix=unix, full=True) as address:
        clients = clients_of(address, connect_within=0.3)
        (call,) = clients.send(Request(), "now")
        assert clients.states("now") == {call: "connecting"}
        assert clients.wait("now", DEADLINE)
    (told,) = returned(history)
    assert (told["outcome"], told["detail"]) == ("unreachable", "not connected within 0.3 s")
    assert 0.3 <= told["took"] < 3


def test_the_end_of_the_observation_finds_it_connecting(history, clients_of):
    with listening(full=True) as address:
        clients = clients_of(address)
        clients.send(Request(), "now")
        clients.finish(0)
    (told,) = returned(history)
    assert told["outcome"] == "unreachable"


def test_a_full_unix_backlog_is_tried_until_there_is_room(history, clients_of, tmp_path):
    path = str(tmp_path / "socket")
    with socket.socket(socket.AF_UNIX) as listener, socket.socket(socket.AF_UNIX) as filler:
        listener.bind(path)
        listener.listen(0)
        filler.connect(path)
        clients = clients_of(path)
        (call,) = clients.send(Request(), "now")
        assert clients.states("now") == {call: "connecting"}
        listener.accept()[0].close()
        accepted, _ = listener.accept()
        with accepted:
            Peer(accepted, threading.Event()).head()
            accepted.sendall(OK)
            assert clients.wait("now", DEADLINE)
    assert returned(history)[0]["outcome"] == "completed"


@pytest.mark.parametrize("unix", [False, True], ids=["tcp", "unix"])
def test_connected_is_not_accepted(history, clients_of, unix):
    with listening(unix=unix) as address:
        clients = clients_of(address)
        (call,) = clients.send(Request(), "now")
        assert wait_until(lambda: clients.states("now") == {call: "sent"}, DEADLINE)
        clients.finish(0)
    assert returned(history)[0]["outcome"] == "never-answered"


@pytest.mark.parametrize("unix", [False, True], ids=["tcp", "unix"])
def test_a_listener_that_goes_resets_who_was_not_accepted(history, clients_of, unix):
    with listening(unix=unix) as address:
        clients = clients_of(address)
        clients.send(Request(), "now")
        assert wait_until(lambda: "sent" in clients.states("now").values(), DEADLINE)
    assert clients.wait("now", DEADLINE)
    assert returned(history)[0]["outcome"] == "reset"


def test_a_server_on_ipv6_alone_is_found(history, clients_of):
    with serving(answers(OK), family=socket.AF_INET6) as server:
        clients = clients_of(server.address)
        (call,) = clients.send(Request(kind="idle"), "now")
        assert wait_until(lambda: clients.states("now") == {call: "answering"}, DEADLINE)
        assert clients.ports("now")[call] > 0


def test_a_connection_with_itself_is_none():
    with socket.socket() as lonely:
        lonely.bind(("127.0.0.1", 0))
        lonely.connect(lonely.getsockname())
        assert _connection.is_its_own_peer(lonely)
    with serving(never_answers) as server, socket.create_connection(("127.0.0.1", server.address)) as usual:
        assert not _connection.is_its_own_peer(usual)


def test_who_meets_itself_is_refused(history, clients_of, monkeypatch):
    monkeypatch.setattr(_connection, "is_its_own_peer", lambda made: True)
    with serving(answers(OK)) as server:
        clients = clients_of(server.address)
        clients.send(Request(), "now")
        assert clients.wait("now", DEADLINE)
    assert returned(history)[0]["outcome"] == "refused"


@pytest.mark.parametrize("unix", [False, True], ids=["tcp", "unix"])
def test_the_time_to_connect_is_no_time_to_live(history, clients_of, unix):
    with serving(answers(OK), unix=unix) as server:
        clients = clients_of(server.address, connect_within=0.2)
        (call,) = clients.send(Request(kind="idle"), "now")
        assert wait_until(lambda: clients.states("now") == {call: "answering"}, DEADLINE)
        assert not clients.wait("now", 0.4)
        clients.finish(0)
    assert returned(history)[0]["outcome"] == "open"


def test_a_reset_while_connecting_is_a_reset():
    class Ear:
        def failed(self, outcome, detail):
            self.heard = outcome, detail

    ear = Ear()
    _connection.Connection(_connection.Way(None, 1, 1.0), ear)._give_up(errno.ECONNRESET)
    assert ear.heard == ("reset", "Connection reset by peer")


def test_no_files_left_is_told_as_that(history, clients_of):
    with listening() as address:
        clients = clients_of(address)
        clients.send(Request(), "before")
        way = clients._way
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (0, hard))
        try:
            clients._thread.ask(lambda: clients._begin(way, Request(), "now"))
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    (told,) = returned(history)
    assert (told["outcome"], told["detail"]) == ("unreachable", "Too many open files")


# -- FIN and RST -----------------------------------------------------------------------------------------------


def test_an_answer_is_heard_though_the_server_stopped_reading(history, clients_of):
    """It answers 413 and closes with bytes unread: the kernel resets, and our writing fails."""

    def script(peer: Peer):
        peer.head()
        peer.say(b"HTTP/1.1 413 Too large\r\nContent-Length: 2\r\n\r\nno")

    with serving(script) as server:
        clients = clients_of(server.address)
        for number in range(20):
            clients.send(Request(method="POST", body=b"x" * 5_000_000), f"{number}")
            assert clients.wait(f"{number}", DEADLINE)
            (told,) = returned(history, f"{number}")
            assert (told["outcome"], told["status"], told["text"]) == ("completed", 413, "no")


def test_a_reset_that_a_write_met_first_is_a_reset(history, clients_of):
    """The kernel tells an error once, to whoever calls first; then a read sees nothing but an end."""
    go = threading.Event()

    def script(peer: Peer):
        peer.head()
        peer.say(b"HTTP/1.1 100 Continue\r\n\r\n")
        go.wait(DEADLINE)
        peer.reset()

    with serving(script) as server:
        clients = clients_of(server.address)
        (call,) = clients.send(Request(), "now")
        assert wait_until(lambda: clients.states("now") == {call: "answering"}, DEADLINE)

        def write_first():
            go.set()
            connection = clients._calls[call]._connection
            clients._thread.loop.remove_reader(connection._socket)
            while connection._writing:
                connection.send([b"x"])
            clients._thread.loop.add_reader(connection._socket, connection._readable)

        clients._thread.ask(write_first)
        assert clients.wait("now", DEADLINE)
    assert returned(history)[0]["outcome"] == "reset"


def test_a_close_is_seen_before_the_next_request_is_sent(history, clients_of):
    """It comes while the loop is busy, right before the next request is due: that one is not lost in it."""
    go, closed = threading.Event(), threading.Event()

    def script(peer: Peer):
        peer.head()
        peer.say(OK)
        go.wait(DEADLINE)
        peer.socket.close()
        closed.set()

    with serving(script) as server:
        clients = clients_of(server.address)
        (call,) = clients.send(Request(again=True), "now")
        exchange = clients._calls[call]

        def due():
            if "more" not in exchange._timers:
                return False
            go.set()
            assert closed.wait(DEADLINE)
            exchange._timers["more"].cancel()
            exchange._more()
            return True

        assert wait_until(lambda: clients._thread.ask(due), DEADLINE)
        assert clients.wait("now", DEADLINE)
    assert returned(history)[0]["outcome"] == "closed"


# -- the client's own doing ------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["request", "silent", "sse", "slow-headers"])
def test_the_client_hangs_up(history, clients_of, kind):
    ended = []

    with serving(lambda peer: ended.append(peer.await_end())) as server:
        clients = clients_of(server.address)
        clients.send(Request(kind=kind, hang_up=0.1, pace=0.02), "now")
        assert clients.wait("now", DEADLINE)
        assert wait_until(lambda: ended == [True], DEADLINE)
    (told,) = returned(history)
    assert told["outcome"] == "abandoned"
    assert 0.1 <= told["took"] < 5


def test_slow_headers_come_one_byte_each(clients_of):
    instants = []

    def script(peer: Peer):
        head = b""
        while not head.endswith(b"X-Slow: "):
            head += peer.exactly(1)
        for _ in range(3):
            assert peer.exactly(1) == b"a"
            instants.append(time.monotonic())

    with serving(script) as server:
        clients = clients_of(server.address)
        began = time.monotonic()
        clients.send(Request(kind="slow-headers", pace=0.05), "now")
        assert clients.wait("now", DEADLINE)
    assert all(instant - began >= 0.049 * number for number, instant in enumerate(instants, 1))
    assert len(instants) == 3


def test_the_request_is_what_was_asked_for(clients_of):
    heads = []

    def script(peer: Peer):
        head = peer.head()
        length = int(head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0] or 0)
        heads.append(head + peer.exactly(length))
        peer.say(OK)

    asked = [
        Request(path="/slow?t={seconds}", seconds=0.25, headers={"X-A": "b", "host": "other"}),
        Request(method="POST", body=b'{"a": 1}', headers={"Content-Type": "application/json"}),
        Request(method="DELETE", path="/{seconds}"),
        Request(method="PUT"),
        Request(path="/tür"),
    ]
    with serving(script) as server:
        clients = clients_of(server.address)
        for request in asked:
            clients.send(request, "now")
            assert clients.wait("now", DEADLINE)
    first, second, third, fourth, fifth = (head.split(b"\r\n") for head in heads)
    assert first[0] == b"GET /slow?t=0.25 HTTP/1.1"
    assert [line for line in first if line.lower().startswith(b"host")] == [b"host: other"]
    assert b"X-A: b" in first
    assert not [line for line in first if line.lower().startswith((b"content-length", b"connection"))]
    assert b"Host: 127.0.0.1:%d" % server.address in second
    assert {b"Content-Length: 8", b"Content-Type: application/json", b'{"a": 1}'} <= set(second)
    assert third[0] == b"DELETE /1 HTTP/1.1"
    assert b"Content-Length: 0" in fourth
    assert fifth[0] == "GET /tür HTTP/1.1".encode()


def test_every_outcome_is_named_here():
    named = {row[3] for row in ENDS} | {row[3] for row in LEFT} | {"refused", "unreachable", "abandoned"}
    assert named == set(OUTCOMES)
