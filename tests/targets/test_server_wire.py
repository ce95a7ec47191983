"""Reading what a server says: whatever the portions in which it comes, the reading is the same."""

from __future__ import annotations

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from pytest_prodpatterns.targets.server import _websocket
from pytest_prodpatterns.targets.server._conversations import Conversation, Held, Kept
from pytest_prodpatterns.targets.server._exchange import converse
from pytest_prodpatterns.targets.server._protocol import Request
from pytest_prodpatterns.targets.server._sample import Sample
from pytest_prodpatterns.targets.server._streams import Sse, WebSocket
from pytest_prodpatterns.targets.server._wire import Reading

OK = b"HTTP/1.1 200 OK\r\n"
CHUNKED = OK + b"Transfer-Encoding: chunked\r\n\r\n"


def read(data, method="GET", ended=False):
    reading = Reading(method)
    for portion in data:
        reading.feed(portion)
    if ended:
        reading.end()
    return reading


def seen(reading):
    """Everything that anybody can know of a reading."""
    return {
        "facts": reading.facts(),
        "headers": reading.headers,
        "started": reading.started,
        "whole": reading.whole,
        "broken": reading.broken,
        "surplus": reading.surplus,
        "place": reading.place,
        "event_ended": reading.event_ended,
    }


WHOLE = [
    # what came, to which method, then its status, body, and whether the connection ends
    (OK + b"Content-Length: 3\r\n\r\nabc", "GET", 200, "abc", False),
    (OK + b"content-LENGTH:3\r\n\r\nabc", "GET", 200, "abc", False),
    (OK + b"Content-Length: 3, 3\r\ncontent-length: 3\r\n\r\nabc", "GET", 200, "abc", False),
    (b"HTTP/1.1 200\nContent-Length: 3\n\nabc", "GET", 200, "abc", False),
    (OK + b"Content-Length: 0\r\n\r\n", "GET", 200, "", False),
    (OK + b"Content-Length: 99\r\n\r\n", "HEAD", 200, "", False),
    (OK + b"Transfer-Encoding: chunked\r\n\r\n", "HEAD", 200, "", False),
    (b"HTTP/1.1 204 No\r\n\r\n", "GET", 204, "", False),
    (b"HTTP/1.1 304 Not\r\nContent-Length: 5\r\n\r\n", "GET", 304, "", False),
    (
        b"HTTP/1.1 100 Go\r\n\r\nHTTP/1.1 103 Hint\r\nLink: x\r\n\r\nHTTP/1.1 204 No\r\n\r\n",
        "GET",
        204,
        "",
        False,
    ),
    (b"HTTP/1.1 101 Switch\r\nUpgrade: x\r\n\r\n", "GET", 101, "", False),
    (CHUNKED + b"3\r\nabc\r\n0\r\n\r\n", "GET", 200, "abc", False),
    (
        CHUNKED + b"0003 ;a=b\r\nabc\r\nA\r\n0123456789\r\n0\r\nTrailer: 1\r\n\r\n",
        "GET",
        200,
        "abc0123456789",
        False,
    ),
    (CHUNKED + b"3\nabc\n0\n\n", "GET", 200, "abc", False),
    (OK + b"Transfer-Encoding: gzip, Chunked\r\n\r\n1\r\na\r\n0\r\n\r\n", "GET", 200, "a", False),
    (OK + b"Connection: Close\r\nContent-Length: 0\r\n\r\n", "GET", 200, "", True),
    (OK + b"Connection: x, close\r\nContent-Length: 0\r\n\r\n", "GET", 200, "", True),
    (OK + b"Connection: x\r\nConnection: close\r\nContent-Length: 0\r\n\r\n", "GET", 200, "", True),
    (OK + b"Connection: closed\r\nContent-Length: 0\r\n\r\n", "GET", 200, "", False),
    (b"HTTP/1.0 200 OK\r\nContent-Length: 0\r\n\r\n", "GET", 200, "", True),
    (b"HTTP/1.0 200 OK\r\nConnection: keep-alive\r\nContent-Length: 0\r\n\r\n", "GET", 200, "", False),
    (OK + b"A: b\r\n folded\r\nContent-Length: 1\r\n\r\nx", "GET", 200, "x", False),
    (OK + b"A: \xff\xfe\r\nContent-Length: 2\r\n\r\n\xff!", "GET", 200, "\N{REPLACEMENT CHARACTER}!", False),
    (
        OK + b"Content-Length: 1200\r\n\r\n" + "\N{GRINNING FACE}".encode() * 300,
        "GET",
        200,
        "\N{GRINNING FACE}" * 300,
        False,
    ),
]
PARTS = [
    # what came, then where the reading stands, and whether it is whole when no more comes
    (b"", "before any response", False),
    (b"H", "in the head of the response", False),
    (OK + b"Content-Length: 3\r\n", "in the head of the response", False),
    (b"HTTP/1.1 100 Go\r\n\r\n", "before any response", False),
    (b"HTTP/1.1 100 Go\r\n\r\nHTTP", "in the head of the response", False),
    (OK + b"Content-Length: 3\r\n\r\nab", "behind 2 of 3 bytes of the body", False),
    (OK + b"\r\n", "behind 0 bytes of the body", True),
    (OK + b"\r\nabc", "behind 3 bytes of the body", True),
    (OK + b"Transfer-Encoding: gzip\r\n\r\nabc", "behind 3 bytes of the body", True),
    (CHUNKED, "between chunks, behind 0 bytes of the body", False),
    (CHUNKED + b"3", "inside a chunk, behind 0 bytes of the body", False),
    (CHUNKED + b"3\r\n", "inside a chunk, behind 0 bytes of the body", False),
    (CHUNKED + b"3\r\nabc", "inside a chunk, behind 3 bytes of the body", False),
    (CHUNKED + b"3\r\nabc\r", "inside a chunk, behind 3 bytes of the body", False),
    (CHUNKED + b"3\r\nabc\r\n", "between chunks, behind 3 bytes of the body", False),
    (CHUNKED + b"3\r\nabc\r\n0\r\n", "between chunks, behind 3 bytes of the body", False),
]
BROKEN = [
    (b"<html>", "not HTTP"),
    (b"\r\n" + OK, "not HTTP"),
    (b"HTTP/2 200\r\n", "not HTTP"),
    (b"HTTP/1.1 OK\r\n\r\n", "not HTTP"),
    (b"HTTP/1.1 099 OK\r\n\r\n", "not HTTP"),
    (b"HTTP/1.1 2000 OK\r\n\r\n", "not HTTP"),
    (b"HTTP/1.1200 OK\r\n\r\n", "not HTTP"),
    (OK + b"no colon\r\n\r\n", "a line in the head that is no header field"),
    (OK + b"bad name : x\r\n\r\n", "a line in the head that is no header field"),
    (OK + b"A: " + b"x" * 70_000, "a head of more than 64 KiB"),
    (OK + b"A: b\r\n" * 15_000, "a head of more than 64 KiB"),
    (
        OK + b"Content-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n",
        "both Content-Length and Transfer-Encoding",
    ),
    (OK + b"Content-Length: 1, 2\r\n\r\na", "a bad Content-Length: 1, 2"),
    (OK + b"Content-Length: -1\r\n\r\n", "a bad Content-Length: -1"),
    (OK + b"Content-Length: \xb2\r\n\r\n", "a bad Content-Length: \xb2"),
    (OK + b"Content-Length: " + b"9" * 5000 + b"\r\n\r\n", f"a bad Content-Length: {'9' * 40}"),
    (OK + b"Content-Length:\r\n\r\n", "a bad Content-Length: "),
    (CHUNKED + b"zz\r\n", "a bad chunk size"),
    (CHUNKED + b"\r\n", "a bad chunk size"),
    (CHUNKED + b"-1\r\n", "a bad chunk size"),
    (CHUNKED + b"1" * 16 + b"\r\n", "a bad chunk size"),
    (CHUNKED + b"1;" + b"x" * 5000, "a bad chunk size"),
    (CHUNKED + b"3\r\nabcd\r\n", "a chunk that is longer than its size"),
    (CHUNKED + b"3\r\nabc\rx", "a chunk that is longer than its size"),
    (CHUNKED + b"0\r\n" + b"A: b\r\n" * 15_000, "trailers of more than 64 KiB"),
]
EVERYTHING = [(row[0], row[1]) for row in WHOLE] + [(row[0], "GET") for row in PARTS + BROKEN]


