"""`make demo`: store real disk images, take snapshots, give everything back and compare every byte.

In: images made on the spot (`demo_images`) and any others named on the command line. Out: progress while it runs, a
table (`demo_report`), and an exit status: 0 when every comparison held, 1 when one did not or casimg failed, 2 when
the demo cannot run here. It uses the public API only.
"""

import argparse
import hashlib
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from rich.console import Console

import casimg
from benchmarks.demo_images import DATA_SIZE, IMAGE_SIZE, DemoImages, changed_ranges, make_images, tool
from benchmarks.demo_report import Outcome, Row, Ticker, machine, print_report, say
from casimg.constants import MIB
from casimg.progress import ProgressCallback
from casimg.results.images import PutReport
from casimg.sizes import format_size

DISK_SPARE = 512 * MIB
MARKER = "made-by-casimg-demo"
"""A folder without this file is not the demo's to empty."""

T = TypeVar("T")


class DemoError(Exception):
    """The demo cannot run here; the message says why and what to do."""


@dataclass(frozen=True, slots=True)
class Stored:
    """An image that the demo stored: its file to compare with, and what storing it did."""

    name: str
    image_id: str
    file: Path
    report: PutReport
    instant: bool = False


class Demo:
    """One run in one folder. Threads: one."""

    def __init__(self, folder: Path, console: Console) -> None:
        self.folder = folder
        self.console = console
        self.sha256: dict[Path, str] = {}
        self.failures: list[str] = []

    def run(self, images: DemoImages, extras: list[Path]) -> Outcome:
        """Do it all. Raises: CasimgError, OSError."""
        begin_s = time.monotonic()
        with casimg.create(self.folder / "repository") as repo:
            say(self.console, f"repository: {repo.chunker}, chunks of {format_size(repo.chunk_size)} on average")
            stored = self.store_all(repo, images, extras)
            rows = [self.give_back(repo, item) for item in stored]
            stats = repo.stats()
            first, second = stored[0], next(item for item in stored if item.file == images.second)
            verified = self.timed(
                f"verify {first.name}", lambda tell: repo.verify(first.image_id, first.file, progress=tell)
            )
            self.expect(verified.equal, f"verify {first.name}: {verified.difference_size} bytes differ")

            before = tree_size(repo.path / "objects")
            repo.delete(second.image_id)
            freed = self.timed(f"rm {second.name}, gc", lambda tell: repo.plan_gc().execute(tell))
            after = tree_size(repo.path / "objects")
            self.expect(after < before, f"deleting {second.name} gave no space back: {before} -> {after} bytes")
            check = self.timed("check, all data read", lambda tell: repo.check(read_data=True, progress=tell))
            self.expect(check.clean, "check found " + "; ".join(problem.what for problem in check.problems))
        return Outcome(
            rows=tuple(rows),
            file_count=images.file_count,
            different_share=images.different_share,
            stats=stats,
            verify_equal=verified.equal,
            freed_size=freed.size - freed.repack_new_size - freed.gathered_size,
            objects_size_before=before,
            objects_size_after=after,
            check_clean=check.clean,
            failures=tuple(self.failures),
            duration_s=time.monotonic() - begin_s,
        )

    def store_all(self, repo: casimg.Repository, images: DemoImages, extras: list[Path]) -> list[Stored]:
        """Put system-a, take its snapshots, put system-b and the others.

        system-b comes after the snapshots: a chunk that a later image finds in its packs would keep them whole when
        system-b is deleted.
        """
        first = self.put(repo, "system-a", images.first)
        parent = first.image_id
        name = "snapshot of system-a"
        report = self.timed(name, lambda _: repo.snapshot_report(parent, name=name))
        instant = Stored(name, image_id(report), images.first, report, instant=True)
        changed = self.write_changed_map(images)
        with_map = self.snapshot(repo, parent, "a day later, with map", images.third, changed)
        without = self.snapshot(repo, parent, "a day later, no map", images.third, None)
        self.expect(with_map.report.root == without.report.root, "the snapshots with and without a map differ")
        others = [("system-b", images.second), *((printable(path), path) for path in extras)]
        return [first, instant, with_map, without, *(self.put(repo, name, file) for name, file in others)]

    def write_changed_map(self, images: DemoImages) -> Path:
        """Write the map of what the day changed, as lines `offset size`, and return its path."""
        ranges = list(changed_ranges(images.first, images.third))
        target = self.folder / "day.map"
        target.write_text("# offset size\n" + "".join(f"{offset} {size}\n" for offset, size in ranges))
        say(self.console, f"the day changed {format_size(sum(size for _, size in ranges))} in {len(ranges)} ranges")
        return target

    def put(self, repo: casimg.Repository, name: str, file: Path) -> Stored:
        report = self.timed(f"put {name}", lambda tell: repo.put_report(file, name=name, same_name=True, progress=tell))
        return Stored(name, image_id(report), file, report)

    def snapshot(self, repo: casimg.Repository, parent: str, name: str, disk: Path, changed: Path | None) -> Stored:
        report = self.timed(
            name,
            lambda tell: repo.snapshot_report(parent, name=name, source=disk, changed=changed, progress=tell),
        )
        return Stored(name, image_id(report), disk, report)

    def give_back(self, repo: casimg.Repository, item: Stored) -> Row:
        """Restore an image to a file and compare SHA-256 of what went in and what came out."""
        target = self.folder / "restored.raw"
        got = self.timed(f"get {item.name}", lambda tell: repo.get(item.image_id, target, progress=tell))
        if item.file not in self.sha256:
            self.sha256[item.file] = sha256_of(item.file)
        expected, actual = self.sha256[item.file], sha256_of(target)
        target.unlink()
        self.expect(expected == actual, f"{item.name}: {expected} went in and {actual} came out")
        report = item.report
        return Row(
            name=item.name,
            virtual_size=report.size,
            hole_size=report.hole_size,
            plain_size=report.size - report.hole_size,
            new_size=report.new_size,
            stored_size=report.stored_size + report.metadata_size,
            put_s=report.duration_s,
            get_s=got.duration_s,
            sha256=actual,
            equal=expected == actual,
            instant=item.instant,
        )

    def timed(self, title: str, work: Callable[[ProgressCallback], T]) -> T:
        """Run one step and show its progress."""
        with Ticker(self.console, title) as ticker:
            return work(ticker.tell)

    def expect(self, holds: bool, failure: str) -> None:
        """Note a failure and go on: the report shows all of them."""
        if not holds:
            self.failures.append(failure)
            say(self.console, f"FAILED: {failure}")


