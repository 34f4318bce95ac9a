"""The list of peers; casimg first, so that each round begins with what the others are compared to."""

from benchmarks.peers.borg import Borg, Borg2
from benchmarks.peers.bup import Bup
from benchmarks.peers.casync import Casync
from benchmarks.peers.contract import Peer
from benchmarks.peers.copies import Copy, QemuImg, Zstd
from benchmarks.peers.desync import Desync
from benchmarks.peers.own import Casimg
from benchmarks.peers.restic import Restic
from benchmarks.peers.xet import Xet
from benchmarks.peers.zpaq import Zpaq


def all_peers() -> list[Peer]:
    """Return every peer, new and not installed."""
    return [
        Casimg(),
        Casimg("casimg-stdin", from_stdin=True),
        Casimg("casimg-compact", "--preset", "compact"),
        Borg("borg-64k", "buzhash,12,20,16,4095"),
        Borg(),
        Borg2(),
        Restic(),
        Xet(),
        Desync(),
        Desync("desync-16k", "4:16:64"),
        Casync(),
        Bup(),
        Zpaq(),
        Zstd("zstd", 1),
        Zstd("zstd-all-cores", 0),
        QemuImg(),
        Copy(),
    ]
