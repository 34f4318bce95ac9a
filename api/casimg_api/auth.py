"""Who calls: nobody in particular, the owner of a static token, or whom Keystone says.

Each way stands before the application as WSGI middleware and puts a Caller into the environ. Headers that name an
identity are read in one place only, behind keystonemiddleware, which removes those that clients send.
"""

import hashlib
import hmac
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from casimg.errors import ConfigError
from casimg_api.answers import refuse
from casimg_api.config import AuthConfig
from casimg_api.context import ANONYMOUS, CALLER_KEY, Caller
from casimg_api.errors import HttpError
from casimg_api.policy import Policy

if TYPE_CHECKING:
    from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment

TOKENS_SIZE_MAX: Final = 1 << 20
TOKEN_LENGTH_MAX: Final = 4096
_IMPLIED: Final = {"admin": ("member", "reader"), "member": ("reader",)}
"""Keystone's implied roles, for ways that have no Keystone."""


def guarded(app: "WSGIApplication", config: AuthConfig, policy: Policy) -> "WSGIApplication":
    """Return an application behind the configured authentication. Raises: ConfigError."""
    if config.mode == "tokens":
        tokens = load_tokens(Path(config.tokens_file))
        return StaticTokens(app, policy, tokens, lets_anonymous=config.allow_anonymous_access)
    if config.mode == "keystone":
        return _keystone(KeystoneCaller(app, policy, lets_anonymous=config.allow_anonymous_access), config.keystone)
    return NoAuth(app, policy, config)


def with_implied(roles: Iterable[str]) -> tuple[str, ...]:
    """Return roles, lower case, with those that they include."""
    found = {role.lower() for role in roles}
    return tuple(sorted(found.union(*(_IMPLIED.get(role, ()) for role in found))))


class NoAuth:
    """Everybody is an administrator of one project."""

    def __init__(self, app: "WSGIApplication", policy: Policy, config: AuthConfig) -> None:
        self._app = app
        self._policy = policy
        self._caller = Caller(config.project, config.user, with_implied(["admin"]))

    def __call__(self, environ: "WSGIEnvironment", start_response: "StartResponse") -> Iterable[bytes]:
        environ[CALLER_KEY] = replace(self._caller, is_admin=self._policy.is_admin(self._caller))
        return self._app(environ, start_response)


@dataclass(frozen=True, slots=True)
class TokenEntry:
    """A static token, by its hash."""

    digest: bytes
    caller: Caller


def load_tokens(path: Path) -> tuple[TokenEntry, ...]:
    """Return the tokens of a file. Raises: ConfigError; its message names entries, never hashes."""
    try:
        data = path.read_bytes()
        if len(data) > TOKENS_SIZE_MAX:
            raise ConfigError(str(path), "a file of tokens has at most 1 MiB")
        document = tomllib.loads(data.decode())
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise ConfigError(str(path), f"the file of tokens cannot be read: {error}") from None
    table = document.get("tokens", {})
    if set(document) - {"tokens"} or not isinstance(table, dict):
        raise ConfigError(str(path), "a file of tokens has nothing but tables [tokens.NAME]")
    return tuple(_token(str(path), name, entry) for name, entry in table.items())


def _token(where: str, name: str, entry: Any) -> TokenEntry:
    keys = {"sha256", "project", "user", "roles"}
    if not isinstance(entry, dict) or set(entry) != keys:
        raise ConfigError(where, f"token {name!r} must have {', '.join(sorted(keys))} and nothing else")
    roles = entry["roles"]
    texts = [entry["sha256"], entry["project"], entry["user"]]
    if not isinstance(roles, list) or not all(isinstance(text, str) and text for text in (*texts, *roles)):
        raise ConfigError(where, f"token {name!r}: sha256, project and user are texts, roles a list of texts")
    try:
        digest = bytes.fromhex(entry["sha256"])
    except ValueError:
        digest = b""
    if len(digest) != hashlib.sha256().digest_size:
        raise ConfigError(where, f"token {name!r}: sha256 must be 64 hex digits")
    return TokenEntry(digest, Caller(entry["project"], entry["user"], with_implied(roles)))


