"""Changes of an image's locations by a patch, and what must hold of a new location; statuses are Glance's.

A new location is asked for its size before it counts. A location of the repository's own data is a name that only the
server gives: a client can name one that its image has, and no other.
"""

import time
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

from casimg.catalog import ImageRow, Location
from casimg.locations import OWN_SCHEME, Located
from casimg.registry import Edit
from casimg_api.errors import HttpError
from casimg_api.fetch_rules import FetchRefusedError
from casimg_api.fetching import FetchError
from casimg_api.places import Place
from casimg_api.quota import copy_limits_of
from casimg_api.rules import check_count
from casimg_api.views import HASH_ALGORITHM

if TYPE_CHECKING:
    from casimg_api.context import Call
    from casimg_api.http_store import HttpStore
    from casimg_api.patch import Change

ASKED_COUNT_MAX: Final = 32
"""So many new URLs are looked at for one request."""
ASKED_TIME_MAX_S: Final = 60.0
"""After this no further one is asked: somebody waits for the answer."""
_OPEN: Final = ("active", "queued")
_DIGEST_SIZES: Final = {"md5": 16, "sha1": 20, "sha256": 32, "sha512": 64}
_POSITION_DIGITS_MAX: Final = 6


class Sizes:
    """How many bytes are at URLs: each is asked once for a request. Threads: one.

    Args:
        store: None where data cannot be on web servers.
    """

    def __init__(self, store: "HttpStore | None") -> None:
        self._store = store
        self._known: dict[str, int] = {}
        self._begun_s = time.monotonic()

    def of(self, url: str) -> int:
        """Return how many bytes are at a URL. Raises: HttpError 400, 413."""
        found = self._known.get(url)
        if found is None:
            if len(self._known) >= ASKED_COUNT_MAX:
                raise HttpError(413, f"More than {ASKED_COUNT_MAX} new locations in one request.")
            if time.monotonic() - self._begun_s > ASKED_TIME_MAX_S:
                raise HttpError(400, "Invalid location: the web servers of this request are too slow.")
            found = self._known[url] = size_at(self._store, url)
        return found


def size_at(store: "HttpStore | None", url: str) -> int:
    """Return how many bytes are at a URL. Raises: HttpError 400, which repeats no URL: they may hold signatures."""
    scheme = url.partition(":")[0].lower()
    if scheme not in ("http", "https") or store is None:
        known = "none of its own" if scheme == OWN_SCHEME else "no store for this scheme"
        raise HttpError(400, f"Invalid location: the site has {known}.")
    try:
        return store.size(url)
    except (FetchRefusedError, FetchError) as error:
        raise HttpError(400, f"Invalid location: {error}.") from None


def check_hash(algo: str, value: str, status: int) -> None:
    """Raise an error of this status unless a value is a hash of this algorithm in hexadecimal."""
    try:
        size = len(bytes.fromhex(value))
    except ValueError:
        raise HttpError(status, f"os_hash_value ({value}) is not a valid hexadecimal value") from None
    if size != _DIGEST_SIZES[algo] or len(value) != 2 * size:
        wanted = _DIGEST_SIZES[algo]
        raise HttpError(
            status, f"os_hash_value ({value}) is not the correct size for {algo} (should be {wanted} bytes)"
        )


