"""The command recover: catalog and index made anew from the backend alone."""

from typing import TYPE_CHECKING

import click

import casimg
from casimg.cli import exit_codes
from casimg.cli.app import Settings, command, loading, main_group
from casimg.cli.progress import showing

if TYPE_CHECKING:
    from casimg.results.upkeep import RecoverReport


@command(
    main_group,
    example="""
casimg recover --repo /srv/images
casimg check --read-data
casimg gc""",
)
@click.option("--force", is_flag=True, help="Also when the present catalog can be used; it is set aside, not deleted.")
def recover(settings: Settings, force: bool) -> None:
    """Make catalog and index anew from the objects alone, after the catalog, casimg.toml or both were lost.

    All backends that casimg.toml names must be there. Stop other users of the repository first. Nothing of the
    objects is changed or removed; what is left of the old catalog is kept under another name. Every image that was
    committed comes back with its metadata; one that was being stored or deleted at that moment may. Afterwards `gc`
    removes nothing until `check --read-data` has found every image whole. Cut off, it can be run again. Exit code 10
    when something could not be used.
    """
    with loading():
        make_anew = casimg.recover
    with showing("recover", settings.progress) as progress:
        report = make_anew(settings.repo_path(), force=force, progress=progress)
    settings.show(report, lambda: _print(report))
    if not report.clean:
        click.get_current_context().exit(exit_codes.DIFFERENT)


def _print(report: "RecoverReport") -> None:
    if report.site_written:
        print("casimg.toml was gone; one with the default places was written")
    if report.old_catalog is not None:
        print(f"what was left of the old catalog is now {report.old_catalog}")
        if report.old_fenced_count is None:
            print("it could not be written: programs that still have it open must be stopped, they write in vain")
        elif report.old_fenced_count:
            print(f"{report.old_fenced_count} writers that were at work in it were ended; run their commands again")
    for problem in report.problems:
        print(f"{'PROBLEM' if problem.lossy else 'note'} {problem.kind}: {problem.what}")
        for image in problem.images:
            print(f"  touches {image}")
    print(
        f"recovered {report.image_count} images ({report.content_count} contents) from {report.pack_count} packs "
        f"with {report.entry_count} chunks in {report.duration_s:.1f} s"
    )
    if report.damaged_image_count:
        print(f"{report.damaged_image_count} of these images miss data, as named above; the rest of them reads")
    print("gc removes nothing until `casimg check --read-data` has found every image whole")
