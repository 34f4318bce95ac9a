"""The index in LMDB: chunk or node id -> places. A cache that proves what it covers.

Database `places`: id -> place, several per id (DUPSORT). Database `packs`: pack number -> pack id, the packs applied.
Database `meta`: whose index this is. An index that is foreign, of another layout or damaged is set aside and made
anew: everything in it follows from the packs.
"""

import contextlib
import errno
import fcntl
import logging
import os
import shutil
import struct
import sys
import tempfile
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import lmdb

from casimg.constants import MIB, TIB
from casimg.errors import CasimgError, ConfigError, ForkError, IndexDamagedError, NoSpaceError
from casimg.index.items import HasPlaces, sorted_items
from casimg.index.place import ITEM, Place, decode_place, encode_place

_log = logging.getLogger("casimg.index")

_LAYOUT: Final = b"casimg index 1"
_TRANSACTION_ENTRIES: Final = 8192  # 32 MiB of dirty pages at most
_TRANSACTION_ENTRIES_SMALL: Final = 65_536  # while the whole index has fewer pages than that: 40 MiB at most
_TRANSACTION_SIZE_MAX: Final = 64 * MIB  # dirty pages, and those of the tree above them
_PACK_NO: Final = struct.Struct(">I")
_READER_COUNT_MAX: Final = 4096
_LOCK_FILE_SIZE: Final = (_READER_COUNT_MAX + 16) * 64  # a cache line for each reader, some for the header
_GET_FLAGS, _SET_FLAGS, _NO_COPY_FLAG = 0x80086601, 0x40086602, 0x00800000  # linux/fs.h, on 64 bit
_MOUNTS = "/proc/self/mountinfo"
_NETWORK_TYPES: Final = ("nfs", "cifs", "smb", "ceph", "glusterfs", "fuse.glusterfs", "9p", "afs", "fuse.sshfs")


class Lookup:
    """Look ids up in one snapshot of the index. Threads: one."""

    def __init__(self, txn: Any, places: Any) -> None:
        self._cursor = txn.cursor(places)
        self._set_key = self._cursor.set_key

    def places(self, chunk: bytes) -> list[Place]:
        """Return every undamaged place of an id, oldest pack first."""
        if not self._set_key(chunk):
            return []
        cursor = self._cursor
        if cursor.count() == 1:
            place = decode_place(chunk, cursor.value())
            return [] if place is None else [place]
        found = (decode_place(chunk, value) for value in cursor.iternext_dup())
        return [place for place in found if place is not None]

    def first(self, chunk: bytes) -> Place | None:
        """Return the place in the oldest pack, None when there is none."""
        places = self.places(chunk)
        return places[0] if places else None


class _SharedEnvironment:
    """LMDB allows one environment per path and process; openers share it."""

    def __init__(self, path: Path, map_size: int) -> None:
        _keep_lock_file(path / "lock.mdb")
        self.env = lmdb.open(
            str(path),
            map_size=map_size,
            max_dbs=3,
            max_readers=_READER_COUNT_MAX,
            readahead=False,
            meminit=False,
            mode=0o600,
        )
        self.users = 0


def _keep_lock_file(path: Path) -> None:
    """Give the lock file, which LMDB maps with holes in it, its blocks: a hole met on a full disk ends the process."""
    try:
        fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            _write_in_place(fd)
            os.posix_fallocate(fd, 0, _LOCK_FILE_SIZE)
        finally:
            os.close(fd)
    except OSError as error:
        raise _os_error(path, error) from None


def _write_in_place(fd: int) -> None:
    """Ask btrfs not to copy blocks of an empty file when they are written: a copy needs room that there may not be."""
    if os.fstat(fd).st_size:
        return
    with contextlib.suppress(OSError):  # no other file system knows the flag
        flags = bytearray(8)
        fcntl.ioctl(fd, _GET_FLAGS, flags)
        value = int.from_bytes(flags, sys.byteorder) | _NO_COPY_FLAG
        fcntl.ioctl(fd, _SET_FLAGS, value.to_bytes(8, sys.byteorder))


_environments: dict[tuple[int, str], _SharedEnvironment] = {}
_environments_lock = threading.Lock()


