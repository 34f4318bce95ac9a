"""Make and open repositories: find the parts, hold their identities against each other, wire them.

Nothing is migrated, repaired or guessed here: what does not fit is refused in one line.
"""

import contextlib
import fcntl
import os
import stat
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from functools import partial
from io import BytesIO
from pathlib import Path

from sqlalchemy.engine import make_url

from casimg.backend.base import Backend
from casimg.backend.lazy import LazyBackend
from casimg.backend.local import LocalBackend
from casimg.catalog import Catalog
from casimg.catalog.figures import backend_totals
from casimg.catalog.migrate import HEAD
from casimg.choices import LEVEL_DEFAULT
from casimg.chunker import ChunkerParams
from casimg.errors import (
    CatalogBusyError,
    ConfigError,
    ForeignRepositoryError,
    NoRepositoryError,
    ObjectNotFoundError,
    RepositoryError,
)
from casimg.formats.config import (
    CONFIG_KEY,
    CONFIG_SIZE_MAX,
    DEFAULT_BACKEND,
    SITE_FILE,
    BackendSite,
    RepositoryConfig,
    SiteConfig,
    decode_repository_config,
    default_site_config,
    encode_repository_config,
    load_site_config,
)
from casimg.pack.writer import clean_spool
from casimg.reserve import Reserve
from casimg.wiring import Wiring, index_path, open_index

BACKEND_NAME = DEFAULT_BACKEND


