"""Limits and fixed numbers of the repository format, in one place.

Everything here is part of the format (DESIGN: changes bytes on disk) unless the comment says "speed".
Sizes are bytes.
"""

from typing import Final

KIB: Final = 1024
MIB: Final = 1024 * KIB
GIB: Final = 1024 * MIB
TIB: Final = 1024 * GIB

FORMAT_VERSION: Final = 1
"""Frozen: any change of bytes, of cuts or of ids makes another version, which also reads this one."""

BLOCK_SIZE: Final = 4 * KIB
"""Holes are maximal runs of all-zero blocks of this size, aligned to it."""

SEGMENT_SIZE: Final = 4 * MIB
"""The chunker restarts at every multiple of this; one manifest leaf covers one segment."""

NODE_RADIX: Final = 512
"""Children of an inner manifest node."""

TREE_HEIGHT_MAX: Final = 3
CONTENT_SIZE_MAX: Final = SEGMENT_SIZE * NODE_RADIX**TREE_HEIGHT_MAX
"""512 TiB: what a manifest of height 3 can address."""

FRAME_PLAIN_TARGET: Final = 256 * KIB
"""A frame takes chunks up to this much plain data, unless a single chunk is larger."""

FRAME_PLAIN_MAX: Final = SEGMENT_SIZE
"""Hard limit on the plain size of a frame; a reader allocates no more than this."""

PACK_SIZE_TARGET: Final = 64 * MIB
PACK_SIZE_MAX: Final = 1 * GIB
"""Hard limit: offsets inside a pack are 32 bits wide and readers refuse larger packs."""

PACK_FLUSH_AFTER_S: Final = 300.0
"""A pack leaves the spool at latest this long after its first frame (speed, and work saved from a crash)."""

ID_SIZE: Final = 32
"""BLAKE3-256."""

NODE_ID_CONTEXT: Final = "casimg 2026-11 manifest node"
"""BLAKE3 derive_key context of node ids: no uploaded bytes can have a node's id."""

CHUNK_SIZE_DEFAULT: Final = 16 * KIB

HOLE_FLAG: Final = 1 << 31
"""Set on the size of a cut or a leaf entry that is a hole."""

KIND_DATA: Final = 0
KIND_METADATA: Final = 1
"""A pack or frame holds chunks of plain bytes, or manifest nodes; never both."""

DOMAIN_DEFAULT: Final = 0
"""Packs of different domains (tenants, keys) never share chunks."""

NODE_FRAME_PLAIN_TARGET: Final = 64 * KIB
"""Frames of manifest nodes stay small: a random read decodes one to get one leaf."""
