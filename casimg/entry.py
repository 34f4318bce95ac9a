"""What is said of an image before it has data, and what of it a database can keep. Pure but for its errors."""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Final

from casimg.catalog.edits import UNSET, Edit
from casimg.catalog.locations import Located
from casimg.catalog.query import is_text
from casimg.choices import VISIBILITIES
from casimg.errors import InputError
from casimg.ids import ImageId

TEXT_COUNT_MAX: Final = 255
_FORMAT_COUNT_MAX: Final = 20
ID_COUNT_MAX: Final = 36
_VALUE_SIZE_MAX: Final = 65_535  # what MariaDB keeps in a TEXT
_URL_COUNT_MAX: Final = 8192
_SIZE_MAX: Final = 2**63 - 1
_NUMBER_MAX: Final = 2**31 - 1  # Glance's, which is an INTEGER of SQL


@dataclass(frozen=True, slots=True)
class NewEntry:
    """What an image is said to be before it has data; None as its id gives it one."""

    id: ImageId | None = None
    name: str | None = None
    disk_format: str | None = None
    container_format: str | None = None
    owner: str | None = None
    visibility: str = "shared"
    protected: bool = False
    hidden: bool = False
    min_disk: int = 0
    min_ram: int = 0
    tags: tuple[str, ...] = ()
    properties: Mapping[str, str] = field(default_factory=dict)
    parent_id: ImageId | None = None


@dataclass(frozen=True, slots=True)
class Inspected:
    """What a look into the data has found: the size of the disk in bytes, None when that is not known."""

    virtual_size: int | None


def check_text(what: str, value: object, count_max: int, *, least: int = 0) -> None:
    if not isinstance(value, str) or not is_text(value) or not least <= len(value) <= count_max:
        raise InputError(f"the {what} must be a text of at most {count_max} characters, not {str(value)[:80]!r}")


def _check_optional(what: str, value: object, count_max: int) -> None:
    if value is not None:
        check_text(what, value, count_max)


def _check_number(what: str, value: object) -> None:
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= _NUMBER_MAX:
        raise InputError(f"{what} must be a number from 0 to {_NUMBER_MAX}, not {str(value)[:80]!r}")


def _check_flag(what: str, value: object) -> None:
    if not isinstance(value, bool):
        raise InputError(f"{what} must be true or false, not {str(value)[:80]!r}")


def _check_visibility(what: str, value: object) -> None:
    if value not in VISIBILITIES:
        raise InputError(f"the {what} {str(value)[:80]!r} is none of {', '.join(VISIBILITIES)}")


_CHECKS: Final[Mapping[str, Callable[[str, object], None]]] = {
    "name": lambda what, value: _check_optional(what, value, TEXT_COUNT_MAX),
    "disk_format": lambda what, value: _check_optional(what, value, _FORMAT_COUNT_MAX),
    "container_format": lambda what, value: _check_optional(what, value, _FORMAT_COUNT_MAX),
    "owner": lambda what, value: _check_optional(what, value, TEXT_COUNT_MAX),
    "visibility": _check_visibility,
    "protected": _check_flag,
    "hidden": _check_flag,
    "min_disk": _check_number,
    "min_ram": _check_number,
}


def _check(fields: Mapping[str, object]) -> None:
    """Raise InputError for what a column cannot hold."""
    for name, value in fields.items():
        if name == "tags":
            for tag in value if isinstance(value, tuple) else (value,):
                check_text("tag", tag, TEXT_COUNT_MAX)
        elif name == "properties":
            for key, text in dict(value).items():  # type: ignore[call-overload]
                check_text("name of a property", key, TEXT_COUNT_MAX, least=1)
                if not isinstance(text, str) or not is_text(text) or len(text.encode()) > _VALUE_SIZE_MAX:
                    raise InputError(f"the property {key!r} must be a text of at most {_VALUE_SIZE_MAX} bytes")
        else:
            _CHECKS[name](name, value)


def check_entry(new: NewEntry) -> None:
    """Raise InputError for what a column cannot hold."""
    if new.id is not None:
        check_text("id", new.id, ID_COUNT_MAX, least=1)
    if new.parent_id is not None:
        check_text("parent", new.parent_id, ID_COUNT_MAX)
    _check({name: getattr(new, name) for name in (*_CHECKS, "tags", "properties")})


def check_edit(edit: Edit) -> None:
    """Raise InputError for what a column cannot hold."""
    given = {name: getattr(edit, name) for name in (*_CHECKS, "tags", "properties")}
    _check({name: value for name, value in given.items() if value is not UNSET})
    if edit.located is not UNSET:
        check_located(edit.located)


def check_located(located: Located) -> None:
    """Raise InputError for locations that a column cannot hold."""
    for one in located.locations:
        check_text("URL of a location", one.url, _URL_COUNT_MAX, least=1)
        try:
            text = json.dumps(one.metadata, allow_nan=False)
        except (TypeError, ValueError):
            raise InputError("the metadata of a location must be a JSON object") from None
        if not isinstance(one.metadata, Mapping) or len(text) > _VALUE_SIZE_MAX:
            raise InputError(f"the metadata of a location must be a JSON object of at most {_VALUE_SIZE_MAX} bytes")
    for what, value, count_max in (
        ("algorithm of a hash", located.hash_algo, 64),
        ("hash", located.hash_value, 128),
        ("checksum", located.checksum, 32),
    ):
        _check_optional(what, value, count_max)
    size = located.size
    if size is not None and (isinstance(size, bool) or not isinstance(size, int) or not 0 < size <= _SIZE_MAX):
        raise InputError(f"the size of data elsewhere must be a number from 1 to {_SIZE_MAX}, not {size!r}")
