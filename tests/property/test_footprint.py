"""The footprint against an oracle: pyproj, pixel by pixel."""

from __future__ import annotations

import numpy as np
from affine import Affine
from hypothesis import assume, event, given
from hypothesis import strategies as st
from odc.geo.geobox import GeoBox
from pyproj import Transformer

from icehouse_server.core.errors import TooLargeError
from icehouse_server.core.geometry.footprint import KERNEL_RADIUS, MOST_TURNS, footprint
from icehouse_server.core.grid import Grid

MANY = 1_000_000


def grid_of(crs, left, top, step, rows, cols, chunk):
    return Grid(geobox=GeoBox((rows, cols), Affine(step, 0, left, 0, -step, top), crs), chunk=chunk)


GRIDS = {
    "arctic": grid_of("EPSG:3413", -4_000_096, 4_100_096, 1000, 7500, 7400, 64),
    "antarctic": grid_of("EPSG:3031", -3_000_000, 3_000_000, 1000, 6000, 6000, 64),
    "world": grid_of("EPSG:4326", -180, 90, 0.1, 1800, 3600, 32),
    "utm": grid_of("EPSG:32633", 300_000, 9_400_000, 100, 9000, 4000, 64),
    "mercator": grid_of("EPSG:3857", -20_037_508, 15_000_000, 10_000, 3000, 4007, 32),
}
CRSES = ["EPSG:4326", "EPSG:3413", "EPSG:3031", "EPSG:32633", "EPSG:3857", "EPSG:32601"]
PLACES = {  # where a target's centre is drawn from, lon/lat
    "arctic": st.tuples(st.floats(-180, 180), st.floats(60, 90)),
    "antarctic": st.tuples(st.floats(-180, 180), st.floats(-90, -65)),
    "world": st.tuples(st.floats(-180, 180), st.floats(-89.9, 90)),
    "utm": st.tuples(st.floats(9, 22), st.floats(76, 84)),
    "mercator": st.tuples(st.floats(-180, 180), st.floats(-70, 75)),
}
NOTABLE = {
    "arctic": [(0.0, 90.0), (180.0, 70.0), (-180.0, 75.0), (179.9999, 66.0), (45.0, 89.99)],
    "antarctic": [(0.0, -90.0), (180.0, -75.0)],
    "world": [(0.0, 90.0), (180.0, 0.0), (-180.0, 60.0), (180.0, 89.0), (0.0, -90.0), (30.0, 89.7)],
    "utm": [(15.0, 80.0)],
    "mercator": [(180.0, 0.0), (-180.0, 60.0)],
}


@st.composite
def cases(draw):
    name = draw(st.sampled_from(sorted(GRIDS)))
    grid = GRIDS[name]
    crs = draw(st.sampled_from(CRSES))
    lon, lat = draw(st.one_of(PLACES[name], st.sampled_from(NOTABLE[name])))
    x, y = Transformer.from_crs("EPSG:4326", crs, always_xy=True).transform(lon, lat)
    assume(np.isfinite(x) and np.isfinite(y) and abs(x) < 3e7 and abs(y) < 3e7)
    ratio = draw(st.floats(0.02, 40))  # grid pixels in a target pixel, about
    metres = grid.geobox.affine.a * (111_000 if grid.crs.geographic else 1) * ratio
    step = metres / 111_000 if crs == "EPSG:4326" else metres
    shape = (draw(st.integers(1, 330)), draw(st.integers(1, 330)))
    turn = draw(st.sampled_from([0, 0, 0, 17.5, 45, 90, 200]))
    affine = (
        Affine.translation(x, y)
        * Affine.rotation(turn)
        * Affine.scale(step, -step * draw(st.sampled_from([1, 1, 0.3, -1])))
        * Affine.translation(-shape[1] / 2, -shape[0] / 2)
    )
    return grid, GeoBox(shape, affine, crs), draw(st.sampled_from(sorted(KERNEL_RADIUS)))


