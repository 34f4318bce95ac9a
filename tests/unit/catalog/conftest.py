"""What the tests of the catalog share."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from casimg.catalog import Catalog
from tests.catalog_making import new_catalog


@pytest.fixture
def catalog(tmp_path: Path) -> Iterator[Catalog]:
    """An open catalog with one backend, and nothing in it."""
    with new_catalog(tmp_path) as opened:
        yield opened
