"""Data made by BLAKE3's output stream: half of its blocks of 1 MiB are new, half repeat earlier ones. They do not
compress."""

import hashlib
import os
import random
from collections.abc import Collection
from pathlib import Path

from blake3 import blake3

from casimg.constants import MIB
from casimg.results.images import ByteRange

BLOCK = MIB


def origin(number: int) -> int:
    """Return the number of the block that block `number` repeats: its own when it is new, as even ones are."""
    return number if number % 2 == 0 else number // 2 & ~1


def fresh(size: int, seed: int, number: int = 0) -> bytes:
    """Return bytes that no other seed or number gives."""
    return blake3(b"%d/%d" % (seed, number)).digest(size)


def write_made(path: Path, size: int, *, seed: int = 0, marks: Collection[int] | None = None) -> dict[int, str]:
    """Write a file without holes and return the SHA-256, in hex, of its first bytes up to each mark.

    Args:
        size, marks: bytes, whole MiB. Without marks the whole file is hashed; an empty list hashes nothing.
    """
    wanted = {size} if marks is None else set(marks)
    sha256 = hashlib.sha256()
    found: dict[int, str] = {}
    with path.open("wb", buffering=0) as file:
        for number in range(size // BLOCK):
            part = fresh(BLOCK, seed, origin(number))
            file.write(part)
            if wanted:
                sha256.update(part)
            if (number + 1) * BLOCK in wanted:
                found[(number + 1) * BLOCK] = sha256.hexdigest()
        os.fsync(file.fileno())
    return found


def spread(disk_size: int, changed_size: int, run_size: int, seed: int) -> list[ByteRange]:
    """Return `changed_size` bytes of a disk in runs at random places, in order; no two overlap."""
    rng = random.Random(seed)
    places = rng.sample(range(disk_size // run_size), changed_size // run_size)
    return [ByteRange(place * run_size, run_size) for place in sorted(places)]


def overwrite(path: Path, ranges: Collection[ByteRange], seed: int) -> None:
    """Write new bytes over ranges of a file, durably."""
    with path.open("r+b", buffering=0) as file:
        for number, at in enumerate(ranges):
            os.pwrite(file.fileno(), fresh(at.size, seed, number), at.offset)
        os.fsync(file.fileno())
