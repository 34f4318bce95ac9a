"""What images share and what they cost, for those who run the service: it tells projects about each other.

Figures of the catalog are cheap. What images share is found by walking their manifests; see `casimg.usage`.

Threads: any number may use one Figures at once.
"""

from functools import partial

from casimg import comparing, usage
from casimg.catalog import ImageRow, UsageRow, edits
from casimg.errors import BadStatusError
from casimg.images import image_of
from casimg.leasing import leased_reader
from casimg.results.comparing import DiffReport
from casimg.results.figures import ImageUsage, ProjectUsage, Stats
from casimg.results.upkeep import UpkeepState
from casimg.upkeep import GcRules, Upkeep
from casimg.wiring import Wiring


class Figures:
    """The figures of an open repository; `Registry.figures()` gives one."""

    def __init__(self, wiring: Wiring) -> None:
        self._wiring = wiring

    def stats(self) -> Stats:
        """Return the figures of the repository. Cost: the catalog alone."""
        self._wiring.check_open()
        return usage.stats(self._wiring, None, None)

    def upkeep(self, rules: GcRules | None = None) -> UpkeepState:
        """Return the last collection, how much room there is and, by the rules of a server, what is next."""
        return Upkeep(self._wiring).state(rules)

    def usages(self) -> tuple[ImageUsage, ...]:
        """Return how each image with data uses the repository, oldest first. Cost: the manifests of all images."""
        self._wiring.check_open()
        return usage.stats(self._wiring, self._wiring.catalog.images(), None).usages

    def image_usage(self, image: ImageRow) -> ImageUsage:
        """Return how an image uses the repository. Raises: BadStatusError when it has no data. Cost: as usages."""
        self._wiring.check_open()
        found = usage.stats(self._wiring, [image], None).usages
        if not found:
            raise BadStatusError(image.id, image.status, "it has no data")
        return found[0]

    def project_usages(self) -> tuple[ProjectUsage, ...]:
        """Return how the images of each project use the repository. Cost: as usages."""
        self._wiring.check_open()
        return usage.project_usages(self._wiring)

    def logical_usages(self) -> dict[str, UsageRow]:
        """Return what each project has, as quotas count it, sorted by their names. Cost: one query for each."""
        self._wiring.check_open()
        owners = self._wiring.catalog.read(edits.owners)
        return {owner: self._wiring.catalog.read(partial(edits.usage_of, owner=owner)) for owner in owners}

    def diff(self, a: ImageRow, b: ImageRow) -> DiffReport:
        """Return where image `b` differs from `a`, by whole chunks; no data are read.

        Raises: BadStatusError when one has no data, ImageDeletedError, DamageError. Cost: manifest nodes that differ.
        """
        self._wiring.check_open()
        for row in (a, b):
            if row.content_id is None or row.size is None:
                raise BadStatusError(row.id, row.status, "it has no data")
        with leased_reader(self._wiring, a) as reader_a, leased_reader(self._wiring, b) as reader_b:
            return comparing.diff(reader_a, reader_b, image_of(a), image_of(b), exact=False)
