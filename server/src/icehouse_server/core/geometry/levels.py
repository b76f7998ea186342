"""Which level a target is best read from: GDAL's rule for overviews."""

import math

import numpy as np
from numpy.typing import NDArray
from odc.geo.geobox import GeoBox

from icehouse_server.core.collection import CollectionSpec
from icehouse_server.core.geometry.affine import apply_affine
from icehouse_server.core.geometry.transformers import project_points
from icehouse_server.core.grid import Grid

_PLACES = (1 / 8, 1 / 2, 7 / 8)
"""Where along each axis of the target its cells are measured on the grid."""

_ROUNDING = 1e-3
"""Part of a level by which a scale may fall short of a power of two and count as one."""


type Slopes = NDArray[np.float64]
"""(..., 2, 2): how far a cell of a target goes along x, and along y, in columns and rows of a grid."""


def spans(slopes: Slopes) -> NDArray[np.float64]:
    """Return (..., 2): how many cells of a grid a cell of a target spans, where they are fewest and most.

    These are the half axes of the ellipse that a circle of one target cell is on the grid. Along the sides of
    a cell they would not be found: a cell of a polar grid that is turned by 45 degrees against lon/lat goes
    the same way east along both.
    """
    a, b, c, d = (slopes[..., axis, place] for axis in (0, 1) for place in (0, 1))
    with np.errstate(invalid="ignore", divide="ignore", over="ignore"):
        most = (np.hypot(a + d, b - c) + np.hypot(a - d, b + c)) / 2
        fewest = np.abs(a * d - b * c) / most
    found: NDArray[np.float64] = np.stack([fewest, most], axis=-1)
    return found


def best_level(spec: CollectionSpec, target: GeoBox) -> int:
    """Return the coarsest level whose cells are no larger than those of a target, in any direction.

    So GDAL chooses among a file's overviews: what is read is never coarser than what is wanted. Where the
    size of cells differs over the target, the middle one of nine places counts.

    Args:
        spec: the collection.
        target: any geobox, of any CRS.
    """
    scale = _scale(spec.grid, target)
    if not scale >= 1:  # a place that the CRS does not know gives NaN
        return 0
    return min(math.floor(math.log2(scale) + _ROUNDING), len(spec.grids) - 1)


def _scale(grid: Grid, target: GeoBox) -> float:
    """Return how many cells of the grid a cell of the target spans at least; NaN where nothing is known."""
    rows, cols = (int(size) for size in target.shape)
    col, row = (points.ravel() for points in np.meshgrid(np.array(_PLACES) * cols, np.array(_PLACES) * rows))
    # Each place, the end of a cell to its right, and the end of one below it.
    cols3, rows3 = np.concatenate([col, col + 1, col]), np.concatenate([row, row, row + 1])
    inverse = ~grid.geobox.affine
    x, y = project_points(*apply_affine(target.affine, cols3, rows3), target.crs, grid.crs)
    with np.errstate(invalid="ignore"):
        x0, x1, x2 = np.split(x, 3)
        y0, y1, y2 = np.split(y, 3)
        steps = [
            np.stack([_turn(to_x - x0, grid) * inverse.a, (to_y - y0) * inverse.e], axis=-1)
            for to_x, to_y in ((x1, y1), (x2, y2))
        ]
    fewest = spans(np.stack(steps, axis=-2))[..., 0]
    fewest = fewest[np.isfinite(fewest)]
    return float(np.median(fewest)) if fewest.size else math.nan


def _turn(distance: NDArray[np.float64], grid: Grid) -> NDArray[np.float64]:
    """Return a distance in x; of longitudes, the short way round."""
    return (distance + 180.0) % 360.0 - 180.0 if grid.crs.geographic else distance
