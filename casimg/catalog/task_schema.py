"""The table of tasks: what a service does in the background, and what became of it."""

from sqlalchemy import BigInteger, CheckConstraint, Column, String, Table

from casimg.catalog.long_text import LONG_TEXT
from casimg.catalog.schema import metadata

tasks = Table(
    "tasks",
    metadata,
    Column("task_id", String(36), primary_key=True),
    Column("type", String(32), nullable=False),
    CheckConstraint("type IN ('import', 'api_image_import', 'location_import')", name="type"),
    Column("status", String(16), nullable=False),
    CheckConstraint("status IN ('pending', 'processing', 'success', 'failure')", name="status"),
    Column("owner", String(255), index=True),
    Column("user_id", String(255)),
    Column("request_id", String(255)),
    # No foreign key: what was done with an image outlives its row.
    Column("image_id", String(36), index=True),
    Column("input", LONG_TEXT, nullable=False),
    Column("result", LONG_TEXT),
    Column("message", LONG_TEXT, nullable=False),
    # Who works at it, as in sessions: a task whose process is gone never ends by itself.
    Column("node", String(128), nullable=False),
    Column("pid", BigInteger, nullable=False),
    Column("pid_start", BigInteger, nullable=False),
    Column("created_at", BigInteger, nullable=False, index=True),
    Column("updated_at", BigInteger, nullable=False),
    # Set when it has ended.
    Column("expires_at", BigInteger, index=True),
)
