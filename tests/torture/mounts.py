"""Small file systems of our own: on loop devices and in memory, mounted and always unmounted.

Only what a test made itself is ever unmounted or removed.
"""

import os
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class FileSystem:
    """A kind of file system on a loop device.

    Attributes:
        size: bytes of the device.
        options: mount options under which nothing is written back by itself for long, and no rename implies a flush.
    """

    name: str
    make: tuple[str, ...]
    size: int
    options: str

    def why_not(self) -> str | None:
        """Return why it cannot be used here, None when it can."""
        if os.geteuid() != 0:
            return "needs root: loop devices and mounts"
        if shutil.which(self.make[0]) is None:
            return f"{self.make[0]} is not installed"
        if self.name not in Path("/proc/filesystems").read_text().split() and not _loads(self.name):
            return f"this kernel has no {self.name}"
        if not Path("/dev/loop-control").exists():
            return "there are no loop devices"
        return None

    def new(self, image: Path) -> None:
        """Make an empty file system in a new sparse file."""
        with image.open("wb") as file:
            file.truncate(self.size)
        run([*self.make, str(image)])

    @contextmanager
    def mounted(self, image: Path, point: Path) -> Iterator[Path]:
        """Give the file system at a folder, recovering its journal as after a power cut."""
        point.mkdir(exist_ok=True)
        run(["mount", "-t", self.name, "-o", f"loop,{self.options}", str(image), str(point)])
        try:
            yield point
        finally:
            unmount(point)


EXT4 = FileSystem(
    "ext4", ("mkfs.ext4", "-q", "-F", "-E", "lazy_itable_init=1"), 192 << 20, "noauto_da_alloc,commit=300"
)
XFS = FileSystem("xfs", ("mkfs.xfs", "-q", "-f"), 320 << 20, "nouuid")
BTRFS = FileSystem("btrfs", ("mkfs.btrfs", "-q", "-f"), 320 << 20, "commit=300")
FILE_SYSTEMS = (EXT4, XFS, BTRFS)


@contextmanager
def memory(point: Path, size: int) -> Iterator[Path]:
    """Give a tmpfs of `size` bytes at a folder."""
    point.mkdir(exist_ok=True)
    run(["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(point)])
    try:
        yield point
    finally:
        unmount(point)


def unmount(point: Path) -> None:
    """Unmount, waiting for a killed process to let go; at last lazily."""
    for _ in range(50):
        if subprocess.run(["umount", str(point)], capture_output=True, check=False).returncode == 0:
            return
        time.sleep(0.1)
    run(["umount", "-l", str(point)])


def run(command: list[str]) -> None:
    """Run a command; what it said is in the error."""
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"{' '.join(command)}: {done.stderr.strip()}")


def _loads(module: str) -> bool:
    return subprocess.run(["modprobe", "-q", module], capture_output=True, check=False).returncode == 0
