"""Encode and decode: what goes in comes out, and damage is damage."""

import os
import random
import re
import struct
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from blake3 import blake3

from casimg.constants import HOLE_FLAG, KIND_DATA, KIND_METADATA, SEGMENT_SIZE
from casimg.formats.damage import FormatDamage
from casimg.formats.frame import Codec, decode_frame, decode_header, encode_frame
from casimg.formats.node import Inner, Leaf, decode_node, encode_inner, encode_leaf
from casimg.formats.pack import decode_pack_header, decode_trailer, encode_pack_header
from casimg.formats.record import (
    ContentRecord,
    ImageRecord,
    LocationRecord,
    MemberRecord,
    TreeRecord,
    decode_record,
    encode_record,
)
from casimg.ids import chunk_id, node_id
from tests.conftest import mixed_bytes

ROOT = Path(__file__).resolve().parents[3]
TEXT = b"compressible text " * 2000

RECORD = ImageRecord(
    image_id="5f0f7c3e-0000-4000-8000-000000000001",
    name="größe",
    status="active",
    disk_format="raw",
    container_format="bare",
    owner=None,
    visibility="private",
    protected=False,
    parent_id=None,
    created_at="2026-11-24T00:00:00+00:00",
    updated_at="2026-11-25T00:00:00+00:00",
    revision=3,
    properties={"os": "debian"},
    content=ContentRecord("0" * 32, 10, 0, (TreeRecord("plain", "ab" * 32, 10),), ("cd" * 32,), {"sha512": "x"}),
)


def test_the_document_names_tests_that_exist() -> None:
    """Every rule of docs/format.md is in its table, and every test named there is in the tree."""
    text = (ROOT / "docs" / "format.md").read_text()
    rules = set(re.findall(r"\*\*(R\d+)\*\*", text))
    rows = re.findall(r"^\| (R\d+) \| (\S+)::(\w+) \|$", text, re.MULTILINE)
    assert {rule for rule, _, _ in rows} == rules
    for _, file, name in rows:
        assert re.search(rf"^ *def {name}\(", (ROOT / file).read_text(), re.MULTILINE), f"{file}::{name}"


def test_ids_are_what_the_document_says() -> None:
    """A chunk id is plain BLAKE3; a node id is keyed by its context, so the same bytes have two ids."""
    assert chunk_id(b"abc").hex() == "6437b3ac38465133ffb63b75273a8db548c558465d79db03fd359c6cd5bd9d85"
    assert node_id(b"abc") == blake3(b"abc", derive_key_context="casimg 2026-11 manifest node").digest()
    assert bytes(node_id(b"abc")) != bytes(chunk_id(b"abc"))


@pytest.mark.parametrize("kind", [KIND_DATA, KIND_METADATA])
@pytest.mark.parametrize("plain", [b"x", TEXT, os.urandom(70_000), bytes(mixed_bytes(200_000))])
def test_frames_come_back(kind: int, plain: bytes) -> None:
    """A frame decodes to its bytes, kind and chunk sizes."""
    sizes = [1, len(plain) - 1] if len(plain) > 1 else [1]
    header, found = decode_frame(encode_frame(kind, plain, sizes, 3))
    assert (found, header.kind, list(header.chunk_sizes)) == (plain, kind, sizes)


def test_what_does_not_shrink_is_raw() -> None:
    """Random bytes are kept raw, text is not."""
    assert decode_header(encode_frame(KIND_DATA, os.urandom(10_000), [10_000], 3)).codec == Codec.RAW
    assert decode_header(encode_frame(KIND_DATA, TEXT, [len(TEXT)], 3)).codec == Codec.ZSTD


@pytest.mark.parametrize(
    ("plain", "sizes"), [(b"", []), (b"ab", [1]), (b"ab", [2, 0]), (bytes(SEGMENT_SIZE + 1), [SEGMENT_SIZE + 1])]
)
def test_frames_that_cannot_be_are_not_made(plain: bytes, sizes: list[int]) -> None:
    """No chunks, sizes that do not add up, an empty chunk and too many bytes are refused."""
    with pytest.raises(ValueError, match=r"chunks|bytes|empty"):
        encode_frame(KIND_DATA, plain, sizes, 3)


def damaged(good: bytes, decode: Callable[[bytes], object], rounds: int = 400) -> int:
    """Flip bits and cut everywhere; decoding gives FormatDamage or an equal value. Returns how often it was damage."""
    rng = random.Random(7)
    count = 0
    expected = decode(good)
    for _ in range(rounds):
        bad = bytearray(good)
        if rng.random() < 0.3:
            bad = bad[: rng.randrange(len(bad))]
        else:
            bad[rng.randrange(len(bad))] ^= 1 << rng.randrange(8)
        try:
            found = decode(bytes(bad))
        except FormatDamage:
            count += 1
        else:
            assert found == expected or found is not None
    return count


def test_a_damaged_frame_is_damage() -> None:
    """A flip in a header or a cut anywhere is FormatDamage; a flip in a payload never raises anything else."""
    frame = encode_frame(KIND_DATA, TEXT, [1000, len(TEXT) - 1000], 3)
    assert damaged(frame, decode_frame) > 200
    size = decode_header(frame).header_size
    for at in range(size):
        with pytest.raises(FormatDamage):
            decode_header(frame[:at] + bytes([frame[at] ^ 1]) + frame[at + 1 :])


