"""A built family and its manifest: what each file is, how big, with which hash.

`manifest.json` is written anew after each finished file, by rename; a file without an entry is not finished.
"""

import hashlib
import json
import os
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

MANIFEST = "manifest.json"
_VERSION = 1


@dataclass(frozen=True, slots=True)
class Image:
    """One file of a family.

    Attributes:
        path: where it is.
        name: the disk: files of one name have one content in several formats.
        role: "golden" or "instance".
        generation: of an instance, from 1; 0 for goldens.
        parent: name of the disk that this one continues ("" for the first): for generations the file that was copied,
            for goldens the disk whose packages it has too, without a common block by construction.
        format: "raw", "qcow2", "zlib.qcow2", "zstd.qcow2" or "stream.vmdk".
        size: virtual bytes of the disk.
        file_size: bytes of the file, with holes.
        allocated_size: bytes that the file takes on its file system.
        data_size: bytes of the file that are not in holes. Raw images have no blocks of zeros outside holes.
        sha256: of the file, in hex.
        made: how it was made.
        packages: file with the installed packages, beside the image.
    """

    path: Path
    name: str
    role: str
    generation: int
    parent: str
    format: str
    size: int
    file_size: int
    allocated_size: int
    data_size: int
    sha256: str
    made: str
    packages: str


@dataclass(frozen=True, slots=True)
class Family:
    """All files of a family, in the order they were made.

    Attributes:
        tools: version of each program used.
        epoch_s: time stamp of the goldens' files, seconds.
    """

    name: str
    seed: int
    epoch_s: int
    suite: str
    tools: dict[str, str] = field(default_factory=dict)
    images: tuple[Image, ...] = ()

    @property
    def raws(self) -> tuple[Image, ...]:
        """The raw images: goldens, then the instance's generations."""
        return tuple(image for image in self.images if image.format == "raw")

    @property
    def goldens(self) -> tuple[Image, ...]:
        """The raw goldens."""
        return tuple(image for image in self.raws if image.role == "golden")

    @property
    def generations(self) -> tuple[Image, ...]:
        """The raw instance images, oldest first."""
        return tuple(sorted((image for image in self.raws if image.role == "instance"), key=lambda i: i.generation))

    def find(self, name: str, ending: str = "raw") -> Image | None:
        """Return the image of a name and format, or None."""
        return next((image for image in self.images if (image.name, image.format) == (name, ending)), None)

    def with_image(self, image: Image) -> "Family":
        """Return the family with this image in place of one of the same name and format, or at the end."""
        others = tuple(i for i in self.images if (i.name, i.format) != (image.name, image.format))
        return replace(self, images=(*others, image))

    def without(self, name: str) -> "Family":
        """Return the family without any file of a disk."""
        return replace(self, images=tuple(image for image in self.images if image.name != name))

    def as_json(self) -> str:
        """Return the manifest's text. Paths are file names, so that a folder can be moved."""
        value = asdict(self)
        for image in value["images"]:
            image["path"] = image["path"].name
        return json.dumps({"version": _VERSION, **value}, indent=2) + "\n"


def load_family(folder: Path) -> Family:
    """Return the family built in a folder.

    Raises:
        FileNotFoundError: there is no manifest: `make bench-images` builds one.
        ValueError: the manifest is of another version of this program.
    """
    value = json.loads((folder / MANIFEST).read_text())
    if value.pop("version") != _VERSION:
        raise ValueError(f"{folder / MANIFEST} is of another version: delete the folder and build anew")
    images = tuple(Image(**{**image, "path": folder / image["path"]}) for image in value.pop("images"))
    return Family(**value, images=images)


def save_family(family: Family, folder: Path) -> None:
    """Write the manifest; a reader sees the old one or the new one."""
    new = folder / (MANIFEST + ".new")
    new.write_text(family.as_json())
    new.replace(folder / MANIFEST)


def file_facts(path: Path) -> dict[str, int | str]:
    """Return the fields of `Image` that are measured on the file itself. Cost: reads it once."""
    info = path.stat()
    with path.open("rb") as file:
        sha256 = hashlib.file_digest(file, "sha256").hexdigest()
    sizes = {"file_size": info.st_size, "allocated_size": info.st_blocks * 512, "data_size": data_size(path)}
    return {**sizes, "sha256": sha256}


def data_size(path: Path) -> int:
    """Return how many bytes of a file are not in holes."""
    total = offset = 0
    with path.open("rb") as file:
        end = os.fstat(file.fileno()).st_size
        while offset < end:
            try:
                start = os.lseek(file.fileno(), offset, os.SEEK_DATA)
            except OSError:  # ENXIO: only a hole is left
                break
            offset = os.lseek(file.fileno(), start, os.SEEK_HOLE)
            total += offset - start
    return total
