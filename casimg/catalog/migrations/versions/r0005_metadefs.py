"""Metadata definitions: namespaces with their objects, properties, tags and resource types."""

from typing import Any

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import mysql

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None

_MYSQL_OPTIONS: dict[str, Any] = {"mysql_engine": "InnoDB", "mysql_charset": "utf8mb4", "mysql_collate": "utf8mb4_bin"}
# A TEXT of MariaDB ends at 64 KiB, which a long list of definitions passes.
_LONG = sa.Text().with_variant(mysql.MEDIUMTEXT(), "mysql", "mariadb")


def _number() -> sa.types.TypeEngine[int]:
    return sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def _times() -> tuple[sa.Column[int], sa.Column[int]]:
    return (
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.Column("updated_at", sa.BigInteger(), nullable=False),
    )


def _table_of_namespace(name: str, key: str, *columns: sa.Column[Any]) -> None:
    """Make a table whose rows belong to a namespace and have a name there."""
    op.create_table(
        name,
        sa.Column(key, _number(), autoincrement=True, nullable=False),
        sa.Column("namespace_id", _number(), nullable=False),
        sa.Column("name", sa.String(length=80), nullable=False),
        *columns,
        *_times(),
        sa.ForeignKeyConstraint(
            ["namespace_id"], ["metadef_namespaces.namespace_id"], name=op.f(f"fk_{name}_namespace_id")
        ),
        sa.PrimaryKeyConstraint(key, name=op.f(f"pk_{name}")),
        sa.UniqueConstraint("namespace_id", "name", name=op.f(f"uq_{name}_namespace_id_name")),
        sqlite_autoincrement=True,
        **_MYSQL_OPTIONS,
    )


def upgrade() -> None:
    op.create_table(
        "metadef_namespaces",
        sa.Column("namespace_id", _number(), autoincrement=True, nullable=False),
        sa.Column("name", sa.String(length=80), nullable=False),
        sa.Column("display_name", sa.String(length=80), nullable=True),
        sa.Column("description", _LONG, nullable=True),
        sa.Column("visibility", sa.String(length=16), nullable=False),
        sa.Column("protected", sa.Boolean(name="protected"), nullable=False),
        sa.Column("owner", sa.String(length=255), nullable=True),
        *_times(),
        sa.CheckConstraint("visibility IN ('public', 'private')", name=op.f("ck_metadef_namespaces_visibility")),
        sa.PrimaryKeyConstraint("namespace_id", name=op.f("pk_metadef_namespaces")),
        sa.UniqueConstraint("name", name=op.f("uq_metadef_namespaces_name")),
        sqlite_autoincrement=True,
        **_MYSQL_OPTIONS,
    )
    op.create_index(op.f("ix_metadef_namespaces_owner"), "metadef_namespaces", ["owner"], unique=False)
    _table_of_namespace(
        "metadef_objects",
        "object_id",
        sa.Column("description", _LONG, nullable=True),
        sa.Column("required", _LONG, nullable=False),
        sa.Column("properties", _LONG, nullable=False),
    )
    _table_of_namespace("metadef_properties", "property_id", sa.Column("definition", _LONG, nullable=False))
    _table_of_namespace("metadef_tags", "tag_id")
    op.create_table(
        "metadef_resource_types",
        sa.Column("resource_type_id", _number(), autoincrement=True, nullable=False),
        sa.Column("name", sa.String(length=80), nullable=False),
        *_times(),
        sa.PrimaryKeyConstraint("resource_type_id", name=op.f("pk_metadef_resource_types")),
        sa.UniqueConstraint("name", name=op.f("uq_metadef_resource_types_name")),
        sqlite_autoincrement=True,
        **_MYSQL_OPTIONS,
    )
    op.create_table(
        "metadef_associations",
        sa.Column("namespace_id", _number(), autoincrement=False, nullable=False),
        sa.Column("resource_type_id", _number(), autoincrement=False, nullable=False),
        sa.Column("prefix", sa.String(length=80), nullable=True),
        sa.Column("properties_target", sa.String(length=80), nullable=True),
        *_times(),
        sa.ForeignKeyConstraint(
            ["namespace_id"], ["metadef_namespaces.namespace_id"], name=op.f("fk_metadef_associations_namespace_id")
        ),
        sa.ForeignKeyConstraint(
            ["resource_type_id"],
            ["metadef_resource_types.resource_type_id"],
            name=op.f("fk_metadef_associations_resource_type_id"),
        ),
        sa.PrimaryKeyConstraint("namespace_id", "resource_type_id", name=op.f("pk_metadef_associations")),
        **_MYSQL_OPTIONS,
    )
    op.create_index(
        op.f("ix_metadef_associations_resource_type_id"), "metadef_associations", ["resource_type_id"], unique=False
    )


def downgrade() -> None:
    # an index goes with its table; MariaDB lets none go before that a foreign key needs
    for part in ("associations", "resource_types", "tags", "properties", "objects", "namespaces"):
        op.drop_table(f"metadef_{part}")
