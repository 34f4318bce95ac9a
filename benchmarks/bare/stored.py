"""What the bare pipelines hand each other, and the codec contexts of a thread."""

import threading
from dataclasses import dataclass
from pathlib import Path

import zstandard

THREAD_COUNT = 2


@dataclass(frozen=True, slots=True)
class Frame:
    """Chunks stored together: where the payload is, and what comes out."""

    file: int
    offset: int
    size: int
    plain_size: int
    is_raw: bool
    sizes: tuple[int, ...]
    ids: bytes


@dataclass(frozen=True, slots=True)
class Piece:
    """Bytes of a segment: a range of a frame's plain bytes."""

    at: int
    frame: int
    start: int
    size: int


@dataclass(slots=True)
class Stored:
    """What `store` made: frames, and the pieces of each segment with data, by the segment's offset."""

    size: int
    files: list[Path]
    frames: list[Frame]
    segments: dict[int, list[Piece]]

    @property
    def stored_size(self) -> int:
        """Bytes of all payloads."""
        return sum(frame.size for frame in self.frames)


class Codecs(threading.local):
    """Contexts of a thread."""

    def __init__(self) -> None:
        self.compressors: dict[int, zstandard.ZstdCompressor] = {}
        self.decompressor = zstandard.ZstdDecompressor()

    def compressor(self, level: int) -> zstandard.ZstdCompressor:
        """Return a context for frames of 256 KiB, with the same tables as casimg has."""
        if level not in self.compressors:
            own = {"hash_log": 15} if level == 1 else {}
            self.compressors[level] = zstandard.ZstdCompressor(
                compression_params=zstandard.ZstdCompressionParameters.from_level(
                    level, source_size=256 * 1024, write_content_size=True, **own
                )
            )
        return self.compressors[level]


codecs = Codecs()
