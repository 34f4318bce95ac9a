"""Where a content lies, and on which backend an object without a row was found."""

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
    op.drop_column("contents", "backend_id")
