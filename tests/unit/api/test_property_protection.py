"""Property protections: Glance's file in both formats, who may what by it, and mistakes in it."""

from pathlib import Path
from typing import Literal

import pytest

from casimg.errors import ConfigError
from casimg_api.config import PolicyConfig
from casimg_api.context import Caller
from casimg_api.policy import Policy
from casimg_api.property_protection import OPERATIONS, Operation, PropertyProtection, everything

ADMIN = Caller("ops", "root", ("admin", "member", "reader"))
MEMBER = Caller("mine", "u", ("member", "reader"))
NOBODY = Caller("mine", "n", ())
NOVA = Caller("mine", "u", ("member", "reader"), service_roles=("service",))
WHO = {"admin": ADMIN, "member": MEMBER, "nobody": NOBODY, "nova": NOVA}

ROLES = """
[^x_billing_.*]
create = Admin, service
read = member
update = admin
delete =

[x_open]
create = @
read = @
update = @
delete = !

[^x_.*]
create = member
read = member,admin
update = member
delete = member
"""


def section(name: str = "^x_", **said: str) -> str:
    options = {**dict.fromkeys(OPERATIONS, "@"), **said}
    return f"[{name}]\n" + "".join(f"{key} = {value}\n" for key, value in options.items())


def protection(
    folder: Path, text: str, form: Literal["roles", "policies"] = "roles", policy: Policy | None = None
) -> PropertyProtection:
    path = folder / "protections.conf"
    path.write_text(text)
    return PropertyProtection(PolicyConfig("", str(path), form), policy or Policy())


def who(rules: PropertyProtection, operation: Operation, name: str) -> set[str]:
    return {one for one, caller in WHO.items() if rules.of(caller)(operation, name)}


def test_roles(tmp_path: Path) -> None:
    """Roles count in any case, a service's too; nothing said is nobody, @ everybody, ! nobody."""
    rules = protection(tmp_path, ROLES)
    assert who(rules, "create", "x_billing_code") == {"admin", "nova"}
    assert who(rules, "read", "x_billing_code") == {"admin", "member", "nova"}
    assert who(rules, "update", "x_billing_code") == {"admin"}
    assert who(rules, "delete", "x_billing_code") == set()
    assert who(rules, "update", "x_open") == set(WHO)
    assert who(rules, "delete", "x_open") == set()


def test_the_first_section_counts(tmp_path: Path) -> None:
    """Sections are looked at in their order, their expressions are searched for; what none is found in is nobody's."""
    rules = protection(tmp_path, ROLES)
    assert who(rules, "create", "x_other") == {"admin", "member", "nova"}
    assert who(rules, "create", "an_x_open_one") == set(WHO)
    assert who(rules, "read", "other") == set()
    assert who(protection(tmp_path, section(".*", read="!") + section("x_")), "read", "x_") == set()
    assert who(protection(tmp_path, ""), "read", "x_") == set()


def test_the_servers_own_are_not_protected(tmp_path: Path) -> None:
    """What the server tells of imports is read by everybody, whatever the file says of all names."""
    rules = protection(tmp_path, section("^os_glance", read="!") + section(".*", read="!"))
    assert who(rules, "read", "os_glance_failed_import") == set(WHO)


def test_policies(tmp_path: Path) -> None:
    """The other format names one policy rule for an operation, which a policy file may say; @ and ! are as before."""
    policy_file = tmp_path / "policy.yaml"
    policy_file.write_text('"billing": "role:admin or role:service"\n')
    text = section("^x_", create="billing", read="default", update="context_is_admin", delete="!")
    rules = protection(tmp_path, text, "policies", Policy(policy_file))
    assert who(rules, "create", "x_1") == {"admin"}
    assert who(rules, "read", "x_1") == set(WHO)
    assert who(rules, "update", "x_1") == {"admin"}
    assert who(rules, "delete", "x_1") == set()
    policy_file.write_text('"billing": "role:member"\n# longer than before\n')
    assert who(rules, "create", "x_1") == {"admin", "member", "nova"}
    policy_file.write_text('"other": "@"\n')
    assert who(rules, "create", "x_1") == set()
    none = protection(tmp_path, section("^x_", create=""), "policies")
    assert who(none, "create", "x_1") == set()


def test_without_a_file() -> None:
    """Without a file nothing is protected."""
    assert PropertyProtection(PolicyConfig(), Policy()).of(NOBODY) is everything
    assert all(everything(operation, "x") for operation in OPERATIONS)


@pytest.mark.parametrize(
    ("text", "form", "why"),
    [
        (section("(x"), "roles", r"\[\(x\] is no regular expression"),
        ("[x]\ncreate = @\nread = @\nupdate = @\n", "roles", "look at delete"),
        (section(reed="@"), "roles", "look at reed"),
        (section(read="@, !"), "roles", "exclude each other"),
        (section(read="a,b"), "policies", "one policy rule"),
        (section(read="a"), "policies", "there is no policy rule 'a'"),
        ("read = @\n", "roles", "cannot be read"),
        (section() + section(), "roles", "already exists"),
    ],
)
def test_mistakes_are_told(tmp_path: Path, text: str, form: Literal["roles", "policies"], why: str) -> None:
    """A file that says what cannot be keeps the server from starting."""
    with pytest.raises(ConfigError, match=why):
        protection(tmp_path, text, form)


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    """A file that cannot be read keeps the server from starting."""
    for path in (tmp_path / "none", tmp_path):
        with pytest.raises(ConfigError, match="cannot be read"):
            PropertyProtection(PolicyConfig("", str(path)), Policy())
