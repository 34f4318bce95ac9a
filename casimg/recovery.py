"""`recover`: catalog and indexes made anew from the backends alone, and put in the place of what is left of the old.

The order is what keeps it safe at every point where it may be cut off:

1. The old catalog, when it can still be written, is ended: a writer that has it open cannot commit there any more. So
   everything that was ever committed is on the backend before the backend is listed.
2. The new catalog and index are built beside the old ones. Until it is finished the new one is no catalog.
3. The old files are renamed aside, never deleted; then the new ones are renamed into place.

Cut off before the last rename there is no usable catalog, and `recover` begins again from the backend.
"""

import contextlib
import logging
import os
import time
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path

from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import SQLAlchemyError

from casimg.backend.base import Backend
from casimg.backend.local import LocalBackend
from casimg.catalog import Catalog
from casimg.catalog import recover as rows
from casimg.catalog.engine import is_retryable
from casimg.catalog.transaction import Database
from casimg.chunker import ChunkerParams
from casimg.errors import (
    BackendUnavailableError,
    CatalogBusyError,
    CatalogDamagedError,
    NoRepositoryError,
    RepositoryError,
)
from casimg.formats.config import (
    SITE_FILE,
    RepositoryConfig,
    SiteConfig,
    default_site_config,
    load_site_config,
)
from casimg.index import drop_index, fresh_index_path, replace_index
from casimg.opening import (
    BACKEND_NAME,
    alone,
    catalog_url,
    open_backend,
    open_catalog,
    open_further,
    read_config,
    rename_durably,
    write_durably,
)
from casimg.progress import ProgressCallback
from casimg.recovering import Rebuilt
from casimg.rejoining import rebuild
from casimg.reserve import Reserve
from casimg.results.upkeep import RecoverReport
from casimg.wiring import Wiring, index_path, open_index

_log = logging.getLogger("casimg.recover")
_SIDE_FILES = ("-wal", "-shm")


def recover(
    path: str | os.PathLike[str], *, force: bool = False, progress: ProgressCallback | None = None
) -> RecoverReport:
    """Make catalog and indexes of a repository anew from its backends; nothing on them is changed.

    Stop other users of the repository first: a collection that runs meanwhile may remove what is being listed.

    Args:
        path: the folder of the repository or its `casimg.toml`, which is written with defaults when it is gone.
        force: also when the present catalog can be used. It is set aside, not deleted.
    Raises: RepositoryError when the present catalog can be used, when there is no backend, or when the database of a
        server is not empty; BackendUnavailableError, CatalogBusyError, NoSpaceError: run it again.
    """
    begin_s = time.monotonic()
    site, site_written = _site(Path(path))
    backend, config = open_backend(site)
    ChunkerParams.of(config.chunker_kind, config.chunk_size_avg)
    with alone(site, "another recover, or a `backend add`,"), contextlib.ExitStack() as stack:
        found = [stack.enter_context(contextlib.closing(item)) for item in (backend, *_further(site))]
        _check_needed(site, force)
        file = _sqlite_file(site)
        fenced_count = None if file is None else _end_old(file)
        done, entry_count, old = _rebuild_beside(site, config, found, file, progress)
    _log.info("recover.done images=%d packs=%d problems=%d", done.image_count, done.pack_count, len(done.problems))
    return RecoverReport(
        image_count=done.image_count,
        damaged_image_count=done.damaged_image_count,
        content_count=done.content_count,
        pack_count=done.pack_count,
        entry_count=entry_count,
        problems=tuple(done.problems),
        old_catalog=None if old is None else str(old),
        old_fenced_count=fenced_count,
        site_written=site_written,
        duration_s=time.monotonic() - begin_s,
    )


