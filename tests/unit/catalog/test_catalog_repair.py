"""Repair's switch (rule P), damaged packs, and what a check asks of the catalog."""

from functools import partial

import pytest
from sqlalchemy import delete, insert, update

from casimg.catalog import Catalog, examine, repair
from casimg.catalog import packs as pack_rows
from casimg.catalog.repair import Healing
from casimg.catalog.schema import content_packs, packs
from casimg.errors import PackGoneError, SessionFencedError
from casimg.ids import ContentId, SessionId
from tests.catalog_making import Save, new_pack, remove_image, save_image, states


def content_of(catalog: Catalog, name: str, count: int = 1) -> tuple[ContentId, list[int]]:
    """Commit an image; returns its content and packs."""
    image, pack_nos = save_image(catalog, name, count)
    assert image.content_id is not None
    return image.content_id, pack_nos


def session_with_pack(catalog: Catalog) -> tuple[SessionId, int]:
    """A repair session that has put one pack."""
    session_id = catalog.open_session("repair").session_id
    return session_id, catalog.insert_pack(session_id, new_pack())


def switch(catalog: Catalog, session_id: SessionId, *healings: Healing) -> list[ContentId]:
    """Run the switch in one transaction."""
    return catalog.transaction(partial(repair.switch, session_id=session_id, healings=healings))


def named(catalog: Catalog, content_id: ContentId) -> list[int]:
    """Numbers of the packs that a content names."""
    return [row.pack_no for row in catalog.content_packs(content_id)]


def healing(content_id: ContentId, damaged: int, replacing: int, *, whole: bool = True) -> Healing:
    """A content that needs one pack in the place of another."""
    return Healing(content_id, frozenset({damaged}), frozenset({replacing}), whole)


def test_a_whole_content_gives_up_the_damaged_pack(catalog: Catalog) -> None:
    """Rows of new packs come, the row of the damaged one goes, the session is closed, the pack's use is unknown."""
    content_id, (bad, good) = content_of(catalog, "a", 2)
    session_id, new = session_with_pack(catalog)
    assert switch(catalog, session_id, healing(content_id, bad, new)) == [content_id]
    assert named(catalog, content_id) == [good, new]
    assert catalog.session(session_id).state == "closed"
    (row,) = catalog.packs([bad])
    assert (row.live_plain_size, row.loss_no, row.state) == (None, 1, "live")
    assert catalog.condemn([bad, new])[1] == [bad], "only collection takes it"


def test_a_content_with_losses_keeps_the_damaged_pack(catalog: Catalog) -> None:
    """What was found is named too; the damaged pack stays named, so that nothing can remove it."""
    content_id, (bad,) = content_of(catalog, "a")
    session_id, new = session_with_pack(catalog)
    assert switch(catalog, session_id, healing(content_id, bad, new, whole=False)) == [content_id]
    assert named(catalog, content_id) == [bad, new]
    assert catalog.condemn([bad])[1] == []
    again, _ = session_with_pack(catalog)
    assert switch(catalog, again, healing(content_id, bad, new, whole=False)) == [], "nothing new is no change"


def test_a_row_that_was_moved_is_left(catalog: Catalog) -> None:
    """When a repack has moved the row of the damaged pack, the content is not touched."""
    content_id, (bad,) = content_of(catalog, "a")
    session_id, new = session_with_pack(catalog)
    moved = Save(catalog).add_packs()[0]
    catalog.transaction(lambda connection: connection.execute(delete(content_packs)))
    row = insert(content_packs).values(content_id=content_id, pack_no=moved)
    catalog.transaction(lambda connection: connection.execute(row))
    assert switch(catalog, session_id, healing(content_id, bad, new)) == []
    assert named(catalog, content_id) == [moved]


