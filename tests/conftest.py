"""What all tests share: repositories in temporary folders, bytes worth storing, and how Hypothesis runs."""

import os
import random
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

import casimg
from casimg.repository import Repository

settings.register_profile(
    "casimg",
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture, HealthCheck.data_too_large],
)
settings.load_profile("casimg")


@pytest.fixture
def repo(tmp_path: Path) -> Iterator[Repository]:
    """A new repository with 16 KiB chunks."""
    with casimg.create(tmp_path / "repository") as opened:
        yield opened


def mixed_bytes(size: int, seed: int = 1) -> bytearray:
    """Bytes like a disk's: random runs, text, repeats and holes, not aligned to anything."""
    rng = random.Random(seed)
    data = bytearray()
    while len(data) < size:
        kind = rng.randrange(5)
        length = rng.choice((1, 700, 4096, 5000, 65536, 200_000))
        if kind == 0:
            data += bytes(length)
        elif kind == 1:
            data += bytes([rng.randrange(256)]) * length
        elif kind == 2:
            data += (b"the quick brown fox %d " % rng.randrange(1000)) * (length // 20 + 1)
        else:
            data += rng.randbytes(length)
    return data[:size]


def needs_root() -> None:
    """Skip a test that needs root, with the reason."""
    if os.geteuid() != 0:
        pytest.skip("needs root: loop devices and mounts")
