"""What processes do in the simulation: the library's own functions, tried as a user or a timer would.

Each takes its world and its wiring and returns when its work is done. An error that a caller must expect ends one
try; any other is a violation.
"""

import contextlib
import random
from collections.abc import Callable, Collection

from casimg.assemble import ContentReader
from casimg.catalog import ImageChange, ImageRow
from casimg.catalog.sessions import fence_stale
from casimg.check import find_problems
from casimg.constants import KIND_DATA, KIND_METADATA
from casimg.copying import copy_image, leave
from casimg.errors import (
    BadStatusError,
    ConflictError,
    CopyExistsError,
    CopyNotFoundError,
    DamageError,
    ImageNotFoundError,
    LastCopyError,
    NameTakenError,
    NotFoundError,
    NotQueuedError,
    PackGoneError,
    TryAgainError,
)
from casimg.gc.plan import CollectionPlan, plan_collection
from casimg.gc.waste import RepackRules
from casimg.ids import ImageId, PackId
from casimg.leasing import open_leased
from casimg.manifest.walk import load_leaf
from casimg.pack.keys import pack_key
from casimg.registry import Edit, Registry
from casimg.repair.heal import heal
from casimg.restore import spans
from casimg.results.upkeep import CheckReport, GcPlan, GcReport
from casimg.updating import delete, update
from casimg.wiring import Wiring
from tests.simulation.truth import PROPERTY, Spec, bytes_of, changed_spec, decode_spec, random_spec
from tests.simulation.violation import ViolationError
from tests.simulation.world import OPTIONS, World, new_entry, snapshot_disk, snapshot_row, store

Work = Callable[[World, Wiring, random.Random], None]
NO_REPACK = RepackRules(unused_max=1)
REPACKS = (
    RepackRules(unused_max=0.0, small_count=1000, round_size=30_000),
    RepackRules(unused_max=0.3, small_size=6000, small_count=3, round_size=15_000),
    RepackRules(unused_max=0.0, small_size=9000, small_count=2),
)
"""All that is unused; merging what is small; both, in one round."""
PACK_BY_PACK = RepackRules(unused_max=0.0, small_count=1000, round_size=1)
WORST_PACKS = RepackRules(unused_max=0.9, small_size=6000, small_count=1, round_size=1)
"""Two that hold different packs, one at a time: all with something unused; those of which most is, and small ones."""


def writer(*specs: Spec, tries: int = 2) -> Work:
    """Put images, given or by chance."""

    def work(world: World, wiring: Wiring, rng: random.Random) -> None:
        for spec in specs or [random_spec(rng) for _ in range(rng.randrange(1, 3))]:
            name = _name(rng)
            for _ in range(tries):
                if _tried(world, lambda spec=spec, name=name: store(wiring, name, spec), None):  # type: ignore[misc]
                    break

    return work


def disk_snapshot(*, tries: int = 2) -> Work:
    """Snapshot an image as a changed disk, mostly with a map of the changes."""

    def work(world: World, wiring: Wiring, rng: random.Random) -> None:
        for _ in range(tries):
            parent = _choose(world, wiring, rng)
            if parent is None:
                return
            spec, places = changed_spec(rng, decode_spec(parent.properties[PROPERTY]))
            if rng.random() < 0.25:
                places = []
            name = _name(rng)
            _tried(world, lambda: snapshot_disk(world, wiring, parent.id, name, spec, places), parent)  # noqa: B023

    return work


def row_snapshot(*, tries: int = 2) -> Work:
    """Snapshot a stored image."""

    def work(world: World, wiring: Wiring, rng: random.Random) -> None:
        for _ in range(tries):
            parent = _choose(world, wiring, rng)
            if parent is None:
                return
            name = _name(rng)
            _tried(world, lambda: snapshot_row(wiring, parent.id, name), parent)  # noqa: B023

    return work


def changer(*, count: int = 2) -> Work:
    """Change name and properties of images; their records follow."""

    def work(world: World, wiring: Wiring, rng: random.Random) -> None:
        for _ in range(count):
            image = _choose(world, wiring, rng)
            if image is None:
                return
            name = _name(rng) if rng.random() < 0.5 else None
            note = {} if name is not None and rng.random() < 0.3 else {"note": f"{rng.randrange(100)}"}
            unset = ("note",) if not note else ()
            change = ImageChange(name=name, properties=note, unset=unset)
            own = name is not None and name.startswith("own-")
            _tried(world, lambda: update(wiring, image, change, same_name=not own), image)  # noqa: B023

    return work


