"""Check: what it sees, what it never says of a healthy repository, and how it goes round all packs in time."""

import io
import os
import random
import shutil
import sqlite3
import threading
from datetime import UTC, datetime
from pathlib import Path

import pytest

import casimg
from casimg.backend.fault import FaultBackend
from casimg.errors import CasimgError, InputError
from casimg.formats.record import decode_record, encode_record
from casimg.index.place import Place, encode_place
from casimg.repository import Repository
from tests.conftest import mixed_bytes
from tests.fault.damage import damage, packs_of, put, read_all


def execute(repo: Repository, sql: str, *arguments: object) -> None:
    """Run one statement on the catalog's file."""
    with sqlite3.connect(repo.path / "catalog.sqlite") as db:
        db.execute(sql, arguments)
    db.close()


def kinds(repo: Repository) -> set[str]:
    """Kinds of problems that a check finds."""
    return {problem.kind for problem in repo.check().problems}


def test_a_subset_goes_round_all_packs(repo: Repository) -> None:
    """Small shares read the least recently verified packs, one at least, and after enough runs all are verified."""
    for seed in range(4):
        put(repo, f"image-{seed}", seed=seed, size=300_000)
    rows = repo._wiring.catalog.all_packs(("live",))
    whole = sum(row.size for row in rows)
    report = repo.check()
    assert (report.stored_size, report.verified_size, report.oldest_verified_at) == (whole, 0, None)
    sizes = []
    for _ in range(len(rows)):
        report = repo.check(read_data=True, subset="0.001%")
        sizes.append(report.verified_size)
        assert report.oldest_verified_at is not None
    assert sizes == sorted(set(sizes)), "each run reads one more pack"
    assert sizes[-1] == whole
    with sqlite3.connect(repo.path / "catalog.sqlite") as db:
        oldest = db.execute("SELECT pack_no FROM packs ORDER BY verified_at").fetchone()[0]
        db.execute("UPDATE packs SET verified_at = 1000000 WHERE pack_no = ?", (oldest,))
    db.close()
    assert repo.check().oldest_verified_at == datetime.fromtimestamp(1, UTC)
    after = repo.check(read_data=True, subset=1).oldest_verified_at
    assert after is not None
    assert after > datetime.fromtimestamp(1, UTC), "the least recently verified was read"
    largest = max(row.size for row in rows)
    read_sizes = [repo.check(read_data=True, subset=str(largest * 2)).read_size // 2 for _ in range(4)]
    assert all(0 < size <= largest * 2 for size in read_sizes), "verify reads each byte twice; the share is of packs"


@pytest.mark.parametrize("subset", ["0%", "101%", "-1%", "x%", "five", ""])
def test_a_subset_that_means_nothing_is_refused(repo: Repository, subset: str) -> None:
    """A share that is none is an input error, and so is a subset without reading data."""
    with pytest.raises(InputError):
        repo.check(read_data=True, subset=subset)
    with pytest.raises(InputError):
        repo.check(subset="5%")


def test_a_damaged_pack_does_not_hold_up_the_others(repo: Repository) -> None:
    """A pack found damaged counts as looked at: small shares go on to the other packs."""
    for seed in range(3):
        put(repo, f"image-{seed}", seed=seed, size=300_000)
    (path,) = packs_of(repo, "image-0", 0).values()
    damage(path, "flip", random.Random(1))
    for _ in range(6):
        report = repo.check(read_data=True, subset="1%")
    assert report.verified_size == report.stored_size - path.stat().st_size
    assert not report.clean


def test_the_catalog_is_held_against_the_records(repo: Repository) -> None:
    """Each field of an image and its content that the catalog has otherwise than the record is named; both are left."""
    image = repo.put(io.BytesIO(bytes(mixed_bytes(100_000))), name="victim", properties={"a": "b"}, owner="me")
    for table, column, value in (
        ("images", "name", "other"),
        ("images", "disk_format", "qcow2"),
        ("images", "owner", "you"),
        ("images", "visibility", "public"),
        ("images", "protected", 1),
        ("images", "parent_id", image.id),
        ("image_properties", "value", "c"),
        ("contents", "hole_size", 4096),
        ("content_trees", "role", "disk"),
    ):
        with sqlite3.connect(repo.path / "catalog.sqlite") as db:
            before = db.execute(f"SELECT {column} FROM {table}").fetchone()[0]
        db.close()
        execute(repo, f"UPDATE {table} SET {column} = ?", value)
        found = repo.check(repair=True)
        differing = [problem for problem in found.problems if problem.kind in ("record-differs", "catalog")]
        assert differing, column
        assert not found.clean
        execute(repo, f"UPDATE {table} SET {column} = ?", before)
        assert repo.check().problems == (), "nothing was written on the word of one of two that differ"
    execute(repo, "UPDATE contents SET size = size + 1")
    assert "record-differs" in kinds(repo)


def test_a_record_that_contradicts_is_never_overwritten(repo: Repository) -> None:
    """When the catalog points an image to another content, the record, which has the right one, stays as it is."""
    image = put_image(repo)
    other = repo.put([b"other"], name="other")
    (path,) = (repo.path / "objects" / "records" / image.id).iterdir()
    good = path.read_bytes()
    execute(repo, "UPDATE images SET content_id = ? WHERE id = ?", other.content_id, image.id)
    report = repo.check(repair=True)
    assert [problem.kind for problem in report.problems] == ["record-differs"]
    assert not report.clean
    assert path.read_bytes() == good


def test_repair_on_the_word_of_a_damaged_catalog_harms_nothing(tmp_path: Path) -> None:
    """A byte of the catalog flips, a repair runs, and the good catalog is put back: everything is there and right."""
    originals: dict[str, bytes] = {}
    with casimg.create(tmp_path / "r") as repo:
        for seed in range(2):
            originals[f"image-{seed}"] = put(repo, f"image-{seed}", seed=seed, size=50_000)
    path = tmp_path / "r" / "catalog.sqlite"
    with sqlite3.connect(path) as db:
        db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    db.close()
    good = path.read_bytes()
    objects = {file: file.read_bytes() for file in (tmp_path / "r" / "objects").rglob("*") if file.is_file()}
    used = [at for at in range(len(good)) if good[at]]
    rng = random.Random(int(os.environ.get("CASIMG_TEST_SEED", "6")))
    repaired = 0
    for _ in range(40):
        bad = bytearray(good)
        bad[rng.choice(used)] ^= 1 << rng.randrange(8)
        _replace_catalog(path, bytes(bad))
        try:
            with casimg.open(tmp_path / "r") as repo:
                repaired += repo.check(read_data=True, repair=True).repair is not None
        except CasimgError:
            pass
        for file, data in objects.items():
            assert file.read_bytes() == data, "no object is overwritten or removed"
    assert repaired > 5
    _replace_catalog(path, good)
    with casimg.open(tmp_path / "r") as repo:
        assert [problem for problem in repo.check(read_data=True).problems if problem.lossy] == []
        for name, data in originals.items():
            assert read_all(repo, name) == data


def _replace_catalog(path: Path, data: bytes) -> None:
    for suffix in ("-wal", "-shm"):
        path.with_name(path.name + suffix).unlink(missing_ok=True)
    path.write_bytes(data)


def test_a_change_whose_record_is_still_to_come_is_no_difference(repo: Repository) -> None:
    """While the outbox holds a change of an image, its older record is not called wrong."""
    image = put_image(repo)
    execute(repo, "UPDATE images SET name = 'renamed'")
    assert kinds(repo) == {"record-differs"}
    execute(repo, "INSERT INTO outbox (image_id, created_at) VALUES (?, 1)", image.id)
    assert kinds(repo) == set()


def put_image(repo: Repository) -> casimg.Image:
    """A small image."""
    return repo.put([b"x" * 10_000], name="victim")


def test_records_are_written_anew(repo: Repository) -> None:
    """A missing, damaged or foreign record is mended by repair; what it then says is what it said."""
    image = put_image(repo)
    (path,) = (repo.path / "objects" / "records" / image.id).iterdir()
    good = path.read_bytes()
    other = repo.put([b"other"], name="other")
    (foreign,) = (repo.path / "objects" / "records" / other.id).iterdir()
    for bad in (None, b"", good[:-1], good[:50] + b"!" + good[51:], foreign.read_bytes()):
        if bad is None:
            path.unlink()
        else:
            path.write_bytes(bad)
        assert not repo.check().clean
        report = repo.check(repair=True)
        assert report.clean
        assert report.repair is not None
        assert report.repair.record_count == 1
        new, old = decode_record(path.read_bytes()), decode_record(good)
        assert new.content == old.content
        assert (new.name, new.image_id) == (old.name, old.image_id)
        assert repo.check().problems == ()
    assert encode_record(decode_record(good)) == good


def test_a_pack_that_is_going_and_named_is_seen(repo: Repository) -> None:
    """A content that names a pack in `deleting` or `deleted`, which must never be, is reported and healed."""
    data = put(repo, "victim", size=300_000)
    (pack_no,) = packs_of(repo, "victim", 0)
    execute(repo, "UPDATE packs SET state = 'deleted' WHERE pack_no = ?", pack_no)
    problems = [problem for problem in repo.check().problems if problem.kind == "pack-gone"]
    assert len(problems) == 1
    assert "victim" in problems[0].images[0]
    repo.put(io.BytesIO(data), name="again")
    assert repo.check(repair=True).clean
    assert read_all(repo, "victim") == data


def test_flipped_bytes_of_the_catalog_never_give_wrong_bytes(tmp_path: Path) -> None:
    """Whatever byte of the catalog flips: an image reads right, or there is an error, or check says so."""
    originals: dict[str, bytes] = {}
    with casimg.create(tmp_path / "r") as repo:
        for seed in range(3):
            originals[f"image-{seed}"] = put(repo, f"image-{seed}", seed=seed, size=50_000)
        repo.put([bytes(5000)], name="zeros")
        originals["zeros"] = bytes(5000)
    path = tmp_path / "r" / "catalog.sqlite"
    with sqlite3.connect(path) as db:
        db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    db.close()
    good = path.read_bytes()
    used = [at for at in range(len(good)) if good[at]]
    rng = random.Random(int(os.environ.get("CASIMG_TEST_SEED", "4")))
    silent = 0
    for _ in range(80):
        bad = bytearray(good)
        at = rng.choice(used)
        bad[at] ^= 1 << rng.randrange(8)
        _replace_catalog(path, bytes(bad))
        wrong: list[str] = []
        try:
            with casimg.open(tmp_path / "r") as repo:
                for name, data in originals.items():
                    try:
                        if read_all(repo, name) != data:
                            wrong.append(name)
                    except CasimgError:
                        pass
                report = repo.check()
        except CasimgError:
            continue
        assert not wrong or not report.clean, (at, wrong)
        silent += report.clean
    assert silent < 75, "most of the file matters"


def test_a_catalog_that_is_damaged_is_not_written(tmp_path: Path) -> None:
    """When the catalog's own file is damaged, check says so, and repair refuses to act on its word."""
    with casimg.create(tmp_path / "r") as repo:
        put(repo, "victim", size=50_000)
        execute(repo, "PRAGMA foreign_keys=OFF")
        execute(repo, "DELETE FROM sessions")
        report = repo.check(repair=True)
        assert "catalog" in {problem.kind for problem in report.problems}
        assert report.repair is not None
        assert report.repair.refused
        assert not report.clean


def test_a_wrong_index_is_seen_and_made_anew(tmp_path: Path) -> None:
    """Places that an entry list contradicts, or that are missing, are a note; repair makes the index anew."""
    with casimg.create(tmp_path / "r") as repo:
        data = put(repo, "victim")
        index = repo._wiring.index
        (pack_no,) = packs_of(repo, "victim", 0)
        (row,) = repo._wiring.catalog.packs([pack_no])
        places = list(repo._wiring.load_trailer(row).places())
        with index._env.begin(write=True, db=index._places) as txn:
            for number, (chunk, *rest) in enumerate(places):
                if number % 3 == 0:
                    txn.delete(chunk, encode_place(chunk, Place(pack_no, *rest)))
                if number % 6 == 0:
                    wrong = Place(pack_no, places[0][1], rest[1], 4000, rest[3])
                    txn.put(chunk, encode_place(chunk, wrong))
        report = repo.check()
        assert [problem.kind for problem in report.problems] == ["index-wrong"]
        assert report.clean, "a cache costs no byte"
        assert read_all(repo, "victim") == data
        healed = repo.check(repair=True)
        assert healed.repair is not None
        assert healed.repair.index_rebuilt
        assert repo.check().problems == ()


def test_a_healthy_repository_is_never_called_damaged(tmp_path: Path) -> None:
    """Puts, snapshots, deletes and collections while checks run: no check finds a lossy problem, or repairs one."""
    with casimg.create(tmp_path / "r") as repo:
        put(repo, "base", size=500_000)
        stop = threading.Event()
        errors: list[BaseException] = []

        def churn(number: int) -> None:
            try:
                with casimg.open(tmp_path / "r") as own:
                    turn = 0
                    while not stop.is_set():
                        name = f"churn-{number}-{turn}"
                        put(own, name, seed=turn % 4, size=400_000)
                        own.snapshot(name, name=f"{name}-snapshot")
                        own.delete(name)
                        if turn % 2:
                            own.plan_gc().execute()
                        own.delete(f"{name}-snapshot")
                        own.plan_gc().execute()
                        turn += 1
            except casimg.errors.TryAgainError:
                churn(number)
            except BaseException as error:
                errors.append(error)

        threads = [threading.Thread(target=churn, args=(number,)) for number in range(2)]
        for thread in threads:
            thread.start()
        try:
            for turn in range(25):
                report = repo.check(read_data=turn % 2 == 0, repair=turn % 5 == 0)
                assert [problem for problem in report.problems if problem.lossy] == []
        finally:
            stop.set()
            for thread in threads:
                thread.join()
        assert errors == []
        assert not any(row.damaged for row in repo._wiring.catalog.all_packs(("live", "condemned")))


def test_what_cannot_be_reached_is_not_damaged(repo: Repository) -> None:
    """A backend that does not answer stops a check; no pack is marked by it."""
    put(repo, "victim", size=100_000)
    inner = repo._wiring.backend
    for verb in ("list", "get_range", "stat"):

        def fail(called: str, key: str, _number: int, verb: str = verb) -> Exception | None:
            return casimg.errors.BackendUnavailableError("test", key) if called == verb else None

        repo._wiring.backend = FaultBackend(inner, fail)
        with pytest.raises(casimg.errors.BackendUnavailableError):
            repo.check(read_data=True, repair=True)
    repo._wiring.backend = inner
    assert not any(row.damaged for row in repo._wiring.catalog.all_packs(("live",)))
    assert repo.check(read_data=True).problems == ()


def test_a_missing_object_brought_back_counts_again(repo: Repository) -> None:
    """A pack found missing, then brought back, is read whole by the next check, which clears the mark."""
    data = put(repo, "victim", size=300_000)
    (path,) = packs_of(repo, "victim", 0).values()
    shutil.move(path, path.with_suffix(".away"))
    assert "pack-missing" in kinds(repo)
    assert any(row.damaged for row in repo._wiring.catalog.all_packs(("live",)))
    shutil.move(path.with_suffix(".away"), path)
    assert repo.check().problems == ()
    assert not any(row.damaged for row in repo._wiring.catalog.all_packs(("live",)))
    assert read_all(repo, "victim") == data