def create_parts(folder: Path, params: ChunkerParams, level: int = LEVEL_DEFAULT) -> None:
    """Make a repository in a folder that is empty or not there. Raises: RepositoryError."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if any(folder.iterdir()):
            raise RepositoryError(str(folder), "the folder is not empty; choose a new one for a repository")
        (folder / "spool").mkdir()
    except OSError as error:
        raise RepositoryError(str(folder), f"cannot be made: {(error.strerror or str(error)).lower()}") from None
    config = RepositoryConfig(
        repository_uuid=str(uuid.uuid4()),
        created_at=datetime.now(UTC).isoformat(timespec="seconds"),
        chunker_kind=params.kind,
        chunk_size_avg=params.size_avg,
    )
    backend = LocalBackend.create(folder / "objects", BACKEND_NAME)
    data = encode_repository_config(config)
    backend.put(CONFIG_KEY, BytesIO(data), len(data))
    site = SiteConfig(folder=folder.resolve(), repository_uuid=config.repository_uuid)
    Catalog.create(catalog_url(site), config.repository_uuid, BACKEND_NAME, "local").close()
    # Last, and durable: a folder without it is no repository, so a crash before leaves none.
    write_durably(folder / SITE_FILE, default_site_config(config.repository_uuid, level))


def open_parts(path: str | os.PathLike[str]) -> Wiring:
    """Open the parts of a repository by its folder or its `casimg.toml`.

    Raises: NoRepositoryError, ConfigError, ForeignRepositoryError, NewerFormatError, CatalogDamagedError.
    """
    if not os.fspath(path):
        raise NoRepositoryError("''", "the path of the repository is empty")
    site = load_site_config(Path(path))
    where = str(site.folder)
    backend, config = open_backend(site)
    ChunkerParams.of(config.chunker_kind, config.chunk_size_avg)
    spool = site.folder / site.spool_path
    reserve = Reserve(spool / "reserve")
    # SQLite makes two files beside the catalog when the first process opens it, on a full disk too.
    catalog = reserve.spend(lambda: open_catalog(site))
    try:
        row = catalog.repo()
        if row.repository_uuid != site.repository_uuid:
            raise ForeignRepositoryError(
                where, f"the catalog belongs to repository {row.repository_uuid}, not {site.repository_uuid}"
            )
        spool.mkdir(parents=True, exist_ok=True)
        clean_spool(spool)
        reserve.keep()
        ids = _backend_ids(site, catalog)
        index = reserve.spend(lambda: open_index(site, row.incarnation))
        try:
            home = Wiring(
                path=site.folder,
                site=site,
                config=config,
                backend=backend,
                backend_id=ids[BACKEND_NAME],
                catalog=catalog.scoped(ids[BACKEND_NAME]),
                index=index,
                spool=spool,
                reserve=reserve,
            )
        except BaseException:
            index.close()
            raise
        try:
            for entry in site.backends:
                _add_peer(home, entry, ids[entry.name], row.incarnation)
        except BaseException:
            home.close()
            raise
        return home
    except OSError as error:
        catalog.close()
        raise RepositoryError(where, f"cannot be opened: {error}") from None
    except BaseException:
        catalog.close()
        raise


def _backend_ids(site: SiteConfig, catalog: Catalog) -> dict[str, int]:
    """Return the numbers of the backends by name. Raises: RepositoryError when catalog and file do not agree."""
    where = str(site.folder / SITE_FILE)
    known = {row.name: row.backend_id for row in catalog.backends()}
    for entry in site.backends:
        if entry.name not in known:
            why = f"the catalog does not know the backend {entry.name}; `casimg backend add` enters it"
            raise RepositoryError(where, why)
    named = {BACKEND_NAME, *(entry.name for entry in site.backends)}
    for name in sorted(known.keys() - named):
        found = catalog.read(partial(backend_totals, backend_id=known[name]))
        # Else nothing lies there: a `backend add` was cut off, or nobody needs it any more.
        if found.content_count or found.pack_count:
            why = f"there is no [backends.{name}], and the catalog has {found.pack_count} packs on that backend"
            raise RepositoryError(where, why)
    return {**known, BACKEND_NAME: catalog.backend_id(BACKEND_NAME)}


def _add_peer(home: Wiring, entry: BackendSite, backend_id: int, incarnation: str) -> None:
    """Add the wiring of a further backend, which need not be reachable now."""
    path = index_path(home.site, entry.name)
    Wiring(
        path=home.path,
        site=home.site,
        config=home.config,
        backend=LazyBackend(entry.name, partial(open_further, home.site, entry)),
        backend_id=backend_id,
        catalog=home.catalog.scoped(backend_id),
        index=home.reserve.spend(lambda: open_index(home.site, incarnation, path)),
        spool=home.spool,
        reserve=home.reserve,
        frames=home.frames,
        patience=home.patience,
        shared=home.shared,
        peers=home.peers,
    )


def open_further(site: SiteConfig, entry: BackendSite) -> Backend:
    """Open a further backend. Raises: BackendUnavailableError, ForeignRepositoryError, ConfigError."""
    backend = LocalBackend(site.folder / entry.path, entry.name)
    where = f"backend {entry.name}"
    config = read_config(backend, where)
    if config.repository_uuid != site.repository_uuid:
        why = f"it belongs to repository {config.repository_uuid}, not {site.repository_uuid}"
        raise ForeignRepositoryError(where, why)
    return backend


def upgrade_catalog(path: str | os.PathLike[str]) -> tuple[str, str]:
    """Bring the catalog of a repository to this program's schema; returns the revisions before and after.

    Raises: as open_parts.
    """
    site = load_site_config(Path(path))
    return Catalog.upgrade(catalog_url(site)), HEAD


def open_backend(site: SiteConfig) -> tuple[Backend, RepositoryConfig]:
    """Open the backend and read what the repository is.

    Raises: NoRepositoryError, ConfigError, ForeignRepositoryError, NewerFormatError.
    """
    backend = LocalBackend(site.folder / site.backend_path, BACKEND_NAME)
    config = read_config(backend, str(site.folder))
    if config.repository_uuid != site.repository_uuid:
        raise ForeignRepositoryError(
            str(site.folder), f"the backend belongs to repository {config.repository_uuid}, not {site.repository_uuid}"
        )
    return backend, config


def read_config(backend: Backend, where: str) -> RepositoryConfig:
    """Read `casimg.json`. Raises: NoRepositoryError, ConfigError, NewerFormatError."""
    try:
        size = backend.stat(CONFIG_KEY).size
    except ObjectNotFoundError:
        raise NoRepositoryError(where, f"the backend holds no {CONFIG_KEY}; is it the right one?") from None
    if size > CONFIG_SIZE_MAX:
        raise ConfigError(where, f"{CONFIG_KEY} has {size} bytes, which cannot be")
    return decode_repository_config(backend.get_range(CONFIG_KEY, 0, size), where)


def open_catalog(site: SiteConfig) -> Catalog:
    """Open the catalog of a repository; a missing SQLite file is said, not made. Raises: as Catalog.open."""
    url = make_url(catalog_url(site))
    if url.get_backend_name() == "sqlite" and url.database and not Path(url.database).is_file():
        raise RepositoryError(
            str(site.folder), f"the catalog {url.database} is missing; `casimg recover` makes it anew"
        )
    return Catalog.open(catalog_url(site))


def catalog_url(site: SiteConfig) -> str:
    """Return the URL of the catalog, a relative SQLite path taken from the repository's folder."""
    try:
        url = make_url(site.catalog_url)
    except Exception:  # SQLAlchemy's ArgumentError is not worth importing for
        raise ConfigError(str(site.folder), "url in [catalog] is not a database URL") from None
    if url.get_backend_name() == "sqlite" and url.database:
        url = url.set(database=str(site.folder / url.database))
    return url.render_as_string(hide_password=False)


@contextmanager
def alone(site: SiteConfig, what: str) -> Iterator[None]:
    """Keep others out who change what the repository is made of; the kernel gives the lock back whatever ends this one.

    Args:
        what: who else may have it, for the error.
    Raises: CatalogBusyError, RepositoryError.
    """
    try:
        fd = os.open(site.folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError as error:
        raise RepositoryError(str(site.folder), (error.strerror or str(error)).lower()) from None
    try:
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise CatalogBusyError(f"{what} runs on {site.folder}") from None
        yield
    finally:
        os.close(fd)


def write_durably(path: Path, text: str) -> None:
    """Write a text file that is whole or not there, also after a power cut; its mode stays."""
    part = path.with_name(path.name + ".new")
    with part.open("w", encoding="utf-8") as file:
        with contextlib.suppress(FileNotFoundError):
            os.fchmod(file.fileno(), stat.S_IMODE(path.stat().st_mode))
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    rename_durably(part, path)


def rename_durably(old: Path, new: Path) -> None:
    """Rename within a folder and make the names durable."""
    os.rename(old, new)
    folder = os.open(new.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
