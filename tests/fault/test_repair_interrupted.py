"""Repair that is killed, fails at any call, or has company: no byte is lost, and the next repair heals."""

import contextlib
import os
import random
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
from sqlalchemy import Connection

import casimg
from casimg.backend.fault import FaultBackend
from casimg.errors import BackendUnavailableError, CatalogBusyError, NoSpaceError
from casimg.repository import Repository
from tests.fault.damage import HARMLESS, collect, damage, packs_of, put, read_all, second_copy

REPAIR = (
    "import casimg, os, signal, sys\n"
    "from casimg.backend.fault import FaultBackend\n"
    "count = 0\n"
    "def step(*_):\n"
    "    global count\n"
    "    count += 1\n"
    "    if count == int(sys.argv[2]):\n"
    "        os.kill(os.getpid(), signal.SIGKILL)\n"
    "with casimg.open(sys.argv[1]) as repo:\n"
    "    wiring = repo._wiring\n"
    "    wiring.backend = FaultBackend(wiring.backend, step)\n"
    "    transaction = wiring.catalog.transaction\n"
    "    def counted(work, **options):\n"
    "        step()\n"
    "        done = transaction(work, **options)\n"
    "        step()\n"
    "        return done\n"
    "    wiring.catalog.transaction = counted\n"
    "    print(repo.check(repair=True).clean, count)\n"
)


