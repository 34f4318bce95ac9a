"""`openstack image ...` of python-openstackclient."""

import hashlib
from pathlib import Path
from typing import Any

from tests.glance.cloud import Cloud


def create(cloud: Cloud, user: str, disk: Path, *words: object, name: str = "web") -> Any:
    """Create an image of a file; returns what the command told."""
    formats = ("--disk-format", "raw", "--container-format", "bare")
    return cloud.openstack(user, "image", "create", *formats, "--file", disk, *words, name)


def names(rows: Any) -> list[str]:
    return sorted(row["Name"] for row in rows)


def test_what_is_saved_is_what_was_created(cloud: Cloud, disk: Path, data: bytes, tmp_path: Path) -> None:
    """image create --file, show and save: the same bytes, with size, md5 and sha512 told."""
    made = create(
        cloud, "alice", disk, "--min-disk", 1, "--min-ram", 64, "--property", "os_distro=debian", "--tag", "one"
    )
    shown = cloud.openstack("alice", "image", "show", made["id"])
    assert (shown["status"], shown["size"], shown["checksum"]) == ("active", len(data), hashlib.md5(data).hexdigest())
    assert (shown["disk_format"], shown["container_format"], shown["visibility"]) == ("raw", "bare", "shared")
    assert (shown["min_disk"], shown["min_ram"], shown["tags"]) == (1, 64, ["one"])
    properties = shown["properties"]
    assert properties["os_distro"] == "debian"
    assert (properties["os_hash_algo"], properties["os_hash_value"]) == ("sha512", hashlib.sha512(data).hexdigest())
    cloud.openstack_silent("alice", "image", "save", "--file", tmp_path / "copy", "web")
    assert (tmp_path / "copy").read_bytes() == data


def test_standard_output_gets_the_bytes_too(cloud: Cloud, disk: Path, data: bytes) -> None:
    """image save without --file writes nothing but the data to a pipe."""
    made = create(cloud, "alice", disk)
    assert cloud.run("alice", "openstack", "image", "save", made["id"]).output == data


def test_lists_are_filtered_and_sorted(cloud: Cloud, disk: Path) -> None:
    """image list: own and public images; by name, status, tag and property; in the order that was asked for."""
    create(cloud, "alice", disk, "--tag", "old", name="a")
    cloud.openstack("alice", "image", "create", "--property", "os_distro=debian", "b")
    create(cloud, "admin", disk, "--public", name="c")
    create(cloud, "bob", disk, name="hers not")
    assert names(cloud.openstack("alice", "image", "list")) == ["a", "b", "c"]
    assert names(cloud.openstack("alice", "image", "list", "--tag", "old")) == ["a"]
    assert names(cloud.openstack("alice", "image", "list", "--name", "b")) == ["b"]
    assert names(cloud.openstack("alice", "image", "list", "--public")) == ["c"]
    assert names(cloud.openstack("alice", "image", "list", "--status", "queued")) == ["b"]
    assert names(cloud.openstack("alice", "image", "list", "--property", "os_distro=debian")) == ["b"]
    rows = cloud.openstack("alice", "image", "list", "--long", "--sort", "name:desc")
    assert [row["Name"] for row in rows] == ["c", "b", "a"]
    assert rows[2]["Tags"] == ["old"]
    # The command sorts what came; pages are the server's, newest first.
    first = cloud.openstack("alice", "image", "list", "--limit", 1)
    assert names(first) == ["c"]
    assert names(cloud.openstack("alice", "image", "list", "--limit", 1, "--marker", first[0]["ID"])) == ["b"]


def test_attributes_are_set_and_unset(cloud: Cloud, disk: Path) -> None:
    """image set and unset change names, sizes, properties and tags, and nothing else."""
    image_id = create(cloud, "alice", disk, "--property", "keep=1", "--tag", "stays")["id"]
    words = ("--name", "db", "--min-disk", 3, "--min-ram", 128, "--property", "gone=2", "--tag", "leaves", "--private")
    cloud.openstack_silent("alice", "image", "set", *words, image_id)
    shown = cloud.openstack("alice", "image", "show", image_id)
    assert (shown["name"], shown["min_disk"], shown["min_ram"], shown["visibility"]) == ("db", 3, 128, "private")
    assert sorted(shown["tags"]) == ["leaves", "stays"]
    assert (shown["properties"]["keep"], shown["properties"]["gone"]) == ("1", "2")
    cloud.openstack_silent("alice", "image", "unset", "--property", "gone", "--tag", "leaves", image_id)
    shown = cloud.openstack("alice", "image", "show", image_id)
    assert shown["tags"] == ["stays"]
    assert shown["properties"]["keep"] == "1"
    assert "gone" not in shown["properties"]


