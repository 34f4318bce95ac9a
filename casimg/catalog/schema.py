"""The tables of the catalog, for every rule of docs/protocol.md; some rules come into use later than their columns.

Ids of packs and roots are raw 32 bytes: half the size of hex in `packs`, which has 16,384 rows per TiB. Times are
UTC microseconds since 1970 as 64-bit integers: three databases, three ideas of fractional seconds otherwise.
Text is compared byte for byte: names and properties that differ in case only are different, on MariaDB too. What makes
it so there (`mysql_collate`, `mysql_engine`) stands in the migrations alone, which make every table: an option of a
dialect loads the dialect, and each command pays for it.
"""

from sqlalchemy import (
    BINARY,
    BigInteger,
    Boolean,
    CheckConstraint,
    Column,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    SmallInteger,
    String,
    Table,
    Text,
    UniqueConstraint,
    false,
)
from sqlalchemy.types import TypeEngine

metadata = MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "ck": "ck_%(table_name)s_%(constraint_name)s",
        "fk": "fk_%(table_name)s_%(column_0_N_name)s",
        "pk": "pk_%(table_name)s",
    }
)

# SQLite gives AUTOINCREMENT, which never reuses a number, to INTEGER keys only.
_AUTO: TypeEngine[int] = BigInteger().with_variant(Integer, "sqlite")
# MariaDB cannot index a BLOB whole, which LargeBinary is there.
_ID32 = LargeBinary(32).with_variant(BINARY(32), "mysql", "mariadb")

SESSION_KINDS = ("ingest", "snapshot", "repack", "repair", "gc")
IMAGE_STATUSES = (
    *("queued", "saving", "active", "deleted"),
    # Glance's others, most not written now: a CHECK is the one thing SQLite cannot change without copying the table.
    *("uploading", "importing", "deactivated", "killed", "pending_delete"),
)

STORED_STATUSES = ("active", "deactivated")
"""Of images that have a content and a record."""

CLAIMED_STATUSES = ("saving", "uploading", "importing")
"""Of images that a session works at, which they name; `uploading` without one has its data kept aside."""

MEMBER_STATUSES = ("pending", "accepted", "rejected")


def _one_of(column: str, *values: str) -> CheckConstraint:
    listed = ", ".join(f"'{value}'" for value in values)
    return CheckConstraint(f"{column} IN ({listed})", name=column)


repo = Table(
    "repo",
    metadata,
    Column("one", SmallInteger, primary_key=True, autoincrement=False),
    CheckConstraint("one = 1", name="one"),
    Column("repository_uuid", String(36), nullable=False),
    Column("incarnation", String(36), nullable=False),
    Column("epoch", BigInteger, nullable=False),
    Column("change_no", BigInteger, nullable=False),
    Column("collection_enabled", Boolean(name="collection_enabled"), nullable=False),
)

sessions = Table(
    "sessions",
    metadata,
    Column("session_id", String(32), primary_key=True),
    Column("kind", String(16), nullable=False),
    _one_of("kind", *SESSION_KINDS),
    Column("node", String(128), nullable=False),
    Column("pid", BigInteger, nullable=False),
    Column("pid_start", BigInteger, nullable=False),
    Column("state", String(8), nullable=False, index=True),
    _one_of("state", "open", "closed", "fenced"),
    Column("epoch", BigInteger, nullable=False),
    Column("beats", BigInteger, nullable=False),
    Column("heartbeat", BigInteger, nullable=False),
    Column("opened_at", BigInteger, nullable=False),
)

backends = Table(
    "backends",
    metadata,
    Column("backend_id", Integer, primary_key=True, autoincrement=True),
    Column("name", String(64), nullable=False, unique=True),
    Column("kind", String(16), nullable=False),
    sqlite_autoincrement=True,
)

