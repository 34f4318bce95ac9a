"""Copies of images on further backends."""

from typing import Any

import sqlalchemy as sa
from alembic import op

revision = "0010"
down_revision = "0009"
branch_labels = None
depends_on = None

_MYSQL_OPTIONS: dict[str, Any] = {"mysql_engine": "InnoDB", "mysql_charset": "utf8mb4", "mysql_collate": "utf8mb4_bin"}


def upgrade() -> None:
    op.create_table(
        "image_copies",
        sa.Column("image_id", sa.String(length=36), nullable=False),
        sa.Column("backend_id", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("content_id", sa.String(length=32), nullable=False),
        sa.Column("session_id", sa.String(length=32), nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(["image_id"], ["images.id"], name=op.f("fk_image_copies_image_id")),
        sa.ForeignKeyConstraint(["backend_id"], ["backends.backend_id"], name=op.f("fk_image_copies_backend_id")),
        sa.ForeignKeyConstraint(["content_id"], ["contents.content_id"], name=op.f("fk_image_copies_content_id")),
        sa.ForeignKeyConstraint(["session_id"], ["sessions.session_id"], name=op.f("fk_image_copies_session_id")),
        sa.PrimaryKeyConstraint("image_id", "backend_id", name=op.f("pk_image_copies")),
        **_MYSQL_OPTIONS,
    )
    op.create_index(op.f("ix_image_copies_content_id"), "image_copies", ["content_id"], unique=False)
    op.create_index(op.f("ix_image_copies_session_id"), "image_copies", ["session_id"], unique=False)


def downgrade() -> None:
    op.drop_table("image_copies")
