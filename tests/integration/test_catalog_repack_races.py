"""A repack's switch against everything it may meet, in threads: whatever the order, no content is left short.

Run with `CASIMG_TEST_CATALOG_SERVER` (`make test-sql`) they meet real row locks instead of SQLite's one writer.
"""

from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest

from casimg.catalog import Catalog, ImageRow, SweepVerdict, repack
from casimg.catalog.repack import Move
from casimg.errors import PackGoneError, SessionFencedError
from casimg.ids import ContentId
from tests.catalog_making import Save, new_catalog, new_pack, remove_image, save_image, states
from tests.integration.test_catalog_processes import ROUND_COUNT, lagging, make_stale, race


@pytest.fixture
def catalog(tmp_path: Path) -> Iterator[Catalog]:
    with new_catalog(tmp_path) as opened:
        yield opened


def content_of(image: ImageRow) -> ContentId:
    assert image.content_id is not None
    return image.content_id


class Repack:
    """A repack of one pack for the contents that named it when it began."""

    def __init__(self, catalog: Catalog, old: int, relied: frozenset[int] = frozenset()) -> None:
        self.catalog = catalog
        self.old = old
        self.session_id = catalog.open_session("repack").session_id
        catalog.live_packs(self.session_id)
        self.uses = catalog.read(partial(repack.uses_of, pack_nos=[old]))
        self.new = catalog.insert_pack(self.session_id, new_pack())
        self.relied = relied

    def switch(self) -> int:
        moves = [Move(use.content_id, self.old, (self.new,), self.relied) for use in self.uses]
        return self.catalog.transaction(partial(repack.switch, session_id=self.session_id, moves=moves))


def collect(catalog: Catalog, pack_nos: list[int]) -> list[SweepVerdict]:
    catalog.condemn(pack_nos)
    return [catalog.sweep(pack_no) for pack_no in pack_nos]


def named(catalog: Catalog, content_id: ContentId) -> list[int]:
    return [row.pack_no for row in catalog.content_packs(content_id)]


def test_switch_against_a_commit_that_uses_the_old_pack(catalog: Catalog) -> None:
    """A writer that saw the old pack live commits, and names it, whatever switch and collection do meanwhile."""
    for number in range(ROUND_COUNT):
        image, (old,) = save_image(catalog)
        save = Save(catalog)
        assert old in {row.pack_no for row in catalog.live_packs(save.session_id)}
        rewrite = Repack(catalog, old)

        def switch_and_collect(rewrite: Repack = rewrite) -> None:
            rewrite.switch()
            collect(catalog, [rewrite.old])

        commit, switched = race(lagging(catalog, number, partial(save.commit, [old])), switch_and_collect)
        assert commit.error is None
        assert switched.error is None
        assert named(catalog, save.content_id) == [old]
        assert named(catalog, content_of(image)) == [rewrite.new]
        collect(catalog, [old, rewrite.new])
        assert states(catalog, [old, rewrite.new]) == ["live", "live"]


def test_switch_against_delete_and_reap(catalog: Catalog) -> None:
    """A content that goes while it is switched leaves no row, so nothing of it stays."""
    for number in range(ROUND_COUNT):
        image, (old,) = save_image(catalog)
        rewrite = Repack(catalog, old)
        switched, removal = race(rewrite.switch, lagging(catalog, number, partial(remove_image, catalog, image)))
        assert switched.error is None
        assert removal.error is None
        assert named(catalog, content_of(image)) == []
        assert {row.pack_no for row in catalog.unreferenced()} >= {old, rewrite.new}
        collect(catalog, [old, rewrite.new])


def test_two_switches_that_rely_on_each_other(catalog: Catalog) -> None:
    """Of two repacks that each drop a chunk because the other's pack has it, exactly one moves."""
    for number in range(ROUND_COUNT):
        image, (a, b) = save_image(catalog, pack_count=2)
        first, second = Repack(catalog, a, frozenset((b,))), Repack(catalog, b, frozenset((a,)))
        one, two = race(first.switch, lagging(catalog, number, second.switch))
        assert one.error is None
        assert two.error is None
        assert sorted((one.result, two.result)) == [0, 1]  # type: ignore[type-var]
        kept = named(catalog, content_of(image))
        assert kept in ([b, first.new], [a, second.new])


def test_two_switches_of_one_pack(catalog: Catalog) -> None:
    """Two repacks of one pack: the content names exactly one of the new packs."""
    for number in range(ROUND_COUNT):
        image, (old,) = save_image(catalog)
        rewrites = [Repack(catalog, old), Repack(catalog, old)]
        racers = race(rewrites[0].switch, lagging(catalog, number, rewrites[1].switch))
        assert [racer.error for racer in racers] == [None, None]
        assert len(named(catalog, content_of(image))) == 1
        assert set(named(catalog, content_of(image))) <= {rewrite.new for rewrite in rewrites}


def test_switch_against_fence_and_collection_of_its_pack(catalog: Catalog) -> None:
    """Either the switch happened and its pack stays, or the session was fenced and nothing names the pack."""
    for number in range(ROUND_COUNT):
        image, (old,) = save_image(catalog)
        rewrite = Repack(catalog, old)
        make_stale(catalog, rewrite.session_id)

        def fence_and_collect(rewrite: Repack = rewrite) -> None:
            catalog.fence_stale()
            collect(catalog, [rewrite.new])

        switched, fenced = race(rewrite.switch, lagging(catalog, number, fence_and_collect))
        assert fenced.error is None
        if switched.error is None:
            assert named(catalog, content_of(image)) == [rewrite.new]
            assert states(catalog, [rewrite.new]) == ["live"]
        else:
            assert isinstance(switched.error, (SessionFencedError, PackGoneError))
            assert named(catalog, content_of(image)) == [old]
            assert collect(catalog, [old]) == [SweepVerdict.NOT_CONDEMNED]


def test_switch_against_a_snapshot_that_notes_its_parent(catalog: Catalog) -> None:
    """A snapshot that takes its parent's packs over while they are switched commits with packs that stay."""
    for number in range(ROUND_COUNT):
        parent, (old, other) = save_image(catalog, pack_count=2)
        rewrite = Repack(catalog, old)
        save = Save(catalog)

        def note_and_commit(save: Save = save, parent: ImageRow = parent) -> ImageRow:
            noted = [row.pack_no for row in catalog.note_content(save.session_id, parent.id)]
            return save.commit(noted)

        def switch_and_collect(rewrite: Repack = rewrite) -> None:
            rewrite.switch()
            collect(catalog, [rewrite.old])

        noted, switched = race(lagging(catalog, number, note_and_commit), switch_and_collect)
        assert noted.error is None
        assert switched.error is None
        packs = named(catalog, save.content_id)
        assert packs in ([old, other], [other, rewrite.new])
        collect(catalog, packs)
        assert set(states(catalog, packs)) == {"live"}
