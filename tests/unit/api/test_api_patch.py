"""Both dialects of JSON patch: what is malformed, what may never be set, and what becomes of an image."""

import contextlib
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from casimg.catalog import ImageRow
from casimg.registry import UNSET
from casimg_api.config import ImagesConfig
from casimg_api.errors import HttpError
from casimg_api.patch import V20, V21, apply, decode_pointer, dialect, parse
from casimg_api.property_protection import May, everything
from casimg_api.schemas import Schemas
from tests.api_making import image_row

ROW = image_row(properties={"os_distro": "debian"}, tags=("a",))
CONFIG = ImagesConfig(image_property_quota=2, image_tag_quota=2)
SCHEMAS = Schemas(CONFIG)


class Permissions:
    """Allows everything, and says what was asked."""

    def __init__(self, *, is_admin: bool = False) -> None:
        self.is_admin = is_admin
        self.may: May = everything
        self.asked: list[str] = []

    def set_property(self, name: str, value: object) -> None:
        self.asked.append(name)

    def set_locations(self) -> None:
        self.asked.append("set locations")

    def delete_locations(self) -> None:
        self.asked.append("delete locations")


def edited(body: list[dict[str, Any]], media_type: str = V21, row: ImageRow = ROW, *, is_admin: bool = False) -> Any:
    """Return the edit that a patch makes."""
    return apply(parse(media_type, body, SCHEMAS.validate_image), row, Permissions(is_admin=is_admin), CONFIG)


def status_of(body: Any, media_type: str = V21, row: ImageRow = ROW, *, is_admin: bool = False) -> int:
    """Return the status that a patch is refused with."""
    with pytest.raises(HttpError) as caught:
        edited(body, media_type, row, is_admin=is_admin)
    return caught.value.status


def op(name: str, path: object, value: object = None) -> dict[str, Any]:
    return {"op": name, "path": path} if name == "remove" else {"op": name, "path": path, "value": value}


def test_media_types() -> None:
    """Both types are taken with parameters and in any case; others are 415 with Accept-Patch."""
    assert dialect(V20) == V20
    assert dialect("Application/OpenStack-images-v2.1-JSON-patch; charset=utf-8") == V21
    for other in (None, "", "application/json", "application/json-patch+json"):
        with pytest.raises(HttpError) as caught:
            dialect(other)
        assert (caught.value.status, caught.value.headers) == (415, {"Accept-Patch": f"{V20}, {V21}"})


@pytest.mark.parametrize(
    "body",
    [
        {},
        ["x"],
        [None],
        [{}],
        [{"op": "add"}],
        [{"op": "move", "path": "/a", "value": "b"}],
        [{"op": ["add"], "path": "/a", "value": "b"}],
        [{"op": "add", "path": "/a"}],
        [{"op": "add", "path": None, "value": "b"}],
        [{"op": "add", "path": ["/a"], "value": "b"}],
        [op("add", "a", "b")],
        [op("add", "/a/b", "c")],
        [op("add", "//a", "c")],
        [op("add", "/a/", "c")],
        [op("add", "/a~", "c")],
        [op("add", "/a~2", "c")],
        [op("add", "/locations", {})],
        [op("replace", "/locations/0", [])],
        [op("add", "/a", 1)],
        [op("add", "/a", None)],
        [op("add", "/a", ["b"])],
        [op("add", "/" + "a" * 256, "c")],
        [op("replace", "/name", "n" * 256)],
        [op("replace", "/name", 1)],
        [op("replace", "/visibility", "secret")],
        [op("replace", "/protected", "true")],
        [op("replace", "/tags", ["t" * 256])],
        [op("replace", "/tags", "a")],
        [op("replace", "/disk_format", "floppy")],
        [op("replace", "/min_disk", True)],
        [op("replace", "/min_disk", -1)],
        [op("replace", "/min_ram", 2**31)],
        [op("add", "/kernel_id", "no uuid")],
    ],
)
def test_malformed(body: Any) -> None:
    """What is no patch, or sets what the schema does not allow, is 400."""
    assert status_of(body) == 400


@pytest.mark.parametrize(
    "body", [[{}], [{"add": "/a", "replace": "/a", "value": "b"}], [{"add": "/a"}], [{"op": "add", "path": "/a"}]]
)
def test_malformed_in_the_older_dialect(body: Any) -> None:
    """The older form has one member that names operation and path."""
    assert status_of(body, V20) == 400


@pytest.mark.parametrize(
    "name",
    [
        *("id", "status", "checksum", "size", "virtual_size", "created_at", "updated_at", "self", "file", "schema"),
        *("direct_url", "stores", "os_hash_algo", "os_hash_value", "location", "deleted", "deleted_at"),
        *("os_glance_import_task", "os_glance"),
    ],
)
@pytest.mark.parametrize("operation", ["add", "replace", "remove"])
def test_read_only(name: str, operation: str) -> None:
    """What only the service sets, and names that it keeps for itself, are 403 whatever the operation."""
    assert status_of([op(operation, f"/{name}", "x")]) == 403
    assert status_of([{operation: f"/{name}", "value": "x"}], V20) == 403


