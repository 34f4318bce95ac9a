"""Images made before their data: ids, edits, tags, members, claims, and what a dead save leaves."""

import threading
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
from sqlalchemy import Connection, select, update

from casimg.catalog import Catalog, NewContent, NewImage, TreeRow, edits, members, outbox, uploads
from casimg.catalog.changes import image_behind
from casimg.catalog.edits import Edit
from casimg.catalog.schema import images
from casimg.errors import (
    BadStatusError,
    ChangedMeanwhileError,
    ImageDeletedError,
    ImageExistsError,
    ImageNotFoundError,
    MemberExistsError,
    MemberNotFoundError,
    NotQueuedError,
    SessionFencedError,
    TagNotFoundError,
)
from casimg.ids import ContentId, ImageId, SessionId, new_content_id, new_image_id
from tests.catalog_making import CONTENT_SIZE, ROOT, Save, new_image, save_image


def register(catalog: Catalog, image_id: ImageId | None = None, **fields: Any) -> ImageId:
    """Make a queued image."""
    told: dict[str, Any] = {"name": None, "disk_format": None, "container_format": None, "owner": "p1"}
    told |= {"visibility": "shared", "protected": False, "parent_id": None} | fields
    new = NewImage(id=image_id or new_image_id(), **told)
    catalog.transaction(partial(edits.register, new=new))
    return new.id


class Upload:
    """One upload as the catalog sees it: session, claim, commit."""

    def __init__(self, catalog: Catalog, image_id: ImageId, parent_id: ImageId | None = None) -> None:
        self.catalog = catalog
        self.image_id = image_id
        self.session_id: SessionId = catalog.open_session("ingest").session_id
        self.content_id: ContentId = new_content_id()
        catalog.transaction(
            partial(
                uploads.claim_queued,
                session_id=self.session_id,
                image_id=image_id,
                content_id=self.content_id,
                parent_id=parent_id,
                backend_id=1,
            )
        )
        self.revision = catalog.image(image_id).revision

    def commit(self, virtual_size: int | None = None) -> None:
        content = NewContent(
            self.content_id, CONTENT_SIZE, 0, (TreeRow("plain", ROOT, CONTENT_SIZE),), {"md5": "0" * 32}
        )
        self.catalog.commit(
            self.session_id,
            self.image_id,
            content,
            [],
            unique_name=False,
            virtual_size=virtual_size,
            recorded_revision=self.revision,
        )

    def release(self) -> bool:
        work = partial(uploads.release, session_id=self.session_id, image_id=self.image_id)
        return self.catalog.transaction(work)


def edit(catalog: Catalog, image_id: ImageId, what: Edit) -> None:
    revision = catalog.image(image_id).revision
    catalog.transaction(partial(edits.edit_image, image_id=image_id, edit=what, revision=revision))


def share(catalog: Catalog, image_id: ImageId, work: Callable[..., None], **arguments: str) -> None:
    def both(connection: Connection) -> None:
        edits.hold(connection, image_id, is_update=False)
        work(connection, image_id, **arguments)

    catalog.transaction(both)


def waiting(catalog: Catalog) -> list[ImageId]:
    return catalog.transaction(outbox.behind)


# Ids


def test_an_id_is_never_used_again(catalog: Catalog) -> None:
    """An id that is, or ever was, an image's is refused, whoever made that image and whatever became of it."""
    queued, put = register(catalog), save_image(catalog)[0].id
    gone = register(catalog)
    catalog.delete_image(gone)
    for image_id in (queued, put, gone):
        with pytest.raises(ImageExistsError):
            register(catalog, image_id)
    assert catalog.image(gone).status == "deleted"


def test_two_that_take_one_id_at_once(catalog: Catalog) -> None:
    """Of many who register one id at the same time, one does and the others are told that it is taken."""
    image_id = new_image_id()
    told: list[str] = []
    gate = threading.Barrier(4)

    def work() -> None:
        gate.wait()
        try:
            register(catalog, image_id)
            told.append("made")
        except ImageExistsError:
            told.append("taken")

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(told) == ["made", "taken", "taken", "taken"]


