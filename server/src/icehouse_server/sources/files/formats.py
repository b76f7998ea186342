"""Which formats of GDAL a folder's files may have: those of which a file holds all of itself.

A file in a folder may come from anywhere. Through many of GDAL's formats it can lead to other files of this
machine, or to addresses of the network, whose content would then be served as pixels. So there is a list of
formats that are read, and every other is refused:

- VRT, GTI, DERIVED, GDALG, STACIT, STACTA, MRF, TIL, ERS, DIMAP, ISIS and PDS name files or addresses;
- WMS, WCS, WMTS, EEDA, PLMOSAIC, DAAS and HTTP are addresses;
- HDF5, and so NetCDF 4 and BAG, may have external links, raw data elsewhere and virtual datasets, and both
  of GDAL's drivers follow all three;
- HFA, PCIDSK and Zarr may keep pixels in files that they name;
- GPKG, MBTiles and SQLite are databases, whose virtual tables may read files;
- NITF hands parts of itself to any other format, and PDF holds programs;
- ENVI, EHdr and others are pairs of files, and nothing next to a file is looked at.

Formats are tried by name, one by one: GDAL is never asked to find out by itself.
"""

import functools
from pathlib import Path

import rasterio
from rasterio.errors import RasterioIOError

FORMATS = (
    "JP2OpenJPEG",
    "GRIB",
    "DTED",
    "SRTMHGT",
    "USGSDEM",
    "GTX",
    "BYN",
    "SIGDEM",
    "HF2",
    "AAIGrid",
    "PNG",
    "JPEG",
    "WEBP",
)
"""GDAL's names of what is read in addition to GeoTIFF, in the order in which they are tried."""

_TIFF = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
_UNRECOGNISED = "not recognized"


def opened(path: Path, overview: int | None = None) -> rasterio.DatasetReader:
    """Open a file.

    Args:
        path: of a file that exists.
        overview: GDAL's number of an overview; None for full resolution.

    Raises:
        RasterioIOError: it is in no format that is read, or does not decode.
        OSError: it can't be opened.
    """
    with path.open("rb") as file:
        tiff = file.read(len(_TIFF[0])) in _TIFF
    return _first(str(path), ("GTiff",) if tiff else _available(), overview)


def reopened(dataset: rasterio.DatasetReader, overview: int) -> rasterio.DatasetReader:
    """Open an overview of an open file."""
    return _first(dataset.name, (dataset.driver,), overview)


def _first(name: str, formats: tuple[str, ...], overview: int | None) -> rasterio.DatasetReader:
    """Open a file in the first format that takes it."""
    options = {} if overview is None else {"overview_level": overview}
    reason = f"it is in none of the formats that are read: GTiff, {', '.join(_available())}"
    for format_ in formats:
        try:
            return rasterio.open(name, driver=format_, sharing=False, **options)
        except RasterioIOError as error:
            if _UNRECOGNISED not in str(error) or len(formats) == 1:
                reason = str(error)
    raise RasterioIOError(reason)


@functools.cache
def _available() -> tuple[str, ...]:
    """Return the formats that this build of GDAL has."""
    with rasterio.Env() as env:
        built = env.drivers()
    return tuple(name for name in FORMATS if name in built)
