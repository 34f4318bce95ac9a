"""The shape of the source tree: arrows point down, files stay short, packages are complete, nothing names a machine."""

import ast
import re
import subprocess
import tomllib
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
LINE_COUNT_MAX = 500

LAYERS = (
    # words and numbers, values, formats: no input, no output
    {"choices", "constants", "errors", "ids", "sizes", "progress", "results", "chunker", "formats", "_native"}
    | {"metadef_documents"},
    # a call of the kernel that parts share
    {"direct"},
    # one thing each that keeps or moves bytes
    {"backend", "catalog", "index", "manifest", "pack", "reserve", "source", "target"},
    # the ways of the data, made of parts
    {"ingest", "assemble", "estimating", "check", "repair", "usage", "snapshot", "gc"}
    | {"comparing", "copying", "dedup", "figures", "frames", "image_file", "images", "leasing", "lineage", "packing"}
    | {"pieces"}
    | {"records", "recovering", "rejoining"}
    | {"reindexing", "restore", "restoring", "runs", "saving", "scatter", "streaming", "updating", "wiring"}
    | {"buffers", "entry", "findings", "hashing", "keywords", "kept", "locations", "metadef_loading", "metadefs"}
    | {"distrust", "image_cache", "passing", "registry", "segments", "speculating", "tasks", "upkeep", "uploading"}
    | {"opened", "read_ahead"},
    # the composition root
    {"backends", "opening", "recovery", "repository"},
    # what people and other programs touch
    {"casimg", "cli", "testing", "__main__"},
)
"""Top-level names of the library, lowest layer first. A new module is placed here on purpose."""

LAYER_OF = {name: number for number, names in enumerate(LAYERS) for name in names}
PARTS = LAYERS[2]
CONTRACTS = {"casimg.backend.base"}
"""Protocols that a part may import from another part."""


def module_name(path: Path, root: Path = ROOT) -> str:
    """Return the dotted name of a source file below the root."""
    parts = list(path.relative_to(root).with_suffix("").parts)
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def sources(folder: str) -> dict[str, Path]:
    """Return the modules below a folder of the root, by dotted name."""
    return {module_name(path): path for path in sorted((ROOT / folder).rglob("*.py"))}


LIBRARY = sources("casimg")


def imports_of(text: str, modules: set[str]) -> set[str]:
    """Return the absolute modules that a source imports anywhere in it; `from p import m` means p.m if that is one."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            for alias in node.names:
                inner = f"{base}.{alias.name}"
                found.add(inner if inner in modules else base)
    return found


def part_of(module: str) -> str:
    """Return the top-level name below casimg that a module belongs to."""
    return [*module.split("."), ""][1] or "casimg"


GRAPH = {name: imports_of(path.read_text(), set(LIBRARY)) for name, path in LIBRARY.items()}


def library_imports(module: str) -> set[str]:
    return {name for name in GRAPH[module] if name.split(".")[0] == "casimg"} - {module}


def upward_arrows(module: str, imported: set[str]) -> list[str]:
    """Return the imports of a module that reach a higher layer than its own."""
    own = LAYER_OF[part_of(module)]
    return sorted(f"{module} -> {name}" for name in imported if LAYER_OF[part_of(name)] > own)


def tracked_files() -> list[Path]:
    """Return the files under version control, or skip when this is no clone."""
    done = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, check=False)
    if done.returncode:
        pytest.skip("not a git clone: no list of tracked files")
    paths = [ROOT / name for name in done.stdout.decode().split("\0") if name]
    return [path for path in paths if path.is_file()]


def test_every_module_has_a_layer() -> None:
    """A new top-level module or package must be given a place in the layers before it can be merged."""
    assert {part_of(module) for module in LIBRARY} <= set(LAYER_OF)


def test_arrows_point_down() -> None:
    """No module imports one of a higher layer."""
    assert [arrow for module in LIBRARY for arrow in upward_arrows(module, library_imports(module))] == []


def test_upward_arrows_are_seen() -> None:
    """The check of the arrows sees an import inside a function, and of a submodule through its package."""
    modules = {"casimg", "casimg.catalog", "casimg.repository", "casimg.wiring"}
    text = "def f():\n    import casimg.repository\n    from casimg import wiring, errors\n"
    seen = imports_of(text, modules)
    assert seen == {"casimg.repository", "casimg.wiring", "casimg"}
    assert upward_arrows("casimg.catalog.rows", seen - {"casimg"}) == [
        "casimg.catalog.rows -> casimg.repository",
        "casimg.catalog.rows -> casimg.wiring",
    ]


def test_parts_do_not_know_each_other() -> None:
    """Backend, catalog, index, manifest, pack, source and target are joined above them; contracts are shared."""
    crossings = [
        f"{module} -> {name}"
        for module in LIBRARY
        if part_of(module) in PARTS
        for name in library_imports(module) - CONTRACTS
        if part_of(name) in PARTS and part_of(name) != part_of(module)
    ]
    assert crossings == []


def test_imports_have_no_cycles() -> None:
    """The modules of the library can be put in an order in which each needs only earlier ones."""
    try:
        TopologicalSorter({module: library_imports(module) for module in LIBRARY}).prepare()
    except CycleError as error:
        pytest.fail(" -> ".join(error.args[1]))


def test_the_library_does_not_know_the_facade() -> None:
    """casimg works without HTTP: it never imports casimg_api."""
    assert [
        module for module, names in GRAPH.items() if any(name.split(".")[0] == "casimg_api" for name in names)
    ] == []


def test_the_facade_stands_on_top() -> None:
    """casimg_api reaches for no part of the library but the catalog's values: what is made to be called is enough."""
    reached = {
        name
        for path in sorted((ROOT / "api").rglob("*.py"))
        for name in imports_of(path.read_text(), set(LIBRARY))
        if name.split(".")[0] == "casimg" and part_of(name) in PARTS - {"catalog"}
    }
    assert reached == set()


