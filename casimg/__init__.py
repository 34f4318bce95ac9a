"""casimg: many virtual-machine images, stored once, given back bit for bit.

import casimg

repo = casimg.create("/srv/images")
image = repo.put("debian-12.raw", name="debian-12")
repo.get(image.id, "copy.raw")
"""

from typing import TYPE_CHECKING

from casimg import errors
from casimg.errors import CasimgError
from casimg.estimate import chunk_size_for, estimate, index_estimate
from casimg.image_file import ImageFile
from casimg.progress import Progress
from casimg.repository import Repository, create
from casimg.repository import open_repository as open  # noqa: A004 - casimg.open reads as what it does
from casimg.results.images import ByteRange, Image

if TYPE_CHECKING:
    from casimg.recovery import recover

    __version__: str


def __getattr__(name: str) -> object:
    # What a put or get does not need is imported when it is asked for: together 60 ms of each command.
    if name == "recover":
        from casimg.recovery import recover as found

        return found
    if name == "__version__":
        from importlib.metadata import PackageNotFoundError, version

        try:
            return version("casimg")
        except PackageNotFoundError:  # run from a source tree that is not installed
            return "0+unknown"
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


__all__ = [
    # open a repository
    "Repository",
    "create",
    "open",
    "recover",
    # what comes back
    "ByteRange",
    "CasimgError",
    "Image",
    "ImageFile",
    "Progress",
    "errors",
    # before there is one
    "chunk_size_for",
    "estimate",
    "index_estimate",
]
