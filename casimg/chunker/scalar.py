"""The chunkers in plain Python: short, slow (6 MB/s), and the oracle that the C is tested against. Pure."""

from collections.abc import Sequence

from casimg.chunker.params import ChunkerParams
from casimg.constants import BLOCK_SIZE, HOLE_FLAG, SEGMENT_SIZE
from casimg.errors import InputError
from casimg.ids import BytesLike, chunk_id

_MUL, _ADD = 0x9E3779B1, 0x7F4A7C15
_GEAR_SEED = 0x63617369_6D670001
_MASK64 = (1 << 64) - 1


def _gear_table() -> list[int]:
    """256 numbers of splitmix64 (Steele, Lea, Flood, 2014)."""
    table, state = [], _GEAR_SEED
    for _ in range(256):
        state = (state + 0x9E3779B97F4A7C15) & _MASK64
        z = state
        z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & _MASK64
        z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & _MASK64
        table.append(z ^ (z >> 31))
    return table


_GEAR = _gear_table()


class PythonChunker:
    """Cut segments without the C extension. Threads: any."""

    def __init__(self, params: ChunkerParams) -> None:
        self.params = params

    def cut_segment(self, data: BytesLike) -> list[int]:
        """As Chunker.cut_segment."""
        data = bytes(data)
        if len(data) > SEGMENT_SIZE:
            raise InputError(f"{len(data)} bytes are more than a segment")
        zero = [not any(data[at : at + BLOCK_SIZE]) for at in range(0, len(data), BLOCK_SIZE)]
        entries: list[int] = []
        block = 0
        while block < len(zero):
            end_block = block
            while end_block < len(zero) and zero[end_block] == zero[block]:
                end_block += 1
            at, end = block * BLOCK_SIZE, min(len(data), end_block * BLOCK_SIZE)
            if zero[block]:
                entries.append((end - at) | HOLE_FLAG)
                at = end
            while at < end:
                size = self.next_cut(data[at : min(end, at + self.params.size_max)])
                entries.append(size)
                at += size
            block = end_block
        return entries

    def cut_and_hash(self, data: BytesLike) -> tuple[list[int], bytes]:
        """As Chunker.cut_and_hash."""
        sizes = self.cut_segment(data)
        return sizes, chunk_ids(data, sizes)

    def next_cut(self, window: BytesLike) -> int:
        """As Chunker.next_cut."""
        params = self.params
        data = bytes(window[: params.size_max])
        if params.kind == "fixed":
            return min(len(data), params.size_avg)
        if len(data) <= params.size_min:
            return len(data)
        if params.kind == "fastcdc":
            return _fastcdc(data, params)
        return min(range(params.size_min, len(data) + 1), key=lambda i: _mincdc_hash(data, i))


def _mincdc_hash(data: bytes, i: int) -> int:
    return (int.from_bytes(data[i - 4 : i], "little") * _MUL + _ADD) & 0xFFFFFFFF


def _fastcdc(data: bytes, params: ChunkerParams) -> int:
    bits = params.size_avg.bit_length() - 1
    strict = _MASK64 ^ (_MASK64 >> (bits + 2))
    loose = _MASK64 ^ (_MASK64 >> (bits - 2))
    h = 0
    for i in range(params.size_min, len(data)):
        h = ((h << 1) + _GEAR[data[i]]) & _MASK64
        if not h & (strict if i < params.size_avg else loose):
            return i + 1
    return len(data)


def zero_prefix_size(data: BytesLike) -> int:
    """Return how many leading bytes are zero."""
    plain = bytes(data)
    return len(plain) - len(plain.lstrip(b"\0"))


def chunk_ids(data: BytesLike, sizes: Sequence[int]) -> bytes:
    """As casimg.chunker.chunk_ids."""
    if sum(size & ~HOLE_FLAG for size in sizes) > len(data) or not all(sizes):
        raise InputError("the sizes of the chunks do not fit their bytes")
    view = memoryview(data)
    ids, at = [], 0
    for size in sizes:
        if size < HOLE_FLAG:
            ids.append(chunk_id(view[at : at + size]))
        at += size & ~HOLE_FLAG
    return b"".join(ids)


def common_size(first: BytesLike, first_offset: int, second: BytesLike, second_offset: int) -> int:
    """As casimg.chunker.common_size."""
    size = min(len(first) - first_offset, len(second) - second_offset)
    pairs = enumerate(zip(first[first_offset:], second[second_offset:], strict=False))
    return next((at for at, (a, b) in pairs if a != b), max(0, size))
