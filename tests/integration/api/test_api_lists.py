"""Lists on the wire: pages, filters, order; a link to the next page leads on until there is none."""

import uuid
from typing import Any
from urllib.parse import quote

import pytest

from tests.api_serving import Client


def names(client: Client, query: str) -> list[Any]:
    """Return the names of the images that a query finds."""
    answer = client.get(f"/v2/images?{query}")
    assert answer.status == 200, answer.body
    return [image["name"] for image in answer.json["images"]]


@pytest.fixture
def mark() -> str:
    """A property of this test's images alone."""
    return uuid.uuid4().hex


def test_pages(alice: Client, mark: str) -> None:
    """Pages follow each other without gap or repeat; a full page has `next`, so the last full one leads to none."""
    made = [alice.image(name=f"i{n}", mark=mark, tags=["a", "b"])["id"] for n in range(6)]
    path = f"/v2/images?mark={mark}&limit=2&tag=a&tag=b&sort=name:asc"
    seen: list[str] = []
    pages = 0
    while path:
        page = alice.get(path).json
        assert page["first"] == f"/v2/images?mark={mark}&limit=2&tag=a&tag=b&sort=name%3Aasc"
        assert page["schema"] == "/v2/schemas/images"
        seen += [image["id"] for image in page["images"]]
        pages += 1
        path = page.get("next", "")
    assert (seen, pages) == (made, 4)


def test_markers(alice: Client, bob: Client, mark: str) -> None:
    """A marker that nobody has, or that the caller may not see, is 400."""
    image = alice.image(mark=mark, visibility="private")
    assert alice.get(f"/v2/images?marker={image['id']}").status == 200
    assert bob.get(f"/v2/images?marker={image['id']}").status == 400
    assert alice.get(f"/v2/images?marker={uuid.uuid4()}").status == 400
    assert alice.get("/v2/images?marker=none").status == 400


def test_filters(alice: Client, mark: str) -> None:
    """All filters must hold; values with commas are quoted."""
    alice.image(name="a,b", mark=mark, disk_format="raw", container_format="bare", min_ram=5, tags=["x", "y"])
    alice.image(name="c", mark=mark, disk_format="qcow2", protected=True, tags=["x"])
    alice.image(name="hidden", mark=mark, os_hidden=True)

    def found(query: str) -> list[Any]:
        return sorted(names(alice, f"mark={mark}&{query}"))

    assert found("") == ["a,b", "c"]
    assert found("os_hidden=true") == ["hidden"]
    assert found("name=in:" + quote('"a,b",c')) == ["a,b", "c"]
    assert found("name=in:a,b") == []
    assert found("name=c") == ["c"]
    assert found("disk_format=in:raw,vhd") == ["a,b"]
    assert found("status=queued&container_format=bare") == ["a,b"]
    assert found("tag=x") == ["a,b", "c"]
    assert found("tag=x&tag=y") == ["a,b"]
    assert found("protected=true") == ["c"]
    assert found("protected=false") == ["a,b"]
    assert found("min_ram_min=1") == ["a,b"]
    assert found("size_min=1") == []
    assert found("created_at=gt:2020-01-01T00:00:00Z") == ["a,b", "c"]
    assert found("created_at=lt:2020-01-01T00:00:00Z") == []
    assert found("owner=p-alice") == ["a,b", "c"]
    assert found("owner=p-bob") == []
    assert found("visibility=private") == []
    assert found("none=at%20all") == []


@pytest.mark.parametrize(
    "query",
    [
        *("limit=-1", "limit=x", "sort=name&sort_key=id", "sort_key=owner", "sort_dir=up", "visibility=secret"),
        *("member_status=x", "protected=False", "os_hidden=x", "changes-since=2026-01-01", "size_min=x"),
        *("name=foo:bar", "name=in:%22a", "created_at=never", "name=%00", "%00=a", "name=%ff", "tag=%00"),
    ],
)
def test_malformed(alice: Client, query: str) -> None:
    """What cannot be asked is 400."""
    assert alice.get(f"/v2/images?{query}").status == 400


def test_many_conditions(alice: Client) -> None:
    """As many conditions as are allowed work; more are 400."""
    for pattern in ("tag={}", "p{}=x"):
        fields = [pattern.format(number) for number in range(201)]
        assert names(alice, "&".join(fields[:200])) == []
        assert alice.get("/v2/images?" + "&".join(fields)).status == 400
    assert names(alice, "name=in:" + "a," * 3000 + "a") == []


def test_order(alice: Client, mark: str) -> None:
    """Both syntaxes of sorting; newest first without any."""
    for name in ("b", "c", "a"):
        alice.image(name=name, mark=mark)
    asked = f"mark={mark}&"
    assert names(alice, f"{asked}sort=name:asc") == ["a", "b", "c"]
    assert names(alice, f"{asked}sort_key=name&sort_dir=desc") == ["c", "b", "a"]
    assert names(alice, f"{asked}sort=status:asc,name:desc") == ["c", "b", "a"]
    assert names(alice, f"{asked}limit=0") == []


def test_visibility_of_lists(admin: Client, alice: Client, bob: Client, mark: str) -> None:
    """Each sees its own and what is public; an administrator sees all but community images of others."""
    alice.image(name="private", mark=mark, visibility="private")
    alice.image(name="shared", mark=mark)
    alice.image(name="community", mark=mark, visibility="community")
    admin.image(name="public", mark=mark, visibility="public")
    query = f"mark={mark}&sort=name:asc"
    assert names(alice, query) == ["community", "private", "public", "shared"]
    assert names(bob, query) == ["public"]
    assert names(admin, query) == ["private", "public", "shared"]
    assert names(admin, f"{query}&visibility=all") == ["community", "private", "public", "shared"]
    assert names(bob, f"{query}&visibility=private") == []
