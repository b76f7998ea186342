"""Rows about how a number is stored: 64 bits, half floats, samples that are not of whole bytes."""

import numpy as np

from support.odd_files.table import BYTES, COUNTS, HEIGHTS, SHOWN, geotiff, odd, with_holes

_LONG = COUNTS.astype("int64") * 2**47 + 1
"""Beyond 2**53, where no double holds them."""
_UNSIGNED = COUNTS.astype("uint64") * 2**48 + 3
_HALF = (HEIGHTS / 4).astype("float16")

ROWS = (
    odd("int64", geotiff(-_LONG), "int64", nodata=0),
    odd("int64-nodata", geotiff(with_holes(-5, _LONG), nodata=-5), "int64", nodata=0),
    odd(
        "int64-nodata-beyond-doubles",
        geotiff(with_holes(-(2**62) - 1, with_holes(-(2**62), _LONG)[::-1]), nodata_text=str(-(2**62) - 1)),
        "int64",
        nodata=0,
    ),
    odd("int64-mask", geotiff(_LONG, mask=SHOWN), "int64", nodata=-1),
    odd("uint64", geotiff(_UNSIGNED), "uint64", nodata=0),
    odd("uint64-nodata", geotiff(with_holes(7, _UNSIGNED), nodata=7), "uint64", nodata=2**64 - 1),
    odd("float16", geotiff(_HALF), "float16", nodata=-1000),
    odd("float16-nodata", geotiff(with_holes(-2000, _HALF), nodata=-2000), "float16", nodata=-1000),
    odd("float16-nan", geotiff(with_holes(np.nan, _HALF)), "float16", nodata=-1000),
    odd("nbits-1", geotiff(BYTES % 2, nbits=1), "uint8", nodata=255),
    odd("nbits-1-nodata", geotiff(BYTES % 2, nbits=1, nodata=0), "uint8", nodata=0),
    odd("nbits-4", geotiff(BYTES % 16, nbits=4, nodata=15), "uint8", nodata=15),
    odd("nbits-12", geotiff(COUNTS % 4096, nbits=12, nodata=0), "uint16", nodata=0),
    odd("nbits-15", geotiff(COUNTS % 32768, nbits=15, nodata=0), "uint16", nodata=0),
    odd("nbits-15-of-two", geotiff(COUNTS, COUNTS % 32768, nbits=15, nodata=0), "uint16", index=2, nodata=0),
    odd("nbits-20", geotiff(COUNTS.astype("uint32") * 16, nbits=20), "uint32", nodata=2**32 - 1),
    odd("complex", geotiff(HEIGHTS.astype("complex64")), "float32", nodata=-9999, error="complex"),
    odd("nbits-15-is-uint16", geotiff(COUNTS % 32768, nbits=15), "int16", nodata=-1, error="type is uint16"),
)
