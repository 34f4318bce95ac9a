"""Contents whose hashes are known, found by what they are. Plain reads: functions take a connection.

Hashes of a content never change, and two contents with one root and one size are the same bytes: so what is found here
stays right whatever becomes of the content it was found by.
"""

from collections.abc import Collection

from sqlalchemy import Connection, exists, func, select

from casimg.catalog.schema import content_hashes, content_trees, contents
from casimg.ids import NodeId


def hashed_size(connection: Connection, algorithms: Collection[str], size: int | None) -> int | None:
    """Return the size of the largest content that has all these hashes; with `size`, of one of that size. None: none.

    Cost: a look at every content, some 10 ms for 10,000.
    """
    wanted = select(func.max(contents.c.size)).where(contents.c.state == "complete")
    if size is not None:
        wanted = wanted.where(contents.c.size == size)
    for algo in sorted(algorithms):
        has = (content_hashes.c.content_id == contents.c.content_id, content_hashes.c.algo == algo)
        wanted = wanted.where(exists().where(*has))
    found = connection.execute(wanted).scalar_one_or_none()
    return None if found is None else int(found)


def hashes_of(
    connection: Connection, algorithms: Collection[str], root: NodeId | None, size: int
) -> dict[str, str] | None:
    """Return these hashes of the bytes with this root and size, by algorithm; None when some are not known."""
    tree = (content_trees.c.role == "plain", content_trees.c.size == size)
    rooted = content_trees.c.root.is_(None) if root is None else content_trees.c.root == root
    rows = connection.execute(
        select(content_hashes.c.algo, content_hashes.c.value)
        .join(content_trees, content_trees.c.content_id == content_hashes.c.content_id)
        .join(contents, contents.c.content_id == content_hashes.c.content_id)
        .where(contents.c.state == "complete", *tree, rooted, content_hashes.c.algo.in_(sorted(algorithms)))
    )
    found = {row.algo: row.value for row in rows}
    return found if found.keys() == set(algorithms) else None


__all__ = ["hashed_size", "hashes_of"]
