"""Images that servers keep whole, or shall keep, in a cache of their own."""

from typing import Any

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None

_MYSQL_OPTIONS: dict[str, Any] = {"mysql_engine": "InnoDB", "mysql_charset": "utf8mb4", "mysql_collate": "utf8mb4_bin"}


def upgrade() -> None:
    op.create_table(
        "cached_images",
        sa.Column("node", sa.String(length=255), nullable=False),
        sa.Column("image_id", sa.String(length=36), nullable=False),
        sa.Column("state", sa.String(length=8), nullable=False),
        sa.Column("size", sa.BigInteger(), nullable=False),
        sa.Column("stored_size", sa.BigInteger(), nullable=False),
        sa.Column("hits", sa.BigInteger(), nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.Column("accessed_at", sa.BigInteger(), nullable=False),
        sa.CheckConstraint("state IN ('queued', 'cached')", name=op.f("ck_cached_images_state")),
        sa.PrimaryKeyConstraint("node", "image_id", name=op.f("pk_cached_images")),
        **_MYSQL_OPTIONS,
    )
    op.create_index(op.f("ix_cached_images_image_id"), "cached_images", ["image_id"], unique=False)


def downgrade() -> None:
    op.drop_table("cached_images")
