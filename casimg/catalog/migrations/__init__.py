"""Alembic migrations of the catalog, run by casimg.catalog.migrate."""
