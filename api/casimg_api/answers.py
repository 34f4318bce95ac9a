"""What handlers send back when all went well."""

import json
from typing import Any, Final

from casimg_api.context import Call

JSON: Final = "application/json"


def send_json(call: Call, document: Any, status: int = 200) -> None:
    """Answer with a JSON document."""
    call.resp.status = status
    call.resp.content_type = JSON
    call.resp.data = json.dumps(document, ensure_ascii=False).encode()


def send_nothing(call: Call, status: int = 204) -> None:
    """Answer that it is done."""
    call.resp.status = status
    call.resp.data = None
