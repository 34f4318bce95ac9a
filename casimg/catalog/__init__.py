"""The catalog: a SQL database with images, contents, packs and sessions."""

from casimg.catalog.catalog import Catalog
from casimg.catalog.collect import SweepVerdict
from casimg.catalog.rows import (
    BackendRow,
    CatalogTotals,
    ContentRow,
    CopyRow,
    ImageChange,
    ImageRow,
    Location,
    MemberRow,
    NewContent,
    NewImage,
    NewPack,
    PackRow,
    PackTotals,
    RepoRow,
    SessionRow,
    TreeRow,
    UsageRow,
)
from casimg.catalog.schema import CLAIMED_STATUSES, STORED_STATUSES

__all__ = [
    "CLAIMED_STATUSES",
    "STORED_STATUSES",
    "BackendRow",
    "Catalog",
    "CatalogTotals",
    "ContentRow",
    "CopyRow",
    "ImageChange",
    "ImageRow",
    "Location",
    "MemberRow",
    "NewContent",
    "NewImage",
    "NewPack",
    "PackRow",
    "PackTotals",
    "RepoRow",
    "SessionRow",
    "SweepVerdict",
    "TreeRow",
    "UsageRow",
]
