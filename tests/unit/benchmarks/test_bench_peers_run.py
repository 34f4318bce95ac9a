"""The run of the comparison, with peers made of cp: what is stored, compared, repeated, and what an error does."""

import hashlib
import os
from pathlib import Path
from types import SimpleNamespace

import pytest

from benchmarks.images import Image
from benchmarks.peers.contract import Command, Tools
from benchmarks.peers.rows import NOT_MEASURED, Outcome
from benchmarks.peers.stages import CannotRunError, Plan, Run, check_disk

LONG_S = 3600


class Copying:
    """A peer that copies; `restore_words` may spoil what comes back."""

    note = "a copy"
    version = "1"
    raw_only = False

    def __init__(self, name: str = "copying", *restore_words: str, init_fails: bool = False) -> None:
        self.name = name
        self.stored: list[str] = []
        self._restore_words = restore_words or ("cp",)
        self._init_fails = init_fails
        self._folder = Path()

    def install(self, tools: Tools) -> None:
        raise NotImplementedError

    def init(self, folder: Path) -> list[Command]:
        self._folder = folder
        return [Command(["false"])] if self._init_fails else [Command(["mkdir", folder / "cache"])]

    def store(self, source: Path, name: str) -> list[Command]:
        self.stored.append(name)
        return [Command(["cp", source, self._folder / name])]

    def restore(self, name: str, target: Path) -> list[Command]:
        return [Command([*self._restore_words, self._folder / name, target])]

    def caches(self) -> list[Path]:
        return [self._folder / "cache"]


@pytest.fixture
def plan(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Plan:
    # Other tests write at the same time, and a sync waits for all of them.
    monkeypatch.setattr(os, "sync", lambda: None)
    images = []
    for number in range(3):
        path = tmp_path / f"image-{number}.raw"
        path.write_bytes(bytes([number]) * 10_000)
        sha256 = hashlib.sha256(path.read_bytes()).hexdigest()
        images.append(
            Image(path, path.stem, "instance", number, "", "raw", 10_000, 10_000, 10_000, 10_000, sha256, "", "")
        )
    return Plan(images[0], images[1], None, (images[2],), (), rounds=2, quick_within_s=LONG_S, slow_after_s=LONG_S)


def run(folder: Path, plan: Plan, *peers: Copying) -> dict[str, dict[str, Outcome]]:
    going = Run(folder / "work", plan, lambda text: None)
    going.run(peers)
    assert not (folder / "work").exists()
    return going.outcomes


def test_all_stages_are_measured_and_compared(tmp_path: Path, plan: Plan) -> None:
    """A, B, B2 and R are repeated in a new store, C and S are done once, and what came back is equal."""
    peer = Copying()
    outcomes = run(tmp_path, plan, peer)["copying"]
    assert {stage: len(outcome.runs) for stage, outcome in outcomes.items()} == {
        "A": 2,
        "B": 2,
        "B2": 2,
        "R": 2,
        "C": 1,
        "S": 1,
    }
    assert [outcomes[stage].equal for stage in ("A", "R", "S")] == [None, True, True]
    assert peer.stored == ["image-0.raw", "image-1.raw", "image-1.raw.again", "image-2.raw", *peer.stored[:3]]


def test_bytes_are_cumulative_and_without_caches(tmp_path: Path, plan: Plan) -> None:
    """Stored bytes grow from stage to stage; the cache's are apart."""
    outcomes = run(tmp_path, plan, Copying())["copying"]
    assert [outcomes[stage].file_size for stage in ("A", "B", "B2", "C")] == [10_000, 20_000, 30_000, 40_000]
    assert all(outcomes[stage].index_size is not None for stage in ("A", "B", "B2", "C"))


def test_a_difference_is_kept_and_the_others_go_on(tmp_path: Path, plan: Plan) -> None:
    """A peer that gives back other bytes has a row that says so and is not asked again."""
    liar = Copying("liar", "sh", "-c", 'echo other > "$1"')
    outcomes = run(tmp_path, plan, liar, Copying())
    assert outcomes["liar"]["R"].equal is False
    assert "different" in (outcomes["liar"]["R"].error or "")
    assert len(outcomes["liar"]["A"].runs) == 1
    assert outcomes["copying"]["S"].equal is True


def test_an_error_is_kept_and_the_others_go_on(tmp_path: Path, plan: Plan) -> None:
    """A peer that cannot restore, or not even begin, has its error in its row; the next peer is measured."""
    outcomes = run(tmp_path, plan, Copying("broken", "false"), Copying("unborn", init_fails=True), Copying())
    assert "false ended with 1" in (outcomes["broken"]["R"].error or "")
    assert list(outcomes["unborn"]) == [NOT_MEASURED]
    assert len(outcomes["copying"]["R"].runs) == 2


def test_the_slow_are_asked_less(tmp_path: Path, plan: Plan) -> None:
    """Who takes longer than allowed is not repeated, and leaves out what is not needed for the lineage, visibly."""
    slow = Plan(plan.first, plan.second, None, plan.others, (), rounds=2, quick_within_s=0, slow_after_s=0)
    outcomes = run(tmp_path, slow, Copying())["copying"]
    assert {stage: len(outcome.runs) for stage, outcome in outcomes.items()} == {
        "A": 1,
        "B": 1,
        "B2": 0,
        "R": 1,
        "C": 1,
        "S": 0,
    }
    assert all(outcomes[stage].left_out for stage in ("B2", "S"))


def test_a_full_disk_is_seen_before(tmp_path: Path, plan: Plan, monkeypatch: pytest.MonkeyPatch) -> None:
    """Too little free disk is refused with figures."""
    monkeypatch.setattr("shutil.disk_usage", lambda path: SimpleNamespace(free=5))
    with pytest.raises(CannotRunError, match="GB of free disk"):
        check_disk(tmp_path, plan)
