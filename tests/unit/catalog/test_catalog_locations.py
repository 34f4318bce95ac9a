"""Locations of images in the catalog: what makes an image active, what a check leaves, what quotas and lists count."""

from dataclasses import replace
from functools import partial
from typing import Any

import pytest
from sqlalchemy import text

from casimg.catalog import Catalog, ImageRow, Location, NewContent, TreeRow, edits, locating, outbox, uploads
from casimg.catalog.changes import OutdatedRecordError, image_behind, written
from casimg.catalog.edits import Edit
from casimg.catalog.listing import list_page
from casimg.catalog.locations import Located
from casimg.catalog.query import Filter, Query, Viewer
from casimg.errors import BadStatusError, CatalogDamagedError, ChangedMeanwhileError, ImageNotFoundError, InputError
from casimg.ids import ImageId, new_content_id
from tests.catalog_making import CONTENT_SIZE, ROOT, new_image

PLACE = Location("http://a/x", {"foo": "bar"})
OTHER = Location("http://b/y")
SIZE = 5000
ADMIN = Viewer(None, is_admin=True)


def register(catalog: Catalog, **fields: Any) -> ImageId:
    """Make a queued image."""
    new = replace(new_image(), owner="p1", properties={}, **fields)
    catalog.transaction(partial(edits.register, new=new))
    return new.id


def change(catalog: Catalog, image_id: ImageId, located: Located) -> ImageRow:
    """Make an image's locations these, by an edit of what it is now."""
    revision = catalog.image(image_id).revision
    work = partial(edits.edit_image, image_id=image_id, edit=Edit(located=located), revision=revision)
    catalog.transaction(work)
    return catalog.image(image_id)


def begin(catalog: Catalog, located: Located, *, is_checked: bool = False) -> ImageId:
    image_id = register(catalog)
    catalog.transaction(partial(locating.begin, image_id=image_id, located=located, is_checked=is_checked))
    return image_id


def stored(catalog: Catalog) -> ImageId:
    """Return a new image with a content, which has hashes."""
    image_id, content_id = register(catalog), new_content_id()
    session_id = catalog.open_session("ingest").session_id
    claim = partial(uploads.claim_queued, session_id=session_id, image_id=image_id, content_id=content_id)
    catalog.transaction(partial(claim, parent_id=None, backend_id=1))
    hashes = {"md5": "m", "sha512": "s"}
    content = NewContent(content_id, CONTENT_SIZE, 0, (TreeRow("plain", ROOT, CONTENT_SIZE),), hashes)
    catalog.commit(session_id, image_id, content, [], unique_name=False, is_staged=False)
    return image_id


def behind(catalog: Catalog) -> list[ImageId]:
    return catalog.read(outbox.behind)


def test_a_location_makes_an_image_active(catalog: Catalog) -> None:
    """A queued image that is given locations is active, and says where and what its data are; its record is behind."""
    image_id = register(catalog)
    row = change(
        catalog, image_id, Located((PLACE, OTHER), size=SIZE, hash_algo="sha512", hash_value="v", checksum="c")
    )
    assert (row.status, row.size, row.locations, row.content_id) == ("active", SIZE, (PLACE, OTHER), None)
    assert (row.hashes, row.hash_algo) == ({"md5": "c", "sha512": "v"}, "sha512")
    assert behind(catalog) == [image_id]
    row = change(catalog, image_id, Located((OTHER,)))
    assert (row.locations, row.size, row.hash_algo) == ((OTHER,), SIZE, "sha512")