def deleter(*, count: int = 2, flushes: bool = False) -> Work:
    """Delete images.

    Args:
        flushes: remove their records too, as an API does at once and a collection else.
    """

    def work(world: World, wiring: Wiring, rng: random.Random) -> None:
        for _ in range(count):
            image = _choose(world, wiring, rng)
            if image is None:
                continue
            if flushes:
                _tried(world, lambda: delete(wiring, image.id), image)  # noqa: B023
            else:
                _tried(world, lambda: wiring.catalog.delete_image(image.id), image)  # noqa: B023

    return work


def saving_deleter(*, count: int = 6) -> Work:
    """Delete images that are still being saved, as an API may."""

    def work(world: World, wiring: Wiring, rng: random.Random) -> None:
        for _ in range(count):
            world.scheduler.step("look for images being saved")
            rows = world.database.raw.execute("SELECT id FROM images WHERE status = 'saving' ORDER BY id").fetchall()
            for (image_id,) in rows:
                with contextlib.suppress(ImageNotFoundError, TryAgainError):
                    wiring.catalog.delete_image(image_id)

    return work


def uploader(*, count: int = 2, tries: int = 2) -> Work:
    """Register images and give them their data; one that failed is tried again."""

    def work(world: World, wiring: Wiring, rng: random.Random) -> None:
        for _ in range(count):
            new = new_entry(_name(rng), random_spec(rng))
            with contextlib.suppress(TryAgainError):
                image_id = Registry(wiring).create(new).id
                for _ in range(tries):
                    if upload_again(world, wiring, image_id):
                        break

    return work


def copier(*, count: int = 3) -> Work:
    """Copy images to the backend where they do not lie, or let them leave one of two."""

    def work(world: World, wiring: Wiring, rng: random.Random) -> None:
        for _ in range(count):
            image = _choose(world, wiring, rng)
            if image is None:
                return
            peer = rng.choice(wiring.peers)
            with contextlib.suppress(CopyExistsError, CopyNotFoundError, LastCopyError):
                if peer.backend.name in image.stores:
                    _tried(world, lambda: leave(peer, image.id), image)  # noqa: B023
                else:
                    _tried(world, lambda: copy_image(peer, image.id, OPTIONS), image)  # noqa: B023

    return work


def rival(*, count: int = 3) -> Work:
    """Give queued images of others their data, or take over where an upload died."""

    def work(world: World, wiring: Wiring, rng: random.Random) -> None:
        for _ in range(count):
            world.scheduler.step("look for queued images")
            query = "SELECT id FROM images WHERE status = 'queued' ORDER BY id"
            rows = world.database.raw.execute(query).fetchall()
            if rows:
                upload_again(world, wiring, rng.choice(rows)[0])

    return work


def editor(*, count: int = 4) -> Work:
    """Edit, tag and share registered images, whether they have data or not."""

    def work(world: World, wiring: Wiring, rng: random.Random) -> None:
        registry = Registry(wiring)
        for _ in range(count):
            world.scheduler.step("choose an image to edit")
            query = "SELECT id, revision FROM images WHERE registered AND status <> 'deleted' ORDER BY id"
            rows = world.database.raw.execute(query).fetchall()
            if not rows:
                continue
            image_id, revision = rng.choice(rows)
            changes: tuple[Callable[[], object], ...] = (
                lambda: registry.edit(image_id, Edit(name=f"any-{rng.randrange(1 << 30):x}"), revision=revision),  # noqa: B023
                lambda: registry.add_tag(image_id, "tag"),  # noqa: B023
                lambda: registry.add_member(image_id, f"p{rng.randrange(3)}"),  # noqa: B023
            )
            with contextlib.suppress(TryAgainError, ConflictError, ImageNotFoundError):
                rng.choice(changes)()

    return work


def stager(*, count: int = 2) -> Work:
    """Register images and keep their data aside."""

    def work(world: World, wiring: Wiring, rng: random.Random) -> None:
        for _ in range(count):
            new = new_entry(_name(rng), random_spec(rng))
            with contextlib.suppress(TryAgainError):
                upload_again(world, wiring, Registry(wiring).create(new).id, is_staged=True)

    return work


