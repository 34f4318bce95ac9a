"""Rules of docs/protocol.md, each taken out: who must notice, in which schedules.

Where two layers guard the same loss, one of them taken out is not noticed: `covered` then says by what, and the pair
is. Rules about single statements (a plain SELECT instead of a counted UPDATE, a condemnation in one statement, rows
not locked) cannot be seen here, where transactions are serial: tests on real servers race them.
"""

from dataclasses import dataclass

from tests.simulation import scenarios
from tests.simulation.mutation import Edit
from tests.simulation.scenarios import Scenario


@dataclass(frozen=True, slots=True)
class Mutant:
    """One rule, or two, out.

    Args:
        scenario: schedules aimed at it.
        kinds: invariants of which one must fail.
        seeds: it must be caught within so many schedules.
        covered: what guards the same loss, so that this mutant alone is not caught; empty when it is.
        first_seed: where to begin, for one that is caught in one of a thousand schedules.
    """

    name: str
    edits: tuple[Edit, ...]
    scenario: Scenario
    kinds: frozenset[str] = frozenset()
    seeds: int = 60
    covered: str = ""
    first_seed: int = 0


_SWEEP = "casimg.catalog.collect:sweep"
_CONDEMN = "casimg.catalog.collect:condemn"
_COMMIT = "casimg.catalog.images:commit"
_END_DEAD = "casimg.catalog.uploads:end_dead_saves"
_SWITCH = "casimg.catalog.repack:switch"
_COLLECT = "casimg.gc.plan:_Collection._sweep"
_SAVE = "casimg.saving:Save.run"
_READ = "casimg.assemble:ContentReader._try_everything"

