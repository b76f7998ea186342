"""The directories of a TIFF, wherever they lie in the file: followed one by one, and put into one piece.

async-tiff reads a file from its start up to its last directory. That is one request for a Cloud-Optimised
GeoTIFF, and all pixels for a file whose directory lies at its end, where most writers put it. So directories
that the first bytes do not hold are asked for where they are, and async-tiff gets a copy without the rest.
"""

import struct
from collections.abc import Sequence
from dataclasses import dataclass, replace

from icehouse_server.sources.http.ranges import Header, RangeReader

MAX_DIRECTORIES = 64
"""Directories of a file at most: full resolution, overviews and masks. Each may cost a request."""

MAX_BYTES = 32 * 1024 * 1024
"""Bytes of directories and their values at most. 2,000,000 blocks need 32 MB in a BigTIFF."""

_AHEAD = 16 * 1024
"""Bytes that are asked for where a directory begins: its values mostly follow."""

_MAX_ENTRIES = 4096
_CLASSIC, _BIG = 42, 43
_BIG_HEADER = 16
"""Bytes of the longer of the two headers; no file with a pixel is shorter."""

_SIZES = {
    1: 1,
    2: 1,
    3: 2,
    4: 4,
    5: 8,
    6: 1,
    7: 1,
    8: 2,
    9: 4,
    10: 8,
    11: 4,
    12: 8,
    13: 4,
    16: 8,
    17: 8,
    18: 8,
}
"""Bytes of one value by TIFF's number of its type."""

_TAGS = frozenset(
    {
        *range(254, 260),  # subfile type, width, height, bits, compression
        *(262, 266, 270, 273, 274, 277, 278, 279, 280, 281, 282, 283, 284, 296, 306),
        *(317, 320, 322, 323, 324, 325, 338, 339, 347),  # predictor, colours, tiles, samples, JPEG tables
        *(33432, 33550, 33922, 34264, 34735, 34736, 34737),  # copyright, place and CRS
        *(42112, 42113, 50674),  # GDAL's metadata and nodata, LERC
    }
)
"""What is kept in a copy. Others (thumbnails, XMP, colour profiles) may be large and say nothing to us."""


class MalformedTiffError(ValueError):
    """The directories of a file contradict the file; the text says how."""


@dataclass(frozen=True, slots=True)
class _Layout:
    """How a TIFF writes its numbers: byte order, and classic or BigTIFF."""

    order: str
    big: bool

    @property
    def count(self) -> str:
        """Form of the number of entries."""
        return f"{self.order}{'Q' if self.big else 'H'}"

    @property
    def offset(self) -> str:
        """Form of an offset; as long as the values that an entry holds itself."""
        return f"{self.order}{'Q' if self.big else 'I'}"

    @property
    def entry(self) -> str:
        """Form of tag, type, count, and value or offset."""
        return f"{self.order}HHQ8s" if self.big else f"{self.order}HHI4s"

    @property
    def header(self) -> int:
        """Bytes before the offset of the first directory."""
        return 8 if self.big else 4


@dataclass(frozen=True, slots=True, kw_only=True)
class _Entry:
    tag: int
    kind: int
    count: int
    value: bytes
    """The value, or where it lies."""
    place: tuple[int, int] | None
    """First byte of the value and the one behind it, where an entry has no room for it."""

    @property
    def kept(self) -> bool:
        """Whether a copy holds it."""
        return self.tag in _TAGS and self.kind in _SIZES


type _Directory = list[_Entry]


@dataclass(slots=True, kw_only=True)
class _Pieces:
    """What is held of a file; asks for the rest."""

    reader: RangeReader
    size: int
    """Bytes of the file."""
    held: list[tuple[int, bytes]]
    """(first byte, bytes)."""
    asked: int = 0

    def find(self, start: int, stop: int) -> bytes | None:
        """Return a range, or None where it is not held whole."""
        for first, data in self.held:
            if first <= start and stop <= first + len(data):
                return data[start - first : stop - first]
        return None

    async def get(self, start: int, size: int, ahead: int = 0) -> bytes:
        """Return some bytes; where they have to be asked for, so are some of those that follow."""
        stop = start + size
        found = self.find(start, stop)
        if found is None:
            await self.fetch([(start, max(stop, min(start + ahead, self.size)))])
            found = self.find(start, stop)
        return found or b""

    async def fetch(self, ranges: Sequence[tuple[int, int]]) -> None:
        """Ask for ranges and hold them."""
        for start, stop in ranges:
            if stop > self.size:
                raise MalformedTiffError(
                    f"the file is shorter than its header says: {self.size} bytes where {stop} are needed"
                )
            self.asked += stop - start
        if self.asked > MAX_BYTES:
            raise MalformedTiffError(f"its metadata exceed {MAX_BYTES} bytes")
        found = await self.reader.get_ranges_async(
            "", starts=[start for start, _ in ranges], ends=[stop for _, stop in ranges]
        )
        self.held += [(start, bytes(data)) for (start, _), data in zip(ranges, found, strict=True)]


