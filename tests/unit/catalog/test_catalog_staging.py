"""Data that are kept aside for an import, claims of imports, and locks: what a session that fails or dies leaves."""

from dataclasses import dataclass, replace
from functools import partial

import pytest

from casimg.catalog import Catalog, NewContent, TreeRow, edits, locks, outbox, uploads
from casimg.catalog.edits import Edit
from casimg.errors import BadStatusError, ImageLockedError, ImageNotFoundError, NotLockedError, SessionFencedError
from casimg.ids import ContentId, ImageId, SessionId, new_content_id
from tests.catalog_making import CONTENT_SIZE, ROOT, new_image


@dataclass(frozen=True, slots=True)
class Upload:
    """A session that has claimed an image for a content."""

    image_id: ImageId
    content_id: ContentId
    session_id: SessionId


def register(catalog: Catalog) -> ImageId:
    """Make a queued image."""
    new = replace(new_image(), owner="p1", properties={})
    catalog.transaction(partial(edits.register, new=new))
    return new.id


def begin(catalog: Catalog, image_id: ImageId, status: uploads.ClaimedStatus = "saving") -> Upload:
    """Claim a queued image."""
    upload = Upload(image_id, new_content_id(), catalog.open_session("ingest").session_id)
    work = partial(uploads.claim_queued, session_id=upload.session_id, image_id=image_id, content_id=upload.content_id)
    catalog.transaction(partial(work, parent_id=None, status=status, backend_id=1))
    return upload


def commit(catalog: Catalog, upload: Upload, *, is_staged: bool) -> None:
    content = NewContent(upload.content_id, CONTENT_SIZE, 0, (TreeRow("plain", ROOT, CONTENT_SIZE),), {})
    catalog.commit(upload.session_id, upload.image_id, content, [], unique_name=False, is_staged=is_staged)


def stage(catalog: Catalog, image_id: ImageId) -> Upload:
    """Keep data for a queued image aside."""
    upload = begin(catalog, image_id, "uploading")
    commit(catalog, upload, is_staged=True)
    return upload


def claim(catalog: Catalog, staged: Upload) -> SessionId:
    """Begin to import what is staged."""
    session_id = catalog.open_session("snapshot").session_id
    work = partial(uploads.claim_staged, session_id=session_id, image_id=staged.image_id)
    assert catalog.transaction(work) == staged.content_id
    return session_id


def adopt(catalog: Catalog, staged: Upload, session_id: SessionId, recorded_revision: int) -> None:
    catalog.transaction(
        partial(
            uploads.adopt_staged,
            session_id=session_id,
            image_id=staged.image_id,
            content_id=staged.content_id,
            virtual_size=None,
            recorded_revision=recorded_revision,
        )
    )


def test_what_is_staged_becomes_the_images(catalog: Catalog) -> None:
    """Staged data are kept by collections and no image's; an import makes them the image's, once, and notes edits."""
    staged = stage(catalog, register(catalog))
    row = catalog.image(staged.image_id)
    assert (row.status, row.content_id, row.size) == ("uploading", None, None)
    assert (catalog.dead_contents(), catalog.end_dead_saves(), catalog.images()) == ([], 0, [])
    assert catalog.read(partial(uploads.staged_content, image_id=row.id)) == staged.content_id
    assert catalog.read(partial(edits.usage_of, owner="p1")).staged_size == CONTENT_SIZE
    session_id = claim(catalog, staged)
    row = catalog.image(staged.image_id)
    assert (row.status, row.session_id, catalog.is_committed(session_id, row.id)) == ("importing", session_id, False)
    assert (catalog.dead_contents(), catalog.end_dead_saves()) == ([], 0)
    with pytest.raises(BadStatusError):
        claim(catalog, staged)
    catalog.transaction(
        partial(edits.edit_image, image_id=row.id, edit=Edit(name="after the record"), revision=row.revision)
    )
    adopt(catalog, staged, session_id, row.revision)
    row = catalog.image(staged.image_id)
    assert (row.status, row.content_id, row.session_id) == ("active", staged.content_id, session_id)
    assert catalog.transaction(outbox.behind) == [row.id]
    with pytest.raises(SessionFencedError):
        adopt(catalog, staged, session_id, row.revision)
    assert catalog.is_committed(session_id, row.id)


