"""The body of an upload: whole or not, within its limits or not."""

import io

import pytest

from casimg_api.config import binary_size
from casimg_api.errors import HttpError
from casimg_api.inspection import FormatRules, Inspection
from casimg_api.upload_body import ClientGoneError, SizeLimit, UploadBody


class Broken(io.BytesIO):
    """A stream that breaks after its bytes, as a server's does when the connection is cut."""

    def read(self, size: int | None = -1) -> bytes:
        part = super().read(size)
        if not part:
            raise OSError("connection reset")
        return part


def _read_all(body: UploadBody, size: int = 3) -> bytes:
    return b"".join(iter(lambda: body.read(size), b""))


def test_a_body_is_read_up_to_its_length() -> None:
    """What follows on the connection is the next request's."""
    stream = io.BytesIO(b"12345GET /")
    body = UploadBody(stream, 5)
    assert _read_all(body) == b"12345"
    assert body.size == 5
    assert stream.read() == b"GET /"


def test_a_chunked_body_ends_itself() -> None:
    """Without a length the stream says when it is over."""
    assert _read_all(UploadBody(io.BytesIO(b"12345"), None)) == b"12345"


@pytest.mark.parametrize(("stream", "length"), [(io.BytesIO(b"123"), 5), (Broken(b"123"), 5), (Broken(b"123"), None)])
def test_a_body_that_is_cut_is_none(stream: io.BytesIO, length: int | None) -> None:
    """A connection that ends too early, or breaks, is a client that is gone; it stays so."""
    body = UploadBody(stream, length)
    with pytest.raises(ClientGoneError):
        _read_all(body)
    body.drain()
    assert body.read(5) == b""


def test_a_limit_counts_the_bytes_that_come() -> None:
    """The last byte allowed comes through, the next one is 413 and says the number."""
    body = UploadBody(io.BytesIO(b"123456"), None)
    body.look([SizeLimit(5, lambda size: f"{size} is too much")], None)
    assert body.read(5) == b"12345"
    with pytest.raises(HttpError) as caught:
        body.read(5)
    assert (caught.value.status, caught.value.explanation) == (413, "6 is too much")


def test_a_refused_body_is_read_to_its_end() -> None:
    """A client that is still sending would not listen: the rest is read and forgotten."""
    stream = io.BytesIO(b"x" * 1_000_000 + b"next")
    body = UploadBody(stream, 1_000_000)
    body.read(10)
    body.drain()
    assert stream.read() == b"next"


def test_an_inspection_sees_every_byte() -> None:
    """What passes is what is looked at; the verdict comes at the end."""
    body = UploadBody(io.BytesIO(b"123456"), None)
    body.look((), Inspection("raw", FormatRules()))
    _read_all(body)
    assert body.finish() == 6
    wrong = UploadBody(io.BytesIO(b"123456"), None)
    wrong.look((), Inspection("qcow2", FormatRules()))
    _read_all(wrong)
    with pytest.raises(HttpError) as caught:
        wrong.finish()
    assert caught.value.status == 415


@pytest.mark.parametrize(
    ("text", "size"), [("0", 0), ("500", 500), ("10GB", 10 << 30), ("1 tb", 1 << 40), ("3KB", 3072), ("7B", 7)]
)
def test_a_size_as_glance_writes_it(text: str, size: int) -> None:
    """Units are powers of 1024, in any case of letters."""
    assert binary_size(text) == size


@pytest.mark.parametrize("text", ["", "GB", "-1", "1.5GB", "10GiB", "9" * 12])
def test_what_is_no_size(text: str) -> None:
    """Anything else is refused when the configuration is read."""
    with pytest.raises(ValueError, match="is no size"):
        binary_size(text)


class Plain:
    """A stream that can only be read by parts, as those of some servers."""

    def __init__(self, data: bytes) -> None:
        self.read = io.BytesIO(data).read


@pytest.mark.parametrize("stream", [io.BytesIO(b"123456GET /"), Plain(b"123456GET /")])
def test_a_body_read_into_a_buffer(stream: io.BytesIO) -> None:
    """Whether a server's stream can fill a buffer or not: the body ends at its length, and is held against limits."""
    body = UploadBody(stream, 6)
    body.look([SizeLimit(5, lambda size: f"{size} is too much")], Inspection("raw", FormatRules()))
    buffer = memoryview(bytearray(4))
    assert body.readinto(buffer) == 4
    assert bytes(buffer) == b"1234"
    with pytest.raises(HttpError) as caught:
        body.readinto(buffer)
    assert caught.value.explanation == "6 is too much"
    body.drain()
    assert body.readinto(buffer) == 0
    assert body.size == 6
    assert stream.read() == b"GET /"


def test_a_body_that_is_cut_fills_no_buffer() -> None:
    """A connection that ends too early is a client that is gone, also for those who bring a buffer."""
    buffer = memoryview(bytearray(4))
    for stream in (io.BytesIO(b"123"), Plain(b"123")):
        body = UploadBody(stream, 5)
        assert body.readinto(buffer) == 3
        with pytest.raises(ClientGoneError):
            body.readinto(buffer)
        assert body.readinto(buffer) == 0
