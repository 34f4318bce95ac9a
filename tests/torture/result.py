"""What an attack hands back: counts, seeds, what was compared, what was violated and how to see it again."""

import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, fields
from typing import Any


@dataclass(slots=True)
class Result:
    """One attack.

    Attributes:
        counts: what was done, by kind; printed in order.
        histogram: where kills or faults landed.
        violations: what must never be; empty when all held.
        notes: what is allowed and worth knowing: skipped, retried, refused.
        image_count, byte_count: images read back and compared with the truth.
    """

    attack: str
    seed: int
    replay: str
    counts: Counter[str] = field(default_factory=Counter)
    histogram: Counter[str] = field(default_factory=Counter)
    violations: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    image_count: int = 0
    byte_count: int = 0
    duration_s: float = 0.0

    def merge(self, other: "Result") -> None:
        """Add another run of the same attack."""
        self.counts += other.counts
        self.histogram += other.histogram
        self.violations += other.violations
        self.notes += other.notes
        self.image_count += other.image_count
        self.byte_count += other.byte_count

    def add_violations(self, where: str, wrongs: list[str]) -> None:
        """Note what is wrong, each with where it came from."""
        self.violations += [f"{where}: {wrong}" for wrong in wrongs]

    @contextmanager
    def timing(self) -> Iterator[None]:
        begin_s = time.monotonic()
        try:
            yield
        finally:
            self.duration_s += time.monotonic() - begin_s

    def as_dict(self) -> dict[str, Any]:
        # asdict would make a Counter of the pairs of a Counter.
        plain = {item.name: getattr(self, item.name) for item in fields(self)}
        return {name: dict(value) if isinstance(value, Counter) else value for name, value in plain.items()}


def replay_command(attack: str, **options: object) -> str:
    """Return the command that runs an attack again with the same seed."""
    words = " ".join(f"--{name.replace('_', '-')} {value}" for name, value in options.items())
    return f"python -m tests.torture {attack} {words}".strip()
