"""uWSGI and mod_wsgi in a venv of their own, which sees what is installed in that of these tests."""

import hashlib
import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from tests.servers.processes import run_checked

REQUIREMENTS = Path(__file__).with_name("requirements.txt")
FOLDER_VARIABLE = "CASIMG_TEST_WSGI"
"""Names the folder of the programs; without it the tests of this package are not collected."""
SERVERS = ("gunicorn", "uwsgi", "mod_wsgi")


@dataclass(frozen=True)
class Programs:
    """What is installed below a folder.

    Args:
        missing: servers that could not be installed, with the reason.
    """

    folder: Path
    missing: Mapping[str, str] = field(default_factory=dict)

    @property
    def venv(self) -> Path:
        return self.folder / "venv"

    @property
    def uwsgi(self) -> Path:
        return self.venv / "bin" / "uwsgi"

    @property
    def express(self) -> Path:
        return self.venv / "bin" / "mod_wsgi-express"


def apache() -> tuple[Path, Path]:
    """Return the program of Apache and the folder of its modules. Raises: FileNotFoundError."""
    apxs = shutil.which("apxs") or shutil.which("apxs2")
    if apxs is None:
        raise FileNotFoundError("apxs is missing: apt-get install apache2-dev")
    asked = [
        subprocess.run([apxs, "-q", name], capture_output=True, text=True, check=True).stdout.strip()
        for name in ("SBINDIR", "PROGNAME", "LIBEXECDIR")
    ]
    program = Path(asked[0]) / asked[1]
    if not program.is_file():
        raise FileNotFoundError(f"{program} is missing: apt-get install apache2-bin")
    return program, Path(asked[2])


def install(folder: Path) -> Programs:
    """Return the programs below a folder; installs with pip those that are not there in the wanted versions."""
    wanted = hashlib.sha256(REQUIREMENTS.read_bytes() + sys.version.encode() + sys.prefix.encode()).hexdigest()
    stamp = folder / "installed"
    if not stamp.is_file() or stamp.read_text() != wanted:
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        run_checked([sys.executable, "-m", "venv", folder / "venv"], folder)
        ours = run_checked(
            [folder / "venv" / "bin" / "python", "-c", "import sysconfig; print(sysconfig.get_path('purelib'))"], folder
        )
        # A line that is code is run: what it adds has .pth files of its own, that of an editable casimg.
        link = f"import site; site.addsitedir({sysconfig.get_path('purelib')!r})\n"
        (Path(ours.strip()) / "casimg-of-the-tests.pth").write_text(link)
        stamp.write_text(wanted)
    programs = Programs(folder)
    missing = {}
    for name, program in (("uwsgi", programs.uwsgi), ("mod_wsgi", programs.express)):
        reason = None if program.is_file() else _install(programs, name)
        if reason is not None:
            missing[name] = reason
    try:
        apache()
    except FileNotFoundError as error:
        missing["mod_wsgi"] = str(error)
    return Programs(folder, missing)


def _install(programs: Programs, name: str) -> str | None:
    """Install one server; returns why that failed."""
    (requirement,) = (line for line in REQUIREMENTS.read_text().splitlines() if name in line)
    print(f"installing {requirement} below {programs.folder}", flush=True)
    python = programs.venv / "bin" / "python"
    pip = ["-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    done = subprocess.run([python, *pip, requirement], capture_output=True, text=True, check=False)
    return None if done.returncode == 0 else f"pip install {requirement}: {done.stderr.strip().splitlines()[-1:]}"
