"""A ZIP of stored entries as parts that are sent one after the other, without a copy of what it holds.

After PKWARE's APPNOTE.TXT 6.3.10. ``zipfile`` can't be used: it copies every byte and can't align data. The
checksum is zlib-ng's: 0.1 ms for 4 MB where zlib takes 1.3, which was half of a warm answer's time.
"""

import struct
from collections.abc import Sequence
from dataclasses import dataclass

from zlib_ng import zlib_ng

ALIGNMENT = 64
"""Data of an entry start at a multiple of this: a cache line, and what Arrow asks for."""

_ALIGN_ID = 0xD935
"""Header id of an extra field that pads (Android's ``zipalign`` registered it): alignment, then zeros."""

_ZIP64_ID = 0x0001
_LIMIT = 0xFFFFFFFF
"""What an old field of four bytes holds where the number is in a ZIP64 field."""

_COUNT_LIMIT = 0xFFFF
_DATE = (1 << 5) | 1
"""1980-01-01, the earliest date that a ZIP can say: the same content is the same bytes."""

_UTF8 = 1 << 11
_VERSION = 20
_VERSION_ZIP64 = 45


@dataclass(frozen=True, slots=True, kw_only=True)
class _Entry:
    name: bytes
    size: int
    crc: int
    offset: int
    """Where its local header starts."""

    @property
    def version(self) -> int:
        """Version of the specification that is needed to read it."""
        return _VERSION_ZIP64 if _wide(self.size) or _wide(self.offset) else _VERSION


def stored_zip(files: Sequence[tuple[str, bytes | memoryview]]) -> list[bytes | memoryview]:
    """Return the parts of a ZIP.

    Args:
        files: (name, content) in the order of the archive; memoryviews are of single bytes. Names must not
            occur twice.

    Returns:
        Headers and contents; the contents are the very objects given.
    """
    parts: list[bytes | memoryview] = []
    entries: list[_Entry] = []
    offset = 0
    for name, content in files:
        entry = _Entry(name=name.encode(), size=len(content), crc=zlib_ng.crc32(content), offset=offset)
        header = _local_header(entry)
        parts += [header, content]
        entries.append(entry)
        offset += len(header) + entry.size
    directory = b"".join(_central_header(entry) for entry in entries)
    parts.append(directory + _end(len(entries), len(directory), offset))
    return parts


def _wide(number: int) -> bool:
    """Return whether a number does not fit four bytes."""
    return number >= _LIMIT


def _local_header(entry: _Entry) -> bytes:
    large = _wide(entry.size)
    extra = struct.pack("<HHQQ", _ZIP64_ID, 16, entry.size, entry.size) if large else b""
    size = _LIMIT if large else entry.size
    fixed = 30 + len(entry.name) + len(extra) + 6  # 6: the padding field with nothing in it
    padding = -(entry.offset + fixed) % ALIGNMENT
    extra += struct.pack("<HHH", _ALIGN_ID, 2 + padding, ALIGNMENT) + bytes(padding)
    head = struct.pack(
        "<4s5H3I2H",
        b"PK\3\4",
        entry.version,
        _UTF8,
        0,
        0,
        _DATE,
        entry.crc,
        size,
        size,
        len(entry.name),
        len(extra),
    )
    return head + entry.name + extra


def _central_header(entry: _Entry) -> bytes:
    large, far = _wide(entry.size), _wide(entry.offset)
    wide = ([entry.size, entry.size] if large else []) + ([entry.offset] if far else [])
    extra = struct.pack(f"<HH{len(wide)}Q", _ZIP64_ID, 8 * len(wide), *wide) if wide else b""
    size, offset = _LIMIT if large else entry.size, _LIMIT if far else entry.offset
    head = struct.pack(
        "<4s6H3I", b"PK\1\2", entry.version, entry.version, _UTF8, 0, 0, _DATE, entry.crc, size, size
    )
    return head + struct.pack("<5H2I", len(entry.name), len(extra), 0, 0, 0, 0, offset) + entry.name + extra


def _end(count: int, size: int, offset: int) -> bytes:
    """Return the end of the central directory, in ZIP64 too where a number does not fit the old fields."""
    short = struct.pack(
        "<4s4H2IH",
        b"PK\5\6",
        0,
        0,
        min(count, _COUNT_LIMIT),
        min(count, _COUNT_LIMIT),
        _LIMIT if _wide(size) else size,
        _LIMIT if _wide(offset) else offset,
        0,
    )
    if count < _COUNT_LIMIT and not _wide(size) and not _wide(offset):
        return short
    versions = (_VERSION_ZIP64, _VERSION_ZIP64)
    record = struct.pack("<4sQ2H2I4Q", b"PK\6\6", 44, *versions, 0, 0, count, count, size, offset)
    locator = struct.pack("<4sIQI", b"PK\6\7", 0, offset + size, 1)
    return record + locator + short
