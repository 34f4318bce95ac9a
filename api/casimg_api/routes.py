"""What a route is: modules of handlers list theirs in `ROUTES`, and `app.py` adds the lists up. Pure."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from casimg_api.context import Call

V2: Final = "/v2"
"""Where Glance's routes are."""
EXTENSION: Final = "/casimg/v1"
"""Where routes are that Glance does not have; no path of Glance's begins so."""

Handler = Callable[..., None]
"""Called with a Call, then with the parts of the path by their names; it fills `call.resp` or raises."""


@dataclass(frozen=True, slots=True)
class Route:
    """One method of one path.

    Args:
        path: below its root, with {names} of its parts.
        rejects_body: a body is 400.
    """

    method: str
    path: str
    handler: Handler
    rejects_body: bool = False
    root: str = V2

    @property
    def full_path(self) -> str:
        return f"{self.root}{self.path}"


__all__ = ["EXTENSION", "V2", "Call", "Handler", "Route"]
