"""The table of images that servers keep whole, or shall keep, in a cache of their own."""

from sqlalchemy import BigInteger, CheckConstraint, Column, String, Table

from casimg.catalog.schema import metadata

cached_images = Table(
    "cached_images",
    metadata,
    # Whose cache it is.
    Column("node", String(255), primary_key=True),
    # No foreign key: the file outlives its image until the node looks.
    Column("image_id", String(36), primary_key=True, index=True),
    Column("state", String(8), nullable=False),
    CheckConstraint("state IN ('queued', 'cached')", name="state"),
    # Of the image, and of that what its file takes: holes take nothing.
    Column("size", BigInteger, nullable=False),
    Column("stored_size", BigInteger, nullable=False),
    Column("hits", BigInteger, nullable=False),
    Column("created_at", BigInteger, nullable=False),
    Column("accessed_at", BigInteger, nullable=False),
)
