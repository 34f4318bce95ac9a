"""Frames beside the bare codec, on files of this machine."""

import sys
from pathlib import Path

import zstandard

from benchmarks.micro.case import Case
from casimg.constants import FRAME_PLAIN_TARGET, KIB, KIND_DATA, MIB
from casimg.formats.frame import decode_frame, encode_frame

_CHUNK_SIZE = 16 * KIB
_FILES = (Path(sys.base_prefix) / "lib", Path("/usr/lib"))


def zstd_cases(size: int) -> list[Case]:
    """Frames beside the bare codec on the same 256 KiB pieces; encoding a frame decodes it again and compares."""
    data = files_of_this_machine(size)
    parts = [data[at : at + FRAME_PLAIN_TARGET] for at in range(0, len(data), FRAME_PLAIN_TARGET)]
    cases: list[Case] = []
    for level in (1, 3):
        codec = zstandard.ZstdCompressor(level=level, write_checksum=False)
        packed = [codec.compress(part) for part in parts]
        frames = [encode_frame(KIND_DATA, part, _chunk_sizes(len(part)), level) for part in parts]

        def encode(level: int = level) -> None:
            for part in parts:
                encode_frame(KIND_DATA, part, _chunk_sizes(len(part)), level)

        def compress(codec: zstandard.ZstdCompressor = codec) -> None:
            for part in parts:
                codec.compress(part)

        def decode(frames: list[bytes] = frames) -> None:
            for frame in frames:
                decode_frame(frame)

        def decompress(packed: list[bytes] = packed) -> None:
            codec = zstandard.ZstdDecompressor()
            for part in packed:
                codec.decompress(part)

        cases += [
            Case(f"limit: zstd {level} compress", "", compress, len(data)),
            Case(f"encode frames, zstd {level}", f"limit: zstd {level} compress", encode, len(data)),
            Case(f"limit: zstd {level} decompress", "", decompress, len(data)),
            Case(f"decode frames, zstd {level}", f"limit: zstd {level} decompress", decode, len(data)),
        ]
    return cases


def _chunk_sizes(size: int) -> list[int]:
    return [min(_CHUNK_SIZE, size - at) for at in range(0, size, _CHUNK_SIZE)]


def files_of_this_machine(size: int) -> bytes:
    """Return the first bytes of this machine's library files, in the order of their names; repeated when too few."""
    found = bytearray()
    for folder in _FILES:
        for path in sorted(folder.rglob("*")):
            if len(found) >= size:
                return bytes(found[:size])
            try:
                if path.is_file() and not path.is_symlink():
                    found += path.read_bytes()[:MIB]
            except OSError:
                continue
    found = found or bytearray(b"casimg")
    return bytes((found * (size // len(found) + 1))[:size])
