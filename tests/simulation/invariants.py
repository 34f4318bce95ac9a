"""What must hold after every step, read from rows and objects alone.

    I1  every chunk and node of an active image's content is in a pack that the content names, that is live or
        condemned, and whose object is there
    I2  a session once fenced (or closed) never inserts a pack, commits, or opens again
    I3  when all have died and collections have run, exactly the garbage is gone
    I4  an active image has its record
    I5  an open session is never refused for a pack it may rely on
    I6  a deleted image stays deleted
    I7  an unfinished put of an open session is not removed
    I8  of the images that asked for a name of their own, no two active ones have the same
    I9  a complete content is what was put: root, size
    I10 the record of an active image says what the catalog says, or is behind by no more changes than the outbox has
        rows; the record of a deleted one is gone, or the outbox says that it must go
    I11 after damage: a chunk that a content's packs give stays findable, unless what it now rests on is damaged and no
        check has said so; new contents lack nothing but what was damaged
    I12 after a last repair: what an image lacks is in no pack that is live or condemned
    I14 a content's packs lie on its backend, and an image has a content on each of its backends that is as its first
        one: I1, I4, I9 and I10 hold for copies too
    I13 a registered image is deleted only when somebody asked for it; a save of it that fails leaves it queued
    L   orphans are never refused: this catalog is never restored from a backup
    R   a read that began on an active image ends with the right bytes
    E   nobody sees an error that its caller cannot expect

I5, I7, L, R and E are raised where they are seen.
"""

import sqlite3
from collections.abc import Iterable
from dataclasses import dataclass, field

from casimg.backend.memory import MemoryBackend
from casimg.formats.config import CONFIG_KEY
from casimg.formats.pack import decode_trailer
from casimg.formats.record import ImageRecord, decode_record
from casimg.ids import ImageId, PackId, SessionId
from casimg.pack.keys import pack_key, record_key
from tests.simulation.ports import SECOND, Network, place_of
from tests.simulation.truth import PROPERTY, bytes_of, decode_spec, needed
from tests.simulation.violation import ViolationError

_IMAGES = f"""
    SELECT i.id, i.status, i.content_id, i.session_id, i.name, p.value, i.revision FROM images i
    JOIN image_properties p ON p.image_id = i.id AND p.name = '{PROPERTY}' ORDER BY i.id
"""
_COPIES = f"""
    SELECT i.id, i.status, c.content_id, c.session_id, i.name, p.value, i.revision FROM image_copies c
    JOIN images i ON i.id = c.image_id
    JOIN image_properties p ON p.image_id = i.id AND p.name = '{PROPERTY}' ORDER BY i.id, c.backend_id
"""
_NAMED = """
    SELECT cp.content_id, k.pack_no, k.pack_id, k.state, k.trailer_offset, k.backend_id, c.backend_id
    FROM content_packs cp JOIN packs k ON k.pack_no = cp.pack_no JOIN contents c ON c.content_id = cp.content_id
    ORDER BY cp.content_id, k.pack_no
"""
Image = tuple[str, str, str, str, str, str, int]
"""A row of _IMAGES, or of _COPIES."""
_DELETED_UNASKED = (
    "SELECT id FROM images WHERE registered AND status = 'deleted' AND id NOT IN (SELECT image_id FROM outbox)"
)
_TREES = "SELECT c.content_id, c.state, c.size, t.root FROM contents c LEFT JOIN content_trees t USING (content_id)"


@dataclass(slots=True)
class Ended:
    """What a session had when it was first seen not open."""

    state: str
    packs: frozenset[int]
    images: frozenset[str]