_NO_PACK_CHECK = Edit("casimg.catalog.packs:hold_packs", "    if missing:\n", "    if False:\n")
_NO_WAIT = Edit(_SWEEP, "if oldest is not None and oldest < row.condemned_epoch:", "if False:")
_NO_SECOND_LOOK = Edit(_SWEEP, "if named is not None:", "if False:")
_NAMED_CONDEMNED = Edit(_CONDEMN, "candidates -= set(_named(connection, candidates))", "pass")
_NO_SESSION_CHECK_AT_SWITCH = Edit(
    _SWITCH, "if not close_session(connection, session_id):", "if not close_session(connection, session_id) and False:"
)
_LIVE_LIST = "packs.live_packs(connection, session_id, self._backend_id)"
_ALL_PACKS = Edit(
    "casimg.catalog.catalog:Catalog.live_packs",
    _LIVE_LIST,
    'packs.packs_in(connection, ("live", "condemned", "deleting", "deleted"))',
)
_EARLY_LIST = (
    Edit(
        "casimg.saving:_save",
        "dirty = _dirty_blocks(wiring, source, parent, changed)",
        'wiring.catalog.early = wiring.catalog.all_packs(("live",))\n'
        "        dirty = _dirty_blocks(wiring, source, parent, changed)",
    ),
    Edit("casimg.saving:Save.__init__", "catalog.live_packs(session.session_id)", "catalog.early"),
)
_BUMP = "connection.execute(update(repo).values(epoch=repo.c.epoch + 1))"
_EARLY_EPOCH = (
    Edit(_CONDEMN, _BUMP, "pass"),
    Edit(
        "casimg.catalog.catalog:Catalog.condemn",
        "return self.transaction",
        "self.transaction(lambda connection: connection.execute("
        "collect.update(collect.repo).values(epoch=collect.repo.c.epoch + 1)) and None)\n    return self.transaction",
    ),
)
_REVIVED = '.values(state="live", condemned_epoch=None, condemned_at=None)'
_KEPT = '.values(state="live", condemned_at=None)'
_OLD_EPOCH = (
    Edit("casimg.catalog.packs:revive", _REVIVED, _KEPT),
    Edit(_SWEEP, _REVIVED, _KEPT),
    Edit(
        _CONDEMN,
        'state="condemned", condemned_epoch=epoch',
        'state="condemned", condemned_epoch=__import__("sqlalchemy").func.coalesce(packs.c.condemned_epoch, epoch)',
    ),
)
_ROWS_AT_COMMIT = (
    Edit(_SAVE, "noted = [] if parent is None else catalog.note_content(session_id, parent.id)", "noted = []"),
    Edit(
        _SAVE,
        "pack_nos = pack_nos.union(row.pack_no for row in noted)",
        "pack_nos = pack_nos.union(row.pack_no for row in catalog.content_packs(parent.content_id))",
    ),
)
_NOT_UNIQUE = (
    Edit("casimg.catalog.packs:insert_pack", "if before is not None:", "if False:"),
    Edit(
        "casimg.catalog.packs:insert_pack",
        "backend_id=new.backend_id,\n",
        "backend_id=1 + (before is not None),\n",
    ),
)
_PUT_RECORD = "put_record(self._wiring, session_id, new, content, packs)\n"
_RECORD_LATE = (
    Edit(_SAVE, _PUT_RECORD, "pass\n"),
    Edit(_SAVE, "self.publish()", "put_record(self._wiring, session_id, new, content, packs)\n    self.publish()"),
)
_ONE_PLACE = Edit(
    "casimg.index.lmdb_index:Index.add_packs",
    "cursor.putmulti(ITEM.iter_unpack(items[start:end]))",
    "[(txn.delete(key, db=self._places), txn.put(key, value, db=self._places))"
    " for key, value in ITEM.iter_unpack(items)]",
)
_BY_NUMBER = Edit(
    "casimg.index.follow:follow",
    "todo = [pack for no, pack in wanted.items() if applied.get(no) != pack.pack_id]",
    "todo = [pack for no, pack in wanted.items() if no > max(applied, default=0)]",
)
_NO_ENTRY_LISTS = Edit(_READ, "for pack_no in sorted(search.packs, reverse=True):", "for pack_no in ():")
_ALL_ROWS = Edit(
    _SWITCH,
    "touched: set[int] = set()\n",
    "for move in moves:\n"
    "        users = select(content_packs.c.content_id).where(content_packs.c.pack_no == move.old)\n"
    "        for other in list(connection.execute(users).scalars()):\n"
    "            if other not in by_content and move.new:\n"
    "                connection.execute(delete(content_packs).where(\n"
    "                    content_packs.c.content_id == other, content_packs.c.pack_no == move.old))\n"
    "                have = set(connection.execute(select(content_packs.c.pack_no).where(\n"
    "                    content_packs.c.content_id == other)).scalars())\n"
    "                for number in set(move.new) - have:\n"
    "                    connection.execute(insert(content_packs).values(content_id=other, pack_no=number))\n"
    "    touched: set[int] = set()\n",
)
_TWO_TRANSACTIONS = Edit(
    "casimg.gc.repack:_Rewrite.run",
    "    self._wiring.catalog.transaction(partial(repack.switch",
    "    self._wiring.catalog.transaction(lambda connection: [connection.execute(\n"
    "        repack.delete(repack.content_packs).where(\n"
    "            repack.content_packs.c.content_id == move.content_id,\n"
    "            repack.content_packs.c.pack_no == move.old)) for move in moves] and None)\n"
    "    self._wiring.catalog.transaction(partial(repack.switch",
)
_SWITCH_CONDEMNS = Edit(
    _SWITCH,
    "touched: set[int] = set()\n",
    "from casimg.catalog.schema import repo\n"
    "    connection.execute(update(repo).values(epoch=repo.c.epoch + 1))\n"
    "    epoch = select(repo.c.epoch).scalar_subquery()\n"
    "    connection.execute(update(packs).where(packs.c.pack_no.in_([move.old for move in moves])).values(\n"
    '        state="condemned", condemned_epoch=epoch, condemned_at=0))\n'
    "    touched: set[int] = set()\n",
)
_WRITTEN = "casimg.catalog.changes:written"
_PUT_ANEW = "casimg.records:_put_anew"
_NO_REVISION = Edit(_WRITTEN, "images.c.revision == image.revision,", "")
_NO_SESSION_OF_IMAGE = Edit(_WRITTEN, "images.c.session_id == image.session_id,", "")
_GIVEN_UP = Edit("casimg.catalog.repair:switch", "gone = still if healing.whole else set()", "gone = still")
_RECORD_OVERWRITTEN = (
    Edit(
        _PUT_ANEW,
        "put_record(place.wiring, session_id, image, place.content, place.packs, behind.members)",
        "put_record(place.wiring, place.session_id, image, place.content, place.packs, behind.members)",
    ),
    Edit(
        _WRITTEN,
        '{"session_id": session_id if image.backend_id in put else image.session_id}',
        '{"revision": images.c.revision}',
    ),
    Edit(_PUT_ANEW, "_remove_old(place.wiring, image.id, place.session_id)", "pass"),
)


_ANY_PARENT = Edit(
    "casimg.catalog.images:snapshot_row",
    "if done.rowcount != 1:\n        raise ImageNotFoundError(parent_id)",
    "if False:\n        pass",
)
_ANY_CONTENT = Edit("casimg.catalog.images:snapshot_row", "if recorded not in (None, content_id):", "if False:")


