"""Make a disk of packages: mmdebstrap writes a sorted tar, `mke2fs -d` lays its files out in a sparse raw image.

The same packages give the same bytes. mke2fs takes the times of change and access from the unpacked files, which are
always now; debugfs sets them afterwards.
"""

import re
import shlex
import shutil
from pathlib import Path

from benchmarks.images.programs import run
from benchmarks.images.recipe import EPOCH_S, MIB, SUITE, Disk, Recipe

_ARCHIVES = '"$1/var/cache/apt/archives"'
_HELD_BACK = '"$1/etc/apt/preferences.d/held-back"'
_SLIM = ("/usr/share/man/*", "/usr/share/locale/*", "/usr/share/doc/*", "/usr/share/info/*")
_CERTIFICATE = "ssl-cert-snakeoil"
_OWN_TO_A_MACHINE = f"etc/ssh/ssh_host_* etc/ssl/private/{_CERTIFICATE}.key etc/ssl/certs/{_CERTIFICATE}.pem"
_TIME = {"SOURCE_DATE_EPOCH": str(EPOCH_S), "E2FSPROGS_FAKE_TIME": str(EPOCH_S)}
_INODE_ROOT, _INODE_FIRST = 2, 11


class Builder:
    """Builds the disks of one recipe.

    Args:
        recipe: the family.
        work: an empty folder for what is in between; on the disk, as it holds a whole system twice.
        debs: where downloaded packages are kept between builds. apt compares their sizes and hashes before use.
    """

    def __init__(self, recipe: Recipe, work: Path, debs: Path) -> None:
        self._recipe, self._work, self._debs = recipe, work.absolute(), debs.absolute()
        self._sources = host_sources()

    def later(self, generation: int) -> Path:
        """Return the folder of the packages that a change installs."""
        return self._debs / f"later-{self._recipe.name}-{generation}"

    def build(self, disk: Disk, image: Path) -> str:
        """Write a raw image of a disk and return its list of packages, one "name version architecture" a line.

        Cost: a whole system written three times (mmdebstrap's, the tar, the tree); the debs once over the network.
        """
        archive, tree = self._work / "system.tar", self._work / "tree"
        self._bootstrap(disk, archive)
        tree.mkdir()
        run(["tar", "-x", "-f", archive, "-C", tree, "--numeric-owner", "--xattrs", "--xattrs-include=*"])
        archive.unlink()
        packages = package_list(tree)
        self._lay_out(disk, tree, image)
        shutil.rmtree(tree)
        return packages

    def _bootstrap(self, disk: Disk, archive: Path) -> None:
        self._debs.mkdir(parents=True, exist_ok=True)
        debs = shlex.quote(str(self._debs))
        copy_in = f"find {debs} -maxdepth 1 -name '*.deb' -exec cp -t {_ARCHIVES} {{}} +"
        copy_out = f"find {_ARCHIVES} -maxdepth 1 -name '*.deb' -exec cp -n -t {debs} {{}} +"
        # A cluster made by the package has a random id in a golden; generation 1 makes its own.
        no_cluster = '"$1/etc/postgresql-common"'
        setup = [
            f"mkdir -p {_ARCHIVES} {no_cluster}; {copy_in}",
            f"echo create_main_cluster=false > {no_cluster}/createcluster.conf",
        ]
        customize = [copy_out, 'sed -i /force-unsafe-io/d "$1/etc/dpkg/dpkg.cfg.d/99mmdebstrap"']
        if disk is self._recipe.instance:
            if any(change.upgrade for change in self._recipe.changes):
                pin = "Package: *\\nPin: release l=Debian-Security\\nPin-Priority: -1\\n"
                setup.append(f"mkdir -p {_HELD_BACK.replace('/held-back', '')}; printf '{pin}' > {_HELD_BACK}")
            customize += self._fetch_later()
        links = f"find etc/ssl/certs -lname {_CERTIFICATE}.pem -delete 2>/dev/null || :"
        customize.append(f'cd "$1"; rm -f {_OWN_TO_A_MACHINE}; {links}')
        command: list[str | Path] = ["mmdebstrap", "--mode=root", f"--variant={self._recipe.variant}", "--format=tar"]
        # Together they keep the debs until our hooks have copied them.
        command += ["--skip=download/empty", "--skip=essential/unlink", "--dpkgopt=force-confold"]
        # A tree that a power cut may take need not be synced file by file. The image's own dpkg keeps syncing.
        command += ["--dpkgopt=force-unsafe-io"]
        command += [f"--dpkgopt=path-exclude={path}" for path in (_SLIM if self._recipe.slim else ())]
        command += [f"--setup-hook={hook}" for hook in setup] + [f"--customize-hook={hook}" for hook in customize]
        command += [f"--include={','.join(disk.packages)}", SUITE, archive, *self._sources]
        run(command, {**_TIME, "TMPDIR": str(self._work)})

    def _fetch_later(self) -> list[str]:
        """Return hooks that download what the changes will install, while apt knows the archive."""
        hooks = [f"rm -f {_HELD_BACK}"]
        for change in self._recipe.changes:
            folder = shlex.quote(str(self.later(change.generation)))
            get = f'APT_CONFIG="$MMDEBSTRAP_APT_CONFIG" apt-get -q -y -d -o Dir::Cache::archives={folder}/'
            hooks.append(f"rm -rf {folder}; mkdir -p {folder}/partial")
            if change.upgrade:
                hooks.append(f"{get} dist-upgrade")
            if change.install:
                hooks.append(f"{get} install {' '.join(change.install)}")
        return hooks

    def _lay_out(self, disk: Disk, tree: Path, image: Path) -> None:
        options = f"hash_seed={disk.uuid('hash')},lazy_itable_init=0,lazy_journal_init=0"
        journal = f"size={self._recipe.journal_size // MIB}"
        dense = self._work / "laid-out.raw"
        command: list[str | Path] = ["mke2fs", "-q", "-F", "-t", "ext4", "-b", "4096", "-m", "1", "-J", journal]
        command += ["-U", disk.uuid("volume"), "-E", options, "-d", tree, dense, f"{self._recipe.disk_size // MIB}M"]
        run(command, _TIME)
        run(["debugfs", "-w", "-f", "-", dense], _TIME, fixed_times(_used_inodes(dense)))
        # mke2fs allocates inode tables of zeros, and digging holes into pages not yet written leaves them there.
        run(["cp", "--sparse=always", dense, image])
        dense.unlink()


