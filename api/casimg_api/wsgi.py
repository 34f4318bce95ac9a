"""The application for WSGI servers that load a module: uWSGI, gunicorn, mod_wsgi.

`CASIMG_CONFIG` names the configuration; its section [repository] names the repository. Every worker process opens the
repository itself, so the module is loaded after a fork.
"""

import os
from pathlib import Path
from typing import TYPE_CHECKING

import casimg
from casimg.errors import ConfigError
from casimg_api.app import make_app
from casimg_api.config import Config

if TYPE_CHECKING:
    from wsgiref.types import WSGIApplication

CONFIG_VARIABLE = "CASIMG_CONFIG"


def load(path: str | None) -> "WSGIApplication":
    """Return the application that a configuration describes. Raises: ConfigError, RepositoryError."""
    if not path:
        raise ConfigError(CONFIG_VARIABLE, "it must name the configuration of the server")
    config = Config.load(Path(path))
    if not config.repository.path:
        raise ConfigError(path, "[repository] path must name the repository")
    return make_app(casimg.open(config.repository.path), config)


application = load(os.environ.get(CONFIG_VARIABLE))
