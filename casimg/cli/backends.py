"""Commands on backends: add, list."""

import click

from casimg.cli.app import Settings, command, common, loading, main_group
from casimg.cli.output import print_table, size_text


@main_group.group(epilog="\b\nExample:\n  casimg backend list")
@common
def backend() -> None:
    """Look after the places where data lie: a repository has one, called local, and as many more as you like."""


@command(
    backend, example="casimg backend add /srv/images spare /mnt/spare\ncasimg put disk.raw -n disk --backend spare"
)
@click.argument("repository")
@click.argument("name")
@click.argument("folder")
def add(settings: Settings, repository: str, name: str, folder: str) -> None:
    """Give REPOSITORY a further backend NAME, which keeps its objects in FOLDER, made unless it is there and empty.

    Run it again after an interruption. Servers that have the repository open must be started anew to know of it.
    Nothing is copied there by this; equal data on two backends are stored on both.
    """
    with loading():
        from casimg.backends import add_backend

    added = add_backend(repository, name, folder)
    settings.show(added, lambda: print(f"the repository has the backend {added.name} in {added.path}"))


@command(backend, "list", example="casimg backend list\ncasimg backend list --json")
def list_backends(settings: Settings) -> None:
    """List the backends with what lies on each, the default one first; one that cannot be used says why."""
    with settings.open() as repo:
        found = repo.backends()

    def text() -> None:
        rows = [
            (
                item.name,
                item.kind,
                str(item.image_count),
                str(item.pack_count),
                size_text(item.stored_size),
                item.path if item.problem is None else f"{item.path}: {item.problem}",
            )
            for item in found
        ]
        print_table(("name", "kind", "images", "packs", "stored", "path"), rows, right=(2, 3, 4))

    settings.show(found, text)
