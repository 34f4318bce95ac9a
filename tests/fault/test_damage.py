"""Damage of any kind of file: an error that names it and the images it touches, never wrong bytes."""

import io
import os
import random
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import casimg
from casimg.repository import Repository
from tests.conftest import mixed_bytes

SIZE = 9_000_000


def pack_files(repo: Repository, kind: str) -> list[Path]:
    """Pack files of a kind, largest first; metadata packs are the small ones here."""
    found = sorted((repo.path / "objects" / "packs").rglob("*"), key=lambda path: -path.stat().st_size)
    files = [path for path in found if path.is_file()]
    return files[:-1] if kind == "data" else files[-1:]


def stored(folder: Path) -> bytes:
    """Make a repository with one image in the folder and return the image's bytes."""
    data = bytes(mixed_bytes(SIZE))
    with casimg.create(folder) as repo:
        repo.put(io.BytesIO(data), name="victim")
        repo.put([b"another"], name="bystander")
    return data


def read_all(repo: Repository, name: str) -> bytes:
    """The bytes of an image."""
    sink = io.BytesIO()
    repo.get(name, sink)
    return sink.getvalue()


def test_flipped_bits_in_packs_never_give_wrong_bytes(tmp_path: Path) -> None:
    """Wherever one bit of a pack flips, a read gives the right bytes or DamageError, and check --read-data sees it."""
    data = stored(tmp_path / "r")
    rng = random.Random(3)
    with casimg.open(tmp_path / "r") as repo:
        files = [path for path in (tmp_path / "r" / "objects" / "packs").rglob("*") if path.is_file()]
    for _ in range(40):
        path = rng.choice(files)
        good = path.read_bytes()
        at = rng.randrange(len(good))
        bad = bytearray(good)
        bad[at] ^= 1 << rng.randrange(8)
        path.write_bytes(bad)
        with casimg.open(tmp_path / "r") as repo:
            why = ""
            try:
                assert read_all(repo, "victim") == data
            except casimg.errors.DamageError as error:
                why = str(error)
            assert not why or path.name in why or "lost" in why
            report = repo.check(read_data=True)
            assert not report.clean, (path, at)
            assert any(path.name in problem.what for problem in report.problems)
            assert any("victim" in image or "bystander" in image for p in report.problems for image in p.images)
        path.write_bytes(good)
    with casimg.open(tmp_path / "r") as repo:
        assert repo.check(read_data=True).clean