class Index:
    """The open index of one repository. Threads: any; fork: open it again in the child."""

    def __init__(self, path: Path, repository_uuid: str, incarnation: str, map_size: int) -> None:
        self._path = path
        self._key = (os.getpid(), str(path.resolve()))
        self._owner = f"{repository_uuid}/{incarnation}".encode()
        self._map_size = map_size
        self._closed = False
        self.was_reset = False
        try:
            self._open()
        except (lmdb.Error, _ForeignIndex) as error:
            if isinstance(error, lmdb.MapFullError):
                raise IndexDamagedError(str(path), "map_size is smaller than the index; raise it") from None
            _log.warning("index.reset path=%s why=%s", path, error)
            self._release()
            _set_aside(path)
            self.was_reset = True
            try:
                self._open()
            except lmdb.Error as again:
                raise IndexDamagedError(str(path), str(again)) from None
        except CasimgError:
            self._release()
            raise

    @classmethod
    def open(cls, path: Path, repository_uuid: str, incarnation: str, *, map_size: int = TIB) -> "Index":
        """Open the index of a repository, made empty when it is absent, foreign or damaged.

        Raises: ConfigError on a network file system, IndexDamagedError, NoSpaceError.
        """
        try:
            path.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise _os_error(path, error) from None
        _refuse_network(path)
        return cls(path, repository_uuid, incarnation, map_size)

    @contextmanager
    def reading(self) -> Iterator[Lookup]:
        """Give a snapshot to look ids up in; short, since a snapshot keeps freed pages from being used again."""
        self._check_usable()
        with self._translating(), self._env.begin(db=self._places) as txn:
            yield Lookup(txn, self._places)

    def applied(self) -> dict[int, bytes]:
        """Return pack number -> pack id of the packs whose places are in the index."""
        self._check_usable()
        with self._translating(), self._env.begin(db=self._packs) as txn, txn.cursor() as cursor:
            return {_PACK_NO.unpack(key)[0]: bytes(value) for key, value in cursor if len(key) == _PACK_NO.size}

    def add_packs(self, packs: Sequence[tuple[int, bytes, HasPlaces]]) -> None:
        """Add all places of these packs (number, id, entry list); again is harmless.

        The packs count as applied when all their places are in. Transactions are short: each random insert dirties a
        page of 4 KiB that LMDB holds in anonymous memory until its commit.

        Raises: NoSpaceError, IndexDamagedError.
        """
        self._check_usable()
        items = memoryview(sorted_items([(pack_no, trailer) for pack_no, _, trailer in packs]))
        with self._translating():
            start = 0
            while start < len(items):
                with self._env.begin(write=True) as txn, txn.cursor(self._places) as cursor:
                    is_small = txn.stat(self._places)["leaf_pages"] < _TRANSACTION_ENTRIES
                    end = start + ITEM.size * (_TRANSACTION_ENTRIES_SMALL if is_small else _TRANSACTION_ENTRIES)
                    cursor.putmulti(ITEM.iter_unpack(items[start:end]))
                start = end
            with self._env.begin(write=True) as txn:
                for pack_no, pack_id, _ in packs:
                    txn.put(_PACK_NO.pack(pack_no), pack_id, db=self._packs)

    def remove_packs(self, packs: Sequence[tuple[int, HasPlaces | None]]) -> None:
        """Forget packs; without an entry list their places stay until a rebuild, and readers skip them."""
        self._check_usable()
        with self._translating(), self._env.begin(write=True) as txn:
            for pack_no, trailer in packs:
                txn.delete(_PACK_NO.pack(pack_no), db=self._packs)
                if trailer is not None:
                    for chunk, *rest in trailer.places():
                        txn.delete(chunk, encode_place(chunk, Place(pack_no, *rest)), db=self._places)

    def entry_count(self) -> int:
        """Return how many places there are."""
        self._check_usable()
        with self._translating(), self._env.begin() as txn:
            return int(txn.stat(self._places)["entries"])

    def stored_size(self) -> int:
        """Return the bytes of disk that the index takes."""
        self._check_usable()
        return os.stat(self._path / "data.mdb").st_blocks * 512

    def close(self) -> None:
        """Close; twice is harmless."""
        if not self._closed:
            self._closed = True
            self._release()

    def _open(self) -> None:
        with _environments_lock:
            shared = _environments.get(self._key)
            if shared is None:
                shared = _environments[self._key] = _SharedEnvironment(self._path, self._map_size)
            shared.users += 1
            self._env = shared.env
        self._fill_up()
        meta = self._env.open_db(b"meta")
        self._packs = self._env.open_db(b"packs")
        self._places = self._env.open_db(b"places", dupsort=True)
        with self._env.begin() as txn:
            found = (txn.get(b"layout", db=meta), txn.get(b"owner", db=meta))
        if found == (None, None):
            with self._env.begin(write=True) as txn:
                txn.put(b"layout", _LAYOUT, db=meta)
                txn.put(b"owner", self._owner, db=meta)
        elif found != (_LAYOUT, self._owner):
            raise _ForeignIndex("it is another repository's, another incarnation's or of another layout")

    def _fill_up(self) -> None:
        """Give a file that was cut short its length again: a missing page of a map ends the process, a zero one errs.

        Never shrinks and never overwrites, whatever other processes write meanwhile.
        """
        size = (self._env.info()["last_pgno"] + 1) * self._env.stat()["psize"]
        path = self._path / "data.mdb"
        if os.stat(path).st_size < size:
            _log.warning("index.short path=%s missing=%d", path, size - os.stat(path).st_size)
            fd = os.open(path, os.O_RDWR | os.O_CLOEXEC)
            try:
                os.posix_fallocate(fd, size - 1, 1)
            except OSError as error:
                raise _os_error(self._path, error) from None
            finally:
                os.close(fd)

    def _release(self) -> None:
        with _environments_lock:
            shared = _environments.get(self._key)
            if shared is not None and self._key[0] == os.getpid():
                shared.users -= 1
                if shared.users <= 0:
                    shared.env.close()
                    del _environments[self._key]

    def _check_usable(self) -> None:
        if os.getpid() != self._key[0]:
            raise ForkError(self._key[0], os.getpid())
        if self._closed:
            raise IndexDamagedError(str(self._path), "it is closed")

    @contextmanager
    def _translating(self) -> Iterator[None]:
        try:
            yield
        except lmdb.MapFullError:
            raise NoSpaceError(f"the index {self._path} (its map_size is used up; raise it in casimg.toml)") from None
        except lmdb.DiskError as error:
            raise NoSpaceError(str(self._path)) from error
        except lmdb.Error as error:
            # LMDB says EIO when a write was short, which is how a file system that has just become full answers.
            said = str(error)
            if "No space left" in said or ("Input/output error" in said and not _has_room(self._path)):
                raise NoSpaceError(str(self._path)) from None
            raise IndexDamagedError(str(self._path), str(error)) from None


