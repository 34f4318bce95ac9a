"""Bodies read in large pieces: gunicorn's own reading says what is let in, refused, and left on the connection."""

import contextlib
import socket
import threading
from collections.abc import Iterator
from itertools import pairwise
from typing import Any

import pytest
from gunicorn.config import Config
from gunicorn.http.parser import RequestParser
from hypothesis import given, settings
from hypothesis import strategies as st

from casimg_api.server_body import WINDOW_SIZE, LargeReads, SocketBody, socket_body

_NEXT = b"GET /next HTTP/1.1\r\nHost: h\r\n\r\n"
Seen = tuple[bytes, str, str]
"""The bytes of a body, the error that ended it, and the path of the request after it."""


@contextlib.contextmanager
def connected(parts: list[bytes]) -> Iterator[socket.socket]:
    """Give a connection on which a client sends these bytes and nothing more."""
    client, server = socket.socketpair()

    def send() -> None:
        with client, contextlib.suppress(OSError):
            for part in parts:
                client.sendall(part)
            client.shutdown(socket.SHUT_WR)

    thread = threading.Thread(target=send)
    thread.start()
    with server:
        yield server
    thread.join()


def head(framing: bytes) -> bytes:
    return b"PUT / HTTP/1.1\r\nHost: h\r\n" + framing + b"\r\n\r\n"


def seen_by(parts: list[bytes], size: int, *, ours: bool) -> Seen:
    """Read a body to its end, `size` bytes at a time, and the request that follows it."""
    with connected(parts) as server:
        parser = RequestParser(Config(), server, ("127.0.0.1", 1))
        body: Any = next(parser).body
        found = bytearray()
        error = following = ""
        try:
            if ours:
                large = socket_body(body)
                assert isinstance(large, SocketBody)
                buffer = memoryview(bytearray(size))
                while count := large.readinto(buffer):
                    found += buffer[:count]
            else:
                while part := body.read(size):
                    found += part
        except Exception as caught:
            error = type(caught).__name__
        try:
            following = str(next(parser).path)
        except Exception as caught:
            following = type(caught).__name__
        return bytes(found), error, following


def same(parts: list[bytes], size: int) -> Seen:
    """Hold both ways of reading against each other; what came before an error may differ, that it did not."""
    plain, large = (seen_by(parts, size, ours=ours) for ours in (False, True))
    assert large[1:] == plain[1:]
    if not plain[1]:
        assert large[0] == plain[0]
    return large


def chunked(data: bytes, sizes: list[int], extension: bytes = b"", trailers: bytes = b"") -> bytes:
    """Return bytes in chunks of these sizes, over and over."""
    wire, at, number = bytearray(), 0, 0
    while at < len(data):
        part = data[at : at + max(1, sizes[number % len(sizes)])]
        wire += b"%X%s\r\n%s\r\n" % (len(part), extension, part)
        at += len(part)
        number += 1
    return bytes(wire) + b"0\r\n" + trailers + b"\r\n"


def split(data: bytes, cuts: list[int]) -> list[bytes]:
    ends = sorted({min(cut, len(data)) for cut in cuts} | {0, len(data)})
    return [data[start:end] for start, end in pairwise(ends)]


