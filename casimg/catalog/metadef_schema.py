"""The tables of metadata definitions. Apart from those of images: no put or get declares them.

Names are compared byte for byte, as everywhere in the catalog. Definitions are JSON text with ASCII only.
"""

from sqlalchemy import (
    BigInteger,
    Boolean,
    CheckConstraint,
    Column,
    ForeignKey,
    Index,
    Integer,
    String,
    Table,
    UniqueConstraint,
)
from sqlalchemy.types import TypeEngine

from casimg.catalog.long_text import LONG_TEXT
from casimg.catalog.schema import metadata

_AUTO: TypeEngine[int] = BigInteger().with_variant(Integer, "sqlite")

namespaces = Table(
    "metadef_namespaces",
    metadata,
    Column("namespace_id", _AUTO, primary_key=True, autoincrement=True),
    Column("name", String(80), nullable=False, unique=True),
    Column("display_name", String(80)),
    Column("description", LONG_TEXT),
    Column("visibility", String(16), nullable=False),
    CheckConstraint("visibility IN ('public', 'private')", name="visibility"),
    Column("protected", Boolean(name="protected"), nullable=False),
    Column("owner", String(255), index=True),
    Column("created_at", BigInteger, nullable=False),
    Column("updated_at", BigInteger, nullable=False),
    sqlite_autoincrement=True,
)


def _of_namespace() -> "Column[int]":
    return Column("namespace_id", _AUTO, ForeignKey("metadef_namespaces.namespace_id"), nullable=False)


objects = Table(
    "metadef_objects",
    metadata,
    Column("object_id", _AUTO, primary_key=True, autoincrement=True),
    _of_namespace(),
    Column("name", String(80), nullable=False),
    Column("description", LONG_TEXT),
    Column("required", LONG_TEXT, nullable=False),
    Column("properties", LONG_TEXT, nullable=False),
    Column("created_at", BigInteger, nullable=False),
    Column("updated_at", BigInteger, nullable=False),
    UniqueConstraint("namespace_id", "name"),
    sqlite_autoincrement=True,
)

properties = Table(
    "metadef_properties",
    metadata,
    Column("property_id", _AUTO, primary_key=True, autoincrement=True),
    _of_namespace(),
    Column("name", String(80), nullable=False),
    Column("definition", LONG_TEXT, nullable=False),
    Column("created_at", BigInteger, nullable=False),
    Column("updated_at", BigInteger, nullable=False),
    UniqueConstraint("namespace_id", "name"),
    sqlite_autoincrement=True,
)

tags = Table(
    "metadef_tags",
    metadata,
    Column("tag_id", _AUTO, primary_key=True, autoincrement=True),
    _of_namespace(),
    Column("name", String(80), nullable=False),
    Column("created_at", BigInteger, nullable=False),
    Column("updated_at", BigInteger, nullable=False),
    UniqueConstraint("namespace_id", "name"),
    sqlite_autoincrement=True,
)

resource_types = Table(
    "metadef_resource_types",
    metadata,
    Column("resource_type_id", _AUTO, primary_key=True, autoincrement=True),
    Column("name", String(80), nullable=False, unique=True),
    Column("created_at", BigInteger, nullable=False),
    Column("updated_at", BigInteger, nullable=False),
    sqlite_autoincrement=True,
)

associations = Table(
    "metadef_associations",
    metadata,
    Column("namespace_id", _AUTO, ForeignKey("metadef_namespaces.namespace_id"), primary_key=True, autoincrement=False),
    Column(
        "resource_type_id",
        _AUTO,
        ForeignKey("metadef_resource_types.resource_type_id"),
        primary_key=True,
        autoincrement=False,
    ),
    Column("prefix", String(80)),
    Column("properties_target", String(80)),
    Column("created_at", BigInteger, nullable=False),
    Column("updated_at", BigInteger, nullable=False),
    Index(None, "resource_type_id"),
)
