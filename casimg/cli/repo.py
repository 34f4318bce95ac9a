"""Commands on the repository: init, stats, estimate, index rebuild, gc, check."""

from typing import TYPE_CHECKING

import click

import casimg
from casimg.choices import CHUNKER_KINDS, LEVEL_DEFAULT, LEVELS
from casimg.cli import exit_codes
from casimg.cli.app import Settings, command, common, loading, main_group
from casimg.cli.images import resolve
from casimg.cli.output import jsonable, print_pairs, print_table, size_text, time_text
from casimg.cli.progress import showing
from casimg.constants import TIB
from casimg.sizes import parse_size

if TYPE_CHECKING:
    from casimg.results.figures import Stats
    from casimg.results.upkeep import RepairReport, UpkeepState


@command(main_group, example="casimg init /srv/images\ncasimg init /srv/images --expect 20TiB")
@click.argument("path")
@click.option("--expect", metavar="SIZE", help="Unique data expected, like 20TiB; picks the chunk size.")
@click.option("--chunk-size", metavar="SIZE", help="Mean size of a chunk, like 16KiB; for good.")
@click.option("--chunker", type=click.Choice(CHUNKER_KINDS), default="mincdc", show_default=True, help="For good.")
@click.option(
    "--preset",
    type=click.Choice(list(LEVELS)),
    default="default",
    show_default=True,
    help="compact: fewer bytes; new data take three times as long; `level` in casimg.toml changes it.",
)
def init(settings: Settings, path: str, expect: str | None, chunk_size: str | None, chunker: str, preset: str) -> None:
    """Make a repository in the folder PATH, which must be empty or not there."""
    expected = None if expect is None else parse_size(expect)
    with loading():
        created = casimg.create(
            path,
            chunker=chunker,
            chunk_size=None if chunk_size is None else parse_size(chunk_size),
            expect=expected,
            preset=preset,
        )
    with created as repo:
        index_size = casimg.index_estimate(expected or TIB, repo.chunk_size)
        made = {
            "path": str(repo.path),
            "repository_uuid": repo.repository_uuid,
            "chunker": repo.chunker,
            "chunk_size": repo.chunk_size,
            "expected_size": expected,
            "index_size_estimate": index_size,
        }

    def text() -> None:
        print(f"made repository {made['repository_uuid']} in {made['path']}")
        what = f"{size_text(expected)} of unique data" if expected else "1 TiB of unique data"
        print(
            f"chunks of {size_text(repo.chunk_size)} ({repo.chunker}); "
            f"the index of {what} takes about {size_text(index_size)}"
        )
        print(f"export CASIMG_REPO={made['path']}")

    settings.show(made, text)


@command(main_group, example="casimg stats\ncasimg stats debian-12\ncasimg stats --images --json")
@click.argument("ref", required=False)
@click.option("--images", "per_image", is_flag=True, help="For every image what it shares and what it owns.")
def stats(settings: Settings, ref: str | None, per_image: bool) -> None:
    """Show how much the repository saves, and by what; with REF or --images, what images share and own.

    An image's own bytes are those that deleting it and `casimg gc` can give back; `decode` is how many bytes reading
    it decodes for each that it needs.
    """
    with settings.open() as repo, showing("stats", settings.progress) as progress:
        image_id = None if ref is None else resolve(repo, ref).id
        found = repo.stats(image_id, usages=per_image, progress=progress)
        state = repo.upkeep().state()

    def text() -> None:
        if ref is None:
            _print_totals(found, state)
        if found.usages:
            rows = [
                (
                    item.image.name,
                    item.image.id[:8],
                    size_text(item.size),
                    size_text(item.plain_size),
                    size_text(item.unique_size),
                    size_text(item.shared_size),
                    size_text(item.own_size),
                    size_text(item.own_stored_size),
                    f"{item.decode_amplification:.2f}",
                )
                for item in found.usages
            ]
            headers = ("name", "id", "virtual", "plain", "unique", "shared", "own", "own stored", "decode")
            print_table(headers, rows, right=range(2, 9))

    settings.show({**jsonable(found), "upkeep": state} if ref is None else found, text)


