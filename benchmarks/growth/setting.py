"""What every benchmark of growth is told, and the image it measures with."""

import hashlib
import shutil
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import Any, ParamSpec, TypeVar

from benchmarks.growth.made import write_made
from benchmarks.images import load_family
from casimg.constants import MIB

Rows = Sequence[Mapping[str, Any]]
T = TypeVar("T")
P = ParamSpec("P")


@dataclass(frozen=True, slots=True)
class Setting:
    """One run.

    Attributes:
        small: sizes for a minute in all.
        images: folder of the family; one that is not there is made up for.
        folder: where repositories and files go; removed again.
    """

    small: bool
    images: Path
    folder: Path

    def pick(self, full: T, small: T) -> T:
        """Return the value for this run."""
        return small if self.small else full

    @contextmanager
    def work(self, name: str) -> Iterator[Path]:
        """Give an empty folder, removed afterwards."""
        folder = self.folder / name
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        try:
            yield folder
        finally:
            shutil.rmtree(folder, ignore_errors=True)

    def subject(self, folder: Path) -> "Subject":
        """Return the first instance of the family, else its first golden, else data made in `folder`."""
        try:
            family = load_family(self.images)
        except FileNotFoundError:
            family = None
        for image in (*family.generations, *family.goldens) if family is not None else ():
            return Subject(image.name, image.path, image.size, image.sha256)
        path, size = folder / "made.raw", self.pick(1024 * MIB, 128 * MIB)
        return Subject("made", path, size, write_made(path, size)[size])


@dataclass(frozen=True, slots=True)
class Subject:
    """A raw image to measure with; `sha256` in hex."""

    name: str
    path: Path
    size: int
    sha256: str


def alone(call: Callable[P, T], *arguments: P.args, **named: P.kwargs) -> T:
    """Call a function of a module in a fresh process and return its result: memory of earlier calls does not count."""
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        return pool.submit(call, *arguments, **named).result()


def sha256_of(path: Path) -> str:
    """Return the hash of a file in hex. Cost: reads it once."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def say(text: str) -> None:
    """Print progress on stderr."""
    print(f"growth: {text}", file=sys.stderr, flush=True)


def fitting(sizes: Sequence[int], folder: Path, times: float) -> list[int]:
    """Return the sizes of which `times` as much is free where `folder` is; the smallest always."""
    free = shutil.disk_usage(folder).free
    return [size for size in sizes if size == min(sizes) or size * times <= free]
