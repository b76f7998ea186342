"""Which level a target is best read from: GDAL's rule for overviews."""

import math

import numpy as np
from numpy.typing import NDArray
from odc.geo.geobox import GeoBox

from icehouse_server.core.collection import CollectionSpec
from icehouse_server.core.footprint import transformer
from icehouse_server.core.grid import Grid

_PLACES = (1 / 8, 1 / 2, 7 / 8)
"""Where along each axis of the target its cells are measured on the grid."""

_ROUNDING = 1e-3
"""Part of a level by which a scale may fall short of a power of two and count as one."""


def best_level(spec: CollectionSpec, target: GeoBox) -> int:
    """Return the coarsest level whose cells are no larger than those of a target.

    So GDAL chooses among a file's overviews: what is read is never coarser than what is wanted. Where the
    size of cells differs over the target, the middle one of nine places counts, and there the smaller side.

    Args:
        spec: the collection.
        target: any geobox, of any CRS.
    """
    scale = _scale(spec.grid, target)
    if not scale >= 1:  # a place that the CRS does not know gives NaN
        return 0
    return min(math.floor(math.log2(scale) + _ROUNDING), len(spec.grids) - 1)


def _scale(grid: Grid, target: GeoBox) -> float:
    """Return how many cells of the grid lie along a cell of the target; NaN where nothing is known."""
    rows, cols = (int(size) for size in target.shape)
    col, row = (points.ravel() for points in np.meshgrid(np.array(_PLACES) * cols, np.array(_PLACES) * rows))
    # Each place, the end of a cell to its right, and the end of one below it.
    cols3, rows3 = np.concatenate([col, col + 1, col]), np.concatenate([row, row, row + 1])
    affine, inverse = target.affine, ~grid.geobox.affine
    x = affine.a * cols3 + affine.b * rows3 + affine.c
    y = affine.d * cols3 + affine.e * rows3 + affine.f
    if target.crs is not None and target.crs != grid.crs:
        x, y = transformer(target.crs, grid.crs).transform(x, y)
    with np.errstate(invalid="ignore"):
        x0, x1, x2 = np.split(x, 3)
        y0, y1, y2 = np.split(y, 3)
        across = np.hypot(_turn(x1 - x0, grid) * inverse.a, (y1 - y0) * inverse.e)
        down = np.hypot(_turn(x2 - x0, grid) * inverse.a, (y2 - y0) * inverse.e)
    sides = np.minimum(across, down)
    sides = sides[np.isfinite(sides)]
    return float(np.median(sides)) if sides.size else math.nan


def _turn(distance: NDArray[np.float64], grid: Grid) -> NDArray[np.float64]:
    """Return a distance in x; of longitudes, the short way round."""
    return (distance + 180.0) % 360.0 - 180.0 if grid.crs.geographic else distance
