"""Bytes from web servers: counted, held against their hash, and kept back until all is known to be right."""

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from typing import cast

import pytest

from casimg.catalog import Location
from casimg_api.config import FilteringConfig, HttpStoreConfig
from casimg_api.errors import HttpError
from casimg_api.fetch_rules import FetchRules
from casimg_api.fetching import Body, Fetcher, FetchError
from casimg_api.http_store import ElsewhereError, HttpStore, RemoteStream, open_elsewhere
from tests.api_making import image_row

PARTS = (b"a" * 10, b"b" * 5, b"c")
DATA = b"".join(PARTS)
MD5 = hashlib.md5(DATA).hexdigest()
SHA256 = hashlib.sha256(DATA).hexdigest()


class _Body:
    """Gives parts one after the other, then nothing, or an error."""

    def __init__(self, parts: tuple[bytes, ...], error: Exception | None = None) -> None:
        self._parts = iter(parts)
        self._error = error
        self.length = sum(len(part) for part in parts)
        self.total = None

    def read(self, _size: int) -> bytes:
        part = next(self._parts, b"")
        if not part and self._error is not None:
            raise self._error
        return part


def stream(
    size: int,
    hashed: tuple[str, str] | None = None,
    *,
    error: Exception | None = None,
    parts: tuple[bytes, ...] = PARTS,
) -> tuple[RemoteStream, list[int]]:
    closed: list[int] = []
    body = cast(Body, _Body(parts, error))
    return RemoteStream("i", body, size, hashed, lambda: closed.append(1)), closed


def taken(found: Iterator[bytes]) -> tuple[bytes, str]:
    """Return what comes, and why it ended."""
    data = b""
    try:
        for part in found:
            data += part
    except ElsewhereError as error:
        return data, str(error)
    return data, ""


def test_all_that_was_promised() -> None:
    """The bytes come as they are, once closed the connection is given back once."""
    for hashed in (None, ("sha256", SHA256), ("sha256", SHA256.upper())):
        found, closed = stream(len(DATA), hashed)
        found.begin()
        assert taken(iter(found)) == (DATA, "")
        found.close()
        found.close()
        assert closed == [1]


@pytest.mark.parametrize(
    ("size", "hashed", "error", "came", "why"),
    [
        (len(DATA) + 1, None, None, PARTS[0] + PARTS[1], "ended 1 bytes before"),
        (len(DATA) - 1, None, None, PARTS[0], "more bytes than"),
        (len(DATA), ("sha256", "0" * 64), None, PARTS[0] + PARTS[1], "do not have its sha256"),
        (len(DATA), None, FetchError("the data were cut: x"), PARTS[0] + PARTS[1], "cut: x"),
    ],
)
def test_the_last_part_is_kept_back(
    size: int, hashed: tuple[str, str] | None, error: Exception | None, came: bytes, why: str
) -> None:
    """Whatever is found wrong at the end, the last part was not handed out: nobody has all of it."""
    found, _ = stream(size, hashed, error=error)
    data, said = taken(iter(found))
    assert data == came
    assert why in said


def test_what_is_wrong_at_once_is_said_at_once() -> None:
    """An image of one part is wrong before any byte is handed out, and an empty answer too."""
    for parts in ((DATA,), ()):
        found, _ = stream(len(DATA), ("md5", "0" * 32), parts=parts)
        with pytest.raises(ElsewhereError):
            found.begin()


def test_a_closed_stream_gives_nothing() -> None:
    """After close nothing more comes."""
    found, closed = stream(len(DATA))
    found.begin()
    found.close()
    assert closed == [1]
    with pytest.raises(StopIteration):
        next(iter(_rest(found)))


def _rest(found: RemoteStream) -> Iterator[bytes]:
    next(found)  # the part that was there before
    yield from found


def test_there_may_be_no_store() -> None:
    """Without web servers data that are on one cannot be had, now: 503."""
    assert HttpStore.of(HttpStoreConfig(), FetchRules(FilteringConfig())) is None
    row = image_row(status="active", size=5, locations=(Location("http://a/x"),))
    with pytest.raises(HttpError) as raised:
        open_elsewhere(None, row, 0, 5)
    assert raised.value.status == 503


def test_each_location_is_tried() -> None:
    """Rules are asked again with every download: what may not be asked any more is passed over, and told by no URL."""
    store = HttpStore.of(HttpStoreConfig(enabled=True), FetchRules(FilteringConfig(), lambda *_: ["10.0.0.1"]))
    urls = ("http://inner.example/a?secret", "file:///etc/passwd", "http://127.1/", "http://u:p@x.example/")
    row = image_row(status="active", size=5, locations=tuple(Location(url) for url in urls))
    with pytest.raises(HttpError) as raised:
        open_elsewhere(store, row, 0, 5)
    assert raised.value.status == 503
    assert "secret" not in raised.value.explanation


@pytest.mark.parametrize(
    ("hash_algo", "hashes", "held_against"),
    [
        ("sha256", {"sha256": "0" * 64, "md5": MD5}, "sha256"),
        ("sha512", {"md5": "0" * 32}, "md5"),
        (None, {"sha512": "0" * 128, "md5": MD5}, "sha512"),
        ("odd", {"odd": "0"}, None),
        (None, {}, None),
    ],
)
def test_the_best_hash_counts(hash_algo: str | None, hashes: dict[str, str], held_against: str | None) -> None:
    """Whole images are held against the hash that is told, else md5, of an algorithm that is known; parts are not."""
    store = HttpStore(cast(Fetcher, _Fetcher()))
    row = image_row(status="active", size=len(DATA), hash_algo=hash_algo, hashes=hashes)
    if held_against is None:
        assert taken(iter(store.open(row, "http://a/", 0, len(DATA)))) == (DATA, "")
    else:
        data, why = taken(iter(store.open(row, "http://a/", 0, len(DATA))))
        assert (data, f"do not have its {held_against}" in why) == (DATA[:-1], True)
    assert taken(iter(store.open(row, "http://a/", 0, len(DATA), verify=False))) == (DATA, "")
    part, _ = taken(iter(store.open(row, "http://a/", 3, 12)))
    assert part == DATA[3:12]


class _Fetcher:
    """Answers with DATA, or the part that is asked for."""

    @contextmanager
    def open(self, _url: str, *, span: tuple[int, int] | None) -> Iterator[_Body]:
        data = DATA if span is None else DATA[span[0] : span[1]]
        yield _Body((data[:-1], data[-1:]))
