"""What a route is: modules of handlers list theirs in `ROUTES`, and `app.py` adds the lists up. Pure."""

from collections.abc import Callable
from dataclasses import dataclass

from casimg_api.context import Call

Handler = Callable[..., None]
"""Called with a Call, then with the parts of the path by their names; it fills `call.resp` or raises."""


@dataclass(frozen=True, slots=True)
class Route:
    """One method of one path.

    Args:
        path: below /v2, with {names} of its parts.
        rejects_body: a body is 400.
    """

    method: str
    path: str
    handler: Handler
    rejects_body: bool = False


__all__ = ["Call", "Handler", "Route"]