def test_a_content_that_went_is_left(catalog: Catalog) -> None:
    """A content reaped meanwhile gets no rows: they would keep packs for ever."""
    image, (bad,) = save_image(catalog, "a")
    other, (also_bad,) = content_of(catalog, "b")
    assert image.content_id is not None
    session_id, new = session_with_pack(catalog)
    remove_image(catalog, image)
    done = switch(catalog, session_id, healing(image.content_id, bad, new), healing(other, also_bad, new))
    assert done == [other]
    assert named(catalog, image.content_id) == []


def test_a_fenced_repair_changes_nothing(catalog: Catalog) -> None:
    """Without an open session, or with a pack that went, the whole switch is refused."""
    content_id, (bad,) = content_of(catalog, "a")
    session_id, new = session_with_pack(catalog)
    catalog.end_session(session_id)
    with pytest.raises(SessionFencedError):
        switch(catalog, session_id, healing(content_id, bad, new))
    assert named(catalog, content_id) == [bad]
    catalog.condemn([new])
    catalog.sweep(new)
    again = catalog.open_session("repair").session_id
    with pytest.raises(PackGoneError):
        switch(catalog, again, healing(content_id, bad, new))
    assert named(catalog, content_id) == [bad]
    assert catalog.session(again).state == "open", "the whole transaction is rolled back"


def test_a_condemned_replacement_is_taken_back(catalog: Catalog) -> None:
    """A copy in a pack that a collection has just condemned is held and revived by the switch."""
    content_id, (bad,) = content_of(catalog, "a")
    other, (copy,) = save_image(catalog, "b")
    session_id = catalog.open_session("repair").session_id
    remove_image(catalog, other)
    assert catalog.condemn([copy])[1] == [copy]
    assert switch(catalog, session_id, healing(content_id, bad, copy)) == [content_id]
    assert states(catalog, [copy]) == ["live"]


def test_damaged_packs_are_on_no_live_list(catalog: Catalog) -> None:
    """A marked pack leaves the live list, says so where it is noted, and comes back when verified."""
    _, (bad, good) = content_of(catalog, "a", 2)
    catalog.transaction(partial(pack_rows.mark_damaged, pack_no=bad))
    session_id = catalog.open_session("ingest").session_id
    assert [row.pack_no for row in catalog.live_packs(session_id)] == [good]
    image = catalog.images()[0]
    assert [row.damaged for row in catalog.note_content(session_id, image.id)] == [True, False]
    catalog.mark_verified(bad)
    assert [row.pack_no for row in catalog.live_packs(session_id)] == [bad, good]


def test_the_order_of_verification(catalog: Catalog) -> None:
    """Never read comes first, then the least recently looked at; damaged packs are looked at but not verified."""
    _, pack_nos = content_of(catalog, "a", 4)
    for pack_no, verified_at, damaged_at in ((0, 500, None), (1, None, 300), (3, 100, 700)):
        values = {"verified_at": verified_at, "damaged_at": damaged_at}
        statement = update(packs).where(packs.c.pack_no == pack_nos[pack_no]).values(values)
        catalog.transaction(lambda connection, statement=statement: connection.execute(statement))  # type: ignore[misc]
    found = catalog.read(examine.verifications)
    assert [item.row.pack_no for item in found] == [pack_nos[number] for number in (2, 1, 0, 3)]
    assert [item.verified_at is not None for item in found] == [False, False, True, False]


def test_namers_are_complete_contents(catalog: Catalog) -> None:
    """Which contents name damaged packs, and packs that are going although they are named."""
    first, (a, b) = content_of(catalog, "a", 2)
    second, (c,) = content_of(catalog, "b")
    assert catalog.read(partial(repair.namers, pack_nos=[a, b, 4711])) == {first: {a, b}}
    assert catalog.read(partial(repair.named_packs, pack_nos=[a, c, 4711])) == [a, c]
    assert catalog.read(examine.gone_packs) == {}
    catalog.transaction(lambda connection: connection.execute(update(packs).values(state="deleting")))
    assert catalog.read(examine.gone_packs) == {
        a: ("deleting", [first]),
        b: ("deleting", [first]),
        c: ("deleting", [second]),
    }
    assert catalog.read(examine.integrity) == []
