"""Figures: what a repository saves, and what files would shrink to. Pure."""

from dataclasses import dataclass

from casimg.results.images import Image


@dataclass(frozen=True, slots=True)
class ImageUsage:
    """How one image uses the repository. Stored figures are shares of packs by plain size.

    Attributes:
        plain_size: bytes outside holes.
        unique_size: plain bytes of its distinct chunks.
        shared_size, own_size: of `unique_size`, what other contents reach too, and what only this one does.
        own_stored_size: stored bytes that deleting it and `gc` can give back.
        decode_amplification: plain bytes that reading it decodes, segment by segment, over those it needs; 1.0 is the
            least, and `gc` keeps it low for the newest image of a lineage.
    """

    image: Image
    size: int
    plain_size: int
    unique_size: int
    shared_size: int
    own_size: int
    shared_stored_size: int
    own_stored_size: int
    decode_amplification: float


@dataclass(frozen=True, slots=True)
class ProjectUsage:
    """How the images of one project use the repository. Stored figures are shares of packs by plain size.

    Attributes:
        unique_size: plain bytes of their distinct chunks.
        own_size: of these, what no other project's images reach.
        own_stored_size: stored bytes that deleting all of them and `gc` can give back.
        shared_stored_size: stored bytes that they share with images of other projects.
    """

    owner: str | None
    unique_size: int
    own_size: int
    shared_stored_size: int
    own_stored_size: int


@dataclass(frozen=True, slots=True)
class Stats:
    """The whole repository.

    Attributes:
        virtual_size: sum of image sizes, holes included.
        plain_size: of these, bytes outside holes.
        unique_size: plain bytes of distinct chunks in live data packs.
        stored_size: bytes of live data packs.
        metadata_size: bytes of live metadata packs.
        index_size: bytes of the index, a cache.
        unreferenced_size: of stored + metadata, bytes of packs that no content names; `gc` frees them.
        usages: per image, when asked for.
    """

    image_count: int
    content_count: int
    chunk_count: int
    pack_count: int
    virtual_size: int
    plain_size: int
    unique_size: int
    stored_size: int
    metadata_size: int
    index_size: int
    unreferenced_size: int
    usages: tuple[ImageUsage, ...] = ()

    @property
    def hole_ratio(self) -> float:
        """Virtual over plain: what holes save."""
        return _ratio(self.virtual_size, self.plain_size)

    @property
    def dedup_ratio(self) -> float:
        """Plain over unique."""
        return _ratio(self.plain_size, self.unique_size)

    @property
    def compression_ratio(self) -> float:
        """Unique over stored."""
        return _ratio(self.unique_size, self.stored_size)

    @property
    def total_ratio(self) -> float:
        """Virtual over everything stored, metadata included."""
        return _ratio(self.virtual_size, self.stored_size + self.metadata_size)


def _ratio(whole: int, part: int) -> float:
    return whole / part if part else 1.0


@dataclass(frozen=True, slots=True)
class EstimateRow:
    """What one chunk size would make of the files."""

    chunker: str
    chunk_size: int
    unique_size: int
    stored_size: int
    chunk_count: int
    index_size: int
    metadata_size: int


@dataclass(frozen=True, slots=True)
class Estimate:
    """What files would shrink to: a row for each chunk size and chunker."""

    files: tuple[str, ...]
    virtual_size: int
    hole_size: int
    rows: tuple[EstimateRow, ...]
    duration_s: float
