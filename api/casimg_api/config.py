"""What the server is told: one TOML file, every key with a default, unknown keys are errors.

Keys that Glance has too are named as there and mean the same. `sample.toml`, shipped beside this module, says every key
with its default; a test holds the two together.
"""

import ipaddress
import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from types import UnionType
from typing import Any, Final, Literal, Self, Union, get_args, get_origin, get_type_hints

from casimg.errors import ConfigError

CONFIG_SIZE_MAX: Final = 1 << 20
_SIZE: Final = re.compile(r"([0-9]{1,9})\s*(B|KB|MB|GB|TB)?", re.IGNORECASE)
_UNITS: Final = {"B": 1, "KB": 1 << 10, "MB": 1 << 20, "GB": 1 << 30, "TB": 1 << 40}
_STORE_NAME: Final = re.compile(r"[a-z0-9][a-z0-9_-]{0,63}", re.IGNORECASE)
IMPORT_METHODS: Final = ("glance-direct", "web-download", "glance-download", "copy-image")
"""Ways of import that there are."""
SAMPLE: Final = Path(__file__).with_name("sample.toml")
_OTHERS: Final = Path(__file__).with_name("samples")
SAMPLES: Final = {
    "casimg": SAMPLE,
    "gunicorn": _OTHERS / "gunicorn_conf.py",
    "uwsgi": _OTHERS / "uwsgi.ini",
    "mod_wsgi": _OTHERS / "mod_wsgi.conf",
}
"""Configurations to begin with: the service's, and those of WSGI servers that load `wsgi.py`."""


@dataclass(frozen=True, slots=True)
class ServerConfig:
    """Where and how the server listens."""

    host: str = "127.0.0.1"
    port: int = 9292
    workers: int = 1
    threads: int = 64
    idle_timeout_s: int = 600
    public_endpoint: str = ""
    json_body_size_max: int = 1 << 20


@dataclass(frozen=True, slots=True)
class LogConfig:
    """What is told on standard error."""

    level: Literal["debug", "info", "warning", "error"] = "info"
    access: bool = True


@dataclass(frozen=True, slots=True)
class RepositoryPlace:
    """Which repository is served."""

    path: str = ""


@dataclass(frozen=True, slots=True)
class AuthConfig:
    """Who may call."""

    mode: Literal["none", "tokens", "keystone"] = "none"
    project: str = "casimg"
    user: str = "casimg"
    tokens_file: str = ""
    keystone: Mapping[str, Any] = field(default_factory=dict)
    allow_anonymous_access: bool = False
    max_request_id_length: int = 64


@dataclass(frozen=True, slots=True)
class PolicyConfig:
    """What callers may do."""

    policy_file: str = ""
    property_protection_file: str = ""
    property_protection_rule_format: Literal["roles", "policies"] = "roles"


@dataclass(frozen=True, slots=True)
class ImagesConfig:
    """What images may be like, and how many are told at once."""

    container_formats: tuple[str, ...] = ("ami", "ari", "aki", "bare", "ovf", "ova", "docker", "compressed")
    disk_formats: tuple[str, ...] = (
        *("ami", "ari", "aki", "vhd", "vhdx", "vmdk", "raw", "qcow2", "vdi", "iso", "ploop"),
    )
    image_property_quota: int = 128
    image_member_quota: int = 128
    image_tag_quota: int = 128
    image_location_quota: int = 10
    show_image_direct_url: bool = False
    show_multiple_locations: bool = False
    do_secure_hash: bool = True
    limit_param_default: int = 25
    api_limit_max: int = 1000


@dataclass(frozen=True, slots=True)
class DataConfig:
    """What image data may be like, and how much of it there may be."""

    image_size_cap: int = 1 << 40
    user_storage_quota: str = "0"
    require_image_format_match: bool = True
    gpt_safety_checks_nonfatal: tuple[str, ...] = ()
    vmdk_allowed_types: tuple[str, ...] = ("streamOptimized", "monolithicSparse")


@dataclass(frozen=True, slots=True)
class QuotaConfig:
    """Limits of projects that Keystone has."""

    use_keystone_limits: bool = False
    oslo_limit: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class TaskConfig:
    """What is remembered of work in the background."""

    task_time_to_live: int = 48


@dataclass(frozen=True, slots=True)
class ImportConfig:
    """How data come in other ways than by an upload."""

    enabled_import_methods: tuple[str, ...] = ("glance-direct", "web-download")
    task_pool_threads: int = 16
    connect_timeout_s: int = 30
    read_timeout_s: int = 60
    time_max_s: int = 86400


