"""The table of what is done for a repository by itself, now and then: whose turn it is, and what the last one did."""

from sqlalchemy import BigInteger, Column, String, Table

from casimg.catalog.long_text import LONG_TEXT
from casimg.catalog.schema import metadata

upkeep = Table(
    "upkeep",
    metadata,
    # What is done; the row of "gc" is made with the table.
    Column("kind", String(16), primary_key=True),
    # The schedule begins here until something was done.
    Column("since_at", BigInteger, nullable=False),
    # Who is at it, as in sessions; empty when nobody is.
    Column("turn", String(32)),
    Column("node", String(128)),
    Column("pid", BigInteger),
    Column("pid_start", BigInteger),
    Column("begun_at", BigInteger),
    Column("beat_at", BigInteger),
    # The last run that was done, and why it was; the last that was not; the later of the two.
    Column("done_at", BigInteger),
    Column("reason", String(16)),
    Column("report", LONG_TEXT),
    Column("failed_at", BigInteger),
    Column("failure", LONG_TEXT),
    Column("ended_at", BigInteger),
)
