"""What the catalog tells of caches: entered only while the image is there, once for each node, gone with the image."""

import threading

import pytest

from casimg.catalog import Catalog
from casimg.catalog.edits import register, set_active
from casimg.errors import ImageNotFoundError, InputError
from casimg.ids import ImageId
from casimg.image_cache import ImageCache
from tests.catalog_making import OpenCatalog, new_image, save_image


@pytest.fixture
def here(catalog: Catalog) -> ImageCache:
    return ImageCache(OpenCatalog(catalog), "here")


@pytest.fixture
def there(catalog: Catalog) -> ImageCache:
    return ImageCache(OpenCatalog(catalog), "there")


@pytest.fixture
def image_id(catalog: Catalog) -> ImageId:
    return save_image(catalog)[0].id


def told(cache: ImageCache) -> list[tuple[str, str]]:
    return [(image.image_id, image.state) for image in cache.images()]


def test_only_an_active_image_is_queued(catalog: Catalog, here: ImageCache, image_id: ImageId) -> None:
    """Y1: an image without data, a deactivated one and a deleted one are refused; a second request changes nothing."""
    queued = new_image("queued")
    catalog.transaction(lambda connection: register(connection, queued))
    off = save_image(catalog, "off")[0].id
    catalog.transaction(lambda connection: set_active(connection, off, is_active=False))
    gone = save_image(catalog, "gone")[0].id
    catalog.delete_image(gone)
    for refused in (queued.id, off, gone, ImageId("none")):
        with pytest.raises(ImageNotFoundError):
            here.enqueue(refused)
    assert here.enqueue(image_id)
    assert not here.enqueue(image_id)
    assert told(here) == [(image_id, "queued")]


def test_queued_by_many_at_once(here: ImageCache, image_id: ImageId) -> None:
    """Y1: of many who ask at the same time one enters the row, and nobody fails."""
    answers: list[bool] = []
    threads = [threading.Thread(target=lambda: answers.append(here.enqueue(image_id))) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(answers) == [False] * 7 + [True]


def test_what_is_kept_is_told(here: ImageCache, there: ImageCache, image_id: ImageId) -> None:
    """Y2: a file is told with its sizes, in the queue's place, and again with new ones; other nodes have none."""
    here.enqueue(image_id)
    assert here.keep(image_id, 1000, 400)
    assert here.keep(image_id, 1000, 500)
    (image,) = here.images("cached")
    assert (image.image_id, image.size, image.stored_size, image.hits) == (image_id, 1000, 500, 0)
    assert image.created_at <= image.accessed_at
    assert here.images("queued") == []
    assert told(there) == []
    assert here.nodes(image_id) == ["here"]
    there.keep(image_id, 1000, 400)
    assert here.nodes(image_id) == ["here", "there"]


def test_what_was_taken_from_the_queue_is_not_kept(here: ImageCache, image_id: ImageId) -> None:
    """Y2: a fetch whose image was dropped meanwhile is told so, and enters nothing; a wanted one is kept."""
    here.enqueue(image_id)
    assert here.drop(image_id, "queued")
    assert not here.keep(image_id, 10, 10, only_queued=True)
    assert told(here) == []
    here.enqueue(image_id)
    assert here.keep(image_id, 10, 10, only_queued=True)
    assert told(here) == [(image_id, "cached")]


def test_a_deleted_image_is_not_kept(catalog: Catalog, here: ImageCache, image_id: ImageId) -> None:
    """Y2: whoever has written a file learns that its image went meanwhile."""
    catalog.delete_image(image_id)
    with pytest.raises(ImageNotFoundError):
        here.keep(image_id, 10, 10)
    assert told(here) == []


def test_hits_are_counted(here: ImageCache, there: ImageCache, image_id: ImageId, catalog: Catalog) -> None:
    """Downloads add up on their node, and make the image used; of what is not there they enter nothing."""
    here.keep(image_id, 10, 10)
    there.keep(image_id, 10, 10)
    other = save_image(catalog, "other")[0].id
    before = here.images()[0].accessed_at
    here.count_hits({image_id: 3, other: 2})
    here.count_hits({image_id: 1})
    assert [(image.image_id, image.hits) for image in here.images()] == [(image_id, 4)]
    assert here.images()[0].accessed_at >= before
    assert [image.hits for image in there.images()] == [0]


def test_the_queue_is_in_order(catalog: Catalog, here: ImageCache) -> None:
    """What was asked for first is first."""
    asked = [save_image(catalog, f"image {number}")[0].id for number in range(5)]
    for number, image_id in enumerate(asked):
        here.enqueue(image_id)
        catalog.transaction(
            lambda connection, number=number, image_id=image_id: connection.exec_driver_sql(  # type: ignore[misc]  # mypy has no type for lambdas with defaults
                f"UPDATE cached_images SET created_at = created_at + {number} WHERE image_id = '{image_id}'"
            )
        )
    assert [image.image_id for image in here.images("queued")] == asked


@pytest.mark.parametrize("name", ["", "x" * 256, "a\0b", "\ud800"])
def test_a_name_that_no_column_holds(catalog: Catalog, name: str) -> None:
    """A node has a name that every database keeps."""
    with pytest.raises(InputError):
        ImageCache(OpenCatalog(catalog), name)


def test_images_that_are_gone_are_told(catalog: Catalog, here: ImageCache) -> None:
    """Deleted images are named until the node drops them, queued ones too; deactivated ones stay."""
    kept, deleted, queued, off = (save_image(catalog, name)[0].id for name in "abcd")
    for image_id in (kept, deleted, off):
        here.keep(image_id, 1, 1)
    here.enqueue(queued)
    catalog.delete_image(deleted)
    catalog.delete_image(queued)
    catalog.transaction(lambda connection: set_active(connection, off, is_active=False))
    assert set(here.gone()) == {deleted, queued}
    for image_id in here.gone():
        here.drop(image_id)
    assert here.gone() == []
    assert {image.image_id for image in here.images()} == {kept, off}
