"""Limits that Keystone has for projects, asked for through oslo.limit where Glance asks for them.

They are soft, as in Glance: what there is and what is asked for is compared before work begins, so data of an unknown
size may pass a limit once. Sizes are whole MiB of plain bytes.
"""

import logging
import threading
from collections.abc import Callable, Collection, Mapping
from typing import TYPE_CHECKING, Any, Final, Protocol

from casimg.errors import ConfigError
from casimg_api.config import QuotaConfig
from casimg_api.errors import HttpError

if TYPE_CHECKING:
    from casimg_api.ports import RegistryPort

_log = logging.getLogger("casimg_api.unified_limits")

SIZE: Final = "image_size_total"
STAGED: Final = "image_stage_total"
COUNT: Final = "image_count_total"
UPLOADING: Final = "image_count_uploading"
RESOURCES: Final = (SIZE, STAGED, COUNT, UPLOADING)
"""Glance's names; operators register their limits under them."""

_WHERE: Final = "[quota.oslo_limit]"
_MIB: Final = 1 << 20

Count = Callable[[str | None, Collection[str]], dict[str, int]]
"""Returns what a project has of resources, by their names."""


class Keeper(Protocol):
    """Knows the limits of projects. Threads: any may call."""

    def enforce(self, project: str, deltas: Mapping[str, int]) -> None:
        """Raise HttpError 413 when a project would have more than it may, 500 or 503 when that cannot be told."""

    def figures(self, project: str, names: Collection[str]) -> Mapping[str, tuple[int, int]]:
        """Return usage and limit by resource; a negative limit is none. Raises: HttpError 500, 503."""


class UnifiedLimits:
    """What projects may have; everything, when no limits are configured. Threads: any may call.

    Args:
        make_keeper: makes who knows the limits, from what counts; None for no limits.
    """

    def __init__(self, registry: "RegistryPort", make_keeper: Callable[[Count], Keeper] | None = None) -> None:
        self._registry = registry
        self._keeper = None if make_keeper is None else make_keeper(self._count)

    def check_new_image(self, project: str | None) -> None:
        """Raise 413 unless a project may have one more image."""
        self._check(project, {COUNT: 1})

    def check_snapshot(self, project: str | None, size: int) -> None:
        """Raise 413 unless a project may have so many bytes more at once."""
        self._check(project, {SIZE: size // _MIB})

    def check_upload(self, project: str | None, size: int | None) -> None:
        """Raise 413 unless a project may upload data; their size when it is known."""
        self._check(project, {SIZE: (size or 0) // _MIB, UPLOADING: 1})

    def check_stage(self, project: str | None, size: int | None) -> None:
        """Raise 413 unless a project may have data kept aside; their size when it is known."""
        self._check(project, {STAGED: (size or 0) // _MIB, UPLOADING: 1})

    def check_import(self, project: str | None) -> None:
        """Raise 413 when a project that asks for an import has more bytes than it may already."""
        self._check(project, {SIZE: 0})

    def check_staged(self, project: str | None, size: int) -> None:
        """Raise 413 unless staged data, which count as on their way already, may become an image's."""
        self._check(project, {SIZE: size // _MIB})

    def check_fetch(self, project: str | None) -> None:
        """Raise 413 unless the data of one more image may be fetched, which may keep them aside."""
        self._check(project, {STAGED: 0, UPLOADING: 1})

    def check_copy(self, project: str | None) -> None:
        """Raise 413 unless one more image may be at work; of a copy nothing is kept aside."""
        self._check(project, {UPLOADING: 1})

    def figures(self, project: str | None) -> Mapping[str, tuple[int, int]]:
        """Return usage and limit by resource, of a project; nothing without limits."""
        if self._keeper is None or project is None:
            return {}
        return self._keeper.figures(project, RESOURCES)

    def _check(self, project: str | None, deltas: Mapping[str, int]) -> None:
        if self._keeper is not None and project is not None:
            self._keeper.enforce(project, deltas)

    def _count(self, project: str | None, names: Collection[str]) -> dict[str, int]:
        if project is None:
            return dict.fromkeys(names, 0)
        row = self._registry.usage(project)
        found = {
            SIZE: row.size // _MIB,
            STAGED: row.staged_size // _MIB,
            COUNT: row.image_count,
            UPLOADING: row.uploading_count,
        }
        return {name: found[name] for name in names}


def limits_of_config(registry: "RegistryPort", config: QuotaConfig) -> UnifiedLimits:
    """Return the limits that are configured. Raises: ConfigError."""
    if not config.use_keystone_limits:
        return UnifiedLimits(registry)
    _configure(config.oslo_limit)
    return UnifiedLimits(registry, KeystoneKeeper)


class KeystoneKeeper:
    """Asks Keystone, anew each time: a limit that is changed there counts at once.

    Cost: one or two requests to Keystone for each resource, and two more the first time.
    """

    def __init__(self, count: Count) -> None:
        self._count = count
        self._lock = threading.Lock()
        self._enforcer: Any = None

    def enforce(self, project: str, deltas: Mapping[str, int]) -> None:
        """Raise HttpError 413 when a project would have more than it may."""
        from oslo_limit.exception import ProjectOverLimit

        try:
            self._ask(lambda enforcer: enforcer.enforce(project, dict(deltas)))
        except ProjectOverLimit as error:
            _log.info("limits.over project=%s why=%s", project, error)
            raise HttpError(413, str(error)) from None

    def figures(self, project: str, names: Collection[str]) -> Mapping[str, tuple[int, int]]:
        """Return usage and limit by resource."""
        found = self._ask(lambda enforcer: enforcer.calculate_usage(project, list(names)))
        return {name: (one.usage, one.limit) for name, one in found.items()}

    def _ask(self, question: Callable[[Any], Any]) -> Any:
        from keystoneauth1.exceptions import ClientException
        from openstack.exceptions import SDKException
        from oslo_limit.exception import SessionInitError

        try:
            return question(self._ready())
        except (ClientException, SDKException) as error:
            _log.error("limits.not_told why=%s", error)
            raise HttpError(503, "The limits of projects cannot be asked for now.") from error
        except (SessionInitError, ValueError, NotImplementedError) as error:
            _log.error("limits.misconfigured why=%s", error)
            raise HttpError(500) from error

    def _ready(self) -> Any:
        from oslo_limit import limit

        with self._lock:
            if self._enforcer is None:
                self._enforcer = limit.Enforcer(self._count, cache=False)
            return self._enforcer


def _configure(options: Mapping[str, Any]) -> None:
    """Tell oslo.limit, which has one configuration for the process. Raises: ConfigError."""
    try:
        from oslo_limit import limit, opts
    except ImportError as error:
        raise ConfigError(
            "quota.use_keystone_limits", f"oslo.limit is not installed ({error}); pip install 'casimg[limits]'"
        ) from None
    conf, group = limit.CONF, "oslo_limit"
    kind = options.get("auth_type", "password")
    conf.set_override("auth_type", kind, group=group)
    try:
        opts.register_opts(conf)
    except Exception as error:
        raise ConfigError(_WHERE, f"auth_type {kind!r}: {error}") from None
    known = set(conf[group]) - {"auth_section"}
    unknown = sorted(set(options) - known)
    if unknown:
        raise ConfigError(_WHERE, f"unknown keys {', '.join(unknown)}; oslo.limit documents those there are")
    for name in known - {"auth_type"}:
        conf.clear_override(name, group=group)
    for name, value in options.items():
        try:
            conf.set_override(name, value, group=group)
        except ValueError as error:
            raise ConfigError(_WHERE, f"{name}: {error}") from None
