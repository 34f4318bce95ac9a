"""The cases of `micro`: what the library does in its inner loops, and the limits that it is held against.

A new case is one more entry of a list; a limit is a case without a limit. Data for codecs are files of this machine,
data for chunkers are random, so that no chunker finds shortcuts in them.
"""

import random
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from itertools import count
from pathlib import Path
from typing import Any

import lmdb
import zstandard
from blake3 import blake3

from casimg.chunker import ChunkerParams, native, open_chunker
from casimg.constants import FRAME_PLAIN_TARGET, KIB, KIND_DATA, MIB, NODE_ID_CONTEXT, SEGMENT_SIZE
from casimg.formats.frame import decode_frame, encode_frame
from casimg.formats.node import Inner, Leaf, decode_node, encode_leaf
from casimg.ids import NodeId, chunk_id, node_id
from casimg.index import Index, Place
from casimg.index.place import encode_place
from casimg.manifest.build import TreeBuilder
from casimg.manifest.diff import changed_ranges, differing_segments
from casimg.manifest.walk import Tree

_CHUNK_SIZE = 16 * KIB
_KNOWN_COUNT = 200_000
_ASKED_COUNT = 20_000
_INSERTED_COUNT = 8192
_SEGMENT_COUNT = 512
_FILES = (Path(sys.base_prefix) / "lib", Path("/usr/lib"))
_MAP_SIZE = 4 << 30


@dataclass(frozen=True, slots=True)
class Case:
    """One thing to measure.

    Attributes:
        limit: name of the case it is held against; "" for a limit.
        amount: what one run does: plain bytes, or how many of `unit`.
        before: called before each run and not measured.
    """

    name: str
    limit: str
    run: Callable[[], object]
    amount: int
    unit: str = "bytes"
    before: Callable[[], object] = bool