@pytest.mark.parametrize(("data", "method", "status", "text", "close"), WHOLE)
def test_a_whole_response(data, method, status, text, close):
    reading = read([data], method)
    assert reading.whole
    assert reading.broken is None
    assert (reading.facts()["status"], reading.facts()["text"], reading.close) == (status, text, close)
    assert reading.surplus == b""
    assert not read([data[:-1]], method).whole


@pytest.mark.parametrize(("data", "place", "ends_it"), PARTS)
def test_a_part_of_a_response(data, place, ends_it):
    reading = read([data])
    assert (reading.place, reading.whole, reading.broken) == (place, False, None)
    assert read([data], ended=True).whole == ends_it


@pytest.mark.parametrize(("data", "why"), BROKEN)
def test_what_is_no_response(data, why):
    reading = read([data])
    assert (reading.broken, reading.whole) == (why, False)
    assert not read([data], ended=True).whole


@st.composite
def split(draw, data):
    """The same bytes in any portions."""
    cuts = draw(st.lists(st.integers(0, len(data)), max_size=8))
    bounds = [0, *sorted(cuts), len(data)]
    return [data[a:b] for a, b in zip(bounds, bounds[1:], strict=False)]


@given(st.data())
def test_portions_do_not_matter(data):
    raw, method = data.draw(st.sampled_from(EVERYTHING))
    surplus = data.draw(st.sampled_from([b"", b"\r\n", OK]))
    portions = data.draw(split(raw + surplus))
    ended = data.draw(st.booleans())
    assert seen(read(portions, method, ended)) == seen(read([raw + surplus], method, ended))


