"""Packs from spool to object and back, and what of them follows the format."""

import array
import io
import os
from pathlib import Path

import pytest
from blake3 import blake3

import casimg
from casimg.backend.memory import MemoryBackend
from casimg.constants import FRAME_PLAIN_TARGET, KIND_DATA, KIND_METADATA, NODE_FRAME_PLAIN_TARGET
from casimg.errors import BackendUnavailableError, PackDamagedError
from casimg.formats.frame import decode_header, encode_frame
from casimg.formats.pack import FrameSpan, PackTrailer
from casimg.ids import PackId, chunk_id
from casimg.pack.keys import pack_id_of_key, pack_key, record_key
from casimg.pack.reader import read_trailer, salvage, verify_pack
from casimg.pack.writer import FinishedPack, SpoolPack, clean_spool
from casimg.repository import Repository
from tests.conftest import mixed_bytes

CHUNKS = [os.urandom(9000), b"text " * 4000, os.urandom(100), b"z" * 20_000]


def make_pack(folder: Path, nonce: bytes | None = None) -> FinishedPack:
    """A data pack of two frames with two chunks each."""
    pack = SpoolPack(folder, KIND_DATA, 0, nonce=nonce)
    for pair in (CHUNKS[:2], CHUNKS[2:]):
        sizes = [len(chunk) for chunk in pair]
        pack.append(encode_frame(KIND_DATA, b"".join(pair), sizes, 3), [chunk_id(chunk) for chunk in pair], sizes)
    return pack.finish()


def stored(pack: FinishedPack) -> tuple[MemoryBackend, str]:
    """The pack on a backend, and its key."""
    backend, key = MemoryBackend(), pack_key(pack.pack_id)
    backend.put(key, io.BytesIO(pack.path.read_bytes()), pack.size)
    return backend, key


def test_a_pack_is_named_by_its_bytes_and_never_twice(tmp_path: Path) -> None:
    """The id is BLAKE3 of the file; the same chunks again have another name, for the nonce differs."""
    first, second = make_pack(tmp_path), make_pack(tmp_path)
    assert blake3(first.path.read_bytes()).digest() == first.pack_id
    assert first.pack_id != second.pack_id
    assert make_pack(tmp_path, b"n" * 16).pack_id == make_pack(tmp_path, b"n" * 16).pack_id
    assert pack_id_of_key(pack_key(first.pack_id)) == first.pack_id
    assert pack_id_of_key("packs/00/" + "1" * 64) is None


def test_a_trailer_lists_what_the_frames_hold(tmp_path: Path) -> None:
    """Read from the offset or from the end alone, the entry list has every chunk, in order, where it is."""
    pack = make_pack(tmp_path)
    backend, key = stored(pack)
    for offset in (pack.trailer_offset, None):
        trailer = read_trailer(backend, key, pack.size, offset)
        places = list(trailer.places())
        assert [place[0] for place in places] == [chunk_id(chunk) for chunk in CHUNKS]
        assert [place[4] for place in places] == [len(chunk) for chunk in CHUNKS]
        assert places == list(pack.trailer.places())
        assert all(trailer.entry_of(place[1], place[3]) == number for number, place in enumerate(places))
        assert trailer.entry_of(places[0][1], 9) is None
        assert trailer.holds(2, chunk_id(CHUNKS[2]))
        assert not trailer.holds(99, chunk_id(CHUNKS[2]))
    assert verify_pack(backend, key, pack.size, pack.pack_id, pack.trailer_offset)[0] == []


def test_every_flip_in_a_pack_is_found(tmp_path: Path) -> None:
    """Whichever byte changes, verify_pack says so."""
    pack = make_pack(tmp_path)
    backend, key = stored(pack)
    good = backend.objects[key]
    for at in range(0, len(good), 97):
        backend.objects[key] = good[:at] + bytes([good[at] ^ 0x10]) + good[at + 1 :]
        assert verify_pack(backend, key, pack.size, pack.pack_id, pack.trailer_offset)[0], at


