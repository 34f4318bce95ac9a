"""Changes of metadata in the catalog: all or nothing, counted, and never without a row of the outbox."""

from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest

from casimg.catalog import Catalog, ImageChange, outbox
from casimg.catalog.changes import ImageBehind, OutdatedRecordError, change_image, image_behind, written
from casimg.errors import ImageNotFoundError, NameTakenError, ProtectedImageError, SessionFencedError
from casimg.ids import ImageId
from tests.catalog_making import Save, database_url, new_image


@pytest.fixture
def catalog(tmp_path: Path) -> Iterator[Catalog]:
    with database_url(tmp_path) as url:
        opened = Catalog.create(url, "uuid-of-test", "main", "local")
        yield opened
        opened.close()


def image(catalog: Catalog, name: str = "image") -> ImageId:
    """An active image."""
    save = Save(catalog, new_image(name))
    return save.commit(save.add_packs()).id


def change(catalog: Catalog, image_id: ImageId, change: ImageChange, *, unique_name: bool = True) -> None:
    catalog.transaction(partial(change_image, image_id=image_id, change=change, unique_name=unique_name))


def behind(catalog: Catalog, image_id: ImageId) -> ImageBehind:
    found = catalog.transaction(partial(image_behind, image_id=image_id))
    assert found is not None
    return found


def write(catalog: Catalog, seen: ImageBehind) -> str:
    """Say that a session of its own has put the record of what was seen."""
    session_id = catalog.open_session("repair").session_id
    catalog.transaction(partial(written, session_id=session_id, behind=seen))
    return session_id


def waiting(catalog: Catalog) -> list[ImageId]:
    return catalog.transaction(outbox.behind)


def test_a_change_is_counted_and_noted(catalog: Catalog) -> None:
    """Name, protection, visibility and properties change together; what is not named stays; the outbox has a row."""
    image_id = image(catalog)
    assert waiting(catalog) == []
    change(catalog, image_id, ImageChange(properties={"a": "1", "b": "2"}))
    change(catalog, image_id, ImageChange("other", True, "public", {"b": "3", "c": ""}, ("a", "os", "none")))
    row = catalog.image(image_id)
    assert (row.name, row.protected, row.visibility, row.revision) == ("other", True, "public", 2)
    assert row.properties == {"b": "3", "c": ""}
    assert waiting(catalog) == [image_id]
    change(catalog, image_id, ImageChange(protected=False))
    assert catalog.image(image_id).name == "other"
    assert catalog.image(image_id).protected is False


def test_a_refused_change_changes_nothing(catalog: Catalog) -> None:
    """A taken name, a deleted image and an unknown one are refused, and no row of the outbox is left."""
    first, second = image(catalog, "first"), image(catalog, "second")
    with pytest.raises(NameTakenError):
        change(catalog, second, ImageChange(name="first", properties={"a": "1"}))
    row = catalog.image(second)
    assert (row.name, row.properties, row.revision, waiting(catalog)) == ("second", {"os": "debian"}, 0, [])
    change(catalog, second, ImageChange(name="second"))
    change(catalog, second, ImageChange(name="first"), unique_name=False)
    catalog.delete_image(first)
    with pytest.raises(ImageNotFoundError):
        change(catalog, first, ImageChange(name="x"))
    with pytest.raises(ImageNotFoundError):
        change(catalog, ImageId("0" * 36), ImageChange(name="x"))


def test_a_deletion_is_noted_once_it_happens(catalog: Catalog) -> None:
    """Deleting leaves a row of the outbox; a refused deletion leaves none."""
    image_id = image(catalog)
    change(catalog, image_id, ImageChange(protected=True))
    write(catalog, behind(catalog, image_id))
    with pytest.raises(ProtectedImageError):
        catalog.delete_image(image_id)
    assert waiting(catalog) == []
    change(catalog, image_id, ImageChange(protected=False))
    write(catalog, behind(catalog, image_id))
    catalog.delete_image(image_id)
    assert waiting(catalog) == [image_id]
    seen = behind(catalog, image_id)
    assert (seen.content, seen.packs) == (None, ())


def test_a_written_record_is_the_images(catalog: Catalog) -> None:
    """The session that put the record becomes the image's, is closed, and the rows it answers go."""
    image_id = image(catalog)
    change(catalog, image_id, ImageChange(name="b"))
    change(catalog, image_id, ImageChange(name="c"))
    session_id = write(catalog, behind(catalog, image_id))
    assert catalog.image(image_id).session_id == session_id
    assert catalog.session(session_id).state == "closed"  # type: ignore[arg-type]
    assert waiting(catalog) == []
    assert catalog.transaction(partial(image_behind, image_id=image_id)) is None


def test_a_change_behind_the_back_is_noticed(catalog: Catalog) -> None:
    """A record of what was read before another change, deletion or record is refused, and its session stays open."""
    image_id = image(catalog)
    change(catalog, image_id, ImageChange(name="b"))
    seen = behind(catalog, image_id)
    change(catalog, image_id, ImageChange(name="c"))
    session_id = catalog.open_session("repair").session_id
    with pytest.raises(OutdatedRecordError):
        catalog.transaction(partial(written, session_id=session_id, behind=seen))
    assert catalog.session(session_id).state == "open"
    assert waiting(catalog) == [image_id]
    seen = behind(catalog, image_id)
    write(catalog, seen)
    with pytest.raises(OutdatedRecordError):
        catalog.transaction(partial(written, session_id=session_id, behind=seen))
    change(catalog, image_id, ImageChange(name="d"))
    seen = behind(catalog, image_id)
    catalog.delete_image(image_id)
    with pytest.raises(OutdatedRecordError):
        catalog.transaction(partial(written, session_id=session_id, behind=seen))
    assert waiting(catalog) == [image_id]


def test_a_fenced_session_writes_no_record(catalog: Catalog) -> None:
    """A record whose session was fenced meanwhile does not become the image's."""
    image_id = image(catalog)
    change(catalog, image_id, ImageChange(name="b"))
    seen = behind(catalog, image_id)
    session_id = catalog.open_session("repair").session_id
    catalog.fence_stale(age_max_s=-1)
    with pytest.raises(SessionFencedError):
        catalog.transaction(partial(written, session_id=session_id, behind=seen))
    assert waiting(catalog) == [image_id]


def test_a_younger_row_survives_an_older_answer(catalog: Catalog) -> None:
    """Rows younger than what was read stay: nothing is taken for flushed that was not read."""
    image_id = image(catalog)
    change(catalog, image_id, ImageChange(name="b"))
    seq = behind(catalog, image_id).seq
    change(catalog, image_id, ImageChange(name="c"))
    catalog.transaction(partial(outbox.forget_changes, image_id=image_id, seq=seq))
    assert waiting(catalog) == [image_id]


def test_a_newer_record_does_not_make_a_commit_unknown(catalog: Catalog) -> None:
    """A commit whose answer was lost is known as one although the image has another session's record by now."""
    save = Save(catalog, new_image("image"))
    image_id = save.commit(save.add_packs()).id
    change(catalog, image_id, ImageChange(name="b"))
    write(catalog, behind(catalog, image_id))
    assert catalog.is_committed(save.session_id, image_id)
    other = Save(catalog, new_image("other"))
    assert not catalog.is_committed(other.session_id, other.image.id)
    catalog.end_session(other.session_id)
    assert not catalog.is_committed(other.session_id, other.image.id)