@dataclass(frozen=True, slots=True)
class DownloadConfig:
    """What of an image of another region is taken over."""

    extra_properties: tuple[str, ...] = ("hw_", "trait:", "os_distro", "os_secure_boot", "os_type")


@dataclass(frozen=True, slots=True)
class FilteringConfig:
    """Where data may be fetched from; a list of what is allowed makes that of what is not count for nothing."""

    allowed_schemes: tuple[str, ...] = ("http", "https")
    disallowed_schemes: tuple[str, ...] = ()
    allowed_hosts: tuple[str, ...] = ()
    disallowed_hosts: tuple[str, ...] = ()
    allowed_ports: tuple[int, ...] = (80, 443)
    disallowed_ports: tuple[int, ...] = ()
    allowed_networks: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class StoreConfig:
    """The repository's backends as stores of Glance."""

    multi_store: bool = False
    default_backend: str = ""


@dataclass(frozen=True, slots=True)
class StoreOptions:
    """One store, which is named as its backend."""

    store_description: str = ""
    weight: int = 0


@dataclass(frozen=True, slots=True)
class HttpStoreConfig:
    """Web servers as a store that is only read; times in seconds."""

    enabled: bool = False
    name: str = "http"
    http_retries: int = 3
    connect_timeout_s: int = 30
    read_timeout_s: int = 60


@dataclass(frozen=True, slots=True)
class CacheConfig:
    """What the server keeps in memory, and in front of the repository on a disk; sizes in bytes, times in seconds."""

    memory_size_max: int = -1
    image_cache_dir: str = ""
    image_cache_max_size: int = 10 << 30
    image_cache_stall_time: int = 86400
    worker_self_reference_url: str = ""


@dataclass(frozen=True, slots=True)
class UpkeepConfig:
    """When the server collects by itself."""

    gc_every_h: int = 24
    gc_when_free_below: str = "5%"
    gc_pause_s: int = 3600
    look_every_s: int = 60


@dataclass(frozen=True, slots=True)
class CorsConfig:
    """Pages of which origins may call from a browser."""

    allowed_origin: tuple[str, ...] = ()
    allow_credentials: bool = True
    max_age: int = 3600
    allow_methods: tuple[str, ...] = ("GET", "PUT", "POST", "DELETE", "PATCH")
    allow_headers: tuple[str, ...] = (
        *("Content-MD5", "X-Image-Meta-Checksum", "X-Storage-Token", "Accept-Encoding", "X-Auth-Token"),
        *("X-Identity-Status", "X-Roles", "X-Service-Catalog", "X-User-Id", "X-Tenant-Id", "X-OpenStack-Request-ID"),
    )
    expose_headers: tuple[str, ...] = (
        *("X-Image-Meta-Checksum", "X-Auth-Token", "X-Subject-Token", "X-Service-Token", "X-OpenStack-Request-ID"),
    )


@dataclass(frozen=True, slots=True)
class HealthConfig:
    """How to take the server out of a load balancer."""

    disable_by_file_path: str = ""


