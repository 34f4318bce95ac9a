"""Pages of a list by the values of its last row: no row is skipped or repeated when others come and go."""

from collections.abc import Sequence
from typing import Any

from sqlalchemy import ColumnElement, Select, and_, literal, or_


def page(
    query: Select[Any],
    keys: Sequence[ColumnElement[Any]],
    after: Sequence[Any] | None,
    ascending: bool,
    limit: int | None,
) -> Select[Any]:
    """Return the query in the order of its keys, beginning after a row.

    Args:
        keys: what to sort by, none of them NULL in any row; no two rows have the same values of all.
        after: the row's values of them; None begins with the first one.
        ascending: of all keys.
    """
    if after is not None:
        later = [
            and_(*(keys[at] == literal(after[at]) for at in range(last)), _beyond(key, after[last], ascending))
            for last, key in enumerate(keys)
        ]
        query = query.where(or_(*later))
    query = query.order_by(*(key.asc() if ascending else key.desc() for key in keys))
    return query if limit is None else query.limit(limit)


def _beyond(key: ColumnElement[Any], value: Any, ascending: bool) -> ColumnElement[bool]:
    return key > literal(value) if ascending else key < literal(value)
