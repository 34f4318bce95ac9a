"""Commands on snapshots: create, ls, diff."""

from typing import TYPE_CHECKING

import click

from casimg.cli.app import Settings, command, common, main_group
from casimg.cli.images import parse_properties, print_put, resolve, standard_input
from casimg.cli.output import console, print_table, size_text, time_text
from casimg.cli.progress import showing

if TYPE_CHECKING:
    from casimg.results.comparing import LineageNode


@main_group.group(
    epilog="\b\nExample:\n  casimg snapshot create debian-12 --name before-upgrade\n  casimg snapshot ls debian-12"
)
@common
def snapshot() -> None:
    """Make snapshots and see what they descend from."""


@command(
    snapshot,
    example="""
casimg snapshot create debian-12 --name before-upgrade
casimg snapshot create --parent debian-12 --from vm-disk.raw --name nightly
casimg snapshot create --parent debian-12 --from vm-disk.raw --changed map.txt --name nightly""",
)
@click.argument("ref", required=False)
@click.option("--parent", metavar="REF", help="The parent image; the same as REF.")
@click.option("--from", "source", metavar="FILE", help="The disk as it is now; without it the stored image itself.")
@click.option("--changed", metavar="MAP", help="Ranges changed since the parent: lines `offset size`, or JSON.")
@click.option("--name", "-n", required=True, help="Name of the snapshot.")
@click.option("--disk-format", help="Default: the parent's.")
@click.option("--property", "properties", multiple=True, metavar="KEY=VALUE", help="Default: the parent's.")
@click.option("--same-name", is_flag=True, help="Allow a name that another image has.")
@click.option("--allow-changes", is_flag=True, help="Accept a source that changes while it is read.")
def create(
    settings: Settings,
    ref: str | None,
    parent: str | None,
    source: str | None,
    changed: str | None,
    name: str,
    disk_format: str | None,
    properties: tuple[str, ...],
    same_name: bool,
    allow_changes: bool,
) -> None:
    """Make a snapshot of the stored image REF (instant: one row), or of a disk whose parent is REF.

    With --from, FILE is read (a path, a block device, or - for standard input) and what changed is stored. With
    --changed, only the ranges of the map and their neighbourhood are read. The map is trusted: a change that it does
    not name is not seen.
    """
    if (ref is None) == (parent is None):
        raise click.UsageError("name the parent once: as REF or with --parent")
    if changed is not None and source is None:
        raise click.UsageError("--changed needs --from: the disk that the map describes")
    with settings.open() as repo, showing(f"snapshot {name}", settings.progress) as progress:
        image = resolve(repo, ref or parent or "")
        report = repo.snapshot_report(
            image.id,
            name=name,
            source=standard_input() if source == "-" else source,
            changed=changed,
            disk_format=disk_format,
            properties=parse_properties(properties) if properties else None,
            same_name=same_name,
            allow_changes=allow_changes,
            progress=progress,
            cancel=settings.cancel,
        )
    settings.show(report, lambda: print_put(report))


@command(snapshot, "ls", example="casimg snapshot ls nightly")
@click.argument("ref")
def list_lineage(settings: Settings, ref: str) -> None:
    """Show the tree of snapshots that REF belongs to; deleted parents show as gone."""
    with settings.open() as repo:
        root = repo.lineage(resolve(repo, ref).id)

    def text() -> None:
        from rich.tree import Tree

        tree = Tree(_label(root))
        stack = [(root, tree)]
        while stack:
            node, branch = stack.pop()
            stack += [(child, branch.add(_label(child))) for child in node.children]
        console().print(tree)

    settings.show(root, text)


@command(
    snapshot,
    example="""
casimg snapshot prune vm7 --keep-last 7 --keep-daily 14 --keep-weekly 8 --dry-run
casimg snapshot prune vm7 --keep-daily 14""",
)
@click.argument("ref")
@click.option("--keep-last", default=0, metavar="N", help="Keep the newest N.")
@click.option("--keep-daily", default=0, metavar="N", help="Keep the newest of each of the last N days with one (UTC).")
@click.option("--keep-weekly", default=0, metavar="N", help="Keep the newest of each of the last N weeks with one.")
@click.option("--dry-run", is_flag=True, help="Say what would go, delete nothing.")
def prune(settings: Settings, ref: str, keep_last: int, keep_daily: int, keep_weekly: int, dry_run: bool) -> None:
    """Delete the snapshots of REF, and theirs, that no rule keeps; REF itself and protected ones stay.

    Rules add up. `casimg gc` gives the space back.
    """
    with settings.open() as repo:
        found = repo.prune_snapshots(
            resolve(repo, ref).id,
            keep_last=keep_last,
            keep_daily=keep_daily,
            keep_weekly=keep_weekly,
            dry_run=dry_run,
        )

    def text() -> None:
        gone = "would go" if dry_run else "deleted"
        rows = [
            (
                item.image.name,
                item.image.id,
                time_text(item.image.created_at),
                ", ".join(item.reasons) if item.kept else gone,
            )
            for item in found
        ]
        print_table(("snapshot", "id", "created", "kept for"), rows)
        print(f"{sum(item.kept for item in found)} kept, {sum(not item.kept for item in found)} {gone}")

    settings.show(found, text)


def _label(node: "LineageNode") -> str:
    from rich.markup import escape

    if node.image is None:
        return f"(gone) {node.id}"
    name = escape(node.image.name)
    mark = " <-" if node.asked else ""
    if node.gone:
        return f"(gone) {name}  {node.id}"
    return f"{name}  {node.id}  {size_text(node.image.size)}  {time_text(node.image.created_at)}{mark}"


@command(main_group, example="casimg diff before-upgrade nightly\ncasimg diff before-upgrade nightly --exact --json")
@click.argument("a")
@click.argument("b")
@click.option("--exact", is_flag=True, help="Compare the bytes: ranges of 4 KiB blocks instead of whole chunks.")
def diff(settings: Settings, a: str, b: str, exact: bool) -> None:
    """Show where image B differs from image A: lines of `offset size`, in bytes.

    Without --exact only manifests are read and ranges are whole chunks. The lines can be a map for
    `snapshot create --changed`.
    """
    with settings.open() as repo:
        report = repo.diff(resolve(repo, a).id, resolve(repo, b).id, exact=exact)

    def text() -> None:
        for item in report.ranges:
            print(f"{item.offset} {item.size}")
        print(
            f"# {len(report.ranges)} ranges, {size_text(report.changed_size)} changed, "
            f"{size_text(report.only_in_b_size)} only in {report.b.name}"
        )

    settings.show(report, text)
