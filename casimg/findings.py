"""What a check found: on each backend, as a repair of it needs it, and all of it, as reports tell it."""

import contextlib
import time
from dataclasses import dataclass, field, replace
from functools import partial

from casimg.catalog import ImageRow, PackRow, examine
from casimg.errors import CatalogDamagedError
from casimg.ids import ContentId
from casimg.results.upkeep import CheckReport, Problem
from casimg.wiring import Wiring


@dataclass(slots=True)
class Findings:
    """What was found on one backend.

    Attributes:
        rows: its packs when the check began.
        damaged: packs that some content may name and that are missing, damaged or on their way out.
        broken: contents with a node or chunk that none of their packs gives.
        unrecorded: images, as they lie here, whose record is missing or damaged.
        images: ids of images that lie here.
        is_reached: False when the backend could not be reached: nothing is known of what lies there.
    """

    wiring: Wiring
    rows: list[PackRow] = field(default_factory=list)
    problems: list[Problem] = field(default_factory=list)
    damaged: dict[int, PackRow] = field(default_factory=dict)
    broken: set[ContentId] = field(default_factory=set)
    unrecorded: list[ImageRow] = field(default_factory=list)
    images: set[str] = field(default_factory=set)
    is_index_right: bool = True
    is_reached: bool = True
    read_size: int = 0

    def problem(self, kind: str, what: str, images: tuple[str, ...] = (), *, lossy: bool = True) -> None:
        """Remember a problem; of a repository with several backends it says which."""
        backend = self.wiring.backend.name if len(self.wiring.peers) > 1 else None
        self.problems.append(Problem(kind, what, images, lossy, backend=backend))


@dataclass(slots=True)
class Checked:
    """What was found on all backends, and of the catalog."""

    begin_s: float
    parts: list[Findings] = field(default_factory=list)
    problems: list[Problem] = field(default_factory=list)
    """Of the catalog, and of no backend alone."""

    @property
    def is_catalog_sound(self) -> bool:
        """Nothing says that the database itself is damaged."""
        return not any(problem.kind == "catalog" for problem in self.problems)

    def all_problems(self) -> list[Problem]:
        return self.problems + [problem for part in self.parts for problem in part.problems]

    def report(self) -> CheckReport:
        now: list[examine.Verification] = []
        with contextlib.suppress(CatalogDamagedError):
            now = self.parts[0].wiring.catalog.read(examine.verifications) if self.parts else []
        verified = [(item.verified_at, item.row.size) for item in now if item.verified_at is not None]
        return CheckReport(
            problems=tuple(self.all_problems()),
            pack_count=sum(len(part.rows) for part in self.parts),
            image_count=len(set().union(*(part.images for part in self.parts))),
            read_size=sum(part.read_size for part in self.parts),
            stored_size=sum(item.row.size for item in now),
            verified_size=sum(size for _, size in verified),
            oldest_verified_at=min((at for at, _ in verified), default=None),
            duration_s=time.monotonic() - self.begin_s,
        )


def here(image: ImageRow, wiring: Wiring) -> ImageRow | None:
    """Return an image with the content and the record that it has on a backend; None when it does not lie there.

    The record of data that lie elsewhere alone is on the default one.
    """
    backend_id = wiring.backend_id
    if image.backend_id == backend_id or (image.backend_id is None and wiring is wiring.home):
        return image if image.content_id is not None or image.locations else None
    for copy in image.copies:
        if copy.backend_id == backend_id:
            return replace(image, content_id=copy.content_id, session_id=copy.session_id, backend_id=backend_id)
    return None


def labels_of(wiring: Wiring, content_id: ContentId) -> list[str]:
    """Return how reports name the active images of a content."""
    ids = wiring.catalog.read(partial(examine.image_ids_of, content_id=content_id))
    return [label_of(wiring.catalog.image(image_id)) for image_id in ids]


def label_of(image: ImageRow) -> str:
    """Return how reports name an image."""
    return f"{image.name or '-'} ({image.id})"
