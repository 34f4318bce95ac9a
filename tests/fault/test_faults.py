"""Every call of every operation fails once, in the library's own process: the small form of `torture faults`."""

from pathlib import Path

import pytest

from casimg.errors import CatalogBusyError
from casimg.repository import Repository
from casimg.testing.watched import Call, watch_parts
from tests.torture import faults
from tests.torture.operations import OPERATIONS

STEP = {"put": 7, "snapshot": 3, "snapshot-disk": 9, "delete": 1, "gc": 37, "index": 3, "get": 5, "check": 7}
"""How many moments are passed over in `make test`; `make torture` passes over none."""


@pytest.mark.parametrize("name", [*OPERATIONS, *faults.READS])
def test_a_failing_call_costs_nothing(tmp_path: Path, name: str) -> None:
    """Whichever call fails, before, in or after acting: images are whole, the retry works, nothing is left over."""
    if name in OPERATIONS and not OPERATIONS[name].available():
        pytest.skip(f"this casimg has no {name} yet")
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
