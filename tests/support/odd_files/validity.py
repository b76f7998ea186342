"""Rows about validity: nodata, masks, alpha, NaN, sparse blocks, and the dtypes that hold them."""

import numpy as np

from support.odd_files.table import BYTES, COUNTS, HEIGHTS, SHOWN, geotiff, odd, with_holes

ROWS = (
    odd("plain", geotiff(HEIGHTS), nodata=-9999),
    odd("nodata", geotiff(with_holes(-9999), nodata=-9999), nodata=-9999),
    odd("nodata-another", geotiff(with_holes(-32768), nodata=-32768), nodata=-9999),
    odd("nodata-nan", geotiff(with_holes(np.nan), nodata=np.nan), nodata=-9999),
    odd(
        "nan-next-to-nodata", geotiff(np.where(SHOWN, with_holes(-9999), np.nan), nodata=-9999), nodata=-9999
    ),
    odd("mask", geotiff(BYTES // 2, mask=SHOWN), "uint8", nodata=255),
    odd("mask-float", geotiff(HEIGHTS, mask=SHOWN), nodata=-9999),
    odd("uint16-nodata-at-the-top", geotiff(with_holes(65535, COUNTS), nodata=65535), "uint16", nodata=65535),
    odd("int16", geotiff(with_holes(-32768, COUNTS.astype("int16")), nodata=-32768), "int16", nodata=-32768),
    odd("int8", geotiff((BYTES // 2).astype("int8"), nodata=-1), "int8", nodata=-128),
    odd("int32", geotiff(COUNTS.astype("int32") * -70_001, nodata=0), "int32", nodata=0),
    odd("uint32", geotiff(COUNTS.astype("uint32") * 70_001, nodata=4294967295), "uint32", nodata=4294967295),
    odd("float64", geotiff(HEIGHTS.astype("float64") / 3, nodata=-9999), "float64", nodata=-9999),
    odd("integers-without-nodata", geotiff(BYTES), "uint8"),
    odd("mask-and-nan", geotiff(with_holes(np.nan), mask=SHOWN), nodata=-9999),
)
