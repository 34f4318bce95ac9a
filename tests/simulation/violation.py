"""What the simulation found to be wrong."""


class ViolationError(Exception):
    """An invariant does not hold.

    Args:
        kind: name of the invariant, as in tests/simulation/invariants.py.
        what: what is wrong.
    """

    def __init__(self, kind: str, what: str) -> None:
        self.kind = kind
        self.what = what
        super().__init__(f"{kind}: {what}")
