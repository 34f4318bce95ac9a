"""The benchmarks of growth and limits: their data, their arithmetic, and the bare pipelines."""

import hashlib
import json
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from benchmarks import generations
from benchmarks.bare import restore, store
from benchmarks.bare.restore import runs
from benchmarks.bare.stored import Piece
from benchmarks.growth.__main__ import GROWTHS, Growth, run_one
from benchmarks.growth.index import made_pack
from benchmarks.growth.made import BLOCK, fresh, origin, overwrite, spread, write_made
from benchmarks.growth.reads import offsets_of, summary
from benchmarks.growth.setting import Setting, fitting
from benchmarks.growth.small_images import ends
from benchmarks.growth.snapshot import fit
from benchmarks.limits import rows_of
from benchmarks.measure import Measured
from benchmarks.report.sections import EXPECTED
from casimg.chunker import ChunkerParams, open_chunker
from casimg.constants import GIB, KIB, MIB


def test_half_of_made_blocks_repeat_earlier_new_ones() -> None:
    """Even blocks are new; an odd one is an even one before it."""
    assert [origin(number) for number in range(8)] == [0, 0, 2, 0, 4, 2, 6, 2]
    assert all(origin(number) < number and origin(number) % 2 == 0 for number in range(1, 999, 2))


def test_a_made_file_has_the_hashes_of_its_beginnings(tmp_path: Path) -> None:
    """Marks give the SHA-256 of what the file is when it is cut there."""
    path = tmp_path / "made"
    hashes = write_made(path, 3 * BLOCK, marks=(BLOCK, 3 * BLOCK))
    data = path.read_bytes()
    assert hashes == {size: hashlib.sha256(data[:size]).hexdigest() for size in (BLOCK, 3 * BLOCK)}
    assert data[:BLOCK] == data[BLOCK : 2 * BLOCK] != data[2 * BLOCK :]
    assert write_made(path, BLOCK, seed=1, marks=()) == {}
    assert path.read_bytes() != data[:BLOCK]


def test_changes_are_where_and_as_many_as_said(tmp_path: Path) -> None:
    """Ranges are in order, do not overlap, and only they change."""
    ranges = spread(4 * MIB, 64 * KIB, 8 * KIB, seed=5)
    assert sum(at.size for at in ranges) == 64 * KIB
    assert all(a.offset + a.size <= b.offset for a, b in pairwise(ranges))
    path = tmp_path / "disk"
    path.write_bytes(bytes(4 * MIB))
    overwrite(path, ranges, seed=5)
    data = path.read_bytes()
    assert all(data[at.offset : at.offset + at.size] == fresh(at.size, 5, n) for n, at in enumerate(ranges))
    assert len(data) - data.count(0) <= 64 * KIB