@pytest.mark.parametrize(("raw", "method"), [row for row in EVERYTHING if len(row[0]) < 2000])
def test_single_bytes_do_not_matter(raw, method):
    assert seen(read([bytes([byte]) for byte in raw], method)) == seen(read([raw], method))


@given(st.binary(max_size=200), st.data())
@example(b"HTTP/1.1 200 \n\n\n", None)
def test_nothing_makes_it_fail(noise, data):
    whole = seen(read([noise]))
    if data is not None:
        assert seen(read(data.draw(split(noise)))) == whole
    assert seen(read([CHUNKED, noise]))["facts"]["status"] == 200
    assert seen(read([OK + noise]))["started"]


@given(
    st.lists(st.binary(min_size=1, max_size=400), max_size=6),
    st.sampled_from(["%x", "%X", "000%x"]),
    st.sampled_from([b"\r\n", b"\n"]),
    st.sampled_from([b"Transfer-Encoding", b"transfer-encoding", b"TRANSFER-encoding"]),
    st.binary(max_size=5),
    st.data(),
)
def test_chunks_make_the_body(chunks, size, newline, name, behind, data):
    raw = OK + name + b": chunked\r\n\r\n"
    for chunk in chunks:
        raw += (size % len(chunk)).encode() + newline + chunk + newline
    reading = read(data.draw(split(raw + b"0" + newline + newline + behind)))
    body = b"".join(chunks)
    assert reading.whole
    assert reading.surplus == behind
    assert reading.facts()["bytes"] == len(body)
    assert reading.facts()["text"] == body[:1200].decode(errors="replace")[:300]


def test_what_matters_in_the_header_is_told():
    fields = b"RETRY-AFTER: 7\r\nX-request-ID: abc\r\ncontent-type: text/plain\r\nServer: x\r\nContent-Length: 0\r\n\r\n"
    assert read([OK + fields]).facts() == {
        "status": 200,
        "close": False,
        "bytes": 0,
        "text": "",
        "content_type": "text/plain",
        "retry_after": "7",
        "request_id": "abc",
    }
    assert read([OK]).facts() == {}
    assert read([b"<p>no", b"!" * 400]).facts() == {"text": "<p>no" + "!" * 295}
    assert read([CHUNKED + b"zz\r\n"]).facts()["status"] == 200


