"""The reader asks again: chunks that move, objects that lag, images that go, while one reader holds on."""

import io
from collections.abc import Callable

import pytest
from sqlalchemy import delete, insert

from casimg.assemble import ContentReader, Patience
from casimg.backend.fault import FaultBackend
from casimg.catalog.schema import content_packs
from casimg.errors import ChunkLostError, ImageDeletedError, ObjectNotFoundError
from casimg.ids import ContentId, PackId
from casimg.image_file import read_range
from casimg.pack.keys import pack_key
from casimg.packing import PackLine
from casimg.repository import Repository
from tests.conftest import mixed_bytes

SIZE = 2_000_000


def stored(repo: Repository) -> tuple[bytes, ContentId]:
    """Put an image; returns its bytes and content."""
    data = bytes(mixed_bytes(SIZE, seed=9))
    content_id = repo.put(io.BytesIO(data), name="victim").content_id
    assert content_id is not None
    return data, content_id


def move_pack(repo: Repository, content_id: ContentId, pack_no: int, *, remove: bool) -> int:
    """Copy a pack frame by frame into a new one, switch the content's row, and remove the old object: a repack."""
    wiring = repo._wiring
    session = wiring.catalog.open_session("repack")
    line = PackLine(
        session_id=session.session_id,
        catalog=wiring.catalog,
        backend=wiring.backend,
        backend_id=wiring.backend_id,
        index=wiring.index,
        spool=wiring.spool,
    )
    (row,) = wiring.catalog.packs([pack_no])
    trailer = wiring.load_trailer(row)
    for frame in trailer.frames():
        stored_frame = wiring.backend.get_range(pack_key(PackId(row.pack_id)), frame.offset, frame.size)
        entries = range(frame.first_entry, frame.first_entry + frame.chunk_count)
        sizes = [size for _, offset, _, _, size in trailer.places() if offset == frame.offset]
        line.append(trailer.kind, stored_frame, [trailer.id_at(entry) for entry in entries], sizes)
    line.flush()
    (new,) = line.shipped

    def switch(connection: object) -> None:
        connection.execute(  # type: ignore[attr-defined]
            delete(content_packs).where(content_packs.c.content_id == content_id, content_packs.c.pack_no == pack_no)
        )
        connection.execute(insert(content_packs).values(content_id=content_id, pack_no=new))  # type: ignore[attr-defined]

    wiring.catalog.transaction(switch)
    line.close()
    wiring.end_session(session.session_id)
    if remove:
        wiring.backend.delete(pack_key(PackId(row.pack_id)))
    return new


def reader_with(repo: Repository, content_id: ContentId, patience: Patience) -> ContentReader:
    """A reader with a patience of its own and nothing in its caches."""
    return repo._wiring.reader(content_id, patience=patience)


def test_a_reader_follows_chunks_however_often_they_move(repo: Repository) -> None:
    """Packs moved again and again between a reader's refresh and its read: it finds them, and waits for nothing."""
    data, content_id = stored(repo)
    moves = 0

    def no_wait(_seconds: float) -> None:
        raise AssertionError("rows that change are proof enough; nothing to wait for")

    reader = reader_with(repo, content_id, Patience(5.0, no_wait))
    for row in repo._wiring.catalog.content_packs(content_id):
        move_pack(repo, content_id, row.pack_no, remove=True)
    refresh = reader._refresh

    def refresh_and_move() -> object:
        nonlocal moves
        found = refresh()
        if moves < 5:  # the answer is out of date before it is used
            moves += 1
            for row in repo._wiring.catalog.content_packs(content_id):
                move_pack(repo, content_id, row.pack_no, remove=True)
        return found

    reader._refresh = refresh_and_move  # type: ignore[assignment]
    assert bytes(read_range(reader, 0, SIZE)) == data
    assert moves == 5
    assert repo.check(read_data=True).clean


def lagging(repo: Repository, is_absent: Callable[[], bool]) -> None:
    """Let the backend answer 404 for packs as long as `is_absent`."""

    def fail(verb: str, key: str, _number: int) -> Exception | None:
        absent = verb in ("get_range", "stat") and key.startswith("packs/") and is_absent()
        return ObjectNotFoundError(key) if absent else None

    repo._wiring.backend = FaultBackend(repo._wiring.backend, fail)


def test_an_object_that_lags_is_waited_for(repo: Repository) -> None:
    """A 404 for a pack that the rows name again is waited out, growing pauses, up to the limit and no longer."""
    data, content_id = stored(repo)
    waited: list[float] = []
    lagging(repo, lambda: sum(waited) < 20)
    reader = reader_with(repo, content_id, Patience(60.0, waited.append))
    assert bytes(read_range(reader, 0, SIZE)) == data
    assert 20 <= sum(waited) < 40
    assert waited == sorted(waited)

    waited.clear()
    repo._wiring.frames = type(repo._wiring.frames)()
    lagging(repo, lambda: True)
    reader = reader_with(repo, content_id, Patience(60.0, waited.append))
    with pytest.raises(ChunkLostError) as caught:
        read_range(reader, 0, SIZE)
    assert 60 <= sum(waited) < 70
    assert caught.value.pack_keys, "the packs that were looked in are named"


def test_wrong_bytes_are_not_waited_for(repo: Repository) -> None:
    """A pack that is there and wrong is lost at once: time does not mend it."""
    _, content_id = stored(repo)
    for row in repo._wiring.catalog.content_packs(content_id):
        path = repo.path / "objects" / pack_key(PackId(row.pack_id))
        path.write_bytes(bytes(path.stat().st_size))
    waited: list[float] = []
    with pytest.raises(ChunkLostError):
        read_range(reader_with(repo, content_id, Patience(60.0, waited.append)), 0, SIZE)
    assert waited == []


def test_a_deleted_image_is_called_deleted(repo: Repository) -> None:
    """When image, rows and packs go under a reader without a lease, the answer is "deleted", not "lost"."""
    _, content_id = stored(repo)
    reader = reader_with(repo, content_id, Patience(0.0))
    repo.delete("victim")
    repo.plan_gc().execute()
    with pytest.raises(ImageDeletedError):
        read_range(reader, 0, SIZE)
    with pytest.raises(ImageDeletedError):
        reader_with(repo, content_id, Patience(0.0))


def test_the_newest_copy_is_read_and_relied_on(repo: Repository) -> None:
    """Of several copies among an image's packs the one in the newest pack is read, and noted by a new put."""
    data, content_id = stored(repo)
    wiring = repo._wiring
    old = {row.pack_no for row in wiring.catalog.content_packs(content_id)}
    new = {move_pack(repo, content_id, pack_no, remove=False) for pack_no in old}
    with_both = lambda connection: connection.execute(  # noqa: E731
        insert(content_packs), [{"content_id": content_id, "pack_no": pack_no} for pack_no in old]
    )
    wiring.catalog.transaction(with_both)
    seen: set[str] = set()

    def watch(verb: str, key: str, _number: int) -> None:
        if verb == "get_range":
            seen.add(key)

    wiring.backend = FaultBackend(wiring.backend, watch)
    with repo.open_image("victim") as file:
        assert file.read_at(0, SIZE) == data
    assert seen == {pack_key(PackId(row.pack_id)) for row in wiring.catalog.packs(new)}
    again = repo.put(io.BytesIO(data), name="again").content_id
    assert again is not None
    assert {row.pack_no for row in wiring.catalog.content_packs(again)} == new