def _print_totals(found: "Stats", state: "UpkeepState") -> None:
    last = state.last_gc
    freed = 0 if last is None else max(0, last.report.size - last.report.repack_new_size)
    print_pairs(
        [
            ("images", f"{found.image_count} ({found.content_count} contents)"),
            ("virtual", size_text(found.virtual_size)),
            ("plain", f"{size_text(found.plain_size)}  (holes save {found.hole_ratio:.2f}:1)"),
            ("unique", f"{size_text(found.unique_size)}  (dedup saves {found.dedup_ratio:.2f}:1)"),
            ("stored", f"{size_text(found.stored_size)}  (compression saves {found.compression_ratio:.2f}:1)"),
            ("metadata", size_text(found.metadata_size)),
            ("in all", f"{found.total_ratio:.2f}:1"),
            ("chunks", f"{found.chunk_count} in {found.pack_count} packs"),
            ("index", f"{size_text(found.index_size)}  (a cache)"),
            ("unreferenced", f"{size_text(found.unreferenced_size)}  (casimg gc frees it)"),
            ("last gc", "none" if last is None else f"{time_text(last.done_at)}, freed {size_text(freed)}"),
            *(
                (f"free, {space.name}", f"{size_text(space.free_size)} of {size_text(space.total_size)}")
                for space in state.spaces
            ),
        ]
    )


@command(main_group, example="casimg estimate *.raw\ncasimg estimate a.raw b.raw --chunk-size 16KiB --chunker fixed")
@click.argument("files", nargs=-1, required=True, metavar="FILE...")
@click.option("--chunk-size", "sizes", multiple=True, metavar="SIZE", help="May be given several times.")
@click.option("--chunker", "kinds", multiple=True, type=click.Choice(CHUNKER_KINDS), help="May be given several times.")
@click.option("--level", default=LEVEL_DEFAULT, show_default=True, type=click.IntRange(-7, 22), help="zstd level.")
def estimate(
    settings: Settings, files: tuple[str, ...], sizes: tuple[str, ...], kinds: tuple[str, ...], level: int
) -> None:
    """Show what FILES would shrink to in one repository, per chunk size; nothing is stored."""
    with showing("estimate", settings.progress) as progress:
        options = {"chunk_sizes": [parse_size(size) for size in sizes]} if sizes else {}
        found = casimg.estimate(
            files, chunkers=kinds or ("mincdc",), level=level, progress=progress, cancel=settings.cancel, **options
        )

    def text() -> None:
        plain = found.virtual_size - found.hole_size
        print(f"{len(found.files)} files, {size_text(found.virtual_size)}, {size_text(plain)} of it data")
        rows = [
            (
                row.chunker,
                size_text(row.chunk_size),
                size_text(row.unique_size),
                size_text(row.stored_size),
                f"{found.virtual_size / max(1, row.stored_size):.2f}:1",
                str(row.chunk_count),
                size_text(row.metadata_size),
                size_text(row.index_size),
            )
            for row in found.rows
        ]
        headers = ("chunker", "chunk", "unique", "stored", "ratio", "chunks", "metadata", "index")
        print_table(headers, rows, right=range(1, 8))

    settings.show(found, text)


@main_group.group(epilog="\b\nExample:\n  casimg index rebuild")
@common
def index() -> None:
    """Look after the index: a cache that can be deleted at any time."""


@command(index, example="casimg index rebuild")
def rebuild(settings: Settings) -> None:
    """Make the index anew from the packs."""
    with settings.open() as repo, showing("index rebuild", settings.progress) as progress:
        report = repo.rebuild_index(progress=progress)
    settings.show(
        report,
        lambda: print(
            f"{report.entry_count} entries of {report.pack_count} packs in {report.duration_s:.1f} s, "
            f"{size_text(report.stored_size)}"
        ),
    )


