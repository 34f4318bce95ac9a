"""Bodies of requests read from gunicorn's sockets in large pieces, into the buffer of whoever asks.

gunicorn hands on a body by parts that are copied three or four times, and takes the interpreter's lock for each piece
that the kernel gives. Here the kernel writes where the bytes shall be. What is not plain (an extension of a chunk, a
trailer, a line that is none) is left to gunicorn's own code, so it is let in and refused as ever.

With `server.py` all that knows the server.
"""

import contextlib
import re
import socket
import time
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, Any, Final, Protocol

from gunicorn.http.body import Body, ChunkedReader, LengthReader
from gunicorn.http.errors import ChunkMissingTerminator, InvalidChunkSize, NoMoreData
from gunicorn.http.unreader import SocketUnreader

if TYPE_CHECKING:
    from wsgiref.types import StartResponse, WSGIApplication

WINDOW_SIZE: Final = 256 << 10
"""Of a chunked body so much is read at once where chunks begin and end; a chunk of more goes past it."""
_SLOW_S: Final = 0.5
_PLAIN_SIZE: Final = re.compile(rb"[0-9A-Fa-f]{1,15}")
_NEXT_CHUNK: Final = re.compile(rb"\r\n([0-9A-Fa-f]{1,15})\r\n")


class _Connection:
    """The bytes of a connection: first those that were read with the head, then those of the socket."""

    def __init__(self, unreader: Any) -> None:
        self.unreader = unreader
        self._socket: socket.socket = unreader.sock
        self._is_slow = False

    def read_into(self, view: memoryview, *, whole: bool) -> int:
        """Put bytes into `view` and return how many; 0 when the connection has ended.

        Args:
            whole: better wait until the view is full: what comes in small pieces costs the interpreter's lock for each.
        """
        held = self.unreader.take_buffered()
        if held:
            count = min(len(held), len(view))
            view[:count] = held[:count]
            self.unreader.unread(held[count:])
            return count
        # A slow client's bytes go on as they come: its session shows by them that it lives.
        begin_s = time.monotonic()
        flags = socket.MSG_WAITALL if whole and not self._is_slow else 0
        count = self._socket.recv_into(view, len(view), flags)
        self._is_slow = time.monotonic() - begin_s > _SLOW_S
        return count


class _Reader(Protocol):
    """What stands in for a reader of gunicorn."""

    def read(self, size: int, /) -> bytes: ...
    def readinto(self, view: memoryview, /) -> int: ...


class LengthBody:
    """A body whose length was said."""

    def __init__(self, reader: LengthReader, connection: _Connection) -> None:
        self._connection = connection
        self.length: int = reader.length
        """Bytes that are still to come."""

    def readinto(self, view: memoryview) -> int:
        count = self._connection.read_into(view[: self.length], whole=True) if self.length else 0
        self.length -= count
        return count

    def read(self, size: int) -> bytes:
        return _read(self.readinto, min(size, self.length))


