"""What is on each disk: package sets, sizes, seeds and the changes between generations. No work is done here."""

import uuid
from dataclasses import dataclass

MIB = 1 << 20
SUITE = "bookworm"
SEED = 20261124
EPOCH_S = 1764547200
"""Every time stamp of a golden (SOURCE_DATE_EPOCH): 2025-12-01 00:00 UTC, seconds."""

_NAMESPACE = uuid.UUID("6f1a3f0e-6f0c-4c55-9a55-63617369696d")

QCOW2, ZLIB, ZSTD, VMDK = "qcow2", "zlib.qcow2", "zstd.qcow2", "stream.vmdk"
CONTAINERS = (QCOW2, ZLIB, ZSTD, VMDK)
"""File name endings of the container formats."""


@dataclass(frozen=True, slots=True)
class Disk:
    """A disk made from packages alone.

    Attributes:
        name: file name without the ending.
        role: "golden" or "instance".
        packages: what is installed beside the variant's own packages.
        containers: endings of the containers to write of it.
    """

    name: str
    role: str
    packages: tuple[str, ...]
    containers: tuple[str, ...] = CONTAINERS

    def uuid(self, use: str) -> str:
        """Return the fixed UUID of this disk for a use ("volume", "hash")."""
        return str(uuid.uuid5(_NAMESPACE, f"{self.name} {use}"))


@dataclass(frozen=True, slots=True)
class Change:
    """What happens to the instance disk until it is this generation.

    Attributes:
        generation: its number, from 1.
        install, remove: package names; `install` is fetched when generation 1 is built, so changes need no network.
        upgrade: install the security updates that were held back so far.
        log_size: bytes appended to log files.
        file_count: files written below /srv; a third of those of before are deleted.
        update_count: database transactions (PostgreSQL) or updated pages (SQLite).
    """

    generation: int
    install: tuple[str, ...] = ()
    remove: tuple[str, ...] = ()
    upgrade: bool = False
    log_size: int = 0
    file_count: int = 0
    update_count: int = 0
    containers: tuple[str, ...] = CONTAINERS


@dataclass(frozen=True, slots=True)
class Recipe:
    """A family of disks.

    Attributes:
        disk_size: virtual bytes of every disk.
        journal_size: bytes of the ext4 journal.
        variant: mmdebstrap's name of the package set below all.
        slim: leave manual pages, documents and translations out.
        database: "postgresql" (run in the chroot) or "sqlite" (written through the mount).
        database_scale: pgbench scale (15 MiB each), or MiB of SQLite pages.
    """

    name: str
    disk_size: int
    journal_size: int
    variant: str
    slim: bool
    goldens: tuple[Disk, ...]
    instance: Disk
    changes: tuple[Change, ...]
    database: str
    database_scale: int


_SYSTEM = (
    "ca-certificates cron curl dbus ifupdown initramfs-tools iproute2 iputils-ping isc-dhcp-client less "
    "linux-image-cloud-amd64 logrotate nano netbase openssh-server procps rsyslog sudo systemd-sysv tzdata zstd"
)
_WEB = "nginx"
_DATABASE = "postgresql postgresql-client"
_BUILD = "build-essential git python3 python3-venv python3-dev cmake pkg-config"


def _packages(*sets: str) -> tuple[str, ...]:
    return tuple(sorted({word for words in sets for word in words.split()}))


FULL = Recipe(
    name="full",
    disk_size=2048 * MIB,
    journal_size=32 * MIB,
    variant="minbase",
    slim=False,
    goldens=(
        Disk("base", "golden", _packages(_SYSTEM)),
        Disk("web", "golden", _packages(_SYSTEM, _WEB)),
        Disk("database", "golden", _packages(_SYSTEM, _DATABASE)),
        Disk("build", "golden", _packages(_SYSTEM, _BUILD)),
    ),
    instance=Disk(
        "instance",
        "instance",
        _packages(_SYSTEM, _DATABASE, "build-essential git python3 python3-dev vim perl-doc"),
    ),
    changes=(
        Change(1, log_size=48 * MIB, file_count=240),
        Change(
            2,
            install=("nginx", "php-cli", "redis-server"),
            remove=("vim", "vim-runtime"),
            upgrade=True,
            log_size=16 * MIB,
            file_count=80,
            update_count=5000,
        ),
        Change(
            3,
            install=("rsync", "tmux", "python3-numpy"),
            remove=("git", "git-man", "redis-server", "redis-tools"),
            log_size=16 * MIB,
            file_count=80,
            update_count=5000,
        ),
    ),
    database="postgresql",
    database_scale=15,
)

SMALL = Recipe(
    name="small",
    disk_size=176 * MIB,
    journal_size=4 * MIB,
    variant="essential",
    slim=True,
    goldens=(
        Disk("base", "golden", _packages("busybox"), (ZLIB,)),
        Disk("web", "golden", _packages("busybox nginx-light"), ()),
    ),
    instance=Disk("instance", "instance", _packages("busybox nano")),
    changes=(
        Change(1, log_size=2 * MIB, file_count=60, containers=()),
        Change(
            2,
            install=("nginx-light",),
            remove=("busybox", "nano"),
            log_size=1 * MIB,
            file_count=20,
            update_count=150,
            containers=(),
        ),
    ),
    database="sqlite",
    database_scale=16,
)
"""Five files of 176 MiB: below 1 GB together."""


def generation_name(instance: Disk, change: Change) -> str:
    """Return the file name, without ending, of a generation of the instance disk."""
    return f"{instance.name}-{change.generation}"
