"""What may come in: declared against found, and what no hypervisor should open."""

import random
import shutil
import subprocess
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from casimg_api.inspection import FormatRefusedError, FormatRules, Inspection
from tests.unit.api import hostile
from tests.unit.api.hostile import MIB

_RANDOM = random.Random(1).randbytes(2 * MIB + 5)


def inspect(data: bytes, disk_format: str, rules: FormatRules | None = None, part_size: int = 100_000) -> int | None:
    """Feed bytes in parts and return the virtual size."""
    inspection = Inspection(disk_format, rules or FormatRules())
    for at in range(0, len(data), part_size):
        inspection.feed(data[at : at + part_size])
    return inspection.finish()


@pytest.mark.parametrize(
    ("data", "disk_format", "virtual_size"),
    [
        (_RANDOM, "raw", len(_RANDOM)),
        (b"", "raw", 0),
        (b"x", "raw", 1),
        (hostile.qcow2(), "qcow2", 10 * MIB),
        (hostile.qcow2(version=2), "qcow2", 10 * MIB),
        (hostile.qcow2(), "raw", 256 << 10),
        (hostile.vmdk_sparse(), "vmdk", MIB),
        (hostile.vhd(), "vhd", 10 * MIB),
        (hostile.vdi(), "vdi", 10 * MIB),
        (hostile.iso(), "iso", 300 * 2048),
        (hostile.iso(bootable=True), "iso", 300 * 2048),
        (hostile.mbr(), "raw", 2 * MIB),
        (hostile.mbr(gpt=True), "gpt", 2 * MIB),
        (hostile.luks(), "luks", MIB),
        (_RANDOM, "ami", None),
        (_RANDOM, "ploop", None),
    ],
)
def test_what_is_as_declared_comes_in(data: bytes, disk_format: str, virtual_size: int | None) -> None:
    """The declared format is found, or cannot be looked at; the virtual size is that of its header, or of the file."""
    assert inspect(data, disk_format) == virtual_size


@pytest.mark.parametrize("part_size", [1, 3, 512, 4096, 1 << 30])
def test_how_the_client_cuts_its_bytes_changes_nothing(part_size: int) -> None:
    """A client that sends byte by byte gets the same verdict."""
    assert inspect(hostile.qcow2()[:70_000], "qcow2", part_size=part_size) == 10 * MIB
    with pytest.raises(FormatRefusedError):
        inspect(hostile.vmdk_text("monolithicFlat", 'RW 1 FLAT "/etc/passwd" 0'), "vmdk", part_size=part_size)


@pytest.mark.parametrize(
    ("data", "disk_format"),
    [
        (_RANDOM, "qcow2"),
        (b"", "qcow2"),
        (hostile.qcow2()[:100], "qcow2"),
        (hostile.qcow2(), "vmdk"),
        (hostile.qcow2(), "ami"),
        (hostile.vhd(), "qcow2"),
        (hostile.mbr(), "qcow2"),
        (hostile.vdi(), "iso"),
        (hostile.qcow2(size=1 << 63), "qcow2"),
    ],
)
def test_what_is_not_as_declared_is_refused_unless_allowed(data: bytes, disk_format: str) -> None:
    """A declared format that is not found is refused; where that is switched off it has no virtual size."""
    with pytest.raises(FormatRefusedError):
        inspect(data, disk_format)
    assert inspect(data, disk_format, FormatRules(require_match=False)) is None


@pytest.mark.parametrize("require_match", [True, False])
@pytest.mark.parametrize(
    ("data", "own"),
    [
        pytest.param(hostile.qcow2(backing_offset=112), "qcow2", id="backing file"),
        pytest.param(hostile.qcow2(incompatible=4), "qcow2", id="data file"),
        pytest.param(hostile.qcow2(incompatible=16), "qcow2", id="unknown feature"),
        pytest.param(hostile.qcow2(incompatible=1 << 40), "qcow2", id="feature far up"),
        pytest.param(hostile.qcow2(version=1), "qcow2", id="version 1"),
        pytest.param(b"QED\0" + bytes(4096), "qed", id="qed"),
        pytest.param(hostile.vmdk_sparse("monolithicFlat"), "vmdk", id="flat in a sparse header"),
        pytest.param(hostile.vmdk_sparse(extent="/etc/passwd"), "vmdk", id="extent elsewhere"),
        pytest.param(hostile.vmdk_text("monolithicFlat", 'RW 1 FLAT "/etc/passwd" 0'), "vmdk", id="flat"),
        pytest.param(hostile.vmdk_text("vmfs", 'RW 1 VMFS "a-flat.vmdk"'), "vmdk", id="vmfs"),
        pytest.param(hostile.mbr(boot=0x41), "gpt", id="boot flag"),
        pytest.param(hostile.luks(version=2), "luks", id="luks 2"),
    ],
)
def test_what_is_not_safe_is_refused_however_it_is_declared(data: bytes, own: str, require_match: bool) -> None:
    """Headers that lead a hypervisor to other files are refused, also when called raw and when formats may differ."""
    rules = FormatRules(require_match=require_match)
    for disk_format in (own, "raw", "vhd"):
        with pytest.raises(FormatRefusedError):
            inspect(data, disk_format, rules)


def test_a_boot_record_that_looks_odd_can_be_let_in() -> None:
    """Safety checks of GPT that the operator names are only logged."""
    assert inspect(hostile.mbr(boot=0x41), "raw", FormatRules(gpt_nonfatal=("mbr",))) == 2 * MIB


def test_types_of_vmdk_are_those_that_the_operator_allows() -> None:
    """A type taken from the list is refused."""
    with pytest.raises(FormatRefusedError):
        inspect(hostile.vmdk_sparse(), "vmdk", FormatRules(vmdk_types=("streamoptimized",)))


@given(data=st.binary(max_size=3000), disk_format=st.sampled_from(["raw", "qcow2", "vmdk", "vhdx", "luks", "ami"]))
def test_any_bytes_get_a_verdict(data: bytes, disk_format: str) -> None:
    """No bytes break the inspection: they come in or are refused."""
    magics = (b"QFI\xfb", b"KDMV", b"vhdxfile", b"LUKS\xba\xbe", b"conectix", b"# Disk DescriptorFile\n", b"")
    for magic in magics:
        for part_size in (7, 10_000):
            try:
                inspect(magic + data, disk_format, part_size=part_size)
            except FormatRefusedError:
                continue


@pytest.mark.parametrize(
    ("disk_format", "options"),
    [
        ("qcow2", []),
        ("qcow2", ["-o", "compat=0.10"]),
        ("vmdk", []),
        ("vmdk", ["-o", "subformat=streamOptimized"]),
        ("vhdx", []),
        ("vpc", []),
        ("vdi", []),
    ],
)
def test_what_qemu_writes_comes_in(disk_format: str, options: list[str], tmp_path: Path) -> None:
    """Images that qemu-img makes are found to be what they are, with their virtual size."""
    tool = shutil.which("qemu-img")
    if tool is None:
        pytest.skip("needs qemu-img")
    plain, image = tmp_path / "plain", tmp_path / "image"
    plain.write_bytes(_RANDOM[: 2 * MIB] + bytes(6 * MIB))
    subprocess.run([tool, "convert", "-f", "raw", "-O", disk_format, *options, plain, image], check=True)
    found = inspect(image.read_bytes(), "vhd" if disk_format == "vpc" else disk_format, part_size=4 * MIB)
    assert found is not None
    assert 8 * MIB <= found < 9 * MIB  # VHD rounds up to whole cylinders
