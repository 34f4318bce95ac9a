"""Who runs in a schedule, from what state, with which faults."""

import random
from collections.abc import Callable
from dataclasses import dataclass

from casimg.constants import KIND_DATA
from tests.simulation import actors
from tests.simulation.actors import Work
from tests.simulation.ports import Faults

Cast = list[tuple[str, Work]]


@dataclass(frozen=True, slots=True)
class Scenario:
    """One kind of schedule.

    Args:
        template: what is stored at the beginning.
        cast: who runs.
        length: about how many steps there are.
        crashes, sleeps: at most so many.
        holds: beginnings of steps before which most actors sleep a while: where the race is.
        hosts: where they run: the index of the first knows every pack, of the second none, of the third some.
    """

    name: str
    template: str
    cast: Callable[[random.Random], Cast]
    length: int = 150
    crashes: int = 0
    sleeps: int = 1
    holds: tuple[str, ...] = ()
    hosts: tuple[int, ...] = (0, 1, 2)
    busy: float = 0.0
    lost: float = 0.0
    again: float = 0.0
    refused: float = 0.0
    late: float = 0.0

    def faults(self, rng: random.Random) -> Faults:
        """Return the faults of one schedule: in one of two none, so that work also gets done."""
        if rng.random() < 0.5:
            return Faults(rng)
        return Faults(rng, self.busy, self.lost, self.again, self.refused, self.late)


def _everything(rng: random.Random) -> Cast:
    """A few of everybody."""
    kinds: list[tuple[str, Callable[[], Work]]] = [
        ("writer", actors.writer),
        ("changed", actors.disk_snapshot),
        ("row", actors.row_snapshot),
        ("deleter", lambda: actors.deleter(flushes=rng.random() < 0.5)),
        ("changer", actors.changer),
        ("reader", actors.reader),
        ("fencer", actors.fencer),
        ("follower", actors.follower),
        ("canceller", actors.saving_deleter),
    ]
    cast: Cast = [("writer", actors.writer()), ("collector", actors.collector(plans=True, repacks=0.3))]
    if rng.random() < 0.5:
        cast.append(("collector2", actors.collector(repacks=0.5)))
    for _ in range(rng.randrange(2, 6)):
        name, make = rng.choice(kinds)
        cast.append((name, make()))
    return [(f"{name}-{number}", work) for number, (name, work) in enumerate(cast)]


EVERYTHING = Scenario(
    "everything",
    "stocked",
    _everything,
    length=300,
    crashes=2,
    sleeps=2,
    busy=0.02,
    lost=0.03,
    again=0.05,
    refused=0.01,
    late=0.02,
)
CALM = Scenario("calm", "stocked", _everything, length=300)


def _cast(*works: tuple[str, Work]) -> Callable[[random.Random], Cast]:
    return lambda _: list(works)


_GONE = (5, 6, 11, 12, 9, 9, 0, 10)
_WRITES_GONE = ("writer", actors.writer(_GONE))

