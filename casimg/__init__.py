"""casimg: many virtual-machine images, stored once, given back bit for bit.

import casimg

repo = casimg.create("/srv/images")
image = repo.put("debian-12.raw", name="debian-12")
repo.get(image.id, "copy.raw")
"""

from importlib.metadata import PackageNotFoundError, version

from casimg import errors
from casimg.errors import CasimgError
from casimg.estimate import chunk_size_for, estimate, index_estimate
from casimg.image_file import ImageFile
from casimg.progress import Progress
from casimg.recovery import recover
from casimg.repository import Repository, create
from casimg.repository import open_repository as open  # noqa: A004 - casimg.open reads as what it does
from casimg.results import ByteRange, Image

try:
    __version__ = version("casimg")
except PackageNotFoundError:  # run from a source tree that is not installed
    __version__ = "0+unknown"

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