async def with_directories(reader: RangeReader) -> Header:
    """Return a file's header with all its directories; without a request where its first bytes hold them.

    Raises:
        MalformedTiffError: the directories form a loop, are too many or too large, or lie beyond the file.
        SourceError: by what happened.
    """
    header = await reader.open()
    if header.directory:
        return header
    pieces = _Pieces(reader=reader, size=header.size, held=[(0, header.prefix)])
    layout = _layout(header.prefix)
    directories = await _followed(pieces, layout)
    entries = [entry for directory in directories for entry in directory]
    places = {entry.place for entry in entries if entry.kept and entry.place is not None}
    missing = [place for place in sorted(places) if pieces.find(*place) is None]
    if missing:
        await pieces.fetch(missing)
    whole = len(pieces.held) == 1 and all(
        entry.kind in _SIZES and (entry.place is None or pieces.find(*entry.place) is not None)
        for entry in entries
    )
    directory = header.prefix if whole else _joined(layout, directories, pieces)
    return reader.remember(replace(header, directory=directory, pieces=tuple(pieces.held[1:])))


def _layout(prefix: bytes) -> _Layout:
    """Return how a TIFF writes its numbers, by its first bytes."""
    order = {b"II": "<", b"MM": ">"}.get(prefix[:2])
    version = struct.unpack_from(f"{order}H", prefix, 2)[0] if order and len(prefix) >= _BIG_HEADER else 0
    if order is None or version not in {_CLASSIC, _BIG}:
        raise MalformedTiffError("it is not a TIFF")
    return _Layout(order, version == _BIG)


async def _followed(pieces: _Pieces, layout: _Layout) -> list[_Directory]:
    """Return the directories of a file in their order."""
    found: dict[int, _Directory] = {}
    link = struct.calcsize(layout.offset)
    offset = struct.unpack(layout.offset, await pieces.get(layout.header, link))[0]
    while offset:
        if offset in found:
            raise MalformedTiffError("its directories form a loop")
        if len(found) == MAX_DIRECTORIES:
            raise MalformedTiffError(f"it has more than {MAX_DIRECTORIES} directories")
        start = struct.calcsize(layout.count)
        count = struct.unpack(layout.count, await pieces.get(offset, start, _AHEAD))[0]
        if count > _MAX_ENTRIES:
            raise MalformedTiffError(f"a directory has {count} entries; the limit is {_MAX_ENTRIES}")
        body = count * struct.calcsize(layout.entry)
        data = await pieces.get(offset + start, body + link, _AHEAD)
        found[offset] = [_entry(layout, fields) for fields in struct.iter_unpack(layout.entry, data[:body])]
        offset = struct.unpack(layout.offset, data[body:])[0]
    return list(found.values())


def _entry(layout: _Layout, fields: tuple[int, int, int, bytes]) -> _Entry:
    tag, kind, count, value = fields
    size, place = count * _SIZES.get(kind, 0), None
    if size > len(value):
        start = struct.unpack(layout.offset, value)[0]
        place = (start, start + size)
    return _Entry(tag=tag, kind=kind, count=count, value=value, place=place)


def _joined(layout: _Layout, directories: Sequence[_Directory], pieces: _Pieces) -> bytes:
    """Return a TIFF of these directories and no pixels; offsets of blocks are still those of the file."""
    out = bytearray(pieces.held[0][1][: layout.header])
    link = len(out)
    out += struct.pack(layout.offset, 0)
    for directory in directories:
        struct.pack_into(layout.offset, out, link, len(out))
        link = _append(out, layout, [entry for entry in directory if entry.kept], pieces)
    return bytes(out)


def _append(out: bytearray, layout: _Layout, entries: _Directory, pieces: _Pieces) -> int:
    """Append a directory with its values. Returns where the offset of the next one belongs."""
    at = len(out) + struct.calcsize(layout.count)
    link = at + len(entries) * struct.calcsize(layout.entry)
    out += struct.pack(layout.count, len(entries)) + bytes(link - at) + struct.pack(layout.offset, 0)
    for entry in entries:
        value = entry.value
        if entry.place is not None:
            value = struct.pack(layout.offset, len(out))
            out += pieces.find(*entry.place) or b""
            out += bytes(len(out) % 2)  # values begin at even bytes
        struct.pack_into(layout.entry, out, at, entry.tag, entry.kind, entry.count, value)
        at += struct.calcsize(layout.entry)
    return link