def _further(site: SiteConfig) -> list[Backend]:
    """Open the further backends, all of them: what lies on one that is left out would be nobody's.

    Raises: BackendUnavailableError, ForeignRepositoryError, ConfigError.
    """
    found = []
    for entry in site.backends:
        try:
            found.append(open_further(site, entry))
        except BackendUnavailableError as error:
            why = f"{error.why} Without what lies there: take [backends.{entry.name}] out of {SITE_FILE}"
            raise BackendUnavailableError(entry.name, why) from None
    return found


def _site(path: Path) -> tuple[SiteConfig, bool]:
    """Return where the parts lie; a `casimg.toml` that is gone is written for a backend in its default place."""
    folder = path.parent if path.name == SITE_FILE and not path.is_dir() else path
    if not path.is_file() and folder.is_dir() and not (folder / SITE_FILE).exists():
        default = SiteConfig(folder=folder.resolve(), repository_uuid="")
        objects = folder / default.backend_path
        if not objects.is_dir():
            raise NoRepositoryError(
                str(folder),
                f"there is neither {SITE_FILE} nor a folder {default.backend_path}: nothing to recover from",
            )
        config = read_config(LocalBackend(objects, BACKEND_NAME), str(folder))
        write_durably(folder / SITE_FILE, default_site_config(config.repository_uuid))
        _log.warning("recover.site_written path=%s", folder / SITE_FILE)
        return load_site_config(folder), True
    return load_site_config(path), False


def _check_needed(site: SiteConfig, force: bool) -> None:
    """Raise RepositoryError when the present catalog can be used, or belongs to something else than this casimg."""
    if force:
        return
    file = _sqlite_file(site)
    if file is not None and not file.is_file():
        return
    where = str(site.folder)
    try:
        catalog = open_catalog(site)
        try:
            known = catalog.repo()
            problem = catalog.transaction(rows.file_problem)
        finally:
            catalog.close()
    except CatalogDamagedError as damage:
        _log.warning("recover.catalog_damaged why=%s", damage)
        return
    except CatalogBusyError as error:
        if _is_held(error):
            raise
        _log.warning("recover.catalog_damaged why=%s", error)
        return
    except RepositoryError as error:
        raise RepositoryError(
            where, f"the present catalog cannot be used here, but it is one ({error}); --force sets it aside"
        ) from None
    except Exception as error:  # flipped bytes come back as values of any wrong type
        _log.warning("recover.catalog_damaged why=%r", error)
        return
    if problem is not None:
        _log.warning("recover.catalog_damaged why=%s", problem)
        return
    whose = "" if known.repository_uuid == site.repository_uuid else f" of repository {known.repository_uuid}"
    raise RepositoryError(
        where, f"the present catalog{whose} opens and is sound, so there is nothing to recover; --force sets it aside"
    )


def _sqlite_file(site: SiteConfig) -> Path | None:
    """Return the file of a SQLite catalog, None for a server's."""
    url = make_url(catalog_url(site))
    return Path(url.database) if url.get_backend_name() == "sqlite" and url.database else None


def _sqlite_url(file: Path) -> str:
    return URL.create("sqlite", database=str(file)).render_as_string()


def _is_held(error: Exception) -> bool:
    """Tell whether somebody holds the catalog's lock; other troubles of a driver are called busy too."""
    return (
        isinstance(error, CatalogBusyError)
        and isinstance(error.__cause__, SQLAlchemyError)
        and is_retryable(error.__cause__)
    )


def _end_old(file: Path) -> int | None:
    """End the old catalog for whoever has it open; returns how many writers, None when it cannot be written.

    Raises: CatalogBusyError: somebody holds its lock and could yet commit.
    """
    if not file.is_file():
        return None
    database = Database(_sqlite_url(file))
    try:
        count = database.write(rows.close_for_good)
    except Exception as error:  # damage has no common root
        if _is_held(error):
            raise
        _log.warning("recover.old_not_ended path=%s why=%s", file, error)
        return None
    finally:
        database.close()
    _log.info("recover.old_ended path=%s fenced=%d", file, count)
    return count


