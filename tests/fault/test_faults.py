"""Every call of every operation fails once, in the library's own process: the small form of `torture faults`."""

import random
from pathlib import Path

import pytest

import casimg
from casimg.errors import CatalogBusyError
from casimg.repository import Repository
from casimg.testing.watched import Call, watch_parts
from tests.torture import faults
from tests.torture.operations import OPERATIONS, Task, World, again

STEP = {
    "put": 31,
    "upload": 31,
    "snapshot": 5,
    "snapshot-disk": 27,
    "delete": 2,
    "copy": 31,
    "gc": 43,
    "index": 5,
    "get": 17,
    "check": 31,
}
STEP |= {"repack": 151, "set": 7, "repair": 151, "recover": 47, "recover-over": 61}
"""How many moments are passed over in `make test`; `make torture` passes over none."""


@pytest.mark.parametrize("name", [*OPERATIONS, *faults.READS])
def test_a_failing_call_costs_nothing(tmp_path: Path, name: str) -> None:
    """Whichever call fails, before, in or after acting: images are whole, the retry works, nothing is left over."""
    result = faults.run(tmp_path, seed=len(name), step=STEP.get(name, 7), operations=(name,))
    assert result.violations == []
    assert result.counts["faults"] > 2 - (name == "delete")
    assert result.image_count >= 3 * result.counts["faults"]


def test_the_sweep_reaches_every_kind_of_moment(tmp_path: Path) -> None:
    """A put and a gc pass through the moments that matter: a sweep over them leaves none of these out."""
    seen = [*faults.moments(tmp_path / "put", "put", 1), *faults.moments(tmp_path / "gc", "gc", 1)]
    found = {(call.part, call.verb, call.when) for call in seen}
    assert {("catalog", "write", when) for when in ("before", "during", "after")} <= found
    assert {("backend", verb, "after") for verb in ("put", "take_file", "stat", "list", "delete")} <= found
    assert {
        ("index", verb, "before") for verb in ("reading", "applied", "add_packs", "remove_packs", "places")
    } <= found
    names = {call.what for call in seen if call.part == "catalog" and call.verb == "write"}
    assert {"open_session", "insert_pack", "commit", "condemn", "sweep", "mark_deleted", "reap_content"} <= names


def test_the_sweep_reaches_the_moments_of_repack_and_recover(tmp_path: Path) -> None:
    """The switch of a repack, the end of the old catalog, the last row of the new one, and the renames are moments."""
    names = ("repack", "recover-over")
    found = {(call.part, call.what, call.when) for name in names for call in faults.moments(tmp_path / name, name, 1)}
    for transaction in ("switch", "record_live", "close_for_good", "insert_packs", "insert_image", "_rebuild_beside"):
        assert {("catalog", transaction, when) for when in ("before", "during", "after")} <= found
    for renamed in ("catalog.sqlite", "catalog.sqlite.new", "index"):
        assert {("files", renamed, when) for when in ("before", "after")} <= found


@pytest.mark.parametrize("is_known", [True, False], ids=["record there", "not explained"])
def test_only_what_a_record_explains_may_come_back(tmp_path: Path, is_known: bool) -> None:
    """A deleted image whose record stayed comes back by recover and is allowed; if nothing explained it, it is told."""
    world = World(tmp_path, random.Random(2))
    with casimg.create(world.path, chunk_size=4096) as repo:
        gone, kept = world.put(repo), world.put(repo)
        world.delete_but_record(repo, gone)
        world.find_ghosts(repo)
    assert list(world.ghosts.values()) == [gone]
    if not is_known:
        world.ghosts.clear()
    wrongs = again(world, Task("recover-over"))
    assert wrongs == ([] if is_known else [f"{gone} was never begun"])
    assert set(world.truth.must) == {kept}


def test_an_open_whose_answer_is_lost_leaves_no_open_session(repo: Repository) -> None:
    """A session that its own process never heard of would hold collections up until it is stale; it is ended."""

    def lose(call: Call) -> None:
        if (call.what, call.when) == ("open_session", "after"):
            raise CatalogBusyError("the connection was lost")

    catalog = repo._wiring.catalog
    watch_parts(repo._wiring, lose)
    with pytest.raises(CatalogBusyError):
        repo.put([b"x"], name="image")
    assert catalog.sessions(ended=False) == []
    assert [row.state for row in catalog.sessions(ended=True)] == ["closed"]