class StaticTokens:
    """Tokens of a file, for small sites."""

    def __init__(
        self, app: "WSGIApplication", policy: Policy, tokens: tuple[TokenEntry, ...], *, lets_anonymous: bool
    ) -> None:
        self._app = app
        self._policy = policy
        self._tokens = tokens
        self._lets_anonymous = lets_anonymous

    def __call__(self, environ: "WSGIEnvironment", start_response: "StartResponse") -> Iterable[bytes]:
        caller = self._caller(environ.get("HTTP_X_AUTH_TOKEN", ""))
        if caller is None and self._lets_anonymous and not has_token(environ):
            environ[CALLER_KEY] = ANONYMOUS
            return self._app(environ, start_response)
        if caller is None:
            headers = {"WWW-Authenticate": 'X-Auth-Token realm="casimg"'}
            return refuse(environ, start_response, HttpError(401, headers=headers))
        environ[CALLER_KEY] = replace(caller, is_admin=self._policy.is_admin(caller))
        return self._app(environ, start_response)

    def _caller(self, token: str) -> Caller | None:
        """Return whose token it is; how long that takes says nothing about any of them."""
        if len(token) > TOKEN_LENGTH_MAX:
            return None
        digest = hashlib.sha256(token.encode("latin-1", "replace")).digest()
        found: Caller | None = None
        for entry in self._tokens:
            if hmac.compare_digest(entry.digest, digest):
                found = entry.caller
        return found if token else None


class KeystoneCaller:
    """What stands behind keystonemiddleware: takes over whom it confirmed, and refuses everybody else.

    Args:
        lets_anonymous: whether those without a token are let in; one that is not confirmed is refused in any case.
    """

    def __init__(self, app: "WSGIApplication", policy: Policy, *, lets_anonymous: bool) -> None:
        self._app = app
        self._policy = policy
        self._lets_anonymous = lets_anonymous

    def __call__(self, environ: "WSGIEnvironment", start_response: "StartResponse") -> Iterable[bytes]:
        if environ.get("HTTP_X_IDENTITY_STATUS") != "Confirmed":
            if self._lets_anonymous and not has_token(environ):
                environ[CALLER_KEY] = ANONYMOUS
                return self._app(environ, start_response)
            return refuse(environ, start_response, HttpError(401))
        caller = caller_of(environ)
        environ[CALLER_KEY] = replace(caller, is_admin=self._policy.is_admin(caller))
        return self._app(environ, start_response)


def has_token(environ: Mapping[str, Any]) -> bool:
    """Return whether a request comes with a token, of whatever worth."""
    return any(environ.get(name) for name in ("HTTP_X_AUTH_TOKEN", "HTTP_X_STORAGE_TOKEN", "HTTP_X_SERVICE_TOKEN"))


def caller_of(environ: Mapping[str, Any]) -> Caller:
    """Return whom keystonemiddleware put into the headers of a request that it confirmed."""
    scope = "project"
    if environ.get("HTTP_OPENSTACK_SYSTEM_SCOPE"):
        scope = "system"
    elif environ.get("HTTP_X_DOMAIN_ID"):
        scope = "domain"
    service = environ.get("HTTP_X_SERVICE_IDENTITY_STATUS") == "Confirmed"
    return Caller(
        project_id=environ.get("HTTP_X_PROJECT_ID") or None,
        user_id=environ.get("HTTP_X_USER_ID") or None,
        roles=_roles(environ.get("HTTP_X_ROLES")),
        service_roles=_roles(environ.get("HTTP_X_SERVICE_ROLES")) if service else (),
        scope=scope,
    )


def _roles(header: str | None) -> tuple[str, ...]:
    return tuple(role.strip().lower() for role in (header or "").split(",") if role.strip())


def _keystone(app: "WSGIApplication", options: Mapping[str, Any]) -> "WSGIApplication":
    """Return an application behind keystonemiddleware. Raises: ConfigError for options that nobody reads."""
    from keystoneauth1 import loading
    from keystonemiddleware import auth_token
    from keystonemiddleware.auth_token import _opts
    from oslo_config import cfg

    where = "[auth.keystone]"
    known = {option.dest for _group, found in _opts.list_opts() for option in found} | {"auth_type", "auth_section"}
    kind = options.get("auth_type", "password")
    loader: Any
    try:
        loader = loading.get_plugin_loader(kind)
    except Exception as error:
        raise ConfigError(where, f"auth_type {kind!r}: {error}") from None
    for option in loader.get_options():
        known |= {option.dest, *(name.dest for name in option.deprecated)}
    unknown = sorted(set(options) - known)
    if unknown:
        raise ConfigError(where, f"unknown keys {', '.join(unknown)}; keystonemiddleware documents those there are")
    conf = cfg.ConfigOpts()
    conf([], project="casimg", default_config_files=[], default_config_dirs=[])
    texts = {key: ",".join(value) if isinstance(value, list) else value for key, value in options.items()}
    try:
        protected: WSGIApplication = auth_token.AuthProtocol(
            app, {"auth_type": kind, **texts, "delay_auth_decision": True, "oslo_config_config": conf}
        )
    except Exception as error:
        raise ConfigError(where, f"keystonemiddleware refuses it: {error}") from None
    return protected
