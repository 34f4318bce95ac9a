"""The catalog: a SQL database with images, contents, packs and sessions."""

from casimg.catalog.catalog import Catalog
from casimg.catalog.collect import SweepVerdict
from casimg.catalog.rows import (
    ContentRow,
    ImageRow,
    NewContent,
    NewImage,
    NewPack,
    PackRow,
    RepoRow,
    SessionRow,
    TreeRow,
)

__all__ = [
    "Catalog",
    "ContentRow",
    "ImageRow",
    "NewContent",
    "NewImage",
    "NewPack",
    "PackRow",
    "RepoRow",
    "SessionRow",
    "SweepVerdict",
    "TreeRow",
]
