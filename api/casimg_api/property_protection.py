"""Which properties of images callers may create, read, update and delete: Glance's file of property protections.

An INI file: a section is a regular expression of names, the first one that is found in a name counts, and a name that
none is found in is nobody's. Each section has `create`, `read`, `update` and `delete`: roles with commas between them,
or the name of a policy rule, by the configured format; `@` is everybody, `!` nobody.
"""

import configparser
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Final, Literal, get_args

from casimg.errors import ConfigError
from casimg_api.config import PolicyConfig
from casimg_api.context import Caller
from casimg_api.policy import Policy
from casimg_api.rules import RESERVED_PREFIX

Operation = Literal["create", "read", "update", "delete"]
OPERATIONS: Final = get_args(Operation)
May = Callable[[Operation, str], bool]
"""Tells whether somebody may do something with a property of this name."""

_FILE_SIZE_MAX: Final = 1 << 20
_EVERYBODY: Final = "@"
_NOBODY: Final = "!"


@dataclass(frozen=True, slots=True)
class _Rule:
    """A section: whose names, and for each operation roles in lower case, or one policy rule."""

    names: re.Pattern[str]
    allowed: Mapping[str, frozenset[str]]


class PropertyProtection:
    """The rules of a file; without one everybody may everything. Threads: any may ask.

    Args:
        policy: knows the rules that a file of the format `policies` names.
    Raises: ConfigError for a file that cannot be read, or says what cannot be.
    """

    def __init__(self, config: PolicyConfig, policy: Policy) -> None:
        self._policy = policy
        self._by_policy = config.property_protection_rule_format == "policies"
        path = config.property_protection_file
        self._rules = self._read(Path(path)) if path else None

    def of(self, caller: Caller) -> May:
        """Return what a caller may, for one request: each name is looked up once."""
        if self._rules is None:
            return everything
        return cache(lambda operation, name: self._allows(caller, operation, name))

    def _allows(self, caller: Caller, operation: Operation, name: str) -> bool:
        if name.startswith(RESERVED_PREFIX):  # the server's own; clients never set them
            return True
        rule = next((one for one in self._rules or () if one.names.search(name)), None)
        if rule is None:
            return False
        allowed = rule.allowed[operation]
        if _NOBODY in allowed or _EVERYBODY in allowed:
            return _EVERYBODY in allowed
        if not self._by_policy:
            return not allowed.isdisjoint((*caller.roles, *caller.service_roles))
        # A changed policy file may have lost one.
        return all(self._policy.has(one) and self._policy.allows(caller, one, {}) for one in allowed) and bool(allowed)

    def _read(self, path: Path) -> tuple[_Rule, ...]:
        parser = configparser.ConfigParser(interpolation=None)
        try:
            with path.open("rb") as file:
                data = file.read(_FILE_SIZE_MAX + 1)
            if len(data) > _FILE_SIZE_MAX:
                raise ConfigError(str(path), "a file of property protections has at most 1 MiB")
            parser.read_string(data.decode(), str(path))
        except (OSError, UnicodeDecodeError, configparser.Error) as error:
            raise ConfigError(str(path), f"the property protections cannot be read: {error}") from None
        return tuple(self._rule(str(path), name, parser[name]) for name in parser.sections())

    def _rule(self, where: str, section: str, options: Mapping[str, str]) -> _Rule:
        try:
            names = re.compile(section)
        except re.error as error:
            raise ConfigError(where, f"[{section}] is no regular expression: {error}") from None
        if wrong := sorted(set(options).symmetric_difference(OPERATIONS)):
            raise ConfigError(where, f"[{section}] must have {', '.join(OPERATIONS)}; look at {', '.join(wrong)}")
        return _Rule(names, {name: self._allowed(where, section, name, text) for name, text in options.items()})

    def _allowed(self, where: str, section: str, operation: str, text: str) -> frozenset[str]:
        found = frozenset(part.strip() for part in text.split(",") if part.strip())
        if {_EVERYBODY, _NOBODY} <= found:
            raise ConfigError(where, f"[{section}] {operation}: '@' and '!' exclude each other")
        if not self._by_policy:
            return frozenset(role.lower() for role in found)
        if len(found) > 1:
            raise ConfigError(where, f"[{section}] {operation}: one policy rule; the policy file joins several")
        for rule in found - {_EVERYBODY, _NOBODY}:
            if not self._policy.has(rule):
                raise ConfigError(where, f"[{section}] {operation}: there is no policy rule {rule!r}")
        return found


def everything(_operation: Operation, _name: str) -> bool:
    """Return True: nothing is protected."""
    return True


__all__ = ["OPERATIONS", "May", "Operation", "PropertyProtection", "everything"]
