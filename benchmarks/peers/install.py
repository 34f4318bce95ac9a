"""Put the peers' programs below a folder of their own; nothing of the host changes and root is not needed.

Two ways: Debian packages, unpacked (`DebianTools`), and packages of the Python index, each in its own environment
(`python_tool`). Debian packages are taken from the newest suite whose package runs with the libraries of this host,
and from the mirror this host uses. What was put there once is found again.
"""

import os
import platform
import re
import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

_SUITES = ("sid", "trixie")
_KEYRING = Path("/usr/share/keyrings/debian-archive-keyring.gpg")
_HEADERS = ("libacl1-dev", "libattr1-dev", "liblz4-dev", "libssl-dev", "libxxhash-dev", "libzstd-dev")
_STAMP = "unpacked.stamp"


class CannotInstallError(Exception):
    """A peer's program cannot be had here; the message says why, in one line."""


@dataclass(frozen=True, slots=True)
class Tool:
    """An installed program.

    Attributes:
        environment: variables that it needs to find what was unpacked with it.
        version: of its package.
    """

    program: Path
    environment: Mapping[str, str]
    version: str


def host_tool(name: str) -> Tool:
    """Return a program of the host. Raises: CannotInstallError."""
    found = shutil.which(name)
    if found is None:
        raise CannotInstallError(f"{name} is not on this host")
    version = re.search(r"\d+(\.\d+)+", _run([found, "--version"]))
    return Tool(Path(found), {}, version[0] if version else "?")


class DebianTools:
    """Programs from Debian packages, unpacked below `folder`, one folder each."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder.absolute()
        self._ready: set[str] = set()

    def tool(self, package: str, program: str) -> Tool:
        """Unpack a package with all it needs and return its program.

        Raises: CannotInstallError.
        """
        place = self.folder / package
        if not (place / _STAMP).exists():
            shutil.rmtree(place, ignore_errors=True)
            try:
                self._unpack(package, place)
            except CannotInstallError:
                if shutil.which(program):
                    return host_tool(program)
                raise
        for folder in ("usr/bin", "bin", "usr/local/bin"):
            if (place / folder / program).exists():
                return Tool(place / folder / program, _paths(place), (place / _STAMP).read_text())
        raise CannotInstallError(f"the package {package} holds no program {program}")

    def headers(self) -> Path:
        """Unpack the headers that Borg's build wants, beside the libraries of the host; return the folder.

        Raises: CannotInstallError.
        """
        place = self.folder / "headers"
        if (place / _STAMP).exists():
            return place
        shutil.rmtree(place, ignore_errors=True)
        archives = self._fresh(place / "archives")
        # By name, not with what they need: the libraries themselves are on the host, at the version of these or newer.
        _run(["apt-get", *self._options(None), "download", *_HEADERS], folder=archives)
        _unpack_all(archives, place)
        for link in (place / "usr/lib" / _multiarch()).glob("*.so"):
            _link_to_host(link)
        (place / _STAMP).touch()
        return place

    def _unpack(self, package: str, place: Path) -> None:
        if shutil.which("apt-get") is None:
            raise CannotInstallError("this host has no apt-get")
        reasons = []
        for suite in (*_SUITES, None):
            try:
                options = self._options(suite)
                self._check_needs(options, package, suite)
                archives = self._fresh(place / "archives")
                cache = ["-o", f"Dir::Cache::archives={archives}"]
                (archives / "partial").mkdir()
                _run(["apt-get", *options, *cache, *_INSTALL, "--download-only", package])
                version = _package_version(archives, package)
                _unpack_all(archives, place)
            except CannotInstallError as error:
                reasons.append(f"{suite or 'this suite'}: {error}")
                continue
            (place / _STAMP).write_text(version)
            return
        raise CannotInstallError("; ".join(reasons))

    def _check_needs(self, options: Sequence[str], package: str, suite: str | None) -> None:
        """Refuse a suite whose package would need other versions of what this host has, such as its C library."""
        for line in _run(["apt-get", *options, *_INSTALL, "--simulate", package]).splitlines():
            words = line.split()
            replaced = words[:1] == ["Inst"] and words[2].startswith("[") and words[1] != package
            if suite and (replaced or words[:1] == ["Remv"]):
                raise CannotInstallError(f"needs another {words[1]}")

    def _options(self, suite: str | None) -> list[str]:
        """Return options of a private apt: own lists and cache, the host's list of installed packages only read."""
        place = self.folder / "apt" / (suite or "host")
        (place / "lists/partial").mkdir(parents=True, exist_ok=True)
        (place / "cache/archives/partial").mkdir(parents=True, exist_ok=True)
        settings = {
            "Debug::NoLocking": "true",
            "Dir::State": place,
            "Dir::State::status": "/var/lib/dpkg/status",
            "Dir::Cache": place / "cache",
            "APT::Sandbox::User": "root",
        }
        if suite:
            sources = place / "sources.list"
            signed = f" [signed-by={_KEYRING}]" if _KEYRING.exists() else ""
            sources.write_text(f"deb{signed} {_mirror()} {suite} main\n")
            settings |= {"Dir::Etc::sourcelist": sources, "Dir::Etc::sourceparts": "/dev/null"}
        options = [word for key, value in settings.items() for word in ("-o", f"{key}={value}")]
        if place.name not in self._ready:
            _run(["apt-get", *options, "--error-on=any", "update"])
            self._ready.add(place.name)
        return options

    def _fresh(self, folder: Path) -> Path:
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        return folder


