"""The comparison of chunkers on data made up here."""

import random
from pathlib import Path

import pytest

from benchmarks.chunkers.__main__ import family, samples_for
from benchmarks.chunkers.counting import CHUNKERS, Samples, Tally, count_chunks, frames_size
from casimg.constants import FRAME_PLAIN_TARGET, GIB, KIB, MIB
from casimg.estimating import INDEX_ENTRY_SIZE

_MINCDC = ("mincdc", 16 * KIB)


@pytest.fixture
def images(tmp_path: Path) -> list[Path]:
    """Two images of 6 MiB: noise, a hole, 1 MiB of noise; in the second, 4 KiB more before the first noise."""
    rng = random.Random(1)
    noise, more = rng.randbytes(2 * MIB), rng.randbytes(4 * KIB)
    paths = [tmp_path / "a.raw", tmp_path / "b.raw"]
    for path, first in zip(paths, (noise[:MIB], more + noise[: MIB - 4 * KIB]), strict=True):
        with path.open("wb") as file:
            file.write(first)
            file.seek(4 * MIB)
            file.write(noise[MIB:])
            file.truncate(6 * MIB)
    return paths


def by_name(tallies: list[Tally]) -> dict[tuple[str, int], Tally]:
    """Return tallies by kind and size."""
    return {(tally.kind, tally.chunk_size): tally for tally in tallies}


def test_all_bytes_are_counted_once(images: list[Path]) -> None:
    """Data and holes of every chunker make up the images, whatever the chunker."""
    for tally in count_chunks(images):
        assert (tally.plain_size, tally.hole_size) == (4 * MIB, 8 * MIB)
        assert tally.unique_size <= tally.plain_size
        assert tally.unique_count <= tally.chunk_count


def test_content_defined_cuts_find_what_moved(images: list[Path]) -> None:
    """Data moved by a block are found by mincdc and fixed 4K and not by fixed 64K, and data in place by all."""
    found = by_name(count_chunks(images))
    assert found["fixed", 4 * KIB].unique_size == 2 * MIB + 4 * KIB
    assert found["mincdc", 8 * KIB].unique_size < 2.2 * MIB
    assert found["fixed", 64 * KIB].unique_size == 3 * MIB


def test_a_row_has_ratio_index_and_stored_bytes(images: list[Path]) -> None:
    """Noise does not shrink: stored are the unique bytes and the headers of frames; the index counts unique chunks."""
    (tally,) = count_chunks(images, [_MINCDC])
    row = tally.row(Samples())
    assert row["dedup_ratio"] == pytest.approx(tally.plain_size / tally.unique_size, abs=1e-3)
    assert row["index_size"] == tally.unique_count * INDEX_ENTRY_SIZE
    assert row["alone_size"] == tally.unique_size < row["frames_size"] < 1.01 * tally.unique_size
    assert row["cut_gb_s"] > 0


def test_samples_are_scaled_to_all(images: list[Path]) -> None:
    """Compressing every second segment estimates what compressing all gives, on data that are alike."""
    (whole,) = count_chunks(images, [_MINCDC])
    (part,) = count_chunks(images, [_MINCDC], samples=Samples(2, 2))
    assert part.in_frames.plain_size < whole.in_frames.plain_size
    every, some = whole.row(Samples()), part.row(Samples(2, 2))
    assert some["frames_size"] == pytest.approx(every["frames_size"], rel=0.01)
    assert some["alone_size"] == pytest.approx(every["alone_size"], rel=0.01)


def test_no_data_is_no_error(tmp_path: Path) -> None:
    """An empty image and one of nothing but a hole give zeros."""
    for name, size in (("empty.raw", 0), ("hole.raw", 9 * MIB)):
        with (tmp_path / name).open("wb") as file:
            file.truncate(size)
    (tally,) = count_chunks([tmp_path / "empty.raw", tmp_path / "hole.raw"], [_MINCDC])
    row = tally.row(Samples())
    assert (row["plain_size"], row["hole_size"], row["frames_size"], row["dedup_ratio"]) == (0, 9 * MIB, 0, 0)


def test_frames_hold_256_kib_or_one_chunk() -> None:
    """Pieces are grouped up to the target of a frame; a larger piece is a frame of its own."""
    noise = memoryview(random.Random(2).randbytes(2 * FRAME_PLAIN_TARGET))
    half = FRAME_PLAIN_TARGET // 2
    one = frames_size([noise[:half], noise[half : 2 * half]])
    two = frames_size([noise[:half], noise[half : 2 * half], noise[:1]])
    assert FRAME_PLAIN_TARGET < one < FRAME_PLAIN_TARGET + 64
    assert one + 1 < two < one + 64
    assert frames_size([noise]) > 2 * FRAME_PLAIN_TARGET
    assert frames_size([]) == 0


def test_much_data_is_sampled_only_alone() -> None:
    """What is stored is always compressed in full unless sampling is asked for; chunks alone only of little data."""
    assert samples_for(GIB, 0) == Samples(1, 1)
    assert samples_for(10 * GIB, 0).frames == 1 < samples_for(10 * GIB, 0).alone
    assert samples_for(GIB, 7) == Samples(7, 7)


def test_a_family_that_is_not_there_has_no_images(tmp_path: Path) -> None:
    """A folder without a manifest is no family, and no error."""
    assert family(tmp_path) == []


def test_every_chunker_is_compared_once() -> None:
    """Fixed at four sizes, fastcdc and mincdc at five."""
    assert len(CHUNKERS) == len(set(CHUNKERS)) == 14
