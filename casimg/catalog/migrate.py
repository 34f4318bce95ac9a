"""Make and upgrade the schema. Opening never migrates: that is asked for, or refused with one line."""

from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection


def _config(connection: Connection) -> Config:
    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent / "migrations"))
    config.attributes["connection"] = connection
    return config


def upgrade(connection: Connection) -> None:
    """Bring the schema to the newest revision, within the caller's transaction."""
    command.upgrade(_config(connection), "head")


def current_revision(connection: Connection) -> str | None:
    """Return the revision that the database has, None for an empty one."""
    return MigrationContext.configure(connection).get_current_revision()


def head_revision(connection: Connection) -> str:
    """Return the newest revision that this program knows."""
    head = ScriptDirectory.from_config(_config(connection)).get_current_head()
    if head is None:
        raise RuntimeError("the package has no migrations")
    return head


def knows(connection: Connection, revision: str) -> bool:
    """Tell whether this program knows a revision; one it does not know is newer."""
    return any(
        script.revision == revision for script in ScriptDirectory.from_config(_config(connection)).walk_revisions()
    )