@pytest.mark.parametrize(
    ("body", "ended"),
    [
        (b"data: 1\n\n", True),
        (b"data: 1\r\n\r\n", True),
        (b"data: 1\r\r", True),
        (b": ping\n\n", True),
        (b"data: 1\n", False),
        (b"data: 1\n\ndata: 2", False),
        (b"", False),
    ],
)
def test_the_end_of_an_event_is_seen(body, ended):
    chunk = b"%x\r\n%b\r\n" % (len(body), body) if body else b""
    assert read([CHUNKED, chunk]).event_ended == ended
    assert read([OK + b"\r\n", *(bytes([byte]) for byte in body)]).event_ended == ended
    assert not read([CHUNKED, chunk, b"5"]).event_ended


def test_a_sample_keeps_little():
    sample = Sample()
    for _ in range(1000):
        sample.take(b"0123456789")
    assert (sample.size, sample.end, sample.text) == (10_000, b"6789", "0123456789" * 30)
    assert len(sample._beginning) == 1200


# -- websockets ------------------------------------------------------------------------------------------------


def framed(opcode, payload, *, final=True):
    length = len(payload)
    if length < 126:
        size = bytes([length])
    elif length < 1 << 16:
        size = b"\x7e" + length.to_bytes(2, "big")
    else:
        size = b"\x7f" + length.to_bytes(8, "big")
    return bytes([0x80 * final | opcode]) + size + payload


def heard(portions):
    frames = _websocket.Frames()
    answers = b"".join(frames.feed(portion) for portion in portions)
    return frames, answers


def unmasked(frame):
    assert frame[1] & 0x80
    return frame[0], bytes(byte ^ frame[2 + at % 4] for at, byte in enumerate(frame[6:]))


FRAMES = [
    # what came, then the messages, the code and reason of the close, what is wrong
    (framed(1, b"hi"), b"hi", None, "", None),
    (framed(1, b"h", final=False) + framed(0, b"i"), b"hi", None, "", None),
    (framed(2, b"x" * 300) + framed(1, b""), b"x" * 300, None, "", None),
    (framed(2, b"x" * 70_000), b"x" * 70_000, None, "", None),
    (framed(8, b"\x03\xe9going away"), b"", 1001, "going away", None),
    (framed(1, b"hi") + framed(8, b"") + framed(1, b"late"), b"hi", 1005, "", None),
    (framed(8, b"\x03\xe9\xff"), b"", 1001, "\N{REPLACEMENT CHARACTER}", None),
    (framed(10, b"pong") + framed(1, b"hi"), b"hi", None, "", None),
    (b"\x81\x82abcdhi", b"", None, "", "a masked frame from a server"),
    (framed(8, b"x" * 126), b"", None, "", "a control frame that is too long or in pieces"),
    (framed(9, b"x", final=False), b"", None, "", "a control frame that is too long or in pieces"),
    (b"\x81", b"", None, "", None),
    (b"\x81\x7e\x01", b"", None, "", None),
    (b"\x88\x05\x03", b"", None, "", None),
]


@pytest.mark.parametrize(("data", "messages", "code", "reason", "broken"), FRAMES)
def test_frames(data, messages, code, reason, broken):
    frames, _ = heard([data])
    assert (frames.sample.size, frames.sample.text) == (len(messages), messages.decode()[:300])
    assert (frames.closed, frames.reason, frames.broken) == (code, reason, broken)


@given(st.data())
def test_portions_of_frames_do_not_matter(data):
    raw = data.draw(st.sampled_from([row[0] for row in FRAMES]))
    frames, answers = heard(data.draw(split(raw)))
    whole, all_answers = heard([raw])
    assert (
        frames.sample.size,
        frames.sample.text,
        frames.closed,
        frames.reason,
        frames.broken,
        frames.in_frame,
    ) == (
        whole.sample.size,
        whole.sample.text,
        whole.closed,
        whole.reason,
        whole.broken,
        whole.in_frame,
    )
    assert len(answers) == len(all_answers)
    if answers:
        assert unmasked(answers) == unmasked(all_answers)


