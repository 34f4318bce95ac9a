"""Lists of images: who sees what, filters, order and pages, against a plain model of Glance's rules."""

import functools
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sqlalchemy import Connection, delete, event, insert, text

from casimg.catalog import Catalog, ImageRow, NewImage
from casimg.catalog.edits import register
from casimg.catalog.image_rows import insert_image
from casimg.catalog.listing import list_page, show
from casimg.catalog.query import Filter, Query, Viewer
from casimg.catalog.schema import content_hashes, contents, image_members, image_properties, image_tags, images
from casimg.catalog.sessions import time_of
from casimg.errors import ImageNotFoundError, InputError, MarkerNotFoundError
from casimg.ids import ContentId, ImageId
from tests.catalog_making import SERVER_URL, Save, database_url, new_image

ADMIN = Viewer(None, is_admin=True)
START_US = 1_800_000_000_000_000


@pytest.fixture(scope="module")
def catalog(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Catalog]:
    """One for all: each test empties it first."""
    folder: Path = tmp_path_factory.mktemp("listing")
    with database_url(folder) as url:
        opened = Catalog.create(url, "uuid-of-test", "main", "local")
        yield opened
        opened.close()


@dataclass(frozen=True)
class Entry:
    """What the model knows of an image."""

    number: int
    name: str | None
    status: str
    owner: str | None
    visibility: str
    disk_format: str | None
    hidden: bool
    protected: bool
    min_disk: int
    size: int | None
    created_us: int
    properties: dict[str, str]
    tags: frozenset[str]
    members: dict[str, str]
    registered: bool

    @property
    def id(self) -> ImageId:
        # Not in the order in which they were made.
        return ImageId(f"{self.number * 7 % 10}{self.number:07d}-0000-4000-8000-000000000000")

    @property
    def md5(self) -> str | None:
        return None if self.size is None else f"{self.size:032x}"


def fill(catalog: Catalog, entries: list[Entry]) -> None:
    """Make the catalog hold exactly these images."""
    session_id = catalog.open_session("ingest").session_id

    def work(connection: Connection) -> None:
        for table in (image_members, image_tags, image_properties, images, content_hashes, contents):
            connection.execute(delete(table))
        for entry in entries:
            content_id = None
            if entry.size is not None:
                content_id = ContentId(f"{entry.number:032x}")
                connection.execute(
                    insert(contents).values(
                        content_id=content_id,
                        state="complete",
                        session_id=session_id,
                        size=entry.size,
                        hole_size=0,
                        created_at=0,
                        backend_id=1,
                    )
                )
                connection.execute(insert(content_hashes).values(content_id=content_id, algo="md5", value=entry.md5))
            new = NewImage(
                id=entry.id,
                name=entry.name,
                disk_format=entry.disk_format,
                container_format=None,
                owner=entry.owner,
                visibility=entry.visibility,
                protected=entry.protected,
                parent_id=None,
                properties=entry.properties,
                hidden=entry.hidden,
                min_disk=entry.min_disk,
                tags=tuple(entry.tags),
            )
            insert_image(
                connection,
                new,
                entry.created_us,
                status=entry.status,
                content_id=content_id,
                registered=entry.registered,
            )
            for member, status in entry.members.items():
                connection.execute(
                    insert(image_members).values(
                        image_id=entry.id, member=member, status=status, created_at=0, updated_at=0
                    )
                )

    catalog.transaction(work)
    catalog.end_session(session_id)


def ask(catalog: Catalog, query: Query, viewer: Viewer = ADMIN) -> list[ImageRow]:
    return catalog.read(functools.partial(list_page, query=query, viewer=viewer))


# The model


def known(entry: Entry) -> bool:
    return entry.status != "deleted" and (entry.registered or entry.status in ("active", "deactivated"))


def listed(entry: Entry, query: Query, viewer: Viewer) -> bool:
    own = viewer.project_id is not None and entry.owner == viewer.project_id
    if not viewer.is_admin:
        answer = entry.members.get(viewer.project_id or "")
        shared = entry.visibility == "shared" and answer is not None and query.member_status in ("all", answer)
        if not (own or shared or entry.visibility in ("public", "community")):
            return False
    if query.visibility is None:
        return entry.visibility != "community" or own
    return query.visibility in ("all", entry.visibility)