def _rebuild_beside(
    site: SiteConfig,
    config: RepositoryConfig,
    backends: Sequence[Backend],
    file: Path | None,
    progress: ProgressCallback | None,
) -> tuple[Rebuilt, int, Path | None]:
    """Build catalog and indexes beside the old ones and put them into place; returns where the old catalog went."""
    url = make_url(catalog_url(site)).render_as_string(hide_password=False)
    new_file = None
    if file is not None:
        new_file = file.with_name(f"{file.name}.new")
        url = _sqlite_url(new_file)
        file.parent.mkdir(parents=True, exist_ok=True)
        for suffix in ("", *_SIDE_FILES):  # what an interrupted recover left
            new_file.with_name(new_file.name + suffix).unlink(missing_ok=True)
    incarnation = rows.new_incarnation()
    paths = {index_path(site, backend.name): backend for backend in backends}
    fresh_paths = {path: fresh_index_path(path) for path in paths}
    spool = site.folder / site.spool_path
    peers: list[Wiring] = []
    try:
        catalog = Catalog.create(url, site.repository_uuid, BACKEND_NAME, "local", unfinished=True)
    except RepositoryError as error:
        if file is not None:
            raise
        why = f"{error.why}; recover fills only an empty database: name a new one in casimg.toml, or empty this one"
        raise RepositoryError(error.path, why) from None
    try:
        try:
            for path, backend in paths.items():
                backend_id = catalog.add_backend(backend.name, "local")
                Wiring(
                    path=site.folder,
                    site=site,
                    config=config,
                    backend=backend,
                    backend_id=backend_id,
                    catalog=catalog.scoped(backend_id),
                    index=open_index(site, incarnation, fresh_paths[path]),
                    spool=spool,
                    reserve=Reserve(spool / "reserve"),
                    peers=peers,
                )
            done = rebuild(peers[0], progress)
            entry_count = sum(peer.index.entry_count() for peer in peers)
        finally:
            for peer in peers:
                peer.index.close()
        peers[0].catalog.transaction(
            lambda connection: rows.finish(connection, site.repository_uuid, incarnation, done.pack_count)
        )
    except BaseException:
        for fresh_path in fresh_paths.values():
            drop_index(fresh_path)
        raise
    finally:
        catalog.close()
    old = None
    try:
        if file is not None and new_file is not None:
            old = _into_place(new_file, file)
        # Its incarnation is the new catalog's: cut off before this, the old index is seen to be foreign and made anew.
        for path, fresh_path in fresh_paths.items():
            replace_index(path, fresh_path)
    except OSError as error:
        why = f"what was made anew cannot be put into place: {error}; recover again"
        raise RepositoryError(str(site.folder), why) from error
    return done, entry_count, old


def _into_place(new_file: Path, file: Path) -> Path | None:
    """Set the old catalog aside and rename the finished new one to its name; returns where the old one went."""
    if any(new_file.with_name(new_file.name + suffix).exists() for suffix in _SIDE_FILES):
        raise RepositoryError(str(new_file), "another program has the new catalog open; close it and recover again")
    stamp = datetime.now(UTC).strftime("%Y%m%dT%H%M%S")
    old = next(path for path in _names_aside(file, stamp) if not path.exists())
    moved = None
    # The database first: a journal must never lie beside a database that is not its own, so all are moved before the
    # new one comes, also those that an interrupted recover left behind.
    for suffix in ("", *_SIDE_FILES):
        there = file.with_name(file.name + suffix)
        if there.exists():
            rename_durably(there, old.with_name(old.name + suffix))
            moved = old if suffix == "" else moved
    with new_file.open("rb") as finished:
        os.fsync(finished.fileno())
    rename_durably(new_file, file)
    return moved


def _names_aside(file: Path, stamp: str) -> Iterator[Path]:
    number = 0
    while True:
        yield file.with_name(f"{file.name}.old-{stamp}" + (f"-{number}" if number else ""))
        number += 1
