"""Any bytes come back equal, whatever way they come in, with the same root from each way."""

import io
import os
from pathlib import Path

from blake3 import blake3
from hypothesis import example, given, settings
from hypothesis import strategies as st

import casimg
from casimg.constants import BLOCK_SIZE, SEGMENT_SIZE

CHUNK_EDGES = (8191, 8192, 8193, 24575, 24576, 24577)
SIZES = (
    0,
    1,
    2,
    BLOCK_SIZE - 1,
    BLOCK_SIZE,
    BLOCK_SIZE + 1,
    *CHUNK_EDGES,
    SEGMENT_SIZE - 1,
    SEGMENT_SIZE,
    SEGMENT_SIZE + 1,
)

pieces = st.one_of(
    st.tuples(st.just("random"), st.integers(0, 70_000)),
    st.tuples(st.just("zeros"), st.integers(0, 3 * BLOCK_SIZE)),
    st.tuples(st.just("zeros"), st.sampled_from((BLOCK_SIZE, SEGMENT_SIZE, 2 * SEGMENT_SIZE + 5))),
    st.tuples(st.just("same"), st.integers(0, 70_000)),
    st.tuples(st.just("random"), st.sampled_from(SIZES)),
)


def build(parts: list[tuple[str, int]], seed: int) -> bytes:
    """Bytes of the drawn pieces."""
    made = []
    for number, (kind, size) in enumerate(parts):
        if kind == "random":
            made.append(blake3(b"%d %d" % (seed, number)).digest(size))
        else:
            made.append((b"\0" if kind == "zeros" else b"\xa5") * size)
    return b"".join(made)


@settings(max_examples=40)
@given(parts=st.lists(pieces, max_size=6), seed=st.integers(0, 3), step=st.integers(1, 300_000))
@example(parts=[], seed=0, step=1)
@example(parts=[("random", 1)], seed=0, step=1)
@example(parts=[("zeros", 3 * SEGMENT_SIZE)], seed=0, step=100_000)
@example(parts=[("zeros", SEGMENT_SIZE), ("random", 5)], seed=0, step=100_000)
@example(parts=[("random", SEGMENT_SIZE)], seed=0, step=65536)
@example(parts=[("random", SEGMENT_SIZE + 1)], seed=0, step=65536)
@example(parts=[("same", 2 * SEGMENT_SIZE)], seed=0, step=65536)
def test_path_stream_and_iterator_give_one_root_and_the_same_bytes(
    parts: list[tuple[str, int]], seed: int, step: int, tmp_path_factory: object
) -> None:
    """A path, a pipe-like file and an iterator of the same bytes have one root; all come back equal, sparse or not."""
    data = build(parts, seed)
    folder = Path(tmp_path_factory.mktemp("round"))  # type: ignore[attr-defined]
    file = folder / "in.raw"
    with file.open("wb") as out:
        # Sparse where it can be, so that hints are in play.
        for at in range(0, len(data), BLOCK_SIZE):
            block = data[at : at + BLOCK_SIZE]
            if any(block):
                out.seek(at)
                out.write(block)
        out.truncate(len(data))
    with casimg.create(folder / "repo") as repo:
        by_path = repo.put_report(file, name="path")
        by_file = repo.put_report(io.BytesIO(data), name="file")
        by_iterator = repo.put_report((data[at : at + step] for at in range(0, len(data), step)), name="iterator")
        assert by_path.root == by_file.root == by_iterator.root
        assert by_path.size == by_file.size == by_iterator.size == len(data)
        assert by_path.hole_size == by_file.hole_size == by_iterator.hole_size
        assert by_file.new_size == by_iterator.new_size == 0
        repo.get("path", folder / "out.raw")
        assert (folder / "out.raw").read_bytes() == data
        sink = io.BytesIO()
        repo.get("iterator", sink)
        assert sink.getvalue() == data
        with repo.open_image("file") as image:
            assert image.read() == data
            start = len(data) // 3
            image.seek(start)
            assert image.read(step) == data[start : start + step]
        assert repo.verify("path", file).equal


def test_holes_are_not_written(tmp_path: Path) -> None:
    """A restored file takes disk only for its data."""
    with casimg.create(tmp_path / "repo") as repo:
        repo.put([bytes(64 << 20), b"end"], name="sparse")
        repo.get("sparse", tmp_path / "out.raw")
    assert (tmp_path / "out.raw").stat().st_size == (64 << 20) + 3
    assert os.stat(tmp_path / "out.raw").st_blocks * 512 < 1 << 20