def met(entry: Entry, item: Filter) -> bool:
    value: Any
    if item.field.startswith("property:"):
        value = entry.properties.get(item.field.removeprefix("property:"))
    elif item.field == "checksum":
        value = entry.md5
    elif item.field == "created_at":
        value = time_of(entry.created_us).replace(microsecond=0)
    else:
        value = getattr(entry, item.field)
    if value is None:
        return False
    wanted: Any = item.value
    met_by: dict[str, Callable[[], bool]] = {
        "eq": lambda: value == wanted,
        "neq": lambda: value != wanted,
        "in": lambda: value in wanted,
        "gt": lambda: value > wanted,
        "gte": lambda: value >= wanted,
        "lt": lambda: value < wanted,
        "lte": lambda: value <= wanted,
    }
    return bool(met_by[item.op]())


def ordered(entries: list[Entry], sort: tuple[tuple[str, bool], ...]) -> list[Entry]:
    names = [name for name, _ in sort]
    direction = sort[0][1] if len(sort) == 1 else False
    keys = [*sort, *((name, direction) for name in ("created_at", "id") if name not in names)]

    def compare(one: Entry, other: Entry) -> int:
        for name, ascending in keys:
            attribute = "created_us" if name == "created_at" else name
            mine, its = getattr(one, attribute), getattr(other, attribute)
            if mine != its:
                less = mine is None or (its is not None and mine < its)
                return -1 if less == ascending else 1
        return 0

    return sorted(entries, key=functools.cmp_to_key(compare))


def expected(entries: list[Entry], query: Query, viewer: Viewer) -> list[ImageId]:
    found = [
        entry
        for entry in entries
        if known(entry)
        and entry.hidden is query.hidden
        and listed(entry, query, viewer)
        and all(met(entry, item) for item in query.filters)
        and entry.tags >= set(query.tags)
    ]
    return [entry.id for entry in ordered(found, query.sort)]


# What Hypothesis makes

PROJECTS = ["p1", "p2"]
TEXTS = ["a", "A", "b", "ü", "z%_", ""]
maybe_text = st.none() | st.sampled_from(TEXTS)


@st.composite
def entry_lists(draw: st.DrawFn) -> list[Entry]:
    def entry(number: int) -> Entry:
        status = draw(st.sampled_from(["queued", "saving", "active", "active", "deactivated", "deleted"]))
        has_data = status in ("active", "deactivated")
        return Entry(
            number=number,
            name=draw(maybe_text),
            status=status,
            owner=draw(st.none() | st.sampled_from(PROJECTS)),
            visibility=draw(st.sampled_from(["public", "private", "shared", "community"])),
            disk_format=draw(st.none() | st.sampled_from(["raw", "qcow2"])),
            hidden=draw(st.sampled_from([False, False, False, True])),
            protected=draw(st.booleans()),
            min_disk=draw(st.integers(0, 3)),
            size=draw(st.integers(0, 3)) if has_data else None,
            created_us=START_US + draw(st.integers(0, 3)) * 400_000,
            properties=draw(st.dictionaries(st.sampled_from(["os", "OS"]), st.sampled_from(TEXTS), max_size=2)),
            tags=draw(st.frozensets(st.sampled_from(["x", "X", "y"]))),
            members=draw(st.dictionaries(st.sampled_from(PROJECTS), st.sampled_from(["pending", "accepted"]))),
            registered=draw(st.booleans()),
        )

    return [entry(number) for number in range(draw(st.integers(0, 10)))]


