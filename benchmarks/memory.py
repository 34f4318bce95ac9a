"""Put and get data that never repeats, and watch the anonymous memory of the process (RssAnon) all the while.

    python -m benchmarks.memory [--size 20GiB] [--folder .demo] [--json]

The data are made by a counter through BLAKE3's output stream while they are read, so no source file is needed. The
restore goes to a pipe-like sink that hashes, so that no target file is needed either.
"""

import argparse
import hashlib
import json
import shutil
import sys
import threading
import time
from pathlib import Path
from typing import BinaryIO, cast

from blake3 import blake3

import casimg
from benchmarks.measure import rss_anon
from casimg.sizes import format_size, parse_size

_STEP = 1 << 20
_LIMIT = 256 << 20


class Endless:
    """A readable stream of `size` bytes that never repeat, hashed as they go by."""

    def __init__(self, size: int) -> None:
        self._left = size
        self._number = 0
        self.sha256 = hashlib.sha256()

    def read(self, size: int) -> bytes:
        size = min(size, self._left, _STEP)
        if not size:
            return b""
        self._left -= size
        self._number += 1
        part = blake3(self._number.to_bytes(8, "little")).digest(size)
        self.sha256.update(part)
        return part


class Sink:
    """A writable stream that keeps only the hash."""

    def __init__(self) -> None:
        self.sha256 = hashlib.sha256()

    def write(self, data: bytes) -> int:
        self.sha256.update(data)
        return len(data)

    def flush(self) -> None:
        """Nothing is buffered."""


class Watch(threading.Thread):
    """Samples RssAnon of this process, bytes."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self._over = threading.Event()
        self.peak = 0

    def run(self) -> None:
        while not self._over.wait(0.05):
            self.peak = max(self.peak, rss_anon())

    def stop(self) -> int:
        self._over.set()
        self.join()
        return self.peak


def main() -> int:
    """Measure, print, and return 1 when memory or bytes are not as promised."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--size", default="20GiB")
    parser.add_argument("--folder", type=Path, default=Path(".demo/memory"))
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    size = parse_size(options.size)
    shutil.rmtree(options.folder, ignore_errors=True)
    options.folder.parent.mkdir(parents=True, exist_ok=True)
    if shutil.disk_usage(options.folder.parent).free < size * 1.1:
        print(f"this needs {format_size(size * 1.1)} of free disk", file=sys.stderr)
        return 1
    try:
        with casimg.create(options.folder) as repo:
            source, sink = Endless(size), Sink()
            watch = Watch()
            watch.start()
            begin_s = time.monotonic()
            repo.put(cast(BinaryIO, source), name="endless")
            put_s, put_peak = time.monotonic() - begin_s, watch.stop()
            watch = Watch()
            watch.start()
            begin_s = time.monotonic()
            repo.get("endless", cast(BinaryIO, sink))
            get_s, get_peak = time.monotonic() - begin_s, watch.stop()
    finally:
        shutil.rmtree(options.folder, ignore_errors=True)
    found = {
        "size": size,
        "put_s": put_s,
        "put_rss_anon_peak": put_peak,
        "get_s": get_s,
        "get_rss_anon_peak": get_peak,
        "equal": source.sha256.digest() == sink.sha256.digest(),
    }
    if options.json:
        print(json.dumps(found, indent=2))
    else:
        print(f"put {format_size(size)} in {put_s:.0f} s, RssAnon at most {format_size(put_peak)}")
        print(f"get in {get_s:.0f} s, RssAnon at most {format_size(get_peak)}; SHA-256 equal: {found['equal']}")
    return 0 if found["equal"] and max(put_peak, get_peak) < _LIMIT else 1


if __name__ == "__main__":
    sys.exit(main())
