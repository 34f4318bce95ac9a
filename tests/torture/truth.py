"""What every attack holds a repository against: bytes made from numbers, and what must be there, or may be.

The bytes of an image are known to the driver, never read from the repository. Images share blocks with each other and
with those deleted before, so a collection that frees too much takes bytes of an image that stays.
"""

import hashlib
import random
from collections import Counter
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path

from casimg.catalog import Catalog
from casimg.errors import CasimgError, DamageError
from casimg.formats.config import DEFAULT_BACKEND
from casimg.repository import Repository
from casimg.results.images import ByteRange
from casimg.wiring import Wiring

BLOCK = 32 << 10
_POOL = 160


@lru_cache(maxsize=512)
def _block(number: int) -> bytes:
    rng = random.Random(number)
    return rng.randbytes(BLOCK) if number % 3 else (rng.randbytes(40) * (BLOCK // 40 + 1))[:BLOCK]


def disk(seed: int, block_count: int = 32) -> bytes:
    """Return the bytes of a disk: blocks that other disks have too, blocks of its own, holes, an odd end."""
    rng = random.Random(seed)
    parts = []
    for _ in range(block_count):
        kind = rng.randrange(10)
        if kind == 0:
            parts.append(bytes(BLOCK))
        elif kind < 6:
            parts.append(_block(rng.randrange(_POOL)))
        else:
            parts.append(rng.randbytes(BLOCK))
    return b"".join(parts) + rng.randbytes(rng.randrange(1, 5000))


def evolve(data: bytes, seed: int) -> tuple[bytes, list[ByteRange]]:
    """Return the bytes of a disk after some writes, and the map of where they were."""
    rng = random.Random(seed)
    changed = bytearray(data)
    ranges = []
    for _ in range(rng.randrange(1, 5)):
        size = rng.choice((512, 4096, 40_000))
        offset = rng.randrange(max(1, len(changed) - size))
        piece = _block(rng.randrange(_POOL))[:size] if rng.random() < 0.5 else rng.randbytes(size)
        changed[offset : offset + len(piece)] = piece
        ranges.append(ByteRange(offset, len(piece)))
    return bytes(changed), ranges


def digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


@dataclass(slots=True)
class Truth:
    """What the driver knows of one repository.

    Attributes:
        must: digests of images whose commit was reported, by name.
        may: digests of images that were begun, or whose deletion was begun: there whole, or not there.
        marks: values that the property "mark" of an image may have: one, or the old and the new of a change begun.
        hurt: images of which the driver itself damaged a pack: they may be refused until a repair, never be wrong.
        image_count, byte_count: images read back and compared, and their bytes.
    """

    must: dict[str, str] = field(default_factory=dict)
    may: dict[str, str] = field(default_factory=dict)
    marks: dict[str, set[str | None]] = field(default_factory=dict)
    hurt: set[str] = field(default_factory=set)
    image_count: int = 0
    byte_count: int = 0

    def wrongs(self, repo: Repository) -> list[str]:
        """Read every image and return what is not as it must be; what is there counts as committed from now on."""
        wrongs = []
        found = repo.images()
        there = {image.name for image in found}
        wrongs += [
            f"{name} is there {count} times" for name, count in Counter(i.name for i in found).items() if count > 1
        ]
        wrongs += [f"LOST: {name} is not in the catalog" for name in sorted(self.must.keys() - there)]
        wrongs += [f"{name} was never begun" for name in sorted(there - self.must.keys() - self.may.keys())]
        for name in sorted(there & (self.must.keys() | self.may.keys())):
            expected = self.must.get(name) or self.may[name]
            try:
                with repo.open_image(name) as file:
                    data = file.read_at(0, file.size)
            except CasimgError as error:
                if name in self.hurt and isinstance(error, DamageError):
                    continue
                wrongs.append(f"LOST: {name}: {type(error).__name__}: {error}")
                continue
            self.image_count += 1
            self.byte_count += len(data)
            if digest(data) != expected:
                wrongs.append(f"WRONG BYTES: {name}")
            self.must[name] = expected
        for image in found:
            mark = image.properties.get("mark")
            if mark not in self.marks.get(image.name, (mark,)):
                wrongs.append(f"LOST: {image.name} has the mark {mark}, not one of {self.marks[image.name]}")
        self.may.clear()
        return wrongs

    def copy(self) -> "Truth":
        """Return the same truth with nothing compared yet."""
        marks = {name: set(values) for name, values in self.marks.items()}
        return Truth(dict(self.must), dict(self.may), marks, set(self.hurt))


def check_wrongs(repo: Repository) -> list[str]:
    """Check every byte and return what can cost one; left-overs of dead writers are none."""
    found = repo.check(read_data=True).problems
    return [f"check: {problem.kind}: {problem.what}" for problem in found if problem.lossy]


def collect_wrongs(repo: Repository) -> list[str]:
    """Collect with nobody else at work and return what is left though nothing needs it."""
    report = repo.plan_gc().execute()
    wrongs = [f"gc: {why}" for why in (report.orphans_refused, report.disabled) if why is not None]
    return wrongs + left_over(repo._wiring)


def left_over(wiring: Wiring) -> list[str]:
    """Return everything in a repository at rest that no image needs, on whichever of its backends."""
    catalog: Catalog = wiring.catalog
    wrongs = [wrong for peer in wiring.peers for wrong in _left_on(peer)]
    wrongs += [f"{path.name} is left in the spool" for path in wiring.spool.iterdir() if path.name != "reserve"]
    wrongs += [f"session {row.session_id} is open" for row in catalog.sessions(ended=False)]
    wrongs += [f"content {content} has no image" for content in catalog.dead_contents()]
    return wrongs


def _left_on(wiring: Wiring) -> list[str]:
    catalog: Catalog = wiring.catalog
    wrongs = []
    live = {row.pack_id.hex(): row for row in catalog.all_packs(("live",))}
    wrongs += [f"pack {row.pack_no} is named by nothing" for row in catalog.unreferenced()]
    wrongs += [f"pack {row.pack_no} is still {row.state}" for row in catalog.all_packs(("condemned", "deleting"))]
    objects = {found.key.rpartition("/")[2] for found in wiring.backend.list("packs/")}
    wrongs += [f"object {name} has no live pack" for name in sorted(objects - live.keys())]
    wrongs += [f"LOST: pack {name} has no object" for name in sorted(live.keys() - objects)]
    records = sorted(found.key.split("/")[1] for found in wiring.backend.list("records/"))
    here = wiring.backend_id
    lying = {row.id: {row.backend_id, *(copy.backend_id for copy in row.copies)} for row in catalog.images()}
    images = sorted(image_id for image_id, backend_ids in lying.items() if here in backend_ids)
    if records != images:
        wrongs.append(f"records of {records} for images {images}")
    places = {DEFAULT_BACKEND: wiring.site.backend_path, **{item.name: item.path for item in wiring.site.backends}}
    partials: Path = wiring.site.folder / places[wiring.backend.name] / "tmp"
    return wrongs + [f"unfinished object {path.name}" for path in partials.iterdir()]