def test_a_killed_repair_is_run_again(tmp_path: Path) -> None:
    """kill -9 at many points of a repair, again and again on one repository: no byte is lost, the last run heals."""
    with casimg.create(tmp_path / "r") as repo:
        data = put(repo, "victim", size=1_500_000)
        second_copy(repo, "copy", data)
        for kind in (0, 1):
            for path in packs_of(repo, "victim", kind).values():
                damage(path, "flip", random.Random(3))
        repo.check(read_data=True)
    number, killed = 3, 0
    while True:
        child = subprocess.run(
            [sys.executable, "-c", REPAIR, str(tmp_path / "r"), str(number)],
            capture_output=True,
            text=True,
            check=False,
        )
        if child.returncode != -signal.SIGKILL:
            break
        killed += 1
        with casimg.open(tmp_path / "r") as repo:
            assert read_all(repo, "copy") == data
            if killed % 3 == 0:
                collect(repo)
        number += max(4, number // 5)
    assert child.stdout.startswith("True"), child.stderr
    assert killed >= 5
    with casimg.open(tmp_path / "r") as repo:
        assert read_all(repo, "victim") == data
        collect(repo)
        assert read_all(repo, "victim") == data
        assert repo.check(read_data=True).problems == ()


def test_every_backend_call_of_a_repair_may_fail(tmp_path: Path) -> None:
    """With call n of the backend failing, for every n: a repair costs no byte, and the next one heals."""
    with casimg.create(tmp_path / "base") as repo:
        data = put(repo, "victim", size=200_000)
        second_copy(repo, "copy", data)
        for kind in (0, 1):
            for path in packs_of(repo, "victim", kind).values():
                damage(path, "flip", random.Random(3))
        repo.check(read_data=True)
    number = 0
    outcomes: set[object] = set()
    while True:
        number += 1
        folder = tmp_path / str(number)
        shutil.copytree(tmp_path / "base", folder)

        def fail(_verb: str, key: str, call: int, number: int = number) -> Exception | None:
            return BackendUnavailableError("test", key) if call == number else None

        with casimg.open(folder) as repo:
            inner = repo._wiring.backend
            backend = repo._wiring.backend = FaultBackend(inner, fail)
            try:
                outcomes.add(repo.check(repair=True).clean)
            except BackendUnavailableError:
                outcomes.add("refused")
            repo._wiring.backend = inner
            assert repo.sessions() == [], "a repair that failed leaves no session open"
            assert read_all(repo, "copy") == data
            collect(repo)
            assert repo.check(repair=True).clean
            assert read_all(repo, "victim") == data
            assert repo.check(read_data=True).clean
        shutil.rmtree(folder)
        if backend.call_count < number:
            break
    assert number > 40
    assert outcomes == {True, "refused"}


@pytest.mark.parametrize("is_done", [False, True], ids=["refused", "answer lost"])
def test_every_transaction_of_a_repair_may_fail(tmp_path: Path, is_done: bool) -> None:
    """With transaction n refused, or done and its answer lost, for every n: no byte is lost, and the next run heals."""
    with casimg.create(tmp_path / "base") as repo:
        data = put(repo, "victim", size=200_000)
        second_copy(repo, "copy", data)
        for path in packs_of(repo, "victim", 0).values():
            damage(path, "flip", random.Random(3))
        repo.check(read_data=True)
    number = count = 0
    while number <= count:
        number += 1
        count = 0
        folder = tmp_path / str(number)
        shutil.copytree(tmp_path / "base", folder)
        with casimg.open(folder) as repo:
            catalog = repo._wiring.catalog
            transaction = catalog.transaction

            def fail(work: Callable[[Connection], object], number: int = number, **options: int) -> object:
                nonlocal count
                count += 1
                if count == number and not is_done:
                    raise CatalogBusyError("the request was lost")
                done = transaction(work, **options)  # noqa: B023
                if count == number:
                    raise CatalogBusyError("the answer was lost")
                return done

            catalog.transaction = fail  # type: ignore[method-assign,assignment]
            with contextlib.suppress(CatalogBusyError):
                repo.check(repair=True)
            del catalog.transaction
            for row in repo.sessions():
                catalog.end_session(row.session_id)  # type: ignore[arg-type]
            assert read_all(repo, "copy") == data
            collect(repo)
            assert repo.check(repair=True).clean
            assert read_all(repo, "victim") == data
            collect(repo)
            assert repo.check(read_data=True).problems == ()
        shutil.rmtree(folder)
    assert number > 5


def test_a_full_disk_stops_a_repair_unharmed(repo: Repository) -> None:
    """No space for the new packs: the repair says so, everything is as before, and it works when there is space."""
    data = put(repo, "victim")
    second_copy(repo, "copy", data)
    (path,) = packs_of(repo, "victim", 0).values()
    damage(path, "flip", random.Random(1))
    inner = repo._wiring.backend
    repo._wiring.backend = FaultBackend(inner, lambda verb, _key, _n: NoSpaceError("test") if verb == "put" else None)
    with pytest.raises(NoSpaceError):
        repo.check(read_data=True, repair=True)
    repo._wiring.backend = inner
    assert repo.sessions() == []
    assert path.exists()
    assert repo.check(repair=True).clean
    assert read_all(repo, "victim") == data


CHURN = (
    "import casimg, io, os, sys\n"
    "from tests.conftest import mixed_bytes\n"
    "with casimg.open(sys.argv[1]) as repo:\n"
    "    print('ready', flush=True)\n"
    "    for number in range(1000):\n"
    "        name = f'churn-{number}'\n"
    "        data = bytes(mixed_bytes(700_000, seed=number % 3)) + os.urandom(1000)\n"
    "        repo.put(io.BytesIO(data), name=name)\n"
    "        sink = io.BytesIO()\n"
    "        repo.get(name, sink)\n"
    "        assert sink.getvalue() == data\n"
    "        if number % 2:\n"
    "            repo.delete(name)\n"
    "            repo.plan_gc().execute()\n"
    "        print(number, flush=True)\n"
)


def test_repair_while_another_process_puts_and_collects(tmp_path: Path) -> None:
    """Damage, repair, put and gc at once: the other process never fails, and everything is right in the end."""
    with casimg.create(tmp_path / "r") as repo:
        images = {f"image-{seed}": put(repo, f"image-{seed}", seed=seed, size=700_000) for seed in range(3)}
        environment = os.environ | {"PYTHONPATH": str(Path(__file__).resolve().parents[2])}
        child = subprocess.Popen(
            [sys.executable, "-c", CHURN, str(tmp_path / "r")],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=environment,
        )
        try:
            assert child.stdout is not None
            assert child.stdout.readline() == "ready\n"
            rng = random.Random(11)
            for _ in range(4):
                child.stdout.readline()
                name, data = rng.choice(sorted(images.items()))
                for path in packs_of(repo, name, rng.randrange(2)).values():
                    # Frames stay whole: what the other process reads meanwhile must not be lost by the test itself.
                    damage(path, rng.choice(HARMLESS), rng)
                report = repo.check(read_data=True, repair=True)
                assert report.repair is not None
                assert report.repair.lost == ()
                assert read_all(repo, name) == data
            assert child.poll() is None, child.stderr.read() if child.stderr else ""
        finally:
            child.kill()
            child.communicate()
        collect(repo)
        for name, data in images.items():
            assert read_all(repo, name) == data
        assert repo.check(read_data=True, repair=True).clean
        assert repo.check(read_data=True).clean


def test_two_repairs_at_once(repo: Repository) -> None:
    """Two repairs of the same damage: both end, one of them may do it all, and nothing is lost."""
    data = put(repo, "victim")
    second_copy(repo, "copy", data)
    for path in packs_of(repo, "victim", 0).values():
        damage(path, "flip", random.Random(1))
    errors: list[BaseException] = []

    def work() -> None:
        try:
            with casimg.open(repo.path) as own:
                own.check(read_data=True, repair=True)
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=work) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
    assert read_all(repo, "victim") == data
    collect(repo)
    assert repo.check(read_data=True).problems == ()


def test_an_image_deleted_while_it_is_repaired(repo: Repository, monkeypatch: pytest.MonkeyPatch) -> None:
    """The image goes, and a collection runs, between the walk and the commit of a repair: nothing of it stays."""
    data = put(repo, "victim")
    put(repo, "bystander", seed=2)
    second_copy(repo, "copy", data)
    paths = list(packs_of(repo, "victim", 0).values())
    damage(paths[0], "flip", random.Random(1))
    transaction = repo._wiring.catalog.transaction

    def delete_first(work: object, **options: int) -> object:
        if getattr(getattr(work, "func", None), "__name__", "") == "switch":
            monkeypatch.undo()
            with casimg.open(repo.path) as other:
                other.delete("victim")
                other.plan_gc().execute()
        return transaction(work, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(repo._wiring.catalog, "transaction", delete_first)
    repo.check(read_data=True, repair=True)
    collect(repo)
    assert not paths[0].exists()
    assert read_all(repo, "copy") == data
    assert repo.check(read_data=True).problems == ()
    repo.delete("copy")
    repo.delete("bystander")
    collect(repo)
    assert repo.stats().stored_size == 0
