"""A change of images' metadata from end to end: checked, committed, and their records brought up to date."""

from functools import partial

from casimg.catalog import ImageChange, ImageRow
from casimg.catalog.changes import change_image
from casimg.errors import InputError
from casimg.ids import ImageId
from casimg.images import image_of
from casimg.lineage import descendants
from casimg.records import try_flush
from casimg.results.comparing import PruneDecision
from casimg.saving import ImageFields
from casimg.snapshot.prune import KeepRules, decide
from casimg.wiring import Wiring


def update(wiring: Wiring, image: ImageRow, change: ImageChange, *, same_name: bool) -> ImageRow:
    """Change an active image; once this returns the change is committed, whatever became of the record.

    Raises: InputError, ImageNotFoundError, NameTakenError, CatalogBusyError, NoSpaceError.
    """
    check_change(image, change)
    catalog = wiring.catalog
    work = partial(change_image, image_id=image.id, change=change, unique_name=not same_name)
    wiring.reserve.spend(lambda: catalog.transaction(work))
    try_flush(wiring, image.id)
    return catalog.image(image.id)


def delete(wiring: Wiring, image_id: ImageId) -> None:
    """Delete an image and its records. Raises: ImageNotFoundError, ProtectedImageError, CatalogBusyError."""
    wiring.reserve.spend(lambda: wiring.catalog.delete_image(image_id))
    try_flush(wiring, image_id)


def prune(wiring: Wiring, root: ImageRow, rules: KeepRules, *, dry_run: bool) -> tuple[PruneDecision, ...]:
    """Delete the snapshots of an image that no rule keeps, and return a decision for each, newest first.

    Raises: InputError when nothing would be kept.
    """
    rows = wiring.catalog.images(include_deleted=True)
    found = [image_of(row) for row in descendants(rows, root.id) if row.status != "deleted"]
    decisions = decide(found, rules)
    for decision in decisions:
        if not decision.kept and not dry_run:
            delete(wiring, decision.image.id)
    return decisions


def check_change(image: ImageRow, change: ImageChange) -> None:
    """Raise InputError for a change that changes nothing, contradicts itself or cannot be kept."""
    if change == ImageChange():
        raise InputError("nothing to change: give a name, a visibility, protection or properties")
    both = sorted(set(change.properties) & set(change.unset))
    if both:
        raise InputError(f"the property {both[0]!r} is both set and unset")
    ImageFields(
        # One without a name may stay so.
        name=image.name or image.id if change.name is None else change.name,
        visibility=image.visibility if change.visibility is None else change.visibility,
        properties=change.properties,
    ).check()
