"""Metadata definitions in SQL: names, visibility, protection, order and pages, all or nothing."""

import threading
from collections.abc import Callable
from dataclasses import replace

import pytest
from sqlalchemy import func, select, update

from casimg.catalog import Catalog
from casimg.catalog.metadef_rows import NAMESPACE_SORT_KEYS, TAG_SORT_KEYS, NamespaceQuery, TagQuery
from casimg.catalog.metadef_schema import associations, namespaces, objects, properties, resource_types, tags
from casimg.catalog.query import Viewer
from casimg.errors import CatalogDamagedError, MetadefExistsError, MetadefNotFoundError, ProtectedMetadefError
from casimg.metadef_documents import NewAssociation, NewNamespace, NewObject, NewProperty
from casimg.metadefs import Metadefs
from tests.catalog_making import OpenCatalog

DEFINITION = {"title": "Cores", "type": "integer", "minimum": 1, "default": "é €"}


ADMIN = Viewer("root", is_admin=True)
ONE, TWO, NOBODY = Viewer("one"), Viewer("two"), Viewer(None)


@pytest.fixture
def metadefs(catalog: Catalog) -> Metadefs:
    return Metadefs(OpenCatalog(catalog))


def full(name: str = "full", **fields: object) -> NewNamespace:
    new = NewNamespace(
        name=name,
        owner="one",
        objects=(NewObject("disk", "of it", ("size",), {"size": DEFINITION}), NewObject("bare")),
        properties=(NewProperty("cores", DEFINITION), NewProperty("Cores", {"title": "x", "type": "string"})),
        tags=("b", "a", "B"),
        associations=(NewAssociation("OS::Glance::Image", "hw_", "image"), NewAssociation("OS::Nova::Flavor")),
    )
    return replace(new, **fields)  # type: ignore[arg-type]


def names(metadefs: Metadefs, query: NamespaceQuery, viewer: Viewer = ADMIN) -> list[str]:
    return [item.namespace.name for item in metadefs.namespaces(query, viewer)]


def counts(catalog: Catalog) -> list[int]:
    tables = (namespaces, objects, properties, tags, associations)
    queries = [select(func.count()).select_from(table) for table in tables]
    return catalog.read(lambda connection: [connection.execute(query).scalar_one() for query in queries])


def test_a_namespace_comes_back_with_all_that_is_in_it(metadefs: Metadefs) -> None:
    """What a namespace was made with is what its detail holds, in the order given; tags newest first."""
    made = metadefs.add_namespace(full())
    found = metadefs.detail("full", ONE)
    assert found.namespace == made
    assert (made.visibility, made.protected, made.owner, made.created_at) == ("private", False, "one", made.updated_at)
    assert [(item.name, item.description, item.required) for item in found.objects] == [
        ("disk", "of it", ("size",)),
        ("bare", None, ()),
    ]
    assert found.objects[0].properties == {"size": DEFINITION}
    assert [(item.name, item.definition["title"]) for item in found.properties] == [("cores", "Cores"), ("Cores", "x")]
    assert [tag.name for tag in found.tags] == ["B", "a", "b"]
    assert [(item.name, item.prefix, item.properties_target) for item in found.associations] == [
        ("OS::Glance::Image", "hw_", "image"),
        ("OS::Nova::Flavor", None, None),
    ]
    assert [item.name for item in metadefs.resource_types()] == ["OS::Glance::Image", "OS::Nova::Flavor"]


def test_private_namespaces_of_others_are_not_there(metadefs: Metadefs) -> None:
    """A private namespace is seen by its project and administrators; a public one, and one without owner, by all."""
    metadefs.add_namespace(full("private"))
    metadefs.add_namespace(full("public", visibility="public"))
    metadefs.add_namespace(full("nobody's", owner=None))
    query = NamespaceQuery(sort_key="namespace", ascending=True)
    assert names(metadefs, query, ONE) == names(metadefs, query, ADMIN) == ["nobody's", "private", "public"]
    assert names(metadefs, query, TWO) == names(metadefs, query, NOBODY) == ["nobody's", "public"]
    new = NewObject("new")
    for viewer in (TWO, NOBODY):
        for attempt in (
            lambda eyes: metadefs.namespace("private", eyes),
            lambda eyes: metadefs.detail("private", eyes),
            lambda eyes: metadefs.objects("private", eyes),
            lambda eyes: metadefs.property("private", "cores", eyes),
            lambda eyes: metadefs.tags("private", TagQuery(), eyes),
            lambda eyes: metadefs.associations("private", eyes),
            lambda eyes: metadefs.add_object("private", new, eyes),
            lambda eyes: metadefs.change_namespace("private", full("mine"), eyes),
            lambda eyes: metadefs.remove_tags("private", eyes),
            lambda eyes: metadefs.remove_namespace("private", eyes),
            lambda eyes: metadefs.namespaces(NamespaceQuery(marker="private"), eyes),
        ):
            with pytest.raises(MetadefNotFoundError):
                attempt(viewer)
    assert len(metadefs.detail("private", ONE).objects) == 2


