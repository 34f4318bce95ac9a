"""The promises of a backend as tests: subclass `BackendConformance` and say how to make one.

class TestMyBackend(BackendConformance):
    def make_backend(self, folder: Path) -> Backend:
        return MyBackend(...)
"""

import hashlib
import io
import random
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from casimg.backend.base import Backend, TakesFiles
from casimg.errors import InputError, ObjectDamagedError, ObjectNotFoundError


class BackendConformance:
    """What `casimg.backend.base.Backend` promises, promise by promise."""

    def make_backend(self, folder: Path) -> Backend:
        """Return an empty backend; `folder` is the test's own."""
        raise NotImplementedError

    @pytest.fixture
    def backend(self, tmp_path: Path) -> Backend:
        """The backend under test."""
        return self.make_backend(tmp_path)

    @pytest.mark.parametrize("size", [0, 1, 4095, 4096, (1 << 20) + 1])
    def test_what_is_put_is_got(self, backend: Backend, size: int) -> None:
        """Bytes, size and listing of an object are those of what was put."""
        data = random.Random(size).randbytes(size)
        backend.put("a/b/object", io.BytesIO(data + b"more"), size)
        assert backend.get_range("a/b/object", 0, size) == data
        assert backend.stat("a/b/object").size == size
        assert [(found.key, found.size) for found in backend.list("")] == [("a/b/object", size)]

    def test_ranges_are_exact(self, backend: Backend) -> None:
        """Any range inside comes whole; one that reaches past the end is damage, never short."""
        data = bytes(range(256)) * 100
        backend.put("object", io.BytesIO(data), len(data))
        rng = random.Random(1)
        for _ in range(50):
            offset = rng.randrange(len(data))
            size = rng.randrange(len(data) - offset + 1)
            assert backend.get_range("object", offset, size) == data[offset : offset + size]
        with pytest.raises(ObjectDamagedError):
            backend.get_range("object", len(data) - 1, 2)

    def test_putting_again_replaces_the_whole(self, backend: Backend) -> None:
        """The later put wins, shorter or longer."""
        for data in (b"first, and long", b"2nd", b"the third, longer again"):
            backend.put("object", io.BytesIO(data), len(data))
            assert backend.get_range("object", 0, backend.stat("object").size) == data

    def test_a_short_source_leaves_nothing(self, backend: Backend) -> None:
        """A source that ends early is refused, and no object or part of one shows."""
        with pytest.raises(InputError):
            backend.put("object", io.BytesIO(b"short"), 100)
        with pytest.raises(ObjectNotFoundError):
            backend.stat("object")
        assert list(backend.list("")) == []

    def test_absence_is_its_own_error(self, backend: Backend) -> None:
        """Reading what is not there is ObjectNotFoundError with the key; deleting it is success."""
        for call in (lambda: backend.stat("not/there"), lambda: backend.get_range("not/there", 0, 1)):
            with pytest.raises(ObjectNotFoundError) as caught:
                call()
            assert caught.value.key == "not/there"
        backend.delete("not/there")

    def test_deleted_is_gone(self, backend: Backend) -> None:
        """After delete an object is absent and unlisted; again is success; others stay."""
        for key in ("a/one", "a/two"):
            backend.put(key, io.BytesIO(b"x"), 1)
        backend.delete("a/one")
        backend.delete("a/one")
        assert [found.key for found in backend.list("a/")] == ["a/two"]
        with pytest.raises(ObjectNotFoundError):
            backend.get_range("a/one", 0, 1)

    def test_listing_is_by_prefix_and_complete(self, backend: Backend) -> None:
        """Every object whose key starts with the prefix, and no other, however many."""
        keys = {f"packs/{number % 16:02x}/{number:05}" for number in range(2500)}
        with ThreadPoolExecutor(8) as pool:
            list(pool.map(lambda key: backend.put(key, io.BytesIO(b"x"), 1), keys))
        backend.put("records/one", io.BytesIO(b"y"), 1)
        assert {found.key for found in backend.list("packs/")} == keys
        assert {found.key for found in backend.list("packs/0a/")} == {
            key for key in keys if key.startswith("packs/0a/")
        }
        assert {found.key for found in backend.list("rec")} == {"records/one"}
        assert list(backend.list("nothing/")) == []

    @pytest.mark.parametrize(
        "key",
        ["", "/etc/passwd", "../up", "a/../b", "a//b", "a/", "UPPER", "sp ace", "nul\0", "a/.hidden", "ü", "x" * 600],
    )
    def test_keys_are_refused(self, backend: Backend, key: str) -> None:
        """Keys that are no relative path of plain parts reach nothing."""
        for call in (
            lambda: backend.put(key, io.BytesIO(b"x"), 1),
            lambda: backend.get_range(key, 0, 1),
            lambda: backend.stat(key),
            lambda: backend.delete(key),
        ):
            with pytest.raises(InputError):
                call()

    def test_threads_do_not_disturb_each_other(self, backend: Backend) -> None:
        """Many threads put and read at once; each gets its own bytes."""

        def work(number: int) -> bool:
            data = random.Random(number).randbytes(50_000 + number)
            backend.put(f"t/{number}", io.BytesIO(data), len(data))
            return backend.get_range(f"t/{number}", 0, len(data)) == data

        with ThreadPoolExecutor(8) as pool:
            assert all(pool.map(work, range(60)))

    def test_readers_see_old_or_new_never_a_mix(self, backend: Backend) -> None:
        """While an object is replaced over and over, every read of it is one of the versions."""
        versions = [bytes([number]) * 200_000 for number in range(4)]
        hashes = {hashlib.sha256(version).digest() for version in versions}
        backend.put("object", io.BytesIO(versions[0]), 200_000)

        def write(number: int) -> None:
            backend.put("object", io.BytesIO(versions[number % 4]), 200_000)

        with ThreadPoolExecutor(4) as pool:
            writes = [pool.submit(write, number) for number in range(40)]
            reads = [pool.submit(backend.get_range, "object", 0, 200_000) for _ in range(80)]
            for done in writes:
                done.result()
            assert {hashlib.sha256(read.result()).digest() for read in reads} <= hashes

    def test_files_are_taken_over_whole(self, backend: Backend, tmp_path: Path) -> None:
        """A backend that takes files gives back the file's bytes; one that cannot says so and keeps the file."""
        if not isinstance(backend, TakesFiles):
            pytest.skip("this backend does not take files over")
        path = tmp_path / "finished"
        path.write_bytes(b"whole" * 1000)
        if backend.take_file("taken/one", path):
            assert backend.get_range("taken/one", 0, 5000) == b"whole" * 1000
            assert not path.exists()
        else:
            assert path.read_bytes() == b"whole" * 1000
