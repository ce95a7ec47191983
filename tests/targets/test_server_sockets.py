"""The kernel tells who listens, who waits, and what was read; what it does not tell is told as not observed."""

from __future__ import annotations

import contextlib
import itertools
import multiprocessing
import os
import socket
import time
from pathlib import Path

import pytest

from pytest_prodpatterns.targets._family import wait_until
from pytest_prodpatterns.targets.server import _sockets_netlink, _sockets_proc, _sockets_trial
from pytest_prodpatterns.targets.server._sockets import (
    UNKNOWN,
    Listener,
    Peer,
    listeners,
    owner_pids,
    peers,
)
from pytest_prodpatterns.targets.server._sockets_rows import TcpRow, UnixRow

MODULES = {"netlink": _sockets_netlink, "proc": _sockets_proc}


@pytest.fixture(autouse=True)
def tried_anew():
    yield
    _sockets_trial.tcp_sources.cache_clear()
    _sockets_trial.unix_sources.cache_clear()


@pytest.fixture(params=MODULES)
def source(request, monkeypatch):
    """One source alone, so that the other cannot help it out."""
    module = MODULES[request.param]
    monkeypatch.setattr(_sockets_trial, "tcp_sources", lambda: (module.tcp,))
    monkeypatch.setattr(_sockets_trial, "unix_sources", lambda: (module.unix,))
    return request.param


@pytest.fixture
def stack():
    with contextlib.ExitStack() as stack:
        yield stack


def inode(sock):
    return os.fstat(sock.fileno()).st_ino


def port(sock):
    return sock.getsockname()[1]


def becomes(look, expected):
    """Wait until something is seen: what was sent over loopback may be on its way; then compare, to tell."""
    wait_until(lambda: look() == expected, 5)
    assert look() == expected


HOSTS = {
    "127.0.0.1": (socket.AF_INET, "127.0.0.1", "127.0.0.1"),
    "0.0.0.0": (socket.AF_INET, "0.0.0.0", "127.0.0.1"),
    "127.0.0.5": (socket.AF_INET, "127.0.0.5", "127.0.0.5"),
    "::1": (socket.AF_INET6, "::1", "::1"),
    "::": (socket.AF_INET6, "::", "::1"),
    "dual": (socket.AF_INET6, "::", "127.0.0.1"),
    "mapped": (socket.AF_INET6, "::ffff:127.0.0.1", "127.0.0.1"),
}


class Server:
    """A socket that listens, and who connects to it."""

    def __init__(self, stack, *, where="127.0.0.1", at=0, backlog=7, shared=False):
        self.stack = stack
        family, host, self.host = HOSTS[where]
        self.socket = stack.enter_context(socket.socket(family))
        if family == socket.AF_INET6:
            self.socket.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, int(where == "::1"))
        if shared:
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        self.socket.bind((host, at))
        self.socket.listen(backlog)
        self.port = port(self.socket)
        self.inode = inode(self.socket)

    def connect(self, data=b""):
        client = self.stack.enter_context(socket.create_connection((self.host, self.port), timeout=5))
        client.sendall(data)
        return client

    def accept(self):
        return self.stack.enter_context(self.socket.accept()[0])


def limit(source, number):
    return number if source == "netlink" else UNKNOWN


@pytest.mark.parametrize("where", HOSTS)
def test_a_listener_tells_how_many_wait_to_be_accepted_and_how_many_may(source, stack, where):
    server = Server(stack, where=where)
    assert listeners(server.port) == [Listener(server.inode, 0, limit(source, 7))]
    server.connect()
    server.connect()
    becomes(lambda: listeners(server.port), [Listener(server.inode, 2, limit(source, 7))])
    server.accept()
    assert listeners(server.port) == [Listener(server.inode, 1, limit(source, 7))]


@pytest.mark.parametrize("where", HOSTS)
def test_a_connection_tells_whether_it_was_accepted_and_what_was_not_read(source, stack, where):
    server = Server(stack, where=where)
    client = server.connect(b"hello")
    becomes(lambda: peers(server.port), [Peer(port(client), 0, 5)])
    accepted = server.accept()
    assert peers(server.port) == [Peer(port(client), inode(accepted), 5)]
    assert accepted.recv(3) == b"hel"
    assert peers(server.port) == [Peer(port(client), inode(accepted), 2)]
    accepted.recv(3)
    assert peers(server.port) == [Peer(port(client), inode(accepted), 0)]


