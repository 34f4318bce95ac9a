"""Rules of several backends, each taken out; as `tests.simulation.mutants`."""

from tests.simulation import scenarios
from tests.simulation.mutants import Mutant
from tests.simulation.mutation import Edit

_DEAD = Edit("casimg.catalog.contents:dead_contents", "~copied.exists(), ", "")
_REAP = Edit("casimg.catalog.contents:reap_content", "used = used or connection.execute(copied).first()", "pass")
_IMAGE_IS_THERE = Edit("casimg.catalog.copies:_hold", "if done.rowcount != 1:", "if False:")
_FIRST_IS_THERE = Edit(
    "casimg.catalog.copies:_first", "images.c.id == image_id, is_stored()", "images.c.id == image_id"
)


def _mutant(name: str, kinds: str, *edits: Edit, seeds: int = 60, covered: str = "", first_seed: int = 0) -> Mutant:
    return Mutant(name, edits, scenarios.SPREAD, frozenset(kinds.split()), seeds, covered, first_seed)


COPY_MUTANTS = (
    _mutant("copies are not alive", "I9 I1 E", _DEAD, _REAP),
    _mutant("copies look dead", "I3", _DEAD),
    _mutant(
        "packs of all backends are on every list",
        "",
        Edit(
            "casimg.catalog.packs:lies_on",
            "true() if backend_id is None else packs.c.backend_id == backend_id",
            "true()",
        ),
        covered="the index of a backend has the places of its packs alone, and orphans go by rows",
        seeds=40,
    ),
    _mutant(
        "a deleted image gets a copy", "", _IMAGE_IS_THERE, _FIRST_IS_THERE, covered="a collection takes it", seeds=40
    ),
    _mutant(
        "a copy has no record",
        "I4",
        Edit(
            "casimg.copying:_record",
            "put_record(to, session_id, image, recorded,",
            "(lambda *_: None)(to, session_id, image, recorded,",
        ),
    ),
    _mutant(
        "records of copies are orphans",
        "I4",
        Edit("casimg.catalog.orphans:image_sessions", "copies.get(row.id, set())", "set()"),
    ),
    _mutant(
        "a record is explained wherever it lies",
        "I3",
        Edit("casimg.catalog.orphans:image_sessions", "or row.backend_id == backend_id", "or True"),
        first_seed=230,
    ),
    _mutant(
        "changes do not reach the records of copies",
        "I10",
        Edit("casimg.catalog.changes:written", "if put == places:", "if True:"),
        Edit("casimg.records:_places", "zip(image.copies, behind.copies, strict=True)", "()"),
    ),
    _mutant(
        "an edit during a copy is forgotten",
        "I10",
        Edit(
            "casimg.catalog.copies:commit_copy", "note_changes_since(connection, image_id, recorded_revision)", "pass"
        ),
        first_seed=40,
    ),
    _mutant(
        "the first content goes and nothing takes its place",
        "I4 I9",
        Edit(
            "casimg.catalog.copies:remove_copy",
            "values(content_id=heir.content_id, session_id=heir.session_id)",
            "values(session_id=heir.session_id)",
        ),
    ),
    _mutant(
        "a snapshot's record names a content that the parent has left",
        "I4 I10",
        Edit("casimg.catalog.images:snapshot_row", "if recorded not in (None, content_id):", "if False:"),
        first_seed=60,
    ),
    _mutant(
        "a fenced copy is committed",
        "I2",
        Edit(
            "casimg.catalog.copies:commit_copy",
            "if not close_session(connection, session_id):",
            "if not close_session(connection, session_id) and False:",
        ),
    ),
)
