"""Images of the service of another region: found in the caller's catalog, asked for with the caller's token.

The token goes to the address that the catalog names and nowhere else; it is kept in memory, as long as the import lasts.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from casimg_api.fetching import FetchError, Fetcher
from casimg_api.requests import check_text

_DOCUMENT_SIZE_MAX: Final = 1 << 20
_CATALOG_KEY: Final = "HTTP_X_SERVICE_CATALOG"
_TOKEN_KEY: Final = "HTTP_X_AUTH_TOKEN"


@dataclass(frozen=True, slots=True)
class RemoteImage:
    """An image somewhere else.

    Args:
        url: of the image, without `/file`; None when the caller's catalog knows no such service.
    """

    url: str | None
    token: str = field(repr=False)

    @property
    def headers(self) -> Mapping[str, str]:
        return {"X-Auth-Token": self.token}


@dataclass(frozen=True, slots=True)
class Description:
    """What the other service says of an image."""

    size: int
    disk_format: str
    container_format: str
    properties: Mapping[str, str]


def remote_image(environ: Mapping[str, Any], region: str, image_id: str, interface: str) -> RemoteImage:
    """Return where an image is, from what keystonemiddleware says of the caller; only behind it."""
    endpoint = find_endpoint(environ.get(_CATALOG_KEY, ""), region, interface)
    url = None if endpoint is None else f"{endpoint.rstrip('/')}/v2/images/{image_id}"
    return RemoteImage(url, environ.get(_TOKEN_KEY, ""))


def find_endpoint(catalog: str, region: str, interface: str) -> str | None:
    """Return the image service of a region in a catalog, as keystonemiddleware writes it down; None when it has none."""
    try:
        services = json.loads(catalog)
    except ValueError:
        return None
    for service in services if isinstance(services, list) else ():
        if not isinstance(service, dict) or service.get("type") != "image":
            continue
        for endpoint in service.get("endpoints", ()):
            if str(endpoint.get("region", "")).lower() == region.lower():
                url = endpoint.get(f"{interface}URL")
                return url if isinstance(url, str) else None
    return None


def describe(fetcher: Fetcher, image: RemoteImage, prefixes: Sequence[str]) -> Description:
    """Ask what an image is.

    Args:
        prefixes: of the names of properties that are taken over.
    Raises: FetchRefusedError, FetchError when it is not there, not active, or the answer is none.
    """
    if image.url is None:
        raise FetchError("the catalog knows no image service in that region with that interface")
    with fetcher.open(image.url, image.headers) as body:
        data = b""
        while len(data) <= _DOCUMENT_SIZE_MAX and (part := body.read(_DOCUMENT_SIZE_MAX)):
            data += part
    try:
        found = json.loads(data.decode()) if len(data) <= _DOCUMENT_SIZE_MAX else None
    except (ValueError, RecursionError):
        found = None
    if not isinstance(found, dict):
        raise FetchError("the other service did not describe the image")
    if found.get("status") != "active":
        raise FetchError("Source image status should be active")
    size, formats = found.get("size"), (found.get("disk_format"), found.get("container_format"))
    if type(size) is not int or size < 0 or not all(isinstance(name, str) for name in formats):
        raise FetchError("the other service did not describe the image's data")
    properties = {
        check_text(name): check_text(value)
        for name, value in found.items()
        if isinstance(value, str) and name.startswith(tuple(prefixes)) and not name.startswith("os_glance")
    }
    return Description(size, str(formats[0]), str(formats[1]), properties)
