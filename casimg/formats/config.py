"""The two configuration files of a repository.

`casimg.json`, an object on the backend, says what the repository is: written once, never changed. `casimg.toml`, a
local file, says where backend, catalog, index and spool lie: edited by people, so unknown keys are errors.
"""

import json
import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from casimg.choices import LEVEL_DEFAULT
from casimg.constants import FORMAT_VERSION, TIB
from casimg.errors import ConfigError, InputError, NewerFormatError, NoRepositoryError
from casimg.ids import BytesLike
from casimg.sizes import parse_size

CONFIG_KEY: Final = "casimg.json"
SITE_FILE: Final = "casimg.toml"
DEFAULT_BACKEND: Final = "local"
_BACKEND_NAME: Final = re.compile(r"[a-z0-9][a-z0-9_-]{0,63}")
KNOWN_FEATURES: Final[frozenset[str]] = frozenset()
CONFIG_SIZE_MAX: Final = 1 << 20


@dataclass(frozen=True, slots=True)
class RepositoryConfig:
    """What never changes: identity, chunker, features."""

    repository_uuid: str
    created_at: str
    chunker_kind: str
    chunk_size_avg: int
    format_version: int = FORMAT_VERSION
    mandatory_features: tuple[str, ...] = ()
    optional_features: tuple[str, ...] = ()


def encode_repository_config(config: RepositoryConfig) -> bytes:
    """Return the object `casimg.json`."""
    document = {
        "casimg": "repository",
        "format_version": config.format_version,
        "repository_uuid": config.repository_uuid,
        "created_at": config.created_at,
        "chunker": {"kind": config.chunker_kind, "size_avg": config.chunk_size_avg},
        "features": {"mandatory": list(config.mandatory_features), "optional": list(config.optional_features)},
    }
    return (json.dumps(document, indent=2) + "\n").encode()


def decode_repository_config(data: BytesLike, where: str) -> RepositoryConfig:
    """Return what `casimg.json` says.

    Args:
        where: for messages.
    Raises: NewerFormatError, ConfigError.
    """
    try:
        document: Any = json.loads(bytes(data))
        version = document["format_version"]
        if document["casimg"] != "repository" or type(version) is not int:
            raise ValueError("it does not say that it is a casimg repository")
        if version < FORMAT_VERSION:
            raise ConfigError(where, "the repository is of format version 0, from before casimg had a fixed format")
        if version > FORMAT_VERSION:
            raise NewerFormatError(
                where, f"the repository has format version {version}, this casimg reads up to {FORMAT_VERSION}; upgrade"
            )
        features = document["features"]
        unknown = sorted(set(features["mandatory"]) - KNOWN_FEATURES)
        if unknown:
            raise NewerFormatError(
                where, f"the repository needs {', '.join(unknown)}, unknown to this casimg; upgrade it"
            )
        return RepositoryConfig(
            repository_uuid=str(document["repository_uuid"]),
            created_at=str(document["created_at"]),
            chunker_kind=str(document["chunker"]["kind"]),
            chunk_size_avg=int(document["chunker"]["size_avg"]),
            format_version=version,
            mandatory_features=tuple(features["mandatory"]),
            optional_features=tuple(features["optional"]),
        )
    except (ValueError, TypeError, KeyError) as error:
        raise ConfigError(where, f"casimg.json is damaged: {error!r}") from None


@dataclass(frozen=True, slots=True)
class BackendSite:
    """Where a further backend lies."""

    name: str
    path: Path
    kind: str = "local"


@dataclass(frozen=True, slots=True)
class SiteConfig:
    """Where the parts of a repository lie, and how fast to be. Relative paths start at the folder of the file."""

    folder: Path
    repository_uuid: str
    backend_kind: str = "local"
    backend_path: Path = Path("objects")
    catalog_url: str = "sqlite:///catalog.sqlite"
    index_path: Path = Path("index")
    index_map_size: int = TIB
    spool_path: Path = Path("spool")
    level: int = LEVEL_DEFAULT
    threads: int = 0
    gc_undo_s: int = 0
    image_owner: str | None = None
    backends: tuple[BackendSite, ...] = ()
    """Beside the default one, in the order of the file."""


_KEYS: Final[Mapping[str, Mapping[str, tuple[str, type]]]] = {
    "repository": {"uuid": ("repository_uuid", str)},
    "backend": {"kind": ("backend_kind", str), "path": ("backend_path", Path)},
    "catalog": {"url": ("catalog_url", str)},
    "index": {"path": ("index_path", Path), "map_size": ("index_map_size", int)},
    "spool": {"path": ("spool_path", Path)},
    "gc": {"undo_s": ("gc_undo_s", int)},
    "images": {"owner": ("image_owner", str)},
    "write": {"level": ("level", int), "threads": ("threads", int)},
}


_BACKENDS: Final = "backends"
_BACKEND_KEYS: Final[Mapping[str, type]] = {"kind": str, "path": Path}


def check_backend_name(name: str) -> None:
    """Raise InputError for a name that no backend can have."""
    if not _BACKEND_NAME.fullmatch(name):
        why = "1 to 64 lower-case letters, digits, - and _, the first a letter or digit"
        raise InputError(f"the name of a backend has {why}, not {name[:80]!r}")
    if name == DEFAULT_BACKEND:
        raise InputError(f"the repository's default backend is called {DEFAULT_BACKEND}; choose another name")


