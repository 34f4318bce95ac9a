"""Backends as stores: which is the default one, in which order they are read, and names that there are not."""

from typing import Any

import pytest

from casimg.errors import ConfigError
from casimg.registry import StoreInfo
from casimg_api.config import Config
from casimg_api.stores import Store, Stores

INFOS = (StoreInfo("local", "local", True), StoreInfo("far", "s3", False), StoreInfo("spare", "local", False))


def stores(document: dict[str, Any], read_only: dict[str, str] | None = None) -> Stores:
    return Stores(Config.of(document, "test"), INFOS, read_only)


def test_backends_are_stores() -> None:
    """Each backend is a store of its name and of Glance's kind; the repository's default is that of the service."""
    found = stores({"stores": {"far": {"store_description": "tape", "weight": 3}}}, {"web": "http"})
    assert found.all == (
        Store("local", "file", is_default=True),
        Store("far", "s3", description="tape", weight=3),
        Store("spare", "file"),
        Store("web", "http", is_read_only=True),
    )
    assert (found.default, found.writable, found.is_shown) == ("local", ("local", "far", "spare"), False)
    assert found.find("web") == Store("web", "http", is_read_only=True)
    assert found.find("x") is None


def test_the_default_can_be_another() -> None:
    """default_backend names where images go; it must be there, and take data."""
    found = stores({"store": {"default_backend": "spare", "multi_store": True}})
    assert (found.default, found.is_shown) == ("spare", True)
    assert [store.name for store in found.all if store.is_default] == ["spare"]
    for name in ("web", "none"):
        with pytest.raises(ConfigError, match="default_backend"):
            stores({"store": {"default_backend": name}}, {"web": "http"})


def test_a_store_that_there_is_not() -> None:
    """Options of no store are a mistake that is told, with the names that there are."""
    with pytest.raises(ConfigError, match=r"stores\.fast.*local, far, spare"):
        stores({"stores": {"fast": {"weight": 1}}})


def test_weights_order() -> None:
    """The highest weight is first, equal ones stay as they are; a store that is gone counts as one without weight."""
    assert stores({}).ordered(["spare", "local"]) == ("spare", "local")
    weighted = stores({"stores": {"spare": {"weight": 5}, "far": {"weight": -1}}})
    assert weighted.ordered(["local", "far", "gone", "spare"]) == ("spare", "local", "gone", "far")


def test_a_name_that_a_backend_has() -> None:
    """A read-only store cannot be named as a backend is: nobody could tell them apart."""
    for name in ("local", "far"):
        with pytest.raises(ConfigError, match=f"http_store.name is '{name}'"):
            stores({}, {name: "http"})
    assert (stores({}).http, stores({}, {"web": "http"}).http) == (None, "web")
