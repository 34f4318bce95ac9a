"""Contents of an image on further backends, as the catalog has them: rules X1 to X3, and what keeps them alive."""

from dataclasses import dataclass, replace
from functools import partial

import pytest

from casimg.catalog import Catalog, ImageChange, ImageRow, NewContent, SweepVerdict, TreeRow, contents, copies, outbox
from casimg.catalog.changes import OutdatedRecordError, change_image, image_behind, written
from casimg.catalog.edits import usage_of
from casimg.errors import (
    CatalogBusyError,
    CatalogDamagedError,
    CopyExistsError,
    CopyNotFoundError,
    ImageDeletedError,
    ImageNotFoundError,
    LastCopyError,
    PackGoneError,
    SessionFencedError,
)
from casimg.ids import ContentId, ImageId, SessionId, new_content_id
from tests.catalog_making import CONTENT_SIZE, ROOT, Save, new_image, new_pack, save_image, states


@dataclass(frozen=True, slots=True)
class Copy:
    """A copy on its way: its session, content and packs on the backend `spare`."""

    image_id: ImageId
    session_id: SessionId
    content_id: ContentId
    backend_id: int
    pack_nos: list[int]
    revision: int


def begin(catalog: Catalog, image: ImageRow, backend: str = "spare") -> Copy:
    """Do all of a copy but its commit."""
    backend_id = catalog.add_backend(backend, "local")
    session_id, content_id = catalog.open_session("ingest").session_id, new_content_id()
    work = partial(copies.begin_copy, session_id=session_id, image_id=image.id, content_id=content_id)
    catalog.transaction(partial(work, backend_id=backend_id))
    pack_no = catalog.insert_pack(session_id, replace(new_pack(), backend_id=backend_id))
    return Copy(image.id, session_id, content_id, backend_id, [pack_no], catalog.image(image.id).revision)


def commit(catalog: Catalog, copy: Copy, root: bytes = ROOT) -> None:
    content = NewContent(copy.content_id, CONTENT_SIZE, 4096, (TreeRow("plain", root, CONTENT_SIZE),))
    catalog.transaction(
        partial(
            copies.commit_copy,
            session_id=copy.session_id,
            image_id=copy.image_id,
            content=content,
            backend_id=copy.backend_id,
            pack_nos=copy.pack_nos,
            recorded_revision=copy.revision,
        )
    )


def leave(catalog: Catalog, image: ImageRow, backend_id: int) -> SessionId | None:
    return catalog.transaction(partial(copies.remove_copy, image_id=image.id, backend_id=backend_id))


def test_a_copy_is_the_images_with_hashes_and_packs(catalog: Catalog) -> None:
    """After the commit the image names both backends, the copy has the original's hashes, and its session is over."""
    image, _ = save_image(catalog)
    copy = begin(catalog, image)
    assert catalog.image(image.id).stores == ("main",)
    commit(catalog, copy)
    now = catalog.image(image.id)
    assert (now.stores, now.content_id, now.revision) == (("main", "spare"), image.content_id, image.revision)
    (row,) = now.copies
    assert (row.content_id, row.session_id, row.store) == (copy.content_id, copy.session_id, "spare")
    found = catalog.content(copy.content_id)
    assert (found.state, found.backend_id, found.hashes) == ("complete", copy.backend_id, {"md5": "0" * 32})
    assert [row.pack_no for row in catalog.content_packs(copy.content_id)] == copy.pack_nos
    assert catalog.session(copy.session_id).state == "closed"
    assert [row.stores for row in catalog.images()] == [("main", "spare")]
    assert catalog.read(partial(usage_of, owner="owner")).size == 2 * CONTENT_SIZE


def test_a_second_copy_to_a_backend_is_refused(catalog: Catalog) -> None:
    """Early, and for certain by the commit of the slower of two."""
    image, _ = save_image(catalog)
    first, second = begin(catalog, image), begin(catalog, image)
    commit(catalog, first)
    with pytest.raises(CopyExistsError):
        commit(catalog, second)
    assert catalog.session(second.session_id).state == "open"
    assert catalog.content(second.content_id).state == "pending"
    for backend in ("main", "spare"):
        with pytest.raises(CopyExistsError):
            begin(catalog, image, backend)


