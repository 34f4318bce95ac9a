"""The index: a cache with several places per id, that is never wrong and never in the way."""

import random
import shutil
import subprocess
import sys
from array import array
from collections.abc import Iterator
from pathlib import Path

import pytest
from blake3 import blake3
from hypothesis import given, settings
from hypothesis import strategies as st

from casimg.chunker import native_available
from casimg.errors import ConfigError, ForkError, IndexDamagedError, PackDamagedError
from casimg.formats.pack import EntryColumns, FrameSpan, PackTrailer
from casimg.index import Index, Place, follow, items
from casimg.index.entries import EntryLists
from casimg.index.items import sorted_in_python, sorted_items, write_items
from casimg.index.place import ITEM, VALUE_SIZE, decode_place, encode_place

UUID, INCARNATION = "repository", "first"


def trailer(pack_no: int, numbers: list[int]) -> PackTrailer:
    """An entry list of made-up chunks, one frame."""
    ids = b"".join(blake3(b"%d" % number).digest() for number in numbers)
    return PackTrailer(
        0, 0, bytes(16), [FrameSpan(16, 1000 + pack_no, 0, len(numbers))], array("I", [7] * len(numbers)), ids
    )


def chunk(number: int) -> bytes:
    """The id of a made-up chunk."""
    return blake3(b"%d" % number).digest()


class Pack:
    """Number and id of a pack."""

    def __init__(self, pack_no: int, pack_id: bytes | None = None) -> None:
        self.pack_no = pack_no
        self.pack_id = pack_id or b"%032d" % pack_no


@pytest.fixture
def index(tmp_path: Path) -> Iterator[Index]:
    """An empty index."""
    opened = Index.open(tmp_path / "index", UUID, INCARNATION, map_size=1 << 28)
    yield opened
    opened.close()


def places(index: Index, number: int) -> list[int]:
    """Numbers of the packs that hold a chunk, as the index says."""
    with index.reading() as lookup:
        found = lookup.places(chunk(number))
        first = lookup.first(chunk(number))
    assert (first.pack_no if first else None) == (found[0].pack_no if found else None)
    return [place.pack_no for place in found]


def test_several_places_per_chunk(index: Index) -> None:
    """A chunk in two packs has two places; forgetting one pack leaves the other."""
    index.add_packs([(1, b"a" * 32, trailer(1, [1, 2])), (2, b"b" * 32, trailer(2, [2, 3]))])
    index.add_packs([(2, b"b" * 32, trailer(2, [2, 3]))])
    assert [places(index, number) for number in range(5)] == [[], [1], [1, 2], [2], []]
    assert index.entry_count() == 4
    index.remove_packs([(1, trailer(1, [1, 2]))])
    assert [places(index, number) for number in range(4)] == [[], [], [2], [2]]
    assert index.applied() == {2: b"b" * 32}


@settings(max_examples=30)
@given(
    steps=st.lists(
        st.tuples(st.booleans(), st.integers(1, 6), st.lists(st.integers(0, 12), min_size=1, max_size=8, unique=True)),
        max_size=12,
    )
)
def test_against_a_dict(steps: list[tuple[bool, int, list[int]]], tmp_path_factory: pytest.TempPathFactory) -> None:
    """Adding and removing packs in any order gives what a dict of sets gives."""
    folder = tmp_path_factory.mktemp("index")
    model: dict[int, list[int]] = {}
    opened = Index.open(folder / "index", UUID, INCARNATION, map_size=1 << 26)
    for add, pack_no, numbers in steps:
        if add and pack_no not in model:
            model[pack_no] = numbers
            opened.add_packs([(pack_no, b"%032d" % pack_no, trailer(pack_no, numbers))])
        elif not add and pack_no in model:
            opened.remove_packs([(pack_no, trailer(pack_no, model.pop(pack_no)))])
    for number in range(13):
        assert places(opened, number) == sorted(no for no, numbers in model.items() if number in numbers)
    opened.close()


number_u32 = st.integers(0, (1 << 32) - 1)
made_pack = st.tuples(
    number_u32,
    st.lists(
        st.tuples(number_u32, number_u32, st.lists(st.tuples(st.binary(min_size=32, max_size=32), number_u32))),
        max_size=6,
    ),
)


def listed(frames: list[tuple[int, int, list[tuple[bytes, int]]]]) -> PackTrailer:
    """The entry list of frames (offset, size, (id, plain size) of each chunk), which need not be ones that can be."""
    spans: list[FrameSpan] = []
    sizes, ids = array("I"), b""
    for offset, size, chunks in frames:
        spans.append(FrameSpan(offset, size, len(sizes), len(chunks)))
        sizes.extend(plain_size for _, plain_size in chunks)
        ids += b"".join(name for name, _ in chunks)
    return PackTrailer(0, 0, bytes(16), spans, sizes, ids)


