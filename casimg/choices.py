"""What a caller chooses from: chunkers, presets, visibilities. Pure; help texts need these and nothing that works."""

from collections.abc import Mapping
from typing import Final

CHUNKER_KINDS: Final = ("mincdc", "fastcdc", "fixed")

LEVEL_DEFAULT: Final = 1
"""zstd level: nearly twice as fast as 3 for 5 % more bytes (docs/decisions/0003)."""
LEVELS: Final[Mapping[str, int]] = {"default": LEVEL_DEFAULT, "compact": 9}
"""Presets of `init` and the zstd levels that they write into `casimg.toml`."""

VISIBILITIES: Final = ("private", "public", "shared", "community")