def test_a_deleted_image_is_not_copied(catalog: Catalog) -> None:
    """Its delete during a copy is seen by each heartbeat, and by the commit, which changes nothing."""
    image, _ = save_image(catalog)
    copy = begin(catalog, image)
    beat = partial(copies.beat_copy, session_id=copy.session_id, image_id=image.id)
    catalog.transaction(beat)
    catalog.delete_image(image.id)
    with pytest.raises(ImageDeletedError):
        catalog.transaction(beat)
    with pytest.raises(ImageNotFoundError):
        commit(catalog, copy)
    catalog.end_session(copy.session_id)
    assert copy.content_id in catalog.dead_contents()


def test_a_fenced_copy_commits_nothing(catalog: Catalog) -> None:
    """A session that was taken for dead neither beats nor commits."""
    image, _ = save_image(catalog)
    copy = begin(catalog, image)
    catalog.fence_stale(heartbeat_age_s=-1.0)
    with pytest.raises(SessionFencedError):
        commit(catalog, copy)
    with pytest.raises(SessionFencedError):
        begin_again(catalog, copy)
    assert catalog.image(image.id).stores == ("main",)


def begin_again(catalog: Catalog, copy: Copy) -> None:
    work = partial(copies.begin_copy, session_id=copy.session_id, image_id=copy.image_id, content_id=new_content_id())
    catalog.transaction(partial(work, backend_id=copy.backend_id))


def test_other_bytes_are_no_copy(catalog: Catalog) -> None:
    """A content with another root does not become the image's."""
    image, _ = save_image(catalog)
    copy = begin(catalog, image)
    with pytest.raises(CatalogDamagedError, match="no copy"):
        commit(catalog, copy, bytes(32))
    assert catalog.image(image.id).copies == ()


def test_packs_that_went_refuse_a_copy(catalog: Catalog) -> None:
    """The packs of a copy are held like those of any commit: a condemned one is revived, a gone one refuses."""
    image, _ = save_image(catalog)
    other = Save(catalog, new_image("other"))
    known, gone = other.add_packs(2)
    catalog.end_session(other.session_id)
    catalog.condemn([known])
    copy = begin(catalog, image)
    commit(catalog, replace(copy, pack_nos=[*copy.pack_nos, known]))
    assert states(catalog, [known]) == ["live"]
    catalog.condemn([gone])
    assert catalog.sweep(gone) is SweepVerdict.DELETING
    late = begin(catalog, image, "third")
    with pytest.raises(PackGoneError):
        commit(catalog, replace(late, pack_nos=[gone]))


def test_an_edit_during_a_copy_reaches_its_record(catalog: Catalog) -> None:
    """What was edited after the record was put is noted in the commit's own transaction."""
    image, _ = save_image(catalog)
    copy = begin(catalog, image)
    work = partial(change_image, image_id=image.id, change=ImageChange(name="other"), unique_name=False)
    catalog.transaction(work)
    behind = catalog.transaction(partial(image_behind, image_id=image.id))
    assert behind is not None
    session_id = catalog.open_session("repair").session_id
    catalog.transaction(partial(written, session_id=session_id, behind=behind))
    assert catalog.transaction(outbox.behind) == []
    commit(catalog, copy)
    assert catalog.transaction(outbox.behind) == [image.id]


def test_a_copy_is_alive(catalog: Catalog) -> None:
    """Its content is not dead and not reaped, its packs are not condemned; on its way and after the commit."""
    image, pack_nos = save_image(catalog)
    copy = begin(catalog, image)
    for is_committed in (False, True):
        if is_committed:
            commit(catalog, copy)
        assert catalog.dead_contents() == []
        assert not catalog.reap_content(copy.content_id)
        assert catalog.condemn([*pack_nos, *copy.pack_nos])[1] == []
    assert [row.id for row in catalog.images_of_packs(copy.pack_nos)] == [image.id]


