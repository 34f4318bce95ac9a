"""Run tempest and real clients against casimg behind a real Keystone; `make test-glance`.

Everything listens on loopback, on free ports, and ends with this program. The exit code is 0 when every test of
tempest that is in passed.txt passed, and all tests of clients.
"""

import argparse
import contextlib
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from tests.glance import report
from tests.glance.cloud import SITE_VARIABLE
from tests.glance.install import HERE, Programs, clean_environ, install, versions
from tests.glance.outcomes import Outcome, compared, joined
from tests.glance.site import Site, site
from tests.glance.suite import PROFILES, run_suite

ROOT = HERE.parents[1]


def main(arguments: Sequence[str]) -> int:
    """Run what the arguments say; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m tests.glance", description=__doc__)
    parser.add_argument("--only", choices=("tempest", "clients"), help="run one half")
    parser.add_argument("--regex", help="tests of tempest to run, instead of all; nothing is compared then")
    names = [profile.name for profile in PROFILES]
    parser.add_argument("--profile", choices=names, help="run one configuration; nothing is compared then")
    parser.add_argument("--write", action="store_true", help="take the result over: passed.txt and docs/http-api.md")
    parser.add_argument(
        "--hold", action="store_true", help="start the servers, say where they are, and wait for Ctrl-C"
    )
    parser.add_argument("--keep", type=Path, metavar="FOLDER", help="folder of the run, kept; it must not exist")
    parser.add_argument("--programs", type=Path, metavar="FOLDER", default=ROOT / ".servers" / "glance")
    options = parser.parse_args(arguments)
    # A signal must run the ends of all blocks.
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda got, _frame: sys.exit(128 + got))
    begin_s = time.monotonic()
    programs = install(options.programs.resolve())
    seconds = {"install": time.monotonic() - begin_s}
    with tempfile.TemporaryDirectory(prefix="casimg-glance-") as temporary:
        folder = Path(temporary)
        if options.keep:
            folder = options.keep.resolve()
            folder.mkdir(parents=True)
        begin_s = time.monotonic()
        with site(programs, folder) as found:
            seconds["start"] = time.monotonic() - begin_s
            if options.hold:
                return _hold(found, programs)
            return _run(found, programs, options, seconds)


def _hold(found: Site, programs: Programs) -> int:
    with found.images("held", {}):
        print(f"{found.openrc()}\nexport {SITE_VARIABLE}={found.described(programs)}\nexport PATH={programs.bin}:$PATH")
        print("# Ctrl-C ends it", flush=True)
        with contextlib.suppress(KeyboardInterrupt):
            signal.pause()
    return 0


def _run(found: Site, programs: Programs, options: argparse.Namespace, seconds: dict[str, float]) -> int:
    runs: list[list[Outcome]] = []
    clients_code = 0
    for profile in [profile for profile in PROFILES if options.profile in (None, profile.name)]:
        with found.images(profile.name, profile.settings):
            if options.only != "clients":
                print(f"== tempest, configuration {profile.name}: {profile.about}", flush=True)
                begin_s = time.monotonic()
                runs.append(run_suite(programs, found.folder, profile, found.identity, found.web_url, options.regex))
                seconds[f"tempest {profile.name}"] = time.monotonic() - begin_s
            if options.only != "tempest" and profile.name == (options.profile or PROFILES[0].name):
                begin_s = time.monotonic()
                clients_code = _run_clients(found, programs)
                seconds["clients"] = time.monotonic() - begin_s
    if options.only == "clients":
        return clients_code
    return _judge(joined(runs), programs, options, seconds) or clients_code


def _judge(outcomes: list[Outcome], programs: Programs, options: argparse.Namespace, seconds: dict[str, float]) -> int:
    is_whole = options.regex is None and options.profile is None
    comparison = compared(
        outcomes, report.expected() if is_whole else [found.test for found in outcomes if found.state == "passed"]
    )
    installed = versions(programs)
    result = programs.folder / ("run.json" if is_whole else "part.json")
    report.write_json(result, outcomes, installed, seconds)
    if options.write and is_whole:
        report.write_expected(outcomes)
        report.write_document(outcomes, installed)
    print(report.told(outcomes, comparison))
    print(", ".join(f"{name} {value:.0f} s" for name, value in seconds.items()))
    print(f"every test: {result}", flush=True)
    return 1 if comparison.lost and is_whole and not options.write else 0


def _run_clients(found: Site, programs: Programs) -> int:
    """Run the tests of clients in the venv that has the clients; returns pytest's exit code."""
    print("== clients", flush=True)
    environ = clean_environ(**{SITE_VARIABLE: str(found.described(programs))})
    # The conftest.py above wants what only casimg's own tests have.
    command = [programs.python, "-m", "pytest", "-q", "-W", "ignore", "--show-capture=no", f"--confcutdir={HERE}", HERE]
    return subprocess.run([str(word) for word in command], cwd=ROOT, env=environ, check=False).returncode


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
