"""Which chunk each pixel of a geobox lies in: what is shown of a region of which some is not there."""

from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray
from odc.geo.geobox import GeoBox

from icehouse_server.core.geometry.affine import apply_affine
from icehouse_server.core.geometry.footprint import turn_pixels
from icehouse_server.core.geometry.transformers import project_points
from icehouse_server.core.grid import Grid

type Positions = NDArray[np.int64]
"""(rows, columns) of a geobox: a number for the chunk of each pixel, -1 outside of the grid."""


def chunk_numbers(grid: Grid, target: GeoBox) -> Positions:
    """Return for the centre of each pixel of a geobox the chunk that it lies in: row times columns + column.

    It takes as much memory as the geobox has pixels, however many chunks lie under it.
    """
    height, width = (int(size) for size in target.shape)
    cols, rows = np.meshgrid(np.arange(width) + 0.5, np.arange(height) + 0.5)
    x, y = project_points(*apply_affine(target.affine, cols, rows), target.crs, grid.crs)
    with np.errstate(invalid="ignore"):
        col, row = apply_affine(~grid.geobox.affine, x, y)
        turn = turn_pixels(grid)
        if turn is not None:
            col -= turn * np.floor(col / turn)
        inside = (row >= 0) & (row < grid.shape[0]) & (col >= 0) & (col < grid.shape[1])
    numbers = np.full((height, width), -1, dtype=np.int64)
    chunk_row, chunk_col = (places[inside].astype(np.int64) // grid.chunk for places in (row, col))
    numbers[inside] = chunk_row * grid.chunk_shape[1] + chunk_col
    return numbers


def pixels_in(grid: Grid, numbers: Positions, chunks: Iterable[tuple[int, int]]) -> NDArray[np.bool_]:
    """Return which pixels lie in one of some chunks, given as (row, column)."""
    wanted = np.array([row * grid.chunk_shape[1] + col for row, col in chunks], dtype=np.int64)
    return np.isin(numbers, wanted)
