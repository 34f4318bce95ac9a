"""The index: chunk id -> places. A local cache, rebuildable from the packs; never the truth."""

from casimg.index.follow import FollowReport, follow
from casimg.index.lmdb_index import Index, Lookup, drop_index
from casimg.index.place import Place, fewest_frames

__all__ = ["FollowReport", "Index", "Lookup", "Place", "drop_index", "fewest_frames", "follow"]
