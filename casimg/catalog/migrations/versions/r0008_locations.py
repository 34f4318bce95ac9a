"""Locations: where else the bytes of an image may be read."""

from typing import Any

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import mysql

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None

_AUTO = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
_LONG = sa.Text().with_variant(mysql.MEDIUMTEXT(), "mysql", "mariadb")
_OPTIONS: dict[str, Any] = {
    "sqlite_autoincrement": True,
    "mysql_engine": "InnoDB",
    "mysql_charset": "utf8mb4",
    "mysql_collate": "utf8mb4_bin",
}


def upgrade() -> None:
    op.create_table(
        "image_locations",
        sa.Column("location_no", _AUTO, autoincrement=True, nullable=False),
        sa.Column("image_id", sa.String(length=36), nullable=False),
        sa.Column("url", _LONG, nullable=False),
        sa.Column("metadata", _LONG, nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(["image_id"], ["images.id"], name=op.f("fk_image_locations_image_id")),
        sa.PrimaryKeyConstraint("location_no", name=op.f("pk_image_locations")),
        **_OPTIONS,
    )
    op.create_index(op.f("ix_image_locations_image_id"), "image_locations", ["image_id"], unique=False)


def downgrade() -> None:
    op.drop_table("image_locations")
