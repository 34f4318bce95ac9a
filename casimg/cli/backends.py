"""Commands on backends: add, list; and copy, of an image to one."""

import click

from casimg.cli.app import Settings, command, common, loading, main_group
from casimg.cli.images import resolve
from casimg.cli.output import print_table, size_text
from casimg.cli.progress import showing


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


@command(
    main_group,
    example="""
casimg copy debian-12 --to spare
casimg copy debian-12 --remove-from local""",
)
@click.argument("ref")
@click.option("--to", metavar="NAME", help="Store it on this backend too.")
@click.option("--remove-from", "left", metavar="NAME", help="Then take it from this one; its last copy stays.")
def copy(settings: Settings, ref: str, to: str | None, left: str | None) -> None:
    """Copy the image REF to another backend, remove it from one, or both: then it moves.

    An image on several backends is read from any of them: where one is damaged or away another gives the same bytes.
    What a removal leaves unused `casimg gc` frees. Run it again after an interruption: what was stored is found.
    """
    if to is None and left is None:
        raise click.UsageError("say where: --to, --remove-from, or both")
    with settings.open() as repo, showing(f"copy {ref}", settings.progress) as progress:
        image = resolve(repo, ref)
        if to is not None:
            image = repo.copy(image.id, to, progress=progress, cancel=settings.cancel)
        if left is not None:
            image = repo.remove_copy(image.id, left)
    settings.show(image, lambda: print(f"{image.name} ({image.id}) lies on {', '.join(image.stores)}"))