text_filters = st.builds(
    Filter,
    st.sampled_from(["name", "owner", "status", "disk_format", "property:os", "property:OS", "property:none"]),
    st.sampled_from(["eq", "neq", "gt", "gte", "lt", "lte"]),
    st.sampled_from([*TEXTS, "p1", "raw", "active"]),
) | st.builds(
    Filter,
    st.sampled_from(["name", "status", "property:os", "id"]),
    st.just("in"),
    st.lists(st.sampled_from([*TEXTS, "active", "queued"])).map(tuple),
)
number_filters = st.builds(
    Filter,
    st.sampled_from(["size", "min_disk"]),
    st.sampled_from(["eq", "neq", "gt", "gte", "lt", "lte"]),
    st.integers(-1, 4) | st.sampled_from([2**80, -(2**80)]),
)
time_filters = st.builds(
    Filter,
    st.just("created_at"),
    st.sampled_from(["eq", "neq", "gt", "gte", "lt", "lte"]),
    st.integers(-1, 3).map(lambda seconds: time_of(START_US) + timedelta(seconds=seconds)),
)
other_filters = st.builds(Filter, st.just("protected"), st.just("eq"), st.booleans()) | st.builds(
    Filter, st.just("checksum"), st.sampled_from(["eq", "neq"]), st.integers(0, 3).map(lambda size: f"{size:032x}")
)
sorts = st.lists(
    st.tuples(
        st.sampled_from(["name", "status", "disk_format", "size", "id", "created_at", "owner", "min_disk"]),
        st.booleans(),
    ),
    min_size=1,
    max_size=3,
    unique_by=lambda key: key[0],
).map(tuple)
queries = st.builds(
    Query,
    filters=st.lists(text_filters | number_filters | time_filters | other_filters, max_size=2).map(tuple),
    tags=st.lists(st.sampled_from(["x", "X", "y"]), max_size=2).map(tuple),
    visibility=st.sampled_from([None, None, "all", "public", "private", "shared", "community"]),
    member_status=st.sampled_from(["accepted", "pending", "rejected", "all"]),
    hidden=st.sampled_from([False, False, False, True]),
    sort=sorts,
    limit=st.integers(1, 4),
)
viewers = st.sampled_from([ADMIN, Viewer("p1", is_admin=True), Viewer("p1"), Viewer("p2"), Viewer(None)])


@settings(max_examples=25 if SERVER_URL else 80)
@given(entries=entry_lists(), wanted=st.lists(st.tuples(queries, viewers), min_size=1, max_size=6))
def test_pages_are_the_models_list(catalog: Catalog, entries: list[Entry], wanted: list[tuple[Query, Viewer]]) -> None:
    """Walked page by page, a list has exactly the images of Glance's rules, in order, each once."""
    fill(catalog, entries)
    for query, viewer in wanted:
        found: list[ImageId] = []
        marker = None
        while True:
            page = [row.id for row in ask(catalog, _with(query, marker), viewer)]
            found += page
            if len(page) < query.limit:
                break
            marker = page[-1]
        assert found == expected(entries, query, viewer)


def _with(query: Query, marker: ImageId | None) -> Query:
    return Query(
        query.filters, query.tags, query.visibility, query.member_status, query.hidden, query.sort, marker, query.limit
    )


@settings(max_examples=20 if SERVER_URL else 60)
@given(entries=entry_lists(), viewer=viewers)
def test_what_is_shown_is_what_glance_shows(catalog: Catalog, entries: list[Entry], viewer: Viewer) -> None:
    """One image is shown to administrators, its project, members whatever they answered, or all when it is public."""
    fill(catalog, entries)
    for entry in entries:
        seen = known(entry) and (
            viewer.is_admin
            or entry.owner is None
            or entry.owner == viewer.project_id
            or entry.visibility in ("public", "community")
            or (entry.visibility == "shared" and viewer.project_id in entry.members)
        )
        if seen:
            row = catalog.read(functools.partial(show, image_id=entry.id, viewer=viewer))
            assert (row.name, row.tags, row.properties) == (entry.name, tuple(sorted(entry.tags)), entry.properties)
            assert row.hashes == ({} if entry.md5 is None else {"md5": entry.md5})
        else:
            with pytest.raises(ImageNotFoundError):
                catalog.read(functools.partial(show, image_id=entry.id, viewer=viewer))


# What the model does not say


def _register(catalog: Catalog, name: str | None, **fields: Any) -> ImageId:
    new = new_image()
    made = NewImage(new.id, name, None, None, "p1", "private", False, None, **fields)
    catalog.transaction(functools.partial(register, new=made))
    return made.id


def test_texts_are_compared_byte_for_byte(catalog: Catalog) -> None:
    """Names, tags, properties and owners that differ in case or in a space at the end are different, everywhere."""
    fill(catalog, [])
    plain = _register(catalog, "web", tags=("x",), properties={"os": "debian"})
    spaced = _register(catalog, "web ", tags=("x ",), properties={"os": "debian "})
    _register(catalog, "WEB", tags=("X",), properties={"os": "Debian"})

    def names(**query: Any) -> list[ImageId]:
        return [row.id for row in ask(catalog, Query(**query))]

    assert names(filters=(Filter("name", "eq", "web"),)) == [plain]
    assert names(filters=(Filter("name", "eq", "web "),)) == [spaced]
    assert names(filters=(Filter("name", "in", ("web", "none")),)) == [plain]
    assert names(filters=(Filter("property:os", "eq", "debian "),)) == [spaced]
    assert names(tags=("x",)) == [plain]
    assert ask(catalog, Query(), Viewer("p1 ")) == []


