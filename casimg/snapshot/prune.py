"""Which snapshots to keep: the newest ones, and the newest of each day and week. Pure.

As backup tools have it (restic's and borg's `--keep-*`): rules add up; a period counts only when it has a snapshot,
so a pause does not use periods up. Days and weeks are those of UTC.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from casimg.errors import InputError
from casimg.results.comparing import PruneDecision
from casimg.results.images import Image


@dataclass(frozen=True, slots=True)
class KeepRules:
    """How many snapshots, days and weeks to keep; 0 is none of that kind."""

    last: int = 0
    daily: int = 0
    weekly: int = 0

    def check(self) -> None:
        """Raise InputError when nothing would be kept, or a count is negative."""
        if min(self.last, self.daily, self.weekly) < 0:
            raise InputError("a number of snapshots to keep cannot be negative")
        if not (self.last or self.daily or self.weekly):
            raise InputError("say what to keep: --keep-last, --keep-daily or --keep-weekly; nothing would be left")


def decide(snapshots: Sequence[Image], rules: KeepRules) -> tuple[PruneDecision, ...]:
    """Return for each snapshot, newest first, why it is kept, or that it is not.

    Raises: InputError.
    """
    rules.check()
    newest_first = sorted(snapshots, key=lambda image: (image.created_at, image.id), reverse=True)
    reasons: dict[str, list[str]] = {image.id: [] for image in newest_first}
    for image in newest_first[: rules.last]:
        reasons[image.id].append("last")
    _keep_periods(newest_first, rules.daily, "daily", lambda image: image.created_at.strftime("%Y-%m-%d"), reasons)
    _keep_periods(newest_first, rules.weekly, "weekly", lambda image: image.created_at.strftime("%G-W%V"), reasons)
    for image in newest_first:
        if image.protected:
            reasons[image.id].append("protected")
    return tuple(PruneDecision(image, tuple(reasons[image.id])) for image in newest_first)


def _keep_periods(
    newest_first: Sequence[Image],
    count: int,
    reason: str,
    period_of: Callable[[Image], str],
    reasons: dict[str, list[str]],
) -> None:
    """Keep the newest snapshot of each of the newest `count` periods that have one."""
    seen: set[str] = set()
    for image in newest_first:
        period = period_of(image)
        if period not in seen and len(seen) < count:
            seen.add(period)
            reasons[image.id].append(f"{reason} {period}")