def places_on_grid(grid, target):
    """(rows, columns) on the grid, in pixels, of every target pixel's centre."""
    rows, cols = np.mgrid[0 : target.shape[0], 0 : target.shape[1]] + 0.5
    affine = target.affine
    x, y = affine.a * cols + affine.b * rows + affine.c, affine.d * cols + affine.e * rows + affine.f
    if str(target.crs) != str(grid.crs):
        x, y = Transformer.from_crs(str(target.crs), str(grid.crs), always_xy=True).transform(x, y)
    back = ~grid.geobox.affine
    x, y = np.where(np.isfinite(x), x, 1e30), np.where(np.isfinite(y), y, 1e30)
    rows, cols = back.d * x + back.e * y + back.f, back.a * x + back.b * y + back.c
    if grid.crs.geographic:  # longitudes go around
        turn = 360 / grid.geobox.affine.a
        cols = np.where(np.abs(cols) < MOST_TURNS * turn, np.mod(cols, turn), 1e30)
    return rows, cols


@given(case=cases())
def test_every_pixel_finds_what_it_is_made_from(case):
    """The chunk under a pixel's centre, and those that its kernel reaches at scale 1, are listed."""
    grid, target, method = case
    try:
        found = footprint(grid, target, [method], max_chunks=MANY)
    except TooLargeError:
        event("refused")
        return
    event("aligned" if found.aligned else f"{len(found.pieces)} pieces")
    grid_rows, grid_cols = places_on_grid(grid, target)
    height, width = grid.shape
    inside = np.zeros(grid_rows.shape, bool)
    finite = np.isfinite(grid_rows) & np.isfinite(grid_cols)
    inside[finite] = (
        (grid_rows[finite] >= 0)
        & (grid_rows[finite] < height)
        & (grid_cols[finite] >= 0)
        & (grid_cols[finite] < width)
    )
    listed = np.zeros(grid.chunk_shape, bool)
    for row, col in found.chunks:
        listed[row, col] = True
    radius = 0 if found.aligned else KERNEL_RADIUS[method]
    for down in {-radius, 0, radius}:
        for along in {-radius, 0, radius}:
            rows = np.clip(np.floor(grid_rows[inside] + down), 0, height - 1).astype(int)
            cols = np.clip(np.floor(grid_cols[inside] + along), 0, width - 1).astype(int)
            missed = ~listed[rows // grid.chunk, cols // grid.chunk]
            assert not missed.any(), (int(missed.sum()), rows[missed][:3], cols[missed][:3])
    assert sorted(found.chunks) == list(found.chunks)
    assert len(set(found.chunks)) == len(found.chunks)
    check_pieces(grid, target, found, grid_rows, grid_cols, inside, radius)


def check_pieces(grid, target, found, grid_rows, grid_cols, inside, radius):
    """Pieces lie on the target, hold every pixel on the grid, and read what they need.

    They do not overlap, but for those that are made from the two sides of the antimeridian.
    """
    held = np.zeros(target.shape, bool)
    covered = np.zeros(target.shape, int)
    sides = {}
    height, width = grid.shape
    for piece in found.pieces:
        rows, cols = (
            slice(piece.target.row, piece.target.stop_row),
            slice(piece.target.col, piece.target.stop_col),
        )
        assert piece.target.row >= 0
        assert piece.target.stop_row <= target.shape[0]
        assert piece.target.col >= 0
        assert piece.target.stop_col <= target.shape[1]
        covered[rows, cols] += 1
        sides.setdefault(piece.turn, np.zeros(target.shape, int))[rows, cols] += 1
        if covered[rows, cols].max() > 1:
            assert piece.shared or found.aligned
        down, along = grid_rows[rows, cols], grid_cols[rows, cols]
        source = piece.source
        assert source.intersection(grid.window) == source
        held[rows, cols] |= (
            (np.maximum(down - radius, 0) >= source.row)
            & (np.minimum(down + radius, height - 1) < source.stop_row)
            & (np.maximum(along - radius, 0) >= source.col)
            & (np.minimum(along + radius, width - 1) < source.stop_col)
        )
    assert all(side.max() <= 1 for side in sides.values()), "no pixel is written twice from one side"
    assert grid.crs.geographic or set(sides) <= {0}
    assert held[inside].all(), "every pixel on the grid is written"
