"""Repack: packs that are needed in part are written anew without the rest, small ones are merged (rule 10).

One session: see the packs live, mark what every content that names them reaches, write that into new packs, put and
insert them like any writer, and switch the rows of exactly those contents in one transaction. The old packs are then
named by nothing and go by rules 8 and 9, like all others. Whoever dies on the way leaves new packs that nothing names.
"""

import logging
import time
from collections import deque
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from typing import Final

from casimg.catalog import PackRow, repack
from casimg.catalog.repack import ContentUse, Move
from casimg.constants import FRAME_PLAIN_TARGET, KIND_DATA, MIB, NODE_FRAME_PLAIN_TARGET
from casimg.errors import CasimgError, DamageError, NotFoundError, PackDamagedError
from casimg.formats.damage import FormatDamage
from casimg.formats.frame import decode_frame, encode_frame
from casimg.formats.pack import FrameSpan
from casimg.frames import DecodedFrame, FrameCache
from casimg.gc.marks import Marks
from casimg.gc.regroup import Copy, Group, outputs
from casimg.gc.waste import mark_packs
from casimg.ids import PackId, SessionId, chunk_id, node_id
from casimg.ingest import thread_count
from casimg.pack.keys import pack_key
from casimg.pack.reader import read_frame
from casimg.progress import Progress, ProgressCallback
from casimg.wiring import Wiring

_log = logging.getLogger("casimg.gc")

_HEARTBEAT_EVERY_S: Final = 60.0
_FRAME_CACHE_SIZE: Final = 32 * MIB


@dataclass(slots=True)
class RepackFigures:
    """What rewriting did; sizes are stored bytes."""

    pack_count: int = 0
    old_size: int = 0
    new_size: int = 0
    failed: list[str] = field(default_factory=list)
    given_up: set[int] = field(default_factory=set)
    """Numbers of packs written by sessions that did not end as they should; nothing names them."""


def rewrite(
    wiring: Wiring, rows: Sequence[PackRow], figures: RepackFigures, progress: ProgressCallback | None
) -> list[int]:
    """Rewrite packs of one kind in one session; returns the numbers of packs that may be named by nothing now.

    Those are the old packs, and new ones of which every chunk turned out to be elsewhere or whose content went.

    A pack that does not give back what is needed of it is left as it is, and told in `figures.failed`.

    Raises: TryAgainError, NoSpaceError, and what the backend raises; then nothing was switched.
    """
    todo = list(rows)
    while todo:
        session = wiring.catalog.open_session("repack")
        try:
            with _Rewrite(wiring, session.session_id, todo, progress, figures) as run:
                done = run.run()
            if done is None:
                wiring.end_session(session.session_id)
                return []
            return done
        except _Unreadable as error:
            wiring.end_session(session.session_id)
            key = next(pack_key(PackId(row.pack_id)) for row in todo if row.pack_no == error.pack_no)
            _log.warning("repack.left_out pack=%s why=%s", key, error.why)
            figures.failed.append(f"{key}: {error.why}")
            todo = [row for row in todo if row.pack_no != error.pack_no]
        except BaseException:
            wiring.end_session(session.session_id)
            raise
    return []


Frame = tuple[bytes, list[bytes], list[int]]
"""An encoded frame, and ids and sizes of its chunks."""