@settings(max_examples=100)
@given(packs=st.lists(made_pack, max_size=4))
def test_items_in_c_equal_the_twin(packs: list[tuple[int, list[tuple[int, int, list[tuple[bytes, int]]]]]]) -> None:
    """Items of any entry lists, sorted, are those that Python makes one by one, and each means its place."""
    given_packs = [(pack_no, listed(frames)) for pack_no, frames in packs]
    made = sorted_items(given_packs)
    assert made == sorted_in_python(given_packs)
    found = [(name, decode_place(name, value)) for name, value in ITEM.iter_unpack(made)]
    expected = [(name, Place(pack_no, *rest)) for pack_no, pack in given_packs for name, *rest in pack.places()]
    assert sorted(found, key=repr) == sorted(expected, key=repr)


@pytest.mark.skipif(not native_available(), reason="the C extension is not built")
@pytest.mark.parametrize("counts", [[3], [1], [2, 1], [2, -1], [0]])
def test_an_entry_list_that_contradicts_itself_is_refused(counts: list[int]) -> None:
    """Frames with more or fewer chunks than there are entries make no items, and nothing is written past the end."""
    frames = array("I", [number & 0xFFFFFFFF for count in counts for number in (16, 90, count)])
    columns = EntryColumns(frames, array("I", [7, 7]), bytes(64))
    buffer = bytearray(2 * ITEM.size + 8)
    with pytest.raises(ValueError, match="pack 5"):
        write_items(5, columns, memoryview(buffer)[: 2 * ITEM.size])
    assert buffer[2 * ITEM.size :] == bytes(8)
    with pytest.raises(ValueError, match="pack 5"):
        write_items(5, columns._replace(ids=bytes(32)), memoryview(buffer)[: 2 * ITEM.size])


def test_without_the_extension_python_makes_the_items(index: Index, monkeypatch: pytest.MonkeyPatch) -> None:
    """An installation without the C extension, which can read, fills its index too."""
    monkeypatch.setattr(items, "_lib", None)
    index.add_packs([(1, b"a" * 32, trailer(1, [1, 2])), (2, b"b" * 32, trailer(2, [2, 3]))])
    assert [places(index, number) for number in range(5)] == [[], [1], [1, 2], [2], []]


def test_values_check_themselves() -> None:
    """A flipped bit in a value, or another chunk's value, is no place."""
    place = Place(7, 1 << 31, 5000, 300, 16384)
    value = encode_place(chunk(1), place)
    assert len(value) == VALUE_SIZE == 20
    assert decode_place(chunk(1), value) == place
    missed = sum(
        decode_place(chunk(1), value[:at] + bytes([value[at] ^ (1 << bit)]) + value[at + 1 :]) is not None
        for at in range(len(value))
        for bit in range(8)
    )
    assert missed == 0
    assert decode_place(chunk(2), value) is None
    assert decode_place(chunk(1), value[:-1]) is None


@pytest.mark.parametrize(("uuid", "incarnation"), [("other", INCARNATION), (UUID, "second")])
def test_a_foreign_index_is_made_empty(tmp_path: Path, uuid: str, incarnation: str) -> None:
    """Another repository's index, or one of before a recovery, is not believed."""
    first = Index.open(tmp_path / "index", UUID, INCARNATION)
    first.add_packs([(1, b"a" * 32, trailer(1, [1]))])
    first.close()
    second = Index.open(tmp_path / "index", uuid, incarnation)
    assert second.was_reset
    assert (second.applied(), second.entry_count()) == ({}, 0)
    second.close()
    third = Index.open(tmp_path / "index", uuid, incarnation)
    assert not third.was_reset
    third.close()


def test_two_openers_in_one_process_share(tmp_path: Path) -> None:
    """LMDB must not be opened twice by one process: the second open shares, and closing one keeps the other."""
    first = Index.open(tmp_path / "index", UUID, INCARNATION)
    second = Index.open(tmp_path / "index", UUID, INCARNATION)
    second.add_packs([(1, b"a" * 32, trailer(1, [1]))])
    second.close()
    second.close()
    assert places(first, 1) == [1]
    first.close()
    with pytest.raises(IndexDamagedError, match="closed"):
        first.applied()


def test_another_process_sees_what_is_written(index: Index, tmp_path: Path) -> None:
    """A reader in another process finds the places, while the writer has the index open."""
    index.add_packs([(1, b"a" * 32, trailer(1, [1]))])
    script = (
        "import sys\nfrom pathlib import Path\nfrom casimg.index import Index\n"
        "index = Index.open(Path(sys.argv[1]), 'repository', 'first', map_size=1 << 28)\n"
        "print(index.entry_count(), index.was_reset)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, str(tmp_path / "index")], capture_output=True, text=True, check=True
    )
    assert done.stdout == "1 False\n"


