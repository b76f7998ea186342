"""From the collection's grid to the geobox asked for: a warp piece by piece, and a copy where aligned.

``raster.kernel`` warps the dtypes and methods that it knows; GDAL the others, pieces that share pixels with
another turn of the earth, and all where the kernel is not built. Pixels of both follow GDAL's rules: the
kernel's differ from those of ``rasterio.warp.reproject`` with an exact transform by what
``kernel.TOLERANCE`` moves them.

GDAL warps a piece with the settings that ``rasterio.warp.reproject`` has by default, and where one piece
covers the target the result is that of one call over the whole grid (the property tests hold it to that). Two
things are left as they are:

- A valid result that happens to equal nodata is moved to the next value, so that it stays valid.
- GDAL computes the place of a target pixel exactly at the ends of a row and interpolates between them while
  that is right to an eighth of a grid pixel. Where a row begins and ends is for the call to say, so in a
  target of several pieces a pixel may be taken from a quarter of a grid pixel away from where one call takes
  it, as in GDAL's own answer when its memory limit makes it cut the work. ``sum`` goes by rows of the grid
  instead of the target, and so differs in this way in one piece too.

GDAL also widens its kernels by the mean scale of what it warps in one call. That would show as seams between
pieces, so there the scale of the whole target is handed to it.
"""

import math
import os
from dataclasses import replace
from typing import cast

import numpy as np
import rasterio.features
import rasterio.warp
from affine import Affine
from numpy.typing import NDArray
from odc.geo.geobox import GeoBox
from rasterio.enums import Resampling
from shapely.geometry.base import BaseGeometry

from icehouse_server.core.collection import BandSpec
from icehouse_server.core.geometry.affine import apply_affine
from icehouse_server.core.geometry.footprint import KERNEL_SPREAD, FootprintPiece, turn_pixels
from icehouse_server.core.geometry.transformers import project_points
from icehouse_server.core.grid import Grid
from icehouse_server.core.ports import Mask, Pixels
from icehouse_server.raster import kernel
from icehouse_server.raster.crs import crs_of, gdal_crs
from icehouse_server.raster.gdal_warp import WARP_MEMORY_MB, WIDENED_KERNELS, scale_options, whole_reduction
from icehouse_server.raster.validity import kept_apart, nodata_of, valid
from icehouse_server.raster.wide_values import is_wide, narrowed, widened

_LARGE = 512 * 512
"""Pixels, of source or target, from which threads are worth starting."""
_THREADS = min(4, os.cpu_count() or 1)
"""Threads of GDAL for one warp of a large piece: it cuts the piece by rows, and the pixels stay the same."""

_REACH = {"nearest": 0.0, "bilinear": 0.0, "cubic": 1.0}
"""By how much a result may lie beyond the values, in parts of their range; cubic's is 0.3 at most."""

_CLIPPED_ROWS = 256
"""Rows that are clipped at a time: what that takes stays small."""

_FLOAT32 = 1e-6
"""GDAL compares with nodata in float32: of long integers, neighbours are nodata to it, too."""

_EDGE_STEPS = 21
"""Points along each edge of the target by which GDAL finds the source window (DEFAULT_STEP_COUNT)."""

_FILL_RATIO = 0.5
"""GDAL halves a target of which less than this lies on the grid."""

_TRIFLE = 1e-8
"""Pixels of the grid."""