def test_dialects_differ_in_add() -> None:
    """`add` of what is there overwrites in v2.1 and is a conflict in v2.0."""
    assert edited([op("add", "/os_distro", "arch")]).properties == {"os_distro": "arch"}
    assert edited([op("add", "/name", None)]).name is None
    assert status_of([{"add": "/os_distro", "value": "arch"}], V20) == 409
    assert status_of([{"add": "/name", "value": "x"}], V20) == 409
    assert edited([{"add": "/new", "value": "x"}], V20).properties == {"os_distro": "debian", "new": "x"}


@pytest.mark.parametrize("media_type", [V20, V21])
def test_missing_and_base(media_type: str) -> None:
    """Replacing or removing what is not there is 409; attributes cannot be removed: 403."""

    def said(name: str, path: str) -> dict[str, Any]:
        return op(name, path, "x") if media_type == V21 else {name: path, "value": "x"}

    assert status_of([said("replace", "/none")], media_type) == 409
    assert status_of([said("remove", "/none")], media_type) == 409
    for name in ("name", "tags", "visibility", "owner", "min_disk", "os_hidden"):
        assert status_of([said("remove", f"/{name}")], media_type) == 403
    assert edited([said("remove", "/os_distro")], media_type).properties == {}


def test_only_what_is_named_is_touched() -> None:
    """An edit leaves alone what no operation names; tags become a sorted set."""
    edit = edited([op("replace", "/tags", ["z", "b", "z"]), op("replace", "/os_hidden", True)])
    assert (edit.tags, edit.hidden) == (("b", "z"), True)
    assert {edit.name, edit.properties, edit.visibility, edit.min_disk, edit.owner} == {UNSET}


def test_operations_see_those_before() -> None:
    """Operations are applied in order, all or none."""
    assert edited([op("add", "/x", "1"), op("replace", "/x", "2"), op("remove", "/os_distro")]).properties == {"x": "2"}
    assert status_of([op("remove", "/os_distro"), op("remove", "/os_distro")]) == 409


def test_formats_are_open_while_queued() -> None:
    """Formats can be set until there is data: 403 then."""
    assert edited([op("replace", "/disk_format", "qcow2")]).disk_format == "qcow2"
    for status in ("saving", "active", "deactivated"):
        assert status_of([op("replace", "/disk_format", "raw")], row=replace(ROW, status=status)) == 403


def test_owner_is_for_admins() -> None:
    """Nobody but an administrator gives an image away, by either operation."""
    for operation in ("add", "replace"):
        assert status_of([op(operation, "/owner", "q")]) == 403
        assert edited([op(operation, "/owner", "q")], is_admin=True).owner == "q"


def test_locations_are_invisible() -> None:
    """Changes of locations are well formed and refused: 403."""
    location = {"url": "http://x/", "metadata": {}}
    assert status_of([op("add", "/locations/-", location)]) == 403
    assert status_of([op("replace", "/locations", [location])]) == 403
    assert status_of([op("replace", "/locations", [])]) == 403
    assert status_of([op("remove", "/locations/0")]) == 403
    assert status_of([op("add", "/locations/-", {"url": "http://x/"})]) == 400


def test_quotas() -> None:
    """More properties or tags than allowed are 413; changing one of too many is not."""
    assert status_of([op("add", "/a", "1"), op("add", "/b", "2")]) == 413
    assert status_of([op("replace", "/tags", ["a", "b", "c"])]) == 413
    crowded = replace(ROW, properties={"a": "", "b": "", "c": ""})
    assert edited([op("replace", "/a", "1")], row=crowded).properties["a"] == "1"


def test_null_kernel_is_no_property() -> None:
    """kernel_id may be null, which is as if it were not there."""
    kernel = "7f0c3c2e-0000-4000-8000-00000000000a"
    assert edited([op("add", "/kernel_id", kernel)]).properties["kernel_id"] == kernel
    assert "kernel_id" not in edited([op("add", "/kernel_id", None)]).properties


def test_pointers() -> None:
    """Pointers are decoded as RFC 6901 says, in the right order."""
    assert decode_pointer("/a~1b~0c") == ("a/b~c",)
    assert decode_pointer("/~01") == ("~1",)
    assert decode_pointer("/locations/-") == ("locations", "-")


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=3), inner, max_size=2),
    max_leaves=4,
)
operations = st.fixed_dictionaries(
    {},
    optional={
        "op": st.sampled_from(["add", "remove", "replace", "move", 1]),
        "path": st.sampled_from(["/name", "/tags", "/x", "/a/b", "", "/locations/-", "/locations"]) | json_values,
        "value": json_values,
        "add": st.text(max_size=4) | json_values,
    },
)


@given(st.lists(operations, max_size=3) | json_values, st.sampled_from([V20, V21]))
def test_any_body_is_answered(body: Any, media_type: str) -> None:
    """Whatever a body says, it makes an edit or is refused."""
    with contextlib.suppress(HttpError):
        edited(body, media_type, is_admin=True)
