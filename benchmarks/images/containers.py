"""Write a raw image in the container formats that images come in, with qemu-img."""

from pathlib import Path

from benchmarks.images.programs import run
from benchmarks.images.recipe import QCOW2, VMDK, ZLIB, ZSTD

_OPTIONS = {
    QCOW2: ("-m", "2", "-O", "qcow2"),
    ZLIB: ("-m", "2", "-O", "qcow2", "-c"),
    ZSTD: ("-m", "2", "-O", "qcow2", "-c", "-o", "compression_type=zstd"),
    VMDK: ("-m", "1", "-O", "vmdk", "-o", "subformat=streamOptimized"),
}
"""Never -W: clusters written out of order would make the file another one each time."""


def convert(raw: Path, target: Path, ending: str) -> None:
    """Write `target` in the format of a file name ending, with the same disk content as `raw`.

    Cost: zlib and streamOptimized read 20 to 40 MB/s.
    """
    run(["qemu-img", "convert", "-f", "raw", *_OPTIONS[ending], raw, target])
