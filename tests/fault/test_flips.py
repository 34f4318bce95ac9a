"""Damage in every kind of file, in small: the real count is in `torture flips`."""

from pathlib import Path

import pytest

from tests.torture import flips


@pytest.mark.parametrize("kind", flips.KINDS)
def test_damage_is_seen_and_never_gives_wrong_bytes(tmp_path: Path, kind: str) -> None:
    """Flips, zeroed pages, cut ends, deletions and swaps of one kind of file: each seen or harmless, never believed."""
    result = flips.run(tmp_path, seed=5, count=10, kinds=(kind,))
    assert result.violations == []
    assert result.counts[f"{kind} damaged"] == 10
    if kind in flips.ALWAYS_SEEN:
        assert result.counts[f"{kind}: seen"] == 10


def test_a_damaged_index_costs_no_image(tmp_path: Path) -> None:
    """With pages of the index zeroed or its end cut off, images read by the entry lists, and a rebuild cures it."""
    result = flips.run(tmp_path, seed=2, count=24, kinds=("index",))
    assert result.violations == []
    assert result.counts["index: the process ended"] == 0
    assert result.counts["index: seen"] + result.counts["index: harmless"] == 24
