"""What a decoder says of bytes that are not what was encoded."""


class FormatDamage(ValueError):
    """Bytes that no encoder made. Callers that know where they came from turn it into a DamageError.

    Args:
        why: what is wrong.
        offset: where in the decoded bytes, if known.
    """

    def __init__(self, why: str, offset: int | None = None) -> None:
        self.why = why
        self.offset = offset
        super().__init__(why)
