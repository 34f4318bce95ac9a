"""Make the application that a configuration file describes."""

from pathlib import Path
from typing import TYPE_CHECKING, Final

import casimg
from casimg.errors import ConfigError
from casimg_api.app import make_app
from casimg_api.config import Config

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
    return make_app(casimg.open(config.repository.path), config)
