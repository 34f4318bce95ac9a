"""What the tests of clients share. They run in the programs' venv, against the servers of `python -m tests.glance`."""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.glance.cloud import SITE_VARIABLE, Cloud, cloud_of, disk_bytes

collect_ignore_glob = [] if SITE_VARIABLE in os.environ else ["test_*.py"]


@pytest.fixture(scope="session")
def cloud() -> Cloud:
    """The running site."""
    return cloud_of(Path(os.environ[SITE_VARIABLE]))


@pytest.fixture(scope="session")
def data() -> bytes:
    """A disk."""
    return disk_bytes()


@pytest.fixture
def disk(tmp_path: Path, data: bytes) -> Path:
    """A file with a disk."""
    path = tmp_path / "disk.raw"
    path.write_bytes(data)
    return path


@pytest.fixture(scope="session")
def _admin(cloud: Cloud) -> Any:
    import openstack

    return openstack.connect(
        **cloud.credentials("admin"), region_name=cloud.region, load_envvars=False, load_yaml_config=False
    )


@pytest.fixture(autouse=True)
def _no_images_left(_admin: Any) -> Iterator[None]:
    """Every test begins without images."""
    yield
    for hidden in ("false", "true"):
        for image in list(_admin.image.images(visibility="all", is_hidden=hidden)):
            if image.is_protected:
                _admin.image.update_image(image, is_protected=False)
            _admin.image.delete_image(image, ignore_missing=True)
