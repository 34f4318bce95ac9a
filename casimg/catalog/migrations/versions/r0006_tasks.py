"""Tasks: what a service does with images in the background."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import mysql

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None

_LONG = sa.Text().with_variant(mysql.MEDIUMTEXT(), "mysql", "mariadb")
_INDEXED = ("created_at", "expires_at", "image_id", "owner")


def upgrade() -> None:
    op.create_table(
        "tasks",
        sa.Column("task_id", sa.String(length=36), nullable=False),
        sa.Column("type", sa.String(length=32), nullable=False),
        sa.Column("status", sa.String(length=16), nullable=False),
        sa.Column("owner", sa.String(length=255), nullable=True),
        sa.Column("user_id", sa.String(length=255), nullable=True),
        sa.Column("request_id", sa.String(length=255), nullable=True),
        sa.Column("image_id", sa.String(length=36), nullable=True),
        sa.Column("input", _LONG, nullable=False),
        sa.Column("result", _LONG, nullable=True),
        sa.Column("message", _LONG, nullable=False),
        sa.Column("node", sa.String(length=128), nullable=False),
        sa.Column("pid", sa.BigInteger(), nullable=False),
        sa.Column("pid_start", sa.BigInteger(), nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.Column("updated_at", sa.BigInteger(), nullable=False),
        sa.Column("expires_at", sa.BigInteger(), nullable=True),
        sa.CheckConstraint("type IN ('import', 'api_image_import', 'location_import')", name=op.f("ck_tasks_type")),
        sa.CheckConstraint("status IN ('pending', 'processing', 'success', 'failure')", name=op.f("ck_tasks_status")),
        sa.PrimaryKeyConstraint("task_id", name=op.f("pk_tasks")),
        mysql_engine="InnoDB",
        mysql_charset="utf8mb4",
        mysql_collate="utf8mb4_bin",
    )
    for column in _INDEXED:
        op.create_index(op.f(f"ix_tasks_{column}"), "tasks", [column], unique=False)


def downgrade() -> None:
    op.drop_table("tasks")
