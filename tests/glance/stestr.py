"""Tests of an installed package, run by stestr in processes of their own."""

import json
import os
import subprocess
from collections.abc import Mapping
from pathlib import Path

from tests.glance.install import HERE, Programs, clean_environ, ini
from tests.glance.outcomes import Outcome, outcomes_of
from tests.servers.processes import ending_with_us, run_checked, tail

TIMEOUT_S = 1800


def run_stestr(
    programs: Programs, work: Path, package: str, tests: str, environ: Mapping[str, str], regex: str
) -> list[Outcome]:
    """Run tests of a package, two at a time; returns what became of each.

    Args:
        work: folder that they run in.
        tests: folder inside the package that has them.
    Raises: SystemExit when there are none, or they do not run at all.
    """
    where = run_checked([programs.python, "-c", f"import {package}; print({package}.__path__[0])"], work, environ)
    root = Path(where.strip())
    # A class makes its users once, so its tests stay in one process.
    conf = {"test_path": str(root / tests), "top_dir": str(root.parent), "group_regex": r"([^\.]*\.)*"}
    (work / ".stestr.conf").write_text(ini({"DEFAULT": conf}))
    path = f"{programs.bin}{os.pathsep}{os.environ.get('PATH', '')}"
    inner = {**environ, "PYTHON": str(programs.python), "PATH": path}
    stestr = programs.bin / "stestr"
    run_checked([stestr, "init"], work, inner)
    listed = [line for line in run_checked([stestr, "list", regex], work, inner).split() if "." in line]
    if not listed:
        raise SystemExit(f"{package} has no test that is called {regex}")
    stream, errors = work / "subunit", work / "errors"
    command = ending_with_us([stestr, "run", "--subunit", "--concurrency", "2", regex])
    with stream.open("wb") as output, errors.open("wb") as messages:
        words = [str(word) for word in command]
        subprocess.run(words, stdout=output, stderr=messages, cwd=work, env=inner, check=False, timeout=TIMEOUT_S)
    with stream.open("rb") as source:
        script = [str(programs.python), "-P", str(HERE / "subunit_json.py")]
        lines = subprocess.run(script, stdin=source, capture_output=True, text=True, env=clean_environ(), check=False)
    if lines.returncode or not lines.stdout:
        raise SystemExit(f"{package}'s tests did not run:\n{lines.stderr}{tail(errors)}")
    return outcomes_of(listed, (json.loads(line) for line in lines.stdout.splitlines()))
