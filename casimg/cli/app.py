"""The command group, its global options, and the one place where errors become a line and an exit code."""

import contextlib
import functools
import gc
import json
import logging
import os
import signal
import sys
import threading
import traceback
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from types import FrameType
from typing import TYPE_CHECKING, Any, Concatenate, ParamSpec

import click

import casimg
from casimg.cli import exit_codes
from casimg.cli.output import jsonable, print_json
from casimg.errors import CasimgError, NoRepositoryError

if TYPE_CHECKING:
    from importlib.metadata import EntryPoint

    from casimg.repository import Repository

P = ParamSpec("P")
COMMAND_GROUP = "casimg.commands"


@contextlib.contextmanager
def loading() -> Iterator[None]:
    """Look for no garbage while modules are imported, and never among what they made: it stays.

    That is a sixth of a small put: 20 ms while importing, 35 ms at exit.
    """
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        gc.enable()


@dataclass
class Settings:
    """Global options, given before or after the command."""

    repo: str | None = None
    json: bool = False
    progress: bool | None = None
    debug: bool = False
    verbose: int = 0
    cancel: threading.Event = field(default_factory=threading.Event)

    def repo_path(self) -> str:
        """Return what --repo or CASIMG_REPO names. Raises: NoRepositoryError."""
        if not self.repo:
            raise NoRepositoryError(
                "no repository", "name its folder with --repo or CASIMG_REPO, or make one with `casimg init`"
            )
        return self.repo

    def open(self) -> "Repository":
        """Open the repository that --repo or CASIMG_REPO names. Raises: RepositoryError."""
        with loading():
            return casimg.open(self.repo_path())

    def show(self, value: object, text: Callable[[], None]) -> None:
        """Print a result: as JSON when asked, else what `text` prints."""
        if self.json:
            print_json(value)
        else:
            text()


def _set(name: str) -> Callable[[click.Context, click.Parameter, Any], None]:
    def callback(context: click.Context, _parameter: click.Parameter, value: Any) -> None:
        settings = context.ensure_object(Settings)
        if value is not None and value is not False:
            setattr(settings, name, value)
        elif name == "progress" and value is False:
            settings.progress = False

    return callback


_COMMON: list[Callable[[Callable[..., Any]], Callable[..., Any]]] = [
    click.option(
        "--repo", "-r", metavar="PATH", expose_value=False, callback=_set("repo"),
        help="Folder of the repository, or its casimg.toml.  [env: CASIMG_REPO]",
    ),
    click.option(
        "--json", is_flag=True, expose_value=False, callback=_set("json"),
        help="Print one JSON document instead of text; errors too.",
    ),
    click.option(
        "--progress/--no-progress", default=None, expose_value=False, callback=_set("progress"),
        help="Show progress on stderr, or not; by default on a terminal.",
    ),
    click.option("--verbose", "-v", count=True, expose_value=False, callback=_set("verbose"), help="Log to stderr."),
    click.option(
        "--debug", is_flag=True, expose_value=False, callback=_set("debug"), help="Show tracebacks of errors."
    ),
]  # fmt: skip


def common(function: Callable[..., Any]) -> Callable[..., Any]:
    """Add the global options to a command."""
    for option in reversed(_COMMON):
        function = option(function)
    return function


def command(
    group: click.Group, name: str | None = None, *, example: str
) -> Callable[[Callable[Concatenate[Settings, P], None]], click.Command]:
    """Make a command of a function that takes Settings first.

    Args:
        example: shell lines for the help text.
    """

    def wrap(function: Callable[Concatenate[Settings, P], None]) -> click.Command:
        @functools.wraps(function)
        def run(*args: P.args, **kwargs: P.kwargs) -> None:
            settings = click.get_current_context().ensure_object(Settings)
            _start_logging(settings)
            function(settings, *args, **kwargs)

        lines = "\n".join(f"  {line}" for line in example.strip().splitlines())
        made: click.Command = group.command(name, epilog=f"\b\nExample:\n{lines}")(common(run))
        return made

    return wrap


def _print_version(context: click.Context, _parameter: click.Parameter, wanted: bool) -> None:
    if not wanted or context.resilient_parsing:
        return
    import platform

    import lmdb
    import zstandard

    from casimg import chunker

    click.echo(
        f"casimg {casimg.__version__}\n"
        f"Python {platform.python_version()}, chunker {chunker.description()}\n"
        f"libzstd {'.'.join(map(str, zstandard.ZSTD_VERSION))}, LMDB {'.'.join(map(str, lmdb.version()))}"
    )
    context.exit()