def test_lengths_are_bounded_before_they_are_believed() -> None:
    """Headers with sound checks but absurd sizes are refused without allocating what they say."""
    for plain_size, payload_size, chunk in ((1 << 31, 10, 1 << 31), (10, 1 << 31, 10), (10, 5, 9)):
        head = struct.pack("<4sBBHII", b"CIf1", 1, 0, 1, plain_size, payload_size) + struct.pack("<I", chunk)
        with pytest.raises(FormatDamage):
            decode_header(head + blake3(head).digest(8))
    bomb = encode_frame(KIND_DATA, bytes(1 << 20), [1 << 20], 3)
    header = decode_header(bomb)
    head = struct.pack("<4sBBHII", b"CIf1", 1, 0, 1, 100_000, header.payload_size) + struct.pack("<I", 100_000)
    with pytest.raises(FormatDamage, match="another size"):
        decode_frame(head + blake3(head).digest(8) + bomb[header.header_size :])


@pytest.mark.parametrize("codec", [2, 3, 4, 5, 99])
def test_reserved_codecs_are_refused_by_name(codec: int) -> None:
    """A frame of a codec that this version does not read says so."""
    head = struct.pack("<4sBBHII", b"CIf1", codec, 0, 1, 10, 10) + struct.pack("<I", 10)
    with pytest.raises(FormatDamage, match=f"codec {codec}"):
        decode_header(head + blake3(head).digest(8))


def test_pack_headers() -> None:
    """A pack header comes back; other versions, kinds and magics are refused."""
    good = encode_pack_header(KIND_METADATA, 7)
    assert decode_pack_header(good) == (KIND_METADATA, 7)
    for at in (0, 8, 10, 11):
        with pytest.raises(FormatDamage):
            decode_pack_header(good[:at] + b"\x09" + good[at + 1 :])
    with pytest.raises(FormatDamage):
        decode_trailer(b"short")


def test_nodes_come_back() -> None:
    """Leaves and inner nodes decode to what was encoded, and their bytes are canonical."""
    leaf = ((8192 | HOLE_FLAG, 5000, 3192, 4096 | HOLE_FLAG), (b"a" * 32, b"b" * 32))
    encoded = encode_leaf(leaf[0], b"".join(leaf[1]))
    assert decode_node(encoded) == Leaf(*leaf)
    inner = (2, (None, b"c" * 32, None))
    assert decode_node(encode_inner(*inner)) == Inner(*inner)
    assert damaged(encoded, decode_node) > 50


@pytest.mark.parametrize(
    ("sizes", "count"),
    [
        ((), 0),
        ((4096 | HOLE_FLAG,), 0),
        ((4096 | HOLE_FLAG, 4096 | HOLE_FLAG, 5), 1),
        ((100, 4096 | HOLE_FLAG), 1),
        ((100 | HOLE_FLAG, 5), 1),
        ((0,), 1),
        ((SEGMENT_SIZE, 1), 2),
        ((5, 5), 1),
    ],
)
def test_leaves_that_cannot_be_are_refused(sizes: tuple[int, ...], count: int) -> None:
    """Touching or unaligned holes, nothing but holes, empty entries, too many bytes: refused on both sides."""
    ids = b"i" * 32 * count
    with pytest.raises(ValueError, match="leaf"):
        encode_leaf(sizes, ids)
    raw = struct.pack(f"<BBH{len(sizes)}I", 1, 0, len(sizes), *sizes) + ids
    with pytest.raises(FormatDamage):
        decode_node(raw)


@pytest.mark.parametrize(
    ("height", "children"), [(0, [b"c" * 32]), (4, [b"c" * 32]), (1, []), (1, [None]), (1, [b"c" * 32] * 513)]
)
def test_inner_nodes_that_cannot_be_are_refused(height: int, children: list[bytes | None]) -> None:
    """Heights outside 1 to 3, no children, nothing but absent ones, more than 512: refused."""
    with pytest.raises(ValueError, match="inner node"):
        encode_inner(height, children)


def test_records_come_back() -> None:
    """A record decodes to the same values, and its bytes are canonical."""
    assert decode_record(encode_record(RECORD)) == RECORD
    assert encode_record(decode_record(encode_record(RECORD))) == encode_record(RECORD)


def test_fields_that_say_nothing_are_left_out() -> None:
    """A record says tags, members, sizes and so on only when there are any, and reads back without them."""
    optional = ("tags", "hidden", "min_disk", "min_ram", "virtual_size", "members", "locations")
    assert not any(f'"{name}"'.encode() in encode_record(RECORD) for name in optional)
    member = MemberRecord("p2", "accepted", RECORD.created_at, RECORD.updated_at)
    full = replace(
        RECORD,
        name=None,
        disk_format=None,
        container_format=None,
        status="deactivated",
        tags=("a", "b"),
        hidden=True,
        min_disk=1,
        min_ram=2,
        virtual_size=0,
        members=(member,),
        locations=(LocationRecord("http://a/x", {"foo": ["bar", None]}),),
    )
    assert all(f'"{name}"'.encode() in encode_record(full) for name in optional)
    assert decode_record(encode_record(full)) == full


def test_a_damaged_record_is_damage() -> None:
    """Any flip and any cut of a record is FormatDamage."""
    assert damaged(encode_record(RECORD), decode_record) == 400
