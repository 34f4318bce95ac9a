"""A segment read by runs of chunks is the segment read chunk by chunk."""

import random
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import casimg
from casimg.constants import BLOCK_SIZE, HOLE_FLAG, SEGMENT_SIZE
from casimg.formats.node import Leaf
from casimg.index import Place
from casimg.manifest.walk import load_leaf
from casimg.restore import spans
from casimg.runs import RunFinder
from casimg.wiring import Wiring

change = st.tuples(
    st.sampled_from(("new", "zeros", "copy")),
    st.integers(0, SEGMENT_SIZE // BLOCK_SIZE - 1),
    st.integers(1, 200),
    st.integers(0, 2**32),
)


def segments(wiring: Wiring, name: str) -> list[tuple[Leaf, bytearray | None, bytes]]:
    """Return each leaf of an image with its data by runs, and its bytes read chunk by chunk."""
    content_id = wiring.catalog.find(name).content_id
    assert content_id is not None
    reader = wiring.reader(content_id)
    found = []
    for span in spans(reader):
        if span.leaf is None:
            continue
        leaf = load_leaf(reader.node, reader.tree, span.number, span.leaf)
        plain = bytearray(span.size)
        for offset, view in reader.pieces(leaf, 0, span.size):
            plain[offset : offset + len(view)] = view
        made = bytearray(span.size)
        found.append((leaf, made if reader.fill(leaf, memoryview(made)) else None, bytes(plain)))
    return found


@settings(max_examples=15, deadline=None)
@given(generations=st.lists(st.lists(change, max_size=8), min_size=1, max_size=4))
def test_runs_give_what_chunks_give(
    generations: list[list[tuple[str, int, int, int]]], tmp_path_factory: pytest.TempPathFactory
) -> None:
    """After any changes, with holes in runs, repeated chunks and several copies, the bytes are the same."""
    folder = tmp_path_factory.mktemp("runs")
    disk = bytearray(random.Random(5).randbytes(SEGMENT_SIZE + 300_000))
    with casimg.create(folder / "r", chunk_size=4096) as repo:
        for number, changes in enumerate(generations):
            for kind, block, count, seed in changes:
                start = block * BLOCK_SIZE
                size = min(count * BLOCK_SIZE, len(disk) - start)
                source = seed % (len(disk) - size)
                disk[start : start + size] = {
                    "new": random.Random(seed).randbytes(size),
                    "zeros": bytes(size),
                    "copy": disk[source : source + size],
                }[kind]
            repo.put([bytes(disk)], name=str(number))
        repo.plan_gc(unused_max=0.0).execute()
        by_runs = 0
        for number in range(len(generations)):
            for leaf, data, plain in segments(repo._wiring, str(number)):
                if data is None:
                    continue
                by_runs += 1
                assert bytes(data) == plain
                ranges = list(leaf.data_ranges())
                assert sum(end - start for start, end in ranges) == sum(
                    size for size in leaf.sizes if not size & HOLE_FLAG
                )
                assert all(end < start for (_, end), (start, _) in pairwise(ranges))
        assert by_runs


class _Lists:
    """Entry lists of which each has to be loaded."""

    load_count = 0

    def get(self, pack_no: int) -> object:
        raise AssertionError(pack_no)


def test_lists_loaded_again_and_again_end_it() -> None:
    """A content strewn over more packs than lists are held is read chunk by chunk instead of loading lists for ever."""
    lists = _Lists()
    finder = RunFinder(lists)  # type: ignore[arg-type]
    assert finder.find(bytes(32 * 100), lambda _: []) is None
    lists.load_count = 65
    asked: list[bytes] = []

    def places(chunk: bytes) -> list[Place]:
        asked.append(chunk)
        return []

    assert finder.find(bytes(32 * 100), places) is None
    assert not asked