packs = Table(
    "packs",
    metadata,
    Column("pack_no", _AUTO, primary_key=True, autoincrement=True),
    Column("backend_id", Integer, ForeignKey("backends.backend_id"), nullable=False),
    Column("pack_id", _ID32, nullable=False),
    Column("kind", SmallInteger, nullable=False),
    Column("domain", BigInteger, nullable=False),
    Column("size", BigInteger, nullable=False),
    Column("trailer_offset", BigInteger, nullable=False),
    Column("plain_size", BigInteger, nullable=False),
    Column("chunk_count", BigInteger, nullable=False),
    Column("state", String(10), nullable=False, index=True),
    _one_of("state", "live", "condemned", "deleting", "deleted"),
    Column("session_id", String(32), ForeignKey("sessions.session_id"), nullable=False, index=True),
    Column("condemned_epoch", BigInteger),
    Column("condemned_at", BigInteger),
    Column("change_no", BigInteger, nullable=False, index=True),
    Column("created_at", BigInteger, nullable=False),
    Column("verified_at", BigInteger),
    # Plain bytes that some content reaches, as last looked at; NULL when a content that named the pack went since.
    Column("live_plain_size", BigInteger),
    # Counts the contents that went: a look that began before one of them must not be recorded.
    Column("loss_no", BigInteger, server_default="0", nullable=False),
    # Set by a check that found the object missing or damaged: writers rely on it no more.
    Column("damaged_at", BigInteger),
    UniqueConstraint("backend_id", "pack_id"),
    sqlite_autoincrement=True,
)

contents = Table(
    "contents",
    metadata,
    Column("content_id", String(32), primary_key=True),
    Column("state", String(10), nullable=False),
    _one_of("state", "pending", "complete"),
    Column("session_id", String(32), ForeignKey("sessions.session_id"), nullable=False, index=True),
    Column("size", BigInteger),
    Column("hole_size", BigInteger, nullable=False),
    Column("created_at", BigInteger, nullable=False),
    # When its chunks were last looked at for how scattered they lie; NULL is never.
    Column("settled_at", BigInteger),
    # Where its packs lie.
    Column("backend_id", Integer),
)

content_trees = Table(
    "content_trees",
    metadata,
    Column("content_id", String(32), ForeignKey("contents.content_id"), primary_key=True),
    Column("role", String(8), primary_key=True),
    _one_of("role", "plain", "disk", "recipe"),
    Column("root", _ID32),
    Column("size", BigInteger, nullable=False),
)

content_packs = Table(
    "content_packs",
    metadata,
    Column("content_id", String(32), ForeignKey("contents.content_id"), primary_key=True),
    Column("pack_no", _AUTO, ForeignKey("packs.pack_no"), primary_key=True, autoincrement=False),
    Index(None, "pack_no"),
)

content_hashes = Table(
    "content_hashes",
    metadata,
    Column("content_id", String(32), ForeignKey("contents.content_id"), primary_key=True),
    Column("algo", String(16), primary_key=True),
    Column("value", String(128), nullable=False),
)