def test_a_connection_that_the_client_has_closed_is_told_until_the_server_closes_it(source, stack):
    server = Server(stack)
    client = server.connect(b"x")
    accepted = server.accept()
    number = port(client)
    client.close()
    # The end of the stream may be counted like a byte, by the kernel and so by us.
    assert wait_until(lambda: peers(server.port)[0].unread <= 2, 5)
    assert [(peer.port, peer.inode) for peer in peers(server.port)] == [(number, inode(accepted))]
    accepted.close()
    becomes(lambda: peers(server.port), [])


def test_what_rests_of_closed_connections_is_no_connection(source, stack):
    server = Server(stack)
    for _ in range(3):
        server.connect()
        server.accept().close()  # our end closes first, and waits for a minute
    becomes(lambda: peers(server.port), [])


def test_where_nobody_listens_there_is_nobody(source, stack):
    server = Server(stack)
    client = server.connect()
    accepted = server.accept()
    server.socket.close()
    assert listeners(server.port) == []
    assert peers(server.port) == [Peer(port(client), inode(accepted), 0)]
    assert listeners(port(client)) == []
    assert peers(1) == []


def test_two_sockets_at_one_port_are_told_apart(source, stack):
    four = Server(stack)
    six = Server(stack, where="::1", at=four.port)
    six.connect()
    expected = [Listener(four.inode, 0, limit(source, 7)), Listener(six.inode, 1, limit(source, 7))]
    becomes(lambda: listeners(four.port), expected)


def test_several_listeners_that_share_a_port_have_each_their_own_who_wait(source, stack):
    first = Server(stack, shared=True, backlog=64)
    others = [Server(stack, at=first.port, shared=True, backlog=64 + n) for n in (1, 2)]
    for _ in range(20):
        first.connect()
    assert wait_until(lambda: sum(one.backlog for one in listeners(first.port)) == 20, 5)
    told = {one.inode: one.limit for one in listeners(first.port)}
    assert told == {one.inode: limit(source, 64 + n) for n, one in enumerate([first, *others])}
    others[0].socket.close()
    assert {one.inode for one in listeners(first.port)} == {first.inode, others[1].inode}


def test_a_thousand_connections_are_all_told(source, stack):
    server = Server(stack, backlog=4096)
    clients = {port(server.connect(b"x")) for _ in range(1000)}
    seen = {Peer(number, 0, 1) for number in clients}
    becomes(lambda: set(peers(server.port)), seen)
    assert len(peers(server.port)) == 1000
    assert listeners(server.port)[0].backlog == 1000


class Table:
    """A table that is another one at each reading, in turns."""

    def __init__(self, *texts):
        self.texts = itertools.cycle(texts)

    def exists(self):
        return True

    def read_text(self):
        return next(self.texts)


def test_rows_that_a_table_holds_twice_or_not_at_all_change_nothing(monkeypatch, stack):
    monkeypatch.setattr(_sockets_trial, "tcp_sources", lambda: (_sockets_proc.tcp,))
    server = Server(stack)
    clients = {port(server.connect()) for _ in range(3)}
    assert wait_until(lambda: len(peers(server.port)) == 3, 5)
    head, *rows = Path("/proc/net/tcp").read_text().splitlines(keepends=True)
    ours = [row for row in rows if f":{server.port:04X}" in row.split()[1]]
    table = Table("".join([head, *ours[:2], *ours[1:3]]), "".join([head, *ours[2:]]))
    monkeypatch.setattr(_sockets_proc, "_TABLES", [table])
    assert [one.inode for one in listeners(server.port)] == [server.inode]
    assert len(peers(server.port)) == 3
    assert {peer.port for peer in peers(server.port)} == clients


