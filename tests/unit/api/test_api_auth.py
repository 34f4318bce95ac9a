"""Who calls: static tokens by their hash, Keystone's word through its middleware, and never a client's own headers."""

import hashlib
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from casimg.errors import ConfigError
from casimg_api.auth import caller_of, guarded, load_tokens, with_implied
from casimg_api.config import AuthConfig
from casimg_api.context import CALLER_KEY, Caller
from casimg_api.policy import Policy

POLICY = Policy()
FORGED = {
    "HTTP_X_IDENTITY_STATUS": "Confirmed",
    "HTTP_X_SERVICE_IDENTITY_STATUS": "Confirmed",
    "HTTP_X_PROJECT_ID": "victim",
    "HTTP_X_TENANT_ID": "victim",
    "HTTP_X_TENANT": "victim",
    "HTTP_X_USER_ID": "root",
    "HTTP_X_ROLES": "admin,service",
    "HTTP_X_ROLE": "admin",
    "HTTP_X_SERVICE_ROLES": "service",
    "HTTP_X_IS_ADMIN_PROJECT": "True",
}
KEYSTONE = {
    "auth_url": "http://127.0.0.1:9/",
    "username": "glance",
    "password": "secret",
    "project_name": "service",
    "user_domain_name": "Default",
    "project_domain_name": "Default",
    "www_authenticate_uri": "http://keystone.example/",
}


