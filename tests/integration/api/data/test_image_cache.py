"""The cache of whole images over a socket: what was downloaded once comes from the server's folder, never wrong."""

import hashlib
import time
from pathlib import Path

import pytest

from casimg.constants import SEGMENT_SIZE
from tests.conftest import mixed_bytes
from tests.integration.api.data.conftest import Serve
from tests.integration.api.data.serving import Server

_DATA = bytes(mixed_bytes(2 * SEGMENT_SIZE + 12_345))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "cache"


@pytest.fixture
def caching(serve: Serve, folder: Path) -> Server:
    """A server with a cache; it has no authentication, so everybody is administrator."""
    return serve(f'[cache]\nimage_cache_dir = "{folder}"\n')


def _stored(server: Server) -> str:
    image_id = server.create(name="data")
    assert server.upload(image_id, _DATA).status == 204
    return image_id


def _wait_until_cached(server: Server, image_id: str) -> None:
    give_up_s = time.monotonic() + 30
    while image_id not in [image["image_id"] for image in server.ask("GET", "/v2/cache").json()["cached_images"]]:
        assert time.monotonic() < give_up_s, "it was never cached"
        time.sleep(0.05)


def _is_right(server: Server, image_id: str) -> bool:
    answer = server.download(image_id)
    return answer.status == 200 and hashlib.sha512(answer.data).digest() == hashlib.sha512(_DATA).digest()


def test_a_download_fills_the_cache(caching: Server, folder: Path) -> None:
    """After one whole download the folder has the image, and whole images and ranges come right from there too."""
    image_id = _stored(caching)
    assert _is_right(caching, image_id)
    _wait_until_cached(caching, image_id)
    assert (folder / image_id).is_file()
    assert _is_right(caching, image_id)
    start, end = SEGMENT_SIZE - 7, SEGMENT_SIZE + 100_000
    answer = caching.download(image_id, {"Range": f"bytes={start}-{end - 1}"})
    assert (answer.status, answer.data) == (206, _DATA[start:end])


@pytest.mark.parametrize("place", [100, SEGMENT_SIZE + 5, len(_DATA) - 1])
def test_a_flipped_bit_never_reaches_a_client(caching: Server, folder: Path, place: int) -> None:
    """A damaged file is dropped; the client gets the bytes that were stored."""
    image_id = _stored(caching)
    assert _is_right(caching, image_id)
    _wait_until_cached(caching, image_id)
    with (folder / image_id).open("r+b") as file:
        file.seek(place)
        byte = file.read(1)[0]
        file.seek(place)
        file.write(bytes([byte ^ 1]))
    assert _is_right(caching, image_id)
    assert _is_right(caching, image_id)


def test_what_is_queued_is_fetched(caching: Server) -> None:
    """An image that an administrator asks for is fetched without a download; only active ones can be asked for."""
    assert caching.ask("PUT", f"/v2/cache/{caching.create(name='empty')}").status == 400
    assert caching.ask("PUT", "/v2/cache/00000000-0000-4000-8000-000000000000").status == 404
    image_id = _stored(caching)
    assert caching.ask("PUT", f"/v2/cache/{image_id}").status == 202
    _wait_until_cached(caching, image_id)
    assert caching.ask("DELETE", "/v2/cache", headers={"x-image-cache-clear-target": "else"}).status == 400
    assert caching.ask("DELETE", "/v2/cache").status == 204
    assert caching.ask("GET", "/v2/cache").json() == {"cached_images": [], "queued_images": []}


def test_a_deleted_image_leaves_the_cache(caching: Server, folder: Path) -> None:
    """What is deleted is not sent, and its file goes at once."""
    image_id = _stored(caching)
    assert _is_right(caching, image_id)
    _wait_until_cached(caching, image_id)
    assert caching.ask("DELETE", f"/v2/images/{image_id}").status == 204
    assert caching.download(image_id).status == 404
    assert not (folder / image_id).exists()


def test_garbage_in_the_folder_is_nobodys(caching: Server, folder: Path) -> None:
    """Files of other names stay; a file that says it is an image and is none is not believed."""
    image_id = _stored(caching)
    (folder / "notes.txt").write_text("mine")
    (folder / image_id).write_bytes(b"no image")
    assert _is_right(caching, image_id)
    assert caching.ask("POST", "/v2/cache/clean").status == 200
    assert (folder / "notes.txt").read_text() == "mine"
    assert _is_right(caching, image_id)


def test_pruning_brings_it_below_its_size(serve: Serve, folder: Path) -> None:
    """The cache takes no more than it may: what is too large for it is sent and not kept."""
    small = serve(f'[cache]\nimage_cache_dir = "{folder}"\nimage_cache_max_size = {SEGMENT_SIZE}\n')
    image_id = _stored(small)
    assert _is_right(small, image_id)
    pruned = small.ask("POST", "/v2/cache/prune").json()
    assert set(pruned) == {"total_files_pruned", "total_bytes_pruned"}
    assert sum(file.stat().st_size for file in folder.rglob("*") if file.is_file()) <= SEGMENT_SIZE