def _mutant(name: str, kinds: str, scenario: Scenario, *edits: Edit, seeds: int = 60, first_seed: int = 0) -> Mutant:
    return Mutant(name, edits, scenario, frozenset(kinds.split()), seeds, first_seed=first_seed)


def _covered(name: str, by: str, scenario: Scenario, *edits: Edit, seeds: int = 40) -> Mutant:
    return Mutant(name, edits, scenario, seeds=seeds, covered=by)


MUTANTS = (
    # Sessions
    _mutant(
        "commit without session check",
        "I2",
        scenarios.FENCED_WRITER,
        Edit(
            _COMMIT,
            "if not close_session(connection, session_id):",
            "if not close_session(connection, session_id) and False:",
        ),
    ),
    _mutant(
        "insert without session check",
        "I2",
        scenarios.FENCED_WRITER,
        Edit("casimg.catalog.packs:insert_pack", "beat(connection, session_id)", "pass"),
    ),
    _mutant("no live list", "I5", scenarios.WRITER_AND_GARBAGE, _ALL_PACKS),
    _mutant("no live list, no pack check", "I1", scenarios.WRITER_AND_GARBAGE, _ALL_PACKS, _NO_PACK_CHECK),
    _mutant(
        "condemned list instead of live list",
        "I5",
        scenarios.WRITER_AND_GARBAGE,
        Edit(_ALL_PACKS.where, _LIVE_LIST, 'packs.packs_in(connection, ("live", "deleting", "deleted"))'),
        seeds=200,
    ),
    _mutant("list read before the session exists", "I5", scenarios.WRITER_AND_GARBAGE, *_EARLY_LIST, seeds=300),
    _mutant("that, and no pack check", "I1", scenarios.WRITER_AND_GARBAGE, *_EARLY_LIST, _NO_PACK_CHECK, seeds=300),
    # Commit
    _mutant(
        "image row not checked",
        "I6",
        scenarios.CANCELLED_WRITER,
        Edit(
            _COMMIT,
            ".where(images.c.id == image_id, images.c.status.in_(CLAIMED_STATUSES), images.c.session_id == session_id)",
            ".where(images.c.id == image_id)",
        ),
    ),
    _mutant(
        "metadata packs not named",
        "I1",
        scenarios.FENCED_WRITER,
        Edit(
            "casimg.saving:Save.take_in",
            "frozenset(figures.noted | set(self._line.shipped))",
            "frozenset(row.pack_no for row in self._wiring.catalog.packs("
            "figures.noted | set(self._line.shipped)) if row.kind == 0)",
        ),
    ),
    _mutant("record put after the commit", "I4", scenarios.FENCED_WRITER, *_RECORD_LATE),
    _mutant("id of a pack not unique", "I1 I14", scenarios.REPEATED_ANSWERS, *_NOT_UNIQUE),
    _mutant(
        "a writer that fails deletes its packs",
        "I1 E",
        scenarios.TWINS,
        Edit(
            "casimg.packing:PackLine.abandon",
            "    for pack, *_ in self._open.values():",
            "    for kept in self.shipped.values():\n"
            "        self._backend.delete(pack_key(PackId(kept.pack_id)))\n"
            "    for pack, *_ in self._open.values():",
        ),
        seeds=120,
    ),
    _covered("no pack check", "the sweep waits for older sessions", scenarios.WRITER_AND_GARBAGE, _NO_PACK_CHECK),
    # Snapshots
    _mutant(
        "rows of the parent copied at the commit", "I1", scenarios.ORPHANED_SNAPSHOT, *_ROWS_AT_COMMIT, first_seed=120
    ),
    _covered("parent not checked by a snapshot", "its record names a content", scenarios.ORPHANED_ROW, _ANY_PARENT),
    _mutant("neither parent nor content checked", "E I9 I1", scenarios.ORPHANED_ROW, _ANY_PARENT, _ANY_CONTENT),
    # Condemn and sweep
    _mutant("sweep does not wait", "I5", scenarios.WRITER_AND_GARBAGE, _NO_WAIT),
    _mutant("sweep does not wait, no pack check", "I1", scenarios.WRITER_AND_GARBAGE, _NO_WAIT, _NO_PACK_CHECK),
    _covered("sweep does not look at rows again", "a condemnation does", scenarios.WRITER_AND_GARBAGE, _NO_SECOND_LOOK),
    _covered(
        "condemnation does not look at rows", "the sweep looks again", scenarios.WRITER_AND_GARBAGE, _NAMED_CONDEMNED
    ),
    _mutant("neither looks at rows", "I1", scenarios.WRITER_AND_GARBAGE, _NO_SECOND_LOOK, _NAMED_CONDEMNED),
    _mutant("epoch taken before the condemnation", "I5", scenarios.WRITER_AND_GARBAGE, *_EARLY_EPOCH, seeds=150),
    _mutant("old epoch kept when condemned again", "I5", scenarios.CONDEMNED_TWICE, *_OLD_EPOCH, seeds=400),
    _mutant(
        "object deleted before its row says so",
        "I1",
        scenarios.WRITER_AND_GARBAGE,
        Edit(
            _COLLECT,
            "verdict = catalog.sweep(pack_no",
            "wiring.backend.delete(pack_key(PackId(catalog.packs([pack_no])[0].pack_id)))\n"
            "        verdict = catalog.sweep(pack_no",
        ),
    ),
    _mutant(
        "deleting not done again",
        "I3",
        scenarios.DYING_COLLECTOR,
        Edit(
            _COLLECT,
            'deleting = catalog.all_packs(("deleting",))',
            'deleting = [row for row in catalog.all_packs(("deleting",)) if row.pack_no in pack_nos]',
        ),
    ),
    _mutant(
        "a content is reaped without looking for images",
        "E I1 I9",
        scenarios.ORPHANED_ROW,
        Edit(
            "casimg.catalog.contents:reap_content",
            'if used is not None or (owner.state == "pending" and owner.session_state == "open"):',
            'if owner.state == "pending" and owner.session_state == "open":',
        ),
        seeds=200,
    ),
    # Orphans
    _mutant(
        "orphans swept by age",
        "I1 I7 E",
        scenarios.SLOW_WRITER,
        Edit("casimg.catalog.orphans:ripe", "if oldest is None or oldest >= row.epoch", "if True"),
    ),
    _mutant(
        "epoch of orphans before the listing",
        "I1 I7 E",
        scenarios.SLOW_WRITER,
        Edit("casimg.catalog.orphans:remember", _BUMP, "pass"),
    ),
    _mutant(
        "orphans: rows not looked at again",
        "I1",
        scenarios.SLOW_WRITER,
        Edit("casimg.gc.orphans:sweep_orphans", "explained = _explained(wiring, names)", "explained = set()"),
        seeds=150,
    ),
    _mutant(
        "orphans never swept",
        "I3",
        scenarios.DYING_WRITER,
        Edit(
            "casimg.gc.orphans:sweep_orphans",
            "names, waiting_count = wiring.catalog.ripe_orphans(wiring.backend_id)",
            "names, waiting_count = [], 0",
        ),
    ),
    # Index and readers
    _covered("one place per chunk", "the reader's entry lists", scenarios.READERS, _ONE_PLACE),
    _covered("follower by greatest number", "the reader's entry lists", scenarios.READERS, _BY_NUMBER),
    _covered("reader without entry lists", "an index that covers what is read", scenarios.READERS, _NO_ENTRY_LISTS),
    _mutant(
        "one place per chunk, no entry lists", "R", scenarios.DOUBLED_READERS, _ONE_PLACE, _NO_ENTRY_LISTS, seeds=150
    ),
    _mutant("follower by greatest number, no entry lists", "R", scenarios.READERS, _BY_NUMBER, _NO_ENTRY_LISTS),
    _mutant(
        "leases ignored",
        "R",
        scenarios.LEASED_READERS,
        Edit("casimg.catalog.contents:reap_content", "if is_leased(connection, content_id):", "if False:"),
        seeds=150,
    ),
    _mutant(
        "reader does not ask again",
        "R",
        scenarios.REPACKED_READERS,
        Edit("casimg.assemble:ContentReader._find_again", "fresh = self._refresh()", "fresh = search.packs"),
        seeds=150,
    ),
    # Changes and records
    _mutant(
        "change without outbox row",
        "I10",
        scenarios.CHANGED_IMAGES,
        Edit("casimg.catalog.changes:change_image", "note_change(connection, image_id)", "pass"),
    ),
    _mutant(
        "delete without outbox row",
        "I10",
        scenarios.CHANGED_IMAGES,
        Edit("casimg.catalog.images:delete_image", "note_change(connection, image_id)", "pass"),
    ),
    _covered("record of an older revision", "the image has another session", scenarios.CHANGERS, _NO_REVISION),
    _covered("record beside another one", "the image has another revision", scenarios.CHANGERS, _NO_SESSION_OF_IMAGE),
    _mutant("record that compares neither", "I10", scenarios.CHANGERS, _NO_REVISION, _NO_SESSION_OF_IMAGE, seeds=150),
    _mutant("record overwritten", "I10", scenarios.CHANGERS, *_RECORD_OVERWRITTEN, seeds=150),
    _covered(
        "all changes forgotten at once",
        "the image has the revision that was read",
        scenarios.CHANGERS,
        Edit("casimg.catalog.outbox:forget_changes", "outbox.c.seq <= seq", "True"),
    ),
    # Uploads
    _mutant(
        "a failed upload keeps its content",
        "I3",
        scenarios.FAILED_UPLOADS,
        Edit("casimg.catalog.uploads:release", "session_id=None, staged_content_id=None", "session_id=None"),
    ),
    _mutant(
        "a dead upload is deleted",
        "I13",
        scenarios.FAILED_UPLOADS,
        Edit(_END_DEAD, ".where(*dead, images.c.registered)", ".where(*dead, images.c.registered.is_(None))"),
        Edit(_END_DEAD, ".where(*dead, images.c.registered.is_(False))", ".where(*dead)"),
    ),
    _mutant(
        "an image is claimed whatever its status",
        "I1 I3 I4 I6 I9 I10 E R",
        scenarios.UPLOADS,
        Edit(
            "casimg.catalog.uploads:claim_queued",
            '.where(images.c.id == image_id, images.c.status == "queued")',
            ".where(images.c.id == image_id)",
        ),
        Edit("casimg.catalog.uploads:check_queued", 'if status != "queued":', "if False:"),
        seeds=150,
    ),
    _mutant(
        "an edit during an upload is not noticed",
        "I10",
        scenarios.FAILED_UPLOADS,
        Edit(
            "casimg.catalog.images:note_changes_since", "for _ in range(revision - recorded_revision):", "for _ in ():"
        ),
        seeds=200,
    ),
    _mutant(
        "an import claims an image whatever its status",
        "I1 I3 I4 I6 I9 I10 E R",
        scenarios.IMPORTS,
        Edit(
            "casimg.catalog.uploads:claim_staged",
            ".where(images.c.id == image_id, _is_staged())",
            ".where(images.c.id == image_id)",
        ),
        seeds=150,
    ),
    # Repack
    _mutant("switch moves all rows", "I1", scenarios.REPACKED_WRITER, _ALL_ROWS, seeds=200),
    _mutant("switch in two transactions", "I1", scenarios.REPACKED_WRITER, _TWO_TRANSACTIONS),
    _covered(
        "switch without session check", "it holds its new packs", scenarios.FENCED_REPACK, _NO_SESSION_CHECK_AT_SWITCH
    ),
    _mutant(
        "switch without session check and pack check",
        "I1",
        scenarios.FENCED_REPACK,
        _NO_SESSION_CHECK_AT_SWITCH,
        _NO_PACK_CHECK,
        seeds=300,
    ),
    _mutant(
        "repack drops chunks held elsewhere",
        "I1",
        scenarios.RELYING_REPACKERS,
        Edit(_SWITCH, "elif move.old in named and move.relied <= named and", "elif move.old in named and"),
        seeds=100,
    ),
    _mutant(
        "marks without what is relied on",
        "I1",
        scenarios.RELYING_REPACKERS,
        Edit(
            "casimg.gc.marks:_ContentWalk._touch",
            "self.reach.relied.setdefault(pack_no, set()).add(place.pack_no)",
            "pass",
        ),
        seeds=100,
    ),
    _covered("switch condemns the old pack", "the sweep looks at rows", scenarios.REPACKED_WRITER, _SWITCH_CONDEMNS),
    _mutant(
        "switch condemns, sweep does not look again",
        "I1",
        scenarios.REPACKED_WRITER,
        _SWITCH_CONDEMNS,
        _NO_SECOND_LOOK,
        seeds=200,
    ),
    # Damage and repair
    _covered(
        "repair gives up a pack although something is lost",
        "it has copied what could be read",
        scenarios.REPAIRED,
        _GIVEN_UP,
    ),
    _mutant(
        "repair gives up a pack and copies nothing",
        "I11",
        scenarios.REPAIRED,
        _GIVEN_UP,
        Edit(
            "casimg.repair.heal:_Repair._run",
            "placed = self._copy(survey, held, {number for needs in found for number in needs.copied})",
            "placed: dict[int, int] = {}",
        ),
        seeds=150,
    ),
    _mutant(
        "repack relies on damaged packs",
        "I11",
        scenarios.REPAIRED_REPACK,
        Edit(_SWITCH, "and damaged.isdisjoint((*move.new, *move.relied)):", ":"),
        seeds=100,
    ),
)