def test_a_dead_import_leaves_what_was_staged(catalog: Catalog) -> None:
    """An import that fails, or whose session is fenced, leaves the image with its staged data; the session is over."""
    staged = stage(catalog, register(catalog))
    failed = claim(catalog, staged)
    work = partial(uploads.put_back_staged, session_id=failed, image_id=staged.image_id)
    assert (catalog.transaction(work), catalog.transaction(work)) == (True, False)
    dead = claim(catalog, staged)
    catalog.fence_stale(heartbeat_age_s=-1)
    assert (catalog.dead_contents(), catalog.end_dead_saves()) == ([], 1)
    with pytest.raises(SessionFencedError):
        adopt(catalog, staged, dead, 0)
    assert catalog.read(partial(uploads.staged_content, image_id=staged.image_id)) == staged.content_id
    row = catalog.image(staged.image_id)
    adopt(catalog, staged, claim(catalog, staged), row.revision)
    assert catalog.image(staged.image_id).status == "active"


@pytest.mark.parametrize("status", ["uploading", "importing"])
def test_a_dead_upload_shows_what_for_and_is_queued_again(catalog: Catalog, status: uploads.ClaimedStatus) -> None:
    """Data that were to be kept aside, or fetched, and never came leave a queued image, and their content dead."""
    image_id = register(catalog)
    upload = begin(catalog, image_id, status)
    assert (catalog.image(image_id).status, catalog.dead_contents()) == (status, [])
    with pytest.raises(BadStatusError):
        catalog.transaction(partial(uploads.unstage, image_id=image_id))
    with pytest.raises(BadStatusError):
        claim(catalog, upload)
    catalog.fence_stale(heartbeat_age_s=-1)
    assert catalog.end_dead_saves() == 1
    assert (catalog.image(image_id).status, catalog.dead_contents()) == ("queued", [upload.content_id])


def test_a_property_is_a_lock(catalog: Catalog) -> None:
    """Who gives an image of the right status a property first holds it; only its value takes it away."""
    image_id = register(catalog)
    lock = partial(locks.lock, image_id=image_id, name="by", status="queued", beside={"why": ""})
    catalog.transaction(partial(lock, value="one"))
    with pytest.raises(ImageLockedError) as caught:
        catalog.transaction(partial(lock, value="two"))
    assert caught.value.holder == "one"
    assert catalog.image(image_id).properties == {"by": "one", "why": ""}
    unlock = partial(locks.unlock, image_id=image_id, name="by", beside={"why": "done"})
    with pytest.raises(NotLockedError):
        catalog.transaction(partial(unlock, value="two"))
    catalog.transaction(partial(unlock, value="one"))
    assert catalog.image(image_id).properties == {"why": "done"}
    stage(catalog, image_id)
    with pytest.raises(BadStatusError):
        catalog.transaction(partial(lock, value="two"))
    catalog.delete_image(image_id)
    with pytest.raises(ImageNotFoundError):
        catalog.transaction(partial(lock, value="two"))


def test_what_was_staged_is_given_up(catalog: Catalog) -> None:
    """Given up or deleted, staged data are reaped; an image given up is queued and takes data again."""
    staged, gone = stage(catalog, register(catalog)), stage(catalog, register(catalog))
    catalog.transaction(partial(uploads.unstage, image_id=staged.image_id))
    with pytest.raises(BadStatusError):
        catalog.transaction(partial(uploads.unstage, image_id=staged.image_id))
    catalog.delete_image(gone.image_id)
    with pytest.raises(ImageNotFoundError):
        claim(catalog, gone)
    catalog.forget_content(gone.image_id)
    assert sorted(catalog.dead_contents()) == sorted([staged.content_id, gone.content_id])
    assert all(catalog.reap_content(content_id) for content_id in catalog.dead_contents())
    commit(catalog, begin(catalog, staged.image_id), is_staged=False)
    with pytest.raises(BadStatusError):
        catalog.read(partial(uploads.staged_content, image_id=staged.image_id))


def test_a_stage_whose_answer_was_lost_is_known(catalog: Catalog) -> None:
    """A stage is committed also when an import has claimed what it kept; one given back is not, whoever claims then."""
    staged = stage(catalog, register(catalog))
    assert catalog.is_committed(staged.session_id, staged.image_id)
    claim(catalog, staged)
    assert catalog.is_committed(staged.session_id, staged.image_id)
    failed = begin(catalog, register(catalog), "uploading")
    assert not catalog.is_committed(failed.session_id, failed.image_id)
    catalog.transaction(partial(uploads.release, session_id=failed.session_id, image_id=failed.image_id))
    again = stage(catalog, failed.image_id)
    assert not catalog.is_committed(failed.session_id, failed.image_id)
    assert catalog.is_committed(again.session_id, failed.image_id)
