"""What every request passes first, where no server is needed to see it."""

from collections.abc import Iterable
from typing import Any

from casimg_api.config import Config
from casimg_api.front import Front


def answered(app: Any, path: str = "/v2/images", **environ: str) -> tuple[str, dict[str, str], bytes]:
    """Return status, headers and body of a request."""
    sent: list[Any] = []
    whole: dict[str, Any] = {"REQUEST_METHOD": "GET", "PATH_INFO": path, "wsgi.url_scheme": "http", **environ}
    whole |= {"SERVER_NAME": "x", "SERVER_PORT": "80"}
    parts = Front(app, Config())(whole, lambda line, headers, *_: sent.extend((line, dict(headers))))  # type: ignore[arg-type]
    return sent[0], sent[1], b"".join(parts)


def test_a_failure_behind_it_is_500() -> None:
    """What fails outside of all handlers is told as an error with its id, and nothing of why."""

    def broken(_environ: dict[str, Any], _start: Any) -> Iterable[bytes]:
        raise RuntimeError("secret")

    status, headers, body = answered(broken, HTTP_ACCEPT="application/json")
    assert status == "500 Internal Server Error"
    assert headers["x-openstack-request-id"].startswith("req-")
    assert b"secret" not in body


def test_headers_are_spelled() -> None:
    """Names in lower case get capitals, those that Glance spells otherwise its own spelling, others stay."""

    def app(_environ: dict[str, Any], start: Any) -> Iterable[bytes]:
        names = ["content-type", "content-md5", "etag", "openstack-image-store-ids", "X-MiXed"]
        start("200 OK", [(name, "v") for name in names])
        return []

    _, headers, _ = answered(app)
    assert list(headers) == [
        *("Content-Type", "Content-MD5", "ETag", "OpenStack-image-store-ids", "X-MiXed", "x-openstack-request-id"),
    ]


def test_paths() -> None:
    """Aliases become /v2; what is behind them stays as it is."""
    seen: list[str] = []

    def app(environ: dict[str, Any], start: Any) -> Iterable[bytes]:
        seen.append(environ["PATH_INFO"])
        start("200 OK", [])
        return []

    for path in ("/v2", "/v2/", "/v2.3/images//x", "//v2.17/images"):
        assert answered(app, path)[0] == "200 OK"
    assert seen == ["/v2", "/v2/", "/v2/images//x", "/v2/images"]
    assert answered(app, "/v3/images")[0] == "300 Multiple Choices"
    assert len(seen) == 4
