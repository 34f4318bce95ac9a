"""Cuts: every implementation equals the Python twin, holes are what they are said to be, golden cuts are frozen."""

import json

import pytest
from blake3 import blake3
from hypothesis import given, settings
from hypothesis import strategies as st

from casimg.chunker import (
    KINDS,
    ChunkerParams,
    chunk_ids,
    common_size,
    implementations,
    native,
    open_chunker,
    scalar,
    zero_prefix_size,
)
from casimg.chunker.scalar import zero_prefix_size as zero_prefix_size_twin
from casimg.constants import BLOCK_SIZE, HOLE_FLAG, SEGMENT_SIZE
from casimg.errors import CasimgError, InputError, NativeMissingError
from tests.golden import chunker_vectors

NATIVE = [name for name in implementations() if name != "python"]
EDGES = (0, 1, 3, 4, 2047, 2048, 2049, 4095, 4096, 4097, 6143, 6144, 6145, 8192, 16384, 16385)

part = st.one_of(
    st.tuples(st.just("random"), st.one_of(st.sampled_from(EDGES), st.integers(0, 40_000))),
    st.tuples(st.just("zeros"), st.one_of(st.sampled_from(EDGES), st.integers(0, 20_000))),
    st.tuples(st.just("same"), st.integers(0, 20_000)),
    st.tuples(st.just("period"), st.integers(0, 20_000)),
)


