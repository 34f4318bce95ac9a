"""What each chunker and chunk size makes of real images: dedup, compression, index, speed, in one table.

    python -m benchmarks.chunkers [IMAGE ...] [--images FOLDER] [--small] [--json] [--results FOLDER] [--sample N]

Without images it takes the raw images of the family. The chunkers are dealt out to two processes; in each, every
chunker cuts the same buffer after one read. Out: a table, and `chunkers.json`.
"""

import argparse
import json
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from benchmarks import measure
from benchmarks.chunkers.counting import LEVEL, Samples
from benchmarks.chunkers.dealing import compare
from benchmarks.images import load_family
from casimg.chunker import description
from casimg.constants import GIB
from casimg.errors import CasimgError
from casimg.sizes import format_size

_ALONE_IN_FULL_MAX = 2 * GIB
_ALONE_EVERY = 4
"""Compressing is nearly all of the time, and each chunk alone only a comparison: of much data every 4th segment."""


def main() -> int:
    """Count, print, save; 0 when all went well, 2 when there are no images."""
    options = parse_arguments()
    folder: Path = options.folder or Path(".bench/images-small" if options.small else ".bench/images")
    images: list[Path] = options.images or family(folder)
    if missing := [image for image in images if not image.exists()] or ([] if images else [folder]):
        print(f"chunkers: no raw images: {missing[0]}; name some, or `make bench-images` first", file=sys.stderr)
        return 2
    samples = samples_for(sum(image.stat().st_blocks * 512 for image in images), options.sample)
    begin_s = time.monotonic()
    try:
        rows = compare(images, samples)
    except (CasimgError, OSError) as error:
        print(f"chunkers: {error}", file=sys.stderr)
        return 1
    settings: dict[str, object] = {
        "images": [image.name for image in images],
        "level": LEVEL,
        "alone_every_count": samples.alone,
        "frames_every_count": samples.frames,
        "cut_by": description(),
        "took_s": round(time.monotonic() - begin_s, 1),
    }
    measure.save(options.results, "chunkers", rows, **settings)
    if options.json:
        print(json.dumps({**settings, "rows": rows}, indent=1))
    else:
        print_table(rows, settings)
    return 0


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.chunkers", description=__doc__)
    parser.add_argument("images", nargs="*", type=Path, metavar="IMAGE", help="raw images, stored in this order")
    parser.add_argument("--images", dest="folder", type=Path, help="the family's (default: .bench/images)")
    parser.add_argument("--small", action="store_true", help="the family in .bench/images-small")
    parser.add_argument("--results", type=Path, default=Path("benchmarks/results"))
    parser.add_argument("--json", action="store_true")
    parser.add_argument(
        "--sample", type=int, default=0, metavar="N", help="compress the new chunks of every Nth segment only"
    )
    return parser.parse_args()


def family(folder: Path) -> list[Path]:
    """Return the raw images of the family below a folder, in the order of their making; none when there is none."""
    try:
        return [image.path for image in load_family(folder).raws]
    except FileNotFoundError:
        return []


def samples_for(size: int, asked: int) -> Samples:
    """Return how much to compress of that much data: as asked, or all frames and, of much data, a quarter alone."""
    if asked:
        return Samples(asked, asked)
    return Samples(alone=1 if size <= _ALONE_IN_FULL_MAX else _ALONE_EVERY)


def print_table(rows: Sequence[Mapping[str, Any]], settings: Mapping[str, object]) -> None:
    """Print what was found, and how."""
    every = {what: int(rows[0][f"{what}_every_count"]) for what in ("alone", "frames")}
    note = {what: "\n(sampled)" if count > 1 else "" for what, count in every.items()}
    table = Table(
        title=f"{format_size(rows[0]['plain_size'])} of data, {format_size(rows[0]['hole_size'])} of holes",
        title_justify="left",
    )
    table.add_column("chunker")
    heads = ("chunk", "mean", "chunks", "unique", "unique bytes", "dedup", f"zstd {LEVEL}\nalone{note['alone']}")
    for head in (*heads, f"zstd {LEVEL}\nframes{note['frames']}", "ratio", "index", "manifest", "cut GB/s"):
        table.add_column(head, justify="right", no_wrap=True)
    for row in rows:
        table.add_row(
            str(row["chunker"]),
            format_size(row["chunk_size"]),
            format_size(row["mean_chunk_size"]),
            f"{row['chunk_count']:,}",
            f"{row['unique_count']:,}",
            format_size(row["unique_size"]),
            f"{row['dedup_ratio']:.2f}",
            format_size(row["alone_size"]),
            format_size(row["frames_size"]),
            f"{row['plain_size'] / row['frames_size']:.2f}" if row["frames_size"] else "-",
            format_size(row["index_size"]),
            format_size(row["manifest_size"]),
            f"{row['cut_gb_s']:.2f}",
        )
    console = Console(width=None if sys.stdout.isatty() else 160)
    console.print(table)
    how = [
        f"Cut by {settings['cut_by']}: GB (10^9 bytes) of data per second of CPU of one thread, with the zero scan.",
        "Alone: each unique chunk by itself. Frames: new chunks of a segment in frames of at most 256 KiB, as stored.",
        "Every cut begins anew after a hole and at each segment: fixed chunks are not aligned to their own size.",
        "Ratio: data to frames. Index: estimated from the unique chunks. Manifest: leaves before compression.",
    ]
    how += [
        f"Sampled ({what}): new chunks of one segment in {count} were compressed, and their bytes scaled to all."
        for what, count in every.items()
        if count > 1
    ]
    for line in how:
        console.print(line, highlight=False, markup=False, soft_wrap=True)


if __name__ == "__main__":
    sys.exit(main())
