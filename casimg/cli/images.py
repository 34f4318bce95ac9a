"""Commands on images: put, ls, show, get, verify, set, rm."""

import fnmatch
import io
import sys
from typing import TYPE_CHECKING, BinaryIO, cast

import click

from casimg.cli import exit_codes
from casimg.cli.app import Settings, command, main_group
from casimg.cli.output import print_json, print_pairs, print_table, size_text, speed_text, time_text
from casimg.cli.progress import showing
from casimg.errors import AmbiguousNameError, InputError, SourceError, TargetError

if TYPE_CHECKING:
    from casimg.repository import Repository
    from casimg.results.images import Image, PutReport
from casimg.choices import VISIBILITIES


def standard_input() -> BinaryIO:
    """Return standard input, unbuffered. Raises: SourceError when it is closed."""
    if sys.stdin is None:
        raise SourceError("-", "standard input is closed")
    return cast(BinaryIO, cast(io.BufferedReader, sys.stdin.buffer).raw)


def parse_properties(pairs: tuple[str, ...]) -> dict[str, str]:
    """Return `key=value` options as a dict. Raises: InputError."""
    found = {}
    for pair in pairs:
        key, equals, value = pair.partition("=")
        if not equals or not key:
            raise InputError(f"a property is written key=value, not {pair!r}")
        found[key] = value
    return found


def resolve(repo: "Repository", ref: str) -> "Image":
    """Return one image; an ambiguous name also lists its candidates on stderr."""
    try:
        return repo.image(ref)
    except AmbiguousNameError as error:
        for image_id in error.image_ids:
            image = repo.image(image_id)
            print(f"  {image.id}  {size_text(image.size):>9}  {time_text(image.created_at)}", file=sys.stderr)
        raise


def print_put(report: "PutReport") -> None:
    """Say what a put or snapshot stored."""
    if report.image is not None:
        print(report.image.id)
    data_size = report.size - report.hole_size
    stored = report.stored_size + report.metadata_size
    kept = "would take" if report.image is None else "took"
    print(
        f"{size_text(report.size)} in {report.duration_s:.1f} s ({speed_text(report.size, report.duration_s)}): "
        f"{size_text(report.hole_size)} holes, {size_text(data_size - report.new_size)} known, "
        f"{size_text(report.new_size)} new; {kept} {size_text(stored)}, read {size_text(report.read_size)}"
    )


@command(
    main_group,
    example="""
casimg put debian-12.raw --name debian-12
qemu-img convert -O raw disk.qcow2 /dev/stdout | casimg put - --name from-a-pipe
casimg put /dev/vg0/vm7 --name vm7 --property os_distro=debian
casimg put big.raw --name big --backend spare
casimg put big.raw --name big --dry-run""",
)
@click.argument("source")
@click.option("--name", "-n", required=True, help="Name of the image.")
@click.option("--backend", metavar="NAME", help="Where its data shall lie; see `casimg backend list`.")
@click.option("--disk-format", default="raw", show_default=True, help="Kept as given, never guessed.")
@click.option("--container-format", default="bare", show_default=True, help="Kept as given, never guessed.")
@click.option("--property", "properties", multiple=True, metavar="KEY=VALUE", help="May be given several times.")
@click.option("--same-name", is_flag=True, help="Allow a name that another image has.")
@click.option("--allow-changes", is_flag=True, help="Accept a source that changes while it is read.")
@click.option("--dry-run", is_flag=True, help="Read and compress, say what it would take, store nothing.")
def put(
    settings: Settings,
    source: str,
    name: str,
    backend: str | None,
    disk_format: str,
    container_format: str,
    properties: tuple[str, ...],
    same_name: bool,
    allow_changes: bool,
    dry_run: bool,
) -> None:
    """Store SOURCE, a file, a block device or - for standard input, as a new image.

    Only what the repository does not have yet takes space. Run it again after an interruption: what was stored is
    found.
    """
    with settings.open() as repo, showing(f"put {name}", settings.progress) as progress:
        report = repo.put_report(
            standard_input() if source == "-" else source,
            name=name,
            backend=backend,
            disk_format=disk_format,
            container_format=container_format,
            properties=parse_properties(properties),
            same_name=same_name,
            allow_changes=allow_changes,
            dry_run=dry_run,
            progress=progress,
            cancel=settings.cancel,
        )
    settings.show(report, lambda: print_put(report))


@command(main_group, "ls", example="casimg ls\ncasimg ls 'debian-*' --json")
@click.argument("pattern", required=False)
@click.option("--deleted", is_flag=True, help="Also deleted images.")
def list_images(settings: Settings, pattern: str | None, deleted: bool) -> None:
    """List images, oldest first; PATTERN selects names, with * and ?."""
    with settings.open() as repo:
        found = repo.images(include_deleted=deleted)
    if pattern is not None:
        found = [image for image in found if fnmatch.fnmatchcase(image.name, pattern)]

    def text() -> None:
        rows = [
            (
                image.id,
                image.name or "-",
                size_text(image.size),
                size_text(None if image.size is None else image.size - image.hole_size),
                image.disk_format or "-",
                image.status,
                time_text(image.created_at),
            )
            for image in found
        ]
        print_table(("id", "name", "size", "data", "format", "status", "created"), rows, right=(2, 3))

    settings.show(found, text)


