"""Writes a huge, mostly empty Cloud-Optimised GeoTIFF in the time and memory of what is in it.

GDAL's COG driver needs 17 s and 2 GB for an empty-but-for-a-patch raster of 25100 x 25100 pixels, because
it builds the overviews from all of it, and with SPARSE_OK it leaves blocks of byte count 0, which
published files don't have. Here GDAL only encodes blocks (in a small TIFF in memory, whose tags are
reused); the file is put together around them in the COG driver's own layout (directories first, overviews
before full resolution, block leaders and trailers), with one nodata block that all empty places point to.
"""

from __future__ import annotations

import itertools
import struct
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
from rasterio.io import MemoryFile

from icehouse_server.demo.pgc import BLOCK

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from pathlib import Path

    from affine import Affine
    from numpy.typing import NDArray

type BlockKey = tuple[int, int]
"""Row and column of a block."""
type Blocks = dict[BlockKey, NDArray[Any]]

_GHOST_LINES = (
    b"LAYOUT=IFDS_BEFORE_DATA\nBLOCK_ORDER=ROW_MAJOR\nBLOCK_LEADER=SIZE_AS_UINT4\n"
    b"BLOCK_TRAILER=LAST_4_BYTES_REPEATED\nKNOWN_INCOMPATIBLE_EDITION=NO\n "
)
_GHOST = b"GDAL_STRUCTURAL_METADATA_SIZE=%06d bytes\n" % len(_GHOST_LINES) + _GHOST_LINES
_BATCH = 16
"""Blocks encoded at a time."""
_ENTRY_BYTES = 8
"""What a BigTIFF directory entry holds itself; longer values stand behind the directory."""
_TYPE_BYTES = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 12: 8, 16: 8}
_SUBFILE, _WIDTH, _LENGTH, _OFFSETS, _COUNTS = 254, 256, 257, 324, 325
_GEO_TAGS = frozenset({33550, 33922, 34264, 34735, 34736, 34737, 42112})


