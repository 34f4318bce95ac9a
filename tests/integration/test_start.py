"""What a command imports: start-up is most of a small put, and every module that joins it is paid by each run."""

import subprocess
import sys
from importlib import import_module
from pathlib import Path
from pkgutil import walk_packages

import casimg

UNUSED_BY_PUT = {
    # work of other commands
    *("casimg.check", "casimg.comparing", "casimg.estimating", "casimg.gc", "casimg.image_file", "casimg.lineage"),
    *("casimg.recovering", "casimg.recovery", "casimg.reindexing", "casimg.repair", "casimg.restore"),
    *("casimg.restoring", "casimg.scatter", "casimg.snapshot", "casimg.target", "casimg.updating", "casimg.usage"),
    # values they return: each dataclass takes half a millisecond to make
    *("casimg.results.comparing", "casimg.results.figures", "casimg.results.upkeep"),
    # databases of other URLs, migrations, tables and bars
    *("sqlalchemy.dialects.mysql", "sqlalchemy.dialects.postgresql", "alembic", "rich"),
}
UNUSED_BY_HELP = UNUSED_BY_PUT | {
    *("casimg.backend", "casimg.catalog", "casimg.index", "casimg.repository", "casimg.results"),
    *("blake3", "lmdb", "sqlalchemy", "zstandard"),
}


def imported_by(*arguments: str) -> set[str]:
    """Run the command line; return the names of the modules it imported."""
    done = subprocess.run(
        [sys.executable, "-X", "importtime", "-m", "casimg", *arguments],
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )
    lines = [line for line in done.stderr.splitlines() if line.startswith("import time:")]
    return {line.rpartition("|")[2].strip() for line in lines}


def test_put_imports_what_it_uses(tmp_path: Path) -> None:
    """A put imports no work of other commands, no value that only they return, and no other database."""
    source = tmp_path / "disk.raw"
    source.write_bytes(b"a small disk" * 1000)
    repo = str(tmp_path / "repo")
    assert {"casimg.estimating", "alembic"} <= imported_by("init", repo)
    found = imported_by("--repo", repo, "put", str(source), "--name", "small")
    assert {"casimg.saving", "casimg.results.images", "sqlalchemy.dialects.sqlite"} <= found
    assert found & UNUSED_BY_PUT == set()


def test_help_imports_no_part_of_a_repository() -> None:
    """Help and usage need the commands alone: no catalog, no index, none of their libraries."""
    for arguments in (("--help",), ("put", "--help"), ("snapshot", "--help")):
        found = imported_by(*arguments)
        assert {"click", "casimg.cli.images"} <= found
        assert found & UNUSED_BY_HELP == set()


def test_unused_modules_exist() -> None:
    """The names that must not be imported are names of modules, so that a renamed one is not looked for in vain."""
    for name in sorted(UNUSED_BY_HELP):
        import_module(name)


def test_public_names_are_there_in_any_order() -> None:
    """Each name of the package is what it was, however many of its modules are imported before."""
    for module in walk_packages(casimg.__path__, "casimg."):
        if "migrations" not in module.name and "__main__" not in module.name:
            import_module(module.name)
    assert callable(casimg.open)
    assert callable(casimg.create)
    assert callable(casimg.estimate)
    assert callable(casimg.recover)
    assert isinstance(casimg.Repository, type)
    assert {*casimg.__all__, "__version__"} <= set(dir(casimg))
    assert all(getattr(casimg, name).__module__ for name in casimg.__all__ if name != "errors")