def make_cases(size: int, folder: Path) -> list[Case]:
    """Return all cases, their data made.

    Args:
        size: bytes for what reads memory.
        folder: an empty folder for indexes.
    """
    return [
        *memory_cases(size),
        *hash_cases(size // 2),
        *zstd_cases(max(FRAME_PLAIN_TARGET, size // 8)),
        *index_cases(folder),
        *manifest_cases(),
    ]


def memory_cases(size: int) -> list[Case]:
    """Chunkers beside the fastest read of memory that is known here: the best zero scan over zeros.

    memchr of the C library and memcpy stand beside it, so that everybody sees how fast that is.
    """
    zeros, data, target = bytearray(size), bytearray(random.Random(1).randbytes(size)), bytearray(size)

    def copy() -> None:
        target[:] = data

    read = "limit: read memory"
    *others, best = native.implementations()
    cases = [Case(read, "", partial(native.zero_prefix_size, zeros, best), size)]
    cases += [Case("memchr of the C library", read, partial(zeros.find, 1), size), Case("memcpy", read, copy, size)]
    cases += [Case(f"zero scan, {name}", read, partial(native.zero_prefix_size, zeros, name), size) for name in others]
    for name in (*others, best):
        for avg in (16 * KIB, 64 * KIB):
            cases.append(Case(f"cut mincdc {avg // KIB}K, {name}", read, _cut("mincdc", avg, name, data), size))
    for avg in (16 * KIB, 64 * KIB):
        cases.append(Case(f"cut fastcdc {avg // KIB}K, scalar", read, _cut("fastcdc", avg, "scalar", data), size))
    return cases


def _cut(kind: str, avg: int, name: str, data: bytearray) -> Callable[[], None]:
    cut = open_chunker(ChunkerParams.of(kind, avg), name).cut_segment
    view = memoryview(data)
    parts = [view[at : at + SEGMENT_SIZE] for at in range(0, len(data), SEGMENT_SIZE)]

    def run() -> None:
        for part in parts:
            cut(part)

    return run


def hash_cases(size: int) -> list[Case]:
    """Ids of chunks beside BLAKE3 of the longest pieces that one thread hashes at full speed."""
    data = memoryview(random.Random(2).randbytes(size))

    def hash_all(step: int, of: Callable[[memoryview], object]) -> Callable[[], None]:
        parts = [data[at : at + step] for at in range(0, len(data), step)]

        def run() -> None:
            for part in parts:
                of(part)

        return run

    limit = "limit: BLAKE3 of 1 MiB"
    ids = [
        Case(f"chunk ids, {step // KIB}K", limit, hash_all(step, chunk_id), size)
        for step in (8 * KIB, 16 * KIB, 64 * KIB)
    ]
    return [Case(limit, "", hash_all(MIB, lambda part: blake3(part).digest()), size), *ids]


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


class _Made:
    """An entry list of a pack that was never written."""

    def __init__(self, ids: list[bytes]) -> None:
        self._ids = ids

    def places(self) -> Iterator[tuple[bytes, int, int, int, int]]:
        for number, chunk in enumerate(self._ids):
            yield chunk, 16 + number // 16 * 90_000, 90_000, number % 16, _CHUNK_SIZE


def index_cases(folder: Path) -> list[Case]:
    """The index beside LMDB with the same keys and values, used as barely as its binding allows."""
    rng = random.Random(3)
    known = [rng.randbytes(32) for _ in range(_KNOWN_COUNT)]
    hits, misses = rng.sample(known, _ASKED_COUNT), [rng.randbytes(32) for _ in range(_ASKED_COUNT)]
    index = Index.open(folder / "index", "made", "made", map_size=_MAP_SIZE)
    env = lmdb.open(str(folder / "bare"), map_size=_MAP_SIZE, max_dbs=1, readahead=False, meminit=False)
    bare = env.open_db(b"places", dupsort=True)
    for start in range(0, len(known), _INSERTED_COUNT):
        _insert(index, start, known[start : start + _INSERTED_COUNT])
        _insert_bare(env, bare, start, known[start : start + _INSERTED_COUNT])

    def ask(chunks: list[bytes]) -> None:
        with index.reading() as lookup:
            for chunk in chunks:
                lookup.first(chunk)

    def places(chunks: list[bytes]) -> None:
        with index.reading() as lookup:
            for chunk in chunks:
                lookup.places(chunk)

    def ask_bare(chunks: list[bytes]) -> None:
        with env.begin(db=bare) as txn:
            get = txn.get
            for chunk in chunks:
                get(chunk)

    numbers, batch = count(1 << 20), list[bytes]()

    def fresh() -> None:
        batch[:] = [rng.randbytes(32) for _ in range(_INSERTED_COUNT)]

    hit, miss, put = "limit: LMDB get, hit", "limit: LMDB get, miss", "limit: LMDB insert"
    return [
        Case(hit, "", partial(ask_bare, hits), len(hits), "lookups"),
        Case("index first, hit", hit, partial(ask, hits), len(hits), "lookups"),
        Case("index places, hit", hit, partial(places, hits), len(hits), "lookups"),
        Case(miss, "", partial(ask_bare, misses), len(misses), "lookups"),
        Case("index places, miss", miss, partial(places, misses), len(misses), "lookups"),
        Case(put, "", lambda: _insert_bare(env, bare, next(numbers), batch), _INSERTED_COUNT, "entries", fresh),
        Case("index add_packs", put, lambda: _insert(index, next(numbers), batch), _INSERTED_COUNT, "entries", fresh),
    ]


def _insert(index: Index, number: int, ids: list[bytes]) -> None:
    index.add_packs([(number, ids[0], _Made(ids))])


def _insert_bare(env: lmdb.Environment, bare: Any, number: int, ids: list[bytes]) -> None:
    value = encode_place(ids[0], Place(number, 16, 90_000, 0, _CHUNK_SIZE))
    with env.begin(write=True) as txn, txn.cursor(bare) as cursor:
        cursor.putmulti([(chunk, value) for chunk in sorted(ids)])


def manifest_cases() -> list[Case]:
    """Building and comparing manifests of 2 GiB beside hashing the same nodes, which nobody can leave out."""
    rng = random.Random(4)
    entry_count = SEGMENT_SIZE // _CHUNK_SIZE
    sizes = [_CHUNK_SIZE] * entry_count
    first = [[rng.randbytes(32) for _ in range(entry_count)] for _ in range(_SEGMENT_COUNT)]
    second = [[rng.randbytes(32), *ids[1:]] if number % 4 == 0 else ids for number, ids in enumerate(first)]
    nodes: dict[bytes, bytes] = {}

    def emit(encoded: bytes) -> NodeId:
        node = node_id(encoded)
        nodes[node] = encoded
        return node

    def build(segments: list[list[bytes]]) -> NodeId:
        builder = TreeBuilder(emit)
        for ids in segments:
            builder.add_leaf(emit(encode_leaf(sizes, ids)))
        root = builder.finish()
        if root is None:
            raise RuntimeError("a manifest of data has no root")
        return root

    def load(node: NodeId) -> Leaf | Inner:
        encoded = nodes[node]
        if node_id(encoded) != node:
            raise RuntimeError("a node is damaged")
        return decode_node(encoded)

    size = _SEGMENT_COUNT * SEGMENT_SIZE
    root_a = build(first)
    built = list(nodes.values())
    root_b = build(second)

    def compare() -> int:
        pairs = differing_segments(load, load, Tree(root_a, size), Tree(root_b, size))
        return sum(len(changed_ranges(number, a, b, size, size)) for number, a, b in pairs)

    def hash_nodes(encoded: list[bytes]) -> None:
        for node in encoded:
            blake3(node, derive_key_context=NODE_ID_CONTEXT).digest()

    read = [nodes[root_a], nodes[root_b]]
    read += [encode_leaf(sizes, ids) for tree in (first, second) for ids in tree[::4]]
    return [
        Case("limit: BLAKE3 of the nodes built", "", partial(hash_nodes, built), _SEGMENT_COUNT, "segments"),
        Case("manifest build", "limit: BLAKE3 of the nodes built", partial(build, first), _SEGMENT_COUNT, "segments"),
        Case("limit: BLAKE3 of the nodes compared", "", partial(hash_nodes, read), len(first[::4]), "segments"),
        Case("manifest diff", "limit: BLAKE3 of the nodes compared", compare, len(first[::4]), "segments"),
    ]
