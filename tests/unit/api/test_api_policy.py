"""Policies: Glance's defaults by role, and a policy file that counts as soon as it is changed."""

import os
from dataclasses import replace
from pathlib import Path

import pytest

from casimg.catalog import ImageRow
from casimg.errors import ConfigError
from casimg_api.context import ANONYMOUS, Caller
from casimg_api.errors import HttpError
from casimg_api.policies import ANONYMOUS as OPEN_RULES
from casimg_api.policies import DEFAULTS
from casimg_api.policy import Policy, image_target
from tests.api_making import image_row

ADMIN = Caller("ops", "root", ("admin", "member", "reader"))
MEMBER = Caller("mine", "u", ("member", "reader"))
READER = Caller("mine", "r", ("reader",))
STRANGER = Caller("other", "s", ("member", "reader"))
NOBODY = Caller("mine", "n", ())
SERVICE = Caller("service", "nova", ("service",))
OWN = image_row(owner="mine", visibility="private")
POLICY = Policy()


def allowed(rule: str, row: ImageRow = OWN) -> set[str]:
    """Return who may do what a rule names with an image."""
    callers = {"admin": ADMIN, "member": MEMBER, "reader": READER, "stranger": STRANGER, "nobody": NOBODY}
    callers["service"] = SERVICE
    return {name for name, caller in callers.items() if POLICY.allows(caller, rule, image_target(caller, row))}


@pytest.mark.parametrize(
    ("rule", "who"),
    [
        ("get_image", {"admin", "member", "reader"}),
        ("download_image", {"admin", "member"}),
        ("modify_image", {"admin", "member"}),
        ("delete_image", {"admin", "member"}),
        ("upload_image", {"admin", "member"}),
        ("add_image", {"admin", "member"}),
        ("communitize_image", {"admin", "member"}),
        ("publicize_image", {"admin"}),
        ("copy_image", {"admin"}),
        ("deactivate", {"admin", "member"}),
        ("delete_image_location", {"admin"}),
        ("fetch_image_location", {"admin", "service"}),
        ("add_image_location", {"admin", "member", "service"}),
        ("stores_info_detail", {"admin", "service"}),
        ("tasks_api_access", {"admin"}),
        ("cache_list", {"admin"}),
        ("add_member", {"admin", "member"}),
        ("get_members", {"admin", "member", "reader"}),
        ("modify_member", {"admin"}),
        ("add_metadef_namespace", {"admin"}),
    ],
)
def test_defaults_by_role(rule: str, who: set[str]) -> None:
    """Each rule lets exactly those through whom Glance lets through, for an image of the caller's project."""
    assert allowed(rule) == who


def test_visibility_opens_images() -> None:
    """Public, community and shared images are for readers of every project; to change they are not."""
    for visibility in ("public", "community", "shared"):
        row = replace(OWN, visibility=visibility)
        assert allowed("get_image", row) == {"admin", "member", "reader", "stranger"}
        assert allowed("download_image", row) == {"admin", "member", "stranger"}
        assert allowed("modify_image", row) == {"admin", "member"}
    assert "stranger" in allowed("modify_member", replace(OWN, visibility="shared"))


def test_nothing_equals_what_is_not_set() -> None:
    """An image without an owner belongs to nobody, not to a caller without a project."""
    unscoped = Caller(None, "u", ("member", "reader"))
    row = image_row(owner=None, visibility="private")
    assert not POLICY.allows(unscoped, "modify_image", image_target(unscoped, row))


def test_extra_properties_pose_as_nothing() -> None:
    """An extra property named like an attribute opens no rule."""
    row = image_row(owner="mine", visibility="private", properties={"member_id": "other", "project_id": "other"})
    assert not POLICY.allows(STRANGER, "modify_image", image_target(STRANGER, row))
    assert not POLICY.allows(STRANGER, "modify_member", image_target(STRANGER, row))


def test_tokens_of_other_scopes() -> None:
    """Rules are for tokens of a project, but for those that other rules refer to."""
    system = replace(ADMIN, scope="system")
    assert not POLICY.allows(system, "get_image", image_target(system, OWN))
    assert POLICY.is_admin(system)


