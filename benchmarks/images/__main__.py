"""Build the image family that the benchmarks use, or go on where a build was stopped. Needs root."""

import argparse
import fcntl
import sys
from pathlib import Path

from benchmarks.images.maker import make_family
from benchmarks.images.mounts import in_namespaces, is_root
from benchmarks.images.programs import ProgramFailedError, missing_tools
from benchmarks.images.recipe import FULL, SMALL
from casimg.sizes import format_size

_INSIDE = "--inside"


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.images", description=__doc__)
    parser.add_argument("--small", action="store_true", help="the family of 176 MiB disks, built in minutes")
    parser.add_argument("--folder", type=Path, help="default: .bench/images, with --small .bench/images-small")
    parser.add_argument("--json", action="store_true", help="print the manifest")
    parser.add_argument(_INSIDE, action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    folder: Path = arguments.folder or Path(".bench/images-small" if arguments.small else ".bench/images")
    if not is_root():
        print("building images needs root: loop mounts and chroots", file=sys.stderr)
        return 2
    if missing := missing_tools():
        print(f"missing: {' '.join(missing)}: `make bench-images` installs them", file=sys.stderr)
        return 2
    if not arguments.inside:
        return in_namespaces([sys.executable, "-m", "benchmarks.images", *sys.argv[1:], _INSIDE])
    return _build(arguments.small, folder, arguments.json)


def _build(small: bool, folder: Path, json: bool) -> int:
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / ".lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            family = make_family(SMALL if small else FULL, folder)
        except BlockingIOError:
            print(f"another build is at work in {folder}", file=sys.stderr)
            return 1
        except (ProgramFailedError, ValueError) as error:
            print(error, file=sys.stderr)
            return 1
        except KeyboardInterrupt:
            print("stopped; run again to go on", file=sys.stderr)
            return 130
    if json:
        print(family.as_json(), end="")
        return 0
    for image in family.images:
        print(f"{image.path.name:26} {format_size(image.size):>10} {format_size(image.data_size):>10} not in holes")
    return 0


if __name__ == "__main__":
    sys.exit(main())
