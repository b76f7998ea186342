"""Grids, values and GDAL's own answer, for the tests of both warps.

The places of the kernel may be off by ``kernel.TOLERANCE``. So GDAL is asked nine times: for the grid as it
lies, and moved by a little more than that to each side; each of the kernel's values lies among these answers.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import rasterio.warp
from affine import Affine
from hypothesis import strategies as st
from odc.geo.geobox import GeoBox
from rasterio.crs import CRS
from rasterio.enums import Resampling

from icehouse_server.core.collection import BandSpec
from icehouse_server.core.geometry.footprint import Footprint, footprint
from icehouse_server.output import copy_piece, warp_piece
from icehouse_server.raster import kernel

if TYPE_CHECKING:
    from collections.abc import Sequence

    from icehouse_server.core.grid import Grid
    from icehouse_server.core.ports import Mask, Pixels

AWAY = 2 * kernel.TOLERANCE
SIDES = [(x * AWAY, y * AWAY) for x in (-1, 0, 1) for y in (-1, 0, 1)]

ROWS, COLS = 300, 340
GRIDS = {
    "polar": GeoBox((ROWS, COLS), Affine(32, 0, -200000, 0, -32, -1000000), "EPSG:3413"),
    "pole": GeoBox((ROWS, COLS), Affine(4000, 0, -640000, 0, -4000, 600000), "EPSG:3413"),
    "utm": GeoBox((ROWS, COLS), Affine(10, 0, 400000, 0, -10, 5200000), "EPSG:32633"),
    "degrees": GeoBox((ROWS, COLS), Affine(0.01, 0, 5, 0, -0.01, 50), "EPSG:4326"),
}
KINDS = [
    ("uint8", 0),
    ("uint8", None),
    ("int8", -128),
    ("uint16", 65535),
    ("int16", -9999),
    ("uint32", 4294967295),
    ("int32", None),
    ("float32", float("nan")),
    ("float32", -9999.0),
    ("float32", 0.1),
    ("float64", float("nan")),
]


def band_of(dtype: str, nodata: float | None) -> BandSpec:
    """Return a band of a dtype and nodata."""
    return BandSpec(name="b", dtype=np.dtype(dtype), nodata=nodata)


def noise(band: BandSpec, shape: tuple[int, int], seed: int = 0) -> Pixels:
    """Return random values over the range of a dtype, a tenth of them nodata."""
    rng = np.random.default_rng(seed)
    if band.dtype.kind == "f":
        values = rng.normal(size=shape, scale=100).astype(band.dtype)
    else:
        limits = np.iinfo(band.dtype.name)
        values = rng.integers(limits.min, limits.max, size=shape, endpoint=True).astype(band.dtype)
    if band.nodata is not None:
        values[rng.random(shape) < 0.1] = band.fill
    return values


def ours(values: Pixels, grid: Grid, target: GeoBox, band: BandSpec, method: str) -> tuple[Pixels, Footprint]:
    """Return our pixels, piece by piece, and the pieces."""
    under = footprint(grid, target, [method], max_chunks=10**6)
    out = np.full(target.shape, band.fill, dtype=band.dtype)
    for piece in under.pieces:
        part = values[piece.source.slices(grid.window)]
        if under.aligned:
            copy_piece(part, piece, out=out)
        else:
            warp_piece(part, piece, grid=grid, target=target, band=band, method=method, out=out)
    return out, under


def oracle(
    values: Pixels,
    grid: Grid,
    target: GeoBox,
    band: BandSpec,
    method: str,
    *,
    tolerance: float = 0.125,
    away: tuple[float, float] = (0.0, 0.0),
) -> Pixels:
    """Return GDAL's pixels in one call over the whole grid.

    Args:
        values: of the grid.
        grid: where they lie.
        target: where pixels are asked for.
        band: dtype and nodata.
        method: resampling by GDAL's name.
        tolerance: pixels of the grid by which GDAL may be off; 0 for an exact transform.
        away: columns and rows by which the grid is moved.
    """
    out = np.full(target.shape, band.fill, dtype=band.dtype)
    rasterio.warp.reproject(
        values,
        out,
        src_transform=grid.geobox.affine @ Affine.translation(*away),
        src_crs=CRS.from_user_input(str(grid.geobox.crs)),
        src_nodata=None if band.nodata is None else band.fill.item(),
        dst_transform=target.affine,
        dst_crs=CRS.from_user_input(str(target.crs)),
        dst_nodata=None if band.nodata is None else band.fill.item(),
        resampling=Resampling[method],
        tolerance=tolerance,
    )
    return out


@st.composite
def placed(draw: st.DrawFn, name: str) -> GeoBox:
    """A target in the grid's own CRS: any shift, scale and rotation, also next to the edge."""
    geobox = GRIDS[name]
    scale = draw(st.sampled_from([0.31, 0.5, 1.0, 1.7, 2.0, 7.0]))
    angle = draw(st.sampled_from([0.0, 0.0, 17.0, 90.0, 33.0]))
    row = draw(st.floats(-60, ROWS - 20))
    col = draw(st.floats(-60, COLS - 20))
    shape = draw(st.integers(1, 120)), draw(st.integers(1, 120))
    affine = geobox.affine * Affine.translation(col, row) * Affine.rotation(angle) * Affine.scale(scale)
    return GeoBox(shape, affine, geobox.crs)


OTHERS = [
    ("polar", "EPSG:4326"),
    ("polar", "EPSG:3857"),
    ("polar", "EPSG:32622"),
    ("utm", "EPSG:4326"),
    ("utm", "EPSG:3035"),
    ("utm", "EPSG:32632"),
    ("degrees", "EPSG:32632"),
    ("degrees", "EPSG:3857"),
    ("degrees", "EPSG:3035"),
]


def is_valid(values: Pixels, nodata: float | None) -> Mask:
    """Return which pixels are not nodata."""
    if nodata is None:
        return np.ones(values.shape, dtype=bool)
    return ~np.isnan(values) if np.isnan(nodata) else values != np.array(nodata, values.dtype)


def assert_among(
    got: Pixels, answers: Sequence[Pixels], nodata: float | None, *, curved: float = 0.0
) -> None:
    """Hold values to GDAL's for the grid as it lies and moved to each of ``SIDES``.

    Args:
        got: values to look at.
        answers: GDAL's.
        nodata: of both.
        curved: how far a curve may bend between the answers, in parts of the largest value.
    """
    if got.dtype == np.int8:  # GDAL 3.12 cuts what is below int8 off at -128, and leaves it there
        got = np.where(got == -127, np.int8(-128), got)
        answers = [np.where(answer == -127, np.int8(-128), answer) for answer in answers]
    valid = np.array([is_valid(answer, nodata) for answer in answers])
    assert (is_valid(got, nodata) | ~valid.all(axis=0)).all(), "a pixel is missing"
    assert (~is_valid(got, nodata) | valid.any(axis=0)).all(), "a pixel is too many"
    both = is_valid(got, nodata) & valid.all(axis=0)
    assert np.mean(both) > 0.1
    known = np.array([answer[both].astype(np.float64) for answer in answers])
    low, high, ours_ = known.min(axis=0), known.max(axis=0), got[both].astype(np.float64)
    size = np.abs(known).max(initial=1.0)
    slack = curved * size + 1e-5 * size  # GDAL takes weights that sum up to 1 so nearly for weights of 1
    off = np.maximum(low - ours_, ours_ - high)
    if got.dtype.kind != "f":  # sums in another order turn the scale at .5, once in a while
        assert np.mean(off > slack) <= 0.002
        slack += 1
    assert off.max(initial=0) <= slack
