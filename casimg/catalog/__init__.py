"""The catalog: a SQL database with images, contents, packs and sessions."""

from casimg.catalog.catalog import Catalog
from casimg.catalog.collect import SweepVerdict
from casimg.catalog.rows import (
    CatalogTotals,
    ContentRow,
    ImageChange,
    ImageRow,
    NewContent,
    NewImage,
    NewPack,
    PackRow,
    PackTotals,
    RepoRow,
    SessionRow,
    TreeRow,
)

__all__ = [
    "Catalog",
    "CatalogTotals",
    "ContentRow",
    "ImageChange",
    "ImageRow",
    "NewContent",
    "NewImage",
    "NewPack",
    "PackRow",
    "PackTotals",
    "RepoRow",
    "SessionRow",
    "SweepVerdict",
    "TreeRow",
]
