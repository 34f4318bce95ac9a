"""Cut segments into holes and chunks; the rules are part of the format (docs/format.md, "Cuts").

Environment: `CASIMG_NATIVE` = `auto` (C when it is built, else no writing), `require` (C or an error at once),
`python` (plain Python, 6 MB/s, accepted on purpose).
"""

import os
from typing import Protocol

from casimg.chunker import native, scalar
from casimg.chunker.native import NativeChunker
from casimg.chunker.params import KINDS, ChunkerParams
from casimg.chunker.scalar import PythonChunker
from casimg.errors import ConfigError, NativeMissingError
from casimg.ids import BytesLike

__all__ = [
    "KINDS",
    "Chunker",
    "ChunkerParams",
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


_ZERO_IMPLEMENTATION = native.implementations()[-1] if native.implementations() else None


def zero_prefix_size(data: BytesLike) -> int:
    """Return how many leading bytes are zero. Threads: any; releases the GIL in C."""
    if _ZERO_IMPLEMENTATION is None:
        return scalar.zero_prefix_size(data)
    return native.zero_prefix_size(data, _ZERO_IMPLEMENTATION)
