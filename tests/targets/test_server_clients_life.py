"""The clients of a server: their history, what they do again and again, a thousand at once, and their thread."""

from __future__ import annotations

import asyncio
import itertools
import os
import resource
import socket
import threading
import time
from pathlib import Path

import pytest
from targets.raw_server import DEADLINE, Peer, serving
from targets.server_scripts import (
    OK,
    answers,
    never_answers,
)

from pytest_prodpatterns.lab import _ambient, virtual_time
from pytest_prodpatterns.targets._family import wait_until
from pytest_prodpatterns.targets.server import _file_limit, _rounds
from pytest_prodpatterns.targets.server._clients import Clients
from pytest_prodpatterns.targets.server._protocol import Request


def pending(clients):
    """What the loop of the clients would still do by itself."""
    loop = clients._thread.loop
    return clients._thread.ask(lambda: [each for each in loop._scheduled if not each.cancelled()])


def returned(history, phase="now"):
    return [dict(event.attributes) for event in history.where(kind="returned", phase=phase)]


# -- the history -----------------------------------------------------------------------------------------------


def test_the_events_of_a_call_are_in_order_and_at_their_instants(history, clients_of):
    instants = {}

    def script(peer: Peer):
        peer.head()
        instants["read"] = time.monotonic()
        peer.say(OK[:-1])
        assert wait_until(lambda: history.where(kind="entered"), DEADLINE)
        instants["rest"] = time.monotonic()
        peer.say(OK[-1:])
        peer.await_end()

    with serving(script) as server:
        clients = clients_of(server.address)
        (call,) = clients.send(Request(path="/x"), "now")
        assert clients.wait("now", DEADLINE)
        time.sleep(0.2)  # what is read later is no later
        events = history.where("client:request", phase="now")
    called, entered, told = events
    assert [event.kind for event in events] == ["called", "entered", "returned"]
    assert dict(called.attributes) == {"call": call, "phase": "now", "method": "GET", "path": "/x"}
    assert dict(entered.attributes) == {"call": call, "phase": "now", "how": "first byte"}
    assert called.real < instants["read"] < entered.real < instants["rest"] < told.real
    assert told.attributes["took"] == pytest.approx(told.real - called.real, abs=0.05)


def test_called_comes_before_the_connection(history, clients_of):
    at_accept = []
    with serving(lambda peer: at_accept.append(len(history.where(kind="called")))) as server:
        clients = clients_of(server.address)
        clients.send(Request(kind="silent"), "now")
        assert clients.wait("now", DEADLINE)
    assert at_accept == [1]


def test_who_is_inside_is_told_once(history, clients_of):
    go = threading.Event()

    def script(peer: Peer):
        peer.head()
        go.wait(DEADLINE)
        peer.say(OK)

    with serving(script) as server:
        clients = clients_of(server.address)
        (call,) = clients.send(Request(), "now")
        for _ in range(2):
            clients.note_entered(call, "now", "accepted and read")
        go.set()
        assert clients.wait("now", DEADLINE)
    assert [event.attributes["how"] for event in history.where(kind="entered")] == ["accepted and read"]


def test_an_idle_connection_is_inside_once_its_response_is_whole(history, clients_of):
    go, half = threading.Event(), threading.Event()

    def script(peer: Peer):
        peer.head()
        peer.say(OK[:-1])
        half.set()
        go.wait(DEADLINE)
        peer.say(OK[-1:])
        peer.await_end()

    with serving(script) as server:
        clients = clients_of(server.address)
        (call,) = clients.send(Request(kind="idle"), "now")
        assert half.wait(DEADLINE)
        clients._thread.ask(lambda: None)
        assert clients.states("now") == {call: "sent"}
        go.set()
        assert wait_until(lambda: clients.states("now") == {call: "answering"}, DEADLINE)
        assert len(history.where(kind="entered")) == 1


def test_an_end_is_told_once(history, clients_of):
    with serving(answers(OK)) as server:
        clients = clients_of(server.address)
        (call,) = clients.send(Request(), "now")
        assert clients.wait("now", DEADLINE)
        clients._thread.ask(clients._calls[call].finish)
    assert [told["outcome"] for told in returned(history)] == ["completed"]


