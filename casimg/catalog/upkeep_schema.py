"""The table of upkeep: which server did what was due, and when."""

from sqlalchemy import BigInteger, Column, String, Table

from casimg.catalog.long_text import LONG_TEXT
from casimg.catalog.schema import metadata

upkeep = Table(
    "upkeep",
    metadata,
    Column("name", String(32), primary_key=True),
    # Who works at it or last did, as in sessions.
    Column("node", String(128), nullable=False),
    Column("pid", BigInteger, nullable=False),
    Column("pid_start", BigInteger, nullable=False),
    Column("begun_at", BigInteger, nullable=False),
    # NULL while it is worked at.
    Column("ended_at", BigInteger),
    # A JSON object, or why it failed.
    Column("outcome", LONG_TEXT),
)
