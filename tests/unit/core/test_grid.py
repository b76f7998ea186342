"""Windows, the grid's chunks, and what lies on its lattice."""

from __future__ import annotations

import numpy as np
import pytest
from affine import Affine
from hypothesis import given, settings
from hypothesis import strategies as st
from odc.geo.geobox import GeoBox

from icehouse_server.core.grid import ChunkKey, Grid, Window, lattice_window, tiles

windows = st.builds(
    Window,
    row=st.integers(-20, 20),
    col=st.integers(-20, 20),
    height=st.integers(1, 25),
    width=st.integers(1, 25),
)


def pixels(window):
    return {
        (row, col) for row in range(window.row, window.stop_row) for col in range(window.col, window.stop_col)
    }


def grid_of(rows, cols, chunk, step=32.0):
    return Grid(geobox=GeoBox((rows, cols), Affine(step, 0, -4000, 0, -step, 9000), "EPSG:3413"), chunk=chunk)


@given(windows, windows)
def test_intersection_is_that_of_the_pixels(one, other):
    common = one.intersection(other)
    assert (set() if common is None else pixels(common)) == pixels(one) & pixels(other)
    assert common == other.intersection(one)


@given(windows, windows)
def test_union_is_the_smallest_that_holds_both(one, other):
    whole = one.union(other)
    assert pixels(one) | pixels(other) <= pixels(whole)
    both = pixels(one) | pixels(other)
    assert {whole.row, whole.stop_row - 1} == {min(r for r, _ in both), max(r for r, _ in both)}
    assert {whole.col, whole.stop_col - 1} == {min(c for _, c in both), max(c for _, c in both)}


@given(windows, windows)
def test_slices_cut_the_common_part_out_of_either_array(one, other):
    common = one.intersection(other)
    if common is None:
        return
    rows, cols = np.mgrid[one.row : one.stop_row, one.col : one.stop_col]
    assert set(
        zip(rows[common.slices(one)].ravel(), cols[common.slices(one)].ravel(), strict=True)
    ) == pixels(common)


@pytest.mark.parametrize(("height", "width"), [(0, 1), (1, 0), (-1, 5)])
def test_a_window_without_pixels_is_refused(height, width):
    with pytest.raises(ValueError, match="at least one pixel"):
        Window(row=0, col=0, height=height, width=width)


@given(windows, st.integers(1, 30))
def test_tiles_partition_a_window(window, size):
    seen = [pixel for tile in tiles(window, size) for pixel in pixels(tile)]
    assert len(seen) == len(set(seen))
    assert set(seen) == pixels(window)
    assert all(max(tile.height, tile.width) <= size for tile in tiles(window, size))


@settings(max_examples=60)
@given(rows=st.integers(1, 70), cols=st.integers(1, 70), chunk=st.integers(1, 40))
def test_chunks_cover_the_grid_exactly_once(rows, cols, chunk):
    grid = grid_of(rows, cols, chunk)
    hits = np.zeros((rows, cols), int)
    for row in range(grid.chunk_shape[0]):
        for col in range(grid.chunk_shape[1]):
            area = grid.chunk_window(row, col)
            hits[area.slices(grid.window)] += 1
            assert area.height == chunk or area.stop_row == rows, "only the last row is cut"
            assert area.width == chunk or area.stop_col == cols
    assert (hits == 1).all()
    for row, col in ((grid.chunk_shape[0], 0), (0, grid.chunk_shape[1]), (-1, 0)):
        with pytest.raises(ValueError, match="outside"):
            grid.chunk_window(row, col)


