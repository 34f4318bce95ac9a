"""Standard namespaces of metadata definitions, read from files into a repository.

OpenStack publishes them as JSON files in Glance, under the Apache License 2.0. They are not part of casimg: they come
from a folder, from one file, or from the wheel of the package `glance`, which need not be installed for that.
"""

import json
import sys
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass, replace
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path
from typing import Final

from casimg.errors import InputError, MetadefExistsError, SourceError
from casimg.metadef_documents import NewNamespace, parse_namespace
from casimg.metadefs import Metadefs

FILE_SIZE_MAX: Final = 4 << 20
FILE_COUNT_MAX: Final = 1000

SYSTEM_FOLDERS: Final = (
    Path(sys.prefix) / "etc/glance/metadefs",
    Path("/etc/glance/metadefs"),
    Path("/usr/share/glance/metadefs"),
)
"""Where packages of Glance leave their files."""


@dataclass(frozen=True, slots=True)
class LoadReport:
    """Names of namespaces, by what became of them."""

    source: str
    added: tuple[str, ...]
    replaced: tuple[str, ...]
    kept: tuple[str, ...]
    """Those that were there already and stayed as they were."""


def load(metadefs: Metadefs, source: Path | None, *, owner: str, replacing: bool) -> LoadReport:
    """Load the namespaces of a folder, a JSON file or a wheel; all files are read before the first one is loaded.

    Args:
        source: None for where Glance's package has them.
        owner: of namespaces whose file names none.
        replacing: put them in the place of those of the same name, protected or not, instead of keeping these.
    Raises: SourceError for a file that cannot be used; InputError when there are none.
    """
    place = installed_folder() if source is None else source
    added: list[str] = []
    replaced: list[str] = []
    kept: list[str] = []
    for new in [_parsed(name, text) for name, text in _files(place)]:
        owned = replace(new, owner=new.owner or owner)
        try:
            if replacing:
                (replaced if metadefs.replace_namespace(owned) else added).append(new.name)
            else:
                metadefs.add_namespace(owned)
                added.append(new.name)
        except MetadefExistsError as error:
            if error.kind != "namespace":
                raise SourceError(new.name, str(error)) from None
            kept.append(new.name)
    return LoadReport(str(place), tuple(added), tuple(replaced), tuple(kept))


def installed_folder() -> Path:
    """Return the folder of the standard namespaces on this machine. Raises: InputError, saying where to get them."""
    folders = list(SYSTEM_FOLDERS)
    try:
        files = distribution("glance").files or []
    except PackageNotFoundError:
        files = []
    folders[:0] = [Path(str(file.locate())).parent for file in files if "/metadefs/" in str(file)][:1]
    for folder in folders:
        if any(folder.glob("*.json")):
            return folder.resolve()
    raise InputError(
        "no standard namespaces are installed; `pip download --no-deps glance` brings a wheel that has them: "
        "`casimg metadefs load glance-*.whl`"
    )


def _files(place: Path) -> list[tuple[str, bytes]]:
    """Return the JSON files of a place, by name. Raises: SourceError."""
    try:
        found = sorted(_wheel_files(place) if zipfile.is_zipfile(place) else _plain_files(place))
    except (OSError, zipfile.BadZipFile, NotImplementedError, RuntimeError) as error:
        raise SourceError(str(place), str(error)) from None
    if not found:
        raise SourceError(str(place), "it holds no JSON files with namespaces")
    return found


def _plain_files(place: Path) -> Iterator[tuple[str, bytes]]:
    paths = [place] if place.is_file() else [path for path in place.iterdir() if path.suffix == ".json"]
    _check_count(place, len(paths))
    for path in paths:
        with path.open("rb") as file:
            yield str(path), _bounded(str(path), file.read(FILE_SIZE_MAX + 1))


def _wheel_files(place: Path) -> Iterator[tuple[str, bytes]]:
    with zipfile.ZipFile(place) as wheel:
        names = [name for name in wheel.namelist() if "/metadefs/" in name and name.endswith(".json")]
        _check_count(place, len(names))
        for name in names:
            with wheel.open(name) as file:
                yield f"{place}:{name}", _bounded(name, file.read(FILE_SIZE_MAX + 1))


def _check_count(place: Path, count: int) -> None:
    if count > FILE_COUNT_MAX:
        raise SourceError(str(place), f"{count} files; at most {FILE_COUNT_MAX} are read")


def _bounded(name: str, data: bytes) -> bytes:
    if len(data) > FILE_SIZE_MAX:
        raise SourceError(name, f"it is larger than {FILE_SIZE_MAX >> 20} MiB")
    return data


def _parsed(name: str, data: bytes) -> NewNamespace:
    try:
        return parse_namespace(json.loads(data.decode()))
    except InputError as error:
        raise SourceError(name, str(error)) from None
    except (ValueError, RecursionError) as error:
        raise SourceError(name, f"it is no JSON document: {error}") from None