@command(main_group, example="casimg upgrade --repo /srv/images")
def upgrade(settings: Settings) -> None:
    """Bring the catalog to the schema of this casimg; opening a repository never does.

    Stop other users of the repository first, and keep a copy of the catalog.
    """
    with loading():
        from casimg.opening import upgrade_catalog

    before, after = upgrade_catalog(settings.repo_path())
    done = {"before": before, "after": after}
    words = f"upgraded from {before} to {after}" if before != after else f"nothing to do: schema {after}"
    settings.show(done, lambda: print(words))


@command(main_group, example="casimg sessions")
@click.option("--all", "ended", is_flag=True, help="Also sessions that have ended.")
def sessions(settings: Settings, ended: bool) -> None:
    """Show who writes: open sessions, since when, and when each last made progress; fenced ones can write no more."""
    with settings.open() as repo:
        found = repo.sessions(ended=ended)

    def text() -> None:
        rows = [
            (
                item.session_id[:12],
                item.kind,
                item.state,
                item.node.partition("/")[0],
                str(item.pid),
                time_text(item.opened_at),
                time_text(item.heartbeat),
            )
            for item in found
        ]
        print_table(("session", "kind", "state", "host", "pid", "since", "last progress"), rows, right=(4,))

    settings.show(found, text)


@command(main_group, example="casimg gc --dry-run\ncasimg gc\ncasimg gc --max-unused 20")
@click.option("--dry-run", is_flag=True, help="Say what would be freed, change nothing.")
@click.option(
    "--max-unused",
    type=click.FloatRange(0, 100),
    default=5.0,
    show_default=True,
    metavar="PERCENT",
    help="Share of the stored bytes that may stay unused in packs needed in part; 100 rewrites no pack.",
)
@click.option("--trust-catalog", is_flag=True, help="Remove objects without a row even if the catalog looks restored.")
def gc(settings: Settings, dry_run: bool, max_unused: float, trust_catalog: bool) -> None:
    """Free what no image needs; runs while others read and write.

    Packs that are needed in part are rewritten without the rest, small ones are merged, and what the newest image of a
    lineage needs is gathered. That takes room for what it rewrites, a few packs at a time.
    """
    with settings.open() as repo, showing("gc", settings.progress) as progress:
        plan = repo.plan_gc(unused_max=max_unused / 100, progress=progress)
        if dry_run:
            found = plan.plan
            words = (
                f"would free {size_text(found.size)} in {found.pack_count} packs, if none is needed, and about "
                f"{size_text(found.repack_size)} by rewriting {found.repack_pack_count} packs; "
                f"{found.orphan_count} objects without a row, {size_text(found.orphan_size)}"
            )
            words += "".join(f"\nleft out: {why}" for why in found.unreachable)
            settings.show(found, lambda: print(words if found.disabled is None else f"frees nothing: {found.disabled}"))
            return
        report = plan.execute(progress, trust_catalog=trust_catalog)

    def text() -> None:
        if report.disabled is not None:
            print(f"nothing was freed: {report.disabled}")
            return
        anew = report.repack_new_size
        print(
            f"freed {size_text(max(0, report.size - anew))} in {report.pack_count} packs, "
            f"{report.content_count} contents removed, {report.duration_s:.1f} s"
        )
        if report.repack_pack_count:
            print(f"of {report.repack_pack_count} packs needed in part {size_text(anew)} were written anew")
        if report.gathered_size:
            print(f"gathered {size_text(report.gathered_size)} that the newest images read")
        for failure in report.repack_failed:
            print(f"left as it is: {failure}")
        if report.repack_stopped:
            print(f"packs needed in part were not all rewritten: {report.repack_stopped}; run gc again later")
        if report.waiting_count:
            print(f"{report.waiting_count} packs wait for sessions that are still open; run gc again later")
        if report.lease_count:
            print(f"{report.lease_count} reads of deleted images go on; run gc again when they are done")
        if report.orphan_count:
            print(f"removed {report.orphan_count} objects that dead writers left, {size_text(report.orphan_size)}")
        if report.orphan_waiting_count:
            print(f"{report.orphan_waiting_count} unexplained objects wait for sessions that are still open")
        if report.orphans_refused:
            print(
                f"objects without a row were not touched: {report.orphans_refused}; `casimg recover --force` brings "
                "back what they hold, --trust-catalog removes them"
            )
        for why in report.unreachable:
            print(f"left out: {why}; run gc again when it is back")
        if report.fenced_count:
            print(f"{report.fenced_count} dead sessions were ended")
        if report.record_behind_count:
            print(f"the records of {report.record_behind_count} changed images could not be put; run gc again later")

    settings.show(report, text)