def test_pyproject_lists_every_package() -> None:
    """The wheel holds every package of the tree, and the list names none that is gone."""
    setuptools = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]
    there = {module_name(path) for path in (ROOT / "casimg").rglob("__init__.py")}
    there |= {module_name(path, ROOT / "api") for path in (ROOT / "api").rglob("__init__.py")}
    assert set(setuptools["packages"]) == there


def test_every_folder_of_modules_is_a_package() -> None:
    """A folder with modules has an __init__.py, so that the list of packages can see it."""
    folders = {path.parent for path in LIBRARY.values()}
    assert sorted(str(folder) for folder in folders if not (folder / "__init__.py").is_file()) == []


def test_modules_of_tests_have_names_of_their_own() -> None:
    """No two files of tests have one name: pytest would refuse to run them together."""
    names = [path.name for path in (ROOT / "tests").rglob("test_*.py")]
    assert sorted({name for name in names if names.count(name) > 1}) == []


@pytest.mark.parametrize("folder", ["casimg", "api", "native", "benchmarks", "tests"])
def test_every_module_has_a_docstring(folder: str) -> None:
    """Each module says what it is, in its first lines; an empty __init__.py of the tests needs none."""
    silent = [
        module
        for module, path in sources(folder).items()
        if ast.get_docstring(ast.parse(path.read_text())) is None
        and not (folder == "tests" and path.name == "__init__.py")
    ]
    assert silent == []


def test_every_test_states_its_promise() -> None:
    """Each test function has a docstring."""
    silent = [
        f"{module}.{node.name}"
        for module, path in sources("tests").items()
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.FunctionDef) and node.name.startswith("test_") and ast.get_docstring(node) is None
    ]
    assert silent == []


def test_files_stay_short() -> None:
    """No source file joins everything."""
    long = {
        str(path.relative_to(ROOT)): count
        for path in tracked_files()
        if path.suffix in {".py", ".c", ".h", ".sh"} and (count := len(path.read_text().splitlines())) > LINE_COUNT_MAX
    }
    assert long == {}


MACHINE_PATH = re.compile(rb"(?<![\w.$}~*<>-])/(?:work|tmp|home|root)\b(?![-.]?\w)")


def test_no_file_names_a_path_of_a_machine() -> None:
    """What is committed holds on any machine: no absolute path of somebody's folders."""
    assert MACHINE_PATH.search(b"see " + b"/tmp" + b"/x")
    assert not MACHINE_PATH.search(b"objects/tmp/x, $HOME/images/x")
    naming = []
    for path in tracked_files():
        found = None if path == Path(__file__) else MACHINE_PATH.search(path.read_bytes())
        if found:
            naming.append(f"{path.relative_to(ROOT)}: {found[0].decode()}")
    assert naming == []
