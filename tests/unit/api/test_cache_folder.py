"""The folder of cached images: one writer at a time, nothing half written has a name, nothing of others is touched."""

import fcntl
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from casimg.errors import ConfigError
from casimg.ids import ContentId, ImageId
from casimg_api import cache_folder
from casimg_api.cache_folder import CacheFolder
from casimg_api.cached_file import CachedFileError

IMAGE = ImageId("7f0c3c2e-0000-4000-8000-000000000001")
OTHER = ImageId("7f0c3c2e-0000-4000-8000-000000000002")
CONTENT = ContentId("0" * 32)
DATA = b"bytes of an image"


@pytest.fixture
def folder(tmp_path: Path) -> CacheFolder:
    return CacheFolder(tmp_path / "cache")


def fill(folder: CacheFolder, image_id: ImageId = IMAGE, *, kept: bool = True) -> bool:
    begun = folder.begin(image_id, CONTENT, len(DATA))
    assert begun is not None
    begun.write(DATA)
    return begun.finish(lambda _size, _stored_size: kept)


def content_of(folder: CacheFolder, image_id: ImageId = IMAGE) -> bytes | None:
    file = folder.open(image_id)
    if file is None:
        return None
    try:
        return b"".join(file.parts(0, file.size))
    finally:
        file.close()


def names(folder: CacheFolder) -> list[str]:
    return sorted(str(path.relative_to(folder.path)) for path in folder.path.rglob("*") if not path.is_dir())


def test_a_whole_file_gets_its_name(folder: CacheFolder) -> None:
    """Nothing is there until the file is whole, and nothing but the file afterwards."""
    begun = folder.begin(IMAGE, CONTENT, len(DATA))
    assert begun is not None
    begun.write(DATA[:5])
    assert not begun.is_whole
    assert content_of(folder) is None
    begun.write(DATA[5:])
    assert begun.is_whole
    asked: list[tuple[int, int]] = []
    assert begun.finish(lambda size, stored_size: asked.append((size, stored_size)) is None)
    assert asked[0][0] == len(DATA) < asked[0][1]
    assert content_of(folder) == DATA
    assert names(folder) == [IMAGE]
    assert folder.images() == [IMAGE]


def test_a_file_that_nobody_wants(folder: CacheFolder) -> None:
    """What its row refuses goes away again, whether it says so or fails."""
    assert not fill(folder, kept=False)
    assert names(folder) == []
    begun = folder.begin(IMAGE, CONTENT, len(DATA))
    assert begun is not None
    begun.write(DATA)

    def refuse(_size: int, _stored_size: int) -> bool:
        raise RuntimeError("no")

    with pytest.raises(RuntimeError):
        begun.finish(refuse)
    assert names(folder) == []


def test_a_file_that_is_not_whole(folder: CacheFolder) -> None:
    """Missing bytes are an error, and leave nothing."""
    begun = folder.begin(IMAGE, CONTENT, len(DATA))
    assert begun is not None
    begun.write(DATA[:-1])
    with pytest.raises(ValueError, match="16 bytes of 17"):
        begun.finish(lambda _size, _stored_size: True)
    assert names(folder) == []


def test_one_writer_at_a_time(folder: CacheFolder) -> None:
    """A second one is told so, of this process or another; a fetch and other images have locks of their own."""
    begun = folder.begin(IMAGE, CONTENT, len(DATA))
    assert begun is not None
    assert folder.begin(IMAGE, CONTENT, len(DATA)) is None
    code = (
        "import sys; from pathlib import Path; from casimg_api.cache_folder import CacheFolder\n"
        "sys.exit(CacheFolder(Path(sys.argv[1])).begin(sys.argv[2], '0' * 32, 5) is not None)"
    )
    assert subprocess.run([sys.executable, "-c", code, str(folder.path), IMAGE], check=False).returncode == 0
    assert folder.is_filled_now(IMAGE)
    assert not folder.is_filled_now(OTHER)
    for other in (folder.begin(OTHER, CONTENT, 1), folder.begin(IMAGE, CONTENT, 1, is_fetch=True)):
        assert other is not None
        other.abandon()
    begun.abandon()
    assert not folder.is_filled_now(IMAGE)
    assert fill(folder)