class ChunkedBody:
    """A body in chunks. Raises: gunicorn's errors for chunks that are none, NoMoreData when it was cut."""

    def __init__(self, reader: ChunkedReader, connection: _Connection) -> None:
        self._reader = reader
        self._connection = connection
        self._left = 0  # bytes of the chunk that have not been handed out
        self._is_within = False  # whether the end of a chunk is still to be read
        self._window: bytearray | None = bytearray()  # None at the end of the body
        self._start = self._end = 0  # what of the window has not been used

    def readinto(self, view: memoryview) -> int:
        done = 0
        while done < len(view) and self._window is not None:
            if not self._left:
                if done and self._start == self._end:
                    break  # no waiting for another chunk while there is something to hand out
                self._begin_chunk()
                continue
            wanted = min(self._left, len(view) - done)
            held = self._end - self._start
            if held:
                count = min(held, wanted)
                view[done : done + count] = memoryview(self._window)[self._start : self._start + count]
                self._start += count
            elif wanted >= WINDOW_SIZE:
                count = self._some(self._connection.read_into(view[done : done + wanted], whole=True))
            elif done:
                break
            else:
                self._fill()
                continue
            done += count
            self._left -= count
        return done

    def read(self, size: int) -> bytes:
        return _read(self.readinto, size)

    def _begin_chunk(self) -> None:
        """Read what stands before the bytes of the next chunk; after the last one, all that follows it."""
        if self._is_within:
            assert self._window is not None
            # Nearly always all of it is there, and plain.
            found = _NEXT_CHUNK.match(self._window, self._start, self._end)
            if found is not None and (size := int(found[1], 16)):
                self._left = size
                self._start = found.end()
                return
            self._take_end()
        line = self._line()
        size_text = line.partition(b";")[0].rstrip(b" \t")
        if size_text.strip(b"0") and _PLAIN_SIZE.fullmatch(line):
            self._left = int(line, 16)
        else:
            if not size_text.strip(b"0"):  # the last one: trailers may follow
                self._give_back()
            self._left, _ = self._reader.parse_chunk_size(self._connection.unreader, line + b"\r\n")
            if not self._left:
                self._window = None
        self._is_within = True

    def _take_end(self) -> None:
        assert self._window is not None
        with contextlib.suppress(NoMoreData):
            while self._end - self._start < 2:
                self._fill()
        found = bytes(self._window[self._start : self._start + 2])
        if found != b"\r\n":
            raise ChunkMissingTerminator(found)
        self._start += 2

    def _line(self) -> bytes:
        """Return the next line, without its end."""
        assert self._window is not None
        size_max = min(self._reader.limit_chunk_size_line, WINDOW_SIZE - 2)
        seen = self._start
        while (end := self._window.find(b"\r\n", seen, self._end)) < 0 and self._end - self._start <= size_max:
            seen = max(0, self._end - self._start - 1)  # from the start, where the line is moved to
            self._fill()
        if end < 0 or end - self._start > size_max:
            raise InvalidChunkSize(b"line over %d bytes" % size_max)
        line = bytes(self._window[self._start : end])
        self._start = end + 2
        return line

    def _fill(self) -> None:
        """Read on into the window, with what is left of it at its beginning."""
        assert self._window is not None
        if not self._window:
            self._window = bytearray(WINDOW_SIZE)
        left = self._end - self._start
        self._window[:left] = self._window[self._start : self._end]
        self._start, self._end = 0, left
        self._end += self._some(self._connection.read_into(memoryview(self._window)[left:], whole=False))

    def _give_back(self) -> None:
        assert self._window is not None
        self._connection.unreader.unread(bytes(self._window[self._start : self._end]))
        self._start = self._end = 0

    @staticmethod
    def _some(count: int) -> int:
        if not count:
            raise NoMoreData
        return count


class SocketBody:
    """`wsgi.input`: gunicorn's body, with a way to read it into a buffer. Threads: one."""

    def __init__(self, body: Body, reader: _Reader) -> None:
        self._body = body
        self._reader = reader
        self.read: Callable[..., bytes] = body.read
        self.readline: Callable[..., bytes] = body.readline
        self.readlines: Callable[..., list[bytes]] = body.readlines

    def __iter__(self) -> Iterator[bytes]:
        return iter(self._body)

    def readinto(self, view: memoryview) -> int:
        """Put the next bytes into `view` and return how many; 0 at the end, and where a body with a length was cut.

        Raises: OSError and gunicorn's errors when a body breaks; it is not read further then.
        """
        if not len(view):
            return 0
        if self._body.buf.tell():  # left by another way of reading
            part = self._body.read(min(len(view), self._body.buf.tell()))
            view[: len(part)] = part
            return len(part)
        try:
            return self._reader.readinto(view)
        except Exception:
            self._body.failed = True  # where the next request begins is not known
            raise


class LargeReads:
    """Give an application bodies that can be read into a buffer, where gunicorn reads them from a socket."""

    def __init__(self, app: "WSGIApplication") -> None:
        self._app = app

    def __call__(self, environ: dict[str, Any], start_response: "StartResponse") -> Iterable[bytes]:
        environ["wsgi.input"] = socket_body(environ["wsgi.input"])
        return self._app(environ, start_response)


def socket_body(body: Any) -> Any:
    """Return a body that reads large pieces, in the place of gunicorn's; any other as it is.

    gunicorn itself reads on by the same reader, so what nobody has read is drained as ever.
    """
    if type(body) is not Body:
        return body
    plain = body.reader
    unreader = getattr(getattr(plain, "req", plain), "unreader", None)
    if type(unreader) is not SocketUnreader:
        return body
    reader: _Reader
    if type(plain) is LengthReader:
        reader = LengthBody(plain, _Connection(unreader))
    elif type(plain) is ChunkedReader:
        reader = ChunkedBody(plain, _Connection(unreader))
    else:
        return body
    body.reader = reader
    return SocketBody(body, reader)


def _read(readinto: Callable[[memoryview], int], size: int) -> bytes:
    """Return `size` bytes, fewer only at the end."""
    data = bytearray(size)
    view = memoryview(data)
    done = 0
    while done < size and (count := readinto(view[done:])):
        done += count
    return bytes(view[:done])
