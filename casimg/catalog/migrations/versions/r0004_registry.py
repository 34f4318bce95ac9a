"""Images before they have data, edited, hidden and shared: what the registry needs.

Three columns of `images` become nullable, which SQLite can only do by copying the table. With foreign keys on, dropping
the old one would count every property and tag as a violation, so these are set aside first and put back after, all in
the one transaction of the upgrade.
"""

from typing import Any

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None

_MYSQL_OPTIONS: dict[str, Any] = {"mysql_engine": "InnoDB", "mysql_charset": "utf8mb4", "mysql_collate": "utf8mb4_bin"}
_NULLABLE = {"name": 255, "disk_format": 20, "container_format": 20}
_OLD_COLUMNS = (
    "id, name, status, content_id, staged_content_id, session_id, parent_id, disk_format, container_format, owner, "
    "visibility, protected, min_disk, min_ram, created_at, updated_at, deleted_at, revision"
)
_INDEXED = ("content_id", "name", "parent_id", "session_id", "staged_content_id")
_CHILDREN = ("image_properties", "image_tags")


def upgrade() -> None:
    if op.get_bind().dialect.name == "sqlite":
        _copy_images(nullable=True)
    else:
        for name, length in _NULLABLE.items():
            op.alter_column("images", name, existing_type=sa.String(length=length), nullable=True)
    op.add_column("images", sa.Column("hidden", sa.Boolean(name="hidden"), server_default=sa.false(), nullable=False))
    op.add_column("images", sa.Column("virtual_size", sa.BigInteger(), nullable=True))
    op.add_column(
        "images", sa.Column("registered", sa.Boolean(name="registered"), server_default=sa.false(), nullable=False)
    )
    op.create_index(op.f("ix_images_created_at_id"), "images", ["created_at", "id"], unique=False)
    op.create_index(op.f("ix_images_owner"), "images", ["owner"], unique=False)
    op.create_table(
        "image_members",
        sa.Column("image_id", sa.String(length=36), nullable=False),
        sa.Column("member", sa.String(length=255), nullable=False),
        sa.Column("status", sa.String(length=20), nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.Column("updated_at", sa.BigInteger(), nullable=False),
        sa.CheckConstraint("status IN ('pending', 'accepted', 'rejected')", name=op.f("ck_image_members_status")),
        sa.ForeignKeyConstraint(["image_id"], ["images.id"], name=op.f("fk_image_members_image_id")),
        sa.PrimaryKeyConstraint("image_id", "member", name=op.f("pk_image_members")),
        **_MYSQL_OPTIONS,
    )
    op.create_index(op.f("ix_image_members_member"), "image_members", ["member"], unique=False)


def downgrade() -> None:
    op.drop_table("image_members")
    op.drop_index(op.f("ix_images_owner"), table_name="images")
    op.drop_index(op.f("ix_images_created_at_id"), table_name="images")
    for column in ("registered", "virtual_size", "hidden"):
        op.drop_column("images", column)
    for name in _NULLABLE:
        op.execute(f"UPDATE images SET {name} = '' WHERE {name} IS NULL")
    if op.get_bind().dialect.name == "sqlite":
        _copy_images(nullable=False)
        return
    for name, length in _NULLABLE.items():
        op.alter_column("images", name, existing_type=sa.String(length=length), nullable=False)


def _copy_images(*, nullable: bool) -> None:
    """SQLite: make `images` anew with the three columns nullable or not, all rows and what refers to them kept."""
    for child in _CHILDREN:
        op.execute(f"CREATE TEMPORARY TABLE {child}_aside AS SELECT * FROM {child}")
        op.execute(f"DELETE FROM {child}")
    op.create_table(
        "images_anew",
        sa.Column("id", sa.String(length=36), nullable=False),
        sa.Column("name", sa.String(length=255), nullable=nullable),
        sa.Column("status", sa.String(length=16), nullable=False),
        sa.Column("content_id", sa.String(length=32), nullable=True),
        sa.Column("staged_content_id", sa.String(length=32), nullable=True),
        sa.Column("session_id", sa.String(length=32), nullable=True),
        sa.Column("parent_id", sa.String(length=36), nullable=True),
        sa.Column("disk_format", sa.String(length=20), nullable=nullable),
        sa.Column("container_format", sa.String(length=20), nullable=nullable),
        sa.Column("owner", sa.String(length=255), nullable=True),
        sa.Column("visibility", sa.String(length=16), nullable=False),
        sa.Column("protected", sa.Boolean(name="protected"), nullable=False),
        sa.Column("min_disk", sa.BigInteger(), nullable=False),
        sa.Column("min_ram", sa.BigInteger(), nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.Column("updated_at", sa.BigInteger(), nullable=False),
        sa.Column("deleted_at", sa.BigInteger(), nullable=True),
        sa.Column("revision", sa.BigInteger(), server_default="0", nullable=False),
        sa.CheckConstraint(
            "status IN ('queued', 'saving', 'active', 'deleted', "
            "'uploading', 'importing', 'deactivated', 'killed', 'pending_delete')",
            name=op.f("ck_images_status"),
        ),
        sa.ForeignKeyConstraint(["content_id"], ["contents.content_id"], name=op.f("fk_images_content_id")),
        sa.ForeignKeyConstraint(["session_id"], ["sessions.session_id"], name=op.f("fk_images_session_id")),
        sa.ForeignKeyConstraint(
            ["staged_content_id"], ["contents.content_id"], name=op.f("fk_images_staged_content_id")
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_images")),
    )
    op.execute(f"INSERT INTO images_anew ({_OLD_COLUMNS}) SELECT {_OLD_COLUMNS} FROM images")
    op.drop_table("images")
    op.rename_table("images_anew", "images")
    for column in _INDEXED:
        op.create_index(op.f(f"ix_images_{column}"), "images", [column], unique=False)
    for child in _CHILDREN:
        op.execute(f"INSERT INTO {child} SELECT * FROM {child}_aside")
        op.execute(f"DROP TABLE {child}_aside")