def test_a_marker_must_be_an_image_that_the_viewer_sees(catalog: Catalog) -> None:
    """Unknown, deleted and invisible markers are errors, never an empty or a first page."""
    fill(catalog, [])
    mine, gone = _register(catalog, "mine"), _register(catalog, "gone")
    catalog.delete_image(gone)
    for marker in (gone, ImageId("none"), ImageId("a\0b"), ImageId("\ud800")):
        with pytest.raises(MarkerNotFoundError):
            ask(catalog, Query(marker=marker))
    with pytest.raises(MarkerNotFoundError):
        ask(catalog, Query(marker=mine), Viewer("p2"))
    assert ask(catalog, Query(marker=mine), Viewer("p1")) == []


@pytest.mark.parametrize(
    "query",
    [
        Query(filters=(Filter("color", "eq", "red"),)),
        Query(filters=(Filter("name", "like", "red"),)),  # type: ignore[arg-type]
        Query(filters=(Filter("name", "eq", "a\0b"),)),
        Query(filters=(Filter("name", "in", ("\udc80",)),)),
        Query(filters=(Filter("name", "in", "abc"),)),
        Query(filters=(Filter("name", "eq", 7),)),
        Query(filters=(Filter("size", "eq", "7"),)),
        Query(filters=(Filter("size", "in", ("7",)),)),
        Query(filters=(Filter("protected", "eq", "true"),)),
        Query(filters=(Filter("created_at", "eq", datetime(2026, 1, 1)),)),
        Query(filters=(Filter("property:a\0", "eq", "x"),)),
        Query(tags=("a\0",)),
        Query(member_status="none"),
        Query(sort=(("color", True),)),
        Query(sort=(("protected", True),)),
    ],
)
def test_what_cannot_be_asked_is_refused(catalog: Catalog, query: Query) -> None:
    """Fields, operators and values that make no sense, or that a database refuses, are InputError."""
    fill(catalog, [])
    with pytest.raises(InputError):
        ask(catalog, query)


def test_put_images_are_listed_when_they_have_data(catalog: Catalog) -> None:
    """An image put by the command line is listed once committed, not while it is saved: that save may end deleted."""
    fill(catalog, [])
    save = Save(catalog, new_image("put"))
    assert ask(catalog, Query()) == []
    with pytest.raises(ImageNotFoundError):
        catalog.read(functools.partial(show, image_id=save.image.id, viewer=ADMIN))
    save.commit()
    (row,) = ask(catalog, Query(), Viewer("owner"))
    assert (row.id, row.visibility, row.owner) == (save.image.id, "private", "owner")
    assert ask(catalog, Query(), Viewer("other")) == []


@pytest.mark.skipif(bool(SERVER_URL), reason="about the plans of SQLite")
def test_the_default_order_is_walked_by_its_index(catalog: Catalog) -> None:
    """A page of the default list is read from the index on its order: no page sorts all images."""
    first = _register(catalog, "first")
    statements: list[tuple[str, Any]] = []

    def work(connection: Connection) -> list[str]:
        @event.listens_for(connection, "before_cursor_execute")
        def _seen(_c: Any, _cursor: Any, statement: str, parameters: Any, *_: Any) -> None:
            statements.append((statement, parameters))

        list_page(connection, Query(marker=first, limit=1000), Viewer("p1"))
        event.remove(connection, "before_cursor_execute", _seen)
        statement, parameters = next(item for item in statements if "ORDER BY" in item[0])
        return [str(row[3]) for row in connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {statement}", parameters)]

    plan = catalog.read(work)
    assert any("ix_images_created_at_id" in line for line in plan), plan
    assert not any("TEMP B-TREE" in line for line in plan), plan


def test_the_database_is_left_as_a_catalog(catalog: Catalog) -> None:
    """What the tests above did to the rows broke no foreign key."""
    if not SERVER_URL:
        assert catalog.read(lambda connection: connection.execute(text("PRAGMA foreign_key_check")).all()) == []