def test_names_are_exact(metadefs: Metadefs) -> None:
    """Case counts; a space behind a name, and what no database keeps, finds nothing."""
    metadefs.add_namespace(full())
    for name in ("Full", "full ", "ful", "", "full\0", "\ud800", "fu%"):
        with pytest.raises(MetadefNotFoundError):
            metadefs.namespace(name, ADMIN)
        with pytest.raises(MetadefNotFoundError):
            metadefs.tag("full", name, ADMIN)
    assert metadefs.property("full", "Cores", ONE).definition == {"title": "x", "type": "string"}
    assert metadefs.tag("full", "B", ONE).name == "B"


def test_a_taken_name_is_refused_and_nothing_is_kept(metadefs: Metadefs, catalog: Catalog) -> None:
    """A second namespace, or one that names a part twice, is refused whole; so is a part that is there."""
    metadefs.add_namespace(full())
    before = counts(catalog)
    same = NewAssociation("OS::Glance::Image")
    for new in (
        full(),
        full("other", tags=("a", "b", "a")),
        full("other", objects=(NewObject("o"), NewObject("o"))),
        full("other", properties=(NewProperty("p", DEFINITION), NewProperty("p", DEFINITION))),
        full("other", associations=(same, same)),
    ):
        with pytest.raises(MetadefExistsError):
            metadefs.add_namespace(new)
    for attempt in (
        lambda: metadefs.add_object("full", NewObject("disk"), ONE),
        lambda: metadefs.add_property("full", NewProperty("cores", DEFINITION), ONE),
        lambda: metadefs.add_tag("full", "a", ONE),
        lambda: metadefs.add_tags("full", ["c", "a"], ONE, append=True),
        lambda: metadefs.add_tags("full", ["c", "c"], ONE, append=False),
        lambda: metadefs.associate("full", same, ONE),
    ):
        with pytest.raises(MetadefExistsError):
            attempt()
    assert counts(catalog) == before
    assert metadefs.add_namespace(full("other")).name == "other"


def test_renaming(metadefs: Metadefs) -> None:
    """A namespace and its parts take another name, unless it is taken; the parts of a renamed namespace stay."""
    metadefs.add_namespace(full("other"))
    made = metadefs.add_namespace(full())
    renamed = metadefs.change_namespace("full", NewNamespace("new", visibility="public", owner="two"), ONE)
    assert (renamed.namespace_id, renamed.name, renamed.visibility) == (made.namespace_id, "new", "public")
    assert renamed.updated_at >= made.updated_at
    assert metadefs.change_object("new", "disk", NewObject("volume", None, None, None), ADMIN).required == ()
    changed = metadefs.change_property("new", "cores", NewProperty("threads", DEFINITION), ADMIN)
    assert (changed.name, changed.definition) == ("threads", DEFINITION)
    assert metadefs.change_tag("new", "a", "z", ADMIN).name == "z"
    assert metadefs.change_tag("new", "z", "z", ADMIN).name == "z"
    found = metadefs.detail("new", ADMIN)
    assert [item.name for item in found.objects] == ["volume", "bare"]
    assert [item.name for item in found.tags] == ["B", "z", "b"]
    for attempt in (
        lambda: metadefs.change_namespace("new", NewNamespace("other"), ADMIN),
        lambda: metadefs.change_object("new", "volume", NewObject("bare"), ADMIN),
        lambda: metadefs.change_property("new", "threads", NewProperty("Cores", DEFINITION), ADMIN),
        lambda: metadefs.change_tag("new", "z", "b", ADMIN),
    ):
        with pytest.raises(MetadefExistsError):
            attempt()
    for missing in (
        lambda: metadefs.change_namespace("full", NewNamespace("x"), ADMIN),
        lambda: metadefs.change_object("new", "disk", NewObject("x"), ADMIN),
        lambda: metadefs.change_property("new", "cores", NewProperty("x", DEFINITION), ADMIN),
        lambda: metadefs.change_tag("new", "a", "x", ADMIN),
    ):
        with pytest.raises(MetadefNotFoundError):
            missing()


