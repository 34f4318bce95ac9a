"""Make and upgrade the schema. Opening never migrates: that is asked for, or refused with one line."""

from pathlib import Path
from typing import Final

from sqlalchemy import Connection, inspect, text

REVISIONS: Final = ("0001", "0002", "0003", "0004", "0005", "0006", "0007", "0008", "0009", "0010", "0011")
"""Every revision this program knows, oldest first; a database with another one is newer."""

HEAD: Final = REVISIONS[-1]


def current_revision(connection: Connection) -> str | None:
    """Return the revision that the database has, None for one without a catalog."""
    if not inspect(connection).has_table("alembic_version"):
        return None
    found = connection.execute(text("SELECT version_num FROM alembic_version")).scalar()
    return None if found is None else str(found)


def knows(revision: str) -> bool:
    """Tell whether this program knows a revision; one it does not know is newer."""
    return revision in REVISIONS


def is_current(revision: str) -> bool:
    """Tell whether a database with this revision can be used as it is."""
    return revision == HEAD


def upgrade(connection: Connection) -> None:
    """Bring the schema to HEAD. One transaction with the caller's work, except on MariaDB, where each DDL commits."""
    # Alembic is a quarter of the time that importing casimg takes, and only this needs it.
    from alembic import command  # noqa: PLC0415
    from alembic.config import Config  # noqa: PLC0415

    config = Config()
    # A percent sign would begin an interpolation.
    config.set_main_option("script_location", str(Path(__file__).parent / "migrations").replace("%", "%%"))
    config.attributes["connection"] = connection
    command.upgrade(config, "head")
