"""What a stream of bytes is, found out while it passes: declared format against detected, what is not safe refused.

The inspectors are those of oslo.utils, which Nova and Cinder use on the same bytes; the rules are Glance's. They get
the head of the stream in pieces of our own size, since some of them see less when a client sends its bytes in small
parts; once all have seen what they need, the rest is only counted.
"""

import logging
from collections.abc import Collection
from dataclasses import dataclass
from typing import Final, Protocol

from oslo_utils.imageutils.format_inspector import (
    ALL_FORMATS,
    FileInspector,
    ImageFormatError,
    LUKSInspector,
    SafetyCheckFailed,
    VMDKInspector,
)

from casimg.catalog import ImageRow
from casimg_api.config import DataConfig

_log = logging.getLogger("casimg_api.inspection")

HEAD_SIZE: Final = 1 << 20
"""Bytes seen before anything is decided: as long as a descriptor of VMDK can be."""
_PIECE_SIZE: Final = 32 << 10
_TEXT_PROBE_SIZE: Final = 64
_VIRTUAL_SIZE_MAX: Final = (1 << 63) - 1
_COUNTED: Final = ("raw", "gpt")
"""Formats whose virtual size is that of the file."""


class SizedFile(Protocol):
    """A file of known size, read from its beginning."""

    @property
    def size(self) -> int: ...
    def read(self, size: int, /) -> bytes | None: ...


class FormatRefusedError(Exception):
    """The bytes are not what they are declared to be, or not safe to give to a hypervisor."""


@dataclass(frozen=True, slots=True)
class FormatRules:
    """What is let in.

    Attributes:
        require_match: refuse a declared format that the bytes do not have.
        gpt_nonfatal: names of safety checks of GPT and MBR that are only logged.
        vmdk_types: the `createType`s of VMDK that are let in, lower case.
    """

    require_match: bool = True
    gpt_nonfatal: Collection[str] = ()
    vmdk_types: Collection[str] = ("streamoptimized", "monolithicsparse")


