"""Ids are types, not bare bytes or str; and the two hashes that make them.

Source: BLAKE3 paper (O'Connor, Aumasson, Neves, Wilcox-O'Hearn, 2020), section 2.6 for `derive_key`.
"""

import secrets
import uuid
from typing import NewType

from blake3 import blake3

from casimg.constants import NODE_ID_CONTEXT

ChunkId = NewType("ChunkId", bytes)
NodeId = NewType("NodeId", bytes)
PackId = NewType("PackId", bytes)

ImageId = NewType("ImageId", str)
"""A UUID in its canonical 36-character form."""
ContentId = NewType("ContentId", str)
"""32 hex digits, random."""
SessionId = NewType("SessionId", str)
"""32 hex digits, random."""

BytesLike = bytes | bytearray | memoryview


def chunk_id(plain: BytesLike) -> ChunkId:
    """Return the id of a chunk: plain BLAKE3-256 of its bytes. Releases the GIL for long inputs."""
    return ChunkId(blake3(plain).digest())


def node_id(encoded: BytesLike) -> NodeId:
    """Return the id of a manifest node: BLAKE3 in its own key-derivation context."""
    return NodeId(blake3(encoded, derive_key_context=NODE_ID_CONTEXT).digest())


def new_image_id() -> ImageId:
    return ImageId(str(uuid.uuid4()))


def new_content_id() -> ContentId:
    return ContentId(secrets.token_hex(16))


def new_session_id() -> SessionId:
    return SessionId(secrets.token_hex(16))
