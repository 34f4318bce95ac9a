"""Enter the same images without data into a repository's catalog, as the service does, many to a transaction.

python -m benchmarks.glance.fill_casimg REPOSITORY COUNT
"""

import sys
from pathlib import Path
from typing import Final

from sqlalchemy import Connection

from casimg.catalog import NewImage, edits
from casimg.ids import ImageId
from casimg.opening import open_parts

_AT_ONCE: Final = 500


def main() -> None:
    """Enter them."""
    wiring = open_parts(Path(sys.argv[1]))
    count = int(sys.argv[2])
    for first in range(0, count, _AT_ONCE):

        def enter(connection: Connection, first: int = first) -> None:
            for number in range(first, min(first + _AT_ONCE, count)):
                edits.register(connection, new=_image(number))

        wiring.catalog.transaction(enter)
    wiring.close()


def _image(number: int) -> NewImage:
    return NewImage(
        id=ImageId(f"00000000-0000-4000-8000-{number:012x}"),
        name=f"image-{number}",
        disk_format="raw",
        container_format="bare",
        owner="bench",
        visibility="shared",
        protected=False,
        parent_id=None,
        tags=("bench", f"tag-{number % 50}"),
        properties={f"property_{at}": f"value-{number % (at + 2)}" for at in range(10)},
    )


if __name__ == "__main__":
    main()
