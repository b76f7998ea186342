"""Small holes inside a mosaic: filled from their rims, the same however the grid is cut."""

import math
from typing import cast

import numpy as np
from numpy.typing import NDArray
from rasterio.fill import fillnodata

from icehouse_server.core.grid import Grid, Window
from icehouse_server.core.ports import BandBlock, Mask, Pixels


def reach(size: int) -> int:
    """Return how far around a chunk it must be read so that its holes are filled.

    A hole of a chunk ends within ``size`` pixels of it, and is filled from what lies within ``size`` more.
    """
    return 2 * size


def surroundings(grid: Grid, window: Window, size: int) -> Window:
    """Return what must be read to fill the holes of a window: its chunks whole, and a margin."""
    return _grown(grid, grid.pixels_of(grid.chunks_under(window)), size)


def filled(block: BandBlock, area: Window, window: Window, grid: Grid, size: int) -> BandBlock:
    """Fill the holes of a window that are at most ``size`` pixels high and wide. Blocking.

    A hole is an area of invalid pixels that touch each other, corners included. Each chunk of the grid is
    filled from itself and a margin of fixed size, so what it holds does not depend on what else is read.

    Args:
        block: what was read; of ``surroundings``.
        area: where that lies on the grid.
        window: what is wanted.
        grid: the collection's grid.
        size: longest side of a hole that is filled, in pixels.

    Returns:
        The window's pixels; those of holes are valid.
    """
    values, valid = block.values, block.valid
    small = small_holes(valid, size)
    inside = window.slices(area)
    if not small[inside].any():
        return BandBlock(values=values[inside], valid=valid[inside])
    out = values.copy()
    chunks = grid.chunks_under(window)
    for row in range(chunks.row, chunks.stop_row):
        for col in range(chunks.col, chunks.stop_col):
            chunk = grid.chunk_window(row, col)
            own, around = chunk.slices(area), _grown(grid, chunk, size)
            holes = small[own]
            if holes.any():
                found = _interpolated(values[around.slices(area)], valid[around.slices(area)], size)
                out[own][holes] = found[chunk.slices(around)][holes]
    return BandBlock(values=cast("Pixels", out[inside]), valid=cast("Mask", (valid | small)[inside]))


def _grown(grid: Grid, window: Window, size: int) -> Window:
    """Return a window with its margin, cut at the grid's edge."""
    margin = reach(size)
    whole = Window.from_bounds(
        window.row - margin, window.col - margin, window.stop_row + margin, window.stop_col + margin
    )
    return whole.intersection(grid.window) or window


def _interpolated(values: Pixels, valid: Mask, size: int) -> Pixels:
    # The rim of a hole is at most this far, on the diagonal.
    return cast(
        "Pixels",
        fillnodata(values.copy(), mask=valid.astype(np.uint8), max_search_distance=math.ceil(1.5 * size)),
    )


def small_holes(valid: Mask, size: int) -> Mask:
    """Return which invalid pixels belong to an area that is at most ``size`` pixels high and wide.

    Pixels belong together where they touch, corners included. The areas are found by runs: pixels of one row
    without a gap.
    """
    holes = np.zeros_like(valid)
    padded = np.pad(~valid, ((0, 0), (1, 1)))
    row, at = np.nonzero(padded[:, 1:] != padded[:, :-1])
    if not len(row):
        return holes
    row, start, stop = row[::2], at[::2], at[1::2]
    label = _joined(len(row), *_touching(row, start, stop, valid.shape[1]))
    extents = [
        _extreme(np.maximum, label, last) - _extreme(np.minimum, label, first)
        for first, last in ((row, row), (start, stop - 1))
    ]
    small = (extents[0] < size) & (extents[1] < size)
    edges = np.zeros((valid.shape[0], valid.shape[1] + 1), dtype=np.int8)
    edges[row[small], start[small]] = 1
    edges[row[small], stop[small]] = -1
    return cast("Mask", np.cumsum(edges[:, :-1], axis=1, dtype=np.int8).astype(np.bool_))


type _Numbers = NDArray[np.int64]


def _touching(row: _Numbers, start: _Numbers, stop: _Numbers, width: int) -> tuple[_Numbers, _Numbers]:
    """Return pairs of runs of neighbouring rows that touch; runs are sorted by row and start."""
    # One line of numbers for all rows, with a gap between them wide enough that rows do not touch.
    line = width + 2
    starts, stops = row * line + start, row * line + stop
    # Those of the next row that end at or behind my start, and start at or before my end.
    first = np.searchsorted(stops, starts + line, side="left")
    last = np.searchsorted(starts, stops + line, side="right")
    number = np.maximum(last - first, 0)
    upper = np.repeat(np.arange(len(row)), number)
    offset = np.arange(len(upper)) - np.repeat(np.cumsum(number) - number, number)
    return upper, np.repeat(first, number) + offset


def _joined(number: int, one: _Numbers, other: _Numbers) -> _Numbers:
    """Return for each run the least number of a run that it is joined with, over any number of pairs."""
    label = np.arange(number)
    while True:
        least = np.minimum(label[one], label[other])
        root_one, root_other = label[one], label[other]
        before = label.copy()
        np.minimum.at(label, root_one, least)
        np.minimum.at(label, root_other, least)
        while not np.array_equal(label, shorter := label[label]):
            label = shorter
        if np.array_equal(before, label):
            return label


def _extreme(function: np.ufunc, label: _Numbers, value: _Numbers) -> _Numbers:
    """Return for each run the least or greatest value of those of its label."""
    found = value.copy()
    function.at(found, label, value)
    return found[label]
