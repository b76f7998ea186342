"""Levels: grids that shrink, and chunks that name theirs."""

from __future__ import annotations

import math

import pytest
from affine import Affine
from hypothesis import assume, given
from hypothesis import strategies as st
from odc.geo.geobox import GeoBox

from icehouse_server.collections import read_collections
from icehouse_server.core.blocks import join
from icehouse_server.core.geometry.levels import best_level
from icehouse_server.core.geometry.transformers import transformer
from icehouse_server.core.grid import ChunkKey, Grid
from icehouse_server.core.tile_matrix_sets import CRS_OF, corner_of, tile_at

SPECS = read_collections(None)


@given(
    rows=st.integers(1, 5000), cols=st.integers(1, 5000), chunk=st.integers(16, 700), level=st.integers(0, 12)
)
def test_a_level_covers_its_grid_from_the_same_corner(rows, cols, chunk, level):
    grid = Grid(geobox=GeoBox((rows, cols), Affine(2, 0, -1000, 0, -2, 500), "EPSG:3413"), chunk=chunk)
    level = min(level, grid.levels - 1)
    shrunk = grid.shrunk(level)
    box, whole = shrunk.geobox.boundingbox, grid.geobox.boundingbox
    assert (box.left, box.top) == (whole.left, whole.top)
    cell = 2.0 * 2**level
    assert whole.right <= box.right < whole.right + cell
    assert whole.bottom - cell < box.bottom <= whole.bottom
    assert shrunk.chunk == chunk
    last = grid.shrunk(grid.levels - 1)
    assert last.chunk_shape == (1, 1)
    if grid.levels > 1:
        assert math.prod(grid.shrunk(grid.levels - 2).chunk_shape) > 1


@given(
    st.builds(
        ChunkKey,
        collection=st.just("a"),
        level=st.integers(0, 20),
        band=st.sampled_from(["dem", "B4"]),
        time=st.none() | st.integers(0, 10**6),
        row=st.integers(0, 10**6),
        col=st.integers(0, 10**6),
    )
)
def test_a_path_names_its_chunk(key):
    assert ChunkKey.from_path("a", key.path) == key
    assert key.path.startswith(f"{key.array}/c/")


def test_blocks_are_of_one_level():
    keys = [
        ChunkKey(collection="a", level=k, band="b", time=None, row=0, col=c) for k in (0, 2) for c in (0, 1)
    ]
    blocks = join(keys, 4)
    assert {(block.level, block.chunks.pixels) for block in blocks} == {(0, 2), (2, 2)}


# The best level


@given(
    across=st.floats(0.3, 40),
    down=st.floats(0.3, 40),
    turned=st.sampled_from([0, 90, 180]) | st.floats(0, 360),
)
def test_smaller_side_of_a_square_cell_counts_at_any_rotation(across, down, turned):
    spec = SPECS["arcticdem-32m"]
    wanted = math.log2(max(1.0, min(across, down)))
    assume(0.01 < wanted % 1 < 0.99 or wanted == 0)
    place = Affine.translation(-800_000, 900_000) * Affine.rotation(turned)
    target = GeoBox((100, 100), place * Affine.scale(32 * across, -32 * down), "EPSG:3413")
    assert best_level(spec, target) == min(math.floor(wanted), len(spec.grids) - 1)


@given(across=st.integers(0, 4), down=st.integers(0, 4))
def test_on_the_axes_of_a_grid_powers_of_two_are_levels(across, down):
    spec = SPECS["cop-dem-glo-30"]
    affine = Affine.translation(20, 70) * Affine.scale(2**across / 3600, -(2**down) / 3600)
    assert best_level(spec, GeoBox((100, 100), affine, "EPSG:4326")) == min(across, down)


@pytest.mark.parametrize(("zoom", "level"), [(10, 0), (8, 2)])
def test_tiles_of_one_zoom_and_latitude_are_of_one_level(zoom, level):
    tms = "EPSG3413Quad"
    left, top, cell = corner_of(tms, zoom)
    found = []
    for lon in (-45, -22, 0, 22, 45):
        x, y = transformer(CRS_OF["WorldCRS84Quad"], CRS_OF[tms]).transform(lon, 80)
        place = tile_at(tms, zoom, int((top - y) // (256 * cell)), int((x - left) // (256 * cell)))
        found.append(best_level(SPECS["cop-dem-glo-30"], place.geobox()))
    assert found == [level] * 5, "cells of one arc second of latitude are 31 m"
