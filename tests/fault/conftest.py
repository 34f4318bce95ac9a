"""Attacks make packs small in their own process; the tests after them must not have them so."""

from collections.abc import Iterator

import pytest

from casimg import packing


@pytest.fixture(autouse=True)
def _packs_of_the_usual_size(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(packing, "PACK_SIZE_TARGET", vars(packing)["PACK_SIZE_TARGET"])
    yield