def test_sizes_fit_the_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What does not fit is left out, the smallest never; a disk shrinks to whole MiB."""
    monkeypatch.setattr("shutil.disk_usage", lambda _: type("Usage", (), {"free": 10 * GIB}))
    assert fitting([GIB, 4 * GIB, 8 * GIB], tmp_path, 2.0) == [GIB, 4 * GIB]
    assert fitting([GIB], tmp_path, 99.0) == [GIB]
    assert fit(20 * GIB, 90 * GIB) == 20 * GIB
    assert fit(20 * GIB, 18 * GIB) == 10 * GIB


def test_made_packs_have_ids_of_their_own() -> None:
    """No id comes twice, in a pack or in two."""
    ids = {chunk for number in (0, 1) for chunk, *_ in made_pack(number).places()}
    assert len(ids) == 2 * len(list(made_pack(0).places()))


def test_figures_of_reads_and_ends() -> None:
    """Medians, tails and speed of reads; means of the first and the last tenth."""
    assert summary([0.001] * 98 + [0.1, 0.2], 1000) == {
        "read_count": 100,
        "median_s": 0.001,
        "p99_s": 0.2,
        "mb_per_s": 0.3,
    }
    assert ends([1.0] * 10 + [2.0] * 10) == {"first_s": 1.0, "last_s": 2.0, "last_over_first_ratio": 2.0}
    assert all(0 <= offset <= MIB - 4096 and offset % 4096 == 0 for offset in offsets_of(MIB, 4096, 50))


def test_the_faster_bare_get_is_the_limit() -> None:
    """Ratios are of medians; a slow round of one way does not make it the limit."""

    def took(*walls_s: float) -> list[Measured]:
        return [Measured(wall_s, wall_s / 2, 0, 0) for wall_s in walls_s]

    found = {"put": took(4, 9, 4), "bare put, buffered": took(3, 3, 8), "get": took(2, 2, 2)}
    rows = rows_of({**found, "bare get, buffered": took(1.8, 1.9, 9), "bare get, direct": took(1, 1.6, 1.7)})
    assert [row["what"][:2] for row in rows] == ["A:", "R:"]
    assert [row["ratio"] for row in rows] == [0.75, 0.8]
    assert "direct" in rows[1]["what"]


@pytest.mark.parametrize("direct", [False, True])
def test_the_bare_pipeline_gives_back_every_byte(tmp_path: Path, direct: bool) -> None:
    """Holes, repeats and an odd end come back: a limit that loses bytes is none."""
    path = tmp_path / "disk"
    text = b"".join(b"line %d\n" % number for number in range(60_000))
    path.write_bytes(fresh(MIB, 7) + bytes(5 * MIB) + text + fresh(MIB, 7)[: MIB - 100])
    (tmp_path / "bare").mkdir()
    chunker = open_chunker(ChunkerParams.of("mincdc", 16 * KIB))
    try:
        stored = store(path, tmp_path / "bare", chunker, 3, direct=direct)
        restore(stored, tmp_path / "back", direct=direct)
    except OSError:
        assert direct  # a file system without direct writes
        return
    assert MIB < stored.stored_size < 2 * MIB
    assert (tmp_path / "back").read_bytes() == path.read_bytes()


def test_pieces_without_a_gap_are_written_together() -> None:
    """A gap ends a run; the next begins there."""
    a, b, c = Piece(0, 0, 0, 10), Piece(10, 1, 0, 10), Piece(30, 1, 10, 5)
    assert list(runs([a, b, c])) == [[a, b], [c]]
    assert list(runs([])) == []


def test_the_report_knows_every_result() -> None:
    """No benchmark of growth writes a file that the report has no title for."""
    assert {growth.result for growth in GROWTHS.values()} <= set(EXPECTED)


def test_other_bytes_are_a_failure(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The rows are saved all the same, and the program says so."""
    monkeypatch.setitem(GROWTHS, "made", Growth("made", lambda _: [{"size": 1, "equal": False}]))
    setting = Setting(True, tmp_path, tmp_path)
    assert run_one("made", setting, tmp_path) == 1
    assert json.loads((tmp_path / "made.json").read_text())["rows"] == [{"size": 1, "equal": False}]


def test_generations_are_one_flat_row() -> None:
    """What the goal reads is there; nothing is nested."""
    found: dict[str, Any] = {
        "count": 30,
        "restore_s_before": {"g0": 1.0, "g29": 1.5},
        "restore_s_after": {"g0": 1.0, "g29": 1.25},
        "last_over_first_after_gc": 1.25,
        "amplification_before": 1.5,
        "amplification_after": 1.1,
        "stored_size": 10,
        "stored_size_after_gc": 9,
        "half": {"stored_size": 6, "never_had_them": 5},
        "half_over_never": 1.2,
        "gc_rss_anon_growth": 1,
        "rss_anon_peak": 2,
        "clean": True,
    }
    row = generations.row_of(found)
    assert (row["last_over_first_before_gc"], row["last_over_first_after_gc"]) == (1.5, 1.25)
    assert not any(isinstance(value, dict) for value in row.values())
