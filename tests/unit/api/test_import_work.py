"""Copies of an import to one store after the other: what is marked, what is taken back, and what ends them at once."""

import threading
from collections.abc import Callable, Collection, Mapping
from types import SimpleNamespace
from typing import Any, cast

import pytest

from casimg.errors import (
    CancelledError,
    CasimgError,
    CopyExistsError,
    ImageDeletedError,
    NoSpaceError,
    TaskEndedError,
)
from casimg.ids import ImageId
from casimg.progress import Progress
from casimg_api.config import Config
from casimg_api.errors import HttpError
from casimg_api.fetch_rules import FetchRules
from casimg_api.fetching import Fetcher
from casimg_api.import_data import Job, StoppedError
from casimg_api.import_marks import Marks
from casimg_api.import_work import Work
from casimg_api.unified_limits import UPLOADING, Count, Keeper, UnifiedLimits

IMAGE = ImageId("7f0c3c2e-0000-4000-8000-000000000001")
FULL = NoSpaceError("here")


class Images:
    """Copies images as the registry does, as far as that is looked at here."""

    def __init__(self, errors: dict[str, CasimgError] | None = None) -> None:
        self.errors = errors or {}
        self.made: list[str] = []
        self.properties: dict[str, str] = {}
        self.shown: list[str] = []

    def copy(
        self, image_id: ImageId, store: str, *, progress: Callable[[Progress], None], cancel: threading.Event
    ) -> None:
        assert image_id == IMAGE
        assert not cancel.is_set()
        progress(Progress("read", 1, 1))
        if store in self.errors:
            raise self.errors[store]
        self.made.append(store)

    def remove_copy(self, image_id: ImageId, store: str) -> None:
        assert image_id == IMAGE
        self.made.remove(store)

    def show(self, image_id: ImageId, _viewer: object) -> Any:
        return SimpleNamespace(id=image_id, properties=self.properties, revision=1, size=10)

    def usage(self, project: str) -> Any:
        assert project == "p"
        return SimpleNamespace(size=10 * (1 + len(self.made)))

    def edit(self, _image_id: ImageId, edit: Any, *, revision: int) -> None:
        assert revision == 1
        self.properties = dict(edit.properties)
        self.shown.append(
            f"{edit.properties['os_glance_importing_to_stores']}|{edit.properties['os_glance_failed_import']}"
        )


def copy(
    images: Images, *, must_all: bool = True, quota: str = "0", make_keeper: Callable[[Count], Keeper] | None = None
) -> None:
    registry = cast(Any, images)
    config = Config.of({"data": {"user_storage_quota": quota}}, "test")
    fetcher = Fetcher(FetchRules(config.import_filtering_opts), 1, 1)
    work = Work(registry, cast(Any, None), config, UnifiedLimits(registry, make_keeper), fetcher, threading.Event())
    job = Job("copy-image", IMAGE, "task", "p", ("a", "b", "c"), must_all, shows_stores=True)
    work.do(job, Marks(registry, job))


def test_each_store_is_marked() -> None:
    """The image shows which stores are left while they are copied to; one that has it by now is as good as copied."""
    images = Images({"b": CopyExistsError(IMAGE, "b")})
    copy(images)
    assert images.made == ["a", "c"]
    assert images.shown == ["b,c|", "c|"]


def test_what_was_copied_goes_again() -> None:
    """When all must succeed the first failure ends it, and takes back this task's copies alone."""
    images = Images({"a": CopyExistsError(IMAGE, "a"), "c": FULL})
    with pytest.raises(NoSpaceError):
        copy(images)
    assert images.made == []


def test_one_failure_of_several() -> None:
    """When not all must succeed, the others are copied to, and the one that failed is shown."""
    images = Images({"a": FULL})
    copy(images, must_all=False)
    assert images.made == ["b", "c"]
    assert images.shown == ["b,c|a", "c|a"]


def test_failure_of_all() -> None:
    """When none has succeeded the import has failed, whatever was asked."""
    with pytest.raises(NoSpaceError):
        copy(Images({"a": FULL, "b": FULL, "c": FULL}), must_all=False)


def test_every_copy_counts() -> None:
    """A copy that would go beyond the quota of the project fails as one that finds no space."""
    images = Images()
    copy(images, must_all=False, quota="35B")
    assert images.made == ["a", "b"]
    images = Images()
    with pytest.raises(HttpError, match="quota"):
        copy(images, quota="35B")
    assert images.made == []


def test_keystone_says_no() -> None:
    """A copy of a project that has as many images at work as it may fails before it begins."""

    class Full:
        def enforce(self, project: str, deltas: Mapping[str, int]) -> None:
            assert (project, dict(deltas)) == ("p", {UPLOADING: 1})
            raise HttpError(413, "over limit")

        def figures(self, project: str, names: Collection[str]) -> Mapping[str, tuple[int, int]]:
            raise NotImplementedError

    images = Images()
    with pytest.raises(HttpError, match="over limit"):
        copy(images, must_all=False, make_keeper=lambda _count: Full())
    assert images.made == []


@pytest.mark.parametrize("error", [ImageDeletedError(IMAGE, "image {} was deleted"), TaskEndedError("task", "failure")])
def test_no_other_store_would_help(error: CasimgError) -> None:
    """An image that is deleted, or a task that was taken for dead, ends it at once, also when not all must succeed."""
    images = Images({"b": error})
    with pytest.raises(type(error)):
        copy(images, must_all=False)
    assert images.made == []


def test_a_stop_takes_back() -> None:
    """The end of the process is told as such, and leaves the stores as they were."""
    images = Images({"b": CancelledError("copy")})
    with pytest.raises(StoppedError):
        copy(images)
    assert images.made == []