def with_backend(text: str, backend: BackendSite) -> str:
    """Return the text of a `casimg.toml` with one more backend. Raises: ValueError when the text cannot hold it."""
    path = json.dumps(str(backend.path), ensure_ascii=False).replace("\x7f", "\\u007f")
    added = f'[{_BACKENDS}.{backend.name}]\nkind = "{backend.kind}"\npath = {path}\n'
    new = f"{text.rstrip()}\n\n{added}"
    expected = tomllib.loads(text)
    expected[_BACKENDS] = {
        **expected.get(_BACKENDS, {}),
        backend.name: {"kind": backend.kind, "path": str(backend.path)},
    }
    if tomllib.loads(new) != expected:
        raise ValueError(f"[{_BACKENDS}.{backend.name}] cannot be added to what is there")
    return new


def default_site_config(repository_uuid: str, level: int = LEVEL_DEFAULT) -> str:
    """Return the text of a new `casimg.toml`."""
    return f"""\
# Where the parts of this casimg repository lie. Paths are relative to this file's folder.
# What the repository is (chunker, sizes, features) is in the backend's casimg.json and never changes.

[repository]
uuid = "{repository_uuid}"

[backend]              # packs and records: the data
kind = "local"
path = "objects"

[catalog]              # images, contents, packs: the only commit point
url = "sqlite:///catalog.sqlite"

[index]                # a cache, rebuilt from the packs at any time; keep it on a local disk
path = "index"
map_size = "1TiB"      # address space, not disk

[spool]                # packs being filled; on the file system of the backend they are moved, not copied
path = "spool"

[write]
level = {level:<15}# zstd level of new data
threads = 0            # 0: all cores, at most 8; each costs about 16 MiB

[gc]
undo_s = 0             # seconds a pack that nothing needs is kept; a day (86400) for a fleet

# [images]
# owner = ""           # id of the project that images put here belong to, where an API lists them by project
"""


def load_site_config(path: Path) -> SiteConfig:
    """Read `casimg.toml`.

    Args:
        path: the file, or the folder it is in.
    Raises: NoRepositoryError, ConfigError naming the key.
    """
    file = path / SITE_FILE if path.is_dir() else path
    try:
        text = file.read_text(encoding="utf-8")
    except (FileNotFoundError, NotADirectoryError):
        raise NoRepositoryError(str(path), "there is no casimg repository here; `casimg init` makes one") from None
    except (OSError, ValueError) as error:
        raise ConfigError(str(file), getattr(error, "strerror", None) or str(error)) from None
    try:
        document = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(str(file), f"not TOML: {error}") from None
    values: dict[str, Any] = {"folder": file.resolve().parent}
    for section, keys in document.items():
        if section == _BACKENDS and isinstance(keys, dict):
            values["backends"] = tuple(_backend(file, name, table) for name, table in keys.items())
            continue
        known = _KEYS.get(section)
        if known is None or not isinstance(keys, dict):
            raise ConfigError(str(file), f"unknown section [{section}]; known are {', '.join((*_KEYS, _BACKENDS))}")
        for key, value in keys.items():
            if key not in known:
                raise ConfigError(str(file), f"unknown key {key!r} in [{section}]; known are {', '.join(known)}")
            name, kind = known[key]
            values[name] = _value(file, section, key, value, kind)
    if "repository_uuid" not in values:
        raise ConfigError(str(file), "there is no uuid in [repository]")
    config = SiteConfig(**values)
    _check(file, config)
    return config


def _backend(file: Path, name: str, table: object) -> BackendSite:
    section = f"{_BACKENDS}.{name}"
    try:
        check_backend_name(name)
    except InputError as error:
        raise ConfigError(str(file), f"[{section}]: {error}") from None
    if not isinstance(table, dict):
        raise ConfigError(str(file), f"[{section}] must be a table with a path")
    for key in table:
        if key not in _BACKEND_KEYS:
            raise ConfigError(str(file), f"unknown key {key!r} in [{section}]; known are {', '.join(_BACKEND_KEYS)}")
    found = {key: _value(file, section, key, value, _BACKEND_KEYS[key]) for key, value in table.items()}
    if "path" not in found:
        raise ConfigError(str(file), f"there is no path in [{section}]")
    if found.get("kind", "local") != "local":
        raise ConfigError(str(file), f"unknown backend kind {found['kind']!r} in [{section}]; known is local")
    return BackendSite(name, Path(str(found["path"])))


def _value(file: Path, section: str, key: str, value: object, kind: type) -> object:
    where = f"{key} in [{section}]"
    if kind is int and key == "map_size" and isinstance(value, str):
        try:
            return parse_size(value)
        except InputError as error:
            raise ConfigError(str(file), f"{where}: {error}") from None
    if type(value) is not (str if kind is Path else kind) or value == "":
        what = "a number" if kind is int else "a text"
        raise ConfigError(str(file), f"{where} must be {what}, not {value!r}")
    return Path(str(value)) if kind is Path else value


def _check(file: Path, config: SiteConfig) -> None:
    if config.backend_kind != "local":
        raise ConfigError(str(file), f"unknown backend kind {config.backend_kind!r}; known is local")
    if not -7 <= config.level <= 22:
        raise ConfigError(str(file), f"level in [write] must be -7 to 22, not {config.level}")
    if not 0 <= config.threads <= 1024:
        raise ConfigError(str(file), f"threads in [write] must be 0 to 1024, not {config.threads}")
    if config.gc_undo_s < 0:
        raise ConfigError(str(file), f"undo_s in [gc] must be 0 or more, not {config.gc_undo_s}")
    if config.index_map_size < 1 << 20:
        raise ConfigError(str(file), "map_size in [index] must be 1MiB or more")