def test_numbers_are_unique_and_phases_apart(history, clients_of):
    with serving(answers(OK)) as server:
        clients = clients_of(server.address)
        first = clients.send(Request() * 3, "a")
        second = clients.send(Request(kind="idle") * 2, "b")
        assert (first, second) == ([1, 2, 3], [4, 5])
        assert clients.kind(1) == "request"
        assert clients.kind(5) == "idle"
        assert clients.wait(["a"], DEADLINE)
        assert not clients.wait(["a", "b"], 0.05)
        clients.finish(0)
        assert clients.wait(["a", "b", "unknown"], 0)
    assert sorted(event.attributes["call"] for event in history.where(kind="returned")) == [1, 2, 3, 4, 5]


def test_the_kernel_finds_the_ports(clients_of):
    names = []

    def script(peer: Peer):
        names.append(peer.socket.getpeername()[1])
        peer.await_end()

    with serving(script) as server:
        clients = clients_of(server.address)
        clients.send(Request(kind="silent") * 5, "now")
        assert wait_until(lambda: len(names) == 5, DEADLINE)
        assert wait_until(lambda: sorted(clients.ports("now").values()) == sorted(names), DEADLINE)


def test_a_unix_client_knows_what_was_read(clients_of):
    go = threading.Event()

    def script(peer: Peer):
        go.wait(DEADLINE)
        peer.head()
        peer.await_end()

    with serving(script, unix=True) as server:
        clients = clients_of(server.address)
        calls = clients.send(Request() * 3, "now")
        clients.send(Request(kind="silent"), "silent")
        assert wait_until(lambda: set(clients.states("now").values()) == {"sent"}, DEADLINE)
        assert clients.read_by_server("now") == set()
        go.set()
        assert wait_until(lambda: clients.read_by_server("now") == set(calls), DEADLINE)
        assert clients.read_by_server("silent") == set()
        assert clients.ports("now") == {}


# -- again and again -------------------------------------------------------------------------------------------


def test_a_route_makes_new_connections_for_a_while(history, clients_of):
    with serving(answers(OK)) as server:
        clients = clients_of(server.address)
        began = time.monotonic()
        clients.route(Request(), "route", 0.5, every=0.05)
        assert time.monotonic() - began < 0.4
        assert not clients.wait("route", 0)
        assert clients.wait("route", DEADLINE)
        assert time.monotonic() - began >= 0.44
    assert [told["outcome"] for told in returned(history, "route")] == ["completed"] * 10
    instants = [event.real for event in history.where(kind="called")]
    assert instants[-1] - instants[0] >= 0.44


def test_a_route_is_bounded_in_number(clients_of):
    loop = asyncio.new_event_loop()
    try:
        for seconds, every, times in [(100.0, 0.01, 2000), (1.0, 0.01, 100), (1.0, 0.0, 1000), (0.0, 0.0, 1)]:
            assert _rounds.Route(loop, seconds, every, lambda: None, lambda _: None).times == times
    finally:
        loop.close()


def test_the_end_of_the_observation_ends_a_route(history, clients_of):
    with serving(answers(OK)) as server:
        clients = clients_of(server.address)
        clients.route(Request(), "route", 60.0)
        assert wait_until(lambda: returned(history, "route"), DEADLINE)
        clients.finish(1.0)
        assert clients.wait("route", 0)
        assert pending(clients) == []
        assert len(history.where(kind="called")) == len(history.where(kind="returned"))


def test_a_poll_asks_on_new_connections_and_tells_each_answer(history, clients_of):
    answers_ = itertools.cycle(
        [
            b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n",
            b"HTTP/1.1 503 No\r\nContent-Length: 0\r\n\r\n",
            b"",
        ]
    )
    heads = []

    def script(peer: Peer):
        heads.append(peer.head())
        peer.say(next(answers_))

    told = []
    with serving(script) as server:
        clients = clients_of(server.address)
        began = time.monotonic()
        stop = clients.poll("/ready", 0.01, lambda status, instant: told.append((status, instant)))
        assert wait_until(lambda: len(told) >= 6, DEADLINE)
        stop()
        count = len(told)
        stop()
        clients._thread.ask(lambda: None)
        assert len(told) == count
    assert [status for status, _ in told[:6]] == [200, 503, 0, 200, 503, 0]
    instants = [began, *(instant for _, instant in told), time.monotonic()]
    assert instants == sorted(instants)
    assert told[5][1] - told[0][1] >= 0.04
    assert b"Connection: close" in heads[0]
    assert not history.events