@dataclass(frozen=True, slots=True)
class Config:
    """All of it, section by section."""

    server: ServerConfig = field(default_factory=ServerConfig)
    log: LogConfig = field(default_factory=LogConfig)
    repository: RepositoryPlace = field(default_factory=RepositoryPlace)
    auth: AuthConfig = field(default_factory=AuthConfig)
    policy: PolicyConfig = field(default_factory=PolicyConfig)
    images: ImagesConfig = field(default_factory=ImagesConfig)
    data: DataConfig = field(default_factory=DataConfig)
    quota: QuotaConfig = field(default_factory=QuotaConfig)
    task: TaskConfig = field(default_factory=TaskConfig)
    image_import: ImportConfig = field(default_factory=ImportConfig)
    import_filtering_opts: FilteringConfig = field(default_factory=FilteringConfig)
    glance_download_properties: DownloadConfig = field(default_factory=DownloadConfig)
    store: StoreConfig = field(default_factory=StoreConfig)
    stores: Mapping[str, StoreOptions] = field(default_factory=dict)
    http_store: HttpStoreConfig = field(default_factory=HttpStoreConfig)
    cache: CacheConfig = field(default_factory=CacheConfig)
    upkeep: UpkeepConfig = field(default_factory=UpkeepConfig)
    cors: CorsConfig = field(default_factory=CorsConfig)
    health: HealthConfig = field(default_factory=HealthConfig)

    @classmethod
    def load(cls, path: Path) -> Self:
        """Return what a file says; relative paths in it are taken from its folder. Raises: ConfigError."""
        try:
            with path.open("rb") as file:
                data = file.read(CONFIG_SIZE_MAX + 1)
            if len(data) > CONFIG_SIZE_MAX:
                raise ConfigError(str(path), "a configuration has at most 1 MiB")
            document = tomllib.loads(data.decode())
        except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
            raise ConfigError(str(path), str(error)) from None
        return cls.of(document, str(path), path.parent)

    @classmethod
    def of(cls, document: Mapping[str, Any], where: str, folder: Path | None = None) -> Self:
        """Return what a parsed document says.

        Args:
            where: for messages.
            folder: relative paths are taken from it; None leaves them.
        Raises: ConfigError for unknown keys, wrong types and values that cannot be.
        """
        hints = get_type_hints(cls)
        _only_known(document, hints, where, "section")
        sections: dict[str, Any] = {name: _section(hints[name], table, where, name) for name, table in document.items()}
        found = cls(**sections)
        found._check(where)
        return found if folder is None else found._below(folder)

    def _check(self, where: str) -> None:
        server, auth, filtering = self.server, self.auth, self.import_filtering_opts
        bounds = (
            ("server.port", server.port, 0, 65535),
            ("server.workers", server.workers, 1, 1024),
            ("server.threads", server.threads, 1, 1024),
            ("server.idle_timeout_s", server.idle_timeout_s, 0, 1 << 30),
            ("server.json_body_size_max", server.json_body_size_max, 1024, 1 << 30),
            ("auth.max_request_id_length", auth.max_request_id_length, 0, 16384),
            ("images.limit_param_default", self.images.limit_param_default, 1, 1 << 20),
            ("images.api_limit_max", self.images.api_limit_max, 1, 1 << 20),
            ("data.image_size_cap", self.data.image_size_cap, 1, 1 << 62),
            ("task.task_time_to_live", self.task.task_time_to_live, 0, 1 << 20),
            ("image_import.task_pool_threads", self.image_import.task_pool_threads, 1, 1024),
            ("image_import.connect_timeout_s", self.image_import.connect_timeout_s, 1, 3600),
            ("image_import.read_timeout_s", self.image_import.read_timeout_s, 1, 3600),
            ("image_import.time_max_s", self.image_import.time_max_s, 1, 6 * 86400),
            *(("import_filtering_opts.allowed_ports", port, 1, 65535) for port in filtering.allowed_ports),
            *(("import_filtering_opts.disallowed_ports", port, 1, 65535) for port in filtering.disallowed_ports),
            ("http_store.http_retries", self.http_store.http_retries, 0, 100),
            ("http_store.connect_timeout_s", self.http_store.connect_timeout_s, 1, 3600),
            ("http_store.read_timeout_s", self.http_store.read_timeout_s, 1, 3600),
            ("cache.memory_size_max", self.cache.memory_size_max, -1, 1 << 62),
            ("cache.image_cache_max_size", self.cache.image_cache_max_size, 0, 1 << 62),
            ("cache.image_cache_stall_time", self.cache.image_cache_stall_time, 0, 1 << 31),
            ("the length of cache.worker_self_reference_url", len(self.cache.worker_self_reference_url), 0, 255),
            ("upkeep.gc_every_h", self.upkeep.gc_every_h, 0, 1 << 20),
            ("upkeep.gc_pause_s", self.upkeep.gc_pause_s, 0, 1 << 30),
            ("upkeep.look_every_s", self.upkeep.look_every_s, 1, 86400),
            ("cors.max_age", self.cors.max_age, 0, 1 << 31),
        )
        for name, value, low, high in bounds:
            if not low <= value <= high:
                raise ConfigError(where, f"{name} is {value}, it must be from {low} to {high}")
        try:
            binary_size(self.data.user_storage_quota)
        except ValueError as error:
            raise ConfigError(where, f"data.user_storage_quota: {error}") from None
        try:
            room(self.upkeep.gc_when_free_below)
        except ValueError as error:
            raise ConfigError(where, f"upkeep.gc_when_free_below: {error}") from None
        for method in self.image_import.enabled_import_methods:
            if method not in IMPORT_METHODS:
                known = ", ".join(IMPORT_METHODS)
                raise ConfigError(where, f"image_import.enabled_import_methods: {method!r} is none of {known}")
        if "glance-download" in self.image_import.enabled_import_methods and auth.mode != "keystone":
            raise ConfigError(where, "glance-download asks with tokens of Keystone, so auth.mode must be keystone")
        for network in filtering.allowed_networks:
            try:
                ipaddress.ip_network(network)
            except ValueError as error:
                raise ConfigError(where, f"import_filtering_opts.allowed_networks: {error}") from None
        if _STORE_NAME.fullmatch(self.http_store.name) is None:
            raise ConfigError(
                where, f"http_store.name is {self.http_store.name!r}, it must be letters, digits, - and _"
            )
        if auth.mode == "tokens" and not auth.tokens_file:
            raise ConfigError(where, "auth.mode is tokens, so auth.tokens_file must name their file")
        if auth.mode == "keystone" and not auth.keystone:
            raise ConfigError(where, "auth.mode is keystone, so the table auth.keystone must say where it is")
        if self.quota.use_keystone_limits and not self.quota.oslo_limit:
            raise ConfigError(where, "the table quota.oslo_limit must say where Keystone's limits are")
        if auth.mode == "none" and auth.allow_anonymous_access:
            raise ConfigError(where, "auth.allow_anonymous_access: auth.mode is none, so nobody is anonymous")
        if auth.mode == "none" and not auth.project:
            raise ConfigError(where, "auth.project must name the project that owns new images")

    def _below(self, folder: Path) -> Self:
        def place(path: str) -> str:
            return str(folder / path) if path else path

        return replace(
            self,
            repository=replace(self.repository, path=place(self.repository.path)),
            auth=replace(self.auth, tokens_file=place(self.auth.tokens_file)),
            policy=replace(
                self.policy,
                policy_file=place(self.policy.policy_file),
                property_protection_file=place(self.policy.property_protection_file),
            ),
            cache=replace(self.cache, image_cache_dir=place(self.cache.image_cache_dir)),
            health=replace(self.health, disable_by_file_path=place(self.health.disable_by_file_path)),
        )


