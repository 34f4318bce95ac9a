"""Enter images without data into Glance's database through its own models; runs in Glance's environment.

python fill_glance.py DATABASE COUNT
"""

import sys
from datetime import UTC, datetime, timedelta


def main() -> None:
    """Enter them."""
    from glance.db.sqlalchemy import models  # noqa: PLC0415 - it is there only where this runs
    from sqlalchemy import create_engine, insert  # noqa: PLC0415

    path, count = sys.argv[1], int(sys.argv[2])
    begin = datetime.now(UTC).replace(tzinfo=None, microsecond=0) - timedelta(days=1)
    images, properties, tags = [], [], []
    for number in range(count):
        image_id = f"00000000-0000-4000-8000-{number:012x}"
        times = {"created_at": begin + timedelta(seconds=number), "updated_at": begin + timedelta(seconds=number)}
        rest = {**times, "deleted": False}
        images.append(
            {
                "id": image_id,
                "name": f"image-{number}",
                "disk_format": "raw",
                "container_format": "bare",
                "status": "queued",
                "visibility": "shared",
                "owner": "bench",
                "min_disk": 0,
                "min_ram": 0,
                "protected": False,
                "os_hidden": False,
                **rest,
            }
        )
        properties += [
            {"image_id": image_id, "name": f"property_{at}", "value": f"value-{number % (at + 2)}", **rest}
            for at in range(10)
        ]
        tags += [{"image_id": image_id, "value": value, **rest} for value in ("bench", f"tag-{number % 50}")]
    engine = create_engine(f"sqlite:///{path}")
    with engine.begin() as connection:
        for model, rows in ((models.Image, images), (models.ImageProperty, properties), (models.ImageTag, tags)):
            connection.execute(insert(model.__table__), rows)
    engine.dispose()


if __name__ == "__main__":
    main()
