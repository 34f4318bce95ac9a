"""Heads of disk images as qemu writes them, and as somebody writes them who wants a hypervisor to open other files."""

import struct

MIB = 1 << 20


def qcow2(size: int = 10 * MIB, *, version: int = 3, backing_offset: int = 0, incompatible: int = 0) -> bytes:
    """Return a qcow2 of a header and nothing else of interest."""
    head = struct.pack(">4sIQIIQ", b"QFI\xfb", version, backing_offset, 8 if backing_offset else 0, 16, size)
    head += struct.pack(">IIQQIIQQQQII", 0, 1, 0x30000, 0x10000, 1, 0, 0, incompatible, 0, 0, 4, 104)
    return head.ljust(256 << 10, b"\0")


def vmdk_sparse(create_type: str = "monolithicSparse", extent: str = "a.vmdk", *, sectors: int = 2048) -> bytes:
    """Return a VMDK with a header and a descriptor in it."""
    head = struct.pack("<4sIIQQQQIQQ", b"KDMV", 1, 3, sectors, 128, 1, 20, 512, 0, 21)
    text = vmdk_text(create_type, f'RW {sectors} SPARSE "{extent}"')
    return head.ljust(512, b"\0") + text.ljust(20 * 512, b"\0") + bytes(64 << 10)


def vmdk_text(create_type: str, extent: str) -> bytes:
    """Return the descriptor of a VMDK."""
    lines = [
        "# Disk DescriptorFile",
        "version=1",
        "CID=1",
        f'createType="{create_type}"',
        extent,
        'ddb.adapterType = "ide"',
    ]
    return "\n".join(lines).encode() + b"\n"


def mbr(*, boot: int = 0x80, kind: int = 0x83, start: int = 2048, gpt: bool = False) -> bytes:
    """Return a disk that begins with a boot record of one partition."""
    entry = struct.pack("<B3BB3BII", boot, 0, 2, 0, 0xEE if gpt else kind, 255, 255, 255, 1 if gpt else start, 4096)
    return (bytes(446) + entry + bytes(48) + b"\x55\xaa").ljust(2 * MIB, b"\0")


def vhd(size: int = 10 * MIB) -> bytes:
    """Return a VHD of a header."""
    return (b"conectix" + bytes(32) + struct.pack(">Q", size)).ljust(4096, b"\0")


def vdi(size: int = 10 * MIB) -> bytes:
    """Return a VDI of a header."""
    head = bytearray(4096)
    head[0x40:0x44] = struct.pack("<I", 0xBEDA107F)
    head[0x170:0x178] = struct.pack("<Q", size)
    return bytes(head)


def iso(*, bootable: bool = False) -> bytes:
    """Return an ISO 9660 of 300 blocks; bootable ones have a boot record in front."""
    head = bytearray(mbr() if bootable else bytes(2 * MIB))
    head[32768:32774] = b"\x01CD001"
    head[32768 + 80 : 32768 + 84] = struct.pack("<I", 300)
    head[32768 + 128 : 32768 + 130] = struct.pack("<H", 2048)
    return bytes(head)


def luks(version: int = 1) -> bytes:
    """Return a LUKS header before 1 MiB of payload."""
    fields = (b"LUKS\xba\xbe", version, b"aes", b"xts-plain64", b"sha256", 8, 64, bytes(20), bytes(32), 1000)
    return struct.pack(">6sH32s32s32sII20s32sI", *fields).ljust(4096, b"\0") + bytes(MIB)
