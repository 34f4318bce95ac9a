"""Images of other regions: where the caller's catalog says they are."""

import json

import pytest

from casimg_api.remote_images import RemoteImage, find_endpoint, remote_image

CATALOG = json.dumps(
    [
        {"type": "compute", "endpoints": [{"region": "north", "publicURL": "http://compute.example"}]},
        {
            "type": "image",
            "endpoints": [
                {"region": "north", "publicURL": "http://north.example/", "internalURL": "http://10.0.0.1"},
                {"region": "South", "publicURL": "http://south.example"},
            ],
        },
    ]
)


@pytest.mark.parametrize(
    ("region", "interface", "url"),
    [
        ("north", "public", "http://north.example/"),
        ("NORTH", "internal", "http://10.0.0.1"),
        ("south", "public", "http://south.example"),
        ("south", "internal", None),
        ("west", "public", None),
        ("north", "not an interface", None),
    ],
)
def test_the_image_service_of_a_region_is_found(region: str, interface: str, url: str | None) -> None:
    """Regions are named in any case; what is not there is None."""
    assert find_endpoint(CATALOG, region, interface) == url


@pytest.mark.parametrize("catalog", ["", "{", "{}", "null", "[]", "[1]", '[{"type": "image"}]'])
def test_a_catalog_that_is_none_has_nothing(catalog: str) -> None:
    """Whatever the header holds, there is an answer."""
    assert find_endpoint(catalog, "north", "public") is None


def test_a_token_is_not_told() -> None:
    """The place is in the catalog's words; the token is in no text of the value."""
    environ = {"HTTP_X_SERVICE_CATALOG": CATALOG, "HTTP_X_AUTH_TOKEN": "s3cret"}
    found = remote_image(environ, "north", "id", "public")
    assert found == RemoteImage("http://north.example/v2/images/id", "s3cret")
    assert "s3cret" not in repr(found)