def build(parts: list[tuple[str, int]]) -> bytes:
    """Bytes of the drawn parts."""
    made = b""
    for number, (kind, size) in enumerate(parts):
        if kind == "random":
            made += blake3(b"%d" % number).digest(size)
        elif kind == "zeros":
            made += bytes(size)
        elif kind == "same":
            made += b"\x11" * size
        else:
            made += (b"abcde" * (size // 5 + 1))[:size]
    return made


@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=60)
@given(parts=st.lists(part, max_size=6), shift=st.integers(0, 40))
def test_every_implementation_cuts_alike(kind: str, parts: list[tuple[str, int]], shift: int) -> None:
    """SIMD, C scalar and the Python twin give the same entries, at any alignment in memory; sizes add up."""
    data = build(parts)
    params = ChunkerParams.of(kind, 4096)
    expected = open_chunker(params, "python").cut_segment(data)
    assert sum(entry & ~HOLE_FLAG for entry in expected) == len(data)
    shifted = memoryview(bytearray(shift) + data)[shift:]
    ids = scalar.chunk_ids(data, expected)
    for name in NATIVE:
        assert open_chunker(params, name).cut_segment(shifted) == expected, name
        assert open_chunker(params, name).cut_and_hash(shifted) == (expected, ids), name
    assert zero_prefix_size(shifted) == zero_prefix_size_twin(data)


size_of_chunk = st.one_of(st.integers(1, 3000), st.sampled_from((63, 64, 65, 1023, 1024, 1025, 2048, 16_385)))


@settings(max_examples=60)
@given(sizes=st.lists(st.tuples(size_of_chunk, st.booleans()), max_size=40), shift=st.integers(0, 40))
def test_every_implementation_hashes_alike(sizes: list[tuple[int, bool]], shift: int) -> None:
    """Chunks hashed together, of any sizes and with holes between them, have the ids that each has alone."""
    entries = [size | HOLE_FLAG if is_hole else size for size, is_hole in sizes]
    data = blake3(b"chunks").digest(sum(size for size, _ in sizes))
    expected = scalar.chunk_ids(data, entries)
    shifted = memoryview(bytearray(shift) + data)[shift:]
    assert chunk_ids(shifted, entries) == expected
    for name in NATIVE:
        assert native.chunk_ids(shifted, entries, name) == expected, name


def test_sizes_past_the_data_are_refused() -> None:
    """Chunks that would reach past the end, or have no bytes, are an InputError in C and in Python."""
    for hashes in (chunk_ids, scalar.chunk_ids):
        for sizes in ([6], [3, 3], [3 | HOLE_FLAG, 3], [2, 0]):
            with pytest.raises(InputError):
                hashes(b"12345", sizes)


@settings(max_examples=100)
@given(st.binary(max_size=100), st.binary(max_size=100), st.integers(0, 9), st.integers(0, 9), st.integers(0, 90))
def test_common_bytes_are_counted(first: bytes, second: bytes, a: int, b: int, same: int) -> None:
    """How far two buffers agree from two offsets on, also past either's end, is what the Python twin counts."""
    first, second = bytes(a) + bytes(same) + first, bytes(b) + bytes(same) + second
    for offsets in ((a, b), (b, a), (a, 200)):
        assert common_size(first, offsets[0], second, offsets[1]) == scalar.common_size(
            first, offsets[0], second, offsets[1]
        )


@settings(max_examples=60)
@given(parts=st.lists(part, max_size=6))
def test_holes_are_maximal_runs_of_zero_blocks(parts: list[tuple[str, int]]) -> None:
    """A 4 KiB block lies in a hole exactly when all its bytes are zero; no two holes touch."""
    data = build(parts)
    entries = open_chunker(ChunkerParams.of("mincdc", 4096)).cut_segment(data)
    at, before = 0, False
    hole = bytearray(len(data))
    for entry in entries:
        size = entry & ~HOLE_FLAG
        is_hole = bool(entry & HOLE_FLAG)
        assert not (is_hole and before)
        hole[at : at + size] = bytes([is_hole]) * size
        at, before = at + size, is_hole
    for start in range(0, len(data), BLOCK_SIZE):
        block = data[start : start + BLOCK_SIZE]
        assert set(hole[start : start + BLOCK_SIZE]) == {int(not any(block))}


@pytest.mark.parametrize("kind", KINDS)
def test_a_run_is_cut_the_same_wherever_it_stands(kind: str) -> None:
    """The cuts of a run of data do not depend on what lies before its hole or in other segments."""
    chunker = open_chunker(ChunkerParams.of(kind, 4096))
    run = blake3(b"run").digest(60_000)
    alone = chunker.cut_segment(run)
    after = chunker.cut_segment(blake3(b"before").digest(20_480) + bytes(8192) + run)
    assert after[-len(alone) :] == alone
    at = 0
    for size in alone:
        assert chunker.next_cut(run[at : at + chunker.params.size_max]) == size
        at += size


@pytest.mark.parametrize("name", implementations())
def test_golden_cuts(name: str) -> None:
    """Frozen inputs have the frozen cuts in every implementation that runs here."""
    golden = json.loads(chunker_vectors.GOLDEN.read_text())
    assert [
        {key: list(v) if isinstance(v, tuple) else v for key, v in case.items()} for case in chunker_vectors.cases()
    ] == [{key: row[key] for key in ("kind", "min", "avg", "max", "seed", "size", "zeros")} for row in golden]
    for row in golden:
        params = ChunkerParams.of(row["kind"], row["avg"])
        assert (params.size_min, params.size_max) == (row["min"], row["max"])
        entries = open_chunker(params, name).cut_segment(chunker_vectors.content(row))
        assert (len(entries), chunker_vectors.digest(entries), entries[:4]) == (
            row["count"],
            row["digest"],
            row["first"],
        )


@pytest.mark.parametrize("kind", [*KINDS, "rabin"])
@pytest.mark.parametrize("size", [0, 1, 2048, 5000, 8 << 20, -4096])
def test_sizes_that_cannot_be_are_refused(kind: str, size: int) -> None:
    """Sizes that are no power of two or out of range, and unknown chunkers, are an InputError."""
    with pytest.raises(InputError):
        ChunkerParams.of(kind, size)


@pytest.mark.parametrize("name", implementations())
def test_more_than_a_segment_is_refused(name: str) -> None:
    """One byte too many is an InputError, not a crash."""
    chunker = open_chunker(ChunkerParams.of("mincdc", 65536), name)
    with pytest.raises(InputError):
        chunker.cut_segment(bytes(SEGMENT_SIZE + 1))


def test_the_environment_chooses(monkeypatch: pytest.MonkeyPatch) -> None:
    """CASIMG_NATIVE=python takes the twin, nonsense is refused, and no extension means no writing."""
    params = ChunkerParams.of("mincdc", 4096)
    monkeypatch.setenv("CASIMG_NATIVE", "python")
    assert type(open_chunker(params)).__name__ == "PythonChunker"
    monkeypatch.setenv("CASIMG_NATIVE", "sometimes")
    with pytest.raises(CasimgError):
        open_chunker(params)
    monkeypatch.delenv("CASIMG_NATIVE")
    monkeypatch.setattr("casimg.chunker.native._lib", None)
    with pytest.raises(NativeMissingError):
        open_chunker(params)
