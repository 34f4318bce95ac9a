"""The query string of a list: filters, order, pages; what is none is 400."""

from datetime import UTC, datetime
from urllib.parse import parse_qsl, urlsplit

import pytest
from hypothesis import given
from hypothesis import strategies as st

from casimg.registry import Filter, Query
from casimg_api.config import ImagesConfig
from casimg_api.errors import HttpError
from casimg_api.listing import page_links, parse, split_list

CONFIG = ImagesConfig()


def asked(query: str) -> Query:
    return parse(parse_qsl(query, keep_blank_values=True), CONFIG).query


def test_defaults() -> None:
    """Without a query: newest first, 25 of them, not the hidden ones, shared ones that were accepted."""
    assert asked("") == Query(sort=(("created_at", False), ("id", False)))


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("name=web", Filter("name", "eq", "web")),
        ("name=eq:web", Filter("name", "eq", "web")),
        ("name=in:a,b", Filter("name", "in", ("a", "b"))),
        ('name=in:"a,b",c', Filter("name", "in", ("a,b", "c"))),
        ("status=in:active,queued", Filter("status", "in", ("active", "queued"))),
        ("disk_format=raw", Filter("disk_format", "eq", "raw")),
        ("container_format=in:bare", Filter("container_format", "in", ("bare",))),
        ("owner=p", Filter("owner", "eq", "p")),
        ("checksum=0a", Filter("checksum", "eq", "0a")),
        ("os_hash_value=0a", Filter("os_hash_value", "eq", "0a")),
        ("size_min=5", Filter("size", "gte", 5)),
        ("size_max=5", Filter("size", "lte", 5)),
        ("min_ram_min=1", Filter("min_ram", "gte", 1)),
        ("size=7", Filter("size", "eq", 7)),
        ("protected=true", Filter("protected", "eq", True)),
        ("os_distro=debian", Filter("property:os_distro", "eq", "debian")),
        ("hw_cpu_max=4", Filter("property:hw_cpu_max", "eq", "4")),
        ("note=in:a,b", Filter("property:note", "eq", "in:a,b")),
        (
            "id=7F0C3C2E-0000-4000-8000-000000000001",
            Filter("id", "eq", "7f0c3c2e-0000-4000-8000-000000000001"),
        ),
        ("created_at=gt:2026-01-02T03:04:05Z", Filter("created_at", "gt", datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC))),
        ("updated_at=lte:2026-01-02", Filter("updated_at", "lte", datetime(2026, 1, 2, tzinfo=UTC))),
        ("updated_at=2026-01-02T03:04:05", Filter("updated_at", "eq", datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC))),
        (
            "updated_at=2026-01-02T03:04:05%2B02:00",
            Filter("updated_at", "eq", datetime(2026, 1, 2, 1, 4, 5, tzinfo=UTC)),
        ),
    ],
)
def test_filters(query: str, expected: Filter) -> None:
    """Each attribute has its operators; anything else is an extra property, compared as it is."""
    assert asked(query).filters == (expected,)


def test_what_is_no_filter() -> None:
    """Tags, visibility, hidden and the member's answer have places of their own."""
    found = asked("tag=b&tag=a&visibility=all&os_hidden=True&member_status=pending&deleted=true")
    assert (found.tags, found.visibility, found.hidden, found.member_status) == (("b", "a"), "all", True, "pending")
    assert found.filters == ()


@pytest.mark.parametrize(
    "query",
    [
        *("limit=-1", "limit=NaN", "limit=", "limit=1_0", "limit=1.5", "limit=٣"),
        *("visibility=secret", "member_status=maybe", "protected=False", "protected=1", "os_hidden=no"),
        *("changes-since=2026-01-01", "size=big", "size_min=big", "size_max=", "min_disk=x"),
        *("name=foo:bar", "status=gt:active", 'name=in:"a', 'name=in:a"b"', 'name=in:"a"b'),
        *("created_at=yesterday", "created_at=in:2026-01-01", "updated_at=gt:soon", "created_at=gt:"),
        *("sort=name&sort_key=id", "sort=name&sort_dir=asc", "sort=nothing", "sort=name:up", "sort=", "sort=name,"),
        *("sort_key=owner", "sort_dir=up", "sort_key=name&sort_dir=asc&sort_dir=desc"),
        "sort_key=name&sort_key=id&sort_key=size&sort_dir=asc&sort_dir=desc",
    ],
)
def test_malformed(query: str) -> None:
    """What cannot be asked is 400, never ignored."""
    with pytest.raises(HttpError) as caught:
        asked(query)
    assert caught.value.status == 400


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("sort=name:asc,size", (("name", True), ("size", False), ("created_at", False), ("id", False))),
        ("sort=name:asc", (("name", True), ("created_at", True), ("id", True))),
        ("sort_key=name&sort_dir=asc", (("name", True), ("created_at", True), ("id", True))),
        ("sort_key=name&sort_key=id&sort_dir=asc", (("name", True), ("id", True), ("created_at", True))),
        ("sort_dir=asc", (("created_at", True), ("id", True))),
        ("sort_key=size", (("size", False), ("created_at", False), ("id", False))),
        (
            "sort_key=name&sort_key=size&sort_dir=asc&sort_dir=desc",
            (("name", True), ("size", False), ("created_at", False), ("id", False)),
        ),
    ],
)
def test_order(query: str, expected: tuple[tuple[str, bool], ...]) -> None:
    """Both syntaxes, with the keys that decide between equals added."""
    assert asked(query).sort == expected


def test_limits() -> None:
    """The operator's maximum counts whatever the client wants; 0 is a page without images."""
    config = ImagesConfig(limit_param_default=3, api_limit_max=5)
    limits = [parse([("limit", text)], config).query.limit for text in ("0", "4", "5", "6", "99999999999999999999")]
    assert limits == [0, 4, 5, 5, 5]
    assert parse([], config).query.limit == 3


def test_links_keep_everything() -> None:
    """`next` is the same query with another marker at its end, repeated fields and all."""
    fields = [("tag", "a b"), ("tag", "c&d"), ("limit", "2"), ("marker", "old"), ("name", "ü")]
    request = parse(fields, CONFIG)
    found = page_links(request.fields, "new", "/v2/images")
    kept = [item for item in fields if item[0] != "marker"]
    assert parse_qsl(urlsplit(found["first"]).query) == kept
    assert parse_qsl(urlsplit(found["next"]).query) == [*kept, ("marker", "new")]
    assert page_links((), None, "/v2/images") == {"first": "/v2/images"}


def test_lists_of_values() -> None:
    """Quotes protect commas; a value between commas may be empty only beside others."""
    assert split_list('"a,b","c"') == ["a,b", "c"]
    assert split_list("a") == ["a"]


@given(st.lists(st.tuples(st.sampled_from(["name", "size", "sort", "limit", "created_at", "x", "id"]), st.text())))
def test_any_query_is_answered(fields: list[tuple[str, str]]) -> None:
    """Whatever a query says, it is a page or 400."""
    try:
        parse(fields, CONFIG)
    except HttpError as error:
        status = error.status
    else:
        status = 400
    assert status == 400


@given(st.lists(st.text(alphabet=st.characters(exclude_characters='",\\'), min_size=1), min_size=1))
def test_quoted_values_come_back(values: list[str]) -> None:
    """Values joined with commas, each in quotes, are the same values."""
    assert split_list(",".join(f'"{value}"' for value in values)) == values
