"""Where a restore may write: new files, existing files, links, devices, pipes; and what it refuses."""

import os
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

import casimg
from casimg.repository import Repository
from tests.conftest import mixed_bytes, needs_root

DATA = bytes(mixed_bytes(3_000_000)) + bytes(9 << 20) + b"the end" * 1000


@pytest.fixture
def image(repo: Repository) -> Repository:
    """A repository with one image that has holes."""
    repo.put([DATA], name="image")
    return repo


@pytest.fixture
def device(tmp_path: Path) -> Iterator[Path]:
    """A loop device of 32 MiB full of 0xFF."""
    needs_root()
    backing = tmp_path / "backing"
    backing.write_bytes(b"\xff" * (32 << 20))
    found = subprocess.run(["losetup", "--find", "--show", str(backing)], capture_output=True, text=True, check=False)
    if found.returncode:
        pytest.skip(f"no loop devices here: {found.stderr.strip()}")
    path = Path(found.stdout.strip())
    yield path
    subprocess.run(["losetup", "--detach", str(path)], check=True)


def test_an_existing_file_is_replaced_whole(image: Repository, tmp_path: Path) -> None:
    """What was there is replaced in one step, its mode kept; nothing of it shows through the holes."""
    target = tmp_path / "out.raw"
    target.write_bytes(b"\xff" * (20 << 20))
    target.chmod(0o640)
    image.get("image", target)
    assert target.read_bytes() == DATA
    assert target.stat().st_mode & 0o777 == 0o640


def test_in_place_keeps_the_file_and_zeroes_its_holes(image: Repository, tmp_path: Path) -> None:
    """With in_place the inode stays, holes are written as zeros, and a longer file is cut."""
    target = tmp_path / "out.raw"
    target.write_bytes(b"\xff" * (20 << 20))
    inode = target.stat().st_ino
    image.get("image", target, in_place=True)
    assert target.read_bytes() == DATA
    assert target.stat().st_ino == inode


def test_a_link_is_followed(image: Repository, tmp_path: Path) -> None:
    """A restore to a symbolic link replaces what it points to, not the link."""
    (tmp_path / "real").write_bytes(b"old")
    (tmp_path / "link").symlink_to(tmp_path / "real")
    image.get("image", tmp_path / "link")
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "real").read_bytes() == DATA


def test_a_device_gets_zeros_for_holes(image: Repository, device: Path) -> None:
    """Onto a block device every byte of the image is written, holes as zeros; bytes past the image stay."""
    image.get("image", device)
    with device.open("rb") as file:
        assert file.read(len(DATA)) == DATA
        assert set(file.read(4096)) == {0xFF}


def test_a_device_goes_in_as_it_comes_out(image: Repository, device: Path) -> None:
    """A block device is a source like a file, with the same root."""
    image.get("image", device)
    report = image.put_report(device, name="device")
    assert report.size == 32 << 20
    with image.open_image("device") as file:
        assert file.read(len(DATA)) == DATA


def test_a_mounted_device_is_refused(image: Repository, device: Path, tmp_path: Path) -> None:
    """A device with a mounted file system is refused untouched; unmounted it is taken."""
    mount = tmp_path / "mounted"
    mount.mkdir()
    subprocess.run(["mke2fs", "-q", "-F", str(device)], check=True)
    subprocess.run(["mount", str(device), str(mount)], check=True)
    try:
        with pytest.raises(casimg.errors.TargetError, match="mounted or in use"):
            image.get("image", device)
    finally:
        subprocess.run(["umount", str(mount)], check=True)
    image.get("image", device)


def test_a_device_too_small_is_refused(repo: Repository, device: Path) -> None:
    """An image larger than the device is refused before a byte is written."""
    repo.put([b"x" * (33 << 20)], name="large")
    with pytest.raises(casimg.errors.TargetError, match="the device has"):
        repo.get("large", device)
    with device.open("rb") as file:
        assert set(file.read(4096)) == {0xFF}


def test_a_fifo_gets_the_bytes_in_order(image: Repository, tmp_path: Path) -> None:
    """A named pipe is written like standard output."""
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    got: list[bytes] = []
    reader = threading.Thread(target=lambda: got.append(fifo.read_bytes()))
    reader.start()
    image.get("image", fifo)
    reader.join()
    assert got == [DATA]


def test_a_failed_restore_leaves_the_old_file(image: Repository, tmp_path: Path) -> None:
    """When the image is damaged the file under the final name is what it was."""
    target = tmp_path / "out.raw"
    target.write_bytes(b"precious")
    for path in (image.path / "objects" / "packs").rglob("*"):
        if path.is_file():
            os.truncate(path, 20)
    with pytest.raises(casimg.errors.DamageError):
        image.get("image", target)
    assert target.read_bytes() == b"precious"


def test_the_owner_of_a_replaced_file_stays(image: Repository, tmp_path: Path) -> None:
    """Root restoring over another user's file leaves it that user's."""
    needs_root()
    target = tmp_path / "out.raw"
    target.write_bytes(b"theirs")
    os.chown(target, 1234, 1234)
    image.get("image", target)
    assert (target.stat().st_uid, target.stat().st_gid) == (1234, 1234)
