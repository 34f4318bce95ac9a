"""Figures of the whole catalog, counted by the database. Functions take a connection."""

from sqlalchemy import Connection, func, select

from casimg.catalog.rows import CatalogTotals, PackTotals
from casimg.catalog.schema import contents, images, packs


def totals(connection: Connection) -> CatalogTotals:
    """Count images by status, contents by state, and sum packs by kind and state."""
    by_status = connection.execute(select(images.c.status, func.count()).group_by(images.c.status)).all()
    by_state = connection.execute(select(contents.c.state, func.count()).group_by(contents.c.state)).all()
    of_packs = connection.execute(
        select(
            packs.c.kind,
            packs.c.state,
            func.count().label("pack_count"),
            func.sum(packs.c.size).label("size"),
            func.sum(packs.c.plain_size).label("plain_size"),
            func.sum(packs.c.chunk_count).label("chunk_count"),
        )
        .group_by(packs.c.kind, packs.c.state)
        .order_by(packs.c.kind, packs.c.state)
    )
    return CatalogTotals(
        image_counts={row[0]: int(row[1]) for row in by_status},
        content_counts={row[0]: int(row[1]) for row in by_state},
        # A sum of 64-bit integers is a decimal on servers.
        packs=tuple(
            PackTotals(row.kind, row.state, row.pack_count, int(row.size), int(row.plain_size), int(row.chunk_count))
            for row in of_packs
        ),
    )
