"""Rows about validity: nodata, masks, alpha, NaN, sparse blocks, and the dtypes that hold them."""

import numpy as np

from support.odd_files.table import BYTES, COUNTS, HEIGHTS, HOLES, SHOWN, STAC, geotiff, odd, with_holes

LOWEST = float(np.finfo(np.float32).min)
OPAQUE = np.where(SHOWN, 255, 0).astype("uint8")
FADING = np.where(SHOWN, BYTES | 1, 0).astype("uint8")
"""An alpha that is not 0 where ``SHOWN``."""
BAND = np.s_[0:32, 0:72]
"""Rows of whole blocks, of tiles and of strips."""
LEFT_OUT_IS_0 = np.zeros_like(BYTES)
LEFT_OUT_IS_0[BAND] = BYTES[BAND]

_NODATA = (
    odd("plain", geotiff(HEIGHTS), nodata=-9999),
    odd("nodata", geotiff(with_holes(-9999), nodata=-9999), nodata=-9999),
    odd("nodata-another", geotiff(with_holes(-32768), nodata=-32768), nodata=-9999),
    odd("nodata-the-bands", geotiff(with_holes(-9999)), nodata=-9999, valid=~HOLES),
    odd("nodata-clash", geotiff(with_holes(-9999), nodata=7), nodata=-9999, error="file's own nodata is 7"),
    odd("nodata-nan", geotiff(with_holes(np.nan), nodata=np.nan), nodata=-9999),
    odd("nodata-infinite", geotiff(with_holes(-np.inf), nodata=-np.inf)),
    odd("nan-and-nodata", geotiff(np.where(SHOWN, with_holes(-9999), np.nan), nodata=-9999), nodata=-9999),
    odd("nan-without-nodata", geotiff(with_holes(np.nan))),
    odd("nan-float64", geotiff(with_holes(np.nan, HEIGHTS.astype("float64"))), "float64"),
    odd("int16", geotiff(with_holes(-32768, COUNTS.astype("int16")), nodata=-32768), "int16", nodata=-32768),
    odd("int8", geotiff((BYTES // 2).astype("int8"), nodata=-1), "int8", nodata=-128),
    odd("uint16-at-the-top", geotiff(with_holes(65535, COUNTS), nodata=65535), "uint16", nodata=65535),
    odd("int32", geotiff(COUNTS.astype("int32") * -70_001, nodata=0), "int32", nodata=0),
    odd("uint32", geotiff(COUNTS.astype("uint32") * 70_001, nodata=4294967295), "uint32", nodata=4294967295),
    odd("float64", geotiff(HEIGHTS.astype("float64") / 3, nodata=-9999), "float64", nodata=-9999),
    odd("integers-without-nodata", geotiff(BYTES), "uint8"),
)

_TEXTS = (
    *(
        odd(f"text-lowest-{number}", geotiff(with_holes(LOWEST), nodata_text=text), nodata=0, valid=~HOLES)
        for number, text in enumerate(("-3.40282e+38", "-3.4028235e+38", "-3.402823466385288598e+38"))
    ),
    odd("text-lowest-esri", geotiff(with_holes(-3.4e38), nodata_text="-3.39999995214436425e+38")),
    odd("text-lowest-float64", geotiff(with_holes(LOWEST, HEIGHTS.astype("float64")),
        nodata_text="-3.4028234663852886e+38"), "float64"),
    odd("text-qnan", geotiff(with_holes(np.nan), nodata_text="-1.#QNAN"), nodata=-9999),
    odd("text-ind", geotiff(with_holes(np.nan), nodata_text="-1.#IND")),
    odd("text-empty", geotiff(HEIGHTS, nodata_text=""), nodata=-9999),
    odd("text-with-blanks", geotiff(with_holes(-9999), nodata_text=" -9999 "), nodata=0),
    odd("text-with-a-tail", geotiff(with_holes(-9999), nodata_text="-9999m"), nodata=0),
    odd("text-without-a-number", geotiff(with_holes(0), nodata_text="none"), nodata=-9999),
    odd("text-fraction-of-a-byte", geotiff(BYTES, nodata_text="7.9"), "uint8", nodata=7),
    odd("text-out-of-a-byte", geotiff(BYTES, nodata_text="-9999"), "uint8"),
    odd("text-nan-of-a-byte", geotiff(BYTES, nodata_text="nan"), "uint8"),
    odd("text-beyond-float32", geotiff(with_holes(-np.inf), nodata_text="-1.7976931348623157e+308")),
    odd("text-neighbours", geotiff(with_holes(np.nextafter(np.float32(-9999), np.float32(0))),
        nodata_text="-9999"), nodata=0),
)  # fmt: skip

_MASKS = (
    odd("mask", geotiff(BYTES // 2, mask=SHOWN), "uint8", nodata=255),
    odd("mask-float", geotiff(HEIGHTS, mask=SHOWN), nodata=-9999),
    odd("mask-float-without-nodata", geotiff(HEIGHTS, mask=SHOWN)),
    odd("mask-and-nan", geotiff(with_holes(np.nan), mask=SHOWN), nodata=-9999),
    odd("mask-and-nodata", geotiff(with_holes(-9999), mask=SHOWN, nodata=-9999), nodata=-9999,
        valid=SHOWN & ~HOLES),
    odd("mask-and-the-bands-nodata", geotiff(with_holes(-9999), mask=SHOWN), nodata=-9999,
        valid=SHOWN & ~HOLES),
    odd("alpha", geotiff(BYTES // 2, OPAQUE, alpha="YES"), "uint8", nodata=255),
    odd("alpha-fading", geotiff(BYTES // 2, FADING, alpha="YES"), "uint8", nodata=255, valid=SHOWN),
    odd("alpha-itself", geotiff(BYTES // 2, OPAQUE, alpha="YES"), "uint8", index=2),
    odd("alpha-premultiplied", geotiff(COUNTS, OPAQUE.astype("uint16"), alpha="PREMULTIPLIED"), "uint16",
        nodata=0, valid=SHOWN),
    odd("alpha-in-planes", geotiff(COUNTS, OPAQUE.astype("uint16"), alpha="YES", interleave="band"), "uint16",
        nodata=0, valid=SHOWN),
    odd("alpha-of-colours", geotiff(BYTES, BYTES // 2, BYTES // 3, OPAQUE, photometric="RGB", alpha="YES"),
        "uint8", index=2, nodata=255),
    odd("alpha-of-floats", geotiff(HEIGHTS, OPAQUE.astype("float32"), alpha="YES"), valid=SHOWN),
    odd("alpha-and-nodata", geotiff(with_holes(0, COUNTS), OPAQUE.astype("uint16"), alpha="YES", nodata=0),
        "uint16", nodata=0, valid=SHOWN & ~HOLES),
    odd("alpha-and-mask", geotiff(HEIGHTS, np.where(HOLES, 0, 9).astype("float32"), alpha="YES", mask=SHOWN),
        valid=SHOWN & ~HOLES),
)  # fmt: skip

_DOCUMENTS = (
    *(
        odd(f"document-{name}", geotiff(with_holes(-1)), nodata=0, document=said, paths=STAC, valid=~HOLES)
        for name, said in {
            "raster-bands": {"raster:bands": [{"nodata": -1}]},
            "bands": {"bands": [{"nodata": -1}]},
            "asset": {"nodata": -1},
            "text": {"bands": [{"nodata": "-1"}]},
        }.items()
    ),
    *(
        odd(f"document-{name}", geotiff(with_holes(np.nan)), nodata=-9999, paths=STAC,
            document={"raster:bands": [{"nodata": said}]})
        for name, said in {"nan-text": "nan", "nan-bare": np.nan, "no-number": "unknown"}.items()
    ),
    odd("document-another-than-the-file", geotiff(with_holes(-1), nodata=-1), nodata=-9999, paths=STAC,
        document={"bands": [{"nodata": 100}]}),
    odd("document-out-of-the-dtype", geotiff(BYTES), "uint8", paths=STAC,
        document={"bands": [{"nodata": -9999}]}),
    odd("document-of-another-band", geotiff(BYTES // 2, BYTES // 2), "uint8", nodata=255, paths=STAC,
        document={"bands": [{}, {"nodata": 7}]}),
)  # fmt: skip

_SPARSE = (
    odd("sparse", geotiff(HEIGHTS, written=BAND, sparse_ok=True)),
    odd("sparse-nodata", geotiff(HEIGHTS, written=BAND, sparse_ok=True, nodata=-9999), nodata=-9999),
    odd("sparse-another-nodata", geotiff(HEIGHTS, written=BAND, sparse_ok=True, nodata=-1), nodata=-9999),
    odd("sparse-bytes", geotiff(BYTES, written=BAND, sparse_ok=True), "uint8"),
    odd("sparse-bytes-where-0-is-nodata", geotiff(BYTES, written=BAND, sparse_ok=True), "uint8", nodata=0,
        valid=LEFT_OUT_IS_0 != 0),
    odd("sparse-alpha", geotiff(BYTES // 2, OPAQUE | 1, written=BAND, sparse_ok=True, alpha="YES"), "uint8",
        nodata=255),
)  # fmt: skip

NO_ROOM = "has no nodata to hold them"

_NO_ROOM = (
    odd("no-room-for-a-mask", geotiff(BYTES, mask=SHOWN), "uint8", error=NO_ROOM),
    odd("no-room-for-alpha", geotiff(BYTES, OPAQUE, alpha="YES"), "uint8", error=NO_ROOM),
    odd("no-room-for-nodata", geotiff(BYTES, nodata=7), "uint8", error=NO_ROOM),
    odd("no-room-needed", geotiff(BYTES, mask=np.ones_like(SHOWN)), "uint8"),
)

TENTHS = {"scale": 0.1, "offset": -100.0}
OTHER = "scale 0.2 and offset 3"

_UNITS = (
    odd("units-of-the-file", geotiff(COUNTS, scales=(0.1,), offsets=(-100.0,)), "uint16", nodata=0, **TENTHS),
    odd("units-unsaid", geotiff(COUNTS), "uint16", nodata=0, **TENTHS),
    odd("units-of-another-band", geotiff(COUNTS, COUNTS, scales=(0.1, 0.2), offsets=(-100.0, 3.0)), "uint16",
        nodata=0, **TENTHS),
    odd("units-another", geotiff(COUNTS, scales=(0.2,), offsets=(3.0,)), "uint16", nodata=0, **TENTHS,
        error=OTHER),
    odd("units-where-the-band-has-none", geotiff(COUNTS, scales=(0.2,), offsets=(3.0,)), "uint16", nodata=0,
        error=OTHER),
    odd("units-of-the-document", geotiff(COUNTS, scales=(0.2,)), "uint16", nodata=0, **TENTHS, paths=STAC,
        document={"raster:bands": [TENTHS]}),
    odd("units-another-in-the-document", geotiff(COUNTS), "uint16", nodata=0, **TENTHS, paths=STAC,
        document={"raster:bands": [{"scale": 0.2, "offset": 3}]}, error=OTHER),
    odd("units-another-in-bands", geotiff(COUNTS), "uint16", nodata=0, **TENTHS, paths=STAC,
        document={"bands": [{"raster:scale": "0.2", "raster:offset": 3}]}, error=OTHER),
)  # fmt: skip

ROWS = (*_NODATA, *_TEXTS, *_MASKS, *_DOCUMENTS, *_SPARSE, *_NO_ROOM, *_UNITS)
