"""`casimg metadefs load`: namespaces from a folder, a file and a wheel; kept, replaced, refused."""

import json
import subprocess
import sys
import zipfile
from importlib.metadata import PackageNotFoundError
from pathlib import Path
from typing import Any

import pytest

from casimg import metadef_loading
from casimg.catalog.query import Viewer
from casimg.errors import InputError
from casimg.repository import Repository

NAMESPACE: dict[str, Any] = {
    "namespace": "OS::Compute::Quota",
    "display_name": "Flavor Quota",
    "description": "Limits of a flavor.",
    "visibility": "public",
    "protected": True,
    "resource_type_associations": [{"name": "OS::Nova::Flavor"}, {"name": "OS::Glance::Image", "prefix": "hw_"}],
    "properties": {"ports": {"title": "Ports", "type": "integer", "default": 5432, "minimum": 1, "maximum": 65535}},
    "objects": [{"name": "CPU Limits", "properties": {"quota:cpu": {"title": "CPU", "type": "integer"}}}],
    "tags": [{"name": "limits"}],
}
ADMIN = Viewer(None, is_admin=True)
OTHER = {"namespace": "OS::Software::Runtimes", "owner": "someone"}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder as Glance ships it: JSON files and a README."""
    found = tmp_path / "metadefs"
    found.mkdir()
    (found / "compute-quota.json").write_text(json.dumps(NAMESPACE))
    (found / "software-runtimes.json").write_text(json.dumps(OTHER))
    (found / "README").write_text("not JSON")
    return found


def run(repo: Repository, *arguments: object, code: int = 0) -> Any:
    done = subprocess.run(
        [sys.executable, "-m", "casimg", "--repo", str(repo.path), "metadefs", "load", "--json", *map(str, arguments)],
        capture_output=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == code, done.stderr.decode()
    return json.loads(done.stdout)


def test_a_folder_is_loaded_once(repo: Repository, folder: Path) -> None:
    """Namespaces of all JSON files are added with what is in them; loaded again, they stay as they are."""
    names = ["OS::Compute::Quota", "OS::Software::Runtimes"]
    first = run(repo, folder)
    assert (first["added"], first["replaced"], first["kept"]) == (names, [], [])
    found = repo.metadefs().detail("OS::Compute::Quota", ADMIN)
    assert (found.namespace.owner, found.namespace.protected, found.namespace.visibility) == ("admin", True, "public")
    assert [item.name for item in found.associations] == ["OS::Nova::Flavor", "OS::Glance::Image"]
    assert found.properties[0].definition["default"] == "5432"
    assert (found.objects[0].name, [tag.name for tag in found.tags]) == ("CPU Limits", ["limits"])
    assert repo.metadefs().namespace("OS::Software::Runtimes", ADMIN).owner == "someone"
    repo.metadefs().add_tag("OS::Compute::Quota", "mine", ADMIN)
    again = run(repo, folder)
    assert (again["added"], again["kept"]) == ([], names)
    assert len(repo.metadefs().detail("OS::Compute::Quota", ADMIN).tags) == 2
    replaced = run(repo, folder / "compute-quota.json", "--replace", "--owner", "other")
    assert (replaced["replaced"], replaced["kept"]) == (["OS::Compute::Quota"], [])
    changed = repo.metadefs().detail("OS::Compute::Quota", ADMIN)
    assert (changed.namespace.owner, [tag.name for tag in changed.tags]) == ("other", ["limits"])


def test_a_wheel_is_loaded(repo: Repository, folder: Path, tmp_path: Path) -> None:
    """The JSON files in a wheel of glance are loaded; others in it are not looked at."""
    wheel = tmp_path / "glance-1-py3-none-any.whl"
    with zipfile.ZipFile(wheel, "w") as packed:
        for path in sorted(folder.iterdir()):
            packed.write(path, f"glance-1.data/data/etc/glance/metadefs/{path.name}")
        packed.writestr("glance/other.json", "[")
    assert run(repo, wheel)["added"] == ["OS::Compute::Quota", "OS::Software::Runtimes"]


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "[]",
        "[" * 100_000,
        '{"namespace": "x", "unknown": 1}',
        '{"namespace": "x", "properties": {"p": {"type": "string"}}}',
        '{"namespace": "x", "tags": [{"name": "a"}, {"name": "a"}]}',
        '{"namespace": "x\\u0000"}',
        '{"namespace": NaN}',
        "\udcff",
    ],
    ids=range(10),
)
def test_a_file_that_cannot_be_used_is_named(repo: Repository, folder: Path, text: str) -> None:
    """One unusable file of a folder is an input error, and no namespace of an unreadable folder is loaded."""
    (folder / "zzz.json").write_bytes(text.encode("utf-8", "surrogateescape"))
    error = run(repo, folder, code=5)["error"]
    assert error["type"] == "SourceError"
    assert "zzz.json" in error["message"] or "'x'" in error["message"]


def test_places_that_hold_nothing(repo: Repository, tmp_path: Path) -> None:
    """A missing folder, an empty one and a damaged wheel are input errors, not silence."""
    (tmp_path / "empty").mkdir()
    wheel = tmp_path / "broken.whl"
    with zipfile.ZipFile(wheel, "w") as packed:
        packed.writestr("a/metadefs/b.json", "{}" * 1000)
    damaged = bytearray(wheel.read_bytes())
    damaged[60:70] = bytes(10)
    wheel.write_bytes(damaged)
    for place in (tmp_path / "empty", tmp_path / "missing", wheel):
        assert run(repo, place, code=5)["error"]["type"] == "SourceError"


def test_large_files_are_not_read(repo: Repository, folder: Path) -> None:
    """A file above the limit is refused by its name."""
    with (folder / "huge.json").open("wb") as file:
        file.truncate(metadef_loading.FILE_SIZE_MAX + 1)
    assert "huge.json" in run(repo, folder, code=5)["error"]["message"]


def test_without_a_folder_installed_ones_are_found(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where Glance's package left its files is found; when nowhere, the error says how to get them."""
    monkeypatch.setattr(metadef_loading, "distribution", _no_distribution)
    monkeypatch.setattr(metadef_loading, "SYSTEM_FOLDERS", (folder / "none", folder))
    assert metadef_loading.installed_folder() == folder.resolve()
    monkeypatch.setattr(metadef_loading, "SYSTEM_FOLDERS", ())
    with pytest.raises(InputError, match="pip download"):
        metadef_loading.installed_folder()


def _no_distribution(name: str) -> None:
    raise PackageNotFoundError(name)