def test_a_deleted_image_lets_all_its_contents_go(catalog: Catalog) -> None:
    """Only after its records are gone, all at once; until then they are told with the images to look after."""
    image, pack_nos = save_image(catalog)
    copy = begin(catalog, image)
    commit(catalog, copy)
    places = partial(copies.record_places, image_id=image.id)
    assert catalog.read(places) == {1, copy.backend_id}
    catalog.delete_image(image.id)
    assert sorted(catalog.dead_contents()) == sorted([image.content_id or "", copy.content_id])
    assert not catalog.reap_content(copy.content_id)
    assert catalog.read(places) == {1, copy.backend_id}
    assert catalog.deleted_with_content() == [image.id]
    catalog.forget_content(image.id)
    assert catalog.deleted_with_content() == []
    assert [catalog.reap_content(content_id) for content_id in catalog.dead_contents()] == [True, True]
    assert sorted(catalog.condemn([*pack_nos, *copy.pack_nos])[1]) == sorted([*pack_nos, *copy.pack_nos])


def test_a_copy_is_left(catalog: Catalog) -> None:
    """The row goes and its content is dead; the image is as it was before. What is not there cannot be left."""
    image, _ = save_image(catalog)
    copy = begin(catalog, image)
    commit(catalog, copy)
    assert leave(catalog, image, copy.backend_id) == copy.session_id
    assert catalog.image(image.id) == image
    assert catalog.dead_contents() == [copy.content_id]
    with pytest.raises(CopyNotFoundError):
        leave(catalog, image, copy.backend_id)
    with pytest.raises(LastCopyError):
        leave(catalog, image, 1)
    with pytest.raises(ImageNotFoundError):
        leave(catalog, replace(image, id=new_image().id), 1)


def test_the_first_content_is_left_to_the_oldest_copy(catalog: Catalog) -> None:
    """The image then names the copy's content and record, in one transaction."""
    image, _ = save_image(catalog)
    older, younger = begin(catalog, image), begin(catalog, image, "third")
    commit(catalog, older)
    commit(catalog, younger)
    assert leave(catalog, image, 1) == image.session_id
    now = catalog.image(image.id)
    assert (now.stores, now.content_id, now.session_id) == (("spare", "third"), older.content_id, older.session_id)
    assert catalog.dead_contents() == [image.content_id]
    again = begin(catalog, now, "main")
    commit(catalog, again)
    assert catalog.image(image.id).stores == ("spare", "third", "main")


def test_a_record_of_a_copy_that_went_is_not_the_images(catalog: Catalog) -> None:
    """What a copy was when its record was written is held against what it is; records that are not put stay behind."""
    image, _ = save_image(catalog)
    copy = begin(catalog, image)
    commit(catalog, copy)
    work = partial(change_image, image_id=image.id, change=ImageChange(name="other"), unique_name=False)
    catalog.transaction(work)
    behind = catalog.transaction(partial(image_behind, image_id=image.id))
    assert behind is not None
    assert [content.content_id for content, _ in behind.copies] == [copy.content_id]
    first = catalog.open_session("repair").session_id
    catalog.transaction(partial(written, session_id=first, behind=behind, backend_ids={1}))
    now = catalog.image(image.id)
    assert (now.session_id, now.copies[0].session_id) == (first, copy.session_id)
    assert catalog.transaction(outbox.behind) == [image.id]
    behind = catalog.transaction(partial(image_behind, image_id=image.id))
    assert behind is not None
    leave(catalog, image, copy.backend_id)
    second = catalog.open_session("repair").session_id
    with pytest.raises(OutdatedRecordError):
        catalog.transaction(partial(written, session_id=second, behind=behind))
    assert catalog.image(image.id).session_id == first


