"""The latch: after `recover` nothing is removed before a full check has found every image whole (rule 15)."""

from casimg.pack.keys import RECORD_PREFIX, record_of_key
from casimg.results.upkeep import Problem
from casimg.wiring import Wiring


def latch(wiring: Wiring) -> str | None:
    """Say why nothing may be collected; None when it may. Raises: CatalogDamagedError."""
    if wiring.catalog.repo().collection_enabled:
        return None
    return (
        "the catalog was made anew by `casimg recover`, and nothing is removed before a full check: run `casimg check "
        "--read-data`; when it finds that no image has lost anything, it allows collection again"
    )


def release_latch(wiring: Wiring) -> Problem | None:
    """Allow collection after a full check without a problem; returns what speaks against it.

    A record of an image that the catalog does not know may be all that is left of it: its packs have no other name.
    """
    if wiring.catalog.repo().collection_enabled:
        return None
    names = (record_of_key(found.key) for peer in wiring.peers for found in peer.backend.list(RECORD_PREFIX))
    image_ids = {name[0] for name in names if name is not None}
    unknown = sorted(image_ids - set(wiring.catalog.image_sessions(image_ids)))
    if not unknown:
        wiring.catalog.enable_collection()
        return None
    what = (
        f"records of {len(unknown)} images without a row, first {RECORD_PREFIX}{unknown[0]}/: `casimg recover` could "
        "not read them, and gc stays off; put them back from a copy and recover again, or move them away"
    )
    return Problem("record-unknown", what)