FENCED_WRITER = Scenario(
    "fenced-writer",
    "bare",
    _cast(("writer", actors.writer(_GONE, tries=1)), ("fencer", actors.fencer(count=3))),
    60,
    holds=("write commit",),
)
WRITER_AND_GARBAGE = Scenario(
    "writer-and-garbage",
    "garbage",
    _cast(_WRITES_GONE, ("collector", actors.collector())),
    80,
    holds=("write commit", "write open_session", "write condemn"),
)
CANCELLED_WRITER = Scenario(
    "cancelled-writer", "bare", _cast(("writer", actors.writer(_GONE)), ("canceller", actors.saving_deleter())), 60
)
REPEATED_ANSWERS = Scenario(
    "repeated-answers", "bare", _cast(_WRITES_GONE, ("collector", actors.collector())), 80, again=0.3
)
TWINS = Scenario(
    "twins",
    "bare",
    _cast(("writer", actors.writer(_GONE)), ("twin", actors.writer(_GONE)), ("fencer", actors.fencer(count=3))),
    100,
    busy=0.05,
    lost=0.05,
)
ORPHANED_SNAPSHOT = Scenario(
    "orphaned-snapshot",
    "one",
    _cast(
        ("changed", actors.disk_snapshot(tries=1)),
        ("deleter", actors.deleter(count=1)),
        ("collector", actors.collector(count=5)),
    ),
    120,
    holds=("put records", "write commit"),
)
ORPHANED_ROW = Scenario(
    "orphaned-row",
    "one",
    _cast(
        ("row", actors.row_snapshot(tries=1)), ("deleter", actors.deleter(count=1)), ("collector", actors.collector())
    ),
    60,
    holds=("write snapshot_row", "write reap_content"),
)
CONDEMNED_TWICE = Scenario(
    "condemned-twice",
    "garbage",
    _cast(
        _WRITES_GONE,
        ("second", actors.writer(_GONE)),
        ("deleter", actors.deleter(count=3)),
        ("collector", actors.collector(count=3)),
    ),
    200,
    holds=("write commit", "read images", "write open_session"),
)
DYING_COLLECTOR = Scenario("dying-collector", "garbage", _cast(("collector", actors.collector())), 40, crashes=2)
SLOW_WRITER = Scenario(
    "slow-writer",
    "bare",
    _cast(_WRITES_GONE, ("collector", actors.collector(count=4))),
    120,
    holds=("write insert_pack", "write open_session", "list packs", "write remember_orphans", "write ripe"),
)
DYING_WRITER = Scenario(
    "dying-writer", "bare", _cast(_WRITES_GONE, ("other", actors.writer())), 60, crashes=2, late=0.05
)
READERS = Scenario(
    "readers",
    "stocked",
    _cast(
        ("reader", actors.reader()),
        ("deleter", actors.deleter()),
        ("collector", actors.collector()),
        ("follower", actors.follower()),
        ("writer", actors.writer()),
    ),
    250,
)
LEASED_READERS = Scenario(
    "leased-readers",
    "one",
    _cast(
        ("reader", actors.reader(count=1)),
        ("deleter", actors.deleter(count=1)),
        ("collector", actors.collector(count=4)),
    ),
    120,
    holds=("get packs", "write delete_image"),
)
DOUBLED_READERS = Scenario(
    "doubled-readers",
    "copies",
    _cast(
        ("deleter", actors.deleter(count=1)),
        ("collector", actors.collector(count=2)),
        ("reader", actors.reader(count=3)),
        ("other", actors.reader(count=3)),
    ),
    150,
)
REPACKED_READERS = Scenario(
    "repacked-readers",
    "wasteful",
    _cast(("reader", actors.reader()), ("repacker", actors.collector(count=1, repacks=1.0))),
    150,
    holds=("get packs",),
)
REPACKED_WRITER = Scenario(
    "repacked-writer",
    "wasteful",
    _cast(_WRITES_GONE, ("repacker", actors.collector(count=2, repacks=1.0)), ("row", actors.row_snapshot(tries=1))),
    200,
    holds=("write commit", "write switch"),
)
FENCED_REPACK = Scenario(
    "fenced-repack",
    "wasteful",
    _cast(
        ("repacker", actors.collector(count=1, repacks=1.0)),
        ("fencer", actors.fencer(count=3)),
        ("collector", actors.collector(count=2)),
    ),
    200,
    holds=("write switch",),
)
TWO_REPACKERS = Scenario(
    "two-repackers",
    "doubled",
    _cast(("repacker", actors.collector(count=2, repacks=1.0)), ("other", actors.collector(count=2, repacks=1.0))),
    250,
    holds=("write switch",),
)
CHANGED_IMAGES = Scenario(
    "changed-images",
    "one",
    _cast(
        ("changer", actors.changer()),
        ("other", actors.changer()),
        ("deleter", actors.deleter(count=1, flushes=True)),
        ("collector", actors.collector()),
    ),
    120,
    crashes=1,
    holds=("put records", "write _put_anew"),
    busy=0.02,
    lost=0.05,
    refused=0.03,
    late=0.03,
)
CHANGERS = Scenario(
    "changers",
    "one",
    _cast(("changer", actors.changer(count=3)), ("other", actors.changer(count=3)), ("third", actors.changer())),
    120,
    holds=("put records", "write _put_anew"),
    lost=0.05,
)
REPAIRED = Scenario(
    "repaired",
    "copies",
    _cast(
        ("breaker", actors.breaker()),
        ("repairer", actors.repairer()),
        ("reader", actors.reader(count=1)),
        ("writer", actors.writer((1, 2, 3, 4, 5, 6, 7, 8))),
        ("deleter", actors.deleter(count=1)),
        ("collector", actors.collector(repacks=0.5)),
    ),
    250,
    crashes=1,
    holds=("write switch",),
)
REPAIRED_REPACK = Scenario(
    "repaired-repack",
    "relied",
    _cast(
        ("breaker", actors.breaker(kinds=(KIND_DATA,))),
        ("repacker", actors.collector(count=1, repacks=1.0, rules=(actors.PACK_BY_PACK,))),
        ("repairer", actors.repairer(count=1)),
    ),
    100,
    holds=("write switch", "write mark_damaged"),
    hosts=(0,),
)
RELYING_REPACKERS = Scenario(
    "relying-repackers",
    "relied",
    _cast(
        ("repacker", actors.collector(count=1, repacks=1.0, rules=(actors.PACK_BY_PACK,))),
        ("other", actors.collector(count=2, repacks=1.0, rules=(actors.WORST_PACKS,))),
    ),
    200,
    holds=("write switch",),
    hosts=(0,),
)