class _Rewrite:
    """One session of repacking."""

    def __init__(
        self,
        wiring: Wiring,
        session_id: SessionId,
        rows: Sequence[PackRow],
        progress: ProgressCallback | None,
        figures: RepackFigures,
    ) -> None:
        self._wiring = wiring
        self._figures = figures
        self._session_id = session_id
        # Only now: what this list shows live cannot go before the session ends.
        live = {row.pack_no for row in wiring.catalog.live_packs(session_id)}
        self._rows = {row.pack_no: row for row in rows if row.pack_no in live}
        self._kind = rows[0].kind
        self._progress = progress
        self._beat_at_s = time.monotonic()
        self._cache = FrameCache(_FRAME_CACHE_SIZE)
        self._threads = thread_count(wiring.site.threads)
        self._copies: dict[tuple[int, int], int] = {}
        self._chunks: dict[bytes, int] = {}
        self._pool = ThreadPoolExecutor(self._threads, thread_name_prefix="casimg-repack")
        self._line = wiring.pack_line(session_id)

    def __enter__(self) -> "_Rewrite":
        return self

    def __exit__(self, kind: object, error: object, trace: object) -> None:
        self._pool.shutdown(wait=True, cancel_futures=True)
        if kind is None:
            self._line.close()
        else:
            self._line.discard()
            self._figures.given_up |= self._line.shipped.keys()

    def run(self) -> list[int] | None:
        """Mark, write, switch; None when there is nothing to do, the session then still being open.

        Raises: _Unreadable for a pack that does not give back what is needed of it.
        """
        marks, uses = mark_packs(self._wiring, list(self._rows.values()), self._progress)
        for pack_no in list(self._rows):
            if pack_no not in marks.trailers or pack_no in marks.unreadable:
                del self._rows[pack_no]
        uses = [
            use for use in uses if use.content_id in marks.reaches and not self._rows.keys().isdisjoint(use.pack_nos)
        ]
        if not uses:
            return None
        self._write(marks)
        self._line.flush()
        moves = self._moves(marks, uses)
        self._wiring.catalog.transaction(partial(repack.switch, session_id=self._session_id, moves=moves))
        self._figures.pack_count += len(self._rows)
        self._figures.old_size += sum(row.size for row in self._rows.values())
        self._figures.new_size += sum(pack.size for pack in self._line.shipped.values())
        _log.info("repack.switched session=%s packs=%d", self._session_id, len(self._rows))
        try:
            self._line.publish()
        except CasimgError as error:  # switched all the same; the index is followed when it is next needed
            _log.warning("index.write_failed session=%s error=%s", self._session_id, error)
        return sorted({*self._rows, *self._line.shipped})

    def _moves(self, marks: Marks, uses: Sequence[ContentUse]) -> list[Move]:
        new_packs_of = self._new_packs_of(marks)
        moves = []
        for use in uses:
            reach = marks.reaches[use.content_id]
            for pack_no in sorted(use.pack_nos & self._rows.keys()):
                new = sorted(new_packs_of[pack_no]) if pack_no in reach.packs else ()
                moves.append(Move(use.content_id, pack_no, tuple(new), frozenset(reach.relied.get(pack_no, ()))))
        return moves

    def _new_packs_of(self, marks: Marks) -> dict[int, set[int]]:
        """Return for each old pack the new ones that hold what is kept of it, by what the backend gives back of them.

        Raises: PackDamagedError when a kept chunk is in none: then nothing may be switched. SessionFencedError.
        """
        listed: dict[int, tuple[int, set[bytes]]] = {}
        for pack in self._line.shipped.values():
            try:
                places = self._wiring.load_trailer(pack).places()
            except NotFoundError:
                # A fenced session's new packs are garbage, and may be gone already; then this raises what is true.
                self._wiring.catalog.heartbeat(self._session_id)
                raise
            listed[pack.serial] = pack.pack_no, {chunk for chunk, *_ in places}
        found: dict[int, set[int]] = {}
        for pack_no, row in self._rows.items():
            found[pack_no] = set()
            for entry, (chunk, frame_offset, *_) in enumerate(marks.trailers[pack_no].places()):
                if not marks.owner(pack_no, entry):
                    continue
                # A chunk may be in several new packs: where this copy of it went, its neighbours went too.
                serial = self._copies.get((pack_no, frame_offset), self._chunks.get(chunk, -1))
                new, chunks = listed.get(serial, (0, set[bytes]()))
                if chunk not in chunks:
                    key = pack_key(PackId(row.pack_id))
                    raise PackDamagedError(key, None, f"its chunk {chunk.hex()} is in no new pack")
                found[pack_no].add(new)
        return found

    def _write(self, marks: Marks) -> None:
        """Write what is kept, in the order of the newest contents' leaves."""
        target = FRAME_PLAIN_TARGET if self._kind == KIND_DATA else NODE_FRAME_PLAIN_TARGET
        todo = outputs(marks, self._rows, target)
        running: deque[tuple[Copy | Group, Future[Frame]]] = deque()
        for done, output in enumerate(todo):
            running.append((output, self._pool.submit(self._frame, marks, output)))
            if len(running) > self._threads + 2:
                self._append(*running.popleft())
            self._tell(done, len(todo))
        while running:
            self._append(*running.popleft())
        self._tell(len(todo), len(todo))

    def _append(self, output: "Copy | Group", future: "Future[Frame]") -> None:
        frame, ids, sizes = future.result()
        serial = self._line.append(self._kind, frame, ids, sizes)
        if isinstance(output, Copy):
            self._copies[output.pack_no, output.frame.offset] = serial
        for chunk in ids:
            self._chunks.setdefault(chunk, serial)

    def _frame(self, marks: Marks, output: "Copy | Group") -> Frame:
        """Return the frame of an output; every chunk is checked against its id. Threads: any."""
        if isinstance(output, Copy):
            return self._copied(marks, output)
        views = [
            self._checked(self._load(kept.pack_no, kept.frame), kept.position, kept.chunk, kept.pack_no)
            for kept in output.kept
        ]
        sizes = [len(view) for view in views]
        frame = encode_frame(self._kind, b"".join(views), sizes, self._wiring.site.level)
        return frame, [kept.chunk for kept in output.kept], sizes

    def _copied(self, marks: Marks, output: "Copy") -> Frame:
        """Return an old frame as it is, decoded and checked like any."""
        span = output.frame
        trailer = marks.trailers[output.pack_no]
        try:
            stored = self._wiring.backend.get_range(self._key(output.pack_no), span.offset, span.size)
            header, plain = decode_frame(stored)
        except (DamageError, NotFoundError, FormatDamage) as error:
            raise _Unreadable(output.pack_no, str(error)) from None
        frame = DecodedFrame(header, plain)
        ids = [trailer.id_at(span.first_entry + position) for position in range(span.chunk_count)]
        sizes = [len(self._checked(frame, position, chunk, output.pack_no)) for position, chunk in enumerate(ids)]
        return stored, ids, sizes

    def _checked(self, frame: DecodedFrame, position: int, chunk: bytes, pack_no: int) -> memoryview:
        view = frame.chunk(position)
        hash_of = chunk_id if self._kind == KIND_DATA else node_id
        if view is None or hash_of(view) != chunk:
            raise _Unreadable(pack_no, f"its chunk {chunk.hex()} is damaged")
        return view

    def _load(self, pack_no: int, span: FrameSpan) -> DecodedFrame:
        found = self._cache.get((pack_no, span.offset))
        if found is None:
            try:
                header, plain = read_frame(self._wiring.backend, self._key(pack_no), span.offset, span.size)
            except (DamageError, NotFoundError) as error:
                raise _Unreadable(pack_no, str(error)) from None
            found = DecodedFrame(header, plain)
            self._cache.put((pack_no, span.offset), found)
        return found

    def _key(self, pack_no: int) -> str:
        return pack_key(PackId(self._rows[pack_no].pack_id))

    def _tell(self, done: int, todo: int) -> None:
        now_s = time.monotonic()
        if now_s - self._beat_at_s >= _HEARTBEAT_EVERY_S:
            self._beat_at_s = now_s
            self._wiring.catalog.heartbeat(self._session_id)
        if self._progress is not None:
            self._progress(Progress("repack", done, todo))


class _Unreadable(Exception):
    """A pack to rewrite does not give back a chunk that is needed."""

    def __init__(self, pack_no: int, why: str) -> None:
        self.pack_no = pack_no
        self.why = why
        super().__init__(why)
