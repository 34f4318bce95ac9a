"""Write docs/cli.md from the help texts, so that it cannot say anything else: `python -m casimg.cli.docs`."""

from collections.abc import Iterator

import click

from casimg.cli import main_group

_WIDTH = 100


def commands(group: click.Group, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], click.Command]]:
    """Yield every command below a group with its path, groups before their commands."""
    with click.Context(group) as context:
        names = group.list_commands(context)
        found = [(name, group.get_command(context, name)) for name in names]
    for name, command in found:
        assert command is not None
        yield (*path, name), command
        if isinstance(command, click.Group):
            yield from commands(command, (*path, name))


def help_text(path: tuple[str, ...], command: click.Command) -> str:
    """Return the help of a command as `casimg ... --help` prints it, at a fixed width."""
    parent = None
    for name in ("casimg", *path[:-1]):
        parent = click.Context(main_group, info_name=name, parent=parent)
    info_name = path[-1] if path else "casimg"
    with click.Context(
        command, info_name=info_name, parent=parent, terminal_width=_WIDTH, max_content_width=_WIDTH
    ) as at:
        return command.get_help(at).rstrip()


def document() -> str:
    """Return docs/cli.md."""
    parts = [
        "# The command line\n",
        "Made by `make docs` from the help texts; a test compares.\n",
        f"## casimg\n\n```\n{help_text((), main_group)}\n```\n",
    ]
    for path, command in commands(main_group):
        parts.append(f"## casimg {' '.join(path)}\n\n```\n{help_text(path, command)}\n```\n")
    return "\n".join(parts)


if __name__ == "__main__":
    click.echo(document(), nl=False)