class Inspection:
    """One stream, inspected while it passes.

    Args:
        disk_format: as declared.
    Threads: one.
    """

    def __init__(self, disk_format: str, rules: FormatRules) -> None:
        self._declared = disk_format
        self._rules = rules
        self._all: dict[str, FileInspector] = {
            name: inspector() for name, inspector in ALL_FORMATS.items() if name != "raw"
        }
        self._asking = list(self._all.values())
        self._head = bytearray()
        self._begun = False
        self.size = 0

    def feed(self, data: bytes | bytearray | memoryview) -> None:
        """Take the next bytes; nothing of them is kept but what a format's header needs. Never raises."""
        self.size += len(data)
        if not self._asking:
            return
        view = memoryview(data)
        if not self._begun:
            room = HEAD_SIZE - len(self._head)
            self._head += view[:room]
            if len(self._head) < HEAD_SIZE:
                return
            self._begin()
            view = view[room:]
        self._eat(view, _PIECE_SIZE)

    @property
    def has_seen_enough(self) -> bool:
        """Whether the rest is only counted."""
        return self._begun and not self._asking

    def pass_over(self, size: int) -> None:
        """Count bytes that need not be seen: after `has_seen_enough`."""
        self.size += size

    def finish(self) -> int | None:
        """Decide, once all bytes were seen, and return the virtual size; None when it is not known.

        Raises: FormatRefusedError.
        """
        if not self._begun:
            self._begin()
        for inspector in self._all.values():
            inspector.finish()
        try:
            return self._decide()
        except ImageFormatError as error:
            if self._rules.require_match:
                raise FormatRefusedError(str(error)) from None
            _log.warning("format.no_match declared=%s why=%s", self._declared, error)
            return None

    def _begin(self) -> None:
        self._begun = True
        head, self._head = self._head, bytearray()
        probe = bytes(head[:_TEXT_PROBE_SIZE])
        # The descriptor of a VMDK without a header is looked at once, as far as it has come by then.
        is_text = probe.isascii() and all(chr(char).isprintable() or chr(char).isspace() for char in probe)
        self._eat(memoryview(head), HEAD_SIZE if is_text else _PIECE_SIZE)

    def _eat(self, view: memoryview, piece_size: int) -> None:
        for at in range(0, len(view), piece_size):
            if not self._asking:
                return
            piece = bytes(view[at : at + piece_size])
            self._asking = [inspector for inspector in self._asking if self._still_asks(inspector, piece)]

    def _still_asks(self, inspector: FileInspector, piece: bytes) -> bool:
        try:
            inspector.eat_chunk(piece)
            return not inspector.complete
        except Exception as error:  # bytes that a parser stumbles over are not of its format
            _log.debug("format.excluded format=%s why=%s", inspector, error)
            self._all.pop(inspector.NAME, None)
            return False

    def _decide(self) -> int | None:
        found = self._match()
        name = "raw" if found is None else found.NAME
        if found is not None:  # first, so that no way of declaring it goes around the check
            self._check_safety(found)
        if name == self._declared:
            return self._virtual_size(found)
        if self._declared == "raw":
            # Whoever says raw gets raw: its size is that of the file, and it is served as raw.
            _log.warning("format.raw_is_other detected=%s", name)
            return self.size
        if name != "raw" or self._declared in ALL_FORMATS:
            raise ImageFormatError(f"Image disk_format {self._declared} does not match stream data {name}")
        return None

    def _match(self) -> FileInspector | None:
        """Return the inspector whose format it is; None for raw."""
        matching = {name: inspector for name, inspector in self._all.items() if _matches(inspector)}
        if matching.keys() == {"iso", "gpt"}:  # an image for USB sticks and disks alike
            return matching["iso"]
        if len(matching) > 1:
            raise ImageFormatError(f"Multiple formats detected: {','.join(sorted(matching))}")
        return next(iter(matching.values()), None)

    def _virtual_size(self, found: FileInspector | None) -> int | None:
        if found is None or found.NAME in _COUNTED:
            return self.size
        try:
            size = int(found.virtual_size)
            if isinstance(found, LUKSInspector):  # it counts what it was fed
                size = max(0, self.size - found.header_items["payload_offset"] * 512)
        except Exception as error:
            raise ImageFormatError(f"The size in the header of {found} cannot be read: {error}") from None
        if size > _VIRTUAL_SIZE_MAX:
            raise ImageFormatError(f"The header of {found} declares an impossible size")
        return size or None

    def _check_safety(self, found: FileInspector) -> None:
        try:
            found.safety_check()
        except SafetyCheckFailed as error:
            if found.NAME == "gpt" and not error.failures.keys() - set(self._rules.gpt_nonfatal):
                _log.warning("format.nonfatal why=%s", error)
                return
            _log.warning("format.unsafe format=%s why=%s", found, error)
            raise FormatRefusedError("Image failed safety checks") from None
        if isinstance(found, VMDKInspector) and found.vmdktype not in self._rules.vmdk_types:
            raise FormatRefusedError("Image failed safety checks")


def inspection_of(row: ImageRow, config: DataConfig) -> Inspection | None:
    """Return what looks at an image's bytes; only bare ones are those of a disk."""
    if row.container_format != "bare" or row.disk_format is None:
        return None
    rules = FormatRules(
        require_match=config.require_image_format_match,
        gpt_nonfatal=config.gpt_safety_checks_nonfatal,
        vmdk_types=[kind.lower() for kind in config.vmdk_allowed_types],
    )
    return Inspection(row.disk_format, rules)


def inspect_file(file: SizedFile, inspection: Inspection) -> int | None:
    """Return the virtual size of what is in a file, of which no more is read than its format needs.

    Raises: FormatRefusedError.
    """
    while not inspection.has_seen_enough and (part := file.read(HEAD_SIZE)):
        inspection.feed(part)
    inspection.pass_over(file.size - inspection.size)
    return inspection.finish()


def _matches(inspector: FileInspector) -> bool:
    try:
        return inspector.format_match
    except Exception:  # a header that was never whole
        return False
