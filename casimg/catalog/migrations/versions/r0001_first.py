"""First schema: the tables of docs/protocol.md."""

from typing import Any

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import mysql

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

_ID32 = sa.LargeBinary(length=32).with_variant(mysql.BINARY(length=32), "mysql", "mariadb")
_MYSQL_OPTIONS: dict[str, Any] = {"mysql_engine": "InnoDB", "mysql_charset": "utf8mb4", "mysql_collate": "utf8mb4_bin"}


def upgrade() -> None:
    op.create_table(
        "backends",
        sa.Column("backend_id", sa.Integer(), autoincrement=True, nullable=False),
        sa.Column("name", sa.String(length=64), nullable=False),
        sa.Column("kind", sa.String(length=16), nullable=False),
        sa.PrimaryKeyConstraint("backend_id", name=op.f("pk_backends")),
        sa.UniqueConstraint("name", name=op.f("uq_backends_name")),
        sqlite_autoincrement=True,
        **_MYSQL_OPTIONS,
    )
    op.create_table(
        "leases",
        sa.Column("lease_id", sa.String(length=32), nullable=False),
        sa.Column("content_id", sa.String(length=32), nullable=False),
        sa.Column("node", sa.String(length=128), nullable=False),
        sa.Column("pid", sa.BigInteger(), nullable=False),
        sa.Column("expires_at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("lease_id", name=op.f("pk_leases")),
        **_MYSQL_OPTIONS,
    )
    op.create_index(op.f("ix_leases_content_id"), "leases", ["content_id"], unique=False)
    op.create_table(
        "outbox",
        sa.Column("seq", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), autoincrement=True, nullable=False),
        sa.Column("image_id", sa.String(length=36), nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("seq", name=op.f("pk_outbox")),
        sqlite_autoincrement=True,
        **_MYSQL_OPTIONS,
    )
    op.create_table(
        "repo",
        sa.Column("one", sa.SmallInteger(), autoincrement=False, nullable=False),
        sa.Column("repository_uuid", sa.String(length=36), nullable=False),
        sa.Column("incarnation", sa.String(length=36), nullable=False),
        sa.Column("epoch", sa.BigInteger(), nullable=False),
        sa.Column("change_no", sa.BigInteger(), nullable=False),
        sa.Column("collection_enabled", sa.Boolean(name="collection_enabled"), nullable=False),
        sa.CheckConstraint("one = 1", name=op.f("ck_repo_one")),
        sa.PrimaryKeyConstraint("one", name=op.f("pk_repo")),
        **_MYSQL_OPTIONS,
    )
    op.create_table(
        "sessions",
        sa.Column("session_id", sa.String(length=32), nullable=False),
        sa.Column("kind", sa.String(length=16), nullable=False),
        sa.Column("node", sa.String(length=128), nullable=False),
        sa.Column("pid", sa.BigInteger(), nullable=False),
        sa.Column("pid_start", sa.BigInteger(), nullable=False),
        sa.Column("state", sa.String(length=8), nullable=False),
        sa.Column("epoch", sa.BigInteger(), nullable=False),
        sa.Column("beats", sa.BigInteger(), nullable=False),
        sa.Column("heartbeat", sa.BigInteger(), nullable=False),
        sa.Column("opened_at", sa.BigInteger(), nullable=False),
        sa.CheckConstraint("kind IN ('ingest', 'snapshot', 'repack', 'repair', 'gc')", name=op.f("ck_sessions_kind")),
        sa.CheckConstraint("state IN ('open', 'closed', 'fenced')", name=op.f("ck_sessions_state")),
        sa.PrimaryKeyConstraint("session_id", name=op.f("pk_sessions")),
        **_MYSQL_OPTIONS,
    )
    op.create_index(op.f("ix_sessions_state"), "sessions", ["state"], unique=False)
    op.create_table(
        "contents",
        sa.Column("content_id", sa.String(length=32), nullable=False),
        sa.Column("state", sa.String(length=10), nullable=False),
        sa.Column("session_id", sa.String(length=32), nullable=False),
        sa.Column("size", sa.BigInteger(), nullable=True),
        sa.Column("hole_size", sa.BigInteger(), nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.CheckConstraint("state IN ('pending', 'complete')", name=op.f("ck_contents_state")),
        sa.ForeignKeyConstraint(["session_id"], ["sessions.session_id"], name=op.f("fk_contents_session_id")),
        sa.PrimaryKeyConstraint("content_id", name=op.f("pk_contents")),
        **_MYSQL_OPTIONS,
    )
    op.create_index(op.f("ix_contents_session_id"), "contents", ["session_id"], unique=False)
    op.create_table(
        "packs",
        sa.Column("pack_no", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), autoincrement=True, nullable=False),
        sa.Column("backend_id", sa.Integer(), nullable=False),
        sa.Column("pack_id", _ID32, nullable=False),
        sa.Column("kind", sa.SmallInteger(), nullable=False),
        sa.Column("domain", sa.BigInteger(), nullable=False),
        sa.Column("size", sa.BigInteger(), nullable=False),
        sa.Column("trailer_offset", sa.BigInteger(), nullable=False),
        sa.Column("plain_size", sa.BigInteger(), nullable=False),
        sa.Column("chunk_count", sa.BigInteger(), nullable=False),
        sa.Column("state", sa.String(length=10), nullable=False),
        sa.Column("session_id", sa.String(length=32), nullable=False),
        sa.Column("condemned_epoch", sa.BigInteger(), nullable=True),
        sa.Column("condemned_at", sa.BigInteger(), nullable=True),
        sa.Column("change_no", sa.BigInteger(), nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.Column("verified_at", sa.BigInteger(), nullable=True),
        sa.CheckConstraint("state IN ('live', 'condemned', 'deleting', 'deleted')", name=op.f("ck_packs_state")),
        sa.ForeignKeyConstraint(["backend_id"], ["backends.backend_id"], name=op.f("fk_packs_backend_id")),
        sa.ForeignKeyConstraint(["session_id"], ["sessions.session_id"], name=op.f("fk_packs_session_id")),
        sa.PrimaryKeyConstraint("pack_no", name=op.f("pk_packs")),
        sa.UniqueConstraint("backend_id", "pack_id", name=op.f("uq_packs_backend_id_pack_id")),
        sqlite_autoincrement=True,
        **_MYSQL_OPTIONS,
    )
    op.create_index(op.f("ix_packs_change_no"), "packs", ["change_no"], unique=False)
    op.create_index(op.f("ix_packs_session_id"), "packs", ["session_id"], unique=False)
    op.create_index(op.f("ix_packs_state"), "packs", ["state"], unique=False)
    op.create_table(
        "content_hashes",
        sa.Column("content_id", sa.String(length=32), nullable=False),
        sa.Column("algo", sa.String(length=16), nullable=False),
        sa.Column("value", sa.String(length=128), nullable=False),
        sa.ForeignKeyConstraint(["content_id"], ["contents.content_id"], name=op.f("fk_content_hashes_content_id")),
        sa.PrimaryKeyConstraint("content_id", "algo", name=op.f("pk_content_hashes")),
        **_MYSQL_OPTIONS,
    )
    op.create_table(
        "content_packs",
        sa.Column("content_id", sa.String(length=32), nullable=False),
        sa.Column("pack_no", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), autoincrement=False, nullable=False),
        sa.ForeignKeyConstraint(["content_id"], ["contents.content_id"], name=op.f("fk_content_packs_content_id")),
        sa.ForeignKeyConstraint(["pack_no"], ["packs.pack_no"], name=op.f("fk_content_packs_pack_no")),
        sa.PrimaryKeyConstraint("content_id", "pack_no", name=op.f("pk_content_packs")),
        **_MYSQL_OPTIONS,
    )
    op.create_index(op.f("ix_content_packs_pack_no"), "content_packs", ["pack_no"], unique=False)
    op.create_table(
        "content_trees",
        sa.Column("content_id", sa.String(length=32), nullable=False),
        sa.Column("role", sa.String(length=8), nullable=False),
        sa.Column("root", _ID32, nullable=True),
        sa.Column("size", sa.BigInteger(), nullable=False),
        sa.CheckConstraint("role IN ('plain', 'disk', 'recipe')", name=op.f("ck_content_trees_role")),
        sa.ForeignKeyConstraint(["content_id"], ["contents.content_id"], name=op.f("fk_content_trees_content_id")),
        sa.PrimaryKeyConstraint("content_id", "role", name=op.f("pk_content_trees")),
        **_MYSQL_OPTIONS,
    )
    op.create_table(
        "images",
        sa.Column("id", sa.String(length=36), nullable=False),
        sa.Column("name", sa.String(length=255), nullable=False),
        sa.Column("status", sa.String(length=16), nullable=False),
        sa.Column("content_id", sa.String(length=32), nullable=True),
        sa.Column("staged_content_id", sa.String(length=32), nullable=True),
        sa.Column("session_id", sa.String(length=32), nullable=True),
        sa.Column("parent_id", sa.String(length=36), nullable=True),
        sa.Column("disk_format", sa.String(length=20), nullable=False),
        sa.Column("container_format", sa.String(length=20), nullable=False),
        sa.Column("owner", sa.String(length=255), nullable=True),
        sa.Column("visibility", sa.String(length=16), nullable=False),
        sa.Column("protected", sa.Boolean(name="protected"), nullable=False),
        sa.Column("min_disk", sa.BigInteger(), nullable=False),
        sa.Column("min_ram", sa.BigInteger(), nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.Column("updated_at", sa.BigInteger(), nullable=False),
        sa.Column("deleted_at", sa.BigInteger(), nullable=True),
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
        **_MYSQL_OPTIONS,
    )
    op.create_index(op.f("ix_images_content_id"), "images", ["content_id"], unique=False)
    op.create_index(op.f("ix_images_name"), "images", ["name"], unique=False)
    op.create_index(op.f("ix_images_parent_id"), "images", ["parent_id"], unique=False)
    op.create_index(op.f("ix_images_session_id"), "images", ["session_id"], unique=False)
    op.create_index(op.f("ix_images_staged_content_id"), "images", ["staged_content_id"], unique=False)
    op.create_table(
        "image_properties",
        sa.Column("image_id", sa.String(length=36), nullable=False),
        sa.Column("name", sa.String(length=255), nullable=False),
        sa.Column("value", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(["image_id"], ["images.id"], name=op.f("fk_image_properties_image_id")),
        sa.PrimaryKeyConstraint("image_id", "name", name=op.f("pk_image_properties")),
        **_MYSQL_OPTIONS,
    )
    op.create_table(
        "image_tags",
        sa.Column("image_id", sa.String(length=36), nullable=False),
        sa.Column("tag", sa.String(length=255), nullable=False),
        sa.ForeignKeyConstraint(["image_id"], ["images.id"], name=op.f("fk_image_tags_image_id")),
        sa.PrimaryKeyConstraint("image_id", "tag", name=op.f("pk_image_tags")),
        **_MYSQL_OPTIONS,
    )


def downgrade() -> None:
    op.drop_table("image_tags")
    op.drop_table("image_properties")
    op.drop_index(op.f("ix_images_staged_content_id"), table_name="images")
    op.drop_index(op.f("ix_images_session_id"), table_name="images")
    op.drop_index(op.f("ix_images_parent_id"), table_name="images")
    op.drop_index(op.f("ix_images_name"), table_name="images")
    op.drop_index(op.f("ix_images_content_id"), table_name="images")
    op.drop_table("images")
    op.drop_table("content_trees")
    op.drop_index(op.f("ix_content_packs_pack_no"), table_name="content_packs")
    op.drop_table("content_packs")
    op.drop_table("content_hashes")
    op.drop_index(op.f("ix_packs_state"), table_name="packs")
    op.drop_index(op.f("ix_packs_session_id"), table_name="packs")
    op.drop_index(op.f("ix_packs_change_no"), table_name="packs")
    op.drop_table("packs")
    op.drop_index(op.f("ix_contents_session_id"), table_name="contents")
    op.drop_table("contents")
    op.drop_index(op.f("ix_sessions_state"), table_name="sessions")
    op.drop_table("sessions")
    op.drop_table("repo")
    op.drop_table("outbox")
    op.drop_index(op.f("ix_leases_content_id"), table_name="leases")
    op.drop_table("leases")
    op.drop_table("backends")
