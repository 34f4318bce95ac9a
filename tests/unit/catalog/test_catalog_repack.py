"""The switch that ends a repack (rule 10): what it moves, what it leaves, and when it refuses."""

from functools import partial

import pytest

from casimg.catalog import Catalog, ImageRow, SweepVerdict, packs, repack
from casimg.catalog.repack import Move
from casimg.errors import PackGoneError, SessionFencedError
from casimg.ids import ContentId, SessionId
from tests.catalog_making import Save, new_pack, remove_image, save_image, states


def session_with_pack(catalog: Catalog) -> tuple[SessionId, int]:
    """Return a repack session and a pack that it wrote."""
    session_id = catalog.open_session("repack").session_id
    return session_id, catalog.insert_pack(session_id, new_pack())


def switch(catalog: Catalog, session_id: SessionId, *moves: Move) -> int:
    return catalog.transaction(partial(repack.switch, session_id=session_id, moves=moves))


def content_of(image: ImageRow) -> ContentId:
    assert image.content_id is not None
    return image.content_id


def named(catalog: Catalog, image: ImageRow) -> list[int]:
    return [row.pack_no for row in catalog.content_packs(content_of(image))]


def test_a_switch_moves_rows_and_closes_its_session(catalog: Catalog) -> None:
    """The content names the new pack instead of the old one; the old one stays live until rule 8 sees it."""
    image, (old, other) = save_image(catalog, pack_count=2)
    session_id, new = session_with_pack(catalog)
    assert switch(catalog, session_id, Move(content_of(image), old, (new,))) == 1
    assert named(catalog, image) == [other, new]
    assert catalog.session(session_id).state == "closed"
    assert states(catalog, [old]) == ["live"]
    assert [row.pack_no for row in catalog.unreferenced()] == [old]
    with pytest.raises(SessionFencedError):
        switch(catalog, session_id, Move(content_of(image), other, (new,)))
    assert named(catalog, image) == [other, new]


def test_contents_that_came_meanwhile_keep_their_rows(catalog: Catalog) -> None:
    """A content committed after the repack looked names the old pack still, which is therefore not condemned."""
    image, (old,) = save_image(catalog)
    session_id, new = session_with_pack(catalog)
    late = Save(catalog)
    late_image = late.commit([old])
    switch(catalog, session_id, Move(content_of(image), old, (new,)))
    assert named(catalog, image) == [new]
    assert named(catalog, late_image) == [old]
    assert catalog.condemn([old])[1] == []


def test_contents_that_went_are_left_alone(catalog: Catalog) -> None:
    """A content reaped meanwhile gets no row, so its new pack is garbage like any."""
    image, (old,) = save_image(catalog)
    content_id = content_of(image)
    session_id, new = session_with_pack(catalog)
    remove_image(catalog, image)
    assert switch(catalog, session_id, Move(content_id, old, (new,))) == 0
    assert catalog.content_packs(content_id) == []
    assert [row.pack_no for row in catalog.unreferenced()] == [old, new]


def test_a_row_that_is_gone_is_not_switched(catalog: Catalog) -> None:
    """Of two repacks of one pack the second moves nothing: its copy does not come in beside the first one's."""
    image, (old,) = save_image(catalog)
    first, new = session_with_pack(catalog)
    second, too_late = session_with_pack(catalog)
    move = partial(Move, content_of(image), old)
    assert switch(catalog, first, move((new,))) == 1
    assert switch(catalog, second, move((too_late,))) == 0
    assert named(catalog, image) == [new]


def test_what_is_relied_on_must_still_be_named(catalog: Catalog) -> None:
    """Two repacks that each rely on the other's pack for a chunk never both drop it."""
    image, (a, b) = save_image(catalog, pack_count=2)
    first, a_anew = session_with_pack(catalog)
    second, b_anew = session_with_pack(catalog)
    assert switch(catalog, first, Move(content_of(image), a, (a_anew,), frozenset((b,)))) == 1
    assert switch(catalog, second, Move(content_of(image), b, (b_anew,), frozenset((a,)))) == 0
    assert named(catalog, image) == [b, a_anew]