def test_protection(metadefs: Metadefs, catalog: Catalog) -> None:
    """Nothing is deleted from a protected namespace; it can be added to, changed, and unprotected."""
    metadefs.add_namespace(full(protected=True))
    before = counts(catalog)
    attempts: tuple[Callable[[], None], ...] = (
        lambda: metadefs.remove_namespace("full", ONE),
        lambda: metadefs.remove_object("full", "disk", ONE),
        lambda: metadefs.remove_property("full", "cores", ONE),
        lambda: metadefs.remove_tag("full", "a", ONE),
        lambda: metadefs.remove_objects("full", ONE),
        lambda: metadefs.remove_properties("full", ONE),
        lambda: metadefs.remove_tags("full", ONE),
        lambda: metadefs.disassociate("full", "OS::Nova::Flavor", ONE),
    )
    for attempt in attempts:
        with pytest.raises(ProtectedMetadefError):
            attempt()
    assert counts(catalog) == before
    with pytest.raises(MetadefNotFoundError):
        metadefs.remove_tag("full", "none", ONE)
    metadefs.add_tag("full", "more", ONE)
    metadefs.change_namespace("full", NewNamespace("full", owner="one"), ONE)
    metadefs.remove_tag("full", "more", ONE)


def test_deleting(metadefs: Metadefs, catalog: Catalog) -> None:
    """Parts go one by one or all of a kind; a namespace takes everything in it along, and nothing of another."""
    metadefs.add_namespace(full("other"))
    metadefs.add_namespace(full())
    metadefs.remove_object("full", "disk", ONE)
    metadefs.remove_property("full", "cores", ONE)
    metadefs.remove_tag("full", "a", ONE)
    metadefs.disassociate("full", "OS::Nova::Flavor", ONE)
    found = metadefs.detail("full", ONE)
    assert [len(part) for part in (found.objects, found.properties, found.tags, found.associations)] == [1, 1, 2, 1]
    gone: tuple[Callable[[], None], ...] = (
        lambda: metadefs.remove_object("full", "disk", ONE),
        lambda: metadefs.remove_property("full", "cores", ONE),
        lambda: metadefs.remove_tag("full", "a", ONE),
        lambda: metadefs.disassociate("full", "OS::Nova::Flavor", ONE),
    )
    for attempt in gone:
        with pytest.raises(MetadefNotFoundError):
            attempt()
    metadefs.remove_objects("full", ONE)
    metadefs.remove_properties("full", ONE)
    metadefs.remove_tags("full", ONE)
    found = metadefs.detail("full", ONE)
    assert (found.objects, found.properties, found.tags) == ((), (), ())
    metadefs.add_tag("full", "late", ONE)
    metadefs.remove_namespace("full", ONE)
    assert counts(catalog) == [1, 2, 2, 3, 2]
    with pytest.raises(MetadefNotFoundError):
        metadefs.remove_namespace("full", ONE)
    assert [item.name for item in metadefs.resource_types()] == ["OS::Glance::Image", "OS::Nova::Flavor"]


def test_many_tags_at_once(metadefs: Metadefs) -> None:
    """Tags are added to those that are there or put in their place, all or none; an empty list changes nothing."""
    metadefs.add_namespace(full())
    metadefs.add_tags("full", ["c", "d"], ONE, append=True)
    assert [tag.name for tag in metadefs.tags("full", TagQuery(sort_key="name", ascending=True), ONE)] == list("Babcd")
    metadefs.add_tags("full", [], ONE, append=False)
    assert len(metadefs.tags("full", TagQuery(), ONE)) == 5
    metadefs.add_tags("full", [f"t{number:04}" for number in range(1200)], ONE, append=False)
    assert len(metadefs.tags("full", TagQuery(), ONE)) == 1200


@pytest.mark.parametrize("ascending", [True, False])
@pytest.mark.parametrize("key", NAMESPACE_SORT_KEYS)
def test_pages_of_namespaces(metadefs: Metadefs, key: str, ascending: bool) -> None:
    """By every key and both ways, pages of two put together are the whole list, without a gap or a repetition."""
    for number in range(7):
        metadefs.add_namespace(
            NewNamespace(
                name=f"n{number * 3 % 7}",
                display_name=None if number % 3 == 0 else f"d{number % 3}",
                visibility="public" if number % 2 else "private",
                protected=number % 3 == 1,
                owner=None if number == 4 else f"o{number % 2}",
            )
        )
    whole = names(metadefs, NamespaceQuery(sort_key=key, ascending=ascending))
    assert sorted(whole) == [f"n{number}" for number in range(7)]
    if key == "namespace":
        assert whole == sorted(whole, reverse=not ascending)
    paged: list[str] = []
    while page := names(metadefs, NamespaceQuery(None, None, key, ascending, paged[-1] if paged else None, 2)):
        paged += page
    assert paged == whole
    assert names(metadefs, NamespaceQuery(limit=0)) == []