def warp_piece(
    values: Pixels,
    piece: FootprintPiece,
    *,
    grid: Grid,
    target: GeoBox,
    band: BandSpec,
    method: str,
    out: Pixels,
) -> None:
    """Warp one piece and write it into its place in the output.

    Args:
        values: (rows, columns) of ``piece.source``, the band's dtype, fill where invalid.
        piece: what to read of the grid and what to write of the target.
        grid: the collection's grid.
        target: the geobox asked for, of any CRS, scale and rotation.
        band: its nodata is not interpolated; without one every value is valid.
        method: resampling by GDAL's name, one of ``RESAMPLINGS``.
        out: (rows, columns) of ``target``, the band's dtype; only ``piece.target`` is written. Pixels of it
            that get no valid pixel are set to the band's fill; of a shared piece they stay as they are.

    Raises:
        ValueError: ``values`` or ``out`` has not the shape that the piece and the target say.
    """
    _check_shape(values, (piece.source.height, piece.source.width), "values")
    _check_shape(out, (int(target.shape[0]), int(target.shape[1])), "out")
    part = out[_rows_and_cols(piece)]
    if not piece.shared and kernel.can_warp(band.dtype, method):
        scales = _scales(grid, target) if method in WIDENED_KERNELS else (1.0, 1.0)
        if scales is not None and max(scales) <= kernel.MOST_REDUCTION:
            part[...] = band.fill
            kernel.warp(
                values,
                kernel.places_of(_projection(piece, grid, target), part.shape, method),
                method=method,
                scales=scales,
                nodata=nodata_of(band),
                out=part,
                threads=_threads(values, part),
            )
            return
    warped = _reproject(values, piece, grid=grid, target=target, band=band, method=method)
    if piece.shared:
        np.copyto(part, warped, where=(warped != band.fill) & (warped == warped))  # noqa: PLR0124 - NaN
    else:
        part[...] = warped


def _threads(values: Pixels, warped: Pixels) -> int:
    return _THREADS if max(values.size, warped.size) > _LARGE else 1