def test_a_lock_that_is_given_up_meanwhile(folder: CacheFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    """Between opening a lock's file and taking the lock another one ends and a third begins: still one writes."""
    first = folder.begin(IMAGE, CONTENT, len(DATA))
    assert first is not None
    ending, third, really = [first], [], fcntl.flock

    def flock(fd: int, operation: int) -> None:
        if ending:
            ending.pop().abandon()
            third.append(folder.begin(IMAGE, CONTENT, len(DATA)))
        really(fd, operation)

    monkeypatch.setattr(fcntl, "flock", flock)
    assert folder.begin(IMAGE, CONTENT, len(DATA)) is None
    assert third[0] is not None
    third[0].abandon()
    assert names(folder) == []


def test_how_long_one_fills(folder: CacheFolder) -> None:
    """The age of a download that fills is known; of none it is nothing."""
    assert folder.fill_age_s(IMAGE) == 0
    begun = folder.begin(IMAGE, CONTENT, len(DATA))
    assert begun is not None
    past = time.time() - 100
    os.utime(folder.incomplete / f"{IMAGE}.lock", (past, past))
    assert 99 < folder.fill_age_s(IMAGE) < 200
    begun.abandon()
    assert folder.fill_age_s(IMAGE) == 0


def test_a_killed_writer_is_nobody(folder: CacheFolder) -> None:
    """What a killed process leaves is swept at once, and does not hold up the next writer."""
    code = (
        "import os, sys; from pathlib import Path; from casimg_api.cache_folder import CacheFolder\n"
        "begun = CacheFolder(Path(sys.argv[1])).begin(sys.argv[2], '0' * 32, 5)\n"
        "begun.write(b'ab'); os.kill(os.getpid(), 9)"
    )
    subprocess.run([sys.executable, "-c", code, str(folder.path), IMAGE], check=False)
    assert len(names(folder)) == 2  # the file and its lock
    assert fill(folder)
    assert content_of(folder) == DATA
    assert folder.sweep(86400) == 1
    assert names(folder) == [IMAGE]


def test_a_living_writer_is_left_alone(folder: CacheFolder) -> None:
    """What somebody writes stays, unless it has not grown for too long; then its writer gives it up."""
    begun = folder.begin(IMAGE, CONTENT, len(DATA))
    assert begun is not None
    begun.write(DATA)
    assert folder.sweep(86400) == 0
    past = time.time() - 1000
    for path in folder.incomplete.iterdir():
        os.utime(path, (past, past))
    assert folder.sweep(999) == 2
    with pytest.raises(OSError, match="No such file"):
        begun.finish(lambda _size, _stored_size: True)
    assert names(folder) == []


def test_what_is_not_ours_stays(folder: CacheFolder) -> None:
    """Other names are left alone, whatever they are; unfinished ones too."""
    (folder.path / "notes.txt").write_text("mine")
    (folder.path / f"{IMAGE}.bak").write_text("mine")
    (folder.incomplete / "movie.part").write_text("mine")
    assert folder.sweep(0) == 0
    assert folder.images() == []
    assert names(folder) == sorted([f"{IMAGE}.bak", "incomplete/movie.part", "notes.txt"])


def test_links_and_folders_of_an_images_name(folder: CacheFolder, tmp_path: Path) -> None:
    """A link is removed and never followed; a folder is in the way, and stays."""
    secret = tmp_path / "secret"
    secret.write_text("secret")
    (folder.path / IMAGE).symlink_to(secret)
    with pytest.raises(CachedFileError):
        folder.open(IMAGE)
    assert fill(folder)
    assert (secret.read_text(), content_of(folder)) == ("secret", DATA)
    (folder.path / OTHER).mkdir()
    with pytest.raises(CachedFileError):
        folder.open(OTHER)
    assert not folder.remove(OTHER)
    assert folder.begin(OTHER, CONTENT, 1) is None


def test_a_link_in_the_place_of_a_lock(folder: CacheFolder, tmp_path: Path) -> None:
    """A lock is not taken through a link, so no file elsewhere is made or changed."""
    (folder.incomplete / f"{IMAGE}.lock").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(OSError, match="symbolic links"):
        folder.begin(IMAGE, CONTENT, 1)
    assert not (tmp_path / "elsewhere").exists()
    assert folder.sweep(0) == 1


@pytest.mark.parametrize("name", ["../secret", "..", "", "x", f"{IMAGE}/x", IMAGE.upper(), "incomplete"])
def test_names_that_no_image_has(folder: CacheFolder, tmp_path: Path, name: str) -> None:
    """Nothing but an image's id becomes a path."""
    (tmp_path / "secret").write_text("secret")
    image_id = ImageId(name)
    assert folder.open(image_id) is None
    assert folder.begin(image_id, CONTENT, 1) is None
    assert not folder.remove(image_id)
    assert (tmp_path / "secret").exists()


def test_only_what_was_looked_at_is_removed(folder: CacheFolder) -> None:
    """A file that took the place of a damaged one stays."""
    fill(folder)
    old = folder.open(IMAGE)
    assert old is not None
    fill(folder)
    assert not folder.remove(IMAGE, only=old)
    assert content_of(folder) == DATA
    old.close()
    new = folder.open(IMAGE)
    assert new is not None
    assert folder.remove(IMAGE, only=new)
    new.close()
    assert not folder.remove(IMAGE)


def test_room_is_left_to_others(folder: CacheFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file that would fill the disk is not begun."""
    assert folder.has_room(1)
    assert not folder.has_room(1 << 60)
    monkeypatch.setattr(cache_folder, "FREE_SIZE_MIN", 1 << 60)
    assert not folder.has_room(1)


def test_folders_that_cannot_be_used(tmp_path: Path) -> None:
    """A file in the folder's place, a link in the place of what is in it, and a folder of everybody are refused."""
    (tmp_path / "file").write_text("x")
    (tmp_path / "linked").mkdir()
    (tmp_path / "linked" / "incomplete").symlink_to(tmp_path)
    (tmp_path / "open").mkdir()
    (tmp_path / "open").chmod(0o777)
    for name, why in (("file", "cannot be used"), ("linked", "no link"), ("open", "everybody")):
        with pytest.raises(ConfigError, match=why):
            CacheFolder(tmp_path / name)
    made = CacheFolder(tmp_path / "new" / "folder")
    assert made.path.stat().st_mode & 0o777 == 0o700


def test_a_folder_that_may_be_a_link(tmp_path: Path) -> None:
    """The folder itself may be a link to where there is room."""
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "real")
    folder = CacheFolder(tmp_path / "link")
    assert fill(folder)
    assert (tmp_path / "real" / IMAGE).is_file()