def test_what_has_no_data_gets_none(catalog: Catalog) -> None:
    """No size, no location, no formats, another status: refused, and nothing has changed."""
    image_id = register(catalog)
    before = catalog.image(image_id)
    for located in (Located((PLACE,)), Located((), size=SIZE)):
        with pytest.raises(InputError):
            change(catalog, image_id, located)
    assert catalog.image(image_id) == before
    with pytest.raises(BadStatusError, match="both formats"):
        change(catalog, register(catalog, disk_format=None), Located((PLACE,), size=SIZE))
    active = begin(catalog, Located((PLACE,), size=SIZE))
    with pytest.raises(InputError, match="without data"):
        change(catalog, active, Located(()))
    with pytest.raises(BadStatusError):
        catalog.transaction(
            partial(locating.begin, image_id=active, located=Located((PLACE,), size=SIZE), is_checked=False)
        )
    with pytest.raises(ChangedMeanwhileError):
        catalog.transaction(
            partial(edits.edit_image, image_id=active, edit=Edit(located=Located((OTHER,))), revision=0)
        )
    catalog.transaction(partial(edits.set_active, image_id=active, is_active=False))
    with pytest.raises(BadStatusError):
        change(catalog, active, Located((OTHER,)))
    with pytest.raises(ImageNotFoundError):
        catalog.transaction(partial(locating.give_up, image_id=ImageId("x"), only_waiting=False))


def test_data_that_are_checked(catalog: Catalog) -> None:
    """An image that waits for its hash is importing; the hash makes it active, once, and only the one it waits for."""
    located = Located((PLACE,), size=SIZE, hash_algo="sha256")
    image_id = begin(catalog, located, is_checked=True)
    assert (catalog.image(image_id).status, behind(catalog)) == ("importing", [])
    assert catalog.end_dead_saves() == 0
    with pytest.raises(BadStatusError, match="waits for a md5"):
        catalog.transaction(partial(locating.finish, image_id=image_id, algo="md5", value="v", checksum="c"))
    finish = partial(locating.finish, image_id=image_id, algo="sha256", value="v", checksum="c")
    catalog.transaction(finish)
    row = catalog.image(image_id)
    assert (row.status, row.hashes) == ("active", {"sha256": "v", "md5": "c"})
    assert behind(catalog) == [image_id]
    with pytest.raises(BadStatusError):
        catalog.transaction(finish)
    with pytest.raises(BadStatusError):
        catalog.transaction(partial(locating.finish, image_id=stored(catalog), algo="sha256", value="v", checksum="c"))


def test_a_check_is_given_up(catalog: Catalog) -> None:
    """Without its hash an image that waited is queued again, its location still told; one in use goes on without."""
    waiting = begin(catalog, Located((PLACE,), size=SIZE, hash_algo="md5"), is_checked=True)
    used = begin(catalog, Located((PLACE,), size=SIZE, hash_algo="sha512"))
    assert catalog.read(locating.unhashed) == [used]
    for image_id in (waiting, used):
        catalog.transaction(partial(locating.give_up, image_id=image_id, only_waiting=True))
    row = catalog.image(waiting)
    assert (row.status, row.size, row.hash_algo, row.locations) == ("queued", None, None, (PLACE,))
    assert catalog.image(used).hash_algo == "sha512"
    catalog.transaction(partial(locating.give_up, image_id=used, only_waiting=False))
    assert (catalog.image(used).status, catalog.image(used).hash_algo) == ("active", None)
    assert catalog.read(locating.unhashed) == []


@pytest.mark.parametrize("way", ["upload", "location"])
def test_what_a_try_left_goes(catalog: Catalog, way: str) -> None:
    """Data that come for an image take the place of locations that a failed try has left."""
    image_id = begin(catalog, Located((PLACE,), size=SIZE, hash_algo="md5"), is_checked=True)
    catalog.transaction(partial(locating.give_up, image_id=image_id, only_waiting=False))
    if way == "location":
        row = change(catalog, image_id, Located((OTHER,), size=SIZE))
        assert row.locations == (OTHER,)
        return
    session_id = catalog.open_session("ingest").session_id
    claim = partial(uploads.claim_queued, session_id=session_id, image_id=image_id, content_id=new_content_id())
    catalog.transaction(partial(claim, parent_id=None, backend_id=1))
    assert catalog.image(image_id).locations == ()
    query = text("SELECT COUNT(*) FROM image_locations")
    assert catalog.read(lambda connection: connection.execute(query).scalar()) == 0