def binary_size(text: str) -> int:
    """Return the bytes of a size as Glance writes them: `10GB` is ten times 2**30. Raises: ValueError."""
    match = _SIZE.fullmatch(text.strip())
    if match is None:
        raise ValueError(f"{text!r} is no size: it wants a number and one of {', '.join(_UNITS)}")
    return int(match[1]) * _UNITS[(match[2] or "B").upper()]


def room(text: str) -> tuple[int, float]:
    """Return the bytes, or the share of all there are, that a text like `100GB` or `5%` names. Raises: ValueError."""
    if text.strip().endswith("%"):
        share = float(text.strip()[:-1])
        if not 0 <= share <= 100:
            raise ValueError(f"{text!r} is not from 0% to 100%")
        return 0, share / 100
    return binary_size(text), 0.0


def _only_known(table: Mapping[str, Any], known: Mapping[str, Any], where: str, what: str) -> None:
    unknown = sorted(set(table) - set(known))
    if unknown:
        raise ConfigError(where, f"unknown {what} {', '.join(unknown)}; known are {', '.join(sorted(known))}")


def _section(kind: Any, table: object, where: str, name: str) -> object:
    if not isinstance(table, dict):
        raise ConfigError(where, f"{name} must be a section: [{name}]")
    if get_origin(kind) is not None:  # sections that are named by whoever writes them
        inner = get_args(kind)[1]
        return {key: _section(inner, value, where, f"{name}.{key}") for key, value in table.items()}
    hints = get_type_hints(kind)
    _only_known(table, {item.name: item for item in fields(kind)}, where, f"key in [{name}]:")
    return kind(**{key: _value(hints[key], value, where, f"{name}.{key}") for key, value in table.items()})


def _value(kind: Any, value: Any, where: str, name: str) -> Any:
    """Return a value as its key wants it. Raises: ConfigError when it is of another type."""
    origin, args = get_origin(kind), get_args(kind)
    if origin is Literal:
        if value in args:
            return value
        raise ConfigError(where, f"{name} is {value!r}, it must be one of {', '.join(args)}")
    if origin is tuple:
        if isinstance(value, list) and all(type(item) is args[0] for item in value):
            return tuple(value)
        raise ConfigError(where, f"{name} must be a list of {args[0].__name__}")
    if origin in (Union, UnionType):
        raise TypeError(f"{name}: no optional values; an empty string says that something is not set")
    wanted = dict if origin is not None else kind
    if type(value) is not wanted:
        raise ConfigError(where, f"{name} must be of type {wanted.__name__}, not {type(value).__name__}")
    return value