@command(main_group, example="casimg check\ncasimg check --read-data --subset 5%\ncasimg check --read-data --repair")
@click.option("--read-data", is_flag=True, help="Read, decode and hash every byte, not only lists and manifests.")
@click.option("--subset", metavar="SHARE", help="Read only so much, like 5% or 10GiB, least recently verified first.")
@click.option("--repair", is_flag=True, help="Mend what is found; what is lost for good is named.")
def check(settings: Settings, read_data: bool, subset: str | None, repair: bool) -> None:
    """Hold catalog, records, manifests and packs against each other; exit code 10 when something is wrong.

    Each problem names the images it touches. Packs found damaged are noted: nothing new relies on them, so putting the
    same data again stores it anew. With --repair what damaged packs still hold, and copies elsewhere, take their place;
    nothing is overwritten, and nothing that an image needs is removed. After `casimg recover` a check with --read-data
    that finds no loss allows gc again.
    """
    with settings.open() as repo, showing("check", settings.progress) as progress:
        report = repo.check(read_data=read_data, subset=subset, repair=repair, progress=progress)

    def text() -> None:
        for problem in report.problems:
            word = "healed" if problem.healed else "PROBLEM" if problem.lossy else "note"
            where = "" if problem.backend is None else f" on {problem.backend}"
            print(f"{word} {problem.kind}{where}: {problem.what}")
            for image in problem.images:
                print(f"  touches {image}")
        if report.repair is not None:
            _print_repair(report.repair)
        print(
            f"verified: {size_text(report.verified_size)} of {size_text(report.stored_size)}"
            + (f", least recently {time_text(report.oldest_verified_at)}" if report.oldest_verified_at else "")
        )
        left = sum(not problem.healed for problem in report.problems)
        verdict = "no problem found" if not report.problems else f"{len(report.problems)} problems found, {left} left"
        print(
            f"{verdict}: {report.image_count} images, {report.pack_count} packs, "
            f"{size_text(report.read_size)} read in {report.duration_s:.1f} s"
        )

    settings.show(report, text)
    if not report.clean:
        click.get_current_context().exit(exit_codes.DIFFERENT)


def _print_repair(report: "RepairReport") -> None:
    if report.refused:
        print(f"not repaired: {report.refused}")
        return
    print(f"saved {report.saved_count} chunks and nodes into {size_text(report.saved_size)} of new packs")
    for image in report.healed:
        print(f"  whole again: {image}")
    for lost in report.lost:
        for image in lost.images:
            print(f"LOST {size_text(lost.size)} of {image}")
        for item in lost.ranges[:20]:
            print(f"  bytes {item.offset} to {item.offset + item.size}")
        if len(lost.ranges) > 20:
            print("  and more; --json lists them")
    if report.lost:
        print("put one of these images, or any with the same data, again; then `casimg check --repair` heals it")
    for key in report.set_aside:
        print(f"a damaged pack that no image needs any more is kept as {key}; remove it when you like")
    if report.record_count:
        print(f"wrote {report.record_count} records anew")
    if report.index_rebuilt:
        print("made the index anew")
