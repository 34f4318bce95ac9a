"""URLs that name this server from outside. Pure."""

from collections.abc import Mapping
from typing import Any
from wsgiref.util import application_uri

from casimg_api.config import ServerConfig


def base_url(environ: Mapping[str, Any], server: ServerConfig) -> str:
    """Return where clients reach the service, without a slash at the end."""
    if server.public_endpoint:
        return server.public_endpoint.rstrip("/")
    return application_uri(dict(environ)).rstrip("/")


def absolute_url(environ: Mapping[str, Any], server: ServerConfig, path: str) -> str:
    """Return the URL of a path of the service."""
    return base_url(environ, server) + path
