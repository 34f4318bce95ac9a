"""Attacks make packs small in their own process; the tests after them must not have them so."""

import pytest

from casimg import packing


@pytest.fixture(autouse=True)
def _packs_of_the_usual_size(monkeypatch: pytest.MonkeyPatch) -> None:
    # Set to what it is: undone after the test, whatever an attack made of it.
    monkeypatch.setattr(packing, "PACK_SIZE_TARGET", vars(packing)["PACK_SIZE_TARGET"])