def test_salvage_finds_every_whole_frame(tmp_path: Path) -> None:
    """Without its trailer, or with one frame destroyed, the chunks of the other frames are found by scanning."""
    pack = make_pack(tmp_path)
    backend, key = stored(pack)
    good = backend.objects[key]
    backend.objects[key] = good[: pack.trailer_offset] + os.urandom(len(good) - pack.trailer_offset)
    with pytest.raises(PackDamagedError):
        read_trailer(backend, key, pack.size, pack.trailer_offset)
    assert list(salvage(backend, key, pack.size).places()) == list(pack.trailer.places())
    backend.objects[key] = good[:20] + os.urandom(3) + good[23:]
    assert next(iter(salvage(backend, key, pack.size).places()))[0] == chunk_id(CHUNKS[2])
    backend.objects[key] = good[: pack.trailer_offset - 10]
    assert [place[0] for place in salvage(backend, key, pack.size).places()] == [chunk_id(c) for c in CHUNKS[:2]]


def test_the_spool_forgets_only_dead_processes(tmp_path: Path) -> None:
    """Left-over packs of processes that are gone are removed, ours and other files are not."""
    ours = make_pack(tmp_path).path
    (tmp_path / "4194999-dead.pack").write_bytes(b"x")
    (tmp_path / "letter").write_bytes(b"x")
    assert clean_spool(tmp_path) == 1
    assert {path.name for path in tmp_path.iterdir()} == {ours.name, "letter"}


def frames_of(repo: Repository) -> list[tuple[int, list[FrameSpan], PackTrailer, Path]]:
    """Kind, frames, trailer and file of each pack."""
    found = []
    for row in repo._wiring.catalog.all_packs(("live",)):
        trailer = repo._wiring.load_trailer(row)
        found.append((row.kind, list(trailer.frames()), trailer, repo.path / "objects" / pack_key(PackId(row.pack_id))))
    return found


def test_frames_stay_small(repo: Repository) -> None:
    """No frame has more plain bytes than 256 KiB, none of nodes more than 64 KiB."""
    repo.put([bytes(mixed_bytes(30_000_000))], name="image")
    for kind, frames, _, path in frames_of(repo):
        data = path.read_bytes()
        limit = FRAME_PLAIN_TARGET if kind == KIND_DATA else NODE_FRAME_PLAIN_TARGET
        for frame in frames:
            assert decode_header(data[frame.offset : frame.offset + frame.size]).plain_size <= limit


def test_frames_do_not_depend_on_threads(tmp_path: Path) -> None:
    """One thread and five give the same frames with the same chunks, repeats in the source included."""
    part = bytes(mixed_bytes(9_000_000))
    found = []
    for threads in (1, 5):
        folder = tmp_path / f"t{threads}"
        casimg.create(folder).close()
        site = folder / "casimg.toml"
        site.write_text(site.read_text().replace("threads = 0", f"threads = {threads}"))
        with casimg.open(folder) as repo:
            repo.put([part, part[:5_000_001], part], name="image")
            found.append([(kind, frames, list(trailer.places())) for kind, frames, trailer, _ in frames_of(repo)])
    assert sorted(found[0], key=repr) == sorted(found[1], key=repr)


def test_data_and_nodes_are_in_packs_apart(repo: Repository) -> None:
    """Every frame of a data pack is data, every frame of a metadata pack is nodes."""
    repo.put([os.urandom(10_000_000)], name="image")
    kinds = set()
    for kind, frames, _, path in frames_of(repo):
        data = path.read_bytes()
        kinds.add(kind)
        assert {decode_header(data[f.offset : f.offset + f.size]).kind for f in frames} == {kind}
    assert kinds == {KIND_DATA, KIND_METADATA}


def test_a_record_is_there_before_its_image(repo: Repository, monkeypatch: pytest.MonkeyPatch) -> None:
    """When the commit begins the record is on the backend; after rm and gc it is gone."""
    seen = []
    catalog = repo._wiring.catalog
    real = catalog.commit

    def commit(session_id: object, image_id: object, *rest: object, **named: object) -> object:
        key = record_key(image_id, session_id)  # type: ignore[arg-type]
        seen.append(repo._wiring.backend.stat(key).size)
        return real(session_id, image_id, *rest, **named)  # type: ignore[arg-type]

    monkeypatch.setattr(catalog, "commit", commit)
    repo.put([b"x"], name="image")
    assert len(seen) == 1
    repo.delete("image")
    repo.plan_gc().execute()
    assert list(repo._wiring.backend.list("records/")) == []


def test_sizes_of_arrays_are_four_bytes() -> None:
    """Trailers keep sizes in arrays of 32-bit numbers; a platform where they are not would write another format."""
    assert array.array("I").itemsize == 4
    assert issubclass(BackendUnavailableError, casimg.CasimgError)
