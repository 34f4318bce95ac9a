"""The table of locations: where else the bytes of an image may be read."""

from sqlalchemy import BigInteger, Column, ForeignKey, Integer, String, Table

from casimg.catalog.long_text import LONG_TEXT
from casimg.catalog.schema import metadata

image_locations = Table(
    "image_locations",
    metadata,
    # In the order in which they were added, which is that in which they are told.
    Column("location_no", BigInteger().with_variant(Integer, "sqlite"), primary_key=True, autoincrement=True),
    Column("image_id", String(36), ForeignKey("images.id"), nullable=False, index=True),
    Column("url", LONG_TEXT, nullable=False),
    # A JSON object.
    Column("metadata", LONG_TEXT, nullable=False),
    Column("created_at", BigInteger, nullable=False),
    sqlite_autoincrement=True,
)