@dataclass(slots=True)
class Invariants:
    """Looks at one repository as it changes."""

    raw: sqlite3.Connection
    network: Network
    entries: dict[bytes, frozenset[bytes]] = field(default_factory=dict)
    """Pack id -> ids in its trailer."""
    damage: dict[bytes, frozenset[bytes]] = field(default_factory=dict)
    """Pack id -> ids that it has lost."""
    lossy: set[str] = field(default_factory=set)
    """Contents that lacked something at some time."""
    _just_lost: frozenset[bytes] = frozenset()
    _missing: dict[str, frozenset[bytes]] = field(default_factory=dict)
    _marked: set[bytes] = field(default_factory=set)
    _ended: dict[str, Ended] = field(default_factory=dict)
    _deleted: set[str] = field(default_factory=set)
    _committed: set[str] = field(default_factory=set)
    _records: dict[str, tuple[bytes, ImageRecord]] = field(default_factory=dict)
    _places: dict[str, str] = field(default_factory=dict)
    _changes: int = -1

    def look(self) -> None:
        """Check everything that the last step could have broken. Raises: ViolationError."""
        if self.raw.total_changes == self._changes and not self.network.changed:
            return
        self._changes = self.raw.total_changes
        self.network.changed = False
        images = self.raw.execute(_IMAGES).fetchall()
        copies = self.raw.execute(_COPIES).fetchall()
        self._look_at_sessions([*images, *copies])
        self._look_at_images(images)
        self._places = {
            content_id: place_of(backend_id)
            for content_id, backend_id in self.raw.execute("SELECT content_id, backend_id FROM contents")
        }
        self._look_at_contents([image for image in (*images, *copies) if image[1] == "active"])
        self._look_at_records([*images, *copies])

    def _look_at_sessions(self, images: Iterable[Image]) -> None:
        packs: dict[str, set[int]] = {}
        for pack_no, session_id in self.raw.execute("SELECT pack_no, session_id FROM packs"):
            packs.setdefault(session_id, set()).add(pack_no)
        active: dict[str, set[str]] = {}
        for image_id, status, _, session_id, *_ in images:
            if status == "active":
                active.setdefault(session_id, set()).add(image_id)
        for session_id, state in self.raw.execute("SELECT session_id, state FROM sessions"):
            before = self._ended.get(session_id)
            if before is None:
                if state != "open":
                    have = frozenset(packs.get(session_id, ())), frozenset(active.get(session_id, ()))
                    self._ended[session_id] = Ended(state, *have)
                    if state == "fenced" and have[1]:
                        raise ViolationError("I2", f"session {session_id} was fenced with {len(have[1])} active images")
                continue
            if state != before.state:
                raise ViolationError("I2", f"session {session_id} went from {before.state} to {state}")
            if not packs.get(session_id, set()) <= before.packs:
                raise ViolationError("I2", f"session {session_id} is {state} and inserted a pack")
            if not active.get(session_id, set()) <= before.images:
                raise ViolationError("I2", f"session {session_id} is {state} and committed")

    def _look_at_images(self, images: Iterable[Image]) -> None:
        names: set[str] = set()
        there: set[str] = set()
        # Who deletes says in the same step that the record must go.
        for (image_id,) in self.raw.execute(_DELETED_UNASKED):
            if image_id not in self._deleted:
                raise ViolationError("I13", f"registered image {image_id} is deleted and nobody asked for it")
        for image_id, status, _, _, name, *_ in images:
            there.add(image_id)
            if status == "deleted":
                self._deleted.add(image_id)
            elif image_id in self._deleted:
                raise ViolationError("I6", f"image {image_id} was deleted and is {status}")
            elif status == "active" and name.startswith("own-"):
                if name in names:
                    raise ViolationError("I8", f"two active images are named {name!r}")
                names.add(name)
        if gone := self._deleted - there:
            raise ViolationError("I6", f"the rows of deleted images are gone: {sorted(gone)}")

    def break_pack(self, pack_id: bytes, trailer_offset: int, frame: int | None) -> None:
        """Take the object of a pack away, or make one of its frames unreadable."""
        objects = self.network.store.objects
        key = pack_key(PackId(pack_id))
        data = objects.pop(key)
        trailer = decode_trailer(data[trailer_offset:])
        lost = self._entries({key: data}, pack_id, trailer_offset)
        if frame is not None:
            span = list(trailer.frames())[frame % len(list(trailer.frames()))]
            places = range(span.first_entry, span.first_entry + span.chunk_count)
            lost = frozenset(trailer.id_at(entry) for entry in places)
            end = span.offset + span.size
            objects[key] = data[: span.offset] + bytes(span.size) + data[end:]
        self.damage[pack_id] = self.damage.get(pack_id, frozenset()) | lost
        self._just_lost |= lost
        self.network.changed = True

    def missing_of(self, content_id: str) -> frozenset[bytes]:
        """Return what a content lacked at the last look."""
        return self._missing.get(content_id, frozenset())

    def _look_at_losses(self, content_id: str, name: str, missing: frozenset[bytes], given: set[bytes]) -> None:
        """I11.

        Args:
            given: packs that the content names now.
        """
        before = self._missing.get(content_id)
        self._missing[content_id] = missing
        if missing:
            self.lossy.add(content_id)
        if before is None:
            allowed = frozenset().union(*self.damage.values())
        else:
            silent = [lost for pack_id, lost in self.damage.items() if pack_id in given and pack_id not in self._marked]
            allowed = before.union(self._just_lost, *silent)
        if worse := missing - allowed:
            raise ViolationError("I11", f"{len(worse)} chunks of {name} were findable and are lost")

    def look_after_the_last_repair(self) -> None:
        """I12."""
        objects = self.network.store.objects
        there: set[bytes] = set()
        rows = "SELECT pack_id, trailer_offset FROM packs WHERE state IN ('live', 'condemned')"
        for pack_id, trailer_offset in self.raw.execute(rows):
            if pack_key(pack_id) in objects:
                there |= self._entries(objects, pack_id, trailer_offset) - self.damage.get(pack_id, frozenset())
        for content_id, name in self.raw.execute("SELECT content_id, name FROM images WHERE status = 'active'"):
            if found := self.missing_of(content_id) & there:
                raise ViolationError("I12", f"{len(found)} chunks of {name} exist and were not mended")

    def _look_at_contents(self, active: list[Image]) -> None:
        named: dict[str, set[bytes]] = {}
        given: dict[str, set[bytes]] = {}
        why: dict[str, list[str]] = {}
        objects = self.network.store.objects
        for content_id, pack_no, pack_id, state, trailer_offset, backend_id, home_id in self.raw.execute(_NAMED):
            if backend_id != home_id:
                raise ViolationError("I14", f"content {content_id} on backend {home_id} names pack {pack_no} elsewhere")
            place = place_of(backend_id)
            found = named.setdefault(content_id, set())
            given.setdefault(content_id, set()).add(pack_id)
            if state not in ("live", "condemned"):
                why.setdefault(content_id, []).append(f"pack {pack_no} is {state}")
            elif place + pack_key(pack_id) not in objects:
                why.setdefault(content_id, []).append(f"pack {pack_no} has no object")
            else:
                entries = self._entries(objects, pack_id, trailer_offset, place)
                found |= entries - self.damage.get(pack_id, frozenset())
        trees = {row[0]: row[1:] for row in self.raw.execute(_TREES)}
        for image_id, _, content_id, session_id, name, text, _ in active:
            spec = decode_spec(text)
            want = needed(spec)
            state, size, root = trees.get(content_id, ("absent", None, None))
            if (state, size, root) != ("complete", len(bytes_of(spec)), want.root):
                raise ViolationError("I9", f"content {content_id} of active image {name} is {state}, {size} bytes")
            missing = want.ids - named.get(content_id, set())
            if self.damage:
                self._look_at_losses(content_id, name, missing, given.get(content_id, set()))
            elif missing:
                reasons = "; ".join(why.get(content_id, ["none of its packs holds them"]))
                raise ViolationError("I1", f"{len(missing)} of {len(want.ids)} chunks of {name} are lost: {reasons}")
            if self._places[content_id] + record_key(ImageId(image_id), SessionId(session_id)) not in objects:
                raise ViolationError("I4", f"active image {name} has no record")
        self._just_lost = frozenset()
        if self.damage:
            marked = self.raw.execute("SELECT pack_id FROM packs WHERE damaged_at IS NOT NULL")
            self._marked = {pack_id for (pack_id,) in marked}

    def _look_at_records(self, images: Iterable[Image]) -> None:
        objects = self.network.store.objects
        behind = dict(self.raw.execute("SELECT image_id, count(*) FROM outbox GROUP BY image_id").fetchall())
        for image_id, status, content_id, session_id, name, _, revision in images:
            key = self._places.get(content_id, "") + record_key(ImageId(image_id), SessionId(session_id))
            if status == "deleted":
                if image_id in self._committed and key in objects and image_id not in behind:
                    raise ViolationError("I10", f"nothing says that the record of deleted image {name} must go")
                continue
            if status != "active":
                continue
            self._committed.add(image_id)
            record = self._record(key, objects[key])
            if record.content.content_id != content_id:
                raise ViolationError("I10", f"the record of image {name} is of another content")
            missing_count = revision - record.revision
            if not 0 <= missing_count <= behind.get(image_id, 0):
                raise ViolationError("I10", f"the record of image {name} is behind by {missing_count} changes")
            if not missing_count and (record.name, dict(record.properties)) != (name, self._properties(image_id)):
                raise ViolationError("I10", f"the record of image {name} says otherwise")

    def _record(self, key: str, data: bytes) -> ImageRecord:
        known = self._records.get(key)
        if known is None or known[0] is not data:
            known = self._records[key] = data, decode_record(data)
        return known[1]

    def _properties(self, image_id: str) -> dict[str, str]:
        query = "SELECT name, value FROM image_properties WHERE image_id = ?"
        return dict(self.raw.execute(query, (image_id,)).fetchall())

    def _entries(
        self, objects: dict[str, bytes], pack_id: bytes, trailer_offset: int, place: str = ""
    ) -> frozenset[bytes]:
        found = self.entries.get(pack_id)
        if found is None:
            trailer = decode_trailer(objects[place + pack_key(PackId(pack_id))][trailer_offset:])
            found = self.entries[pack_id] = frozenset(chunk for chunk, *_ in trailer.places())
        return found

    def look_at_the_end(self) -> None:
        """I3: after the collections, rows and objects are exactly those of the active images."""
        store: MemoryBackend = self.network.store
        wanted = {CONFIG_KEY}
        if SECOND + CONFIG_KEY in store.objects:
            wanted.add(SECOND + CONFIG_KEY)
        for query in (_IMAGES, _COPIES):
            for image_id, status, content_id, session_id, *_ in self.raw.execute(query):
                if status == "active":
                    wanted.add(self._places[content_id] + record_key(image_id, session_id))
        named = "SELECT DISTINCT k.pack_id, k.backend_id FROM content_packs cp JOIN packs k USING (pack_no)"
        wanted.update(place_of(backend_id) + pack_key(pack_id) for pack_id, backend_id in self.raw.execute(named))
        # What repairs set aside nothing removes; what was taken away only a put brings back.
        wanted.update(key for key in store.objects if key.startswith("quarantine/"))
        wanted.difference_update(
            pack_key(PackId(pack_id)) for pack_id in self.damage if pack_key(PackId(pack_id)) not in store.objects
        )
        if left := sorted(set(store.objects) - wanted):
            raise ViolationError("I3", f"{len(left)} objects are left for ever: {left[:3]}")
        if missing := sorted(wanted - set(store.objects)):
            raise ViolationError("I3", f"{len(missing)} objects are missing: {missing[:3]}")
        if self.network.partials:
            raise ViolationError("I3", f"unfinished puts are left for ever: {sorted(self.network.partials)[:3]}")
        for what, query in _LEFT_OVER.items():
            if count := self.raw.execute(f"SELECT count(*) {query}").fetchone()[0]:
                raise ViolationError("I3", f"{count} {what} are left for ever")


_LEFT_OVER = {
    "condemned or half-deleted packs": "FROM packs WHERE state IN ('condemned', 'deleting')",
    "live packs that nothing names": "FROM packs WHERE state = 'live' AND pack_no NOT IN "
    "(SELECT pack_no FROM content_packs)",
    "changes that no record has": "FROM outbox",
    "remembered orphans": "FROM orphans",
    "images being saved": "FROM images WHERE status NOT IN ('active', 'deleted', 'queued') "
    "AND (status <> 'uploading' OR session_id IS NOT NULL) "
    "OR (status = 'queued' AND (NOT registered OR session_id IS NOT NULL))",
    "contents that no image points to": "FROM contents WHERE content_id NOT IN "
    "(SELECT content_id FROM images WHERE status = 'active' "
    "UNION SELECT staged_content_id FROM images WHERE status = 'uploading' "
    "UNION SELECT content_id FROM image_copies)",
    "copies of images that are deleted": "FROM image_copies WHERE image_id NOT IN "
    "(SELECT id FROM images WHERE status = 'active')",
    "open sessions": "FROM sessions WHERE state = 'open'",
}