def test_a_fork_is_refused(index: Index, monkeypatch: pytest.MonkeyPatch) -> None:
    """Used under another process id the index refuses: LMDB's locks do not survive a fork."""
    monkeypatch.setattr("os.getpid", lambda: -1)
    with pytest.raises(ForkError):
        index.applied()
    monkeypatch.undo()


def test_follow_is_a_set_difference(index: Index) -> None:
    """Missing packs are added in any order of numbers, changed ids replaced, others dropped only when asked."""
    loads: list[int] = []

    def load(pack: object) -> PackTrailer:
        assert isinstance(pack, Pack)
        loads.append(pack.pack_no)
        if pack.pack_no == 9:
            raise PackDamagedError("packs/9", None, "made up")
        return trailer(pack.pack_no, [pack.pack_no])

    follow(index, [Pack(8)], load, drop_others=False)
    report = follow(index, [Pack(7), Pack(8), Pack(9)], load, drop_others=False)
    assert (report.added, report.removed, [number for number, _ in report.damaged]) == (1, 0, [9])
    assert loads == [8, 7, 9]
    report = follow(index, [Pack(8, b"n" * 32)], load, drop_others=True)
    assert (report.added, report.removed) == (1, 2)
    assert index.applied() == {8: b"n" * 32}


def test_a_deleted_folder_is_made_anew(tmp_path: Path) -> None:
    """Deleting the index while it is closed costs nothing but its rebuild."""
    first = Index.open(tmp_path / "index", UUID, INCARNATION)
    first.add_packs([(1, b"a" * 32, trailer(1, [1]))])
    first.close()
    shutil.rmtree(tmp_path / "index")
    second = Index.open(tmp_path / "index", UUID, INCARNATION)
    assert second.entry_count() == 0
    second.close()


def test_a_network_file_system_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An index on NFS is refused by name; LMDB would corrupt it."""
    mounts = tmp_path / "mountinfo"
    mounts.write_text(f"1 0 0:1 / / rw - ext4 /dev/x rw\n2 1 0:2 / {tmp_path.resolve()} rw - nfs4 host:/x rw\n")
    monkeypatch.setattr("casimg.index.lmdb_index._MOUNTS", str(mounts))
    with pytest.raises(ConfigError, match="nfs4"):
        Index.open(tmp_path / "index", UUID, INCARNATION)


def test_entry_lists_are_bounded() -> None:
    """At most as many trailers as allowed are held; the least recently used goes first."""
    loads: list[int] = []

    def load(pack_no: int) -> PackTrailer:
        loads.append(pack_no)
        return trailer(pack_no, [pack_no])

    lists = EntryLists(load, count_max=2)
    for pack_no in (1, 2, 1, 3, 1, 2):
        lists.get(pack_no)
    assert loads == [1, 2, 3, 2]


def test_flipped_bytes_never_give_a_wrong_place(tmp_path: Path) -> None:
    """Whatever page of the index is damaged: right places, none, or a process that ends; never a wrong one.

    LMDB trusts its pages and may crash on them, so each try has a process of its own.
    """
    packs = [(no, b"%032d" % no, trailer(no, list(range(no * 50, no * 50 + 50)))) for no in range(1, 20)]
    first = Index.open(tmp_path / "good", UUID, INCARNATION, map_size=1 << 26)
    first.add_packs(packs)
    first.close()
    good = (tmp_path / "good" / "data.mdb").read_bytes()
    script = (
        "import sys\nfrom pathlib import Path\nfrom casimg.errors import CasimgError\n"
        "from casimg.index import Index\nfrom blake3 import blake3\n"
        "try:\n"
        "    index = Index.open(Path(sys.argv[1]), 'repository', 'first', map_size=1 << 26)\n"
        "    with index.reading() as lookup:\n"
        "        for number in range(50, 1000):\n"
        "            for place in lookup.places(blake3(b'%d' % number).digest()):\n"
        "                if (place.pack_no, place.position) != (number // 50, number % 50): sys.exit(9)\n"
        "except CasimgError:\n"
        "    pass\n"
    )
    rng = random.Random(4)
    for turn in range(12):
        folder = tmp_path / f"bad{turn}"
        folder.mkdir()
        bad = bytearray(good)
        for _ in range(30):
            bad[rng.randrange(8192, len(bad))] ^= 1 << rng.randrange(8)
        (folder / "data.mdb").write_bytes(bad)
        done = subprocess.run([sys.executable, "-c", script, str(folder)], capture_output=True, check=False)
        assert done.returncode != 9
        assert done.returncode <= 0, done.stderr
