"""Figures of the whole catalog, counted by the database. Functions take a connection."""

from dataclasses import dataclass

from sqlalchemy import Connection, func, select

from casimg.catalog.image_rows import is_stored
from casimg.catalog.rows import BackendRow, CatalogTotals, PackTotals
from casimg.catalog.schema import backends, contents, image_copies, images, packs


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


def all_backends(connection: Connection) -> list[BackendRow]:
    """Return every backend, in the order in which they came."""
    rows = connection.execute(select(backends).order_by(backends.c.backend_id))
    return [BackendRow(row.backend_id, row.name, row.kind) for row in rows]


@dataclass(frozen=True, slots=True)
class BackendTotals:
    """What lies on a backend, by the catalog; sizes in bytes."""

    image_count: int
    """Stored images with a content there."""
    content_count: int
    """Of any state, also such as a collection will reap."""
    pack_count: int
    """Whose objects should be there."""
    stored_size: int


def backend_totals(connection: Connection, backend_id: int) -> BackendTotals:
    """Count what lies on a backend."""
    here = contents.c.backend_id == backend_id
    first = select(func.count()).select_from(images.join(contents, contents.c.content_id == images.c.content_id))
    copies = select(func.count()).select_from(images.join(image_copies, image_copies.c.image_id == images.c.id))
    row = connection.execute(
        select(func.count().label("pack_count"), func.sum(packs.c.size).label("size")).where(
            packs.c.backend_id == backend_id, packs.c.state != "deleted"
        )
    ).one()
    return BackendTotals(
        image_count=connection.execute(first.where(is_stored(), here)).scalar_one()
        + connection.execute(copies.where(is_stored(), image_copies.c.backend_id == backend_id)).scalar_one(),
        content_count=connection.execute(select(func.count()).where(here)).scalar_one(),
        pack_count=int(row.pack_count),
        # A sum of 64-bit integers is a decimal on servers.
        stored_size=int(row.size or 0),
    )
