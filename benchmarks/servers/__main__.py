"""Measure every candidate and write `servers.json`; see the package."""

import argparse
import shutil
import statistics
import sys
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import casimg
from benchmarks import measure
from benchmarks.servers import trials
from benchmarks.servers.candidates import CANDIDATES, Candidate, Running, running
from benchmarks.servers.client import disk_blocks

_THREADS = 64
_MANY_SIZE = 16 << 20


def main() -> int:
    """Measure and save; 1 when a candidate could not be measured to the end."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.servers", description=__doc__)
    parser.add_argument("--small", action="store_true", help="64 MiB instead of 1 GiB, 16 uploads instead of 64")
    parser.add_argument("--only", nargs="+", default=[], help="beginnings of names")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--mib", type=int, help="size of an image instead of 1024 or 64")
    parser.add_argument("--folder", type=Path, default=Path(".bench"), help="where repositories go")
    parser.add_argument("--results", type=Path, default=Path("benchmarks/results"))
    options = parser.parse_args()
    size, count = (options.mib or (64 if options.small else 1024)) << 20, 16 if options.small else 64
    chosen = [one for one in CANDIDATES if not options.only or one.name.startswith(tuple(options.only))]
    there = [one for one in chosen if one.version is not None]
    for one in chosen:
        if one not in there:
            say(f"{one.name} is not installed")
    rows = Rows(options.folder / "servers", there)
    for number in range(options.rounds):
        blocks, fresh = disk_blocks(size, 1), disk_blocks(size, 100 + number)
        for one in there:
            rows.take(one, "speeds", 1, partial(trials.speeds, blocks=blocks, fresh=fresh))
        say(f"round {number + 1} of {options.rounds}")
    for one in there:
        rows.take(one, "ahead", 1, trials.ahead)
        rows.take(one, "one chunk", 1, lambda server: trials.one_chunk(server, size // 4))
        rows.take(one, "cut", 1, trials.cut)
        rows.take(one, "many", 1, lambda server: trials.many(server, count, _MANY_SIZE))
        rows.take(one, "several", 2, trials.several)
        rows.take(one, "stopping", 1, trials.stopping)
    measure.save(
        options.results,
        "servers",
        rows.rows(),
        size=size,
        round_count=options.rounds,
        thread_count=_THREADS,
        many_size=_MANY_SIZE,
    )
    shutil.rmtree(options.folder / "servers", ignore_errors=True)
    return 1 if rows.failed else 0


class Rows:
    """What was found so far: medians of what was measured several times."""

    def __init__(self, folder: Path, candidates: Sequence[Candidate]) -> None:
        self._folder = folder
        self._candidates = candidates
        self._found: dict[str, dict[str, list[Any]]] = {one.name: defaultdict(list) for one in candidates}
        self.failed: dict[str, str] = {}

    def take(self, one: Candidate, what: str, processes: int, trial: Callable[[Running], dict[str, Any]]) -> None:
        """Run a trial on a fresh server over a fresh repository; one that fails is noted, and the rest goes on."""
        try:
            with self._served(one, processes) as server:
                found = trial(server)
        except Exception as error:  # whatever it is, it is this candidate's result
            self.failed[f"{one.name}: {what}"] = str(error)
            say(f"{one.name}: {what}: {error}")
            return
        for name, value in found.items():
            self._found[one.name][name].append(value)
        say(f"{one.name}: {found}")

    @contextmanager
    def _served(self, one: Candidate, processes: int) -> Iterator[Running]:
        shutil.rmtree(self._folder, ignore_errors=True)
        self._folder.mkdir(parents=True)
        casimg.create(self._folder / "repository").close()
        config = self._folder / "server.toml"
        config.write_text('[repository]\npath = "repository"\n')
        with running(one, config, self._folder / "server.log", processes, _THREADS) as server:
            yield server

    def rows(self) -> list[dict[str, Any]]:
        """Return a row for each candidate."""
        return [
            {"server": one.name, "version": one.version}
            | {name: _middle(values) for name, values in self._found[one.name].items()}
            | {"failed": [what for what in self.failed if what.startswith(f"{one.name}:")]}
            for one in self._candidates
        ]


def _middle(values: list[Any]) -> Any:
    """Return the median of numbers, and what is no number as it was found last."""
    numbers = [value for value in values if isinstance(value, float)]
    if numbers:
        return round(statistics.median(numbers), 3)
    return values[-1]


def say(text: str) -> None:
    """Print progress on stderr."""
    print(f"servers: {text}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit(130)