def test_protected_images_stay(cloud: Cloud, disk: Path) -> None:
    """image delete is refused while an image is protected; then it is gone for everybody."""
    image_id = create(cloud, "alice", disk, "--protected")["id"]
    assert "protected" in cloud.openstack_refused("alice", "image", "delete", image_id)
    cloud.openstack_silent("alice", "image", "set", "--unprotected", image_id)
    cloud.openstack_silent("alice", "image", "delete", image_id)
    cloud.openstack_refused("alice", "image", "show", image_id)
    assert cloud.openstack("alice", "image", "list") == []


def test_images_are_shared_with_projects(cloud: Cloud, disk: Path, data: bytes, tmp_path: Path) -> None:
    """image add project, member list, set --accept, remove project: the other project sees it, takes it, loses it."""
    image_id = create(cloud, "alice", disk)["id"]
    project_id = cloud.openstack("admin", "project", "show", "red")["id"]
    cloud.openstack_refused("bob", "image", "show", image_id)
    added = cloud.openstack("alice", "image", "add", "project", image_id, project_id)
    assert (added["member_id"], added["status"]) == (project_id, "pending")
    assert cloud.openstack("bob", "image", "list") == []
    cloud.openstack_silent("bob", "image", "set", "--accept", image_id)
    members = cloud.openstack("alice", "image", "member", "list", image_id)
    assert [(row["Member ID"], row["Status"]) for row in members] == [(project_id, "accepted")]
    assert names(cloud.openstack("bob", "image", "list")) == ["web"]
    cloud.openstack_silent("bob", "image", "save", "--file", tmp_path / "copy", image_id)
    assert (tmp_path / "copy").read_bytes() == data
    cloud.openstack_silent("alice", "image", "remove", "project", image_id, project_id)
    cloud.openstack_refused("bob", "image", "show", image_id)


def test_deactivated_images_are_not_given_out(cloud: Cloud, disk: Path, data: bytes, tmp_path: Path) -> None:
    """image set --deactivate stops image save for all but administrators; --activate lets it go on."""
    image_id = create(cloud, "alice", disk)["id"]
    cloud.openstack_silent("admin", "image", "set", "--deactivate", image_id)
    assert cloud.openstack("alice", "image", "show", image_id)["status"] == "deactivated"
    cloud.openstack_refused("alice", "image", "save", "--file", tmp_path / "none", image_id)
    cloud.openstack_silent("admin", "image", "set", "--activate", image_id)
    cloud.openstack_silent("alice", "image", "save", "--file", tmp_path / "copy", image_id)
    assert (tmp_path / "copy").read_bytes() == data


def test_readers_change_nothing(cloud: Cloud, disk: Path, tmp_path: Path) -> None:
    """Who has the role reader sees the images of the project; to save, create, change and delete needs a member."""
    image_id = create(cloud, "alice", disk)["id"]
    assert names(cloud.openstack("rita", "image", "list")) == ["web"]
    assert cloud.openstack("rita", "image", "show", image_id)["status"] == "active"
    for words in (("create", "x"), ("set", "--name", "x", image_id), ("delete", image_id)):
        assert "403" in cloud.openstack_refused("rita", "image", *words), words
    cloud.openstack_refused("rita", "image", "save", "--file", tmp_path / "none", image_id)


def test_hidden_images_are_not_listed(cloud: Cloud, disk: Path) -> None:
    """image set --hidden takes an image out of lists, not away."""
    image_id = create(cloud, "alice", disk)["id"]
    cloud.openstack_silent("alice", "image", "set", "--hidden", image_id)
    assert cloud.openstack("alice", "image", "list") == []
    assert names(cloud.openstack("alice", "image", "list", "--hidden")) == ["web"]
    cloud.openstack_silent("alice", "image", "set", "--unhidden", image_id)
    assert names(cloud.openstack("alice", "image", "list")) == ["web"]


def test_metadata_definitions(cloud: Cloud) -> None:
    """image metadef: namespaces with objects and properties are made, shown, changed and deleted."""
    metadef, name = ("image", "metadef"), "OS::Casimg::Test"
    try:
        cloud.openstack("admin", *metadef, "namespace", "create", "--public", "--description", "d", name)
        cloud.openstack_silent("admin", *metadef, "namespace", "set", "--display-name", "Test", "--public", name)
        shown = cloud.openstack("alice", *metadef, "namespace", "show", name)
        assert (shown["display_name"], shown["visibility"]) == ("Test", "public")
        rows = cloud.openstack("alice", *metadef, "namespace", "list")
        assert name in [row["namespace"] for row in rows]
        words = ("--namespace", name, "cpu")
        cloud.openstack("admin", *metadef, "object", "create", *words)
        objects = cloud.openstack("alice", *metadef, "object", "list", name)
        assert [row["name"] for row in objects] == ["cpu"]
    finally:
        cloud.run_here("admin", *metadef, "namespace", "delete", name)
    cloud.openstack_refused("alice", *metadef, "namespace", "show", name)
