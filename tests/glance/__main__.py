"""Run tempest and real clients against casimg behind a real Keystone; `make test-glance`, `make test-glance-small`.

Everything listens on loopback, on free ports, and ends with this program. The exit code is 0 when every test of
tempest and openstacksdk that is in passed.txt passed, and all tests of clients; of a small run those that are in it.
"""

import argparse
import contextlib
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from tests.glance import report
from tests.glance.cloud import SITE_VARIABLE
from tests.glance.install import HERE, Programs, clean_environ, install, versions
from tests.glance.outcomes import Outcome, compared, joined
from tests.glance.sdk_suite import run_sdk_suite
from tests.glance.site import Site, site
from tests.glance.suite import PROFILES, run_suite

ROOT = HERE.parents[1]
PARTS = ("tempest", "sdk", "clients")


def main(arguments: Sequence[str]) -> int:
    """Run what the arguments say; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m tests.glance", description=__doc__)
    parser.add_argument("--only", choices=PARTS, help="run one part; the others are not compared then")
    parser.add_argument("--small", action="store_true", help="what needs few configurations: minutes, also in CI")
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
    parts = (options.only,) if options.only else PARTS
    profiles = [
        profile
        for profile in PROFILES
        if options.profile in (None, profile.name) and (profile.small or not options.small)
    ]
    for profile in profiles:
        if parts == ("clients",) and not profile.has_clients:
            continue
        with found.images(profile.name, profile.settings, profile.own_folders):
            if "tempest" in parts:
                print(f"== tempest, configuration {profile.name}: {profile.about}", flush=True)
                regex = options.regex or (profile.small if options.small else profile.regex)
                with _timed(seconds, f"tempest {profile.name}"):
                    runs.append(run_suite(programs, found.folder, profile, found.identity, found.web_url, regex))
            if "sdk" in parts and options.regex is None and profile is profiles[0]:
                print("== openstacksdk's own tests", flush=True)
                with _timed(seconds, "sdk"):
                    runs.append(run_sdk_suite(programs, found.folder, found.identity, found.port))
            if "clients" in parts and options.regex is None and profile.has_clients:
                with _timed(seconds, "clients"):
                    clients_code = _run_clients(found, programs)
    if not runs:
        return clients_code
    return _judge(joined(runs), programs, options, seconds) or clients_code


@contextlib.contextmanager
def _timed(seconds: dict[str, float], name: str) -> Iterator[None]:
    begin_s = time.monotonic()
    yield
    seconds[name] = time.monotonic() - begin_s


def _judge(outcomes: list[Outcome], programs: Programs, options: argparse.Namespace, seconds: dict[str, float]) -> int:
    is_part = options.regex is not None or options.profile is not None or options.only is not None
    is_whole = not is_part and not options.small
    expected = report.expected()
    if not is_whole:
        asked = {outcome.test for outcome in outcomes}
        expected = [test for test in expected if test in asked and options.small]
    comparison = compared(outcomes, expected)
    installed = versions(programs)
    result = programs.folder / ("run.json" if is_whole else "part.json")
    report.write_json(result, outcomes, installed, seconds)
    if options.write and is_whole:
        report.write_expected(outcomes)
        report.write_document(outcomes, installed)
    print(report.told(outcomes, comparison))
    print(", ".join(f"{name} {value:.0f} s" for name, value in seconds.items()))
    print(f"every test: {result}", flush=True)
    return 1 if comparison.lost and not options.write else 0


def _run_clients(found: Site, programs: Programs) -> int:
    """Run the tests of clients in the venv that has the clients; returns pytest's exit code."""
    print("== clients", flush=True)
    environ = clean_environ(**{SITE_VARIABLE: str(found.described(programs))})
    # The conftest.py above wants what only casimg's own tests have.
    command = [programs.python, "-m", "pytest", "-q", "-W", "ignore", "--show-capture=no", f"--confcutdir={HERE}", HERE]
    return subprocess.run([str(word) for word in command], cwd=ROOT, env=environ, check=False).returncode


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