def test_only_what_can_be_reached_over_loopback_is_told(monkeypatch):
    addresses = ["127.0.0.1", "127.8.0.1", "0.0.0.0", "10.0.0.1", "128.0.0.1"]
    rows = [TcpRow(socket.inet_aton(address), 9, number, 0, 5) for number, address in enumerate(addresses)]
    addresses = ["::1", "::", "::ffff:127.0.0.1", "::ffff:0.0.0.0", "::ffff:10.0.0.1", "fe80::1", "::2"]
    rows += [
        TcpRow(socket.inet_pton(socket.AF_INET6, address), 9, number, 0, 5)
        for number, address in enumerate(addresses, 10)
    ]
    monkeypatch.setattr(_sockets_trial, "tcp_sources", lambda: (lambda *_: rows,))
    assert [one.inode for one in listeners(80)] == [0, 1, 2, 10, 11, 12, 13]
    assert [one.inode for one in peers(80)] == [0, 1, 10, 12]


def sleep_with(sock, told):
    told.send(os.getpid())
    time.sleep(60)


def test_the_owners_of_a_socket_are_all_who_have_it_open(stack):
    server = Server(stack)
    assert owner_pids(server.inode) == {os.getpid()}
    ours, theirs = multiprocessing.Pipe()
    child = multiprocessing.get_context("fork").Process(target=sleep_with, args=(server.socket, theirs))
    child.start()
    try:
        assert owner_pids(server.inode) == {os.getpid(), child.pid}
        server.socket.close()
        assert owner_pids(server.inode) == {child.pid}
        assert [one.inode for one in listeners(server.port)] == [server.inode]
    finally:
        child.kill()
        child.join()
    assert owner_pids(server.inode) == set()
    assert listeners(server.port) == []


# -- unix sockets ------------------------------------------------------------------------------------------


class UnixServer:
    def __init__(self, stack, path, *, backlog=7):
        self.stack = stack
        self.path = str(path)
        self.socket = stack.enter_context(socket.socket(socket.AF_UNIX))
        self.socket.bind(self.path)
        self.socket.listen(backlog)
        self.inode = inode(self.socket)

    def connect(self):
        client = self.stack.enter_context(socket.socket(socket.AF_UNIX))
        client.connect(self.path)
        return client

    def accept(self):
        return self.stack.enter_context(self.socket.accept()[0])


@pytest.fixture
def path(tmp_path, monkeypatch):
    """Of a socket; a long temporary directory would not fit into its address."""
    monkeypatch.chdir(tmp_path)
    return str(tmp_path / "a socket")


def test_a_unix_listener_tells_how_many_wait_to_be_accepted(source, stack, path):
    server = UnixServer(stack, path)
    assert listeners(path) == [Listener(server.inode, 0, limit(source, 7))]
    server.connect()
    server.connect()
    assert listeners(path) == [Listener(server.inode, 2, limit(source, 7))]
    server.accept()
    assert listeners(path) == [Listener(server.inode, 1, limit(source, 7))]
    assert peers(path) is None


def test_a_unix_listener_is_told_until_it_is_closed_and_not_while_its_file_is_there(source, stack, path):
    server = UnixServer(stack, path)
    Path(path).unlink()
    assert [one.inode for one in listeners(path)] == [server.inode]
    second = UnixServer(stack, path)
    assert {one.inode for one in listeners(path)} == {server.inode, second.inode}
    server.socket.close()
    assert [one.inode for one in listeners(path)] == [second.inode]
    second.socket.close()
    assert Path(path).exists()
    assert listeners(path) == []


def test_a_unix_socket_that_does_not_listen_is_none(source, stack, path):
    bound = stack.enter_context(socket.socket(socket.AF_UNIX))
    bound.bind(path)
    assert listeners(path) == []
    assert listeners(path + " of somebody else") == []


def test_a_unix_listener_is_found_by_another_name_of_its_path(source, stack, path, tmp_path):
    (tmp_path / "link").symlink_to(tmp_path)
    server = UnixServer(stack, str(tmp_path / "link" / "a socket"))
    server.connect()
    assert listeners(path) == [Listener(server.inode, 1, limit(source, 7))]


def test_a_unix_listener_of_a_relative_path_is_found_or_not_observed(source, stack, path):
    server = UnixServer(stack, Path(path).name)
    found = None if source == "proc" else [Listener(server.inode, 0, 7)]
    assert listeners(path) == found


