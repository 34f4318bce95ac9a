"""Images and contents: rule 4 (snapshot), rule 6 (commit), finding and deleting."""

from collections.abc import Callable
from typing import TypeVar

import pytest
from sqlalchemy import Connection, insert, update
from sqlalchemy.exc import OperationalError

import casimg.catalog.transaction
from casimg.catalog import Catalog, PackTotals, TreeRow
from casimg.catalog.schema import image_tags, packs, sessions
from casimg.errors import (
    AmbiguousNameError,
    CatalogBusyError,
    CatalogDamagedError,
    CatalogReplacedError,
    ImageNotFoundError,
    NameTakenError,
    PackGoneError,
    ProtectedImageError,
)
from casimg.ids import ImageId, new_content_id, new_image_id
from tests.catalog_making import (
    CONTENT_SIZE,
    PACK_SIZE,
    ROOT,
    Save,
    new_image,
    remove_image,
    save_image,
    states,
)

T = TypeVar("T")


def condemned_pack(catalog: Catalog) -> int:
    """Return a pack that no content names and that is condemned."""
    spare = Save(catalog)
    pack_nos = spare.add_packs()
    catalog.end_session(spare.session_id)
    assert catalog.condemn(pack_nos)[1] == pack_nos
    return pack_nos[0]


def set_state(catalog: Catalog, pack_no: int, state: str) -> None:
    catalog.transaction(
        lambda connection: connection.execute(update(packs).where(packs.c.pack_no == pack_no).values(state=state))
    )


# Commit


def test_commit_makes_everything_true_at_once(catalog: Catalog) -> None:
    """Before the commit nothing of the image shows; after it image, content, trees, hashes and packs do."""
    save = Save(catalog, new_image("web"))
    pack_nos = save.add_packs(3)
    assert catalog.images() == catalog.images(include_deleted=True) == []
    assert catalog.image(save.image.id).status == "saving"
    assert catalog.content(save.content_id).size is None
    row = save.commit(pack_nos)
    assert (row.id, row.name, row.status, row.content_id) == (save.image.id, "web", "active", save.content_id)
    assert (row.size, row.hole_size, row.owner) == (CONTENT_SIZE, 4096, "owner")
    assert row.properties == {"os": "debian"}
    assert row.updated_at >= row.created_at
    content = catalog.content(save.content_id)
    assert (content.state, content.size, content.hole_size) == ("complete", CONTENT_SIZE, 4096)
    assert content.trees == (TreeRow("plain", ROOT, CONTENT_SIZE),)
    assert content.hashes == {"md5": "0" * 32}
    assert [pack.pack_no for pack in catalog.content_packs(save.content_id)] == pack_nos
    assert catalog.session(save.session_id).state == "closed"
    assert catalog.images() == [row]
    assert catalog.image(row.id) == catalog.find(row.id) == row


def test_empty_content_is_not_an_unknown_one(catalog: Catalog) -> None:
    """A content of nothing but zeros has a size, no packs and a tree without a root."""
    save = Save(catalog)
    content = save.content()
    empty = type(content)(content.content_id, 0, 0, (TreeRow("plain", None, 0),), {})
    row = catalog.commit(save.session_id, save.image.id, empty, [], unique_name=False)
    assert row.size == 0
    assert catalog.content(save.content_id).trees == (TreeRow("plain", None, 0),)
    assert catalog.content_packs(save.content_id) == []


def test_commit_names_repeated_packs_once(catalog: Catalog) -> None:
    """A pack given twice is one row: the caller's collection need not be a set."""
    save = Save(catalog)
    pack_no = save.add_packs()[0]
    assert save.commit([pack_no, pack_no]).content_id == save.content_id
    assert [pack.pack_no for pack in catalog.content_packs(save.content_id)] == [pack_no]


