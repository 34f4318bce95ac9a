"""Make the application that a configuration file describes, for whatever server loads it."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Final

import casimg
from casimg.errors import ConfigError
from casimg_api.app import make_app
from casimg_api.config import Config
from casimg_api.logs import start_logging
from casimg_api.wsgi_servers import AnyServer

if TYPE_CHECKING:
    from wsgiref.types import WSGIApplication

CONFIG_VARIABLE: Final = "CASIMG_CONFIG"


def load(path: str | None) -> "WSGIApplication":
    """Return the application over the repository that a configuration names. Raises: ConfigError, RepositoryError."""
    if not path:
        raise ConfigError(CONFIG_VARIABLE, "it must name the configuration of the server")
    config = Config.load(Path(path))
    if not config.repository.path:
        raise ConfigError(path, "[repository] path must name the repository")
    start_logging(config)
    app = make_app(casimg.open(config.repository.path), config)
    large_reads = _direct if "gunicorn.workers" in sys.modules else None
    return AnyServer(app, is_open=config.auth.mode == "none", large_reads=large_reads)


def _direct(app: "WSGIApplication") -> "WSGIApplication":
    # Only here: other servers need not have gunicorn.
    from casimg_api.direct_send import DirectSends
    from casimg_api.server_body import LargeReads

    return DirectSends(LargeReads(app))
