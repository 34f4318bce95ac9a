"""What stands between the application and servers of others: bodies of uWSGI, and who may call when nobody is asked."""

import signal
from collections.abc import Iterable, Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from casimg_api.config import Config
from casimg_api.front import Front
from casimg_api.wsgi_servers import AnyServer, Undisturbed, UwsgiChunks


def chunks_of(parts: Iterable[bytes | Exception]) -> UwsgiChunks:
    """Return a body as `uwsgi.chunked_read` hands it out; after its end it may be asked no more."""
    left = [*parts, b""]

    def next_chunk() -> bytes:
        part = left.pop(0)
        if isinstance(part, Exception):
            raise part
        return part

    return UwsgiChunks(next_chunk)


@given(parts=st.lists(st.binary(min_size=1, max_size=50), max_size=8), sizes=st.lists(st.integers(1, 70), min_size=1))
def test_chunks_read_as_one_body(parts: list[bytes], sizes: list[int]) -> None:
    """However it is read, by parts or into buffers, a body is its chunks joined; its end is told again and again."""
    whole = b"".join(parts)
    body, into = chunks_of(parts), chunks_of(parts)
    found = filled = b""
    for turn in range(len(whole) + 2):
        size = sizes[turn % len(sizes)]
        part = body.read(size)
        assert len(part) == min(size, len(whole) - len(found))
        found += part
        buffer = bytearray(size)
        filled += bytes(buffer[: into.readinto(memoryview(buffer))])
    assert found == filled == whole
    assert chunks_of(parts).read() == whole
    assert body.read() == body.read(5) == b""


@pytest.mark.parametrize("size", [3, -1])
def test_a_cut_body_is_an_error(size: int) -> None:
    """What uWSGI says of a body that was cut is not taken for its end."""
    body = chunks_of([b"ab", OSError("unable to receive chunked part")])
    with pytest.raises(OSError, match="unable"):
        body.read(size)


@pytest.mark.parametrize("was_blocked", [False, True])
def test_a_stop_waits_for_an_answer(was_blocked: bool) -> None:
    """From the first part of an answer to its end uWSGI's signal waits; after that it is let through as before."""

    def blocked() -> bool:
        return signal.SIGHUP in signal.pthread_sigmask(signal.SIG_BLOCK, ())

    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGHUP} if was_blocked else ())
    ended: list[bool] = []

    def parts() -> Iterator[bytes]:
        try:
            yield b"a"
            yield b"b"
        finally:
            ended.append(blocked())

    try:
        answer = Undisturbed(parts())
        assert blocked() == was_blocked
        assert [(part, blocked()) for part in answer] == [(b"a", True), (b"b", True)]
        answer.close()
        assert (blocked(), ended) == (was_blocked, [True])
        Undisturbed([]).close()
        assert blocked() == was_blocked
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def ask(app: Any, **environ: str) -> str:
    """Send a request and return the status of the answer."""
    told: list[str] = []
    given = {"REQUEST_METHOD": "PUT", "PATH_INFO": "/v2/images", "wsgi.input": None, **environ}
    b"".join(app(given, lambda status, _headers, _exc_info=None: told.append(status)))
    return told[0]


def answering(_environ: Any, start: Any) -> list[bytes]:
    start("204 No Content", [])
    return []


@pytest.mark.parametrize(
    ("address", "status"),
    [
        ("127.0.0.1", "204"),
        ("127.8.9.1", "204"),
        ("::1", "204"),
        ("10.0.0.1", "403"),
        ("2001:db8::1", "403"),
        ("", "403"),
    ],
)
def test_only_this_machine_when_nobody_is_asked(address: str, status: str) -> None:
    """Without authentication another machine is refused, and a caller who is nowhere; with it all are let in."""
    assert ask(AnyServer(answering, is_open=True), REMOTE_ADDR=address)[:3] == status
    assert ask(AnyServer(answering, is_open=False), REMOTE_ADDR=address)[:3] == "204"


@pytest.mark.parametrize(
    ("framing", "status"),
    [
        ({"HTTP_TRANSFER_ENCODING": "chunked"}, "204"),
        ({"HTTP_TRANSFER_ENCODING": " Chunked"}, "204"),
        ({"CONTENT_LENGTH": "5"}, "204"),
        ({"HTTP_TRANSFER_ENCODING": "chunked", "CONTENT_LENGTH": "5"}, "400"),
        ({"HTTP_TRANSFER_ENCODING": "chunked", "CONTENT_LENGTH": "0"}, "400"),
        ({"HTTP_TRANSFER_ENCODING": "identity", "CONTENT_LENGTH": "5"}, "400"),
        ({"HTTP_TRANSFER_ENCODING": "gzip, chunked"}, "501"),
        ({"HTTP_TRANSFER_ENCODING": "xchunked"}, "501"),
        ({"HTTP_TRANSFER_ENCODING": ""}, "501"),
    ],
)
def test_one_way_to_end_a_body(framing: dict[str, str], status: str) -> None:
    """A body has a length or comes in chunks: both are 400; any other encoding, which nobody undoes, is 501."""
    assert ask(Front(answering, Config()), **framing)[:3] == status
