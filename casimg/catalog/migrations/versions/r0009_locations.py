"""Images whose data lie elsewhere: where, and what is said of them."""

from typing import Any

import sqlalchemy as sa
from alembic import op

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None

_MYSQL_OPTIONS: dict[str, Any] = {"mysql_engine": "InnoDB", "mysql_charset": "utf8mb4", "mysql_collate": "utf8mb4_bin"}
_COLUMNS = ("location_count", "located_size", "located_hash_algo", "located_hash_value", "located_checksum")


def upgrade() -> None:
    op.add_column("images", sa.Column("location_count", sa.Integer(), server_default="0", nullable=False))
    op.add_column("images", sa.Column("located_size", sa.BigInteger(), nullable=True))
    op.add_column("images", sa.Column("located_hash_algo", sa.String(length=64), nullable=True))
    op.add_column("images", sa.Column("located_hash_value", sa.String(length=128), nullable=True))
    op.add_column("images", sa.Column("located_checksum", sa.String(length=32), nullable=True))
    op.create_table(
        "image_locations",
        sa.Column("image_id", sa.String(length=36), nullable=False),
        sa.Column("position", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("url", sa.Text(), nullable=False),
        sa.Column("metadata", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(["image_id"], ["images.id"], name=op.f("fk_image_locations_image_id")),
        sa.PrimaryKeyConstraint("image_id", "position", name=op.f("pk_image_locations")),
        **_MYSQL_OPTIONS,
    )


def downgrade() -> None:
    op.drop_table("image_locations")
    for name in _COLUMNS:
        op.drop_column("images", name)
