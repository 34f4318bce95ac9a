"""tempest's tests of the Image API against a running site, in one or more ways of configuring it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from tests.glance.identity import Keystone
from tests.glance.install import ADMIN_PASSWORD, REGION, Programs, clean_environ, ini
from tests.glance.outcomes import Outcome
from tests.glance.service import OTHER_STORE, Settings
from tests.glance.stestr import run_stestr

REMOTE_SERVICE = "image_remote"
"""Type of the service whose endpoint is a second server on the same repository."""
_OF_OTHERS = (
    "ListUserImages|Caching|Location|Store|CopyImages|HashCalc|Dependency|ImagesFormat|image_tasks_create|bad_url"
)
"""Tests that want another configuration than the usual one, or what is not here."""


_WEB: Settings = {
    # tempest expects this name, and starts web servers of its own on any port.
    "http_store": {"enabled": True, "name": "web"},
    "import_filtering_opts": {"allowed_ports": []},
}


@dataclass(frozen=True)
class Profile:
    """A configuration of casimg, what tempest is told of it, and the tests that are run with it.

    Args:
        own_folders: settings that name a folder, another one for each server.
        has_clients: whether the clients' own tests run with it; they want as much as possible switched on.
        folder: of tempest, with the tests.
        small: the tests of a small run, none of which is skipped with this configuration; empty leaves it out.
    """

    name: str
    about: str
    settings: Settings = field(default_factory=dict)
    own_folders: Sequence[tuple[str, str]] = ()
    options: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    regex: str = r"^tempest\.api\.image\."
    folder: str = "api/image"
    has_clients: bool = False
    small: str = ""


PROFILES = (
    Profile("usual", "as shipped", small=rf"^tempest\.api\.image\.(?!.*({_OF_OTHERS}))"),
    Profile(
        "unchecked",
        "image data that are not of the declared disk format are let in, as these tests send them",
        settings={"data": {"require_image_format_match": False}},
        options={"image-feature-enabled": {"image_format_enforcement": "false"}},
        regex=r"^tempest\.api\.image\.v2\.test_images\.ListUserImagesTest\.",
    ),
    Profile(
        "stores",
        "the repository's backends are shown as stores (`store.multi_store`), and projects have limits in Keystone",
        settings={"store": {"multi_store": True}, "quota": {"use_keystone_limits": True}},
        regex=r"^tempest\.api\.image\..*(Import|Store|BasicOperations)",
        has_clients=True,
        small=r"^tempest\.api\.image\..*(CopyImages|bad_url|MultiStoresI|BasicOperations)",
    ),
    Profile(
        "weights",
        "stores of different weights",
        settings={"store": {"multi_store": True}, f"stores.{OTHER_STORE}": {"weight": 5}},
        options={"image-feature-enabled": {"store_weight_enabled": "true"}},
        regex=r"^tempest\.api\.image\..*StoreWeight",
    ),
    Profile(
        "limits",
        "projects have limits in Keystone (`quota.use_keystone_limits`)",
        settings={"quota": {"use_keystone_limits": True}},
        regex=r"^tempest\.scenario\.test_unified_limits\.",
        folder="scenario",
    ),
    Profile(
        "cache",
        "each server has a cache of images (`cache.image_cache_dir`)",
        own_folders=(("cache", "image_cache_dir"),),
        options={"image": {"image_caching_enabled": "true"}},
        regex=r"^tempest\.api\.image\..*ImageCaching",
    ),
    Profile(
        "locations",
        "clients see and set locations (`images.show_multiple_locations`), also on web servers (`http_store`)",
        settings={**_WEB, "images": {"show_multiple_locations": True, "show_image_direct_url": True}},
        options={"image-feature-enabled": {"manage_locations": "true", "http_store_enabled": "true"}},
        regex=r"^tempest\.api\.image\..*(Location|HashCalculation)",
    ),
    Profile(
        "stores-http",
        "web servers are a store beside the two backends",
        settings={**_WEB, "store": {"multi_store": True}},
        options={"image-feature-enabled": {"http_store_enabled": "true"}},
        regex=r"^tempest\.api\.image\..*(LocationImport|HashCalculation|Stores)",
    ),
    Profile(
        "unhashed",
        "the same, and data on web servers are not hashed (`images.do_secure_hash` is off)",
        settings={**_WEB, "store": {"multi_store": True}, "images": {"do_secure_hash": False}},
        options={"image-feature-enabled": {"http_store_enabled": "true", "do_secure_hash": "false"}},
        regex=r"^tempest\.api\.image\..*LocationImport",
    ),
)


def tempest_conf(folder: Path, identity: Keystone, web_url: str, options: Mapping[str, Mapping[str, str]]) -> str:
    """Return a tempest.conf for a site that has Keystone and images and nothing else."""
    sections: dict[str, dict[str, str]] = {
        "DEFAULT": {"log_dir": str(folder), "log_file": "tempest.log", "debug": "false", "use_stderr": "false"},
        "oslo_concurrency": {"lock_path": str(folder / "locks")},
        "auth": {
            "use_dynamic_credentials": "true",
            "admin_username": "admin",
            "admin_password": ADMIN_PASSWORD,
            "admin_project_name": "admin",
            "admin_domain_name": "Default",
            "create_isolated_networks": "false",
        },
        "identity": {
            "auth_version": "v3",
            "uri_v3": identity.url,
            "region": REGION,
            "v3_endpoint_type": "public",
        },
        "service_available": {
            "glance": "true",
            **dict.fromkeys(("nova", "neutron", "cinder", "swift", "horizon"), "false"),
        },
        "image": {
            "http_image": f"{web_url}/image.raw",
            "http_qcow2_image": f"{web_url}/image.qcow2",
            "alternate_image_endpoint": REMOTE_SERVICE,
            "build_timeout": "60",
            "build_interval": "1",
        },
        # The tests themselves ask the server which methods it has.
        "image-feature-enabled": {"import_image": "true"},
    }
    for name, more in options.items():
        sections.setdefault(name, {}).update(more)
    return ini(sections)


def run_suite(
    programs: Programs, folder: Path, profile: Profile, identity: Keystone, web_url: str, regex: str | None = None
) -> list[Outcome]:
    """Run the tests of a profile, or others, against the site as it is; returns what became of each.

    Raises: SystemExit when tempest itself does not run.
    """
    work = folder / f"tempest-{profile.name}"
    work.mkdir()
    (work / "tempest.conf").write_text(tempest_conf(work, identity, web_url, profile.options))
    environ = clean_environ(TEMPEST_CONFIG_DIR=str(work), TEMPEST_CONFIG="tempest.conf")
    return run_stestr(programs, work, "tempest", profile.folder, environ, regex or profile.regex)