_INSTALL = ("--yes", "--no-install-recommends", "install")


def python_tool(
    folder: Path,
    name: str,
    requirements: Sequence[str],
    program: str,
    build: Callable[[], Mapping[str, str]] = dict,
) -> Tool:
    """Make an environment `folder/name` with the first requirement that installs, and return its program.

    Args:
        requirements: of one distribution; the later ones are for hosts where the newest does not build.
        build: makes ready, and returns variables for, the build of what comes as source; called when it is needed.
    Raises: CannotInstallError.
    """
    place = folder.absolute() / name
    stamp = place / "installed.stamp"
    if not stamp.exists():
        shutil.rmtree(place, ignore_errors=True)
        _run([sys.executable, "-m", "venv", str(place)])
        pip = [str(place / "bin/python"), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
        environment, reasons = build(), []
        for requirement in requirements:
            try:
                _run([*pip, requirement], environment=environment)
            except CannotInstallError as error:
                reasons.append(f"{requirement}: {error}")
                continue
            version = _run([*pip[:3], "show", requirement.partition("=")[0].rstrip("><~")]).partition("Version: ")[2]
            stamp.write_text(version.split()[0])
            break
        else:
            raise CannotInstallError("; ".join(reasons))
    return Tool(place / "bin" / program, {}, stamp.read_text())


def borg_build(headers: Path) -> dict[str, str]:
    """Return the variables that make Borg's build find unpacked headers."""
    usr = headers / "usr"
    prefixes = ("OPENSSL", "LIBACL", "LIBLZ4", "LIBXXHASH", "LIBZSTD")
    return {
        "CFLAGS": f"-I{usr}/include -I{usr}/include/{_multiarch()}",
        "LDFLAGS": f"-L{usr}/lib/{_multiarch()}",
        **{f"BORG_{name}_PREFIX": str(usr) for name in prefixes},
    }


def _mirror() -> str:
    """Return the address of the mirror that this host takes Debian's main archive from."""
    release = platform.freedesktop_os_release()
    if release.get("ID") != "debian":
        raise CannotInstallError("only a Debian mirror has Debian's newer suites")
    lines = _run(["apt-get", "indextargets", "--format", "$(REPO_URI)|$(RELEASE)", "Created-By: Packages"]).splitlines()
    for line in lines:
        address, _, suite = line.partition("|")
        if suite == release.get("VERSION_CODENAME"):
            return address
    raise CannotInstallError("the sources of this host name no Debian mirror")


def _multiarch() -> str:
    return str(sysconfig.get_config_var("MULTIARCH") or f"{platform.machine()}-linux-gnu")


def _link_to_host(link: Path) -> None:
    """Let a link for the linker, whose library was not unpacked, lead to the host's."""
    name = link.readlink().name
    found = (path for top in ("/usr/lib", "/lib") if (path := Path(top, _multiarch(), name)).exists())
    if not link.exists() and (library := next(found, None)):
        link.unlink()
        link.symlink_to(library)


def _paths(place: Path) -> dict[str, str]:
    """Return variables that make programs find libraries and modules unpacked below a folder."""
    return {
        "LD_LIBRARY_PATH": f"{place}/usr/lib/{_multiarch()}:{place}/lib/{_multiarch()}",
        "PATH": f"{place}/usr/bin:{os.environ.get('PATH', os.defpath)}",
    }


def _package_version(archives: Path, package: str) -> str:
    for archive in archives.glob(f"{package}_*.deb"):
        return _run(["dpkg-deb", "--field", str(archive), "Version"]).strip()
    raise CannotInstallError(f"no archive of {package} came")


def _unpack_all(archives: Path, place: Path) -> None:
    for archive in sorted(archives.glob("*.deb")):
        _run(["dpkg-deb", "--extract", str(archive), str(place)])
    shutil.rmtree(archives)


def _run(arguments: Sequence[str], *, folder: Path | None = None, environment: Mapping[str, str] | None = None) -> str:
    """Run a command and return what it wrote. Raises: CannotInstallError with the last line of its complaint."""
    try:
        done = subprocess.run(
            arguments,
            cwd=folder,
            env={**os.environ, "LC_ALL": "C", **(environment or {})},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
        )
    except OSError as error:
        raise CannotInstallError(f"{arguments[0]}: {error.strerror}") from None
    if done.returncode:
        lines = [line.strip() for line in (done.stderr or done.stdout).splitlines() if line.strip()]
        telling = [line for line in lines if line.startswith(("E:", "Exception:", "ERROR:"))] or lines or ["?"]
        raise CannotInstallError(f"{Path(arguments[0]).name} failed: {telling[-1]}")
    return done.stdout
