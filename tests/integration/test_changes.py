"""Changes of metadata and their records: what is committed reaches the backend, at once or by the next collection."""

import json
import subprocess
import sys
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

import casimg
from casimg.backend.fault import FaultBackend
from casimg.errors import BackendUnavailableError, ImageNotFoundError, InputError, NameTakenError, ProtectedImageError
from casimg.formats.record import ImageRecord, decode_record
from casimg.repository import Repository

SET = (
    "import casimg, sys\n"
    "with casimg.open(sys.argv[1]) as repo:\n"
    "    for turn in range(15):\n"
    "        repo.update('image', properties={sys.argv[2]: str(turn), 'both': sys.argv[2]})\n"
)


def records(repo: Repository, image_id: str) -> list[ImageRecord]:
    """What the backend says of an image, least revision first."""
    backend = repo._wiring.backend
    found = [backend.get_range(item.key, 0, item.size) for item in backend.list(f"records/{image_id}/")]
    return sorted((decode_record(data) for data in found), key=lambda record: record.revision)


def run(folder: Path, *arguments: str, code: int = 0) -> str:
    """Run the command line and return what it says."""
    command = [sys.executable, "-m", "casimg", "--repo", str(folder), *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == code, done.stderr
    return done.stdout + done.stderr


def failing(repo: Repository, fails: Callable[[str, int], bool]) -> FaultBackend:
    """Make backend calls of an open repository fail."""

    def fail(verb: str, key: str, number: int) -> Exception | None:
        return BackendUnavailableError("test", f"{verb} {key}") if fails(verb, number) else None

    faulty = FaultBackend(repo._wiring.backend, fail)
    repo._wiring.backend = faulty
    return faulty


def test_a_change_reaches_the_record(repo: Repository) -> None:
    """After update the one record of the image says what the catalog says, and check and gc agree."""
    image = repo.put([b"x" * 100_000], name="image", properties={"os": "debian", "old": "1"})
    changed = repo.update(
        "image", name="other", protected=True, visibility="public", properties={"os": "fedora"}, unset=["old"]
    )
    assert (changed.name, changed.protected, changed.visibility) == ("other", True, "public")
    assert changed.properties == {"os": "fedora"}
    assert changed.created_at == image.created_at
    (record,) = records(repo, image.id)
    assert (record.name, record.protected, record.visibility, record.revision) == ("other", True, "public", 1)
    assert record.properties == {"os": "fedora"}
    assert record.created_at == image.created_at.isoformat()
    assert record.updated_at == changed.updated_at.isoformat()
    assert repo.check(read_data=True).problems == ()
    assert repo.plan_gc().execute().orphan_count == 0
    with pytest.raises(ProtectedImageError):
        repo.delete("other")


def test_a_deleted_image_has_no_record(repo: Repository) -> None:
    """Deleting takes the record away at once, so that `recover` cannot bring the image back."""
    image = repo.put([b"x" * 100_000], name="image")
    repo.delete("image")
    assert records(repo, image.id) == []


def test_what_cannot_be_changed_is_refused(repo: Repository) -> None:
    """Nothing to do, bad values, contradictions, taken names and unknown images are errors that change nothing."""
    repo.put([b"x"], name="image")
    repo.put([b"y"], name="taken")
    refused: list[tuple[dict[str, object], type[Exception]]] = [
        ({}, InputError),
        ({"name": ""}, InputError),
        ({"visibility": "secret"}, InputError),
        ({"properties": {"": "x"}}, InputError),
        ({"properties": {"a": "x"}, "unset": ["a"]}, InputError),
        ({"name": "taken"}, NameTakenError),
    ]
    for arguments, error in refused:
        with pytest.raises(error):
            repo.update("image", **arguments)  # type: ignore[arg-type]
    with pytest.raises(ImageNotFoundError):
        repo.update("none", name="x")
    assert repo.update("image", name="taken", same_name=True).name == "taken"
    assert len(repo.images("taken")) == 2


def test_an_unreachable_backend_delays_only_the_record(repo: Repository) -> None:
    """With the backend failing, changes and deletions are committed; the next collection brings the records up."""
    image = repo.put([b"x" * 100_000], name="image")
    gone = repo.put([b"y" * 100_000], name="gone")
    wiring = repo._wiring
    real = wiring.backend
    failing(repo, lambda _verb, _number: True)
    assert repo.update("image", name="b").name == "b"
    assert repo.update("b", name="c").name == "c"
    repo.delete("gone")
    wiring.backend = real
    assert [record.name for record in records(repo, image.id)] == ["image"]
    assert len(records(repo, gone.id)) == 1
    assert repo.plan_gc().execute().record_behind_count == 0
    assert [(record.name, record.revision) for record in records(repo, image.id)] == [("c", 2)]
    assert records(repo, gone.id) == []
    assert repo.check(read_data=True).problems == ()


def test_a_collection_says_which_records_it_could_not_put(repo: Repository) -> None:
    """A record that gc cannot put is counted and does not stop the collection."""
    repo.put([b"x" * 100_000], name="image")
    wiring = repo._wiring
    real = wiring.backend
    failing(repo, lambda verb, _number: verb == "put")
    repo.update("image", name="b")
    assert repo.plan_gc().execute().record_behind_count == 1
    wiring.backend = real
    assert repo.plan_gc().execute().record_behind_count == 0


def test_every_failing_backend_call_of_a_change(tmp_path: Path) -> None:
    """Failing the n-th backend call of changes and a deletion: all are committed, and gc sets every record right."""
    number = 0
    while True:
        number += 1
        with casimg.create(tmp_path / f"r{number}") as repo:
            image = repo.put([b"x" * 50_000], name="image")
            gone = repo.put([b"y" * 50_000], name="gone")
            real = repo._wiring.backend
            faulty = failing(repo, lambda _verb, count, at=number: count == at)  # type: ignore[misc]
            repo.update("image", properties={"a": "1"})
            repo.update("image", name="b")
            repo.delete("gone")
            repo._wiring.backend = real
            assert repo.image(image.id).name == "b"
            assert max(record.revision for record in records(repo, image.id)) <= 2
            repo.plan_gc().execute()
            assert [(record.name, record.revision) for record in records(repo, image.id)] == [("b", 2)], number
            assert records(repo, gone.id) == [], number
            assert repo.check(read_data=True).problems == (), number
        if faulty.call_count < number:
            break
    assert number > 6, "the loop must have reached into all three"


@pytest.mark.parametrize("step", ["put", "delete"])
def test_killed_while_the_record_is_put(tmp_path: Path, step: str) -> None:
    """kill -9 before or after the new record: the change is committed, the image has its record, gc takes the rest."""
    script = (
        "import casimg, os, signal, sys\n"
        "repo = casimg.open(sys.argv[1])\n"
        "backend = repo._wiring.backend\n"
        f"backend.{step} = lambda *rest: os.kill(os.getpid(), signal.SIGKILL)\n"
        "repo.update('image', name='b')\n"
    )
    with casimg.create(tmp_path / "r") as repo:
        image = repo.put([b"x" * 50_000], name="image")
    child = subprocess.run([sys.executable, "-c", script, str(tmp_path / "r")], check=False)
    assert child.returncode == -9
    with casimg.open(tmp_path / "r") as repo:
        assert repo.image("b").id == image.id
        assert repo.check(read_data=True).clean
        report = repo.plan_gc().execute()
        assert (report.orphan_count, report.record_behind_count) == (1 if step == "delete" else 0, 0)
        assert [(record.name, record.revision) for record in records(repo, image.id)] == [("b", 1)]


def test_two_processes_change_one_image(tmp_path: Path) -> None:
    """Changes of two processes at once are all kept; the one record left is of the last of them."""
    with casimg.create(tmp_path / "r") as repo:
        image = repo.put([b"x" * 50_000], name="image")
        children = [subprocess.Popen([sys.executable, "-c", SET, str(tmp_path / "r"), who]) for who in ("one", "two")]
        assert [child.wait() for child in children] == [0, 0]
        row = repo._wiring.catalog.image(image.id)
        assert row.revision == 30
        assert row.properties["one"] == row.properties["two"] == "14"
        repo.plan_gc().execute()
        (record,) = records(repo, image.id)
        assert (record.revision, record.properties) == (30, dict(row.properties))
        assert repo.check(read_data=True).problems == ()


def test_changes_against_deletion(repo: Repository) -> None:
    """A change and a deletion at once: whoever loses says so, and a deleted image keeps no record."""
    for turn in range(10):
        image = repo.put([b"x" * 1000], name=f"image-{turn}")
        barrier = threading.Barrier(2)

        def change(ref: str = image.id, start: threading.Barrier = barrier) -> bool:
            start.wait()
            try:
                repo.update(ref, properties={"a": "1"})
            except ImageNotFoundError:
                return False
            return True

        def delete(ref: str = image.id, start: threading.Barrier = barrier) -> bool:
            start.wait()
            repo.delete(ref)
            return True

        with ThreadPoolExecutor(2) as pool:
            changed, deleted = pool.submit(change), pool.submit(delete)
            assert deleted.result()
            changed.result()
        repo.plan_gc().execute()
        assert records(repo, image.id) == []


def test_one_name_is_given_once(repo: Repository) -> None:
    """Of four images that are given one name at once, one gets it."""
    ids = [repo.put([b"%d" % number], name=f"image-{number}").id for number in range(4)]
    barrier = threading.Barrier(4)

    def rename(image_id: str) -> bool:
        barrier.wait()
        try:
            repo.update(image_id, name="wanted")
        except NameTakenError:
            return False
        return True

    with ThreadPoolExecutor(4) as pool:
        assert sum(pool.map(rename, ids)) == 1
    assert len(repo.images("wanted")) == 1


def test_the_command_set(tmp_path: Path) -> None:
    """casimg set changes and shows; its errors have the exit codes of their families."""
    folder = tmp_path / "r"
    with casimg.create(folder) as repo:
        image = repo.put([b"x"], name="image", properties={"a": "1"})
        repo.put([b"y"], name="taken")
    assert run(folder, "set", "image", "--name", "b", "--property", "k=v=w") == f"changed b ({image.id})\n"
    said = json.loads(run(folder, "set", "b", "--protected", "--visibility", "shared", "--unset", "a", "--json"))
    assert (said["protected"], said["visibility"], said["properties"]) == (True, "shared", {"k": "v=w"})
    assert "nothing to change" in run(folder, "set", "b", code=5)
    assert "is taken" in run(folder, "set", "b", "--name", "taken", code=4)
    assert "protected" in run(folder, "rm", "b", code=4)
    assert "no image" in run(folder, "set", "none", "--name", "x", code=3)
    run(folder, "set", "b", "--unprotected", "--name", "taken", "--same-name")
    run(folder, "rm", image.id)