def test_a_poll_goes_on_where_nobody_listens(clients_of):
    with serving(answers(OK)) as server:
        address = server.address
    told = []
    stop = clients_of(address).poll("/ready", 0.01, lambda status, _: told.append(status))
    assert wait_until(lambda: told[:3] == [0, 0, 0], DEADLINE)
    stop()


def test_a_poll_gives_up_on_an_answer(clients_of):
    told = []
    with serving(never_answers) as server:
        clients = clients_of(server.address)
        clients.poll("/ready", 0.01, lambda status, _: told.append(status))
        assert wait_until(lambda: told == [0], DEADLINE)


def test_a_stopped_poll_tells_nothing_of_its_last_question(clients_of):
    asked, told = threading.Event(), []

    def script(peer: Peer):
        peer.head()
        asked.set()
        peer.await_end()

    with serving(script) as server:
        clients = clients_of(server.address)
        stop = clients.poll("/ready", 0.001, lambda status, _: told.append(status))
        assert asked.wait(DEADLINE)
        stop()
        clients._thread.ask(lambda: None)
    assert told == []


def test_a_poll_can_be_stopped_from_what_it_tells(clients_of):
    told, bound = [], threading.Event()
    with serving(answers(OK)) as server:
        clients = clients_of(server.address)

        def tell(status, _):
            told.append(status)
            bound.wait(DEADLINE)
            stop()

        stop = clients.poll("/ready", 0.001, tell)
        bound.set()
        assert wait_until(lambda: told, DEADLINE)
        assert pending(clients) == []
    assert told == [200]


# -- many, much, long ------------------------------------------------------------------------------------------


def test_a_thousand_at_once_and_room_for_them(history, clients_of):
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    low = len(list(Path("/proc/self/fd").iterdir())) + 700
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(4096)
        clients = clients_of(listener.getsockname()[1], connect_within=60.0)
        resource.setrlimit(resource.RLIMIT_NOFILE, (low, hard))
        try:
            clients.send(Request() * 1000, "now")
            assert resource.getrlimit(resource.RLIMIT_NOFILE)[0] > low
            assert wait_until(lambda: set(clients.states("now").values()) == {"sent"}, 60)
            assert len(set(clients.ports("now").values())) == 1000
            for _ in range(1000):
                with listener.accept()[0] as accepted:
                    Peer(accepted, threading.Event()).head()
                    accepted.sendall(OK)
            assert clients.wait("now", 60)
            clients.close()
            assert resource.getrlimit(resource.RLIMIT_NOFILE)[0] == low
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert [told["outcome"] for told in returned(history)] == ["completed"] * 1000


def test_a_limit_that_somebody_else_changed_stays(clients_of):
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (500, hard))
    try:
        clients = clients_of(1)
        _file_limit.make_room(clients, 600)
        resource.setrlimit(resource.RLIMIT_NOFILE, (900, hard))
        clients.close()
        assert resource.getrlimit(resource.RLIMIT_NOFILE)[0] == 900
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_the_last_of_several_puts_the_limit_back(clients_of):
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (500, hard))
    try:
        first, second, third = clients_of(1), clients_of(1), clients_of(1)
        for clients, files in ((first, 600), (second, 800), (third, 10)):
            _file_limit.make_room(clients, files)
        raised = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
        for clients, limit in ((first, raised), (second, raised), (third, 500)):
            clients.close()
            assert resource.getrlimit(resource.RLIMIT_NOFILE)[0] == limit
        assert raised >= 900
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_the_hard_limit_is_the_most(clients_of, monkeypatch):
    wanted = []
    monkeypatch.setattr(resource, "getrlimit", lambda _: (500, 700))
    monkeypatch.setattr(resource, "setrlimit", lambda _, limits: wanted.append(limits))
    clients = clients_of(1)
    _file_limit.make_room(clients, 5000)
    clients.close()
    assert wanted[0] == (700, 700)


