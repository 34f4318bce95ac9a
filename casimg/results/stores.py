"""The backends of a repository. Pure."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class StoreInfo:
    """A backend as Glance knows it, a store: where new images go unless told otherwise is the default one."""

    name: str
    kind: str
    is_default: bool


@dataclass(frozen=True, slots=True)
class BackendFigures:
    """A backend and what lies on it.

    Attributes:
        path: as casimg.toml says it.
        image_count: images with a copy on it.
        pack_count, stored_size: packs and their bytes, also of what `gc` would free.
        problem: why it cannot be used now; None when it can.
    """

    name: str
    kind: str
    path: str
    is_default: bool
    image_count: int
    pack_count: int
    stored_size: int
    problem: str | None
