"""From a cut segment to frames: any choice of its chunks comes back from the frames made of them, gaps or none."""

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from casimg.constants import BLOCK_SIZE, FRAME_PLAIN_TARGET, HOLE_FLAG, ID_SIZE, KIB, KIND_DATA
from casimg.formats import frame
from casimg.formats.frame import decode_frame, encode_frame
from casimg.ids import chunk_id
from casimg.ingest import _encode
from casimg.segments import CutSegment

entry = st.tuples(st.booleans(), st.integers(1, 12)).map(lambda drawn: (drawn[0], drawn[1] * 2 * BLOCK_SIZE))


def cut(entries: list[tuple[bool, int]]) -> tuple[CutSegment, list[bytes]]:
    """A segment of these (is a hole, size), and its chunks."""
    rng = random.Random(len(entries))
    parts = [
        bytes(size) if is_hole else rng.randbytes(size // 2) + bytes(size - size // 2) for is_hole, size in entries
    ]
    chunks = [part for part, (is_hole, _) in zip(parts, entries, strict=True) if not is_hole]
    sizes = [size | HOLE_FLAG if is_hole else size for is_hole, size in entries]
    ids = b"".join(chunk_id(chunk) for chunk in chunks)
    return CutSegment(0, sizes, ids, memoryview(bytearray(b"".join(parts))), 0), chunks


@settings(max_examples=60)
@given(entries=st.lists(entry, min_size=1, max_size=30), data=st.data())
def test_chunks_come_back_from_the_frames_of_a_segment(entries: list[tuple[bool, int]], data: st.DataObject) -> None:
    """Chosen chunks are where `spans` says, and come back from frames of at most 256 KiB, in order."""
    segment, chunks = cut(entries)
    chosen = sorted(data.draw(st.sets(st.integers(0, len(chunks) - 1)) if chunks else st.just(set[int]())))
    spans = segment.spans(chosen)
    assert [bytes(segment.plain[start:end]) for start, end in spans] == [chunks[number] for number in chosen]
    if not chosen:
        return
    ids = [segment.ids[number * ID_SIZE : (number + 1) * ID_SIZE] for number in chosen]
    found: list[tuple[bytes, bytes]] = []
    for stored, frame_ids, sizes in _encode(segment.plain, list(zip(ids, spans, strict=True)), 1):
        header, plain = decode_frame(stored)
        assert header.chunk_sizes == tuple(sizes)
        assert len(plain) <= FRAME_PLAIN_TARGET
        assert stored == encode_frame(KIND_DATA, plain, sizes, 1)
        starts = [sum(sizes[:number]) for number in range(len(sizes))]
        found += zip(frame_ids, (plain[at : at + size] for at, size in zip(starts, sizes, strict=True)), strict=True)
    assert found == [(chunk_id(chunks[number]), chunks[number]) for number in chosen]


@pytest.mark.parametrize("wrong", [b"", b"a" * (16 * KIB - 1) + b"b", b"a" * (16 * KIB - 1)])
@pytest.mark.parametrize("kind", [bytes, memoryview])
def test_a_frame_that_decodes_to_other_bytes_never_leaves(
    wrong: bytes, kind: type, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What zstd gives back is compared to the last byte, whether the plain bytes are bytes or a view of a buffer."""

    class Liar:
        def decompress(self, payload: bytes, max_output_size: int) -> bytes:
            return wrong

    monkeypatch.setattr(frame._codecs, "decompressor", Liar())
    with pytest.raises(RuntimeError, match="does not give back"):
        encode_frame(KIND_DATA, kind(b"a" * (16 * KIB)), [16 * KIB], 1)