def test_a_flood_is_counted_and_not_kept(history, clients_of):
    def script(peer: Peer):
        peer.head()
        peer.say(b"HTTP/1.1 200 OK\r\n\r\n")
        for _ in range(500):
            peer.say(b"x" * 100_000)
        peer.await_end()

    with serving(script) as server:
        clients = clients_of(server.address)
        (call,) = clients.send(Request(), "now")
        reading = clients._calls[call]._conversation.reading
        assert wait_until(
            lambda: reading.body is not None and reading.body.sample.size == 50_000_000, DEADLINE
        )
        assert len(reading._buffer) + len(reading.body.sample._beginning) < 100_000
        clients.finish(0)
    (told,) = returned(history)
    assert (told["outcome"], told["bytes"], told["text"]) == ("truncated", 50_000_000, "x" * 300)


def test_a_large_body_is_sent_whole(history, clients_of):
    body = os.urandom(3_000_000)
    came = []

    def script(peer: Peer):
        peer.head()
        came.append(peer.exactly(len(body)))
        peer.say(OK)

    with serving(script) as server:
        clients = clients_of(server.address)
        clients.send(Request(method="POST", body=body), "now")
        assert clients.wait("now", DEADLINE)
    assert came == [body]
    assert returned(history)[0]["outcome"] == "completed"


# -- the thread ------------------------------------------------------------------------------------------------


def test_clients_that_were_never_used_start_nothing():
    before = set(threading.enumerate())
    clients = Clients(1)
    clients.finish()
    assert set(threading.enumerate()) == before
    clients.close()
    clients.close()


def test_closed_clients_say_so(history):
    with serving(never_answers) as server:
        clients = Clients(server.address)
        clients.send(Request(), "now")
        stop = clients.poll("/", 0.01, lambda *_: None)
        clients.close()
        clients.close()
        stop()
        clients.finish()
        assert returned(history)[0]["outcome"] in {"never-answered", "unreachable"}
        with pytest.raises(RuntimeError, match="were closed"):
            clients.send(Request(), "now")
        assert clients.wait("now", 0)


def test_close_ends_a_route_at_any_moment(history):
    with serving(answers(OK)) as server:
        for _ in range(20):
            clients = Clients(server.address)
            clients.route(Request(), "now", 5.0, every=0.001)
            clients.close()
    assert len(history.where(kind="called")) == len(history.where(kind="returned")) >= 20


def test_a_defect_of_who_listens_is_not_swallowed(history):
    begun = threading.Event()

    def tell(status, instant):
        begun.wait(DEADLINE)
        raise ValueError("a defect")

    with serving(answers(OK)) as server:
        clients = Clients(server.address)
        (call,) = clients.send(Request(kind="idle"), "now")
        assert wait_until(lambda: clients.states("now") == {call: "answering"}, DEADLINE)
        clients.poll("/ready", 0.01, tell)
        begun.set()
        assert wait_until(lambda: clients._thread._defect is not None, DEADLINE)
        with pytest.raises(RuntimeError, match="a defect"):
            clients.close()
        assert returned(history)[0]["outcome"] == "open"
        clients.close()


def test_virtual_time_is_not_theirs(history, clients_of):
    async def use_them():
        async with virtual_time() as clock:
            with serving(answers(OK)) as server:
                clients = clients_of(server.address)
                clients.send(Request(), "now")
                assert clients.wait("now", DEADLINE)
                clients.route(Request(), "route", 0.1)
                assert clients.wait("route", DEADLINE)
                assert clock.time() == 0

    asyncio.run(use_them())
    assert 0 < returned(history)[0]["took"] < 5
    assert {told["outcome"] for told in returned(history) + returned(history, "route")} == {"completed"}


def test_nobody_listens_to_events(clients_of):
    before = _ambient.set_sink(None)
    try:
        with serving(answers(OK)) as server:
            clients = clients_of(server.address)
            clients.send(Request(), "now")
            assert clients.wait("now", DEADLINE)
    finally:
        _ambient.set_sink(before)
