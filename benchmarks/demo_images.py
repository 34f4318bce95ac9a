"""Make real ext4 images of real files for the demo: two built independently, and a third day of the first.

Files come from /usr of this machine: regular, readable by everybody, taken in a seeded order. `mke2fs -d` writes the
file systems; `debugfs` changes the third like a running machine would. Neither needs root or a loop device.
"""

import os
import random
import shutil
import stat
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

MIB = 1 << 20
IMAGE_SIZE = 640 * MIB
DATA_SIZE = 400 * MIB
_FILE_SIZE_MAX = 24 * MIB
_SEED = 20261124


@dataclass(frozen=True, slots=True)
class DemoImages:
    """Paths of the images and the measured differences between their files."""

    first: Path
    second: Path
    third: Path
    file_count: int
    data_size: int
    different_share: float
    """Share of the second image's files that the first does not have, by path and content."""
    changed_in_place: int


def tool(name: str) -> str:
    """Return the path of a program of e2fsprogs, which Debian keeps outside users' PATH."""
    found = shutil.which(name, path=os.environ.get("PATH", "") + ":/usr/sbin:/sbin")
    if found is None:
        raise SystemExit(f"the demo needs {name}: apt-get install e2fsprogs")
    return found


def make_images(folder: Path) -> DemoImages:
    """Build the three images in `folder` and return what is in them."""
    mke2fs, debugfs = tool("mke2fs"), tool("debugfs")
    rng = random.Random(_SEED)
    files = list(_real_files())
    rng.shuffle(files)
    chosen = _up_to(files, DATA_SIZE)
    kept_size = int(DATA_SIZE * 0.72)
    kept = _up_to(chosen, kept_size)
    taken = set(chosen)
    others = _up_to([file for file in files if file not in taken], DATA_SIZE - kept_size)

    first_tree, second_tree = folder / "tree-1", folder / "tree-2"
    _fill_first(first_tree, chosen)
    # Other folders, other names, another order: blocks land elsewhere.
    second = [*kept, *others]
    rng.shuffle(second)
    changed = 0
    for number, file in enumerate(second):
        target = second_tree / f"srv{number % 23:02}" / f"{number:06}-{file.name}"
        _copy(file, target)
        if number % 25 == 0 and target.stat().st_size > 64 * 1024:
            _change_in_place(target, rng)
            changed += 1
    first, second_image, third = (folder / f"image-{number}.raw" for number in (1, 2, 3))
    _mke2fs(mke2fs, first_tree, first)
    _mke2fs(mke2fs, second_tree, second_image)
    # Files that neither image has, so that what the day adds is the day's alone.
    known = taken | set(others)
    newer = [file for file in files if file not in known][:20]
    _third_day(debugfs, first, third, first_tree, newer, rng)
    different = len(others) + changed
    shutil.rmtree(first_tree)
    shutil.rmtree(second_tree)
    return DemoImages(
        first=first,
        second=second_image,
        third=third,
        file_count=len(chosen),
        data_size=sum(file.stat().st_size for file in chosen),
        different_share=different / len(second),
        changed_in_place=changed,
    )


def make_first(folder: Path, *, image_size: int = IMAGE_SIZE, data_size: int = DATA_SIZE) -> Path:
    """Build only the first image, of other sizes if asked for: bytes, those of the image whole MiB."""
    files = list(_real_files())
    random.Random(_SEED).shuffle(files)
    tree, image = folder / "tree-1", folder / "image-1.raw"
    _fill_first(tree, _up_to(files, data_size))
    _mke2fs(tool("mke2fs"), tree, image, image_size)
    shutil.rmtree(tree)
    return image


def _fill_first(tree: Path, files: list[Path]) -> None:
    for number, file in enumerate(files):
        _copy(file, tree / f"d{number % 40:02}" / f"{number:06}-{file.name}")


def _real_files() -> Iterator[Path]:
    for root in ("/usr/lib", "/usr/bin", "/usr/share", "/usr/include", "/usr/sbin", "/usr/libexec"):
        for folder, folders, names in os.walk(root):
            folders.sort()
            for name in sorted(names):
                path = Path(folder, name)
                try:
                    info = path.lstat()
                except OSError:
                    continue
                if stat.S_ISREG(info.st_mode) and info.st_mode & stat.S_IROTH and 0 < info.st_size <= _FILE_SIZE_MAX:
                    yield path


def _up_to(files: list[Path], size: int) -> list[Path]:
    chosen, total = [], 0
    for file in files:
        if total >= size:
            break
        chosen.append(file)
        total += file.stat().st_size
    return chosen


def _copy(source: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(source, target)


def _change_in_place(path: Path, rng: random.Random) -> None:
    with path.open("r+b") as file:
        file.seek(rng.randrange(0, path.stat().st_size - 8192))
        file.write(rng.randbytes(8192))


def _mke2fs(mke2fs: str, tree: Path, image: Path, size: int = IMAGE_SIZE) -> None:
    image.unlink(missing_ok=True)
    command = [
        mke2fs,
        "-q",
        "-t",
        "ext4",
        "-b",
        "4096",
        "-m",
        "0",
        "-d",
        str(tree),
        str(image),
        f"{size // MIB}M",
    ]
    subprocess.run(command, check=True, capture_output=True)


def _third_day(debugfs: str, first: Path, third: Path, tree: Path, newer: list[Path], rng: random.Random) -> None:
    """Copy the first image and use it: files removed, files written, a few overwritten blocks."""
    subprocess.run(["cp", "--sparse=always", str(first), str(third)], check=True)
    paths = sorted(path for path in tree.rglob("*") if path.is_file())
    commands = [f"rm /{path.relative_to(tree)}" for path in rng.sample(paths, max(1, len(paths) // 100))]
    commands.append("mkdir /new")
    for number, file in enumerate(newer):
        commands.append(f'write "{file}" /new/{number:03}')
    script = third.with_suffix(".debugfs")
    script.write_text("\n".join(commands) + "\n")
    subprocess.run([debugfs, "-w", "-f", str(script), str(third)], check=True, capture_output=True)
    script.unlink()


def changed_ranges(old: Path, new: Path, step: int = 65536) -> Iterator[tuple[int, int]]:
    """Yield the (offset, size) ranges where two files differ, as a hypervisor's dirty bitmap would say it."""
    start: int | None = None
    offset = 0
    with old.open("rb") as a, new.open("rb") as b:
        while True:
            left, right = a.read(step), b.read(step)
            if left != right and start is None:
                start = offset
            elif left == right and start is not None:
                yield start, offset - start
                start = None
            if not right:
                return
            offset += len(right)