def test_who_waits_at_which_of_two_unix_listeners_is_told_or_not_observed(source, stack, path):
    first = UnixServer(stack, path)
    first.connect()
    Path(path).unlink()
    second = UnixServer(stack, path, backlog=9)
    told = listeners(path)
    if source == "proc":
        assert told is None
    else:
        assert set(told) == {Listener(first.inode, 1, 7), Listener(second.inode, 0, 9)}


# -- sources that are missing, or lie ----------------------------------------------------------------------


def no_netlink(monkeypatch):
    monkeypatch.setattr(_sockets_netlink, "_SOCK_DIAG", 31)  # a protocol that no kernel has


def no_diagnosis(monkeypatch):
    monkeypatch.setattr(_sockets_netlink, "_BY_FAMILY", 19)  # the kernel answers with an error


def no_tables(monkeypatch):
    monkeypatch.setattr(_sockets_proc, "_TABLES", [Path("/proc/net/none")])
    monkeypatch.setattr(_sockets_proc, "_UNIX_TABLE", Path("/proc/net/none"))


@pytest.mark.parametrize("missing", [no_netlink, no_diagnosis])
def test_without_netlink_the_tables_tell(missing, monkeypatch, stack, path):
    missing(monkeypatch)
    server, other = Server(stack), UnixServer(stack, path)
    client = server.connect()
    other.connect()
    becomes(lambda: listeners(server.port), [Listener(server.inode, 1, UNKNOWN)])
    assert peers(server.port) == [Peer(port(client), 0, 0)]
    assert listeners(path) == [Listener(other.inode, 1, UNKNOWN)]


def test_without_any_source_nothing_is_observed(monkeypatch, stack, path):
    no_netlink(monkeypatch)
    no_tables(monkeypatch)
    server = Server(stack)
    assert listeners(server.port) is None
    assert peers(server.port) is None
    assert listeners(path) is None


@pytest.mark.parametrize("missing", [no_netlink, no_diagnosis])
def test_a_source_that_fails_later_leaves_it_to_the_other(missing, monkeypatch, stack, path):
    server, other = Server(stack), UnixServer(stack, path)
    assert listeners(server.port)[0].limit == 7
    assert listeners(path)[0].limit == 7
    missing(monkeypatch)
    assert listeners(server.port) == [Listener(server.inode, 0, UNKNOWN)]
    assert listeners(path) == [Listener(other.inode, 0, UNKNOWN)]
    no_tables(monkeypatch)
    assert listeners(server.port) is None
    assert peers(server.port) is None
    assert listeners(path) is None


def changed(right, **change):
    return lambda *question: [row._replace(**change) for row in right(*question)]


LIARS = {
    "nothing": lambda right: lambda *_: [],
    "no backlog": lambda right: changed(right, received=0),
    "no inodes": lambda right: changed(right, inode=0),
    "a wrong limit": lambda right: changed(right, limit=0),
    "everything twice": lambda right: lambda *question: right(*question) * 2,
    "garbage": lambda right: lambda *_: ["garbage"],
    "an accident": lambda right: lambda *_: 1 // 0,
}


@pytest.mark.parametrize("lie", LIARS)
@pytest.mark.parametrize("module", MODULES)
def test_a_source_that_is_there_and_lies_is_not_believed(lie, module, monkeypatch):
    monkeypatch.setattr(_sockets_trial, "_ARRIVAL", 0.2)
    liar, honest = MODULES[module], next(one for name, one in MODULES.items() if name != module)
    monkeypatch.setattr(liar, "tcp", LIARS[lie](liar.tcp))
    monkeypatch.setattr(liar, "unix", LIARS[lie](liar.unix))
    assert liar.tcp not in _sockets_trial.tcp_sources()
    assert liar.unix not in _sockets_trial.unix_sources()
    assert honest.unix in _sockets_trial.unix_sources()


def test_both_sources_pass_their_trial_here():
    assert _sockets_trial.tcp_sources() == (_sockets_netlink.tcp, _sockets_proc.tcp)
    assert _sockets_trial.unix_sources() == (_sockets_netlink.unix, _sockets_proc.unix)


def test_a_unix_row_is_what_a_listener_is():
    assert Listener(*UnixRow(1, 2, 3)) == Listener(inode=1, backlog=2, limit=3)
