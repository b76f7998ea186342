"""Small holes: which areas they are, and that a chunk holds the same whatever is read around it."""

from __future__ import annotations

import numpy as np
import pytest
from affine import Affine
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from odc.geo.geobox import GeoBox

from icehouse_server.core.grid import Grid, Window
from icehouse_server.core.ports import BandBlock
from icehouse_server.sources.raster.holes import filled, small_holes, surroundings

masks = hnp.arrays(np.bool_, st.tuples(st.integers(1, 14), st.integers(1, 14)))


def areas(invalid):
    """The pixels of each area, found one by one."""
    left = {(int(row), int(col)) for row, col in np.argwhere(invalid)}
    while left:
        area, edge = set(), {left.pop()}
        while edge:
            area |= edge
            near = {(r + i, c + j) for r, c in edge for i in (-1, 0, 1) for j in (-1, 0, 1)}
            edge = near & left
            left -= edge
        yield area


@given(masks, st.integers(1, 6))
def test_small_holes_are_small(valid, size):
    wanted = np.zeros_like(valid)
    for area in areas(~valid):
        rows, cols = zip(*area, strict=True)
        if max(rows) - min(rows) < size and max(cols) - min(cols) < size:
            wanted[rows, cols] = True
    np.testing.assert_array_equal(small_holes(valid, size), wanted)


GRID = Grid(geobox=GeoBox((64, 80), Affine(1, 0, 0, 0, -1, 0), "EPSG:32633"), chunk=16)


@st.composite
def worlds(draw):
    """Values and validity of the whole grid, with holes of every size."""
    random = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    valid = random.random(GRID.shape) > draw(st.sampled_from([0.02, 0.2, 0.5]))
    for _ in range(draw(st.integers(0, 6))):
        row, col, side = (int(random.integers(0, top)) for top in (60, 76, 12))
        valid[row : row + side, col : col + side] = False
    dtype = draw(st.sampled_from(["uint8", "int16", "float32"]))
    return random.integers(0, 200, GRID.shape).astype(dtype), valid


parts = st.builds(
    lambda row, col, height, width: Window.from_bounds(row, col, min(row + height, 64), min(col + width, 80)),
    st.integers(0, 63),
    st.integers(0, 79),
    st.integers(1, 64),
    st.integers(1, 80),
)


def read(world, window, size):
    """Fill a window as the source does: only what surrounds it is known."""
    area = surroundings(GRID, window, size)
    values, valid = (layer[area.slices(GRID.window)].copy() for layer in world)
    return filled(BandBlock(values=values, valid=valid), area, window, GRID, size)


@given(worlds(), parts, st.integers(1, 7))
def test_any_cutting_gives_the_same_pixels(world, window, size):
    whole = read(world, GRID.window, size)
    part = read(world, window, size)
    inside = window.slices(GRID.window)
    np.testing.assert_array_equal(part.valid, whole.valid[inside])
    np.testing.assert_array_equal(part.values[part.valid], whole.values[inside][part.valid])


@given(worlds(), st.integers(1, 7))
def test_only_small_holes_change(world, size):
    values, valid = world
    whole = read(world, GRID.window, size)
    np.testing.assert_array_equal(whole.valid, valid | small_holes(valid, size))
    np.testing.assert_array_equal(whole.values[valid], values[valid])
    if valid.any() and whole.valid.all():
        assert values[valid].min() <= whole.values.min()
        assert whole.values.max() <= values[valid].max()


@pytest.mark.parametrize("dtype", ["uint8", "int16", "float64"])
def test_a_hole_takes_the_values_of_its_rim(dtype):
    values = np.full(GRID.shape, 7, dtype=dtype)
    values[:, 31:] = 11
    valid = np.ones(GRID.shape, dtype=bool)
    valid[10:13, 29:33] = False  # across two chunks
    values[~valid] = 0
    found = read((values, valid), GRID.window, 4)
    assert found.valid.all()
    hole = found.values[10:13, 29:33]
    assert ((hole >= 7) & (hole <= 11)).all()
    assert (hole[:, 0] < hole[:, -1]).all()
    assert found.values.dtype == values.dtype
