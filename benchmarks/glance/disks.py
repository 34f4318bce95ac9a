"""The disks that are uploaded: raw images of the family when they are there, else made ones of real files.

Each kind says how new its bytes are:

- `new`: an image that shares nothing with what is stored, with the holes that disks of virtual machines have;
- `other`: the same with other bytes of the same kind: every byte but zero replaced by another, so that it compresses
  as well and has the same holes, and none of its data is known;
- `dense`: data without holes;
- `before`, `after`: a disk and its next generation.
"""

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from benchmarks.demo_images import make_images
from casimg.constants import MIB

_BLOCK_SIZE: Final = MIB
_OTHER: Final = bytes([0, *(1 + (byte + 88) % 255 for byte in range(1, 256))])
_DENSE_FROM: Final = ("database.raw", "build.raw", "base.raw")


@dataclass(frozen=True, slots=True)
class Disks:
    """Paths of the disks.

    Attributes:
        family: where they come from, in words.
    """

    new: Path
    other: Path
    dense: Path
    before: Path
    after: Path
    family: str


def find_disks(images: Path | None, folder: Path, *, small: bool) -> Disks:
    """Return the disks, making what is not in the family below `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    usual = Path(".bench/images-small" if small else ".bench/images")
    for place in (images, usual):
        if place is None:
            continue
        new, before, after = (place / f"{name}.raw" for name in ("base", "instance-1", "instance-2"))
        if new.exists() and before.exists() and after.exists():  # a family may be half built
            source = next(place / name for name in _DENSE_FROM if (place / name).exists())
            family = f"golden images and generations of `benchmarks.images` ({'small' if small else 'full'})"
            break
    else:
        if not (folder / "image-3.raw").exists():
            make_images(folder)
        new, before, after = (folder / f"image-{number}.raw" for number in (2, 1, 3))
        source, family = new, "made of files of this machine"
    other, dense = folder / "other.raw", folder / "dense.raw"
    _write_other(new, other)
    _write_dense(source, dense, (128 if small else 768) * MIB)
    return Disks(new, other, dense, before, after, family)


def _write_other(source: Path, target: Path) -> None:
    with source.open("rb") as old, target.open("wb") as new:
        while block := old.read(_BLOCK_SIZE):
            if block.count(0) == len(block):
                new.seek(len(block), os.SEEK_CUR)
            else:
                new.write(block.translate(_OTHER))
        new.truncate()


def _write_dense(source: Path, target: Path, size_max: int) -> None:
    """Write the blocks of a disk that are not zeros throughout, one after another, with other bytes than the disk's."""
    table = bytes.maketrans(_OTHER, bytes(range(256)))
    with source.open("rb") as old, target.open("wb") as new:
        while new.tell() < size_max and (block := old.read(_BLOCK_SIZE)):
            kept = [block[at : at + 4096] for at in range(0, len(block), 4096)]
            new.write(b"".join(one for one in kept if one.count(0) < len(one)).translate(table))