@pytest.mark.parametrize("is_new", [False, True])
def test_no_move_relies_on_a_damaged_pack(catalog: Catalog, is_new: bool) -> None:
    """What a check marked as damaged since the repack looked replaces nothing, be it relied on or new."""
    image, (a, b) = save_image(catalog, pack_count=2)
    session_id, a_anew = session_with_pack(catalog)
    damaged = a_anew if is_new else b
    catalog.transaction(partial(packs.mark_damaged, pack_no=damaged))
    assert switch(catalog, session_id, Move(content_of(image), a, (a_anew,), frozenset((b,)))) == 0
    assert named(catalog, image) == [a, b]


def test_a_fenced_repack_switches_nothing(catalog: Catalog) -> None:
    """After a fence no row moves and the new pack is garbage."""
    image, (old,) = save_image(catalog)
    session_id, new = session_with_pack(catalog)
    catalog.fence_stale(heartbeat_age_s=-1)
    with pytest.raises(SessionFencedError):
        switch(catalog, session_id, Move(content_of(image), old, (new,)))
    assert named(catalog, image) == [old]
    assert [row.pack_no for row in catalog.unreferenced()] == [new]


def test_a_new_pack_that_is_gone_refuses_the_switch(catalog: Catalog) -> None:
    """A switch to a pack past condemned rolls back whole, session included."""
    image, (old,) = save_image(catalog)
    left = Save(catalog)
    (gone,) = left.add_packs()
    catalog.end_session(left.session_id)
    catalog.condemn([gone])
    assert catalog.sweep(gone) is SweepVerdict.DELETING
    session_id = catalog.open_session("repack").session_id
    with pytest.raises(PackGoneError):
        switch(catalog, session_id, Move(content_of(image), old, (gone,)))
    assert named(catalog, image) == [old]
    assert catalog.session(session_id).state == "open"


def test_a_condemned_new_pack_is_revived_by_the_switch(catalog: Catalog) -> None:
    """What the switch names is live again, as after a commit."""
    image, (old,) = save_image(catalog)
    session_id, new = session_with_pack(catalog)
    left = Save(catalog)
    (condemned,) = left.add_packs()
    catalog.end_session(left.session_id)
    catalog.condemn([condemned])
    switch(catalog, session_id, Move(content_of(image), old, (new, condemned)))
    assert states(catalog, [condemned]) == ["live"]


def test_live_sizes_are_forgotten_when_a_content_goes(catalog: Catalog) -> None:
    """A pack that lost a content is looked at again, and a look that began before is not recorded."""
    image, (pack_no,) = save_image(catalog)
    other = Save(catalog)
    other.commit([pack_no])
    assert catalog.read(repack.unmeasured) == []
    (before,) = catalog.read(repack.measured)
    remove_image(catalog, image)
    assert [row.pack_no for row in catalog.read(repack.unmeasured)] == [pack_no]
    catalog.transaction(partial(repack.record_live, sizes={pack_no: (before.loss_no, 4000)}))
    (row,) = catalog.read(repack.unmeasured)
    catalog.transaction(partial(repack.record_live, sizes={pack_no: (row.loss_no, 3000)}))
    assert [(row.pack_no, row.live_plain_size) for row in catalog.read(repack.measured)] == [(pack_no, 3000)]


def test_packs_added_without_a_drop(catalog: Catalog) -> None:
    """Gathering adds packs to a content, and all its packs are looked at again."""
    image, (old,) = save_image(catalog)
    session_id, new = session_with_pack(catalog)
    assert switch(catalog, session_id, Move(content_of(image), None, (new,))) == 0
    assert named(catalog, image) == [old, new]
    assert [row.pack_no for row in catalog.read(repack.unmeasured)] == [old]


def test_uses_are_newest_first_with_all_their_packs(catalog: Catalog) -> None:
    """Contents that name a pack come with every pack they name, the newest one first."""
    old, (a, b) = save_image(catalog, "old", pack_count=2)
    newer = Save(catalog)
    (c,) = newer.add_packs()
    image = newer.commit([b, c])
    found = catalog.read(partial(repack.uses_of, pack_nos=[b]))
    assert {use.content_id: use.pack_nos for use in found} == {
        content_of(image): frozenset((b, c)),
        content_of(old): frozenset((a, b)),
    }
    assert found == sorted(found, key=lambda use: (-use.created_at, use.content_id))
    assert catalog.read(partial(repack.uses_of, pack_nos=[])) == []