def _has_room(folder: Path) -> bool:
    """Tell whether what one transaction may write fits in the folder's file system, and in the user's quota."""
    try:
        with tempfile.TemporaryFile(dir=folder) as file:
            os.posix_fallocate(file.fileno(), 0, _TRANSACTION_SIZE_MAX)
    except OSError as error:
        return error.errno not in (errno.ENOSPC, errno.EDQUOT)
    return True


class _ForeignIndex(Exception):
    """This index does not belong here."""


def drop_index(path: Path) -> None:
    """Remove an index that nobody in this process has open."""
    shutil.rmtree(path, ignore_errors=True)


def fresh_index_path(path: Path) -> Path:
    """Return where this process may build an index to replace the one at `path`; what dead ones left there goes."""
    for left in path.parent.glob(f"{path.name}.new-*"):
        pid = left.name.rpartition("-")[2]
        if pid == str(os.getpid()) or (pid.isdigit() and not Path("/proc", pid).exists()):
            drop_index(left)
    return path.with_name(f"{path.name}.new-{os.getpid()}")


def replace_index(path: Path, fresh: Path) -> None:
    """Put a finished index in the place of another; nobody in this process has either open.

    Cut short between the two renames it leaves no index, which is opened as an empty one.
    Raises: IndexDamagedError, NoSpaceError.
    """
    aside = path.with_name(f"{path.name}.old-{os.getpid()}")
    try:
        drop_index(aside)
        with contextlib.suppress(FileNotFoundError):
            os.rename(path, aside)
        os.rename(fresh, path)
    except OSError as error:
        raise _os_error(path, error) from None
    drop_index(aside)


def _set_aside(path: Path) -> None:
    """Move a useless index away and remove it; when it cannot be moved it is removed in place."""
    aside = path.with_name(f"{path.name}.old-{os.getpid()}")
    with contextlib.suppress(OSError):
        os.rename(path, aside)
        path.mkdir()
        shutil.rmtree(aside, ignore_errors=True)
        return
    for name in ("data.mdb", "lock.mdb"):
        (path / name).unlink(missing_ok=True)


def _refuse_network(path: Path) -> None:
    """LMDB maps its file and locks it with shared memory: neither works across hosts."""
    resolved = str(path.resolve())
    best, kind = "", ""
    with Path(_MOUNTS).open(encoding="utf-8", errors="replace") as mounts:
        for line in mounts:
            words = line.split()
            point = words[4]
            inside = resolved == point or resolved.startswith(point.rstrip("/") + "/")
            if inside and len(point) >= len(best):
                best, kind = point, words[words.index("-") + 1]
    if kind.startswith(_NETWORK_TYPES):
        raise ConfigError(str(path), f"the index lies on a network file system ({kind}); put it on a local disk")


def _os_error(path: Path, error: OSError) -> CasimgError:
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return NoSpaceError(str(path))
    return IndexDamagedError(str(path), (error.strerror or str(error)).lower())