@pytest.mark.parametrize("how", ["truncate", "delete", "empty", "grow"])
def test_truncated_and_missing_packs_are_named(tmp_path: Path, how: str) -> None:
    """A pack cut off, gone, emptied or longer is named by check with the image it touches; others still read."""
    data = stored(tmp_path / "r")
    with casimg.open(tmp_path / "r") as repo:
        path = pack_files(repo, "data")[0]
        if how == "delete":
            path.unlink()
        elif how == "grow":
            path.write_bytes(path.read_bytes() + b"tail")
        else:
            os.truncate(path, path.stat().st_size // 2 if how == "truncate" else 0)
        report = repo.check()
        assert not report.clean
        assert any(path.name in problem.what and "victim" in str(problem.images) for problem in report.problems)
        assert read_all(repo, "bystander") == b"another"
        if how == "grow":
            assert read_all(repo, "victim") == data
        else:
            with pytest.raises(casimg.errors.ChunkLostError, match=path.name):
                read_all(repo, "victim")


def test_a_damaged_trailer_costs_nothing_but_the_index_is_gone(tmp_path: Path) -> None:
    """With the trailer destroyed and the index deleted, the frames are found by scanning and every byte reads."""
    data = stored(tmp_path / "r")
    with casimg.open(tmp_path / "r") as repo:
        path = pack_files(repo, "data")[0]
    with path.open("r+b") as file:
        file.seek(-200, os.SEEK_END)
        file.write(os.urandom(200))
    shutil.rmtree(tmp_path / "r" / "index")
    with casimg.open(tmp_path / "r") as repo:
        assert read_all(repo, "victim") == data
        assert not repo.check().clean


def test_damaged_metadata_names_the_node(tmp_path: Path) -> None:
    """A manifest node that does not read is a DamageError; no byte is given for it."""
    stored(tmp_path / "r")
    with casimg.open(tmp_path / "r") as repo:
        for path in (tmp_path / "r" / "objects" / "packs").rglob("*"):
            if path.is_file() and path.read_bytes()[10] == 1:  # a metadata pack
                path.write_bytes(path.read_bytes()[:16] + bytes(path.stat().st_size - 16))
        with pytest.raises(casimg.errors.DamageError):
            read_all(repo, "victim")
        report = repo.check()
        assert "victim" in str([problem.images for problem in report.problems])


def test_damaged_records_are_seen(tmp_path: Path) -> None:
    """A flipped or missing record is named by check; the image still reads."""
    data = stored(tmp_path / "r")
    with casimg.open(tmp_path / "r") as repo:
        image = repo.image("victim")
        (record,) = (tmp_path / "r" / "objects" / "records" / image.id).iterdir()
        good = record.read_bytes()
        for at in range(0, len(good), 37):
            record.write_bytes(good[:at] + bytes([good[at] ^ 4]) + good[at + 1 :])
            assert {problem.kind for problem in repo.check().problems} == {"record-damaged"}, at
        record.unlink()
        assert {problem.kind for problem in repo.check().problems} == {"record-missing"}
        assert read_all(repo, "victim") == data


def test_the_index_never_yields_wrong_bytes(tmp_path: Path) -> None:
    """Values of the index turned to nonsense cost time, never a byte: entry lists of the packs are the way back."""
    data = stored(tmp_path / "r")
    script = (
        "import lmdb, sys, random\n"
        "rng = random.Random(int(sys.argv[2]))\n"
        "env = lmdb.open(sys.argv[1], max_dbs=3, map_size=1 << 30)\n"
        "db = env.open_db(b'places', dupsort=True)\n"
        "with env.begin(write=True) as txn:\n"
        "    for key, value in list(txn.cursor(db)):\n"
        "        if rng.random() < 0.5:\n"
        "            txn.delete(key, value, db=db)\n"
        "            if rng.random() < 0.7:\n"
        "                txn.put(key, rng.randbytes(len(value)), db=db)\n"
    )
    for seed in range(3):
        subprocess.run([sys.executable, "-c", script, str(tmp_path / "r" / "index"), str(seed)], check=True)
        with casimg.open(tmp_path / "r") as repo:
            assert read_all(repo, "victim") == data
            assert repo.put_report(io.BytesIO(data), name=f"again-{seed}").image is not None
            assert read_all(repo, f"again-{seed}") == data


def test_a_foreign_or_broken_index_is_made_anew(tmp_path: Path) -> None:
    """An index of another repository, or a file of garbage, is set aside and rebuilt without a word from the user."""
    data = stored(tmp_path / "r")
    stored(tmp_path / "other")
    shutil.rmtree(tmp_path / "r" / "index")
    shutil.copytree(tmp_path / "other" / "index", tmp_path / "r" / "index")
    with casimg.open(tmp_path / "r") as repo:
        assert read_all(repo, "victim") == data
    (tmp_path / "r" / "index" / "data.mdb").write_bytes(b"garbage" * 5000)
    with casimg.open(tmp_path / "r") as repo:
        assert read_all(repo, "victim") == data
        assert repo.rebuild_index().entry_count > 0
        assert read_all(repo, "victim") == data


def test_an_index_of_empty_pages_costs_nothing(tmp_path: Path) -> None:
    """With every page behind the first two zeroed, images read, check finds nothing lost, and a rebuild is whole."""
    data = stored(tmp_path / "r")
    path = tmp_path / "r" / "index" / "data.mdb"
    pages = path.read_bytes()
    path.write_bytes(pages[: 2 * 4096] + bytes(len(pages) - 2 * 4096))
    with casimg.open(tmp_path / "r") as repo:
        assert read_all(repo, "victim") == data
        assert not any(problem.lossy for problem in repo.check(read_data=True).problems)
        assert repo.rebuild_index().entry_count > 0
        assert not repo.check().problems
        assert read_all(repo, "victim") == data