def image_id(report: PutReport) -> str:
    """Return the id of the image that a report is about."""
    if report.image is None:
        raise DemoError("casimg stored bytes and made no image of them")
    return report.image.id


def printable(path: Path) -> str:
    """Return a name for an image, made of its file's name."""
    return "".join(letter if letter.isprintable() else "?" for letter in path.name)[:200] or "image"


def sha256_of(path: Path) -> str:
    """Return the SHA-256 of a file or block device, in hex."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def tree_size(folder: Path) -> int:
    """Return the bytes of all files below a folder."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def size_of(path: Path) -> int:
    """Return the size of an image file or block device. Raises: DemoError when it cannot be stored."""
    if not path.is_file() and not path.is_block_device():
        raise DemoError(f"{path} is {'not a file' if path.exists() else 'not there'}; IMAGES takes disk images")
    try:
        with path.open("rb") as file:
            return file.seek(0, os.SEEK_END)
    except OSError as error:
        raise DemoError(f"{path} cannot be read: {error.strerror}") from None


def prepare(folder: Path, extra_sizes: list[int]) -> None:
    """Make the folder anew and refuse when the disk is too small for what is coming. Raises: DemoError."""
    if folder.exists() and not (folder / MARKER).is_file() and any(folder.iterdir()):
        raise DemoError(f"{folder} holds files that are not the demo's; name another with --folder")
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    (folder / MARKER).touch()
    # Three images, their packs, and one restored image at a time.
    needed = 3 * IMAGE_SIZE + 2 * DATA_SIZE + sum(extra_sizes) + max(IMAGE_SIZE, *extra_sizes, 0) + DISK_SPARE
    free = shutil.disk_usage(folder).free
    if free < needed:
        raise DemoError(f"the demo needs {format_size(needed)} of free disk at {folder}; there is {format_size(free)}")


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="make demo", description="Store real disk images and give them back.")
    parser.add_argument("images", nargs="*", type=Path, help="more disk images to store, as they are")
    parser.add_argument("--folder", type=Path, default=Path(".demo"), help="where to work (default: .demo)")
    parser.add_argument("--keep", action="store_true", help="leave images and repository in the folder")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures to a file as well")
    return parser.parse_args()


def main() -> int:
    """Run the demo and return its exit status."""
    arguments = parse_arguments()
    console = Console(width=None if sys.stdout.isatty() else 140)
    folder: Path = arguments.folder
    owned = False
    try:
        for name in ("mke2fs", "debugfs"):
            tool(name)
        extra_sizes = [size_of(path) for path in arguments.images]
        prepare(folder, extra_sizes)
        owned = True
        say(console, f"machine: {machine()}")
        begin_s = time.monotonic()
        say(console, "making three ext4 images of files of this machine")
        images = make_images(folder)
        say(
            console,
            f"made in {time.monotonic() - begin_s:.1f} s: {format_size(IMAGE_SIZE)} each; the first holds "
            f"{images.file_count} files, {format_size(images.data_size)} of real data; {images.different_share:.1%} of "
            f"the second's files are not in the first, {images.changed_in_place} of them changed in place",
        )
        outcome = Demo(folder, console).run(images, arguments.images)
        print_report(console, outcome)
        if arguments.json:
            arguments.json.write_text(json.dumps(outcome.to_json(), indent=2, default=str) + "\n")
    except DemoError as error:
        print(f"demo: {error}", file=sys.stderr)
        return 2
    except (casimg.CasimgError, OSError, subprocess.CalledProcessError) as error:
        print(f"demo: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("demo: interrupted", file=sys.stderr)
        return 130
    finally:
        if owned and not arguments.keep:
            shutil.rmtree(folder, ignore_errors=True)
    if arguments.keep:
        say(console, f"Kept: {folder}; look around with: casimg -r {folder / 'repository'} ls")
    return 1 if outcome.failures else 0


if __name__ == "__main__":
    sys.exit(main())