@command(main_group, example="casimg show debian-12")
@click.argument("ref")
def show(settings: Settings, ref: str) -> None:
    """Show one image; REF is an id, a name, or the beginning of an id."""
    with settings.open() as repo:
        image = resolve(repo, ref)

    def text() -> None:
        pairs = [
            ("id", image.id),
            ("name", image.name or "-"),
            ("status", image.status),
            ("size", f"{size_text(image.size)} ({image.size} bytes)"),
            ("holes", size_text(image.hole_size)),
            ("backends", ", ".join(image.stores) or "-"),
            ("disk format", image.disk_format or "-"),
            ("container format", image.container_format or "-"),
            ("parent", image.parent_id or "-"),
            ("owner", image.owner or "-"),
            ("visibility", image.visibility),
            ("protected", "yes" if image.protected else "no"),
            ("created", time_text(image.created_at)),
            ("updated", time_text(image.updated_at)),
        ]
        pairs += [("location", url) for url in image.locations]
        pairs += [(f"property {key}", value) for key, value in sorted(image.properties.items())]
        print_pairs(pairs)

    settings.show(image, text)


@command(
    main_group,
    example="""
casimg get debian-12 copy.raw
casimg get debian-12 copy.raw --resume
casimg get debian-12 /dev/vg0/vm7
casimg get debian-12 - | qemu-img convert -O qcow2 /dev/stdin out.qcow2""",
)
@click.argument("ref")
@click.argument("target")
@click.option("--resume", is_flag=True, help="Go on with the partial file of an interrupted get.")
@click.option("--in-place", is_flag=True, help="Write into an existing file instead of replacing it.")
def get(settings: Settings, ref: str, target: str, resume: bool, in_place: bool) -> None:
    """Write the image REF to TARGET, a file, a block device or - for standard output, every chunk verified.

    A file appears under its name only when it is whole (TARGET.casimg-partial until then) and replaces what is
    there. Onto a block device, or with --in-place, holes are written as zeros; a mounted device is refused.
    """
    if target == "-" and sys.stdout.isatty():
        raise TargetError("standard output", "it is a terminal; redirect it to a file or a pipe")
    with settings.open() as repo, showing(f"get {ref}", settings.progress) as progress:
        image = resolve(repo, ref)
        report = repo.get(
            image.id,
            sys.stdout.buffer if target == "-" else target,
            resume=resume,
            in_place=in_place,
            progress=progress,
            cancel=settings.cancel,
        )
    if settings.json:
        # Standard output holds the image itself.
        print_json(report, sys.stderr if target == "-" else None)
    elif target != "-":
        kept = f", {size_text(report.kept_size)} were there already" if report.kept_size else ""
        print(
            f"{size_text(report.size)} in {report.duration_s:.1f} s "
            f"({speed_text(report.size, report.duration_s)}), {size_text(report.hole_size)} of it holes{kept}"
        )


@command(main_group, example="casimg verify debian-12 debian-12.raw")
@click.argument("ref")
@click.argument("file")
def verify(settings: Settings, ref: str, file: str) -> None:
    """Read the image REF back and compare it with FILE, byte by byte; exit code 10 when they differ."""
    with settings.open() as repo, showing(f"verify {ref}", settings.progress) as progress:
        image = resolve(repo, ref)
        report = repo.verify(image.id, file, progress=progress, cancel=settings.cancel)

    def text() -> None:
        if report.equal:
            print(f"equal: {size_text(report.size)} in {report.duration_s:.1f} s")
            return
        print(f"different: {size_text(report.difference_size)} in {len(report.differences)} ranges")
        if report.size != report.file_size:
            print(f"  the image has {report.size} bytes, the file {report.file_size}")
        for item in report.differences[:10]:
            print(f"  {item.size} bytes at {item.offset}")

    settings.show(report, text)
    if not report.equal:
        click.get_current_context().exit(exit_codes.DIFFERENT)


@command(
    main_group,
    "set",
    example="""
casimg set debian-12 --name debian-12.1 --property os_version=12.1
casimg set golden --protected --visibility public
casimg set vm7 --unset os_distro --unset os_version""",
)
@click.argument("ref")
@click.option("--name", "-n", help="Give it another name.")
@click.option("--protected/--unprotected", default=None, help="A protected image cannot be deleted.")
@click.option("--visibility", type=click.Choice(VISIBILITIES), help="As Glance's.")
@click.option("--property", "properties", multiple=True, metavar="KEY=VALUE", help="Set it; others stay.")
@click.option("--unset", multiple=True, metavar="KEY", help="Remove a property, if it is there.")
@click.option("--same-name", is_flag=True, help="Allow a name that another image has.")
def change(
    settings: Settings,
    ref: str,
    name: str | None,
    protected: bool | None,
    visibility: str | None,
    properties: tuple[str, ...],
    unset: tuple[str, ...],
    same_name: bool,
) -> None:
    """Change the metadata of the image REF, all that is given or nothing; its bytes never change."""
    with settings.open() as repo:
        image = repo.update(
            resolve(repo, ref).id,
            name=name,
            protected=protected,
            visibility=visibility,
            properties=parse_properties(properties),
            unset=unset,
            same_name=same_name,
        )
    settings.show(image, lambda: print(f"changed {image.name} ({image.id})"))


@command(main_group, example="casimg rm old-image 3f2a\ncasimg gc")
@click.argument("refs", nargs=-1, required=True, metavar="REF...")
def rm(settings: Settings, refs: tuple[str, ...]) -> None:
    """Delete images; `casimg gc` gives the space back. Nothing is deleted when one REF is not found."""
    with settings.open() as repo:
        found = list({image.id: image for image in (resolve(repo, ref) for ref in refs)}.values())
        deleted = [repo.delete(image.id) for image in found]

    def text() -> None:
        for image in deleted:
            print(f"deleted {image.name} ({image.id})")

    settings.show(deleted, text)
