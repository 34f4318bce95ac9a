"""Run schemathesis against `casimg serve`; `make test-openapi`.

Twice at the same time, on loopback: without authentication, where everybody is administrator and there are several
stores, and as a member with a static token. A fault of the server (5xx), a status, type or body that the description
does not have fails it. The seed is fixed, so a run repeats; --seed and --examples make another.
"""

import argparse
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from tests.api_serving import serving, site

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
CHECKS = (
    *("not_a_server_error", "status_code_conformance", "content_type_conformance"),
    *("response_headers_conformance", "response_schema_conformance", "use_after_free"),
)
TIME_MAX_S = 170
"""Nobody waits longer for it."""
LISTS = 'enabled_import_methods = ["glance-direct", "web-download", "copy-image"]'
FORMATS = "[data]\nrequire_image_format_match = false\n"


@dataclass(frozen=True)
class Way:
    """A way to run the service, and who calls it."""

    name: str
    config: str
    token: str
    checks: tuple[str, ...]


WAYS = (
    Way(
        "none",
        f'[auth]\nmode = "none"\n[store]\nmulti_store = true\n[image_import]\n{LISTS}\n{FORMATS}'
        '[cache]\nimage_cache_dir = "cache"\n',
        "",
        CHECKS,
    ),
    Way("member", FORMATS, "alice-token", (*CHECKS, "ignored_auth")),
)
"""Data of any kind are let in, so that the requests come further than the inspection."""
# 501 is what Glance answers where it has no such method at all; two of its paths do so for all that are unknown.
SETTINGS = """\
[checks]
not_a_server_error.expected-statuses = ["2xx", "3xx", "4xx", "501"]
"""


def main(arguments: Sequence[str]) -> int:
    """Run what the arguments say; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m tests.openapi", description=__doc__)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--examples", type=int, default=15, metavar="COUNT", help="random requests for each operation")
    parser.add_argument("--programs", type=Path, default=ROOT / ".servers" / "openapi", metavar="FOLDER")
    options = parser.parse_args(arguments)
    begin_s = time.monotonic()
    codes = []
    with ExitStack() as stack:
        running = []
        for way in WAYS:
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix=f"casimg-openapi-{way.name}-")))
            client = stack.enter_context(serving("--config", str(site(folder, way.config))))
            url = f"http://{client.host}:{client.port}"
            running.append((way, folder / "output", stack.enter_context(_started(way, url, folder, options))))
        for way, output, process in running:
            code = process.wait()
            codes.append(code)
            print(f"== {way.name}\n{output.read_text()}", flush=True)
    print(f"{time.monotonic() - begin_s:.0f} s")
    return max(codes)


def _started(way: Way, url: str, folder: Path, options: argparse.Namespace) -> "subprocess.Popen[bytes]":
    (folder / "schemathesis.toml").write_text(SETTINGS)
    environ = {name: value for name, value in os.environ.items() if not name.lower().endswith("_proxy")}
    environ |= {
        "CASIMG_OPENAPI_URL": url,
        "CASIMG_OPENAPI_TOKEN": way.token,
        "SCHEMATHESIS_HOOKS": "hooks",
        "PYTHONPATH": str(HERE),
    }
    command = [str(options.programs / "bin" / "st"), "run", f"{url}/casimg/v1/openapi.json", "--no-color"]
    command += ["--checks", ",".join(way.checks), "--phases", "coverage,fuzzing,stateful", "--continue-on-failure"]
    command += ["--seed", str(options.seed), "--max-examples", str(options.examples), "--warnings", "off"]
    if way.token:
        command += ["--header", f"X-Auth-Token: {way.token}"]
    with (folder / "output").open("wb") as output:
        return subprocess.Popen(
            ["timeout", str(TIME_MAX_S), *command], cwd=folder, env=environ, stdout=output, stderr=subprocess.STDOUT
        )


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
