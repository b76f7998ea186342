"""Changes to the directories of TIFFs that no writer makes when asked to: classic, little-endian ones."""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, Any

import rasterio

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from support.odd_files.table import Write

TIE_POINT = 33922


def entry_of(tiff: bytes | bytearray, tag: int, directory: int) -> int:
    """Where the entry of a tag begins in the directory at a place."""
    count = struct.unpack_from("<H", tiff, directory)[0]
    for at in range(directory + 2, directory + 2 + 12 * count, 12):
        if struct.unpack_from("<H", tiff, at)[0] == tag:
            return at
    raise KeyError(tag)


def directories(tiff: bytes | bytearray) -> list[int]:
    """Where directories begin."""
    found, at = [], struct.unpack_from("<I", tiff, 4)[0]
    while at:
        found.append(at)
        at = struct.unpack_from("<I", tiff, at + 2 + 12 * struct.unpack_from("<H", tiff, at)[0])[0]
    return found


def moved(tiff: bytes, gap: int) -> bytes:
    """Move the first directory to the end of the file, behind a gap of zeros."""
    at = struct.unpack_from("<I", tiff, 4)[0]
    size = 2 + 12 * struct.unpack_from("<H", tiff, at)[0] + 4
    out = bytearray(tiff) + bytes(gap)
    struct.pack_into("<I", out, 4, len(out))
    return bytes(out + tiff[at : at + size])


def with_tie_point(write: Write, col: float, row: float, x: float, y: float) -> Write:
    """Write a file, and let its tie point be another one."""

    def change(tiff: bytes) -> bytes:
        out = bytearray(tiff)
        value = struct.unpack_from("<I", out, entry_of(out, TIE_POINT, directories(out)[0]) + 8)[0]
        struct.pack_into("<6d", out, value, col, row, 0, x, y, 0)
        return bytes(out)

    return changed(write, change)


def changed(write: Write, change: Callable[[bytes], bytes]) -> Write:
    """Write a file, and change its bytes."""

    def both(path: Path, options: Mapping[str, Any]) -> None:
        write(path, options)
        path.write_bytes(change(path.read_bytes()))

    return both


def reopened(write: Write, change: Callable[[Any], object]) -> Write:
    """Write a file, and change it as ``gdal_edit`` or ``gdaladdo`` do."""

    def both(path: Path, options: Mapping[str, Any]) -> None:
        write(path, options)
        with rasterio.open(path, "r+") as dataset:
            change(dataset)

    return both