def called(config: AuthConfig, headers: dict[str, str]) -> tuple[str, Caller | None, dict[str, str]]:
    """Return the status, the caller that the application saw, and the headers of the answer."""
    seen: list[Caller] = []
    sent: list[Any] = []

    def app(environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        seen.append(environ[CALLER_KEY])
        start_response("200 OK", [])
        return [b""]

    environ = {"REQUEST_METHOD": "GET", "PATH_INFO": "/v2/images", "SERVER_NAME": "x", "SERVER_PORT": "80"}
    environ |= {"wsgi.url_scheme": "http", **headers}
    list(guarded(app, config, POLICY)(environ, lambda line, found, *_: sent.extend((line, dict(found)))))  # type: ignore[arg-type]
    return sent[0], seen[0] if seen else None, sent[1]


def tokens_file(folder: Path, text: str) -> AuthConfig:
    path = folder / "tokens.toml"
    path.write_text(text)
    return AuthConfig(mode="tokens", tokens_file=str(path))


def entry(token: str, roles: str = '["member"]') -> str:
    digest = hashlib.sha256(token.encode()).hexdigest()
    return f'[tokens.t{len(token)}]\nsha256 = "{digest}"\nproject = "mine"\nuser = "u"\nroles = {roles}\n'


def test_no_auth_is_one_admin() -> None:
    """Without authentication everybody is admin of the configured project, whatever headers say."""
    status, caller, _ = called(AuthConfig(project="lab"), FORGED)
    assert status == "200 OK"
    assert caller == Caller("lab", "casimg", ("admin", "member", "reader"), is_admin=True)


def test_static_tokens(tmp_path: Path) -> None:
    """A token is known by its hash; a wrong one, a part of one, or none is 401, and forged headers change nothing."""
    config = tokens_file(tmp_path, entry("secret") + entry("boss-token", '["Admin"]'))
    _, caller, _ = called(config, {**FORGED, "HTTP_X_AUTH_TOKEN": "secret"})
    assert caller == Caller("mine", "u", ("member", "reader"))
    _, boss, _ = called(config, {"HTTP_X_AUTH_TOKEN": "boss-token"})
    assert boss is not None
    assert boss.is_admin
    for token in ("", "secre", "secret ", "SECRET", "s" * 10_000, "\xff"):
        status, caller, headers = called(config, {**FORGED, "HTTP_X_AUTH_TOKEN": token})
        assert (status, caller) == ("401 Unauthorized", None)
        assert "WWW-Authenticate" in headers
    assert called(config, FORGED)[0] == "401 Unauthorized"


@pytest.mark.parametrize(
    "text",
    [
        "tokens = 1\n",
        "[other]\n",
        "[tokens.a]\nsha256 = ''\n",
        entry("x").replace('user = "u"', "user = ''"),
        entry("x").replace('user = "u"', "user = 1"),
        entry("x", '"member"'),
        entry("x", "[1]"),
        entry("x").replace('project = "mine"', 'porject = "mine"'),
        '[tokens.a]\nsha256 = "00"\nproject = "p"\nuser = "u"\nroles = []\n',
        '[tokens.a]\nsha256 = "zz"\nproject = "p"\nuser = "u"\nroles = []\n',
        "[",
    ],
)
def test_wrong_token_files(tmp_path: Path, text: str) -> None:
    """A file of tokens with a mistake is refused whole."""
    with pytest.raises(ConfigError):
        load_tokens(Path(tokens_file(tmp_path, text).tokens_file))


def test_implied_roles() -> None:
    """admin includes member, member includes reader, as Keystone has it; other roles stand alone."""
    assert with_implied(["Admin"]) == ("admin", "member", "reader")
    assert with_implied(["member", "service"]) == ("member", "reader", "service")


def test_keystone_middleware_lets_nobody_pose() -> None:
    """Identity headers that a client sends are removed: without a token it is 401, and Keystone is named."""
    config = AuthConfig(mode="keystone", keystone=KEYSTONE)
    status, caller, headers = called(config, FORGED)
    assert (status, caller) == ("401 Unauthorized", None)
    assert headers["WWW-Authenticate"] == 'Keystone uri="http://keystone.example/"'


def test_who_has_no_token(tmp_path: Path) -> None:
    """Where that is let in, no token is a caller without project, roles or rights, whatever other headers say; a token
    that is not valid is refused as ever."""
    tokens = replace(tokens_file(tmp_path, entry("secret")), allow_anonymous_access=True)
    keystone = {**KEYSTONE, "http_request_max_retries": 0}
    for config in (tokens, AuthConfig(mode="keystone", keystone=keystone, allow_anonymous_access=True)):
        status, caller, _ = called(config, FORGED)
        assert (status, caller) == ("200 OK", Caller(None, None, (), is_anonymous=True))
        for name in ("HTTP_X_AUTH_TOKEN", "HTTP_X_STORAGE_TOKEN", "HTTP_X_SERVICE_TOKEN"):
            assert called(config, {**FORGED, name: "wrong"})[0] == "401 Unauthorized"


def test_keystone_out_of_reach_lets_nobody_in() -> None:
    """A token that nobody can judge is refused, as by a Glance behind the same middleware."""
    config = AuthConfig(mode="keystone", keystone={**KEYSTONE, "http_request_max_retries": 0})
    status, caller, _ = called(config, {**FORGED, "HTTP_X_AUTH_TOKEN": "a-token"})
    assert (status, caller) == ("401 Unauthorized", None)


def test_keystone_options_are_known() -> None:
    """A misspelled option of keystonemiddleware, or an unknown kind of authentication, is an error."""
    for wrong in ({"pasword": "x"}, {"auth_type": "telepathy"}):
        with pytest.raises(ConfigError):
            called(AuthConfig(mode="keystone", keystone={**KEYSTONE, **wrong}), {})


def test_whom_keystone_confirmed() -> None:
    """Roles are lower case, a service token's roles count only when it was confirmed, scopes are told apart."""
    found = caller_of({**FORGED, "HTTP_X_ROLES": "Member, Reader"})
    assert found == Caller("victim", "root", ("member", "reader"), service_roles=("service",))
    assert found.is_service
    assert caller_of({**FORGED, "HTTP_X_SERVICE_IDENTITY_STATUS": "Invalid"}).service_roles == ()
    assert caller_of({"HTTP_OPENSTACK_SYSTEM_SCOPE": "all"}).scope == "system"
    assert caller_of({"HTTP_X_DOMAIN_ID": "d", "HTTP_X_PROJECT_ID": None}).scope == "domain"
