"""The backends of a repository: entered, and told with what lies on them.

Entering one is four steps, each of which may be done again: the folder with the repository's `casimg.json`, the row in
the catalog, and, last and durable, the table in `casimg.toml`, which is what makes it one. Cut off before that, it is
none, and nothing lies there.
"""

import contextlib
import logging
import os
from functools import partial
from io import BytesIO
from pathlib import Path

from casimg.backend.lazy import LazyBackend
from casimg.backend.local import LocalBackend
from casimg.catalog.figures import backend_totals
from casimg.errors import CasimgError, InputError, RepositoryError
from casimg.formats.config import (
    CONFIG_KEY,
    SITE_FILE,
    BackendSite,
    SiteConfig,
    check_backend_name,
    encode_repository_config,
    load_site_config,
    with_backend,
)
from casimg.opening import BACKEND_NAME, alone, open_backend, open_catalog, open_further, write_durably
from casimg.results.stores import BackendFigures
from casimg.wiring import Wiring

_log = logging.getLogger("casimg.backends")
_LEFT_BY_A_KILL = frozenset({"tmp"})


def add_backend(path: str | os.PathLike[str], name: str, folder: str | os.PathLike[str]) -> BackendSite:
    """Give a repository a further backend, a local folder; again, or after a kill in the middle, is harmless.

    Programs that have the repository open do not know of it until they open it again.

    Args:
        path: folder of the repository, or its `casimg.toml`.
        name: 1 to 64 lower-case letters, digits, `-` and `_`; for good.
        folder: not there yet, empty, or this repository's backend of this name.
    Raises: InputError for another name or folder, RepositoryError, NoSpaceError, CatalogBusyError.
    """
    check_backend_name(name)
    if not os.fspath(folder):
        raise InputError("the folder of the backend has no name")
    place = Path(folder).resolve()
    with alone(load_site_config(Path(path)), "another `backend add`, or a recover,"):
        # Read again, under the lock: another `add` may have written it.
        site = load_site_config(Path(path))
        entry = BackendSite(name, place)
        known = {item.name: item for item in site.backends}
        if name in known:
            entry = known[name]
            if (site.folder / entry.path).resolve() != place:
                raise InputError(f"there is a backend {name} already, in {site.folder / entry.path}")
        else:
            _check_apart(site, place)
        _make_folder(site, name, place)
        catalog = open_catalog(site)
        try:
            catalog.add_backend(name, entry.kind)
        finally:
            catalog.close()
        if name not in known:
            _write_site(Path(path), entry)
            _log.info("backend.added name=%s path=%s", name, place)
    return entry


def backends(wiring: Wiring) -> tuple[BackendFigures, ...]:
    """Return the backends with what lies on them, the default one first."""
    wiring.check_open()
    paths = {BACKEND_NAME: wiring.site.backend_path, **{entry.name: entry.path for entry in wiring.site.backends}}
    found = []
    for peer in wiring.peers:
        totals = wiring.catalog.read(partial(backend_totals, backend_id=peer.backend_id))
        found.append(
            BackendFigures(
                name=peer.backend.name,
                kind="local",
                path=str(paths[peer.backend.name]),
                is_default=peer is wiring.home,
                image_count=totals.image_count,
                pack_count=totals.pack_count,
                stored_size=totals.stored_size,
                problem=_problem(peer),
            )
        )
    return tuple(found)


def _problem(wiring: Wiring) -> str | None:
    """Say why a backend cannot be used now; None when it can."""
    try:
        if isinstance(wiring.backend, LazyBackend):
            wiring.backend.opened()
        wiring.backend.stat(CONFIG_KEY)
    except CasimgError as error:
        return str(error)
    return None


def _check_apart(site: SiteConfig, place: Path) -> None:
    """Raise InputError for a folder that lies in another backend's, or has one in it."""
    others = {BACKEND_NAME: site.backend_path, **{entry.name: entry.path for entry in site.backends}}
    for name, path in others.items():
        other = (site.folder / path).resolve()
        if place == other or place in other.parents or other in place.parents:
            raise InputError(f"{place} and the backend {name} in {other} are not apart; choose another folder")


def _make_folder(site: SiteConfig, name: str, place: Path) -> None:
    """Make the folder a backend of the repository, unless it is one. Raises: InputError, RepositoryError."""
    _, config = open_backend(site)
    entry = BackendSite(name, place)
    try:
        there = {item.name for item in place.iterdir()} if place.exists() else set()
    except OSError as error:
        raise InputError(f"{place} cannot be a backend: {(error.strerror or str(error)).lower()}") from None
    if CONFIG_KEY in there:
        open_further(site, entry)
        return
    if there - _LEFT_BY_A_KILL:
        raise InputError(f"the folder {place} is not empty; choose a new one for a backend")
    backend = LocalBackend.create(place, name)
    for partial_object in backend.list_partials():
        with contextlib.suppress(CasimgError):
            backend.delete_partial(partial_object.key)
    data = encode_repository_config(config)
    backend.put(CONFIG_KEY, BytesIO(data), len(data))


def _write_site(path: Path, entry: BackendSite) -> None:
    file = path / SITE_FILE if path.is_dir() else path
    try:
        write_durably(file, with_backend(file.read_text(encoding="utf-8"), entry))
    except (OSError, ValueError) as error:
        raise RepositoryError(str(file), f"the backend cannot be written into it: {error}") from None
