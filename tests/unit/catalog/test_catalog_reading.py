"""Rows that readers go by, and leases: who holds what, until when."""

from functools import partial

import pytest
from sqlalchemy import insert, update

from casimg.catalog import Catalog, ImageRow, reading
from casimg.catalog.processes import node_name, own_pid
from casimg.catalog.schema import leases
from casimg.errors import CatalogBusyError
from casimg.ids import ContentId, new_content_id
from tests.catalog_making import Save, save_image


def saved(catalog: Catalog) -> tuple[ImageRow, ContentId, list[int]]:
    """An image with two packs."""
    image, pack_nos = save_image(catalog, pack_count=2)
    assert image.content_id is not None
    return image, image.content_id, pack_nos


def take(catalog: Catalog, content_id: ContentId, lease_id: str = "lease", duration_s: float = 100) -> bool:
    """Take a lease."""
    return catalog.transaction(
        partial(reading.take_lease, lease_id=lease_id, content_id=content_id, duration_s=duration_s)
    )


def test_rows_to_read(catalog: Catalog) -> None:
    """A complete content has its packs, even none; a pending one and one that went have no answer."""
    image, content_id, pack_nos = saved(catalog)
    empty = Save(catalog).commit([]).content_id
    assert empty is not None
    pending = Save(catalog).content_id

    def rows(content: ContentId) -> list[int] | None:
        found = catalog.read(partial(reading.packs_to_read, content_id=content))
        return None if found is None else [row.pack_no for row in found]

    assert rows(content_id) == pack_nos
    assert rows(empty) == []
    assert rows(pending) is None
    assert catalog.read(partial(reading.is_named, content_id=content_id))
    catalog.delete_image(image.id)
    assert rows(content_id) == pack_nos, "a deleted image's content reads until it is reaped"
    assert not catalog.read(partial(reading.is_named, content_id=content_id))


def test_a_lease_keeps_a_content(catalog: Catalog) -> None:
    """Reap leaves a leased content alone, and takes it when the lease was ended; a lease of nothing is refused."""
    image, content_id, _ = saved(catalog)
    assert not take(catalog, new_content_id())
    assert take(catalog, content_id)
    catalog.delete_image(image.id)
    catalog.forget_content(image.id)
    assert not catalog.reap_content(content_id)
    assert catalog.read(partial(reading.lease_count, content_ids=[content_id])) == 1
    assert catalog.transaction(reading.drop_ended_leases) == 0
    catalog.transaction(partial(reading.drop_lease, lease_id="lease"))
    assert catalog.reap_content(content_id)
    assert not take(catalog, content_id), "what went cannot be leased"


def test_leases_end_by_time_or_with_their_process(catalog: Catalog) -> None:
    """Expired leases hold nothing; those of processes of this host that are gone are dropped, others' stay."""
    image, content_id, _ = saved(catalog)
    catalog.delete_image(image.id)
    catalog.forget_content(image.id)
    pid, pid_start = own_pid()
    rows = [
        ("expired", node_name(), pid, pid_start, 1),
        ("reused pid", node_name(), pid, pid_start + 1, 1 << 60),
        ("other host", "elsewhere/boot/1", 1, 1, 1 << 60),
        ("own", node_name(), pid, pid_start, 1 << 60),
    ]
    columns = ("lease_id", "node", "pid", "pid_start", "expires_at")
    values = [dict(zip(columns, row, strict=True)) | {"content_id": content_id} for row in rows]
    catalog.transaction(lambda connection: connection.execute(insert(leases), values))
    assert catalog.read(partial(reading.lease_count, content_ids=[content_id])) == 3
    assert catalog.transaction(reading.drop_ended_leases) == 2
    assert not catalog.reap_content(content_id)
    catalog.transaction(lambda connection: connection.execute(update(leases).values(expires_at=2)))
    assert catalog.reap_content(content_id), "an expired lease holds nothing, dropped or not"
    assert catalog.transaction(reading.drop_ended_leases) == 2


def test_renewing(catalog: Catalog) -> None:
    """A lease that is there is moved; one that was dropped is not made by renewing."""
    _, content_id, _ = saved(catalog)
    take(catalog, content_id, duration_s=-5)
    assert catalog.read(partial(reading.lease_count, content_ids=[content_id])) == 0
    assert catalog.transaction(partial(reading.renew_lease, lease_id="lease", duration_s=50))
    assert catalog.read(partial(reading.lease_count, content_ids=[content_id])) == 1
    assert not catalog.transaction(partial(reading.renew_lease, lease_id="none", duration_s=50))


def test_one_try_is_one_try(catalog: Catalog, monkeypatch: pytest.MonkeyPatch) -> None:
    """A transaction that asks for one try is not run again when the database says busy."""
    import sqlite3

    from sqlalchemy.exc import OperationalError

    count = 0

    class Busy(sqlite3.OperationalError):
        sqlite_errorcode = sqlite3.SQLITE_BUSY

    def work(_connection: object) -> None:
        nonlocal count
        count += 1
        raise OperationalError("statement", None, Busy("locked"))

    monkeypatch.setattr(catalog._database, "_sleep", lambda _seconds: None)
    with pytest.raises(CatalogBusyError, match="1 tries"):
        catalog.transaction(work, try_count=1)
    assert count == 1
    with pytest.raises(CatalogBusyError):
        catalog.transaction(work)
    assert count > 5
