"""Where an image's data are told to be: own data by a name, others by their URLs, in the order they are read."""

from typing import Any

from casimg.catalog import Location
from casimg.registry import StoreInfo
from casimg_api.config import Config
from casimg_api.places import Places
from casimg_api.stores import Stores
from tests.api_making import image_row

INFOS = (StoreInfo("local", "local", True), StoreInfo("far", "s3", False))
FIRST, SECOND = Location("http://a/x", {"foo": "bar"}), Location("http://b/y", {"store": "said"})
ROW = image_row(status="active", size=5, stores=("local", "far"), locations=(FIRST, SECOND))


def places(read_only: dict[str, str] | None = None, **document: Any) -> Places:
    config = Config.of(document, "test")
    stores = Stores(config, INFOS, {"web": "http"} if read_only is None else read_only)
    return Places(config.images, stores, lambda image_id, store: f"own:{store}/{image_id[:2]}")


def test_nothing_is_told_unless_it_shall_be() -> None:
    """Images tell neither locations nor their first place without being configured to."""
    assert places().shown(ROW) == {}


def test_what_is_told() -> None:
    """Own data come first; where stores are not shown, metadata are the client's; an image without data has a list."""
    found = places(images={"show_multiple_locations": True, "show_image_direct_url": True})
    assert found.shown(ROW) == {
        "locations": [
            {"url": "own:local/7f", "metadata": {}},
            {"url": "own:far/7f", "metadata": {}},
            {"url": "http://a/x", "metadata": {"foo": "bar"}},
            {"url": "http://b/y", "metadata": {"store": "said"}},
        ],
        "direct_url": "own:local/7f",
    }
    assert found.shown(image_row()) == {"locations": []}


def test_stores_are_told_where_they_are_shown() -> None:
    """With stores each location says its own, whatever a client said; the first place is that of the highest weight."""
    shown: dict[str, Any] = {"store": {"multi_store": True}, "stores": {"web": {"weight": 2}, "far": {"weight": 1}}}
    found = places(images={"show_image_direct_url": True}, **shown)
    stores = [(one.url, one.metadata.get("store")) for one in found.of(ROW)]
    assert stores == [("own:far/7f", "far"), ("own:local/7f", "local"), ("http://a/x", "web"), ("http://b/y", "web")]
    assert [one.url for one in found.read_order(ROW)] == ["http://a/x", "http://b/y", "own:far/7f", "own:local/7f"]
    assert found.shown(ROW) == {"direct_url": "http://a/x"}


def test_a_store_that_is_no_more() -> None:
    """Locations are told also when no store of web servers is there any more, and are read last."""
    found = places({}, store={"multi_store": True})
    assert [(one.url, one.store) for one in found.of(ROW)][2:] == [("http://a/x", None), ("http://b/y", None)]
    assert [one.url for one in found.read_order(ROW)][2:] == ["http://a/x", "http://b/y"]
