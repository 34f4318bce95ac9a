"""Measure both services and write `glance.json`; see the package."""

import argparse
import os
import shutil
import statistics
import sys
import time
from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from benchmarks import measure
from benchmarks.glance import trials
from benchmarks.glance.client import Client
from benchmarks.glance.disks import Disks, find_disks
from benchmarks.glance.install import REQUIREMENTS, install
from benchmarks.glance.services import CASIMG, GLANCE, Running, Service, glance, our, running
from benchmarks.report.glance import glance_verdicts
from benchmarks.report.results import load_results
from casimg.sizes import format_size

_PARTS = ("uploads", "downloads", "ranges", "first", "cache", "lists", "memory")


def main() -> int:
    """Measure, save, and say which goals are met; 1 when something could not be measured to the end."""
    options = _options()
    small = options.small
    results = options.results or Path(".bench/results-small" if small else "benchmarks/results")
    folder = options.folder.absolute() / "glance"
    rounds = options.rounds or (1 if small else 3)
    tool = install(options.tools)
    disks = find_disks(options.images, folder / "disks", small=small)
    services = [
        our(options.workers, options.threads),
        glance(tool, options.glance_processes, options.glance_threads),
    ]
    bench = Bench(
        folder / "run",
        services,
        disks,
        small=small,
        rounds=rounds,
        only=options.only,
        cached=our(options.workers, options.threads, caches_on_disk=True),
    )
    bench.run(options.count or (2000 if small else 10_000))
    measure.save(
        results,
        "glance",
        bench.rows(),
        glance=" ".join(REQUIREMENTS),
        glance_process_count=options.glance_processes,
        glance_thread_count=options.glance_threads,
        casimg_worker_count=options.workers,
        casimg_thread_count=options.threads,
        disks=disks.family,
        new_size=disks.new.stat().st_size,
        dense_size=disks.dense.stat().st_size,
        round_count=rounds,
    )
    shutil.rmtree(folder / "run", ignore_errors=True)
    print(bench.table())
    for verdict in glance_verdicts(load_results(results)):
        said = {True: "met", False: "NOT MET", None: "not measured"}[verdict.met]
        print(f"{verdict.what}: {verdict.measured}, goal {verdict.goal}: {said}")
    return 0


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.glance", description=__doc__)
    parser.add_argument("--small", action="store_true", help="small disks, one round, 2,000 images, below .bench/ only")
    parser.add_argument("--only", nargs="+", default=_PARTS, choices=_PARTS, help="parts to measure")
    parser.add_argument("--rounds", type=int, help="of everything, instead of 3 or 1")
    parser.add_argument("--count", type=int, help="images to list instead of 10,000 or 2,000")
    parser.add_argument("--images", type=Path, help="folder of the family; nothing is written there")
    parser.add_argument("--folder", type=Path, default=Path(".bench"), help="where services and made disks go")
    parser.add_argument("--tools", type=Path, default=Path(".bench/tools"), help="where Glance is installed")
    parser.add_argument("--results", type=Path)
    parser.add_argument("--workers", type=int, default=1, help="processes of casimg")
    parser.add_argument("--threads", type=int, default=64, help="threads of each")
    parser.add_argument("--glance-processes", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--glance-threads", type=int, default=1)
    return parser.parse_args()


class Bench:
    """Runs the trials on both services by turns and keeps what they took."""

    def __init__(
        self,
        folder: Path,
        services: Sequence[Service],
        disks: Disks,
        *,
        small: bool,
        rounds: int,
        only: Sequence[str],
        cached: Service,
    ) -> None:
        self._folder = folder
        self._cached = cached
        self._services = services
        self._disks = disks
        self._small = small
        self._rounds = rounds
        self._only = only
        self._costs: dict[str, dict[str, list[trials.Cost]]] = defaultdict(lambda: defaultdict(list))
        self._sizes: dict[str, dict[str, int]] = defaultdict(dict)
        self._bytes: dict[str, int] = {}

    def run(self, count: int) -> None:
        """Run what was asked for.

        Args:
            count: images to list.
        """
        for number in range(self._rounds - 1 if "uploads" in self._only else 0):
            for service in self._by_turns(number):
                with running(service, self._fresh(service)) as server:
                    self._upload(server, number)
        with ExitStack() as stack:
            servers = []
            for service in self._by_turns(self._rounds - 1):
                servers.append(stack.enter_context(running(service, self._fresh(service))))
                self._upload(servers[-1], self._rounds - 1)
            servers.sort(key=lambda server: server.name)
            ids = {server.name: trials.image_ids(server) for server in servers}
            for server in servers:
                self._sizes["stored after all uploads"][server.name] = server.stored_size()
                trials.check(server, ids[server.name], self._disks)
            self._ask(servers, ids)
            if "first" in self._only:
                self._first(servers, ids)
            if "cache" in self._only:
                self._from_cache(next(server for server in servers if server.name == GLANCE), ids[GLANCE])
            if "memory" in self._only:
                for server in servers:
                    anonymous, shared = trials.memory(server, ids[server.name], self._disks)
                    self._sizes["anonymous memory, four up and four down at once"][server.name] = anonymous
                    self._sizes["files in memory meanwhile: what is kept"][server.name] = shared
            if "lists" in self._only:
                for server in servers:
                    server.service.fill(server.folder, count)
                self._by_rounds(
                    servers, lambda server: [(*one, True) for one in trials.lists(count, ids[server.name]["new"])]
                )

    def rows(self) -> list[dict[str, Any]]:
        """Return a row for each workload: medians of rounds, ratios as how many times casimg is faster or smaller."""
        found: list[dict[str, Any]] = []
        for what, by_name in self._costs.items():
            row: dict[str, Any] = {"what": what, "size": self._bytes.get(what)}
            for key in ("wall_s", "cpu_s"):
                ours, theirs = (
                    statistics.median(getattr(cost, key) for cost in by_name[name]) for name in (CASIMG, GLANCE)
                )
                row[f"casimg_{key}"], row[f"glance_{key}"] = round(ours, 4), round(theirs, 4)
                row[f"{key.removesuffix('_s')}_ratio"] = round(theirs / ours, 3) if ours else None
            found.append(row)
        for what, sizes in self._sizes.items():
            ours, theirs = sizes[CASIMG], sizes[GLANCE]
            row = {"what": what, "casimg_size": ours, "glance_size": theirs}
            found.append({**row, "size_ratio": round(theirs / max(1, ours), 3)})
        return found

    def table(self) -> str:
        """Return what was found as text: speeds beside each other."""
        lines = [f"{'':58}{'casimg':>12}{'Glance':>12}{'ratio':>8}{'CPU':>8}"]
        for row in self.rows():
            if "size_ratio" in row:
                cells = [format_size(row["casimg_size"]), format_size(row["glance_size"]), f"{row['size_ratio']:.2f}"]
            else:
                cpu = "" if row["cpu_ratio"] is None else f"{row['cpu_ratio']:.2f}"
                cells = [
                    f"{row['casimg_wall_s']:.3f} s",
                    f"{row['glance_wall_s']:.3f} s",
                    f"{row['wall_ratio']:.2f}",
                    cpu,
                ]
            lines.append(f"{row['what']:58}{cells[0]:>12}{cells[1]:>12}{cells[2]:>8}{''.join(cells[3:]):>8}")
        return "\n".join(lines)

    def _ask(self, servers: Sequence[Running], ids: dict[str, dict[str, str]]) -> None:
        disks, small = self._disks, self._small
        if "downloads" in self._only:
            self._by_rounds(servers, lambda server: [(*one, True) for one in trials.downloads(ids[server.name], disks)])
        if "ranges" in self._only:
            self._by_rounds(servers, lambda server: trials.ranges(ids[server.name], disks, small=small))

    def _first(self, servers: Sequence[Running], ids: dict[str, dict[str, str]]) -> None:
        """Measure downloads of services that have just been started, with what the kernel has of files and without."""
        may_drop = trials.may_drop_page_cache()
        if not may_drop:
            say("the page cache stays: only a superuser drops it, so nothing is measured from the disk")
        for drops in (False, True)[: 1 + may_drop]:
            for number in range(min(2, self._rounds)):  # a restart takes ten seconds
                for server in servers if number % 2 else list(reversed(servers)):
                    for what, cost in trials.first_downloads(server, ids[server.name], drops=drops):
                        self._keep(server, what, cost)

    def _from_cache(self, theirs: Running, their_ids: dict[str, str]) -> None:
        """Measure downloads of a casimg that keeps images on a disk of its own, and nothing in memory."""
        with running(self._cached, self._fresh(self._cached)) as ours:
            client = Client(ours.port)
            our_id = client.create("dense")
            client.upload(our_id, self._disks.dense, chunked=True)
            client.download(our_id)  # fills it
            give_up_s = time.monotonic() + 60
            while not client.show("/v2/cache")["cached_images"]:
                if time.monotonic() > give_up_s:
                    raise RuntimeError("the cache of whole images was not filled")
                time.sleep(0.1)
            client.close()
            for number in range(2 * self._rounds + 1):
                pairs = [(ours, our_id), (theirs, their_ids["dense"])]
                for server, image_id in pairs if number % 2 else reversed(pairs):
                    one = Client(server.port)
                    cost = trials.timed(server, one, lambda asked, i=image_id: asked.download(i))  # type: ignore[misc]
                    self._keep(server, "download, no holes, from the cache of whole images", cost)
                    one.close()

    def _by_rounds(self, servers: Sequence[Running], trials_of: Any) -> None:
        """Run each trial on each server by turns, more often than the uploads: they take less."""
        for number in range(2 * self._rounds + 1):
            turn = servers if number % 2 else list(reversed(servers))
            for pairs in zip(*(trials_of(server) for server in turn), strict=True):
                for server, (what, trial, keeps) in zip(turn, pairs, strict=True):
                    client = Client(server.port, keeps=keeps)
                    self._keep(server, what, trials.timed(server, client, trial))
                    client.close()

    def _upload(self, server: Running, number: int) -> None:
        for what, cost in trials.uploads(server, self._disks):
            # What one left to the kernel must not slow down the next one.
            os.sync()
            if "uploads" in self._only:
                self._keep(server, what, cost)
        say(f"{server.name}: uploads of round {number + 1}")

    def _keep(self, server: Running, what: str, cost: trials.Cost) -> None:
        self._costs[what][server.name].append(cost)
        say(f"{server.name}: {what}: {cost.wall_s:.3f} s, CPU {cost.cpu_s:.2f} s")

    def _by_turns(self, number: int) -> Iterator[Service]:
        return iter(self._services if number % 2 else self._services[::-1])

    def _fresh(self, service: Service) -> Path:
        folder = self._folder / f"{service.name.lower()}{'-cached' if service is self._cached else ''}"
        shutil.rmtree(folder, ignore_errors=True)
        folder.parent.mkdir(parents=True, exist_ok=True)
        return folder


def say(text: str) -> None:
    """Print progress on stderr."""
    print(f"glance: {text}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit(130)
