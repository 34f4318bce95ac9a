"""The chunkers in C: one call per segment, without the GIL, on the best instructions this machine has."""

from collections.abc import Callable, Sequence
from typing import Any, Final

from casimg.chunker.params import ChunkerParams
from casimg.constants import BLOCK_SIZE, HOLE_FLAG, ID_SIZE, SEGMENT_SIZE
from casimg.errors import InputError
from casimg.ids import BytesLike

try:
    from casimg._native import ffi as _ffi
    from casimg._native import lib as _lib
except ImportError:
    _ffi = _lib = None

_IMPLEMENTATIONS: Final = {"scalar": 0, "sse4.1": 1, "avx2": 2, "neon": 3, "avx512": 4}
_KINDS: Final = {"mincdc": 0, "fastcdc": 1, "fixed": 2}
_EMPTY: Final = b"\0"


def implementations() -> list[str]:
    """Return the native implementations that this machine runs, best last; empty without the extension."""
    if _lib is None:
        return []
    return [name for name, number in _IMPLEMENTATIONS.items() if _lib.casimg_has(number)]


class NativeChunker:
    """Cut segments in C. Threads: any, at the same time."""

    def __init__(self, params: ChunkerParams, implementation: str) -> None:
        if implementation not in implementations():
            raise InputError(f"this machine does not run the {implementation!r} chunker")
        self.params = params
        self._impl = _IMPLEMENTATIONS[implementation]
        self._kind = _KINDS[params.kind]
        # Every hole or run of data is at least a block, every chunk but the last of a run at least size_min.
        self._capacity = SEGMENT_SIZE // BLOCK_SIZE + SEGMENT_SIZE // min(params.size_min, BLOCK_SIZE) + 2

    def cut_segment(self, data: BytesLike) -> list[int]:
        """As Chunker.cut_segment."""
        return self._cut(_lib.casimg_cut_segment, data)

    def cut_and_hash(self, data: BytesLike) -> tuple[list[int], bytes]:
        """As Chunker.cut_and_hash."""
        ids = _ffi.new("uint8_t[]", ID_SIZE * self._capacity)
        sizes = self._cut(_lib.casimg_cut_and_hash, data, ids)
        chunk_count = sum(1 for entry in sizes if entry < HOLE_FLAG)
        return sizes, bytes(_ffi.buffer(ids, ID_SIZE * chunk_count))

    def _cut(self, cut: Callable[..., int], data: BytesLike, *ids: Any) -> list[int]:
        """Call one of the two cuts of a segment and return the entries."""
        size = len(data)
        if size > SEGMENT_SIZE:
            raise InputError(f"{size} bytes are more than a segment")
        params = self.params
        entries = _ffi.new("uint32_t[]", self._capacity)
        count = cut(
            self._impl,
            self._kind,
            _ffi.from_buffer("uint8_t[]", data if size else _EMPTY),
            size,
            params.size_min,
            params.size_avg,
            params.size_max,
            entries,
            self._capacity,
            *ids,
        )
        if count == -2:
            raise MemoryError
        if count < 0:
            raise InputError(f"the segment has more than {self._capacity} entries")
        found: list[int] = _ffi.unpack(entries, count)
        return found

    def next_cut(self, window: BytesLike) -> int:
        """As Chunker.next_cut."""
        if not len(window):
            return 0
        params = self.params
        size: int = _lib.casimg_next_cut(
            self._impl,
            self._kind,
            _ffi.from_buffer("uint8_t[]", window),
            len(window),
            params.size_min,
            params.size_avg,
            params.size_max,
        )
        return size

    def cut_run(self, data: BytesLike) -> int:
        """Cut a run of data without keeping the cuts; for measurements."""
        params = self.params
        size: int = _lib.casimg_cut_run(
            self._impl,
            self._kind,
            _ffi.from_buffer("uint8_t[]", data),
            len(data),
            params.size_min,
            params.size_avg,
            params.size_max,
        )
        return size


def chunk_ids(data: BytesLike, sizes: Sequence[int], implementation: str) -> bytes:
    """Return the ids, one after another, of chunks that lie one after another; sizes with `HOLE_FLAG` are left out.

    Raises: InputError when the sizes are more than the data, or one of them is zero.
    """
    if sum(size & ~HOLE_FLAG for size in sizes) > len(data) or not all(sizes):
        raise InputError("the sizes of the chunks do not fit their bytes")
    ids = _ffi.new("uint8_t[]", max(1, ID_SIZE * len(sizes)))
    entries = _ffi.new("uint32_t[]", sizes)
    if _lib.casimg_hash_entries(
        _IMPLEMENTATIONS[implementation],
        _ffi.from_buffer("uint8_t[]", data if len(data) else _EMPTY),
        entries,
        len(sizes),
        ids,
    ):
        raise MemoryError
    return bytes(_ffi.buffer(ids, ID_SIZE * sum(1 for size in sizes if size < HOLE_FLAG)))


def common_size(first: BytesLike, first_offset: int, second: BytesLike, second_offset: int) -> int:
    """Return how many bytes from the two offsets on are the same."""
    size = min(len(first) - first_offset, len(second) - second_offset)
    if size <= 0:
        return 0
    found: int = _lib.casimg_common_size(
        _ffi.from_buffer("uint8_t[]", first) + first_offset, _ffi.from_buffer("uint8_t[]", second) + second_offset, size
    )
    return found


def zero_prefix_size(data: BytesLike, implementation: str) -> int:
    """Return how many leading bytes are zero."""
    if not len(data):
        return 0
    size: int = _lib.casimg_zero_prefix(
        _IMPLEMENTATIONS[implementation], _ffi.from_buffer("uint8_t[]", data), len(data)
    )
    return size