# Edits


def test_an_edit_of_a_queued_image_changes_no_record(catalog: Catalog) -> None:
    """Fields, tags and properties become what the edit says, the revision counts, and the outbox stays empty."""
    image_id = register(catalog, properties={"a": "1", "b": "2"}, tags=("x",), min_disk=1)
    edit(
        catalog,
        image_id,
        Edit(name="n", disk_format="raw", hidden=True, min_ram=5, tags=("y", "z"), properties={"b": "3", "c": ""}),
    )
    row = catalog.image(image_id)
    assert (row.name, row.disk_format, row.container_format, row.hidden) == ("n", "raw", None, True)
    assert (row.min_disk, row.min_ram, row.tags, row.properties) == (1, 5, ("y", "z"), {"b": "3", "c": ""})
    assert (row.revision, row.status, waiting(catalog)) == (1, "queued", [])
    edit(catalog, image_id, Edit(name=None, tags=(), properties={}))
    row = catalog.image(image_id)
    assert (row.name, row.disk_format, row.tags, row.properties) == (None, "raw", (), {})


def test_an_edit_of_a_stored_image_is_noted(catalog: Catalog) -> None:
    """Edits, tags and members of an image with data are followed by its record; formats stay what the data have."""
    image_id = save_image(catalog)[0].id
    edit(catalog, image_id, Edit(name="other", disk_format="raw"))
    assert waiting(catalog) == [image_id]
    assert catalog.transaction(partial(outbox.last_change, image_id=image_id)) == 1
    catalog.transaction(partial(edits.add_tag, image_id=image_id, tag="x"))
    share(catalog, image_id, members.add_member, name="p2")
    behind = catalog.transaction(partial(image_behind, image_id=image_id))
    assert behind is not None
    assert behind.image is not None
    assert (behind.seq, behind.image.revision, behind.image.tags) == (3, 3, ("x",))
    assert [row.member for row in behind.members] == ["p2"]
    with pytest.raises(BadStatusError):
        edit(catalog, image_id, Edit(name="third", disk_format="qcow2"))
    assert (catalog.image(image_id).name, catalog.image(image_id).revision) == ("other", 3)


def test_an_edit_of_something_else_is_refused(catalog: Catalog) -> None:
    """An edit decided on an older image, a deleted or an unknown one changes nothing."""
    image_id = register(catalog)
    edit(catalog, image_id, Edit(name="a"))
    work = partial(edits.edit_image, image_id=image_id, edit=Edit(name="b"), revision=0)
    with pytest.raises(ChangedMeanwhileError):
        catalog.transaction(work)
    assert catalog.image(image_id).name == "a"
    catalog.delete_image(image_id)
    for gone in (image_id, new_image_id(), Save(catalog).image.id):
        with pytest.raises(ImageNotFoundError):
            catalog.transaction(partial(edits.edit_image, image_id=gone, edit=Edit(name="b"), revision=1))


def test_tags_come_and_go(catalog: Catalog) -> None:
    """A tag given twice is one; one that is not there cannot be taken away; case matters."""
    image_id = register(catalog)
    for tag in ("x", "x", "X"):
        catalog.transaction(partial(edits.add_tag, image_id=image_id, tag=tag))
    assert catalog.image(image_id).tags == ("X", "x")
    catalog.transaction(partial(edits.remove_tag, image_id=image_id, tag="x"))
    with pytest.raises(TagNotFoundError):
        catalog.transaction(partial(edits.remove_tag, image_id=image_id, tag="x"))
    assert catalog.image(image_id).tags == ("X",)


