"""A repository against a dict: put, get, snapshot, delete, gc, reopen, index loss, in any order."""

import io
import shutil
import tempfile
from pathlib import Path

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, invariant, rule

import casimg
from casimg.constants import SEGMENT_SIZE
from casimg.gc.plan import plan_collection
from casimg.gc.waste import RepackRules
from casimg.results.images import ByteRange
from tests.conftest import mixed_bytes

EAGER = RepackRules(unused_max=0.0, unused_pack_max=0.0, small_count=2)

edits = st.lists(st.tuples(st.integers(0, 6 * SEGMENT_SIZE), st.integers(0, 30_000), st.booleans()), max_size=4)


class RepositoryMachine(RuleBasedStateMachine):
    """The model is image id -> bytes."""

    images = Bundle("images")

    def __init__(self) -> None:
        super().__init__()
        self.folder = Path(tempfile.mkdtemp(prefix="casimg-machine-"))
        self.repo = casimg.create(self.folder / "repo", chunk_size=4096)
        self.model: dict[str, bytes] = {}
        self.count = 0

    def teardown(self) -> None:
        self.repo.close()
        shutil.rmtree(self.folder)

    def _name(self) -> str:
        self.count += 1
        return f"image-{self.count}"

    @rule(target=images, seed=st.integers(0, 4), size=st.sampled_from((0, 1, 4096, 100_001, SEGMENT_SIZE + 7)))
    def put(self, seed: int, size: int) -> str:
        """Store bytes, often ones stored before."""
        data = bytes(mixed_bytes(size, seed))
        image = self.repo.put(io.BytesIO(data), name=self._name())
        self.model[image.id] = data
        return image.id

    @rule(target=images, parent=images, changes=edits, grow=st.integers(-50_000, 50_000), mapped=st.booleans())
    def snapshot_disk(self, parent: str, changes: list[tuple[int, int, bool]], grow: int, mapped: bool) -> str:
        """Store a changed disk; with and without a map gives the same root."""
        if parent not in self.model:
            return parent
        data = bytearray(self.model[parent])
        ranges = []
        for wish, length, zero in changes:
            offset = wish % (len(data) + 1)
            size = min(length, len(data) - offset)
            data[offset : offset + size] = bytes(size) if zero else mixed_bytes(size, offset)
            ranges.append(ByteRange(offset, size))
        data = data[: max(0, len(data) + grow)] + mixed_bytes(max(0, grow), 9)
        ranges = [
            ByteRange(r.offset, max(0, min(r.size, len(data) - r.offset))) for r in ranges if r.offset <= len(data)
        ]
        file = self.folder / "disk.raw"
        file.write_bytes(data)
        report = self.repo.snapshot_report(parent, name=self._name(), source=file, changed=ranges if mapped else None)
        whole = self.repo.put_report(file, name=self._name(), dry_run=True)
        assert (report.root, report.size, report.hole_size) == (whole.root, whole.size, whole.hole_size)
        assert whole.new_size == 0
        assert report.image is not None
        self.model[report.image.id] = bytes(data)
        return report.image.id

    @rule(target=images, parent=images)
    def snapshot_image(self, parent: str) -> str:
        """Snapshot a stored image: one row."""
        if parent not in self.model:
            return parent
        image = self.repo.snapshot(parent, name=self._name())
        self.model[image.id] = self.model[parent]
        return image.id

    @rule(image=consumes(images))
    def delete(self, image: str) -> None:
        """Delete an image; the others keep every byte."""
        if self.model.pop(image, None) is not None:
            self.repo.delete(image)

    @rule()
    def collect(self) -> None:
        """Collect garbage; nothing that is needed goes."""
        self.repo.plan_gc().execute()
        if not self.model:
            assert self.repo.stats().stored_size == 0

    @rule()
    def rewrite(self) -> None:
        """Collect and rewrite whatever could be smaller; then only what is needed is there."""
        plan_collection(self.repo._wiring, EAGER).execute()
        assert self.repo.check(read_data=True).problems == ()
        plan = plan_collection(self.repo._wiring, EAGER).plan
        assert (plan.pack_count, plan.repack_pack_count) == (0, 0)

    @rule()
    def reopen(self) -> None:
        """Close and open."""
        self.repo.close()
        self.repo = casimg.open(self.folder / "repo")

    @rule()
    def lose_index(self) -> None:
        """Delete the index while closed."""
        self.repo.close()
        shutil.rmtree(self.folder / "repo" / "index")
        self.repo = casimg.open(self.folder / "repo")

    @rule(image=images)
    def get(self, image: str) -> None:
        """What comes out is what went in."""
        if image in self.model:
            sink = io.BytesIO()
            self.repo.get(image, sink)
            assert sink.getvalue() == self.model[image]

    @rule(a=images, b=images)
    def diff(self, a: str, b: str) -> None:
        """Outside the exact ranges two images are equal; applying the ranges to one gives the other."""
        if a not in self.model or b not in self.model:
            return
        left, right = self.model[a], self.model[b]
        patched = bytearray(left[: len(right)].ljust(len(right), b"\0"))
        for item in self.repo.diff(a, b, exact=True).ranges:
            patched[item.offset : item.offset + item.size] = right[item.offset : item.offset + item.size]
        assert bytes(patched[: len(right)]) == right

    @invariant()
    def lists_agree(self) -> None:
        """The list of images is the model's."""
        assert {image.id for image in self.repo.images()} == set(self.model)


RepositoryMachine.TestCase.settings = settings(max_examples=15, stateful_step_count=20, deadline=None)
TestRepositoryMachine = RepositoryMachine.TestCase
