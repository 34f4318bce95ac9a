"""Which chunker, and its sizes: written once in a repository's config. Pure."""

from dataclasses import dataclass

from casimg.choices import CHUNKER_KINDS
from casimg.constants import KIB, MIB, SEGMENT_SIZE
from casimg.errors import InputError


@dataclass(frozen=True, slots=True)
class ChunkerParams:
    """A chunker and its sizes in bytes; `of` derives the bounds that belong to the format."""

    kind: str
    size_min: int
    size_avg: int
    size_max: int

    @classmethod
    def of(cls, kind: str, size_avg: int) -> "ChunkerParams":
        """Return the parameters of a chunker for an average size.

        Args:
            kind: "mincdc", "fastcdc" or "fixed".
            size_avg: a power of two from 4 KiB to 1 MiB, for "fixed" to 4 MiB.
        Raises: InputError.
        """
        if kind not in CHUNKER_KINDS:
            raise InputError(f"there is no chunker {kind!r}; choose one of {', '.join(CHUNKER_KINDS)}")
        size_max = SEGMENT_SIZE if kind == "fixed" else MIB
        if not 4 * KIB <= size_avg <= size_max or size_avg & (size_avg - 1):
            raise InputError(
                f"a chunk size of {size_avg} is not a power of two from 4 KiB to {size_max // KIB} KiB ({kind})"
            )
        if kind == "fixed":
            return cls(kind, size_avg, size_avg, size_avg)
        if kind == "fastcdc":
            return cls(kind, size_avg // 4, size_avg, min(SEGMENT_SIZE, size_avg * 4))
        return cls(kind, size_avg // 2, size_avg, size_avg * 3 // 2)