def test_hashes_reach_every_copy(catalog: Catalog) -> None:
    """Hashes of the first content are kept of all, also when a copy alone lacks them."""
    image, _ = save_image(catalog)
    copy = begin(catalog, image)
    commit(catalog, copy)
    assert image.content_id is not None
    work = partial(contents.add_hashes, content_id=image.content_id, hashes={"md5": "0" * 32, "sha512": "1"})
    assert catalog.transaction(work) == [image.id]
    assert catalog.content(copy.content_id).hashes == catalog.content(image.content_id).hashes
    assert catalog.transaction(work) == []


def test_a_copy_whose_answer_was_lost_is_known(catalog: Catalog) -> None:
    """Whether it was committed is asked for: its content is complete, or not."""
    image, _ = save_image(catalog)
    copy = begin(catalog, image)
    asked = partial(copies.is_copied, session_id=copy.session_id, content_id=copy.content_id)
    assert not catalog.transaction(asked)
    commit(catalog, copy)
    assert catalog.transaction(asked)


def test_a_snapshot_names_the_content_that_its_record_names(catalog: Catalog) -> None:
    """One whose parent left a backend meanwhile is tried again; it has the first content alone."""
    image, _ = save_image(catalog)
    commit(catalog, begin(catalog, image))
    assert image.content_id is not None
    leave(catalog, image, 1)
    session_id = catalog.open_session("snapshot").session_id
    child = new_image("child", parent_id=image.id)
    snapshot = partial(catalog.snapshot_row, session_id, image.id, child, unique_name=False)
    with pytest.raises(CatalogBusyError):
        snapshot(recorded=image.content_id)
    now = catalog.image(image.id)
    made = snapshot(recorded=now.content_id)
    assert (made.content_id, made.stores) == (now.content_id, ("spare",))


def test_packs_of_one_backend_are_seen_apart(catalog: Catalog) -> None:
    """A scoped catalog lists one backend's packs alone: live, in any state, unreferenced, by their ids."""
    image, pack_nos = save_image(catalog)
    copy = begin(catalog, image)
    commit(catalog, copy)
    lost = Save(catalog, new_image("lost")).add_packs()
    catalog.fence_stale(heartbeat_age_s=-1.0)
    assert [row.name for row in catalog.backends()] == ["main", "spare"]
    main, spare = catalog.scoped(1), catalog.scoped(copy.backend_id)
    session_id = catalog.open_session("ingest").session_id
    # Of no order.
    assert {row.pack_no for row in main.live_packs(session_id)} == {*pack_nos, *lost}
    assert {row.pack_no for row in spare.live_packs(session_id)} == set(copy.pack_nos)
    assert [row.pack_no for row in spare.all_packs(["live"])] == copy.pack_nos
    assert [row.pack_no for row in main.unreferenced()] == lost
    assert spare.unreferenced() == []
    ids = [row.pack_id for row in catalog.packs([*pack_nos, *copy.pack_nos])]
    assert (len(main.pack_states(ids)), len(spare.pack_states(ids)), len(catalog.pack_states(ids))) == (1, 1, 2)
    dead = [content_id for content_id in (image.content_id, copy.content_id) if content_id is not None]
    assert [row.pack_no for row in spare.packs_only_of(dead)] == copy.pack_nos


def test_a_record_is_explained_by_what_lies_beside_it(catalog: Catalog) -> None:
    """A change gives the records of all backends one session; on one that the image has left it explains nothing."""
    image, _ = save_image(catalog)
    copy = begin(catalog, image)
    commit(catalog, copy)
    work = partial(change_image, image_id=image.id, change=ImageChange(name="other"), unique_name=False)
    catalog.transaction(work)
    behind = catalog.transaction(partial(image_behind, image_id=image.id))
    assert behind is not None
    session_id = catalog.open_session("repair").session_id
    catalog.transaction(partial(written, session_id=session_id, behind=behind))
    main, spare = catalog.scoped(1), catalog.scoped(copy.backend_id)
    for scoped in (main, spare):
        assert scoped.image_sessions([image.id]) == {image.id: ("active", frozenset({session_id}))}
    leave(catalog, image, 1)
    assert main.image_sessions([image.id]) == {image.id: ("active", frozenset())}
    assert spare.image_sessions([image.id]) == {image.id: ("active", frozenset({session_id}))}