def test_commit_revives_condemned_packs(catalog: Catalog) -> None:
    """A pack condemned after it was seen live is taken back by the commit that names it."""
    pack_no = condemned_pack(catalog)
    save = Save(catalog)
    save.commit([pack_no])
    assert states(catalog, [pack_no]) == ["live"]
    assert catalog.sweep(pack_no).value == "not condemned"


@pytest.mark.parametrize("state", ["deleting", "deleted"])
def test_commit_refuses_packs_on_their_way_out(catalog: Catalog, state: str) -> None:
    """One pack that is gone refuses the whole commit and names that pack; nothing of the commit stays."""
    gone = condemned_pack(catalog)
    revivable = condemned_pack(catalog)
    set_state(catalog, gone, state)
    save = Save(catalog)
    pack_nos = [*save.add_packs(), gone, revivable]
    with pytest.raises(PackGoneError) as caught:
        save.commit(pack_nos)
    assert caught.value.pack_nos == (gone,)
    assert catalog.image(save.image.id).status == "saving"
    assert catalog.content(save.content_id).state == "pending"
    assert catalog.session(save.session_id).state == "open"
    assert catalog.content_packs(save.content_id) == []
    assert states(catalog, [gone, revivable]) == [state, "condemned"]


def test_commit_refuses_unknown_packs(catalog: Catalog) -> None:
    """A number that no pack has is a pack that is gone, not an error of the database."""
    save = Save(catalog)
    with pytest.raises(PackGoneError) as caught:
        save.commit([4711, 4712])
    assert caught.value.pack_nos == (4711, 4712)


def test_commit_refuses_a_deleted_image(catalog: Catalog) -> None:
    """An image deleted while it was being saved stays deleted."""
    save = Save(catalog)
    catalog.delete_image(save.image.id)
    with pytest.raises(ImageNotFoundError):
        save.commit()
    assert catalog.image(save.image.id).status == "deleted"
    assert catalog.session(save.session_id).state == "open"


def test_commit_refuses_what_another_session_claims(catalog: Catalog) -> None:
    """A session commits the image and the content that it began, and no other's."""
    mine, other = Save(catalog), Save(catalog)
    with pytest.raises(ImageNotFoundError):
        catalog.commit(mine.session_id, other.image.id, other.content(), [], unique_name=False)
    with pytest.raises(CatalogDamagedError):
        catalog.commit(mine.session_id, mine.image.id, other.content(), [], unique_name=False)
    assert catalog.images() == []
    assert other.commit().status == "active"


def test_lost_answer_of_a_commit_is_asked_for(catalog: Catalog, monkeypatch: pytest.MonkeyPatch) -> None:
    """A commit that happened and whose answer was lost is a success; one that did not is the error."""
    run = casimg.catalog.transaction.Database.write
    lost = OperationalError("COMMIT", None, Exception("server closed the connection"))

    def lose_answer(self: object, work: Callable[[Connection], T], **_options: int) -> T:
        monkeypatch.undo()
        run(self, work)  # type: ignore[arg-type]
        raise CatalogBusyError("the answer was lost") from lost

    def lose_request(self: object, work: Callable[[Connection], T], **_options: int) -> T:
        monkeypatch.undo()
        raise CatalogBusyError("the request was lost") from lost

    save = Save(catalog)
    monkeypatch.setattr(casimg.catalog.transaction.Database, "write", lose_request)
    with pytest.raises(CatalogBusyError, match="request"):
        save.commit()
    monkeypatch.setattr(casimg.catalog.transaction.Database, "write", lose_answer)
    row = save.commit()
    assert row.status == "active"
    session = catalog.open_session("snapshot").session_id
    monkeypatch.setattr(casimg.catalog.transaction.Database, "write", lose_answer)
    assert catalog.snapshot_row(session, row.id, new_image("snap"), unique_name=True).name == "snap"


def test_committing_twice_is_the_same_commit(catalog: Catalog) -> None:
    """A commit sent again after it happened answers with the image; nothing is written twice."""
    save = Save(catalog)
    pack_nos = save.add_packs()
    assert save.commit(pack_nos) == save.commit(pack_nos)
    assert len(catalog.content_packs(save.content_id)) == 1


