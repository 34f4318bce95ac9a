"""Install uWSGI and mod_wsgi, and run the service under them and gunicorn; `make test-wsgi`.

Everything listens on loopback, on free ports, and ends with this program. The exit code is pytest's.
"""

import argparse
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from tests.servers.processes import ending_with_us
from tests.wsgi.install import FOLDER_VARIABLE, SERVERS, install

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]


def main(arguments: Sequence[str]) -> int:
    """Run what the arguments say; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m tests.wsgi", description=__doc__)
    parser.add_argument("--only", choices=SERVERS, help="run one server")
    parser.add_argument("--programs", type=Path, metavar="FOLDER", default=ROOT / ".servers" / "wsgi")
    options, more = parser.parse_known_args(arguments)
    folder = options.programs.resolve()
    programs = install(folder)
    for name in SERVERS:
        print(f"{name}: {programs.missing.get(name, 'is there')}", flush=True)
    chosen = ["-k", options.only] if options.only else []
    command = [sys.executable, "-m", "pytest", "-q", "-rs", "--durations=5", str(HERE), *chosen, *more]
    words = [str(word) for word in ending_with_us(command)]
    return subprocess.run(words, cwd=ROOT, env={**os.environ, FOLDER_VARIABLE: str(folder)}, check=False).returncode


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
