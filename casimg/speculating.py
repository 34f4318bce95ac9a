"""Whether an upload is likely of a content whose hashes are known: then its bytes need not be hashed while they come.

As long as every segment is one that the repository holds as it is, whatever content it is of, an upload goes on
without its hashes. Ends it so, the root and the size name the content: when hashes of such a one are known, they are
those of the upload, since an equal root means equal bytes. When a segment is new, or no hashes are known in the end,
the beginning is read back from the packs that its chunks were found in, and hashed like all that follows. These packs
are on the live list of the session, so nothing that is deleted or collected meanwhile takes them away.

docs/decisions/0006-known-hashes.md has the figures.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Final

from casimg.assemble import ContentReader, PackRef
from casimg.catalog import PackRow
from casimg.catalog.hashed import hashed_size, hashes_of
from casimg.constants import MIB, SEGMENT_SIZE
from casimg.hashing import ALGORITHMS
from casimg.ids import ContentId, NodeId, PackId
from casimg.index.entries import EntryLists
from casimg.manifest.shape import segment_size
from casimg.manifest.walk import Tree, load_leaf
from casimg.pack.keys import pack_key
from casimg.pieces import read_piece
from casimg.wiring import Wiring

_LATE_SIZE: Final = 8 << 30
"""So much is read back in some ten seconds, in which the client waits."""
_CHECK_EVERY_S: Final = 0.5
_ZEROS: Final = bytes(MIB // 4)


class Speculation:
    """One upload's; what it asks of the catalog are plain reads.

    Args:
        size: of what comes; None when nobody knows.
        content_id: of what comes, for errors.
        noted: returns the packs in which known segments were found so far.
    Threads: one until `end`, then any one.
    """

    def __init__(
        self, wiring: Wiring, size: int | None, content_id: ContentId, noted: Callable[[], Sequence[PackRow]]
    ) -> None:
        self._wiring = wiring
        self._size = size
        self._content_id = content_id
        self._noted = noted
        self._packs: Sequence[PackRow] = ()
        self._leaves: list[NodeId | None] = []
        self._size_max: int | None = None

    def is_worth(self) -> bool:
        """Tell whether anything may come of it, before the first byte has."""
        if self._wiring.shared.distrust.take(self._size):
            return False
        if self._size is not None:
            self._size_max = self._hashed_size()
        return self._size is None or self._size_max is not None

    def goes_on(self, leaf: NodeId | None, *, is_known: bool) -> bool:
        """Judge the next segment: may all that has come be the beginning of something whose hashes are known?"""
        if not is_known:
            return False
        if self._size_max is None:
            # Of unknown size: a content of any that is long enough will do.
            self._size_max = self._hashed_size()
            if self._size_max is None:
                return False
        if len(self._leaves) * SEGMENT_SIZE >= self._size_max:
            return False
        self._leaves.append(leaf)
        return True

    def hashes(self, root: NodeId | None, size: int) -> Mapping[str, str] | None:
        """Return the hashes of what has come, all of whose segments were judged; None when they are not known."""
        return self._wiring.catalog.read(partial(hashes_of, algorithms=ALGORITHMS, root=root, size=size))

    def end(self) -> None:
        """Judge no more; what was judged can be read back from now on."""
        self._packs = self._noted()

    def failed(self, error: BaseException | None) -> None:
        """Learn that it came to nothing: after much time, or damage, the next try shall not go the same way."""
        if error is not None or len(self._leaves) * SEGMENT_SIZE >= _LATE_SIZE:
            self._wiring.shared.distrust.add(self._size)

    @contextmanager
    def turn(self, check: Callable[[], None]) -> Iterator[None]:
        """Wait for a turn to read back, which ends with the block; `check` raises when it is not wanted any more."""
        turns = self._wiring.shared.read_backs
        while not turns.acquire(timeout=_CHECK_EVERY_S):
            check()
        try:
            yield
        finally:
            turns.release()

    def read_back(self, size: int, take_buffer: Callable[[], bytearray]) -> Iterator[memoryview]:
        """Yield the bytes of the judged segments, in order.

        Args:
            size: of all that has come: the last segment may be short.
            take_buffer: gives a segment buffer that may be written over.
        Raises: ChunkLostError, NodeDamagedError, and what the backend raises.
        """
        reader = self._reader(size)
        for number, leaf in enumerate(self._leaves):
            part_size = segment_size(size, number)
            if leaf is None:
                for at in range(0, part_size, len(_ZEROS)):
                    yield memoryview(_ZEROS)[: part_size - at]
                continue
            node = load_leaf(reader.node, reader.tree, number, leaf)
            view = memoryview(take_buffer())[:part_size]
            read_piece(reader, node, 0, view, by_runs=True)
            yield view

    def _reader(self, size: int) -> ContentReader:
        wiring = self._wiring
        rows = {row.pack_no: row for row in self._packs}
        packs = {
            row.pack_no: PackRef(row.pack_no, pack_key(PackId(row.pack_id)), row.size, row.trailer_offset)
            for row in rows.values()
        }
        return ContentReader(
            content_id=self._content_id,
            tree=Tree(None, size),
            packs=packs,
            backend=wiring.backend,
            index=wiring.index,
            lists=EntryLists(lambda pack_no: wiring.load_trailer(rows[pack_no]), cache=wiring.shared.trailers),
            refresh=lambda: packs,  # no repack takes a pack from a session that may rely on it
            cache=wiring.frames,
            patience=wiring.patience,
        )

    def _hashed_size(self) -> int | None:
        return self._wiring.catalog.read(partial(hashed_size, algorithms=ALGORITHMS, size=self._size))
