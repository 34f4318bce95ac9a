"""Commands on metadata definitions: load."""

from pathlib import Path
from typing import TYPE_CHECKING

import click

from casimg.cli.app import Settings, command, common, loading, main_group

if TYPE_CHECKING:
    from casimg.metadef_loading import LoadReport


@main_group.group(epilog="\b\nExample:\n  casimg metadefs load glance-33.0.0-py3-none-any.whl")
@common
def metadefs() -> None:
    """Metadata definitions: which properties and tags images, flavors and volumes may carry."""


@command(
    metadefs,
    example="""
pip download --no-deps glance
casimg metadefs load glance-33.0.0-py3-none-any.whl
casimg metadefs load /etc/glance/metadefs --replace""",
)
@click.argument("source", required=False, metavar="[FOLDER]")
@click.option("--owner", default="admin", show_default=True, help="Project that owns namespaces whose file names none.")
@click.option("--replace", "replacing", is_flag=True, help="Replace namespaces that are there, protected or not.")
def load(settings: Settings, source: str | None, owner: str, replacing: bool) -> None:
    """Load namespaces, such as OpenStack's standard ones, from the JSON files in FOLDER.

    FOLDER may also be one JSON file, or the wheel of the package glance, whose standard namespaces Horizon shows when
    metadata are updated (Apache License 2.0; casimg ships none). Without FOLDER they are taken from where an installed
    Glance keeps them. All files are read before the first one is loaded; namespaces that are there stay as they are.
    """
    with settings.open() as repo:
        with loading():
            from casimg.metadef_loading import load as load_files
        report = load_files(repo.metadefs(), None if source is None else Path(source), owner=owner, replacing=replacing)
    settings.show(report, lambda: _print(report))


def _print(report: "LoadReport") -> None:
    for what, names in (("added", report.added), ("replaced", report.replaced), ("kept", report.kept)):
        for name in names:
            print(f"{what} {name}")
    print(
        f"{len(report.added)} added, {len(report.replaced)} replaced, {len(report.kept)} were there already; "
        f"from {report.source}"
    )
