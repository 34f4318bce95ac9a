"""The attacks of `make torture`, each in small."""

import os
from pathlib import Path

import pytest

import casimg
from tests.conftest import needs_root
from tests.torture import fleet, full, kills, mounts, power
from tests.torture.stages import STAGES


def test_twenty_kills_lose_nothing(tmp_path: Path) -> None:
    """Twenty kill -9 at named stages and some at random times: nothing committed is lost, nothing is left over."""
    result = kills.run(tmp_path, seed=7, count=20, timer_count=6)
    assert result.violations == []
    assert result.counts["kills at stages"] == 20
    assert result.counts["stage not reached"] == 0
    assert set(result.histogram) >= {stage.name for stage in STAGES}


def test_no_stage_is_rare() -> None:
    """Taken in turn, every stage gets at least 5 % of the kills."""
    assert len(STAGES) <= 20
    assert {"put", "snapshot", "gc", "repack", "recover"} <= {stage.operation for stage in STAGES}
    assert len({stage.name for stage in STAGES}) == len(STAGES)


@pytest.mark.parametrize("system", mounts.FILE_SYSTEMS, ids=lambda system: system.name)
def test_power_cuts_lose_nothing_that_was_reported(tmp_path: Path, system: mounts.FileSystem) -> None:
    """After a cut every reported image is whole; victims that do not flush lose, so the test can fail."""
    why_not = system.why_not()
    if why_not is not None:
        pytest.skip(why_not)
    result = power.run(tmp_path, seed=11, count=3, system=system, mutants=system is mounts.EXT4)
    assert result.violations == []
    assert result.counts[f"cuts on {system.name}"] == 3
    assert result.counts["mutants caught"] == (len(power.MUTANTS) if system is mounts.EXT4 else 0)


def test_full_disks_say_so_and_rm_and_gc_give_space_back(tmp_path: Path) -> None:
    """Each operation on a disk filled to several levels: NoSpaceError or success, nothing lost, space comes back."""
    needs_root()
    result = full.run(tmp_path, seed=1, count=14)
    assert result.violations == []
    assert result.counts["operations on a full disk"] == 14
    assert result.counts["said that there is no space"] > 0
    assert result.counts["rm and gc gave space back"] > 7


def test_the_lock_file_of_the_index_has_its_blocks(tmp_path: Path) -> None:
    """LMDB maps its lock file; a hole in it, met on a full disk, would end the process with SIGBUS."""
    casimg.create(tmp_path / "r").close()
    found = os.stat(tmp_path / "r" / "index" / "lock.mdb")
    assert found.st_blocks * 512 >= found.st_size >= 4096 * 64


def test_a_fleet_of_processes_loses_nothing(tmp_path: Path) -> None:
    """Four write, two read, others collect and delete, one is stopped beyond the fence: nothing is lost or left."""
    result = fleet.run(tmp_path, seed=3, seconds=10)
    assert result.violations == []
    assert result.counts["reads compared"] > 0
    assert result.counts["deleted"] > 0
    assert result.counts["collections"] > 0
    assert result.counts["packs rewritten"] > 0
    # A fenced writer fails as fenced; one that had committed before, or had nothing left to do, needs not.
    assert result.counts["fenced, as it should be"] <= result.counts["sessions fenced"]