def test_a_ping_and_a_leave_are_answered():
    _, pong = heard([framed(9, b"are you there")])
    assert unmasked(pong) == (0x8A, b"are you there")
    _, leave = heard([framed(8, b"\x03\xe9going away")])
    assert unmasked(leave) == (0x88, b"\x03\xe9")


def test_the_answer_to_a_key_is_that_of_the_rfc():
    assert _websocket.accepting("dGhlIHNhbXBsZSBub25jZQ==") == "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="
    assert len({_websocket.new_key() for _ in range(10)}) == 10


# -- conversations ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("request_", "kind"),
    [
        (Request(), Conversation),
        (Request(kind="stream"), Conversation),
        (Request(kind="raw"), Conversation),
        (Request(again=True), Kept),
        (Request(kind="idle"), Kept),
        (Request(kind="silent"), Held),
        (Request(kind="half-headers"), Held),
        (Request(kind="half-body"), Held),
        (Request(kind="slow-headers"), Held),
        (Request(kind="sse"), Sse),
        (Request(kind="websocket"), WebSocket),
    ],
)
def test_each_kind_has_its_conversation(request_, kind):
    assert type(converse(request_, 1)) is kind


@pytest.mark.parametrize(
    ("kind", "ends"),
    [
        ("request", ("eof", "reset", "never-answered")),
        ("raw", ("eof", "reset", "never-answered")),
        ("idle", ("eof", "reset", "never-answered")),
        ("silent", ("closed", "reset", "open")),
        ("half-headers", ("closed", "reset", "open")),
        ("half-body", ("closed", "reset", "open")),
        ("slow-headers", ("closed", "reset", "open")),
        ("sse", ("eof", "reset", "never-answered")),
        ("websocket", ("eof", "reset", "never-answered")),
    ],
)
def test_the_words_where_nothing_came(kind, ends):
    def fresh():
        return converse(Request(kind=kind), 1)

    assert (
        fresh().lost(reset=False).outcome,
        fresh().lost(reset=True).outcome,
        fresh().unfinished().outcome,
    ) == ends


def test_bytes_that_nobody_asked_for_are_told():
    idle = converse(Request(kind="idle"), 1)
    assert idle.received(OK + b"Content-Length: 0\r\n\r\n" + b"xx") is None
    assert idle.received(b"HTTP/1.1 408 Late\r\n\r\n") is None
    assert idle.lost(reset=False) == ("closed", "idle behind its response; 23 bytes came unasked")
    assert idle.facts()["status"] == 200


def test_each_request_on_a_connection_has_a_response_of_its_own():
    again = converse(Request(again=True), 1)
    for _ in range(2):
        assert again.received(OK + b"Content-Length: 1\r\n\r\nx") is None
        assert again.pause == 0.05
        assert again.more() == again.opening()
        assert again.pause is None
    assert again.facts() == {}
    assert again.no_more() is None
    assert again.received(OK + b"Content-Length: 1\r\n\r\nx") == ("completed", "request 3 on its connection")
    assert again.facts()["text"] == "x"


def test_an_event_stream_or_websocket_that_is_open_says_so():
    events = converse(Request(kind="sse"), 1)
    assert events.received(CHUNKED) is None
    assert events.unfinished().outcome == "open"
    part = converse(Request(kind="sse"), 1)
    assert part.received(b"HTTP") is None
    assert part.unfinished() == ("truncated", "no more came, in the head of the response")


def test_a_broken_frame_ends_a_websocket():
    socket = converse(Request(kind="websocket"), 1)
    key = socket.opening()[0].partition(b"Sec-WebSocket-Key: ")[2].partition(b"\r\n")[0].decode()
    head = f"HTTP/1.1 101 S\r\nSec-WebSocket-Accept: {_websocket.accepting(key)}\r\n\r\n".encode()
    assert socket.received(head + b"\x81\x82abcdhi") == ("truncated", "a masked frame from a server")
    assert socket.lost(reset=True).outcome == "reset"
