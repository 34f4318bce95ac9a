"""Cut segments into holes and chunks; the rules are part of the format (docs/format.md, "Cuts").

Environment: `CASIMG_NATIVE` = `auto` (C when it is built, else no writing), `require` (C or an error at once),
`python` (plain Python, 6 MB/s, accepted on purpose).
"""

import os
from collections.abc import Sequence
from typing import Protocol

from casimg.choices import CHUNKER_KINDS as KINDS
from casimg.chunker import native, scalar
from casimg.chunker.native import NativeChunker
from casimg.chunker.params import ChunkerParams
from casimg.chunker.scalar import PythonChunker
from casimg.errors import ConfigError, NativeMissingError
from casimg.ids import BytesLike

__all__ = [
    "KINDS",
    "Chunker",
    "ChunkerParams",
    "chunk_ids",
    "common_size",
    "description",
    "implementations",
    "native_available",
    "open_chunker",
    "zero_prefix_size",
]


class Chunker(Protocol):
    """Something that cuts segments. Threads: any."""

    @property
    def params(self) -> ChunkerParams: ...

    def cut_segment(self, data: BytesLike) -> list[int]:
        """Return the entries of one segment in order: sizes in bytes, `HOLE_FLAG` set on holes.

        Args:
            data: at most SEGMENT_SIZE bytes that begin on a segment boundary.
        Raises: InputError when there are more.
        """
        ...

    def cut_and_hash(self, data: BytesLike) -> tuple[list[int], bytes]:
        """Return what `cut_segment` returns, and the ids of the chunks one after another.

        Raises: InputError as `cut_segment`. Cost: one call without the GIL.
        """
        ...

    def next_cut(self, window: BytesLike) -> int:
        """Return the size of the first chunk of a run of data.

        Args:
            window: the first min(size_max, size of the run) bytes of the run.
        """
        ...


def native_available() -> bool:
    """Tell whether the C extension is built."""
    return bool(native.implementations())


def implementations() -> list[str]:
    """Return every implementation that runs here, slowest first."""
    return ["python", *native.implementations()]


def description() -> str:
    """Say in a few words what cuts here, for `casimg --version`."""
    if os.environ.get("CASIMG_NATIVE") == "python":
        return "python (CASIMG_NATIVE=python)"
    found = native.implementations()
    return f"native ({found[-1]})" if found else "not built: reading only"


def open_chunker(params: ChunkerParams, implementation: str | None = None) -> Chunker:
    """Return a chunker: the best implementation, or the one asked for.

    Raises:
        NativeMissingError: the C extension is not built and `CASIMG_NATIVE` does not say `python`.
        InputError: this machine does not run the implementation.
    """
    if implementation is None:
        wish = os.environ.get("CASIMG_NATIVE", "auto")
        if wish not in ("auto", "require", "python"):
            raise ConfigError("CASIMG_NATIVE", f"{wish!r} is not auto, require or python")
        found = native.implementations()
        if wish == "python":
            implementation = "python"
        elif found:
            implementation = found[-1]
        else:
            raise NativeMissingError
    if implementation == "python":
        return PythonChunker(params)
    return NativeChunker(params, implementation)


_BEST = native.implementations()[-1] if native.implementations() else None


def zero_prefix_size(data: BytesLike) -> int:
    """Return how many leading bytes are zero. Threads: any; releases the GIL in C."""
    return scalar.zero_prefix_size(data) if _BEST is None else native.zero_prefix_size(data, _BEST)


def chunk_ids(data: BytesLike, sizes: Sequence[int]) -> bytes:
    """Return the ids, one after another, of chunks that lie one after another in `data`.

    Args:
        sizes: bytes of each chunk, at least 1; with `HOLE_FLAG` set it is left out.
    Raises: InputError when the sizes are more than the data.
    Cost: what hashing one long input costs, since chunks share the lanes of a vector. Threads: any; releases the GIL.
    """
    return scalar.chunk_ids(data, sizes) if _BEST is None else native.chunk_ids(data, sizes, _BEST)


def common_size(first: BytesLike, first_offset: int, second: BytesLike, second_offset: int) -> int:
    """Return how many bytes from the two offsets on are the same. Threads: any."""
    compare = scalar.common_size if _BEST is None else native.common_size
    return compare(first, first_offset, second, second_offset)