def test_invisible_is_404() -> None:
    """Who may not see an image is told that there is none; who may see it, that it is not allowed."""
    with pytest.raises(HttpError) as caught:
        POLICY.enforce_on_image(STRANGER, "delete_image", OWN)
    assert caught.value.status == 404
    with pytest.raises(HttpError) as caught:
        POLICY.enforce_on_image(READER, "delete_image", OWN)
    assert caught.value.status == 403


def test_all_rules_parse() -> None:
    """No default is written so that the engine reads it as `never`, and each referred rule exists."""
    for rule in DEFAULTS:
        assert POLICY.allows(ADMIN, rule, {"owner": "ops", "project_id": "ops"})


def test_file_overrides_and_counts_at_once(tmp_path: Path) -> None:
    """A rule of the file takes the default's place while it is there, from the next question on."""
    path = tmp_path / "policy.yaml"
    path.write_text('"delete_image": "role:janitor"\n')
    policy = Policy(path)
    target = image_target(MEMBER, OWN)
    assert not policy.allows(MEMBER, "delete_image", target)
    assert policy.allows(MEMBER, "modify_image", target)
    assert not policy.is_default("delete_image")
    assert policy.is_default("get_image")
    path.write_text('"modify_image": "!"\n')
    os.utime(path, ns=(1, 1))
    assert policy.allows(MEMBER, "delete_image", target)
    assert not policy.allows(MEMBER, "modify_image", target)


def test_broken_file_changes_nothing(tmp_path: Path) -> None:
    """A file that is being written, or is none, leaves the rules in force; at the start it is an error."""
    path = tmp_path / "policy.json"
    path.write_text('{"get_image": "!"}')
    policy = Policy(path)
    for text in ("{", "- a\n", '"get_image": "role:x and"\n', '"get_image": 5\n'):
        path.write_text(text)
        assert not policy.allows(MEMBER, "get_image", image_target(MEMBER, OWN))
        with pytest.raises(ConfigError):
            Policy(path)
    path.unlink()
    assert not policy.allows(MEMBER, "get_image", image_target(MEMBER, OWN))


def test_context_is_admin_can_be_another_role(tmp_path: Path) -> None:
    """Who is an administrator is a rule too."""
    path = tmp_path / "policy.yaml"
    path.write_text('"context_is_admin": "role:image_boss"\n')
    policy = Policy(path)
    assert not policy.is_admin(ADMIN)
    boss = Caller("p", "b", ("image_boss",))
    assert policy.is_admin(boss)
    assert policy.allows(boss, "publicize_image", {})
    assert not policy.is_default("get_image")


def test_without_a_token_only_public_images_are_read(tmp_path: Path) -> None:
    """Whoever has no token passes four rules, for public images; a file can close them, and open no others."""
    path = tmp_path / "policy.yaml"
    path.write_text("".join(f'"{rule}": "@"\n' for rule in DEFAULTS))
    public, others = image_row(visibility="public"), [image_row(visibility="community"), image_row(owner=None)]
    for policy in (POLICY, Policy(path)):
        passed = {rule for rule in DEFAULTS if policy.allows(ANONYMOUS, rule, image_target(ANONYMOUS, public))}
        assert passed == OPEN_RULES == {"get_images", "get_image", "download_image", "download_from_store"}
        for row in others:
            passed = {rule for rule in DEFAULTS if policy.allows(ANONYMOUS, rule, image_target(ANONYMOUS, row))}
            assert passed == {"get_images"}
        assert not policy.is_admin(ANONYMOUS)
    path.write_text('"download_image": "role:member"\n')
    closing = Policy(path)
    assert not closing.allows(ANONYMOUS, "download_image", image_target(ANONYMOUS, public))
    assert closing.allows(ANONYMOUS, "get_image", image_target(ANONYMOUS, public))
    path.write_text('"context_is_admin": "@"\n"service_api": "role:service"\n')
    other = Policy(path)
    assert other.allows(ANONYMOUS, "get_image", image_target(ANONYMOUS, public))
    assert not other.allows(ANONYMOUS, "delete_image", image_target(ANONYMOUS, public))
