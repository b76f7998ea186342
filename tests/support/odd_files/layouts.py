"""Rows about how pixels lie in a file: blocks, planes, byte order, overviews, dtypes."""

from support.odd_files.table import BYTES, COUNTS, HEIGHTS, geotiff, odd

ROWS = (
    odd("second-of-three-bands", geotiff(BYTES, BYTES // 2, BYTES // 3), "uint8", index=2),
    odd("bands-in-planes", geotiff(COUNTS, COUNTS + 9, interleave="band"), "uint16", index=2, nodata=0),
    odd("big-endian", geotiff(HEIGHTS, endianness="big"), nodata=-9999),
    odd("bigtiff", geotiff(HEIGHTS, bigtiff="yes"), nodata=-9999),
    odd("predictor", geotiff(HEIGHTS, predictor=3), nodata=-9999),
    odd("another-dtype", geotiff(COUNTS), "int16", nodata=-1, error="uint16"),
    odd("too-few-bands", geotiff(BYTES, BYTES), "uint8", index=3, error="2 band.* 3 was asked for"),
)
