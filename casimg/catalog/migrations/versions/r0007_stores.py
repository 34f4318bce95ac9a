"""More than one backend: where a content lies, and further copies of an image."""

from typing import Any

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None

_MYSQL_OPTIONS: dict[str, Any] = {"mysql_engine": "InnoDB", "mysql_charset": "utf8mb4", "mysql_collate": "utf8mb4_bin"}


def upgrade() -> None:
    op.add_column("contents", sa.Column("backend_id", sa.Integer(), nullable=True))
    op.execute("UPDATE contents SET backend_id = (SELECT MIN(backend_id) FROM backends)")
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
        sa.PrimaryKeyConstraint("image_id", "backend_id", name=op.f("pk_image_copies")),
        **_MYSQL_OPTIONS,
    )
    op.create_index(op.f("ix_image_copies_content_id"), "image_copies", ["content_id"], unique=False)
    # What it had is found again by the next collection.
    op.drop_table("orphans")
    op.create_table(
        "orphans",
        sa.Column("backend_id", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("name", sa.String(length=255), nullable=False),
        sa.Column("epoch", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("backend_id", "name", name=op.f("pk_orphans")),
        **_MYSQL_OPTIONS,
    )


def downgrade() -> None:
    op.drop_table("orphans")
    op.create_table(
        "orphans",
        sa.Column("name", sa.String(length=255), nullable=False),
        sa.Column("epoch", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("name", name=op.f("pk_orphans")),
        **_MYSQL_OPTIONS,
    )
    op.drop_table("image_copies")
    op.drop_column("contents", "backend_id")
