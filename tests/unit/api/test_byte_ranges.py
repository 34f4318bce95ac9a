"""Ranges of downloads, as clients of Glance write them."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from casimg_api.byte_ranges import ManyRangesError, UnsatisfiableRangeError, parse_range


@pytest.mark.parametrize(
    ("header", "size", "found"),
    [
        ("bytes=0-4", 10, (0, 5)),
        ("bytes=0-0", 1, (0, 1)),
        ("bytes=4-", 10, (4, 10)),
        ("bytes=9-9", 10, (9, 10)),
        ("bytes=9-400", 10, (9, 10)),
        ("bytes=-3", 10, (7, 10)),
        ("bytes=-10", 10, (0, 10)),
        ("bytes=-400", 10, (0, 10)),
        ("bytes = 1 - 2", 10, (1, 3)),
        ("Bytes=1-2", 10, (1, 3)),
    ],
)
def test_a_range_that_can_be_served(header: str, size: int, found: tuple[int, int]) -> None:
    """From a to b, from a on, the last n; what goes past the end is clamped."""
    assert parse_range(header, None, size) == found


@pytest.mark.parametrize(
    ("header", "size"),
    [
        ("bytes=10-", 10),
        ("bytes=10-12", 10),
        ("bytes=4-3", 10),
        ("bytes=-0", 10),
        ("bytes=-", 10),
        ("bytes=", 10),
        ("bytes=a-b", 10),
        ("bytes=0-4x", 10),
        ("bytes=0x1-0x2", 10),
        ("bytes=\u0661-\u0662", 10),
        ("items=0-4", 10),
        ("", 10),
        ("bytes=" + "9" * 5000 + "-", 10),
        ("bytes=0-", 0),
        ("bytes=0-0", 0),
        ("bytes=-1", 0),
    ],
)
def test_a_range_that_cannot_be_served(header: str, size: int) -> None:
    """What begins past the end, or cannot be read, is not satisfiable; an empty image has no range at all."""
    with pytest.raises(UnsatisfiableRangeError):
        parse_range(header, None, size)


@pytest.mark.parametrize("header", ["bytes=0-1,3-4", "bytes=0-1, -1", "nonsense,"])
def test_several_ranges_are_refused(header: str) -> None:
    """Several ranges are a bad request, not a multipart answer."""
    with pytest.raises(ManyRangesError):
        parse_range(header, None, 10)


@pytest.mark.parametrize(
    ("header", "found"), [("bytes 0-4/*", (0, 5)), ("bytes 3-9/10", (3, 10)), ("bytes 9-9/*", (9, 10))]
)
def test_a_content_range_of_a_request(header: str, found: tuple[int, int]) -> None:
    """Old clients say what they want in Content-Range."""
    assert parse_range(None, header, 10) == found
    assert parse_range("bytes=1-1", header, 10) == (1, 2)


@pytest.mark.parametrize("header", ["bytes 0-10/*", "bytes 10-11/*", "bytes 4-3/*", "bytes */10", "0-4", "bytes=0-4"])
def test_a_content_range_that_cannot_be_served(header: str) -> None:
    """A Content-Range is not clamped: it must lie within the image."""
    with pytest.raises(UnsatisfiableRangeError):
        parse_range(None, header, 10)


def test_no_range_is_all_of_it() -> None:
    """Without either header the whole image is meant."""
    assert parse_range(None, None, 10) is None


@given(
    header=st.text(max_size=30) | st.from_regex(r"bytes=[0-9]{0,3}-[0-9]{0,3}", fullmatch=True),
    size=st.integers(0, 300),
)
def test_a_range_is_within_the_image_or_refused(header: str, size: int) -> None:
    """Whatever is sent, the answer is a range of bytes that are there, or one of the two refusals."""
    try:
        found = parse_range(header, None, size)
    except (ManyRangesError, UnsatisfiableRangeError):
        return
    assert found is not None
    assert 0 <= found[0] < found[1] <= size