def _projection(piece: FootprintPiece, grid: Grid, target: GeoBox) -> kernel.Project:
    """Return where pixels of a piece's target lie on its source."""
    affine = target.affine @ Affine.translation(piece.target.col, piece.target.row)
    turn = turn_pixels(grid)
    middle = piece.source.col + piece.source.width / 2

    def project(
        cols: NDArray[np.float64], rows: NDArray[np.float64]
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        x, y = project_points(*apply_affine(affine, cols, rows), crs_of(target), grid.crs)
        on_cols, on_rows = apply_affine(~grid.geobox.affine, x, y)
        if turn is not None:  # PROJ's longitudes end at 180; the piece may lie a turn away
            on_cols = on_cols - turn * np.round((on_cols - middle) / turn)
        return on_cols - piece.source.col, on_rows - piece.source.row

    return project


def _reproject(
    values: Pixels, piece: FootprintPiece, *, grid: Grid, target: GeoBox, band: BandSpec, method: str
) -> Pixels:
    """Return (rows, columns) of ``piece.target``, as GDAL warps them."""
    if is_wide(band.dtype):
        return _reproject_wide(values, piece, grid=grid, target=target, band=band, method=method)
    # As the pixels hold it: 0.1 is another number in float32, and GDAL would compare that.
    nodata = None if band.nodata is None else band.fill.item()
    if nodata is not None and _far_from(nodata, values, method):
        nodata = None
    warped: Pixels = np.full((piece.target.height, piece.target.width), band.fill, dtype=band.dtype)
    rasterio.warp.reproject(
        values,
        warped,
        src_transform=_transform(piece, grid),
        src_crs=gdal_crs(grid.geobox),
        src_nodata=nodata,
        dst_transform=target.affine @ Affine.translation(piece.target.col, piece.target.row),
        dst_crs=gdal_crs(target),
        dst_nodata=nodata,
        resampling=Resampling[method],
        init_dest_nodata=nodata is not None,
        num_threads=_threads(values, warped),
        warp_mem_limit=WARP_MEMORY_MB,
        # Both sides of the antimeridian must agree on which of them a pixel belongs to.
        **({"tolerance": 0.0} if piece.shared else {}),
        **(_scale_options(grid, target) if method in WIDENED_KERNELS else {}),
    )
    return warped


def _reproject_wide(
    values: Pixels, piece: FootprintPiece, *, grid: Grid, target: GeoBox, band: BandSpec, method: str
) -> Pixels:
    """Warp a dtype that GDAL does not compute in, as another: see ``raster.wide_values``."""
    made = []
    known = cast("Mask", valid(values, nodata_of(band)))
    for part in widened(values, known, method):
        working = replace(band, dtype=part.dtype, nodata=math.nan, scale=1.0, offset=0.0)
        made.append(_reproject(part, piece, grid=grid, target=target, band=working, method=method))
    found, shown = narrowed(made, band.dtype)
    return kept_apart(found, shown, band)


def _far_from(nodata: float, values: Pixels, method: str) -> bool:
    """Return whether no value is nodata, and none that comes of them can be.

    Then GDAL gives the same without a mask, in half the time. So it does for the methods of ``_REACH`` alone.
    """
    reach = _REACH.get(method)
    if reach is None or not values.size:
        return False
    low, high = float(values.min()), float(values.max())
    if math.isnan(nodata) or math.isnan(low):
        return not math.isnan(low)
    margin = reach * (high - low) + _FLOAT32 * abs(nodata)
    return nodata < low - margin or nodata > high + margin


def _transform(piece: FootprintPiece, grid: Grid) -> Affine:
    """Return the affine of a piece's source, under the target.

    GDAL leaves out a place within 1e-10 pixels of either end of a raster: of a pixel whose centre lies on the
    antimeridian itself neither side would give a value, so the eastern one begins a trifle earlier.
    """
    col: float = piece.source.col
    if piece.shared and piece.source.col == 0:
        col -= _TRIFLE
    east = Affine.translation(360.0 * piece.turn, 0)
    return east @ grid.geobox.affine @ Affine.translation(col, piece.source.row)


def _rows_and_cols(piece: FootprintPiece) -> tuple[slice, slice]:
    """Return where a piece lies in the output."""
    part = piece.target
    return slice(part.row, part.stop_row), slice(part.col, part.stop_col)


def copy_piece(values: Pixels, piece: FootprintPiece, *, out: Pixels) -> None:
    """Copy one piece of an aligned target into its place in the output.

    Args:
        values: (rows, columns) of ``piece.source``.
        piece: source and target windows of one shape.
        out: (rows, columns) of the target; only ``piece.target`` is written.
    """
    _check_shape(values, (piece.target.height, piece.target.width), "values")
    out[_rows_and_cols(piece)] = values


def inside(geobox: GeoBox, geometry: BaseGeometry, *, all_touched: bool = False) -> Mask:
    """Return which pixels lie inside a polygon.

    Args:
        geobox: the pixels.
        geometry: polygon or multipolygon in the geobox's CRS, x then y. An empty one holds no pixel.
        all_touched: True for every pixel that the polygon touches, False for those whose centre it holds.

    Returns:
        (rows, columns) of the geobox, True = inside.
    """
    shape = (int(geobox.shape[0]), int(geobox.shape[1]))
    if geometry.is_empty:
        return np.zeros(shape, dtype=np.bool_)
    mask: Mask = rasterio.features.geometry_mask(
        [geometry], out_shape=shape, transform=geobox.affine, all_touched=all_touched, invert=True
    )
    return mask


def clip(values: Pixels, inside: Mask, fill: np.generic) -> None:
    """Set pixels outside of a polygon to fill.

    Args:
        values: (rows, columns) of a geobox.
        inside: which of them lie inside, from ``inside``.
        fill: what a pixel outside holds, of the values' dtype.
    """
    for first in range(0, len(values), _CLIPPED_ROWS):
        rows = slice(first, first + _CLIPPED_ROWS)
        values[rows][~inside[rows]] = fill


def _scale_options(grid: Grid, target: GeoBox) -> dict[str, float]:
    """Return the warp options that hold GDAL to ``_scales``; none where it has to find its own."""
    scales = _scales(grid, target)
    return {} if scales is None else scale_options(*scales)


def _scales(grid: Grid, target: GeoBox) -> tuple[float, float] | None:
    """Return grid pixels by target pixels along columns and rows, as GDAL finds them for target and grid.

    They come from the grid pixels under the target's edge. GDAL cuts these at the grid's right and bottom
    edge, but not at the others (GDALWarpOperation::ComputeSourceWindow), so that a target that sticks out
    there looks finer than it is; and it halves a target of which less than half lies on the grid, until
    that is mended (CollectChunkListInternal). There the true scale is taken at once. In long rotated
    strips the kernel is held to ``KERNEL_SPREAD``. None where a point of the edge has no place on the
    grid.
    """
    cols, rows = _edge_on_grid(grid, target)
    if not (np.isfinite(cols).all() and np.isfinite(rows).all()):
        return None
    turn = turn_pixels(grid)
    if turn is not None:
        cols = _continuous(cols, turn)
    width, on_width, cut_width = _covered(cols, grid.window.width)
    if turn is not None and grid.window.width >= turn - 1:  # it goes on beyond its ends
        on_width = cut_width = width
    height, on_height, cut_height = _covered(rows, grid.window.height)
    if on_width * on_height < _FILL_RATIO * width * height:
        cut_width, cut_height = width, height
    along_x, along_y = (
        _reduction(int(target.shape[1]), cut_width),
        _reduction(int(target.shape[0]), cut_height),
    )
    limit = KERNEL_SPREAD * max(1.0, _true_scale(cols, rows, target))
    return min(along_x, limit), min(along_y, limit)


def _edge_on_grid(grid: Grid, target: GeoBox) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return (columns, rows) on the grid, in pixels, of points along top, bottom, left and right edge."""
    ratio = np.linspace(0.0, 1.0, _EDGE_STEPS)
    zero, one = np.zeros_like(ratio), np.ones_like(ratio)
    cols = np.concatenate([ratio, ratio, zero, one]) * int(target.shape[1])
    rows = np.concatenate([zero, one, ratio, ratio]) * int(target.shape[0])
    x, y = project_points(*apply_affine(target.affine, cols, rows), crs_of(target), grid.crs)
    return apply_affine(~grid.geobox.affine, x, y)


def _continuous(cols: NDArray[np.float64], turn: float) -> NDArray[np.float64]:
    """Return the columns of ``_edge_on_grid`` without the jump at 180 degrees."""
    top, bottom, left, right = np.unwrap(cols.reshape(4, -1), period=turn)
    left += turn * np.round((top[0] - left[0]) / turn)
    right += turn * np.round((top[-1] - right[0]) / turn)
    bottom += turn * np.round((left[-1] - bottom[0]) / turn)
    return np.concatenate([top, bottom, left, right])


def _covered(places: NDArray[np.float64], size: int) -> tuple[float, float, float]:
    """Return how many grid pixels lie under the target along one axis: in all, on the grid, and as GDAL cuts.

    Args:
        places: of the target's edge on the grid, in grid pixels.
        size: of the grid, in pixels.
    """
    first, last = float(places.min()), float(places.max())
    on_grid = max(0.0, min(last, size) - max(first, 0.0))
    return last - first, on_grid, min(last - first, size - max(0, int(first)))


def _reduction(pixels: int, covered: float) -> float:
    """Return grid pixels by target pixels, where GDAL rounds what is near to a whole number."""
    if covered <= 0:
        return 1.0
    reduction = covered / pixels
    whole = whole_reduction(reduction)
    return reduction if not whole else float(whole)


def _true_scale(cols: NDArray[np.float64], rows: NDArray[np.float64], target: GeoBox) -> float:
    """Return how many grid pixels a target pixel spans at most, along the edges of ``_edge_on_grid``."""
    steps = np.hypot(np.diff(cols.reshape(4, -1)), np.diff(rows.reshape(4, -1))).max(axis=1) * (
        _EDGE_STEPS - 1
    )
    height, width = (int(size) for size in target.shape)
    return float(max(steps[:2].max() / width, steps[2:].max() / height))


def _check_shape(array: Pixels, shape: tuple[int, int], name: str) -> None:
    if array.shape != shape:
        raise ValueError(f"{name} has shape {array.shape}, expected {shape}")
