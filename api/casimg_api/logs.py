"""Where the lines of the log go: to standard error, which every server writes into a log of its own."""

import logging
import sys
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from casimg_api.config import Config

FORM: Final = "%(asctime)s %(process)d %(levelname)s %(name)s %(message)s"


def start_logging(config: "Config") -> None:
    """Log at the level that is configured; other libraries only when something is wrong.

    Whoever has given the root logger handlers before keeps those.
    """
    logging.basicConfig(stream=sys.stderr, level=logging.WARNING, format=FORM)
    for name in ("casimg", "casimg_api"):
        logger = logging.getLogger(name)
        logger.setLevel(config.log.level.upper())
        logger.propagate = True