class _Commands(click.Group):
    """The commands of this package, and those of others: entry points of the group `casimg.commands`."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return sorted({*super().list_commands(ctx), *_brought()})

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        found = super().get_command(ctx, cmd_name)
        if found is None and (entry := _brought().get(cmd_name)) is not None:
            made: click.Command = entry.load()
            return made
        return found


def _brought() -> "dict[str, EntryPoint]":
    """Return the commands of other packages, not loaded: looked for only when they are asked for."""
    from importlib.metadata import entry_points

    return {entry.name: entry for entry in entry_points(group=COMMAND_GROUP)}


@click.group(
    cls=_Commands,
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog="\b\n" + exit_codes.HELP + "\n\n\b\nExample:\n  casimg init /srv/images\n"
    "  casimg --repo /srv/images put debian-12.raw --name debian-12",
)
@click.option(
    "--version",
    is_flag=True,
    expose_value=False,
    is_eager=True,
    callback=_print_version,
    help="Show the version and exit.",
)
@common
@click.pass_context
def main_group(context: click.Context) -> None:
    """Keep many virtual-machine images in the space of what is new in them, and get the same bytes back."""
    settings = context.ensure_object(Settings)
    if settings.repo is None:
        settings.repo = os.environ.get("CASIMG_REPO") or None


def main() -> None:
    """Run the command line and exit: the entry point of `casimg`."""
    settings = Settings()
    sys.exit(_run(settings))


def _run(settings: Settings) -> int:
    previous = signal.signal(signal.SIGINT, _on_interrupt(settings))
    try:
        # Not main_group.main(): that turns a closed pipe into exit code 1.
        with main_group.make_context("casimg", sys.argv[1:], obj=settings) as context:
            main_group.invoke(context)
        sys.stdout.flush()
        return exit_codes.OK
    except click.exceptions.Exit as leaving:
        return leaving.exit_code
    except click.ClickException as error:
        if settings.json:
            print_json({"error": {"type": "UsageError", "message": error.format_message()}})
        else:
            error.show()
        return exit_codes.USAGE
    except CasimgError as error:
        return _report(settings, error)
    except BrokenPipeError:
        # The reader went away; Python would complain once more when it flushes at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return exit_codes.PIPE_CLOSED
    except (KeyboardInterrupt, click.Abort):
        print("casimg: interrupted", file=sys.stderr)
        return exit_codes.INTERRUPTED
    except Exception as error:
        if settings.json:
            print_json({"error": {"type": type(error).__name__, "message": str(error)}})
        if settings.debug:
            traceback.print_exc()
        else:
            print(
                f"casimg: internal error: {type(error).__name__}: {error}\n"
                "This is a bug; --debug shows where. Please report it.",
                file=sys.stderr,
            )
        return exit_codes.INTERNAL
    finally:
        signal.signal(signal.SIGINT, previous)


def _report(settings: Settings, error: CasimgError) -> int:
    if settings.debug:
        traceback.print_exc()
    if settings.json:
        attributes = {name: value for name, value in vars(error).items() if not name.startswith("_")}
        document = {"error": {"type": type(error).__name__, "message": str(error), **jsonable(attributes)}}
        print(json.dumps(document, indent=2, default=str))
    else:
        print(f"casimg: {error}", file=sys.stderr)
    return exit_codes.exit_code_of(error)


def _on_interrupt(settings: Settings) -> Callable[[int, FrameType | None], None]:
    """The first Ctrl-C asks the work to stop and keep what it has; the second stops at once."""

    def handler(_signal: int, _frame: FrameType | None) -> None:
        if settings.cancel.is_set():
            raise KeyboardInterrupt
        settings.cancel.set()
        print("casimg: stopping; Ctrl-C again stops at once", file=sys.stderr)

    return handler


def _start_logging(settings: Settings) -> None:
    if settings.verbose:
        level = logging.DEBUG if settings.verbose > 1 else logging.INFO
        logging.basicConfig(stream=sys.stderr, level=level, format="%(asctime)s %(levelname)s %(name)s %(message)s")
    else:
        logging.getLogger("casimg").addHandler(logging.NullHandler())
        logging.getLogger("casimg").propagate = False
        logging.getLogger("alembic").setLevel(logging.WARNING)
