"""The bare pipelines: what put and get cannot do without, and nothing else. No index, catalog, manifest, trailer.

`store`: read, zero scan, cut, hash, skip what this image had before, zstd, decode check, files of 64 MiB, fsync.
`restore`: read, decode, hash and compare, write in segments, fsync. Both write through the page cache or past it.
"""

from benchmarks.bare.restore import restore
from benchmarks.bare.store import store
from benchmarks.bare.stored import Stored

__all__ = ["Stored", "restore", "store"]