# Names


def test_unique_name_is_decided_at_commit(catalog: Catalog) -> None:
    """A name taken since the ingest began refuses a commit that wants it alone, and names the holder."""
    late = Save(catalog, new_image("web"))
    catalog.check_name_free("web")
    first = Save(catalog, new_image("web")).commit(unique_name=True)
    with pytest.raises(NameTakenError) as caught:
        late.commit(unique_name=True)
    assert caught.value.image_ids == (first.id,)
    with pytest.raises(NameTakenError):
        catalog.check_name_free("web")
    assert late.commit(unique_name=False).name == "web"


def test_names_are_exact(catalog: Catalog) -> None:
    """Case and trailing spaces make another name, on every database."""
    for name in ("web", "Web", "web ", "wéb"):
        Save(catalog, new_image(name)).commit(unique_name=True)
    assert catalog.find("Web").name == "Web"
    assert [row.name for row in catalog.images(name="web")] == ["web"]


def test_deleting_frees_the_name(catalog: Catalog) -> None:
    """Deleted images and those being saved do not hold a name."""
    image, _ = save_image(catalog, "web")
    Save(catalog, new_image("web"))
    catalog.delete_image(image.id)
    assert Save(catalog, new_image("web")).commit(unique_name=True).status == "active"


# Snapshots


def test_snapshot_of_a_stored_image_is_one_row(catalog: Catalog) -> None:
    """The new image points to the parent's content; no content, pack or tree is written."""
    parent, pack_nos = save_image(catalog, "web")
    session = catalog.open_session("snapshot").session_id
    row = catalog.snapshot_row(session, parent.id, new_image("snap", parent_id=parent.id), unique_name=True)
    assert (row.content_id, row.size, row.parent_id) == (parent.content_id, parent.size, parent.id)
    assert row.status == "active"
    assert catalog.session(session).state == "closed"
    assert catalog.totals().content_counts == {"complete": 1}
    assert {image.id for image in catalog.images_of_packs(pack_nos)} == {parent.id, row.id}
    assert catalog.children(parent.id) == [row]


def test_snapshot_outlives_its_parent(catalog: Catalog) -> None:
    """Deleting the parent leaves the shared content, whose parent is then shown as gone."""
    parent, pack_nos = save_image(catalog)
    session = catalog.open_session("snapshot").session_id
    child = catalog.snapshot_row(session, parent.id, new_image(parent_id=parent.id), unique_name=False)
    remove_image(catalog, parent)
    assert catalog.find(child.id).parent_id == parent.id
    assert states(catalog, pack_nos) == ["live"]
    assert catalog.condemn(pack_nos)[1] == []
    assert catalog.children(parent.id) == [child]


def test_snapshot_of_what_is_gone_is_refused(catalog: Catalog) -> None:
    """A parent deleted, being saved or unknown is ImageNotFoundError, and the session stays usable."""
    parent, _ = save_image(catalog)
    catalog.delete_image(parent.id)
    saving = Save(catalog).image.id
    session = catalog.open_session("snapshot").session_id
    for bad in (parent.id, saving, new_image_id()):
        with pytest.raises(ImageNotFoundError):
            catalog.snapshot_row(session, bad, new_image("snap"), unique_name=False)
    assert catalog.session(session).state == "open"
    assert catalog.images() == []


def test_snapshot_with_a_taken_name_is_refused(catalog: Catalog) -> None:
    """A snapshot that wants its name alone gets it or leaves nothing."""
    parent, _ = save_image(catalog, "web")
    session = catalog.open_session("snapshot").session_id
    with pytest.raises(NameTakenError):
        catalog.snapshot_row(session, parent.id, new_image("web"), unique_name=True)
    assert catalog.images() == [parent]