def test_members_come_answer_and_go(catalog: Catalog) -> None:
    """A member is pending at first, answers, and goes; sharing is no update of the image."""
    image_id = register(catalog)
    before = catalog.image(image_id)
    share(catalog, image_id, members.add_member, name="p2")
    share(catalog, image_id, members.add_member, name="p3")
    with pytest.raises(MemberExistsError):
        share(catalog, image_id, members.add_member, name="p2")
    share(catalog, image_id, members.set_member_status, name="p2", status="accepted")
    found = catalog.read(partial(members.members_of, image_id=image_id))
    assert [(row.member, row.status) for row in found] == [("p2", "accepted"), ("p3", "pending")]
    share(catalog, image_id, members.remove_member, name="p3")
    for work in (members.remove_member, partial(members.set_member_status, status="accepted")):
        with pytest.raises(MemberNotFoundError):
            share(catalog, image_id, work, name="p3")
    after = catalog.image(image_id)
    assert (after.updated_at, after.revision) == (before.updated_at, 4)


def test_deactivated_images_keep_what_they_have(catalog: Catalog) -> None:
    """A deactivated image is there for those who look after it, and may become active again; a queued one cannot."""
    image, _ = save_image(catalog, "disk")
    work = partial(edits.set_active, image_id=image.id)
    assert catalog.transaction(partial(work, is_active=False)) is True
    assert catalog.transaction(partial(work, is_active=False)) is False
    assert catalog.find("disk").status == "deactivated"
    assert catalog.dead_contents() == []
    behind = catalog.transaction(partial(image_behind, image_id=image.id))
    assert behind is not None
    assert behind.content is not None
    assert catalog.transaction(partial(work, is_active=True)) is True
    assert (catalog.image(image.id).status, catalog.image(image.id).revision) == ("active", 2)
    with pytest.raises(BadStatusError):
        catalog.transaction(partial(edits.set_active, image_id=register(catalog), is_active=False))
    with pytest.raises(ImageNotFoundError):
        catalog.transaction(partial(edits.set_active, image_id=new_image_id(), is_active=False))


def test_usage_counts_plain_bytes_of_an_owner(catalog: Catalog) -> None:
    """What an owner has is counted by images and plain bytes, shared or not; deleted ones do not count."""
    for _ in range(2):
        Upload(catalog, register(catalog)).commit()
    Upload(catalog, register(catalog))
    register(catalog, owner="p2")
    catalog.delete_image(register(catalog))
    found = catalog.read(partial(edits.usage_of, owner="p1"))
    assert (found.image_count, found.size, found.uploading_count) == (3, 2 * CONTENT_SIZE, 1)
    assert catalog.read(partial(edits.usage_of, owner="none")).size == 0


# Claims


def test_of_two_uploads_one_is_told_at_once(catalog: Catalog) -> None:
    """A second claim is refused and leaves nothing; the first is not disturbed."""
    image_id = register(catalog)
    first = Upload(catalog, image_id)
    with pytest.raises(NotQueuedError):
        Upload(catalog, image_id)
    with pytest.raises(NotQueuedError):
        catalog.read(partial(uploads.check_queued, image_id=image_id))
    first.commit(virtual_size=7)
    row = catalog.image(image_id)
    assert (row.status, row.size, row.virtual_size, row.hashes) == ("active", CONTENT_SIZE, 7, {"md5": "0" * 32})
    with pytest.raises(NotQueuedError):
        Upload(catalog, image_id)
    with pytest.raises(ImageNotFoundError):
        Upload(catalog, new_image_id())


def test_a_failed_upload_is_queued_again(catalog: Catalog) -> None:
    """Given back, the image is queued without a content, which the next collection reaps; another upload may come."""
    parent = new_image_id()
    image_id = register(catalog)
    failed = Upload(catalog, image_id, parent)
    assert failed.release() is True
    assert failed.release() is False
    row = catalog.image(image_id)
    assert (row.status, row.session_id, row.parent_id, row.size) == ("queued", None, parent, None)
    assert catalog.dead_contents() == [failed.content_id]
    assert catalog.reap_content(failed.content_id) is True
    again = Upload(catalog, image_id)
    assert again.revision > failed.revision  # so that of two records the later one's counts
    with pytest.raises(SessionFencedError):
        failed.commit()
    again.commit()
    assert catalog.image(image_id).parent_id == parent