class LocationChanges:
    """The locations of one image while a patch is applied to it; nothing is written here.

    Args:
        sizes: asked for those of new locations.
    """

    def __init__(self, call: "Call", row: ImageRow, sizes: Sizes) -> None:
        self._call = call
        self._row = row
        self._sizes = sizes
        self._status = row.status
        # What a try before left at a queued image is not its data: the next location takes its place.
        self._places: list[Place] = [] if row.status == "queued" else call.places.of(row)
        self._size = row.size
        self._said = {
            "checksum": row.hashes.get("md5"),
            "os_hash_algo": row.hash_algo or (HASH_ALGORITHM if HASH_ALGORITHM in row.hashes else None),
            "os_hash_value": row.hashes.get(row.hash_algo or HASH_ALGORITHM),
        }
        self._is_changed = False
        self._own_left: list[str] = []

    def change(self, change: "Change", formats: Sequence[str | None]) -> None:
        """Apply one operation of a patch. Raises: HttpError 400, 403, 409, 413.

        Args:
            formats: of the disk and the container, as the patch makes them.
        """
        if change.op == "remove":
            self._remove(change.path[1])
            return
        if self._status not in _OPEN:
            raise HttpError(409, f"It's not allowed to {change.op} locations if image status is {self._status}.")
        given = change.value if change.op == "replace" else [change.value]
        said = self._new_said(given)
        if change.op == "replace":
            self._replace(given)
        else:
            self._add(change.path[1], given[0])
        if self._status == "queued":
            if not all(formats):
                raise HttpError(400, "Properties disk_format, container_format must be set prior to saving data.")
            self._said.update(said)
            self._status = "active"
        self._is_changed = True

    def edit(self) -> Edit:
        """Return the edit that makes the image's locations what they are now."""
        if not self._is_changed:
            return Edit()
        has_own = any(place.is_own for place in self._places)
        locations = tuple(Location(place.url, place.metadata) for place in self._places if not place.is_own)
        return Edit(
            located=Located(
                locations,
                keeps_content=has_own,
                size=self._size,
                hash_algo=self._said["os_hash_algo"],
                hash_value=self._said["os_hash_value"],
                checksum=self._said["checksum"],
            )
        )

    @property
    def left_stores(self) -> tuple[str, ...]:
        """Return the stores that copies were taken from, when the repository still has another one."""
        return tuple(self._own_left) if any(place.is_own for place in self._places) else ()

    def _add(self, where: str, given: Mapping[str, Any]) -> None:
        position = self._position(where, is_new=True)
        self._check_count(len(self._places) + 1)
        place = self._checked(given)
        if any((one.url, one.metadata) == (place.url, place.metadata) for one in self._places):
            raise HttpError(400, "The location is there already.")
        self._check_quota(1)
        own_count = sum(one.is_own for one in self._places)
        self._places.insert(max(own_count, position), place)

    def _replace(self, given: Sequence[Mapping[str, Any]]) -> None:
        self._check_count(len(given))
        if self._places:
            if sorted(one["url"] for one in given) != sorted(place.url for place in self._places):
                raise HttpError(400, "The image has locations; all of them, and no others, can be described anew.")
            self._places = self._described(given)
            return
        places = [self._checked(one) for one in given]
        if len({(place.url, repr(sorted(place.metadata.items()))) for place in places}) < len(places):
            raise HttpError(400, "A location is there twice.")
        self._check_quota(len(places))
        self._places = places

    def _described(self, given: Sequence[Mapping[str, Any]]) -> list[Place]:
        """Return the locations that there are with other metadata, in another order; own data stay as they are."""
        own = [place for place in self._places if place.is_own]
        metadata = {one["url"]: self._metadata(one["metadata"], own, one["url"]) for one in given}
        if any(metadata[place.url] != place.metadata for place in own):
            raise HttpError(400, "The metadata of data in the repository cannot be set.")
        urls = {place.url for place in own}
        http = self._call.stores.http
        others = [one for one in given if one["url"] not in urls]
        return [
            *own,
            *(
                Place(one["url"], self._call.places.metadata(one["metadata"], http), http, is_own=False)
                for one in others
            ),
        ]

    def _metadata(self, metadata: Mapping[str, Any], own: Iterable[Place], url: str) -> dict[str, Any]:
        store = next((place.store for place in own if place.url == url), None)
        return self._call.places.metadata(metadata, store)

    def _remove(self, where: str) -> None:
        if self._status != "active":
            raise HttpError(409, f"It's not allowed to remove locations if image status is {self._status}.")
        if len(self._places) == 1:
            raise HttpError(403, "Cannot remove last location in the image.")
        gone = self._places.pop(self._position(where, is_new=False))
        if gone.is_own and gone.store is not None:
            self._own_left.append(gone.store)
            if len(self._own_left) > 1 and not any(place.is_own for place in self._places):
                raise HttpError(409, "The repository's copies are removed one by one.")
        self._is_changed = True

    def _checked(self, given: Mapping[str, Any]) -> Place:
        """Return a new location that holds as many bytes as the image. Raises: HttpError 400, 413."""
        url, http = given["url"], self._call.stores.http
        if any(place.is_own and place.url == url for place in self._places):
            raise HttpError(400, "The location is there already.")
        size = self._sizes.of(url)
        if self._size is not None and size != self._size:
            raise HttpError(400, f"Invalid location: it has {size} bytes, the image {self._size}.")
        self._size = size
        return Place(url, self._call.places.metadata(given["metadata"], http), http, is_own=False)

    def _check_count(self, attempted: int) -> None:
        check_count("locations", attempted, self._call.config.images.image_location_quota)

    def _check_quota(self, count: int) -> None:
        call = self._call
        for limit in copy_limits_of(call.registry, call.config.data, call.caller.project_id, count):
            limit.check(self._size or 0)

    def _position(self, where: str, *, is_new: bool) -> int:
        """Return which location a pointer means. Raises: HttpError 400."""
        count = len(self._places)
        if where == "-":
            return count if is_new else count - 1
        if (
            where.isascii()
            and where.isdigit()
            and len(where) <= _POSITION_DIGITS_MAX
            and (is_new or int(where) < count)
        ):
            return int(where)
        raise HttpError(400, f"Invalid position for {'adding' if is_new else 'removing'} a location.")

    def _new_said(self, given: Sequence[Mapping[str, Any]]) -> dict[str, str]:
        """Return what clients say of the data that was not known. Raises: HttpError 409."""
        said: dict[str, str] = {}
        for one in given:
            for name, value in one.get("validation_data", {}).items():
                if said.setdefault(name, value) != value:
                    raise HttpError(409, f"Conflicting values for {name}")
        new = {name: value for name, value in said.items() if value != self._said[name]}
        for name in new:
            if self._said[name]:
                raise HttpError(409, f"{name} is already set with a different value")
        if not new:
            return {}
        if self._status != "queued":
            names = ", ".join(new)
            raise HttpError(409, f"New value(s) for {names} may only be provided when image status is 'queued'")
        if "checksum" in new:
            _check_md5(new["checksum"])
        if new.get("os_hash_algo") != HASH_ALGORITHM:
            raise HttpError(409, f"os_hash_algo must be {HASH_ALGORITHM}, not {new.get('os_hash_algo')}")
        check_hash(HASH_ALGORITHM, new["os_hash_value"], 409)
        return {name: value if name == "os_hash_algo" else value.lower() for name, value in new.items()}


def _check_md5(checksum: str) -> None:
    try:
        size = len(bytes.fromhex(checksum))
    except ValueError:
        raise HttpError(409, f"checksum ({checksum}) is not a valid hexadecimal value") from None
    if size != _DIGEST_SIZES["md5"]:
        raise HttpError(409, f"checksum ({checksum}) is not the correct size for md5 (should be 16 bytes)")
