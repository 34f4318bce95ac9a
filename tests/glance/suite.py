"""tempest's tests of the Image API against a running site, in one or more ways of configuring it."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from tests.glance.identity import Keystone
from tests.glance.install import ADMIN_PASSWORD, REGION, Programs, clean_environ, ini
from tests.glance.outcomes import Outcome
from tests.glance.service import Settings
from tests.glance.stestr import run_stestr

REMOTE_SERVICE = "image_remote"
"""Type of the service whose endpoint is a second server on the same repository."""
_OF_OTHERS = (
    "ListUserImages|Caching|Location|Store|CopyImages|HashCalc|Dependency|ImagesFormat|image_tasks_create|bad_url"
)
"""Tests that want another configuration than the usual one, or what is not here."""


@dataclass(frozen=True)
class Profile:
    """A configuration of casimg, what tempest is told of it, and the tests that are run with it.

    Args:
        small: the tests of a small run, none of which is skipped with this configuration; empty leaves it out.
    """

    name: str
    about: str
    settings: Settings = field(default_factory=dict)
    options: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    regex: str = r"^tempest\.api\.image\."
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
        "the repository is shown as one of several stores (`store.multi_store`)",
        settings={"store": {"multi_store": True}},
        regex=r"^tempest\.api\.image\..*(Import|Store|BasicOperations)",
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
    return run_stestr(programs, work, "tempest", "api/image", environ, regex or profile.regex)
