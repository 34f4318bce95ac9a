"""How images stand to files and to each other: verify, diff, lineage, prune. Pure."""

from dataclasses import dataclass

from casimg.ids import ImageId
from casimg.results.images import ByteRange, Image


@dataclass(frozen=True, slots=True)
class VerifyReport:
    """A stored image, read back and compared with a file byte by byte.

    Attributes:
        differences: ranges of 4 KiB blocks that differ, at most `difference_count_max` of them, in order.
        difference_size: bytes in all differing ranges.
    """

    image: Image
    file: str
    size: int
    file_size: int
    equal: bool
    differences: tuple[ByteRange, ...]
    difference_size: int
    duration_s: float


@dataclass(frozen=True, slots=True)
class DiffReport:
    """Where two images differ, `a` to `b`.

    Attributes:
        exact: True when ranges are 4 KiB blocks that were compared, False when they are whole differing chunks.
        only_in_b_size: plain bytes of chunks in differing segments of `b` that no differing segment of `a` has; data
            that moved far counts as new.
    """

    a: Image
    b: Image
    ranges: tuple[ByteRange, ...]
    changed_size: int
    only_in_b_size: int
    exact: bool


@dataclass(frozen=True, slots=True)
class LineageNode:
    """An image in the tree of its snapshots; `image` is None for a parent whose row is gone for good."""

    id: ImageId
    image: Image | None
    gone: bool
    """True when the image was deleted; its snapshots keep all their bytes."""
    asked: bool
    """True for the image the lineage was asked of."""
    children: tuple["LineageNode", ...]


@dataclass(frozen=True, slots=True)
class PruneDecision:
    """What pruning decides of one snapshot: why it is kept, or, with no reason, that it goes."""

    image: Image
    reasons: tuple[str, ...]

    @property
    def kept(self) -> bool:
        return bool(self.reasons)
