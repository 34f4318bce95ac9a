"""Write the description of a server with the default configuration, as docs/openapi.json has it."""

import json
import sys

from casimg_api.app import ALL_ROUTES
from casimg_api.config import Config
from casimg_api.openapi import document


def text() -> str:
    """Return the file."""
    return json.dumps(document(Config(), ALL_ROUTES), indent=1, ensure_ascii=False) + "\n"


if __name__ == "__main__":
    sys.stdout.write(text())