UPLOADS = Scenario(
    "uploads",
    "one",
    _cast(
        ("uploader", actors.uploader()),
        ("rival", actors.rival()),
        ("editor", actors.editor()),
        ("deleter", actors.deleter(count=1, flushes=True)),
        ("canceller", actors.saving_deleter(count=2)),
        ("fencer", actors.fencer(count=1)),
        ("collector", actors.collector(count=3)),
    ),
    250,
    crashes=2,
    holds=("write commit", "put records", "write claim_queued", "write release"),
    busy=0.02,
    lost=0.03,
    refused=0.02,
    late=0.02,
)
IMPORTS = Scenario(
    "imports",
    "one",
    _cast(
        ("stager", actors.stager()),
        ("importer", actors.importer()),
        ("other importer", actors.importer(count=2)),
        ("editor", actors.editor()),
        ("deleter", actors.deleter(count=1, flushes=True)),
        ("fencer", actors.fencer(count=1)),
        ("collector", actors.collector(count=3)),
    ),
    250,
    crashes=2,
    holds=("write commit", "put records", "write claim_staged", "write adopt_staged"),
    busy=0.02,
    lost=0.03,
    refused=0.02,
    late=0.02,
)
SPREAD = Scenario(
    "spread",
    "spread",
    _cast(
        ("copier", actors.copier()),
        ("other copier", actors.copier(count=2)),
        ("changer", actors.changer()),
        ("snapshots", actors.row_snapshot(tries=1)),
        ("disks", actors.disk_snapshot(tries=1)),
        ("deleter", actors.deleter(count=1, flushes=True)),
        ("reader", actors.reader()),
        ("fencer", actors.fencer(count=1)),
        ("collector", actors.collector(count=3, repacks=0.3)),
    ),
    300,
    crashes=2,
    holds=("write commit_copy", "write remove_copy", "put second/records", "write written", "write snapshot_row"),
    busy=0.02,
    lost=0.03,
    refused=0.02,
    late=0.02,
)
FAILED_UPLOADS = Scenario(
    "failed-uploads",
    "bare",
    _cast(
        ("uploader", actors.uploader(count=1)),
        ("editor", actors.editor(count=6)),
        ("fencer", actors.fencer(count=2)),
        ("collector", actors.collector(count=2)),
    ),
    120,
    crashes=1,
    holds=("write commit", "put records"),
    refused=0.05,
)

AIMED = (
    *(FENCED_WRITER, WRITER_AND_GARBAGE, CANCELLED_WRITER, REPEATED_ANSWERS, TWINS, ORPHANED_SNAPSHOT, ORPHANED_ROW),
    *(
        CONDEMNED_TWICE,
        DYING_COLLECTOR,
        SLOW_WRITER,
        DYING_WRITER,
        READERS,
        LEASED_READERS,
        DOUBLED_READERS,
        REPACKED_READERS,
    ),
    *(
        REPACKED_WRITER,
        FENCED_REPACK,
        TWO_REPACKERS,
        RELYING_REPACKERS,
        CHANGED_IMAGES,
        CHANGERS,
        REPAIRED,
        REPAIRED_REPACK,
    ),
    *(UPLOADS, FAILED_UPLOADS, IMPORTS, SPREAD),
)
SCENARIOS = {scenario.name: scenario for scenario in (EVERYTHING, CALM, *AIMED)}


def scenario_of(seed: int) -> Scenario:
    """Return the scenario of a seed: everything with faults, everything without, then one of the aimed ones."""
    turn = seed % 5
    return EVERYTHING if turn == 0 else CALM if turn == 1 else AIMED[(seed // 5 * 3 + turn) % len(AIMED)]
