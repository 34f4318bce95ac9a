"""Collection: rule 8 (condemn), rule 9 (sweep), rule 11 (reap)."""

import pytest
from sqlalchemy import insert, update

from casimg.catalog import Catalog, SweepVerdict
from casimg.catalog.schema import content_packs, packs
from casimg.catalog.transaction import IN_COUNT_MAX
from casimg.errors import PackGoneError
from casimg.ids import new_content_id
from tests.catalog_making import Save, new_image, remove_image, save_image, states


def left_packs(catalog: Catalog, count: int = 1) -> list[int]:
    """Return packs of a session that ended without a commit."""
    save = Save(catalog)
    pack_nos = save.add_packs(count)
    catalog.end_session(save.session_id)
    return pack_nos


# Condemn


def test_candidates_are_live_unnamed_and_unowned(catalog: Catalog) -> None:
    """A pack is a candidate when it is live, no content names it and its owner is not open."""
    save_image(catalog)
    Save(catalog).add_packs()
    left = left_packs(catalog, 2)
    assert [row.pack_no for row in catalog.unreferenced()] == left
    catalog.condemn(left[:1])
    assert [row.pack_no for row in catalog.unreferenced()] == left[1:]


def test_condemn_decides_again(catalog: Catalog) -> None:
    """Whatever it is given, condemn takes only what is still a candidate; each run has an epoch of its own."""
    _, named = save_image(catalog)
    owned = Save(catalog).add_packs()
    left = left_packs(catalog, 2)
    epoch, condemned = catalog.condemn([*named, *owned, *left, *left, 4711])
    assert condemned == left
    assert epoch == catalog.repo().epoch == 2
    assert states(catalog, [*named, *owned, *left]) == ["live", "live", "condemned", "condemned"]
    assert catalog.condemn([*named, *owned, *left]) == (3, [])
    assert catalog.condemn([]) == (4, [])


def test_condemn_in_several_batches(catalog: Catalog) -> None:
    """More packs than one statement takes are all condemned under one epoch."""
    left = left_packs(catalog, IN_COUNT_MAX + 20)
    epoch, condemned = catalog.condemn(left[::-1])
    assert condemned == left
    assert epoch == 2
    assert set(states(catalog, left)) == {"condemned"}


def test_condemned_again_gets_the_new_epoch(catalog: Catalog) -> None:
    """A pack revived and condemned again makes the sessions of its second life wait, not only the first's."""
    (pack_no,) = left_packs(catalog)
    catalog.condemn([pack_no])
    image = Save(catalog).commit([pack_no])
    between = catalog.open_session("ingest").session_id
    remove_image(catalog, image)
    assert catalog.condemn([pack_no]) == (3, [pack_no])
    assert catalog.sweep(pack_no) is SweepVerdict.WAITS
    catalog.end_session(between)
    assert catalog.sweep(pack_no) is SweepVerdict.DELETING


# Sweep


def test_sweep_and_deletion(catalog: Catalog) -> None:
    """A condemned pack that nobody waits for goes to deleting, then to a tombstone, and never comes back."""
    (pack_no,) = left_packs(catalog)
    assert catalog.sweep(pack_no) is SweepVerdict.NOT_CONDEMNED
    catalog.mark_deleted(pack_no)
    assert states(catalog, [pack_no]) == ["live"]
    catalog.condemn([pack_no])
    catalog.mark_deleted(pack_no)
    assert states(catalog, [pack_no]) == ["condemned"]
    change_no = catalog.repo().change_no
    assert catalog.sweep(pack_no) is SweepVerdict.DELETING
    assert catalog.repo().change_no == change_no + 1
    assert [row.pack_no for row in catalog.all_packs(["deleting"])] == [pack_no]
    assert catalog.sweep(pack_no) is SweepVerdict.NOT_CONDEMNED
    with pytest.raises(PackGoneError):
        Save(catalog).commit([pack_no])
    catalog.mark_deleted(pack_no)
    catalog.mark_deleted(pack_no)
    assert states(catalog, [pack_no]) == ["deleted"]
    assert catalog.condemn([pack_no])[1] == []
    assert catalog.sweep(4711) is SweepVerdict.NOT_CONDEMNED


def test_sweep_waits_for_older_sessions_only(catalog: Catalog) -> None:
    """An open session from before the condemnation is waited for; one from after it saw the pack not live."""
    (pack_no,) = left_packs(catalog)
    older = catalog.open_session("ingest").session_id
    catalog.condemn([pack_no])
    newer = catalog.open_session("ingest").session_id
    assert catalog.sweep(pack_no) is SweepVerdict.WAITS
    assert states(catalog, [pack_no]) == ["condemned"]
    assert catalog.live_packs(newer) == []
    catalog.end_session(older)
    assert catalog.sweep(pack_no) is SweepVerdict.DELETING


def test_sweep_waits_for_the_undo_window(catalog: Catalog) -> None:
    """With a minimum age a pack stays condemned, and can be revived, until it has it."""
    (pack_no,) = left_packs(catalog)
    catalog.condemn([pack_no])
    assert catalog.sweep(pack_no, age_min_s=3600) is SweepVerdict.WAITS
    catalog.transaction(
        lambda connection: connection.execute(update(packs).values(condemned_at=packs.c.condemned_at - 3601 * 10**6))
    )
    assert catalog.sweep(pack_no, age_min_s=3600) is SweepVerdict.DELETING