@dataclass(frozen=True, slots=True, kw_only=True)
class Layout:
    """What a raster looks like apart from its pixels."""

    shape: tuple[int, int]
    affine: Affine
    epsg: int
    dtype: str
    nodata: float | None
    fill: float
    """What empty places hold: `nodata`, even where the file is made not to declare it."""
    predictor: int
    average: bool
    """Overviews take the mean of four pixels' valid ones, rather than the upper left pixel."""

    @property
    def levels(self) -> int:
        """Number of overviews: as many as bring both sides down to one block."""
        count, side = 0, max(self.shape)
        while side > BLOCK:
            count, side = count + 1, (side + 1) // 2
        return count

    def level_shape(self, level: int) -> tuple[int, int]:
        """Rows and columns at a level; 0 is full resolution."""
        rows, columns = (-(-side // 2**level) for side in self.shape)
        return rows, columns

    def grid(self, level: int) -> tuple[int, int]:
        """Rows and columns of blocks at a level."""
        rows, columns = (-(-side // BLOCK) for side in self.level_shape(level))
        return rows, columns

    def profile(self, blocks: int) -> dict[str, Any]:
        """What rasterio needs to write `blocks` blocks side by side."""
        return {
            "driver": "GTiff", "width": BLOCK * blocks, "height": BLOCK, "count": 1, "dtype": self.dtype,
            "nodata": self.nodata, "crs": f"EPSG:{self.epsg}", "transform": self.affine, "tiled": True,
            "blockxsize": BLOCK, "blockysize": BLOCK, "compress": "LZW",
            "predictor": self.predictor, "BIGTIFF": "YES",
        }  # fmt: skip


@dataclass(slots=True)
class _Tags:
    """One TIFF directory: tag -> (type, count, raw bytes)."""

    entries: dict[int, tuple[int, int, bytes]] = field(default_factory=dict)

    def set_longs(self, tag: int, values: Iterable[int]) -> None:
        numbers = list(values)
        self.entries[tag] = (16, len(numbers), struct.pack(f"<{len(numbers)}Q", *numbers))

    def longs(self, tag: int) -> list[int]:
        kind, count, raw = self.entries[tag]
        return list(struct.unpack(f"<{count}{ {3: 'H', 4: 'I', 16: 'Q'}[kind] }", raw))

    def size(self) -> int:
        """Bytes of the directory with the values that don't fit into it, each padded to 8."""
        outside = (-(-len(raw) // 8) * 8 for _, _, raw in self.entries.values() if len(raw) > _ENTRY_BYTES)
        return 8 + 20 * len(self.entries) + 8 + sum(outside)

    def encode(self, position: int, following: int) -> bytes:
        """The directory as it stands at `position`, pointing to the `following` one (0: the last)."""
        head, tail = [struct.pack("<Q", len(self.entries))], b""
        start = position + 8 + 20 * len(self.entries) + 8
        for tag, (kind, count, raw) in sorted(self.entries.items()):
            value = raw.ljust(8, b"\0")
            if len(raw) > _ENTRY_BYTES:
                value, tail = (
                    struct.pack("<Q", start + len(tail)),
                    tail + raw.ljust(-(-len(raw) // 8) * 8, b"\0"),
                )
            head.append(struct.pack("<HHQ", tag, kind, count) + value)
        return b"".join(head) + struct.pack("<Q", following) + tail


def write_sparse_cog(
    path: Path, layout: Layout, wanted: Iterable[BlockKey], pixels: Callable[[int, int], NDArray[Any]]
) -> None:
    """Write a COG whose full-resolution blocks are empty except the `wanted` ones.

    Args:
        path: The file to write; its folder exists.
        layout: Shape, place and type of the raster.
        wanted: Blocks with content.
        pixels: Row and column of a block -> (512, 512) pixels of it, nodata beyond the raster's edge.
    """
    pyramid: list[Blocks] = [{key: pixels(*key) for key in sorted(wanted)}]
    pyramid.extend(_shrunk(pyramid[-1], layout) for _ in range(layout.levels))
    template, (empty,) = _encode(layout, [])
    encoded = [_encode_level(layout, blocks) for blocks in pyramid]
    directories = [_directory(template, layout, level) for level in range(len(pyramid))]
    _assemble(path, layout, directories, encoded, empty)


def _encode_level(layout: Layout, blocks: Blocks) -> dict[BlockKey, bytes]:
    """The encoded blocks of one level, a few at a time to save memory."""
    done: dict[BlockKey, bytes] = {}
    for keys in itertools.batched(blocks, _BATCH):
        _, (_, *encoded) = _encode(layout, [blocks[key] for key in keys])
        done.update(zip(keys, encoded, strict=True))
    return done


def _shrunk(blocks: Blocks, layout: Layout) -> Blocks:
    """The next level: each block from the four it covers, absent where all four are."""
    out: Blocks = {}
    for row, column in sorted({(row // 2, column // 2) for row, column in blocks}):
        quad = np.full((2 * BLOCK, 2 * BLOCK), layout.fill, dtype=layout.dtype)
        for down in (0, 1):
            for right in (0, 1):
                child = blocks.get((2 * row + down, 2 * column + right))
                if child is not None:
                    quad[down * BLOCK :, right * BLOCK :][:BLOCK, :BLOCK] = child
        out[row, column] = _mean_of_four(quad, layout.fill) if layout.average else quad[::2, ::2]
    return out


def _mean_of_four(quad: NDArray[Any], fill: float) -> NDArray[Any]:
    parts = [quad[down::2, right::2] for down in (0, 1) for right in (0, 1)]
    valid = sum((part != fill).astype(np.float32) for part in parts)
    total = sum(np.where(part != fill, part, 0).astype(np.float32) for part in parts)
    mean = total / np.maximum(valid, 1)
    return np.where(valid > 0, mean, fill).astype(quad.dtype)


def _encode(layout: Layout, arrays: list[NDArray[Any]]) -> tuple[_Tags, list[bytes]]:
    """GDAL's tags for such a raster, and its encoding of an empty block and of `arrays`, in order."""
    empty = np.full((BLOCK, BLOCK), layout.fill, dtype=layout.dtype)
    with MemoryFile() as memory:
        with memory.open(**layout.profile(1 + len(arrays))) as dataset:
            dataset.write(np.concatenate([empty, *arrays], axis=1), 1)
        raw = memory.read()
    (position,) = struct.unpack_from("<Q", raw, 8)
    (number,) = struct.unpack_from("<Q", raw, position)
    tags = _Tags()
    for index in range(number):
        at = position + 8 + 20 * index
        tag, kind, count = struct.unpack_from("<HHQ", raw, at)
        size = _TYPE_BYTES[kind] * count
        start = at + 12 if size <= _ENTRY_BYTES else struct.unpack_from("<Q", raw, at + 12)[0]
        tags.entries[tag] = (kind, count, raw[start : start + size])
    spans = zip(tags.longs(_OFFSETS), tags.longs(_COUNTS), strict=True)
    return tags, [raw[start : start + size] for start, size in spans]


def _directory(template: _Tags, layout: Layout, level: int) -> _Tags:
    """The tags of one level, its block tables still zero."""
    kept = {tag: entry for tag, entry in template.entries.items() if level == 0 or tag not in _GEO_TAGS}
    tags = _Tags(kept)
    rows, columns = layout.level_shape(level)
    tags.set_longs(_LENGTH, [rows])
    tags.set_longs(_WIDTH, [columns])
    if level > 0:
        tags.set_longs(_SUBFILE, [1])
    number = layout.grid(level)[0] * layout.grid(level)[1]
    tags.set_longs(_OFFSETS, [0] * number)
    tags.set_longs(_COUNTS, [0] * number)
    return tags


def _assemble(
    path: Path, layout: Layout, directories: list[_Tags], levels: list[dict[BlockKey, bytes]], empty: bytes
) -> None:
    """Give every block its place, fill the tables, write directories, overviews, pixels."""
    starts, position = [], 16 + -(-len(_GHOST) // 8) * 8
    for tags in directories:
        starts.append(position)
        position += tags.size()
    body, shared = [_framed(empty)], position + 4
    position += len(empty) + 8
    for level in reversed(range(len(levels))):
        rows, columns = layout.grid(level)
        places = [(shared, len(empty))] * (rows * columns)
        for (row, column), block in sorted(levels[level].items()):
            if row < rows and column < columns:
                places[row * columns + column] = (position + 4, len(block))
                body.append(_framed(block))
                position += len(block) + 8
        directories[level].set_longs(_OFFSETS, [start for start, _ in places])
        directories[level].set_longs(_COUNTS, [size for _, size in places])
    with path.open("wb") as file:
        file.write((struct.pack("<2sHHHQ", b"II", 43, 8, 0, starts[0]) + _GHOST).ljust(starts[0], b"\0"))
        for tags, start, following in zip(directories, starts, [*starts[1:], 0], strict=True):
            file.write(tags.encode(start, following))
        file.writelines(body)


def _framed(block: bytes) -> bytes:
    """A block with GDAL's leader (its size) and trailer (its last four bytes again)."""
    return struct.pack("<I", len(block)) + block + block[-4:]