def importer(*, count: int = 4) -> Work:
    """Import what is kept aside, or give it up; stage again what is queued."""

    def work(world: World, wiring: Wiring, rng: random.Random) -> None:
        registry = Registry(wiring)
        for _ in range(count):
            world.scheduler.step("look for staged images")
            query = "SELECT id, status FROM images WHERE status IN ('uploading', 'queued') ORDER BY id"
            rows = world.database.raw.execute(query).fetchall()
            if not rows:
                continue
            image_id, status = rng.choice(rows)
            if status == "queued":
                upload_again(world, wiring, image_id, is_staged=True)
                continue
            act = registry.unstage if rng.random() < 0.2 else registry.import_staged
            with contextlib.suppress(BadStatusError):
                _tried(world, lambda: act(ImageId(image_id)), None)  # noqa: B023

    return work


def upload_again(world: World, wiring: Wiring, image_id: str, *, is_staged: bool = False) -> bool:
    """Upload or stage what an image must be; False when it must be expected that it failed."""
    query = "SELECT value FROM image_properties WHERE image_id = ? AND name = ?"
    (text,) = world.database.raw.execute(query, (image_id, PROPERTY)).fetchone()
    data = bytes_of(decode_spec(text))
    try:
        give = Registry(wiring).stage if is_staged else Registry(wiring).upload
        return _tried(world, lambda: give(ImageId(image_id), [data], size=len(data)), None)
    except NotQueuedError:
        return False


def reader(*, count: int = 2) -> Work:
    """Read images whole."""

    def work(world: World, wiring: Wiring, rng: random.Random) -> None:
        for _ in range(count):
            image = _choose(world, wiring, rng)
            if image is not None:
                read_image(world, wiring, image)

    return work


def collector(
    *, count: int = 2, plans: bool = False, repacks: float = 0.0, rules: tuple[RepackRules, ...] = REPACKS
) -> Work:
    """Collect garbage, sometimes after a look at the plan.

    Args:
        repacks: how often packs needed in part are rewritten too, from 0 to 1.
        rules: of which one is chosen then.
    """

    def work(world: World, wiring: Wiring, rng: random.Random) -> None:
        for _ in range(count):
            chosen = rng.choice(rules) if rng.random() < repacks else NO_REPACK
            try:
                if plans and rng.random() < 0.25:
                    plan_collection(wiring, chosen)
                collect(wiring, chosen, world.invariants.damage)
            except TryAgainError:
                continue
            except (DamageError, NotFoundError):
                if not world.invariants.damage:
                    raise

    return work


def breaker(*, count: int = 1, kinds: tuple[int, ...] = (KIND_DATA, KIND_METADATA)) -> Work:
    """Damage packs: an object goes, or a frame of it is unreadable. What only it held is lost."""

    def work(world: World, wiring: Wiring, rng: random.Random) -> None:
        for _ in range(count):
            world.scheduler.step("damage a pack")
            rows = world.database.raw.execute(_BREAKABLE).fetchall()
            objects = world.network.store.objects
            there = [row[:2] for row in rows if row[2] in kinds and pack_key(PackId(row[0])) in objects]
            if there:
                frame = rng.randrange(4) if rng.random() < 0.6 else None
                pack_id, trailer_offset = rng.choice(there)
                world.invariants.break_pack(pack_id, trailer_offset, frame)

    return work


_BREAKABLE = "SELECT pack_id, trailer_offset, kind FROM packs WHERE state = 'live' ORDER BY pack_no"


def repairer(*, count: int = 2) -> Work:
    """Check everything and mend what is found."""

    def work(world: World, wiring: Wiring, rng: random.Random) -> None:
        for _ in range(count):
            # Also when a condemned pack went that held what is lost otherwise.
            with contextlib.suppress(TryAgainError):
                repair(wiring)

    return work


def repair(wiring: Wiring) -> CheckReport:
    """Read everything and mend what is found."""
    found = find_problems(wiring, read_data=True, subset=None, progress=None)
    return heal(found, lambda peer: peer.follow(), None)