def test_sweep_looks_at_the_rows_again(catalog: Catalog) -> None:
    """A condemned pack that a content names, by whatever slip, is revived instead of lost."""
    image, (named,) = save_image(catalog)
    (pack_no,) = left_packs(catalog)
    catalog.condemn([pack_no])
    # No rule allows this row while the pack is condemned: the second layer is what is tested.
    catalog.transaction(
        lambda connection: connection.execute(
            insert(content_packs).values(content_id=image.content_id, pack_no=pack_no)
        )
    )
    assert catalog.sweep(pack_no) is SweepVerdict.REVIVED
    assert states(catalog, [named, pack_no]) == ["live", "live"]


# Reap


def test_deleted_image_gives_back_its_packs(catalog: Catalog) -> None:
    """From delete to tombstone: the steps of a collection leave the image's tombstone and nothing else."""
    image, pack_nos = save_image(catalog, pack_count=2)
    kept, kept_packs = save_image(catalog)
    assert image.content_id is not None
    assert catalog.dead_contents() == []
    assert catalog.deleted_with_content() == []
    catalog.delete_image(image.id)
    assert catalog.deleted_with_content() == [image.id]
    assert catalog.dead_contents() == [image.content_id]
    assert {row.pack_no for row in catalog.packs_only_of([image.content_id])} == set(pack_nos)
    assert not catalog.reap_content(image.content_id)
    catalog.forget_content(image.id)
    assert catalog.reap_content(image.content_id)
    assert not catalog.reap_content(image.content_id)
    assert catalog.deleted_with_content() == []
    assert catalog.dead_contents() == []
    assert [row.pack_no for row in catalog.unreferenced()] == pack_nos
    assert catalog.condemn(pack_nos)[1] == pack_nos
    for pack_no in pack_nos:
        assert catalog.sweep(pack_no) is SweepVerdict.DELETING
        catalog.mark_deleted(pack_no)
    row = catalog.image(image.id)
    assert (row.status, row.content_id, row.size) == ("deleted", None, None)
    assert catalog.images() == [kept]
    assert states(catalog, kept_packs) == ["live"]
    assert catalog.totals().content_counts == {"complete": 1}


def test_content_in_use_is_never_reaped(catalog: Catalog) -> None:
    """A content stays while any image points to it, and while its session may still commit."""
    image, _ = save_image(catalog)
    assert image.content_id is not None
    assert not catalog.reap_content(image.content_id)
    session = catalog.open_session("snapshot").session_id
    child = catalog.snapshot_row(session, image.id, new_image(), unique_name=False)
    catalog.delete_image(image.id)
    assert catalog.dead_contents() == []
    catalog.forget_content(image.id)
    assert not catalog.reap_content(image.content_id)
    pending = Save(catalog)
    assert not catalog.reap_content(pending.content_id)
    catalog.delete_image(pending.image.id)
    catalog.forget_content(pending.image.id)
    assert not catalog.reap_content(pending.content_id)
    assert catalog.content(pending.content_id).state == "pending"
    assert not catalog.reap_content(new_content_id())
    assert catalog.find(child.id).size is not None


def test_forgetting_is_for_deleted_images(catalog: Catalog) -> None:
    """An image that is not deleted keeps its content whatever is asked."""
    image, _ = save_image(catalog)
    catalog.forget_content(image.id)
    assert catalog.find(image.id).content_id == image.content_id


def test_what_a_dead_session_was_saving_is_reaped(catalog: Catalog) -> None:
    """An image whose session ended becomes deleted, its pending content is reaped; one being saved is left alone."""
    dead, alive = Save(catalog), Save(catalog)
    dead_packs = dead.add_packs()
    assert catalog.end_dead_saves() == 0
    catalog.end_session(dead.session_id)
    assert catalog.dead_contents() == [dead.content_id]
    assert catalog.end_dead_saves() == 1
    assert catalog.end_dead_saves() == 0
    assert catalog.image(dead.image.id).status == "deleted"
    assert catalog.deleted_with_content() == [dead.image.id]
    catalog.forget_content(dead.image.id)
    assert catalog.reap_content(dead.content_id)
    assert [row.pack_no for row in catalog.unreferenced()] == dead_packs
    assert alive.commit(alive.add_packs()).status == "active"


def test_shared_packs_stay_for_the_other_content(catalog: Catalog) -> None:
    """A pack named by two contents is the dead one's only when the other is dead too."""
    first, shared = save_image(catalog)
    second = Save(catalog).commit(shared)
    assert first.content_id is not None
    assert second.content_id is not None
    catalog.delete_image(first.id)
    assert catalog.packs_only_of([first.content_id]) == []
    both = catalog.packs_only_of([first.content_id, second.content_id])
    assert [row.pack_no for row in both] == shared
    catalog.forget_content(first.id)
    assert catalog.reap_content(first.content_id)
    assert catalog.unreferenced() == []
    assert catalog.condemn(shared)[1] == []
