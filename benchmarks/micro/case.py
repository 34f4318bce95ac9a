"""A case of the micro benchmark."""

from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Case:
    """One thing to measure.

    Attributes:
        limit: name of the case it is held against; "" for a limit.
        amount: what one run does: plain bytes, or how many of `unit`.
        before: called before each run and not measured.
    """

    name: str
    limit: str
    run: Callable[[], object]
    amount: int
    unit: str = "bytes"
    before: Callable[[], object] = bool