def test_noted_packs_are_held(catalog: Catalog) -> None:
    """Noting revives the parent's condemned packs, and a session opened before them makes a sweep wait."""
    parent, pack_nos = save_image(catalog, pack_count=2)
    set_state(catalog, pack_nos[0], "condemned")
    session = catalog.open_session("ingest").session_id
    rows = catalog.note_content(session, parent.id)
    assert [row.pack_no for row in rows] == pack_nos
    assert {row.state for row in rows} == {"live"}
    assert states(catalog, pack_nos) == ["live", "live"]
    remove_image(catalog, parent)
    assert catalog.condemn(pack_nos)[1] == pack_nos
    assert catalog.sweep(pack_nos[0]).value == "waits"


def test_noting_tells_empty_from_gone(catalog: Catalog) -> None:
    """An image without packs has an empty note; one deleted, being saved or unknown has none at all."""
    empty = Save(catalog).commit([])
    session = catalog.open_session("ingest").session_id
    assert catalog.note_content(session, empty.id) == []
    deleted, _ = save_image(catalog)
    catalog.delete_image(deleted.id)
    for bad in (deleted.id, Save(catalog).image.id, new_image_id()):
        with pytest.raises(ImageNotFoundError):
            catalog.note_content(session, bad)


def test_noting_a_pack_past_revival_is_refused(catalog: Catalog) -> None:
    """A parent whose pack is being deleted cannot be built upon."""
    parent, pack_nos = save_image(catalog)
    set_state(catalog, pack_nos[0], "deleting")
    session = catalog.open_session("ingest").session_id
    with pytest.raises(PackGoneError):
        catalog.note_content(session, parent.id)


# Finding, listing, deleting


def test_find_prefers_id_then_name_then_prefix(catalog: Catalog) -> None:
    """An exact id wins over a name, an exact name over the beginning of an id."""
    first, _ = save_image(catalog, "web")
    second, _ = save_image(catalog, first.id)
    third, _ = save_image(catalog, first.id[:8])
    assert catalog.find(first.id) == catalog.find(first.id.upper()) == first
    assert catalog.find("web") == first
    assert catalog.find(first.id[:8]) == third
    assert catalog.find(first.id[:9]) == first
    assert catalog.find(second.id[:13].upper()) == second


def test_find_needs_one_answer(catalog: Catalog) -> None:
    """A name or beginning that fits several images names them all; one that fits none, or too short, is absent."""
    images = [save_image(catalog, "web")[0] for _ in range(2)]
    with pytest.raises(AmbiguousNameError) as caught:
        catalog.find("web")
    assert sorted(caught.value.image_ids) == sorted(image.id for image in images)
    twins = [ImageId(f"abcd{number}000-0000-4000-8000-000000000000") for number in range(2)]
    for twin in twins:
        image = new_image("twin")
        Save(catalog, type(image)(twin, *(getattr(image, name) for name in list(image.__slots__)[1:]))).commit()
    with pytest.raises(AmbiguousNameError):
        catalog.find("abcd")
    assert catalog.find("abcd0").id == twins[0]
    for absent in ("", "abc", "%", "____", "----", "we", "web%", "WEB", new_image_id()):
        with pytest.raises(ImageNotFoundError):
            catalog.find(absent)


def test_find_sees_active_images_only(catalog: Catalog) -> None:
    """Images being saved or deleted are found by no reference."""
    saving = Save(catalog, new_image("saving")).image
    deleted, _ = save_image(catalog, "deleted")
    catalog.delete_image(deleted.id)
    for ref in (saving.id, saving.name or "", deleted.id, deleted.name or ""):
        with pytest.raises(ImageNotFoundError):
            catalog.find(ref)


