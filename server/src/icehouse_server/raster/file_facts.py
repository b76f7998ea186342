"""What an open raster file says of itself, as far as a collection file can hold it."""

from dataclasses import dataclass

import numpy as np
import rasterio
from affine import Affine
from odc.geo.crs import CRS
from rasterio.enums import ColorInterp, MaskFlags

_LONGEST = 500
"""Characters of a text of the file that are kept."""

_COLOURS = {ColorInterp.red: "red", ColorInterp.green: "green", ColorInterp.blue: "blue"}


@dataclass(frozen=True, slots=True, kw_only=True)
class BandFacts:
    """One band of a file."""

    index: int
    """Of the file, from 1."""
    dtype: str
    nodata: float | int | None
    scale: float
    offset: float
    units: str
    description: str
    colour: str
    """``red``, ``green`` or ``blue`` where it is one of a picture's; else empty."""
    classes: bool
    """Whether it has a colour table: its values are names, not quantities."""
    masked: bool
    """Whether pixels are invalid by a mask or by alpha, which no value tells."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FileFacts:
    """One file."""

    name: str
    crs: str
    """A code such as EPSG:3413, or WKT; empty where the file has none."""
    transform: Affine
    """North up where the file has a place that the source reads."""
    shape: tuple[int, int]
    """(rows, columns)."""
    bands: tuple[BandFacts, ...]
    """Without alpha."""
    overviews: int
    moment: str | None
    """TIFFTAG_DATETIME."""
    copyright: str

    @property
    def centre(self) -> tuple[float, float]:
        """Its middle in its CRS, x and y."""
        rows, cols = self.shape
        x, y = self.transform @ (cols / 2, rows / 2)
        return float(x), float(y)


def facts_of(dataset: rasterio.DatasetReader, name: str) -> FileFacts:
    """Return what a dataset says; no pixel is read.

    Args:
        dataset: open.
        name: of the file, for people.
    """
    tags = dataset.tags()
    shown = [
        number for number, kind in enumerate(dataset.colorinterp, start=1) if kind is not ColorInterp.alpha
    ]
    return FileFacts(
        name=name,
        crs="" if dataset.crs is None else crs_text(CRS(dataset.crs.to_wkt())),
        transform=dataset.transform,
        shape=dataset.shape,
        bands=tuple(_band(dataset, number) for number in shown),
        overviews=len(dataset.overviews(1)) if dataset.count else 0,
        moment=tags.get("TIFFTAG_DATETIME"),
        copyright=_text(tags.get("TIFFTAG_COPYRIGHT")),
    )


def crs_text(crs: CRS) -> str:
    """Return a CRS as a collection file has it: its code where it has one, else WKT on one line."""
    code = crs.to_epsg()
    if code is not None:
        return f"EPSG:{code}"
    authority = crs.proj.to_authority()
    return ":".join(authority) if authority is not None else str(crs.proj.to_wkt())


def _band(dataset: rasterio.DatasetReader, number: int) -> BandFacts:
    at = number - 1
    dtype, nodata = dataset.dtypes[at], dataset.nodatavals[at]
    flags = dataset.mask_flag_enums[at]
    kind = dataset.colorinterp[at]
    return BandFacts(
        index=number,
        dtype=dtype,
        nodata=None if nodata is None else _fitting(nodata, dtype),
        scale=dataset.scales[at],
        offset=dataset.offsets[at],
        units=_text(dataset.units[at]),
        description=_text(dataset.descriptions[at]),
        colour=_COLOURS.get(kind, ""),
        classes=kind is ColorInterp.palette,
        masked=MaskFlags.nodata not in flags and bool({MaskFlags.per_dataset, MaskFlags.alpha} & set(flags)),
    )


def _fitting(nodata: float, dtype: str) -> float | int | None:
    """Return nodata as a number of the dtype; None where it is not one, and so marks no pixel."""
    try:
        kind = np.dtype(dtype)
    except TypeError:
        return None
    if kind.kind == "f":
        return float(nodata)
    limits = np.iinfo(kind)
    whole = float(nodata).is_integer() and limits.min <= nodata <= limits.max
    return int(nodata) if whole else None


def _text(value: str | None) -> str:
    return " ".join((value or "").split())[:_LONGEST]
