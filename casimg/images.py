"""Turn catalog rows into the images that callers see. Pure."""

from casimg.catalog import ImageRow
from casimg.errors import CasimgError
from casimg.results.images import Image, PutReport


def image_of(row: ImageRow) -> Image:
    """Return the public value of an image row."""
    return Image(
        id=row.id,
        name=row.name or "",
        status=row.status,
        disk_format=row.disk_format or "",
        container_format=row.container_format or "",
        size=row.size,
        hole_size=row.hole_size,
        content_id=row.content_id,
        parent_id=row.parent_id,
        owner=row.owner,
        visibility=row.visibility,
        protected=row.protected,
        created_at=row.created_at,
        updated_at=row.updated_at,
        deleted_at=row.deleted_at,
        properties=dict(row.properties),
        stores=row.stores,
        locations=tuple(one.url for one in row.locations),
    )


def image_in(report: PutReport) -> Image:
    """Return the image that a put made. Raises: CasimgError for a dry run, which makes none."""
    if report.image is None:
        raise CasimgError("a dry run makes no image")
    return report.image
