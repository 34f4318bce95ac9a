"""`make bench-peers`: install the peers, run them and casimg by turns, write `results/peers.json`, print tables.

Exit status: 0; 1 when a restored file was different or casimg itself failed; 2 when the run cannot start or the disk
became too small; 130 when it was interrupted.
"""

import argparse
import shutil
import sys
import time
from collections.abc import Mapping
from pathlib import Path

from rich.console import Console

from benchmarks.images import load_family
from benchmarks.measure import save
from benchmarks.peers.contract import Peer, Tools
from benchmarks.peers.install import CannotInstallError, DebianTools
from benchmarks.peers.peers import all_peers
from benchmarks.peers.rows import NOT_MEASURED, REFERENCE, STAGES, Outcome, Row, as_rows, as_tables
from benchmarks.peers.stages import CannotRunError, Plan, Run, check_disk, make_plan


def parse_arguments(names: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.peers", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--folder", type=Path, default=Path(".bench"), help="where to work (default: .bench)")
    parser.add_argument(
        "--images", type=Path, help="a family of benchmarks.images (default: FOLDER/images or images-small)"
    )
    parser.add_argument("--small", action="store_true", help="the small family, one round")
    parser.add_argument("--only", nargs="+", metavar="NAME", choices=names, help=", ".join(names))
    parser.add_argument("--skip", nargs="+", metavar="NAME", choices=names, default=[])
    containers = "whose qcow2 and VMDK files are stored too (default: least, of two goldens; all takes an hour)"
    parser.add_argument("--containers", choices=("none", "least", "all"), default="least", help=containers)
    parser.add_argument("--rounds", type=int, help="of A, B, B2 and R, whose medians count (default: 3)")
    quick = "who takes more seconds for A, B and R is not repeated and leaves out S (default: 30)"
    parser.add_argument("--quick-within", type=float, default=30, metavar="S", help=quick)
    slow = "who takes more seconds for A and B leaves out B2 as well (default: 90)"
    parser.add_argument("--slow-after", type=float, default=90, metavar="S", help=slow)
    parser.add_argument("--results", type=Path, default=Path("benchmarks/results"), metavar="FOLDER")
    arguments = parser.parse_args()
    arguments.images = arguments.images or arguments.folder / ("images-small" if arguments.small else "images")
    arguments.rounds = arguments.rounds or (1 if arguments.small else 3)
    return arguments


def install(peers: list[Peer], folder: Path, console: Console) -> dict[str, str]:
    """Install what can be; return by name why the others cannot."""
    tools = Tools(folder.absolute(), DebianTools(folder))
    missing = {}
    for peer in peers:
        try:
            peer.install(tools)
        except CannotInstallError as error:
            missing[peer.name] = f"not installed: {error}"
        console.print(f"{peer.name}: {missing.get(peer.name, peer.version)}", highlight=False, markup=False)
    return missing


def rows_of(peers: list[Peer], missing: Mapping[str, str], outcomes: Mapping[str, Mapping[str, Outcome]]) -> list[Row]:
    """Return all rows in the order of the peers; who is missing has one that says why."""
    rows: list[Row] = []
    for peer in peers:
        of_peer = outcomes.get(peer.name, {})
        if peer.name in missing:
            of_peer = {NOT_MEASURED: Outcome(error=missing[peer.name])}
        rows.extend(as_rows(peer.name, peer.version, peer.note, of_peer))
    return rows


def main() -> int:
    """Do it and return the exit status."""
    every = all_peers()
    arguments = parse_arguments([peer.name for peer in every])
    chosen = [
        peer for peer in every if peer.name in (arguments.only or [peer.name]) and peer.name not in arguments.skip
    ]
    console = Console(width=None if sys.stdout.isatty() else 150)
    begin_s = time.monotonic()
    arguments.folder.mkdir(parents=True, exist_ok=True)
    try:
        plan = make_plan(
            load_family(arguments.images),
            containers=arguments.containers,
            rounds=arguments.rounds,
            quick_within_s=arguments.quick_within,
            slow_after_s=arguments.slow_after,
        )
        check_disk(arguments.folder, plan)
    except FileNotFoundError:
        print(f"peers: no images in {arguments.images}: `make bench-images` builds them", file=sys.stderr)
        return 2
    except (CannotRunError, OSError, ValueError) as error:
        print(f"peers: {error}", file=sys.stderr)
        return 2
    missing = install(chosen, arguments.folder / "tools", console)
    work = (arguments.folder / "peers").absolute()
    run = Run(work, plan, lambda text: console.print(text, highlight=False, markup=False))
    status, results = 0, arguments.results
    try:
        run.run([peer for peer in chosen if peer.name not in missing])
    except (CannotRunError, KeyboardInterrupt) as error:
        # What was measured is kept, but not in the place of whole results.
        status, results = (2 if isinstance(error, CannotRunError) else 130), arguments.folder / "results-partial"
        print(f"peers: {str(error) or 'interrupted'}", file=sys.stderr)
    finally:
        shutil.rmtree(work, ignore_errors=True)
    rows = rows_of(chosen, missing, run.outcomes)
    took_s = time.monotonic() - begin_s
    path = save(results, "peers", rows, **describe(plan, arguments), took_s=round(took_s))
    for table in as_tables(rows):
        console.print(table)
    console.print(f"{path}, in {took_s / 60:.1f} minutes", highlight=False)
    bad = [row for row in rows if row.get("equal") is False or (row["peer"] == REFERENCE and "error" in row)]
    for row in bad:
        print(f"peers: {row['peer']}, {row['stage']}: {row.get('error', 'different')}", file=sys.stderr)
    return status or (1 if bad else 0)


def describe(plan: Plan, arguments: argparse.Namespace) -> dict[str, object]:
    """Return what the results must say about the run."""
    third = [plan.third] if plan.third else []
    stages = {"A": [plan.first], "B": [plan.second], "B3": third, "C": plan.others, "D": plan.containers}
    return {
        "images": {
            stage: [{"name": image.path.name, "size": image.size, "data_size": image.data_size} for image in images]
            for stage, images in stages.items()
        },
        "stages": dict(STAGES),
        "rounds": plan.rounds,
        "quick_within_s": plan.quick_within_s,
        "slow_after_s": plan.slow_after_s,
        "small": arguments.small,
    }


if __name__ == "__main__":
    sys.exit(main())
