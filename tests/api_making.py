"""What tests of the HTTP facade are made of: rows of images."""

from datetime import UTC, datetime
from typing import Any

from casimg.catalog import ImageRow
from casimg.ids import ImageId

NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)


def image_row(**fields: Any) -> ImageRow:
    """Return a queued image, with other fields as given."""
    usual: dict[str, Any] = {
        "id": ImageId("7f0c3c2e-0000-4000-8000-000000000001"),
        "name": "web",
        "status": "queued",
        "content_id": None,
        "session_id": None,
        "parent_id": None,
        "disk_format": "raw",
        "container_format": "bare",
        "owner": "p",
        "visibility": "shared",
        "protected": False,
        "created_at": NOW,
        "updated_at": NOW,
        "deleted_at": None,
        "size": None,
        "hole_size": 0,
        "properties": {},
    }
    return ImageRow(**{**usual, **fields})