def test_a_content_is_left(catalog: Catalog) -> None:
    """An image may give its content up for a location: it is kept until its record says so, and dead then."""
    image_id = stored(catalog)
    content_id = catalog.image(image_id).content_id
    assert content_id is not None
    row = change(catalog, image_id, Located((PLACE,)))
    assert (row.content_id, row.locations) == (content_id, (PLACE,))
    row = change(catalog, image_id, Located((PLACE,), keeps_content=False))
    assert (row.content_id, row.size, row.hashes) == (None, CONTENT_SIZE, {"md5": "m", "sha512": "s"})
    assert catalog.dead_contents() == []
    assert not catalog.reap_content(content_id)
    read = catalog.transaction(partial(image_behind, image_id=image_id))
    assert read is not None
    assert (read.has_record, read.content, read.image) == (True, None, row)
    session_id = catalog.open_session("repair").session_id
    catalog.transaction(partial(written, session_id=session_id, behind=read))
    assert catalog.dead_contents() == [content_id]
    assert catalog.reap_content(content_id)
    assert (catalog.image(image_id).size, behind(catalog)) == (CONTENT_SIZE, [])


def test_a_first_record_of_something_older(catalog: Catalog) -> None:
    """The first record of an image whose data are elsewhere is its record only when nothing changed meanwhile."""
    image_id = begin(catalog, Located((PLACE,), size=SIZE))
    read = catalog.transaction(partial(image_behind, image_id=image_id))
    assert read is not None
    change(catalog, image_id, Located((OTHER,)))
    session_id = catalog.open_session("repair").session_id
    with pytest.raises(OutdatedRecordError):
        catalog.transaction(partial(written, session_id=session_id, behind=read))


def test_what_lists_and_quotas_see(catalog: Catalog) -> None:
    """Sizes and hashes of data elsewhere are filtered and sorted by like others; quotas count each location."""
    located = begin(catalog, Located((PLACE, OTHER), size=SIZE, hash_algo="sha256", hash_value="v", checksum="c"))
    own = stored(catalog)
    change(catalog, own, Located((PLACE,)))
    waiting = begin(catalog, Located((PLACE,), size=SIZE, hash_algo="md5"), is_checked=True)
    usage = catalog.read(partial(edits.usage_of, owner="p1"))
    assert (usage.image_count, usage.size) == (3, 2 * SIZE + 2 * CONTENT_SIZE)

    def found(*filters: Filter, sort: tuple[tuple[str, bool], ...] = ()) -> list[ImageId]:
        query = Query(filters=filters, sort=sort)
        return [row.id for row in catalog.read(partial(list_page, query=query, viewer=ADMIN))]

    assert found(Filter("size", "eq", SIZE), Filter("status", "eq", "active")) == [located]
    for field, value in (("checksum", "c"), ("os_hash_value", "v"), ("os_hash_algo", "sha256")):
        assert found(Filter(field, "eq", value)) == [located]
    assert found(Filter("os_hash_algo", "eq", "sha512")) == [own]
    in_order = found(sort=(("size", True), ("id", True)))
    assert in_order == [*sorted((located, waiting)), own] if SIZE < CONTENT_SIZE else [own, *sorted((located, waiting))]


def test_damaged_metadata(catalog: Catalog) -> None:
    """Metadata that are no JSON object are damage that is told, not a wrong answer."""
    image_id = begin(catalog, Located((PLACE,), size=SIZE))
    catalog.transaction(lambda connection: connection.execute(text("UPDATE image_locations SET metadata = '['")))
    with pytest.raises(CatalogDamagedError, match="metadata"):
        catalog.image(image_id)