def fencer(*, count: int = 2) -> Work:
    """Let the heartbeat of an open session be old, whoever it is, and fence it."""

    def work(world: World, wiring: Wiring, rng: random.Random) -> None:
        for _ in range(count):
            world.scheduler.step("choose a session to fence")
            rows = world.database.raw.execute("SELECT session_id FROM sessions WHERE state = 'open' ORDER BY 1")
            found = [row[0] for row in rows]
            if found:
                fence(world, wiring, rng.choice(found))

    return work


def follower(*, count: int = 2) -> Work:
    """Bring the index of a host up to date, and drop from it what is gone."""

    def work(world: World, wiring: Wiring, rng: random.Random) -> None:
        for _ in range(count):
            try:
                wiring.follow()
            except TryAgainError:
                continue

    return work


def fence(world: World, wiring: Wiring, session_id: str) -> None:
    """Fence one session, in one step."""

    def aged_and_fenced(connection: object) -> None:
        world.database.raw.execute("UPDATE sessions SET heartbeat = 0 WHERE session_id = ?", (session_id,))
        fence_stale(connection, 900.0, 7 * 86400.0)  # type: ignore[arg-type]

    try:
        wiring.catalog.transaction(aged_and_fenced)
    except TryAgainError:
        return


def collect(wiring: Wiring, rules: RepackRules = NO_REPACK, damage: Collection[bytes] = ()) -> GcReport:
    """Run a collection; a repack may find packs damaged only where, in the end, there is damage."""
    report = CollectionPlan(wiring, _NO_PLAN, rules).execute()
    if report.orphans_refused is not None:
        raise ViolationError("L", report.orphans_refused)
    if report.repack_failed and not damage:
        raise ViolationError("R", f"a repack found packs damaged: {report.repack_failed}")
    return report


_NO_PLAN = GcPlan()


def read_image(world: World, wiring: Wiring, image: ImageRow) -> bool:
    """Read an image and compare it with the truth; False when it could not be read for a good reason."""
    expected = bytes_of(decode_spec(image.properties[PROPERTY]))
    held: bool | None = None
    try:
        content, lease = open_leased(wiring, image)
        held = lease.held
        try:
            data = _read_all(content)
        finally:
            lease.end()
    except TryAgainError:
        return False
    except ImageNotFoundError as error:
        # With a lease a read is served to its end; without one a deleted image may go, and says so.
        if held or world.status_of(image.id) == "active":
            raise ViolationError("R", f"image {image.name} cannot be read: {error}") from error
        return False
    except (DamageError, NotFoundError) as error:
        # What a deleted image lacks is not followed.
        if image.content_id in world.invariants.lossy or (
            world.invariants.damage and world.status_of(image.id) != "active"
        ):
            return False
        raise ViolationError("R", f"image {image.name} cannot be read: {error}") from error
    if data != expected:
        raise ViolationError("R", f"image {image.name} was read with wrong bytes")
    return True


def _read_all(content: ContentReader) -> bytes:
    data = bytearray(content.tree.size)
    for span in spans(content):
        if span.leaf is not None:
            leaf = load_leaf(content.node, content.tree, span.number, span.leaf)
            for offset, view in content.segment(leaf):
                data[span.offset + offset : span.offset + offset + len(view)] = view
    return bytes(data)


def _name(rng: random.Random) -> str:
    return f"own-{rng.randrange(4)}" if rng.random() < 0.3 else f"any-{rng.randrange(1 << 30):x}"


def _choose(world: World, wiring: Wiring, rng: random.Random) -> ImageRow | None:
    try:
        rows = wiring.catalog.images()
    except TryAgainError:
        return None
    return rng.choice(sorted(rows, key=lambda row: row.id)) if rows else None


def _tried(world: World, action: Callable[[], object], parent: ImageRow | None) -> bool:
    """Try once; False when the caller must expect that it failed."""
    try:
        action()
    except PackGoneError as error:
        raise ViolationError("I5", str(error)) from error
    except (TryAgainError, NameTakenError):
        return False
    except ImageNotFoundError as error:
        # Its parent was deleted meanwhile, or the image itself while it was being saved.
        if world.status_of(error.ref) == "active" or (parent is None and world.status_of(error.ref) == "absent"):
            raise ViolationError("E", str(error)) from error
        return False
    except (DamageError, NotFoundError):
        if not world.invariants.damage:
            raise
        return False
    return True
