"""What raw servers do to their connections: each script does one thing."""

from __future__ import annotations

from targets.raw_server import Peer

from pytest_prodpatterns.targets.server import _websocket

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
CLOSING = b"HTTP/1.1 200 OK\r\ncOnNeCtIoN: keep-alive, Close\r\nContent-Length: 2\r\n\r\nok"
CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
EVENTS = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
EVENT = b"9\r\ndata: 1\n\n\r\n"


def answers(*parts):
    def script(peer: Peer):
        peer.head()
        peer.say(*parts)
        peer.await_end()

    return script


def answers_and_closes(*parts):
    def script(peer: Peer):
        peer.head()
        peer.say(*parts)

    return script


def answers_and_resets(*parts):
    def script(peer: Peer):
        peer.head()
        peer.say(*parts)
        peer.reset()

    return script


def closes_at_once(peer: Peer):
    pass


def closes_behind_what_came(peer: Peer):
    """Reads whatever is there, so that the kernel closes by FIN."""
    peer.socket.recv(65536)


def never_answers(peer: Peer):
    peer.await_end()


def times_out(peer: Peer):
    peer.socket.recv(65536)
    peer.say(b"HTTP/1.1 408 Request Timeout\r\nConnection: close\r\nContent-Length: 0\r\n\r\n")


def closes_on_the_second(peer: Peer):
    peer.head()
    peer.say(OK)
    peer.head()
    peer.say(CLOSING)


def eof_on_the_second(peer: Peer):
    peer.head()
    peer.say(OK)
    peer.head()


def closes_between(peer: Peer):
    peer.head()
    peer.say(OK)


def switches(*frames):
    """Does the handshake of a websocket, and says these frames."""

    def script(peer: Peer):
        fields = dict(line.split(": ", 1) for line in peer.head().decode().split("\r\n")[1:] if line)
        accept = _websocket.accepting(fields["Sec-WebSocket-Key"])
        head = f"HTTP/1.1 101 Switching\r\nUpgrade: websocket\r\nsec-websocket-accept: {accept}\r\n\r\n"
        peer.say(head.encode(), *frames)

    return script


def keeps_answering(peer: Peer):
    while True:
        peer.head()
        peer.say(OK)