images = Table(
    "images",
    metadata,
    Column("id", String(36), primary_key=True),
    # Of an image made before its data, name and formats may be unknown.
    Column("name", String(255), index=True),
    Column("status", String(16), nullable=False),
    _one_of("status", *IMAGE_STATUSES),
    Column("content_id", String(32), ForeignKey("contents.content_id"), index=True),
    Column("staged_content_id", String(32), ForeignKey("contents.content_id"), index=True),
    Column("session_id", String(32), ForeignKey("sessions.session_id"), index=True),
    # No foreign key: a deleted parent is shown as gone, and its row may be purged one day.
    Column("parent_id", String(36), index=True),
    Column("disk_format", String(20)),
    Column("container_format", String(20)),
    Column("owner", String(255), index=True),
    Column("visibility", String(16), nullable=False),
    Column("protected", Boolean(name="protected"), nullable=False),
    Column("min_disk", BigInteger, nullable=False),
    Column("min_ram", BigInteger, nullable=False),
    Column("created_at", BigInteger, nullable=False),
    Column("updated_at", BigInteger, nullable=False),
    Column("deleted_at", BigInteger),
    # Counts changes of metadata; the record with the greatest one is the image's newest.
    Column("revision", BigInteger, server_default="0", nullable=False),
    Column("hidden", Boolean(name="hidden"), server_default=false(), nullable=False),
    # Bytes of the disk in a container such as qcow2, when something looked into it.
    Column("virtual_size", BigInteger),
    # Made before its data: a save that fails leaves it queued, where others end deleted.
    Column("registered", Boolean(name="registered"), server_default=false(), nullable=False),
    # Rows in image_locations, so that images without any are not looked for there.
    Column("location_count", Integer, server_default="0", nullable=False),
    # Of data that lie elsewhere alone; an algorithm without a value says that the hash is still to be computed.
    Column("located_size", BigInteger),
    Column("located_hash_algo", String(64)),
    Column("located_hash_value", String(128)),
    Column("located_checksum", String(32)),
    # Lists are walked in this order unless asked otherwise.
    Index(None, "created_at", "id"),
)

image_properties = Table(
    "image_properties",
    metadata,
    Column("image_id", String(36), ForeignKey("images.id"), primary_key=True),
    Column("name", String(255), primary_key=True),
    Column("value", Text, nullable=False),
)

image_tags = Table(
    "image_tags",
    metadata,
    Column("image_id", String(36), ForeignKey("images.id"), primary_key=True),
    Column("tag", String(255), primary_key=True),
)

image_members = Table(
    "image_members",
    metadata,
    Column("image_id", String(36), ForeignKey("images.id"), primary_key=True),
    Column("member", String(255), primary_key=True, index=True),
    Column("status", String(20), nullable=False),
    _one_of("status", *MEMBER_STATUSES),
    Column("created_at", BigInteger, nullable=False),
    Column("updated_at", BigInteger, nullable=False),
)

image_copies = Table(
    "image_copies",
    metadata,
    # A further content of an image, with the same bytes as images.content_id, on another backend.
    Column("image_id", String(36), ForeignKey("images.id"), primary_key=True),
    Column("backend_id", Integer, ForeignKey("backends.backend_id"), primary_key=True, autoincrement=False),
    Column("content_id", String(32), ForeignKey("contents.content_id"), nullable=False, index=True),
    # Of its record on that backend.
    Column("session_id", String(32), ForeignKey("sessions.session_id"), nullable=False, index=True),
    Column("created_at", BigInteger, nullable=False),
)

# Where an image's data lie that the repository does not keep; read in the order of their positions.
image_locations = Table(
    "image_locations",
    metadata,
    Column("image_id", String(36), ForeignKey("images.id"), primary_key=True),
    Column("position", Integer, primary_key=True, autoincrement=False),
    Column("url", Text, nullable=False),
    Column("metadata", Text, nullable=False),
)

leases = Table(
    "leases",
    metadata,
    Column("lease_id", String(32), primary_key=True),
    Column("content_id", String(32), nullable=False, index=True),
    Column("node", String(128), nullable=False),
    Column("pid", BigInteger, nullable=False),
    Column("pid_start", BigInteger, server_default="0", nullable=False),
    Column("expires_at", BigInteger, nullable=False),
)

outbox = Table(
    "outbox",
    metadata,
    Column("seq", _AUTO, primary_key=True, autoincrement=True),
    Column("image_id", String(36), nullable=False),
    Column("created_at", BigInteger, nullable=False),
    sqlite_autoincrement=True,
)

orphans = Table(
    "orphans",
    metadata,
    Column("backend_id", Integer, primary_key=True, autoincrement=False),
    # "pack", "record" or "partial", a space, and the key: found without a row at the epoch.
    Column("name", String(255), primary_key=True),
    Column("epoch", BigInteger, nullable=False),
)
