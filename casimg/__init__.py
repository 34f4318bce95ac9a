"""casimg: many virtual-machine images, stored once, given back bit for bit.

import casimg

repo = casimg.create("/srv/images")
image = repo.put("debian-12.raw", name="debian-12")
repo.get(image.id, "copy.raw")
"""

from importlib import import_module
from typing import TYPE_CHECKING

from casimg import errors
from casimg.errors import CasimgError

if TYPE_CHECKING:
    from casimg.estimating import chunk_size_for, estimate, index_estimate
    from casimg.image_file import ImageFile
    from casimg.progress import Progress
    from casimg.recovery import recover
    from casimg.repository import Repository, create
    from casimg.repository import open_repository as open  # noqa: A004 - casimg.open reads as what it does
    from casimg.results.images import ByteRange, Image

    __version__: str

# Imported when asked for: start-up is most of a small put, and help needs nothing of a repository.
_PLACES = {
    "Repository": "casimg.repository:Repository",
    "create": "casimg.repository:create",
    "open": "casimg.repository:open_repository",
    "recover": "casimg.recovery:recover",
    "ByteRange": "casimg.results.images:ByteRange",
    "Image": "casimg.results.images:Image",
    "ImageFile": "casimg.image_file:ImageFile",
    "Progress": "casimg.progress:Progress",
    "chunk_size_for": "casimg.estimating:chunk_size_for",
    "estimate": "casimg.estimating:estimate",
    "index_estimate": "casimg.estimating:index_estimate",
}


def __getattr__(name: str) -> object:
    if name in _PLACES:
        module, _, attribute = _PLACES[name].partition(":")
        found = globals()[name] = getattr(import_module(module), attribute)
        return found
    if name == "__version__":
        from importlib.metadata import PackageNotFoundError, version

        try:
            return version("casimg")
        except PackageNotFoundError:  # run from a source tree that is not installed
            return "0+unknown"
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *_PLACES, "__version__"})


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
