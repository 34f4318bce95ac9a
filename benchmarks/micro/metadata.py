"""Index and manifests: beside LMDB used as barely as its binding allows, and beside hashing the same nodes."""

import random
from array import array
from functools import partial
from itertools import count
from pathlib import Path
from typing import Any

import lmdb
from blake3 import blake3

from benchmarks.micro.case import Case
from casimg.constants import DOMAIN_DEFAULT, KIB, KIND_DATA, NODE_ID_CONTEXT, SEGMENT_SIZE
from casimg.formats.node import Inner, Leaf, decode_node, encode_leaf
from casimg.formats.pack import NONCE_SIZE, FrameSpan, PackTrailer
from casimg.ids import NodeId, node_id
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
_MAP_SIZE = 4 << 30


def _made(ids: list[bytes]) -> PackTrailer:
    """Return the entry list of a pack that was never written."""
    frames = [
        FrameSpan(16 + first // 16 * 90_000, 90_000, first, min(16, len(ids) - first))
        for first in range(0, len(ids), 16)
    ]
    return PackTrailer(
        KIND_DATA, DOMAIN_DEFAULT, bytes(NONCE_SIZE), frames, array("I", [_CHUNK_SIZE]) * len(ids), b"".join(ids)
    )


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
    index.add_packs([(number, ids[0], _made(ids))])


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
            builder.add_leaf(emit(encode_leaf(sizes, b"".join(ids))))
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
    read += [encode_leaf(sizes, b"".join(ids)) for tree in (first, second) for ids in tree[::4]]
    return [
        Case("limit: BLAKE3 of the nodes built", "", partial(hash_nodes, built), _SEGMENT_COUNT, "segments"),
        Case("manifest build", "limit: BLAKE3 of the nodes built", partial(build, first), _SEGMENT_COUNT, "segments"),
        Case("limit: BLAKE3 of the nodes compared", "", partial(hash_nodes, read), len(first[::4]), "segments"),
        Case("manifest diff", "limit: BLAKE3 of the nodes compared", compare, len(first[::4]), "segments"),
    ]
