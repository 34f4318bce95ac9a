"""Short ways to give images locations, and a configuration of a server that takes them."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import casimg
from tests.integration.api.data.serving import Answer, Server, start
from tests.integration.api.data.web import Web

V20 = "application/openstack-images-v2.0-json-patch"
V21 = "application/openstack-images-v2.1-json-patch"


def configured(source: Web, more: str = "", images: str = "", store: str = "") -> str:
    """Return the configuration of a server that shows locations and may ask a web server, on loopback and its port."""
    return (
        f'[import_filtering_opts]\nallowed_hosts = ["127.0.0.1"]\nallowed_ports = [{source.port}]\n'
        f"[images]\nshow_multiple_locations = true\nshow_image_direct_url = true\n{images}"
        f"[http_store]\nenabled = true\nhttp_retries = 1\n{store}{more}"
    )


@contextmanager
def serving_located(source: Web, folder: Path) -> Iterator[Server]:
    """Give a server of a new repository that shows locations and may ask a web server."""
    casimg.create(folder / "repository").close()
    served = start(folder / "repository", folder / "server.log", configured(source))
    try:
        yield served
    finally:
        served.stop()


def patch(server: Server, image_id: str, *changes: dict[str, Any], media_type: str = V21) -> Answer:
    return server.ask("PATCH", f"/v2/images/{image_id}", json.dumps(changes).encode(), {"Content-Type": media_type})


def add(server: Server, image_id: str, url: str, at: str = "-", **more: Any) -> Answer:
    """Add a location by a patch."""
    value = {"url": url, "metadata": {}, **more}
    return patch(server, image_id, {"op": "add", "path": f"/locations/{at}", "value": value})


def located(server: Server, url: str, **more: Any) -> str:
    """Return a new image whose data are at a URL."""
    image_id = server.create()
    answer = add(server, image_id, url, **more)
    assert answer.status == 200, answer
    return image_id


def post(server: Server, image_id: str, url: object, validation: dict[str, Any] | None = None) -> Answer:
    """Add a location by the newer way."""
    body = {"url": url} if validation is None else {"url": url, "validation_data": validation}
    document = json.dumps(body).encode()
    return server.ask("POST", f"/v2/images/{image_id}/locations", document, {"Content-Type": "application/json"})


def locations(server: Server, image_id: str) -> Any:
    """Return the locations of an image as services are told them."""
    return server.ask("GET", f"/v2/images/{image_id}/locations").json()
