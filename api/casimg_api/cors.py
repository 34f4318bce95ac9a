"""Let pages of other origins call from a browser, such as Horizon with direct uploads.

Answers preflights itself; to every other answer for an allowed origin it adds the headers that a browser asks for.
Source: Fetch standard, "CORS protocol"; option names and defaults as oslo.middleware has them for Glance.
"""

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, Final

from casimg_api.config import CorsConfig

if TYPE_CHECKING:
    from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment

_SIMPLE: Final = frozenset({"accept", "accept-language", "cache-control", "content-language", "content-type"})

Headers = list[tuple[str, str]]


class Cors:
    """WSGI middleware; any thread may call it."""

    def __init__(self, app: "WSGIApplication", config: CorsConfig) -> None:
        self._app = app
        self._config = config
        self._allowed_headers = _SIMPLE | {name.lower() for name in config.allow_headers}

    def __call__(self, environ: "WSGIEnvironment", start_response: "StartResponse") -> Iterable[bytes]:
        origin = environ.get("HTTP_ORIGIN")
        if origin is None:
            return self._app(environ, start_response)
        allowed = self._allows(origin)
        if environ["REQUEST_METHOD"] == "OPTIONS" and "HTTP_ACCESS_CONTROL_REQUEST_METHOD" in environ:
            headers = self._preflight(environ, origin) if allowed else []
            start_response("200 OK", [*headers, ("Content-Length", "0"), ("Vary", "Origin")])
            return []

        def start(status: str, headers: Headers, exc_info: Any = None) -> Any:
            added = self._origin(origin) if allowed else []
            if allowed and self._config.expose_headers:
                added.append(("Access-Control-Expose-Headers", ",".join(self._config.expose_headers)))
            whole = [*headers, *added, ("Vary", "Origin")]
            return start_response(status, whole) if exc_info is None else start_response(status, whole, exc_info)

        return self._app(environ, start)

    def _allows(self, origin: str) -> bool:
        return "*" in self._config.allowed_origin or origin in self._config.allowed_origin

    def _origin(self, origin: str) -> Headers:
        """Return the headers that let an origin read an answer; credentials never go to origins that nobody named."""
        if origin not in self._config.allowed_origin:
            return [("Access-Control-Allow-Origin", "*")]
        found = [("Access-Control-Allow-Origin", origin)]
        if self._config.allow_credentials:
            found.append(("Access-Control-Allow-Credentials", "true"))
        return found

    def _preflight(self, environ: "WSGIEnvironment", origin: str) -> Headers:
        asked = environ.get("HTTP_ACCESS_CONTROL_REQUEST_HEADERS", "").split(",")
        names = [name.strip() for name in asked if name.strip()]
        method = environ["HTTP_ACCESS_CONTROL_REQUEST_METHOD"]
        if method not in self._config.allow_methods or {name.lower() for name in names} - self._allowed_headers:
            return []
        found = self._origin(origin)
        found.append(("Access-Control-Max-Age", str(self._config.max_age)))
        found.append(("Access-Control-Allow-Methods", method))
        if names:
            found.append(("Access-Control-Allow-Headers", ",".join(names)))
        return found
