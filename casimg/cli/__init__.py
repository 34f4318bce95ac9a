"""The command line: arguments in, calls of the library, text or JSON out. The only place that parses arguments."""

from casimg.cli import backends, images, metadefs, recovery, repo, snapshots
from casimg.cli.app import main, main_group

__all__ = ["backends", "images", "main", "main_group", "metadefs", "recovery", "repo", "snapshots"]
