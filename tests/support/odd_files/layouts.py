"""Rows about how pixels lie in a file: blocks, planes, byte order, overviews, dtypes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from support.odd_files.table import BYTES, COUNTS, HEIGHTS, geotiff, odd
from support.odd_files.tags import changed, moved, reopened

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from support.odd_files.table import Write


def _with_a_page(write: Write) -> Write:
    """Write a file, and append another image of half the size, which is not an overview."""

    def both(path: Path, options: Mapping[str, Any]) -> None:
        write(path, options)
        geotiff(HEIGHTS[::2, ::2] * 0, append_subdataset=True)(path, options)

    return both


_HEIGHTS = geotiff(HEIGHTS)

ROWS = (
    odd("second-of-three-bands", geotiff(BYTES, BYTES // 2, BYTES // 3), "uint8", index=2),
    odd("bands-in-planes", geotiff(COUNTS, COUNTS + 9, interleave="band"), "uint16", index=2, nodata=0),
    odd("big-endian", geotiff(HEIGHTS, endianness="big"), nodata=-9999),
    odd("bigtiff", geotiff(HEIGHTS, bigtiff="yes"), nodata=-9999),
    odd("predictor", geotiff(HEIGHTS, predictor=3), nodata=-9999),
    odd("another-dtype", geotiff(COUNTS), "int16", nodata=-1, error="uint16"),
    odd("too-few-bands", geotiff(BYTES, BYTES), "uint8", index=3, error="2 band.* 3 was asked for"),
    odd("edited", reopened(_HEIGHTS, lambda file: file.update_tags(note="x" * 500)), nodata=-9999),
    odd(
        "edited-bigtiff",
        reopened(geotiff(HEIGHTS, bigtiff="yes"), lambda file: file.update_tags(note="x" * 500)),
        nodata=-9999,
    ),
    odd("directory-at-the-end", changed(_HEIGHTS, lambda tiff: moved(tiff, 0)), nodata=-9999),
    odd("directory-beyond-64-kib", changed(_HEIGHTS, lambda tiff: moved(tiff, 70_001)), nodata=-9999),
    odd(
        "directory-across-64-kib",
        changed(_HEIGHTS, lambda tiff: moved(tiff, 65_500 - len(tiff))),
        nodata=-9999,
    ),
    odd("overviews", geotiff(HEIGHTS, overviews=(2, 4)), nodata=-9999),
    odd(
        "overviews-added", reopened(_HEIGHTS, lambda file: file.build_overviews([2, 4, 8, 14])), nodata=-9999
    ),
    odd(
        "overviews-added-to-masked",
        reopened(geotiff(HEIGHTS, mask=HEIGHTS > 130), lambda file: file.build_overviews([2])),
        nodata=-9999,
    ),
    odd("a-second-page", _with_a_page(_HEIGHTS), nodata=-9999),
    odd("one-pixel", geotiff(HEIGHTS[:1, :1]), nodata=-9999),
    odd("one-row", geotiff(HEIGHTS[:1]), nodata=-9999),
    odd("one-column", geotiff(HEIGHTS[:, :1]), nodata=-9999),
    odd("strips-of-one-row", geotiff(HEIGHTS, tiled=False, blockysize=1), nodata=-9999),
    odd("one-strip", geotiff(HEIGHTS, tiled=False, blockysize=len(HEIGHTS)), nodata=-9999),
    odd("packbits", geotiff(COUNTS, compress="packbits"), "uint16", nodata=0),
    odd("lerc", geotiff(HEIGHTS, compress="lerc"), nodata=-9999),
    odd("little-endian-uncompressed", geotiff(HEIGHTS, compress="none"), nodata=-9999),
    odd("whiteiszero", geotiff(BYTES, photometric="miniswhite"), "uint8"),
)