@settings(max_examples=100)
@given(data=st.data(), chunk=st.integers(1, 40))
def test_chunks_under_a_window_are_those_that_share_a_pixel(data, chunk):
    grid = grid_of(61, 47, chunk)
    row, col = data.draw(st.integers(0, 60)), data.draw(st.integers(0, 46))
    window = Window(
        row=row,
        col=col,
        height=data.draw(st.integers(1, 61 - row)),
        width=data.draw(st.integers(1, 47 - col)),
    )
    under = grid.chunks_under(window)
    touched = {(r // chunk, c // chunk) for r, c in pixels(window)}
    assert pixels(under) == touched
    assert pixels(window) <= pixels(grid.pixels_of(under))


@given(row=st.integers(-500, 500), col=st.integers(-500, 500), shift=st.floats(-9e-4, 9e-4))
def test_what_lies_on_the_lattice_is_found_also_beyond_the_edge(row, col, shift):
    grid = grid_of(100, 100, 16)
    window = Window(row=row, col=col, height=7, width=5)
    assert grid.aligned_window(grid.geobox_of(window)) == window
    moved = GeoBox((7, 5), grid.geobox_of(window).affine * Affine.translation(shift, -shift), "EPSG:3413")
    assert grid.aligned_window(moved) == window


@given(
    dx=st.floats(0.002, 0.998),
    dy=st.floats(-0.998, 0.998),
    row=st.integers(-50, 50),
    col=st.integers(-50, 50),
)
def test_a_shift_by_a_fraction_is_not_on_the_lattice(dx, dy, row, col):
    grid = grid_of(100, 100, 16)
    affine = grid.geobox.affine * Affine.translation(col + dx, row + dy)
    assert grid.aligned_window(GeoBox((5, 5), affine, "EPSG:3413")) is None


@pytest.mark.parametrize(
    ("affine", "crs"),
    [
        pytest.param(Affine(32, 0, -4000, 0, -32, 9000), "EPSG:3995", id="other CRS"),
        pytest.param(Affine(16, 0, -4000, 0, -16, 9000), "EPSG:3413", id="half the pixel"),
        pytest.param(Affine(32, 0, -4000, 0, 32, 9000), "EPSG:3413", id="south up"),
        pytest.param(Affine(-32, 0, -4000, 0, -32, 9000), "EPSG:3413", id="mirrored"),
        pytest.param(Affine(0, 32, -4000, -32, 0, 9000), "EPSG:3413", id="turned"),
        pytest.param(Affine(32, 0.001, -4000, 0, -32, 9000), "EPSG:3413", id="sheared"),
        pytest.param(Affine(32.001, 0, -4000, 0, -32, 9000), "EPSG:3413", id="drifts away"),
    ],
)
def test_other_geoboxes_are_not_on_the_lattice(affine, crs):
    assert grid_of(100, 100, 16).aligned_window(GeoBox((100, 100), affine, crs)) is None


def test_drift_counts_at_the_far_corner():
    """A step that is off by a millionth is right for a small raster and wrong for one of many pixels."""
    grid = grid_of(10**6, 10**6, 512)
    affine = Affine(32 * (1 + 1e-7), 0, -4000, 0, -32, 9000)
    assert lattice_window(grid.geobox, GeoBox((10, 100), affine, "EPSG:3413")) is not None
    assert lattice_window(grid.geobox, GeoBox((10, 100_000), affine, "EPSG:3413")) is None


@pytest.mark.parametrize(
    "affine", [Affine(32, 0, 0, 0, 32, 0), Affine(-32, 0, 0, 0, -32, 0), Affine(32, 1, 0, 0, -32, 0)]
)
def test_a_grid_is_north_up(affine):
    with pytest.raises(ValueError, match="north up"):
        Grid(geobox=GeoBox((5, 5), affine, "EPSG:3413"), chunk=16)


def test_a_grid_needs_a_crs_and_a_chunk():
    with pytest.raises(ValueError, match="CRS"):
        Grid(geobox=GeoBox((5, 5), Affine(1, 0, 0, 0, -1, 0), None), chunk=16)
    with pytest.raises(ValueError, match="pixel"):
        grid_of(5, 5, 0)


@pytest.mark.parametrize(
    ("level", "time", "path"), [(0, None, "dem/c/3/4"), (0, 7, "dem/c/7/3/4"), (2, None, "2/dem/c/3/4")]
)
def test_a_chunks_path_is_zarrs(level, time, path):
    assert ChunkKey(collection="a", level=level, band="dem", time=time, row=3, col=4).path == path