@pytest.mark.parametrize("ascending", [True, False])
@pytest.mark.parametrize("key", TAG_SORT_KEYS)
def test_pages_of_tags(metadefs: Metadefs, key: str, ascending: bool) -> None:
    """By every key and both ways, pages of tags put together are the whole list; an unknown marker is not found."""
    metadefs.add_namespace(full(tags=("d", "a", "c", "b", "e")))
    metadefs.add_namespace(full("other", tags=("x", "a")))
    whole = [tag.name for tag in metadefs.tags("full", TagQuery(key, ascending), ONE)]
    assert sorted(whole) == list("abcde")
    paged: list[str] = []
    while page := metadefs.tags("full", TagQuery(key, ascending, paged[-1] if paged else None, 2), ONE):
        paged += [tag.name for tag in page]
    assert paged == whole
    with pytest.raises(MetadefNotFoundError):
        metadefs.tags("full", TagQuery(marker="x"), ONE)


def test_filters(metadefs: Metadefs) -> None:
    """Namespaces are listed by visibility and by resource types, any of those asked, with their resource types."""
    metadefs.add_namespace(full("a", visibility="public"))
    metadefs.add_namespace(full("b", associations=(NewAssociation("OS::Cinder::Volume"),)))
    metadefs.add_namespace(full("c", associations=()))
    assert names(metadefs, NamespaceQuery(visibility="public")) == ["a"]
    assert names(metadefs, NamespaceQuery(visibility="private")) == ["c", "b"]
    assert names(metadefs, NamespaceQuery(resource_types=("OS::Nova::Flavor", "OS::Cinder::Volume"))) == ["b", "a"]
    assert names(metadefs, NamespaceQuery(resource_types=("os::nova::flavor", "\0"))) == []
    assert names(metadefs, NamespaceQuery("public", ("OS::Cinder::Volume",))) == []
    listed = metadefs.namespaces(NamespaceQuery(sort_key="namespace", ascending=True), ONE)
    assert [[item.name for item in found.associations] for found in listed] == [
        ["OS::Glance::Image", "OS::Nova::Flavor"],
        ["OS::Cinder::Volume"],
        [],
    ]
    assert all((found.objects, found.properties, found.tags) == ((), (), ()) for found in listed)


def test_long_definitions_are_kept(metadefs: Metadefs) -> None:
    """Descriptions and definitions far above 64 KiB come back whole."""
    long = "é" * 100_000
    definition = {**DEFINITION, "description": long, "enum": [f"choice {number}" for number in range(20_000)]}
    metadefs.add_namespace(full(objects=(NewObject("o", long, None, {"p": definition}),)))
    metadefs.add_property("full", NewProperty("p", definition), ONE)
    assert metadefs.object("full", "o", ONE).properties == {"p": definition}
    assert metadefs.object("full", "o", ONE).description == long
    assert metadefs.property("full", "p", ONE).definition == definition


def test_a_row_that_holds_no_json_is_damage(metadefs: Metadefs, catalog: Catalog) -> None:
    """A definition that is no JSON object is CatalogDamagedError, not a wrong answer."""
    metadefs.add_namespace(full())
    for text in ("{", "[]", "null"):
        catalog.transaction(
            lambda connection, text=text: connection.execute(update(properties).values(definition=text))  # type: ignore[misc]
        )
        with pytest.raises(CatalogDamagedError):
            metadefs.detail("full", ONE)


def test_many_threads_make_the_same(metadefs: Metadefs, catalog: Catalog) -> None:
    """Of threads that make the same namespace, one does; those that name the same new resource type all do."""
    made: list[str] = []
    failed: list[BaseException] = []
    start = threading.Barrier(6)

    def make(number: int) -> None:
        start.wait()
        for name in ("same", f"own {number}"):
            try:
                metadefs.add_namespace(full(name))
                made.append(name)
            except MetadefExistsError:
                pass
            except BaseException as error:
                failed.append(error)

    threads = [threading.Thread(target=make, args=(number,)) for number in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failed == []
    assert sorted(made) == [*(f"own {number}" for number in range(6)), "same"]
    assert counts(catalog) == [7, 14, 14, 21, 14]
    assert len(metadefs.resource_types()) == 2
    query = select(func.count()).select_from(resource_types)
    assert catalog.read(lambda connection: connection.execute(query).scalar_one()) == 2
