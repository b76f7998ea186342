"""How a row of the table is written, and what is right for it."""

from __future__ import annotations

import struct
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import rasterio
from affine import Affine
from odc.geo.geobox import GeoBox
from rasterio.windows import Window as RasterWindow

from icehouse_server.core.grid import Window

if TYPE_CHECKING:
    from pathlib import Path

type Write = Callable[[Path, Mapping[str, Any]], object]
"""Writes a file, given a path and creation options."""

CRS = "EPSG:32622"
SIDE = 96
GRID = GeoBox((SIDE, SIDE), Affine(10, 0, 500_000, 0, -10, 7_400_000), CRS)
"""The collection's grid: one chunk."""

ROWS, COLS = 56, 72
TOP, LEFT = 8, 16
AFFINE = GRID.affine @ Affine.translation(LEFT, TOP)
"""Where files lie, unless a row says otherwise."""

TILED = {"tiled": True, "blockxsize": 32, "blockysize": 32, "compress": "deflate"}
STRIPED = {"tiled": False, "blockysize": 8, "compress": "deflate"}

PATHS = {"plain": TILED, "gdal": STRIPED, "composite": TILED, "files": TILED}
"""The STAC source through async-geotiff, through GDAL and with ``[source.composite]``, and the folder."""

STAC = frozenset({"plain", "gdal", "composite"})


@dataclass(frozen=True, slots=True, kw_only=True)
class OddFile:
    """A row of the table."""

    name: str
    write: Write
    dtype: str = "float32"
    nodata: float | None = None
    """The band's."""
    index: int = 1
    resampling: str = "nearest"
    scale: float = 1.0
    offset: float = 0.0
    document: Mapping[str, Any] = field(default_factory=dict)
    """Fields of the item's asset."""
    error: str = ""
    values: np.ndarray | None = None
    """(rows, columns) of the file; as rasterio reads them where it is None."""
    valid: np.ndarray | None = None
    """True = valid, (rows, columns) of the file; rasterio's mask without NaN where it is None."""
    paths: frozenset[str] = frozenset(PATHS)


def odd(name: str, write: Write, dtype: str = "float32", **facts: Any) -> OddFile:
    """Return a row."""
    return OddFile(name=name, write=write, dtype=dtype, **facts)


def right(case: OddFile, path: Path) -> tuple[np.ndarray, np.ndarray]:
    """Return what a file says of ``GRID`` by rasterio: values, and True = valid."""
    values, valid = np.zeros((SIDE, SIDE), case.dtype), np.zeros((SIDE, SIDE), np.bool_)
    with rasterio.open(path) as dataset:
        found = dataset.read(case.index) if case.values is None else case.values
        nan = np.isnan(found) if found.dtype.kind == "f" else False
        shown = (dataset.read_masks(case.index) != 0) & ~np.asarray(nan) if case.valid is None else case.valid
        if dataset.transform.e > 0:  # south up
            found, shown = found[::-1], shown[::-1]
        col, row = ~GRID.affine @ (dataset.transform.c, max(dataset.bounds.top, dataset.bounds.bottom))
    at = Window(row=round(row), col=round(col), height=found.shape[0], width=found.shape[1])
    common = at.intersection(Window(row=0, col=0, height=SIDE, width=SIDE))
    if common is not None:
        inside = common.slices(Window(row=0, col=0, height=SIDE, width=SIDE))
        values[inside], valid[inside] = found[common.slices(at)], shown[common.slices(at)]
    return values, valid


def geotiff(
    *planes: np.ndarray,
    mask: np.ndarray | None = None,
    nodata_text: str | None = None,
    tags: Mapping[str, str] | None = None,
    scales: tuple[float, ...] = (),
    offsets: tuple[float, ...] = (),
    overviews: tuple[int, ...] = (),
    written: tuple[slice, slice] | None = None,
    **profile: Any,
) -> Write:
    """Return a function that writes a file.

    Args:
        planes: its bands, (rows, columns).
        mask: True = shown; written inside of the file.
        nodata_text: the tag for nodata, letter by letter.
        tags: of the dataset.
        scales: of the bands.
        offsets: of the bands.
        overviews: factors.
        written: rows and columns, whole blocks; the other blocks of the file are left out (sparse).
        profile: further options of ``rasterio.open``; they go before those that the path gives.
    """
    facts = {
        "driver": "GTiff", "count": len(planes), "height": planes[0].shape[0], "width": planes[0].shape[1],
        "dtype": planes[0].dtype, "crs": CRS, "transform": AFFINE, "photometric": "MINISBLACK",
    }  # fmt: skip
    if nodata_text is not None:
        facts["nodata"] = 0  # gives the file the tag

    def write(path: Path, options: Mapping[str, Any]) -> None:
        with (
            rasterio.Env(GDAL_TIFF_INTERNAL_MASK=True),
            rasterio.open(path, "w", **{**facts, **options, **profile}) as dataset,
        ):
            _fill(dataset, planes, written)
            if mask is not None:
                dataset.write_mask(mask)
            dataset.update_tags(**(tags or {}))
            if scales:
                dataset.scales = scales
            if offsets:
                dataset.offsets = offsets
            if overviews:
                dataset.build_overviews(list(overviews))
        if nodata_text is not None:
            write_nodata_text(path, nodata_text)

    return write


def _fill(
    dataset: rasterio.io.DatasetWriter, planes: tuple[np.ndarray, ...], written: tuple[slice, slice] | None
) -> None:
    for number, plane in enumerate(planes, 1):
        if written is None:
            dataset.write(plane, number)
        else:
            window = RasterWindow.from_slices(*written)
            dataset.write(plane[written], number, window=window)


_NODATA_TAG = 42113


def write_nodata_text(path: Path, text: str) -> None:
    """Put a text into the tag for nodata of a classic, little-endian TIFF."""
    raw = bytearray(path.read_bytes())
    (directory,) = struct.unpack_from("<I", raw, 4)
    (count,) = struct.unpack_from("<H", raw, directory)
    value = text.encode() + b"\0"
    for at in range(directory + 2, directory + 2 + 12 * count, 12):
        if struct.unpack_from("<H", raw, at)[0] == _NODATA_TAG:
            struct.pack_into("<I", raw, at + 4, len(value))
            if len(value) <= 4:
                raw[at + 8 : at + 12] = value.ljust(4, b"\0")
            else:
                struct.pack_into("<I", raw, at + 8, len(raw))
                raw += value
    path.write_bytes(raw)


_ROW, _COL = np.mgrid[0:ROWS, 0:COLS]
HEIGHTS = (np.sin(_ROW / 9) * 50 + _COL + 100).astype("float32")
"""Floats, none of them 0."""
BYTES = (_ROW * 3 + _COL).astype("uint8")
"""Every value of uint8, 0 and 255 among them."""
COUNTS = (_ROW * 700 + _COL * 3 + 1).astype("uint16")
"""Integers, none of them 0."""
SHOWN = (_ROW - 20) ** 2 + (_COL - 30) ** 2 > 90
"""False in a disc."""
HOLES = (_ROW + 2 * _COL) % 7 == 0
"""True in stripes, also where ``SHOWN`` is False."""


def with_holes(value: float, values: np.ndarray = HEIGHTS) -> np.ndarray:
    """Return values with one of them in the place of some."""
    return np.where(HOLES, np.asarray(value, values.dtype), values)