@given(
    size=st.integers(0, 3 * WINDOW_SIZE),
    sizes=st.lists(st.sampled_from([1, 2, 700, 4096, 65536, WINDOW_SIZE, 2 * WINDOW_SIZE + 1]), min_size=1, max_size=3),
    read=st.sampled_from([4096, 100_000, WINDOW_SIZE, 1 << 20]),
    cuts=st.lists(st.integers(0, 4 * WINDOW_SIZE), max_size=4),
    extension=st.sampled_from([b"", b"", b";a=b", b' ;a="x y"']),
    trailers=st.sampled_from([b"", b"X-Sum: 1\r\n"]),
)
@settings(max_examples=60, deadline=None)
def test_chunks_are_read_as_gunicorn_reads_them(
    size: int, sizes: list[int], read: int, cuts: list[int], extension: bytes, trailers: bytes
) -> None:
    """Chunks of any size, in pieces of any size, with extensions and trailers: the bytes, and the next request."""
    data = bytes(range(256)) * (size // 256 + 1)
    data = data[: min(size, 3000 * max(sizes))]
    wire = head(b"Transfer-Encoding: chunked") + chunked(data, sizes, extension, trailers) + _NEXT
    assert same(split(wire, cuts), read) == (data, "", "/next")


@given(
    size=st.integers(0, 3 * WINDOW_SIZE),
    read=st.sampled_from([4096, 100_000, 1 << 20]),
    cuts=st.lists(st.integers(0, 4 * WINDOW_SIZE), max_size=4),
)
@settings(max_examples=40, deadline=None)
def test_a_length_is_read_as_gunicorn_reads_it(size: int, read: int, cuts: list[int]) -> None:
    """A body with a length ends where the next request begins."""
    data = bytes(range(256)) * (size // 256) + b"end"
    wire = head(b"Content-Length: %d" % len(data)) + data + _NEXT
    assert same(split(wire, cuts), read) == (data, "", "/next")


@pytest.mark.parametrize(
    "wire",
    [
        b"5\r\nabc",
        b"5\r\nabcde",
        b"5\r\nabcdeXX0\r\n\r\n",
        b"5\r\nabcde\r\n",
        b"5\r\nabcde\r\n0\r\n",
        b"5\r\nabcde\r\n0\r\nX: 1\r\n",
        b"5\r\nabcde\r\n0\r\nno header\r\n\r\n",
        b"5\r\nabcde\r\n0\r\nX: 1\n\r\n\r\n",
        b"zzz\r\nabc\r\n0\r\n\r\n",
        b"\r\nabc\r\n0\r\n\r\n",
        b"-5\r\nabcde\r\n0\r\n\r\n",
        b"0x5\r\nabcde\r\n0\r\n\r\n",
        b"5 \r\nabcde\r\n0\r\n\r\n",
        b"0 \r\n\r\n",
        b"5_0\r\nabcde\r\n0\r\n\r\n",
        b"5\nabcde\n0\n\n",
        b"5;a\rb\r\nabcde\r\n0\r\n\r\n",
        b"5;;\r\nabcde\r\n0\r\n\r\n",
        b"5;a=\xff\r\nabcde\r\n0\r\n\r\n",
        b"0;;\r\n\r\n",
        b"5;" + b"a" * 20_000 + b"\r\nabcde\r\n0\r\n\r\n",
        b"5" * 20_000,
        b"f" * 40 + b"\r\nabcde",
        b"0\r\n" + b"X: 1\r\n" * 60_000 + b"\r\n",
        b"",
    ],
)
@pytest.mark.parametrize("read", [3, 1 << 20])
def test_what_gunicorn_refuses_is_refused(wire: bytes, read: int) -> None:
    """Chunks that are none, cut bodies, lines and trailers beyond limits: the same error, and no further request."""
    for cuts in ([], [60, 61, 62, 63, 64]):
        same(split(head(b"Transfer-Encoding: chunked") + wire, cuts), read)


def test_what_was_cut_is_an_error() -> None:
    """A chunked body that ends in the middle never looks whole."""
    data = bytes(3 * WINDOW_SIZE)
    wire = head(b"Transfer-Encoding: chunked") + chunked(data, [WINDOW_SIZE])
    for end in (len(wire) // 2, len(wire) - 7, len(wire) - 2):
        assert same([wire[:end]], 1 << 20)[1] in ("NoMoreData", "ChunkMissingTerminator")


def test_what_nobody_reads_is_drained() -> None:
    """A body that was read in part, in either way, leaves the connection usable."""
    data = bytes(range(256)) * 40
    for framing, body in (
        (b"Content-Length: %d" % len(data), data),
        (b"Transfer-Encoding: chunked", chunked(data, [700])),
    ):
        with connected([head(framing) + body + _NEXT]) as server:
            parser = RequestParser(Config(), server, ("127.0.0.1", 1))
            environ = {"wsgi.input": next(parser).body}
            LargeReads(lambda environ, _start: environ["wsgi.input"].read(10))(environ, lambda *_: lambda _: None)
            large: Any = environ["wsgi.input"]
            assert large.readline() == data[10:11]
            buffer = memoryview(bytearray(1000))
            count = large.readinto(buffer)
            assert buffer[:count] == data[11 : 11 + count]
            assert next(parser).path == "/next"


def test_other_streams_stay_as_they_are() -> None:
    """What is no body of gunicorn on a socket is handed on untouched."""
    stream = object()
    assert socket_body(stream) is stream
    parser = RequestParser(Config(), iter([_NEXT, b""]), ("127.0.0.1", 1))
    body = next(parser).body
    assert socket_body(body) is body
