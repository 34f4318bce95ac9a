"""Views that an application hands out go to the socket, in order with what the server sends."""

import socket
from collections.abc import Iterable, Iterator
from typing import Any

from casimg_api.context import VIEWS_KEY
from casimg_api.direct_send import SOCKET_KEY, DirectSends


class _Parts:
    """An answer of these parts, which notes that it was closed."""

    def __init__(self, parts: list[bytes | memoryview]) -> None:
        self._parts = parts
        self.closed = False

    def __iter__(self) -> "Iterator[Any]":
        return iter(self._parts)

    def close(self) -> None:
        self.closed = True


def _serve(parts: _Parts, environ: dict[str, Any], server: socket.socket) -> list[bytes]:
    """Do what gunicorn does: send a head with the first part, then the rest; return what it was given."""

    def app(environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        start_response("200 OK", [])
        return parts

    given: list[bytes] = []
    answer = DirectSends(app)(environ, lambda *_: lambda _: None)
    for part in answer:
        if not given:
            server.sendall(b"HEAD ")
        given.append(part)
        server.sendall(part)
    answer.close()  # type: ignore[attr-defined]
    return given


def _received(client: socket.socket, server: socket.socket) -> bytes:
    server.close()
    found = b""
    while part := client.recv(1 << 16):
        found += part
    return found


def test_views_are_sent_after_the_head_and_in_order() -> None:
    """The head goes first, views and bytes follow each other as they came, and the server is given no view."""
    orders: tuple[list[bytes | memoryview], ...] = (
        [memoryview(b"one "), b"two ", memoryview(b"three ")],
        [b"one ", memoryview(b"two "), memoryview(b"three ")],
    )
    for parts in orders:
        server, client = socket.socketpair()
        with client:
            answer = _Parts(parts)
            environ = {SOCKET_KEY: server, "REQUEST_METHOD": "GET"}
            given = _serve(answer, environ, server)
            assert environ[VIEWS_KEY] is True
            assert _received(client, server) == b"HEAD one two three "
        assert all(type(part) is bytes for part in given)
        assert answer.closed


def test_a_view_may_change_after_it_was_sent() -> None:
    """A buffer that is used again for the next part does not change what went out before."""
    buffer = bytearray(b"aaaa")

    def parts() -> "Iterator[memoryview]":
        yield memoryview(buffer)
        buffer[:] = b"bbbb"
        yield memoryview(buffer)

    server, client = socket.socketpair()
    with client:
        answer = _Parts([])
        answer.__class__ = type("_Changing", (_Parts,), {"__iter__": lambda _: parts()})
        _serve(answer, {SOCKET_KEY: server, "REQUEST_METHOD": "GET"}, server)
        assert _received(client, server) == b"HEAD aaaabbbb"


def test_only_plain_sockets_and_get_take_views() -> None:
    """Where the server has to write the bytes itself, or there is no body, nobody is told to hand out views."""

    class Encrypted(socket.socket):
        pass

    with socket.socket() as plain, Encrypted() as encrypted:
        for environ in (
            {SOCKET_KEY: encrypted, "REQUEST_METHOD": "GET"},
            {SOCKET_KEY: plain, "REQUEST_METHOD": "HEAD"},
            {"REQUEST_METHOD": "GET"},
        ):
            told: list[bool] = []

            def app(environ: dict[str, Any], _start: Any, told: list[bool] = told) -> Iterable[bytes]:
                told.append(VIEWS_KEY in environ)
                return [b"x"]

            assert list(DirectSends(app)(environ, lambda *_: lambda _: None)) == [b"x"]
            assert told == [False]