def test_a_dead_upload_is_queued_again(catalog: Catalog) -> None:
    """What a session no longer open was saving is queued again when it was registered, and deleted when it was not."""
    image_id, put = register(catalog), Save(catalog)
    dead, living = Upload(catalog, image_id), Upload(catalog, register(catalog))
    catalog.end_session(put.session_id)
    catalog.end_session(dead.session_id)
    assert sorted(catalog.dead_contents()) == sorted([put.content_id, dead.content_id])
    assert catalog.end_dead_saves() == 2
    assert catalog.end_dead_saves() == 0
    assert catalog.image(image_id).status == "queued"
    assert catalog.image(put.image.id).status == "deleted"
    assert catalog.image(living.image_id).status == "saving"
    assert catalog.reap_content(dead.content_id) is True
    living.commit()


def test_an_image_deleted_while_it_is_uploaded(catalog: Catalog) -> None:
    """A deleted image is noticed by heartbeat and commit, stays deleted, and its content is reaped."""
    image_id = register(catalog)
    upload = Upload(catalog, image_id)
    beat = partial(uploads.beat_upload, session_id=upload.session_id, image_id=image_id)
    catalog.transaction(beat)
    catalog.delete_image(image_id)
    with pytest.raises(ImageDeletedError):
        catalog.transaction(beat)
    with pytest.raises(ImageNotFoundError):
        upload.commit()
    assert upload.release() is False
    assert catalog.image(image_id).status == "deleted"
    assert catalog.deleted_with_content() == [image_id]
    catalog.forget_content(image_id)
    assert catalog.reap_content(upload.content_id) is True


def test_an_edit_during_an_upload_is_noticed_by_the_commit(catalog: Catalog) -> None:
    """What was edited after the record was put is noted by the commit; what was edited before is in the record."""
    image_id = register(catalog)
    upload = Upload(catalog, image_id)
    edit(catalog, image_id, Edit(name="before"))
    upload.revision = catalog.image(image_id).revision
    edit(catalog, image_id, Edit(name="after"))
    assert waiting(catalog) == []
    upload.commit()
    assert waiting(catalog) == [image_id]
    assert catalog.image(image_id).name == "after"
    other = Upload(catalog, register(catalog))
    edit(catalog, other.image_id, Edit(name="before"))
    other.revision = catalog.image(other.image_id).revision
    other.commit()
    assert waiting(catalog) == [image_id]


def test_a_queued_image_is_no_image_with_data(catalog: Catalog) -> None:
    """Before its data an image is not among those that can be read, and holds no name for itself."""
    register(catalog, name="disk")
    assert catalog.images() == []
    with pytest.raises(ImageNotFoundError):
        catalog.find("disk")
    catalog.check_name_free("disk")
    assert save_image(catalog, "disk")[0].name == "disk"


def test_uploads_race_deletes(catalog: Catalog) -> None:
    """Whatever comes first of a commit and a delete at the same time: the image is deleted and nothing is half."""
    for _ in range(5):
        upload = Upload(catalog, register(catalog))
        gate = threading.Barrier(2)

        def remove(image_id: ImageId = upload.image_id, gate: threading.Barrier = gate) -> None:
            gate.wait()
            catalog.delete_image(image_id)

        thread = threading.Thread(target=remove)
        thread.start()
        gate.wait()
        committed = True
        try:
            upload.commit()
        except ImageNotFoundError:
            committed = False
        thread.join()
        row = catalog.image(upload.image_id)
        assert row.status == "deleted"
        assert (row.content_id is not None) is committed
        assert waiting(catalog)[-1:] == [upload.image_id]
        assert upload.release() is False


def test_registered_images_have_statuses_of_their_own(catalog: Catalog) -> None:
    """The database keeps whether an image was registered, and a put image is not."""
    queued, put = register(catalog), save_image(catalog)[0].id
    rows = catalog.read(lambda connection: dict(connection.execute(select(images.c.id, images.c.registered)).all()))
    assert rows == {queued: True, put: False}
    catalog.transaction(lambda connection: connection.execute(update(images).values(hidden=True)))
    assert catalog.image(put).hidden is True
    assert new_image().hidden is False
