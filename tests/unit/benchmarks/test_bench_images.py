"""What the benchmarks' image builder computes without building anything."""

from itertools import islice
from pathlib import Path

import pytest

from benchmarks.images.build import fixed_times, host_sources
from benchmarks.images.change import append_logs, change_files, log_lines
from benchmarks.images.family import Family, Image, data_size, load_family, save_family
from benchmarks.images.recipe import FULL, SMALL, Recipe


def image(folder: Path, name: str, ending: str = "raw", role: str = "golden", generation: int = 0) -> Image:
    path = folder / f"{name}.{ending}"
    return Image(path, name, role, generation, "", ending, 4096, 4096, 4096, 4096, "00", "by hand", f"{name}.txt")


def test_a_saved_family_loads_from_a_moved_folder(tmp_path: Path) -> None:
    """The manifest holds no folder: a family that was moved is read where it is now."""
    old, new = tmp_path / "old", tmp_path / "new"
    old.mkdir()
    family = Family("small", 1, 2, "suite", {"tool": "1"}, (image(old, "base"), image(old, "base", "zlib.qcow2")))
    save_family(family, old)
    old.rename(new)
    loaded = load_family(new)
    assert [i.path for i in loaded.images] == [new / "base.raw", new / "base.zlib.qcow2"]
    assert loaded.as_json() == family.as_json()


def test_a_manifest_of_another_version_is_refused(tmp_path: Path) -> None:
    """Fields are never guessed from a manifest that another program wrote."""
    (tmp_path / "manifest.json").write_text('{"version": 99}')
    with pytest.raises(ValueError, match="another version"):
        load_family(tmp_path)


def test_generations_come_oldest_first_without_containers(tmp_path: Path) -> None:
    """Benchmarks get the raw generations in order, whatever order they were written in."""
    images = (image(tmp_path, "i-2", role="instance", generation=2), image(tmp_path, "i-1", "qcow2", "instance", 1))
    family = Family("small", 1, 2, "s", {}, (*images, image(tmp_path, "i-1", "raw", "instance", 1)))
    assert [i.name for i in family.generations] == ["i-1", "i-2"]
    assert family.goldens == ()


def test_a_remade_disk_drops_its_containers(tmp_path: Path) -> None:
    """An entry of the old content never stays beside the new one."""
    family = Family("small", 1, 2, "s", {}, (image(tmp_path, "a"), image(tmp_path, "a", "qcow2"), image(tmp_path, "b")))
    again = family.without("a").with_image(image(tmp_path, "a"))
    assert [(i.name, i.format) for i in again.images] == [("b", "raw"), ("a", "raw")]


def test_holes_are_not_data(tmp_path: Path) -> None:
    """Only what lies outside holes counts, and a file of one hole counts nothing."""
    path = tmp_path / "sparse"
    with path.open("wb") as file:
        file.truncate(8 << 20)
    assert data_size(path) == 0
    with path.open("r+b") as file:
        file.seek(4 << 20)
        file.write(b"x" * 65536)
    assert 65536 <= data_size(path) < 1 << 20


def test_log_lines_come_from_the_seed() -> None:
    """The same log and generation give the same lines; another generation gives others."""
    first = list(islice(log_lines("access", 1), 50))
    assert first == list(islice(log_lines("access", 1), 50))
    assert not set(first) & set(islice(log_lines("access", 2), 50))


def test_logs_grow_by_what_was_asked(tmp_path: Path) -> None:
    """Appending keeps what is there and adds the size, to a line per file."""
    append_logs(tmp_path, 1, 30_000)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    append_logs(tmp_path, 2, 30_000)
    for name, text in before.items():
        assert (tmp_path / name).read_bytes().startswith(text)
    total = sum(path.stat().st_size for path in tmp_path.iterdir())
    assert 60_000 <= total < 60_000 + 6 * 300


def test_changed_files_are_the_same_each_time(tmp_path: Path) -> None:
    """Two machines that go through the same generations hold the same files."""
    found = []
    for name in ("one", "two"):
        for generation in (1, 2):
            change_files(tmp_path / name, generation, 9)
        found.append({path.name: path.read_bytes() for path in (tmp_path / name).iterdir()})
    assert found[0] == found[1]
    assert len(found[0]) == 9 - 3 + 9


def test_times_are_fixed_for_every_inode_in_use() -> None:
    """The root and all inodes from lost+found on get their times set, reserved ones stay alone."""
    inodes = {line.split()[1] for line in fixed_times(13).splitlines()}
    assert inodes == {"<2>", "<11>", "<12>", "<13>"}


def test_only_sources_of_the_suite_are_taken(tmp_path: Path) -> None:
    """Other vendors' sources and files switched off by their name are left out."""
    folder = tmp_path / "sources.list.d"
    folder.mkdir()
    (folder / "debian.sources").write_text("Suites: bookworm bookworm-updates\n")
    (folder / "vendor.list").write_text("deb https://vendor.example/apt vendor-bookworm main\n")
    (folder / "old.list.disabled").write_text("deb https://mirror.example bookworm main\n")
    assert host_sources(tmp_path) == [folder / "debian.sources"]


@pytest.mark.parametrize("recipe", [FULL, SMALL], ids=lambda recipe: recipe.name)
def test_generations_are_numbered_from_one(recipe: Recipe) -> None:
    """Generation 1 is made from packages; each later one continues the one before."""
    assert [change.generation for change in recipe.changes] == list(range(1, len(recipe.changes) + 1))


def test_the_small_family_stays_below_a_gigabyte() -> None:
    """Virtual bytes of all its files together, containers included."""
    files = [disk.containers for disk in SMALL.goldens] + [change.containers for change in SMALL.changes]
    assert sum(1 + len(containers) for containers in files) * SMALL.disk_size < 10**9