def _used_inodes(image: Path) -> int:
    said = run(["dumpe2fs", "-h", image])
    counts = {name: int(re.findall(rf"^{name}: +(\d+)$", said, re.M)[0]) for name in ("Inode count", "Free inodes")}
    return counts["Inode count"] - counts["Free inodes"]


def fixed_times(used_inodes: int) -> str:
    """Return debugfs commands that set the times of a fresh file system, whose inodes are numbered without gaps."""
    inodes = [_INODE_ROOT, *range(_INODE_FIRST, used_inodes + 1)]
    fields = [(f"{name}", f"@{EPOCH_S}") for name in ("ctime", "atime", "crtime")]
    fields += [(f"{name}_extra", "0") for name, _ in fields]
    return "".join(f"set_inode_field <{inode}> {name} {value}\n" for inode in inodes for name, value in fields)


def package_list(tree: Path) -> str:
    """Return the packages installed below a folder, sorted, one "name version architecture" a line."""
    listed = run(
        ["dpkg-query", f"--admindir={tree}/var/lib/dpkg", "-W", "-f", "${Package} ${Version} ${Architecture}\n"]
    )
    return "".join(sorted(listed.splitlines(keepends=True)))


def host_sources(folder: Path = Path("/etc/apt")) -> list[Path]:
    """Return this machine's apt source files that name the suite; with none, mmdebstrap takes its own default.

    Files of other vendors do not name it alone ("bookworm-pgdg" is another word) and are left out.
    """
    files = [folder / "sources.list", *sorted((folder / "sources.list.d").glob("*"))]
    word = re.compile(rf"(?<!\S){SUITE}(?!\S)", re.M)
    return [
        file
        for file in files
        if file.suffix in {".list", ".sources"} and file.is_file() and word.search(file.read_text())
    ]
