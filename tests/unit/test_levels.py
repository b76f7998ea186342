"""Levels: grids that shrink, and chunks that name theirs."""

from __future__ import annotations

import math

from affine import Affine
from hypothesis import given
from hypothesis import strategies as st
from odc.geo.geobox import GeoBox

from icehouse_server.core.blocks import join
from icehouse_server.core.grid import ChunkKey, Grid


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