def test_listing(catalog: Catalog) -> None:
    """Images are listed oldest first, deleted ones on request, by exact name when given."""
    rows = [save_image(catalog, name)[0] for name in ("a", "b", "b")]
    catalog.delete_image(rows[0].id)
    assert {row.id for row in catalog.images()} == {rows[1].id, rows[2].id}
    both = catalog.images(include_deleted=True)
    assert {row.id for row in both} == {row.id for row in rows}
    assert both == sorted(both, key=lambda row: (row.created_at, row.id))
    assert {row.status for row in both} == {"active", "deleted"}
    assert {row.id for row in catalog.images(name="b")} == {rows[1].id, rows[2].id}
    assert [row.id for row in catalog.images(name="a", include_deleted=True)] == [rows[0].id]


def test_delete_is_one_status(catalog: Catalog) -> None:
    """Deleting marks the image and keeps its content until it is reaped; again is absence."""
    image, pack_nos = save_image(catalog)
    catalog.delete_image(image.id)
    row = catalog.image(image.id)
    assert (row.status, row.content_id) == ("deleted", image.content_id)
    assert row.deleted_at is not None
    assert row.deleted_at >= row.created_at
    assert states(catalog, pack_nos) == ["live"]
    for bad in (image.id, new_image_id()):
        with pytest.raises(ImageNotFoundError):
            catalog.delete_image(bad)


def test_protected_images_stay(catalog: Catalog) -> None:
    """A protected image is not deleted."""
    row = Save(catalog, new_image(protected=True)).commit()
    with pytest.raises(ProtectedImageError):
        catalog.delete_image(row.id)
    assert catalog.find(row.id).status == "active"


def test_properties_are_exact(catalog: Catalog) -> None:
    """Property names that differ in case only are two, and values keep every character."""
    image = new_image()
    values = {"Key": "a", "key": "b", "empty": "", "unicode": "żółw 🐢 ' \" % \\", "long": "x" * 60_000}
    fields = {name: getattr(image, name) for name in image.__slots__} | {"properties": values}
    row = Save(catalog, type(image)(**fields)).commit()
    assert catalog.find(row.id).properties == values
    assert catalog.images()[0].properties == values


def test_tags_belong_to_images(catalog: Catalog) -> None:
    """A tag of an image that does not exist is refused by the database."""
    with pytest.raises(CatalogDamagedError):
        catalog.transaction(
            lambda connection: connection.execute(insert(image_tags).values(image_id=new_image_id(), tag="x"))
        )


def test_absent_image_and_content(catalog: Catalog) -> None:
    """An unknown image is absence; a content that is named but has no row is damage."""
    with pytest.raises(ImageNotFoundError):
        catalog.image(new_image_id())
    with pytest.raises(CatalogDamagedError):
        catalog.content(new_content_id())


def test_totals_count_everything(catalog: Catalog) -> None:
    """Totals hold images by status, contents by state and packs by kind and state."""
    assert catalog.totals().packs == ()
    image, _ = save_image(catalog, pack_count=2)
    other, _ = save_image(catalog)
    Save(catalog).add_packs()
    catalog.delete_image(other.id)
    set_state(catalog, 1, "condemned")
    totals = catalog.totals()
    assert totals.image_counts == {"active": 1, "deleted": 1, "saving": 1}
    assert totals.content_counts == {"complete": 2, "pending": 1}
    assert totals.packs == (
        PackTotals(0, "condemned", 1, PACK_SIZE, 4000, 4),
        PackTotals(0, "live", 3, 3 * PACK_SIZE, 12000, 12),
    )
    assert image.status == "active"


def test_without_its_repo_row_no_session_opens(catalog: Catalog) -> None:
    """Without the row that holds the epoch no session opens: its epoch would mean nothing, or `recover` took over."""
    catalog.transaction(lambda connection: connection.exec_driver_sql("DELETE FROM repo"))
    with pytest.raises(CatalogReplacedError):
        catalog.open_session("ingest")
    with pytest.raises(CatalogDamagedError):
        catalog.repo()
    assert catalog.transaction(lambda connection: connection.execute(sessions.select()).all()) == []
