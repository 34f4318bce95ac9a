"""Who may do what: Glance's rules, and a policy file that overrides them and counts as soon as it is changed.

The engine is oslo.policy's; a set of rules is made whole before it takes the place of the one before, so that no call
sees half of a new file.
"""

import logging
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import yaml
from oslo_config import cfg
from oslo_policy import opts, policy

from casimg.catalog import ImageRow
from casimg.errors import ConfigError
from casimg_api.context import Caller
from casimg_api.errors import HttpError
from casimg_api.policies import ANONYMOUS, DEFAULTS, UNSCOPED

_log = logging.getLogger("casimg_api.policy")

_FILE_SIZE_MAX: Final = 1 << 20

Stamp = tuple[int, int, int]


class Policy:
    """The rules in force; any thread may ask.

    Args:
        path: a policy file as oslo.policy reads them (YAML or JSON: rule name to check); None for the defaults alone.
    Raises: ConfigError when the file cannot be read, or says what is no rule.
    """

    def __init__(self, path: Path | None = None) -> None:
        self._path = path
        self._lock = threading.Lock()
        self._stamp = _stamp(path)
        self._overrides: Mapping[str, str] = _read(path) if path else {}
        self._enforcer = _enforcer(self._overrides)

    def allows(self, caller: Caller, rule: str, target: Mapping[str, object]) -> bool:
        """Return whether a caller may do what a rule names.

        Args:
            target: what it is done to; see `image_target`.
        """
        self._reload()
        return self._ask(self._enforcer, caller, rule, target)

    def is_admin(self, caller: Caller) -> bool:
        """Return whether the rule `context_is_admin` holds."""
        return self.allows(caller, "context_is_admin", {})

    def is_default(self, rule: str) -> bool:
        """Return whether no policy file says anything else of a rule, or of those that rules refer to."""
        self._reload()
        return not (self._overrides.keys() & {rule, *UNSCOPED})

    def has(self, rule: str) -> bool:
        """Return whether a rule of this name is among the defaults, or in the policy file."""
        self._reload()
        return rule in DEFAULTS or rule in self._overrides

    def enforce(self, caller: Caller, rule: str, target: Mapping[str, object]) -> None:
        """Raise 403 unless a caller may do what a rule names."""
        if not self.allows(caller, rule, target):
            raise forbidden(rule)

    def enforce_on_image(self, caller: Caller, rule: str, row: ImageRow) -> None:
        """Raise 403 unless a rule allows something with an image; 404 when the caller may not even see it."""
        target = image_target(caller, row)
        if self.allows(caller, rule, target):
            return
        if rule == "get_image" or not self.allows(caller, "get_image", target):
            raise HttpError(404)
        raise forbidden(rule)

    def _ask(self, enforcer: policy.Enforcer, caller: Caller, rule: str, target: Mapping[str, object]) -> bool:
        if caller.is_anonymous:
            is_public = rule == "get_images" or target.get("visibility") == "public"
            if rule not in ANONYMOUS or not is_public:
                return False
            if rule not in self._overrides:
                return True
        if caller.scope != "project" and rule not in UNSCOPED:
            return False
        return bool(enforcer.enforce(rule, dict(target), _credentials(caller)))

    def _reload(self) -> None:
        """Take over a changed policy file; one that cannot be read leaves the rules as they are."""
        if self._path is None or (stamp := _stamp(self._path)) == self._stamp:
            return
        with self._lock:
            if stamp == self._stamp:
                return
            self._stamp = stamp
            try:
                overrides = _read(self._path)
                enforcer = _enforcer(overrides)
            except ConfigError as error:
                _log.error("policy.not_reloaded why=%s", error)
                return
            self._overrides, self._enforcer = overrides, enforcer
            _log.info("policy.reloaded path=%s rules=%d", self._path, len(overrides))


def forbidden(rule: str) -> HttpError:
    """Return the refusal of a rule."""
    return HttpError(403, f"You are not authorized to complete {rule} action.")


def image_target(caller: Caller, row: ImageRow) -> dict[str, object]:
    """Return what rules may say of an image; what is not set is absent, so that it equals nothing."""
    shared_to = caller.project_id if row.visibility == "shared" and row.owner != caller.project_id else None
    target: dict[str, object | None] = {
        **row.properties,
        "id": row.id,
        "image_id": row.id,
        "name": row.name,
        "owner": row.owner,
        "project_id": row.owner,
        "member": shared_to,
        "member_id": shared_to,
        "visibility": row.visibility,
        "status": row.status,
        "protected": row.protected,
        "os_hidden": row.hidden,
        "disk_format": row.disk_format,
        "container_format": row.container_format,
        "min_disk": row.min_disk,
        "min_ram": row.min_ram,
        "size": row.size,
    }
    return {key: value for key, value in target.items() if value is not None}


def _credentials(caller: Caller) -> dict[str, Any]:
    found: dict[str, Any] = {
        "roles": list(caller.roles),
        "service_roles": list(caller.service_roles),
        "is_admin": caller.is_admin,
    }
    if caller.project_id is not None:
        found["project_id"] = found["tenant"] = caller.project_id
    if caller.user_id is not None:
        found["user_id"] = found["user"] = caller.user_id
    return found


def _enforcer(overrides: Mapping[str, str]) -> policy.Enforcer:
    conf = cfg.ConfigOpts()
    conf([], project="casimg", default_config_files=[], default_config_dirs=[])
    opts.set_defaults(conf)
    rules = policy.Rules.from_dict({**DEFAULTS, **overrides}, "default")
    return policy.Enforcer(conf, rules=rules, use_conf=False)


def _stamp(path: Path | None) -> Stamp | None:
    if path is None:
        return None
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_mtime_ns, found.st_size, found.st_ino


def _read(path: Path) -> dict[str, str]:
    """Return the rules of a policy file. Raises: ConfigError."""
    try:
        with path.open("rb") as file:
            text = file.read(_FILE_SIZE_MAX + 1)
        if len(text) > _FILE_SIZE_MAX:
            raise ConfigError(str(path), "a policy file has at most 1 MiB")
        document = yaml.safe_load(text.decode()) or {}
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise ConfigError(str(path), f"the policy file cannot be read: {error}") from None
    if not isinstance(document, dict):
        raise ConfigError(str(path), "a policy file maps names of rules to checks")
    for name, check in document.items():
        if not isinstance(name, str) or not isinstance(check, (str, list)):
            raise ConfigError(str(path), f"the rule {name!r} is no check")
    parsed = policy.Rules.from_dict(dict(document))
    for name, check in document.items():
        if check not in ("!", []) and str(parsed[name]) == "!":
            raise ConfigError(str(path), f"the rule {name!r} cannot be understood: {check!r}")
    return {str(name): check for name, check in document.items()}
