"""Alembic's entry: run migrations on the connection that casimg.catalog.migrate gives."""

from alembic import context

from casimg.catalog import (  # noqa: F401 - their tables join the metadata
    cache_schema,
    metadef_schema,
    task_schema,
    upkeep_schema,
)
from casimg.catalog.schema import metadata

connection = context.config.attributes["connection"]
context.configure(
    connection=connection, target_metadata=metadata, render_as_batch=True, transaction_per_migration=False
)
context.run_migrations()
