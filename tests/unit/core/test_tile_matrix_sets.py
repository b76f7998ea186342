"""Where tiles lie, which chunk a pixel lies in, and at which zooms a collection is of use."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from icehouse_server.collections import read_collections
from icehouse_server.core.errors import BadParameterError, UnknownTmsError
from icehouse_server.core.geometry.footprint import footprint
from icehouse_server.core.geometry.levels import best_level
from icehouse_server.core.geometry.pixel_chunks import chunk_numbers, pixels_in
from icehouse_server.core.tile_matrix_sets import (
    CRS_OF,
    Zooms,
    native_tms,
    tile_at,
    tile_matrix_set,
    tile_matrix_sets,
    zooms_of,
)

SPECS = read_collections(None)


@given(st.sampled_from(list(CRS_OF)), st.integers(0, 16), st.data())
def test_a_tile_lies_where_morecantile_has_it(name, zoom, data):
    tms = tile_matrix_sets()[name]
    matrix = tms.matrix(zoom)
    row = data.draw(st.integers(0, matrix.matrixHeight - 1))
    col = data.draw(st.integers(0, matrix.matrixWidth - 1))
    for size in (256, 512):
        geobox = tile_at(name, zoom, row, col, size=size).geobox()
        assert geobox.shape == (size, size)
        expected = tms.xy_bounds(col, row, zoom)
        assert geobox.boundingbox.bbox == pytest.approx(tuple(expected), abs=matrix.cellSize * 1e-6)


def test_the_polar_squares_have_the_cells_of_the_mosaics():
    for name, code in (("EPSG3413Quad", 3413), ("EPSG3031Quad", 3031)):
        tms = tile_matrix_set(name)
        assert tms.crs.to_epsg() == code
        assert [tms.matrix(zoom).cellSize for zoom in (0, 10, 14)] == [32768, 32, 2]
        assert tms.maxzoom == 16
    spec = SPECS["arcticdem-32m"]
    assert spec.grid.aligned_window(tile_at("EPSG3413Quad", 10, 400, 300).geobox()) is not None


def test_an_address_that_is_none_says_what_would_be():
    with pytest.raises(UnknownTmsError) as caught:
        tile_matrix_set("Mercator")
    assert "WebMercatorQuad" in caught.value.hint
    for place, said in (
        ((25, 0, 0), "z: WebMercatorQuad has zooms from 0 to 24, not 25"),
        ((2, 4, 0), "row: at zoom 2 of WebMercatorQuad it is from 0 to 3, not 4"),
        ((2, 0, -1), "col: at zoom 2 of WebMercatorQuad it is from 0 to 3, not -1"),
    ):
        with pytest.raises(BadParameterError) as refused:
            tile_at("WebMercatorQuad", *place)
        assert refused.value.detail == said


def test_native_tile_matrix_sets():
    found = {name: native_tms(SPECS[name]) for name in ("arcticdem-2m", "rema-10m", "tctrend")}
    assert found == {
        "arcticdem-2m": "EPSG3413Quad",
        "rema-10m": "EPSG3031Quad",
        "tctrend": "WorldCRS84Quad",
    }


@pytest.mark.parametrize(
    ("name", "tms", "expected"),
    [
        ("arcticdem-32m", "EPSG3413Quad", Zooms(first=6, last=10)),
        ("arcticdem-2m", "EPSG3413Quad", Zooms(first=7, last=14)),
        ("rema-32m", "EPSG3413Quad", None),
        ("cop-dem-glo-30", "WorldCRS84Quad", Zooms(first=5, last=12)),
        ("cop-dem-glo-30", "EPSG3413Quad", Zooms(first=5, last=12)),
        ("tctrend", "EPSG3413Quad", Zooms(first=0, last=12)),
    ],
)
def test_zooms(name, tms, expected):
    assert zooms_of(SPECS[name], tms, 16) == expected


def test_tiles_of_the_first_zoom_need_at_most_the_allowed_chunks():
    spec = SPECS["arcticdem-32m"]
    first = zooms_of(spec, "EPSG3413Quad", 16).first
    counts = {}
    for zoom in (first - 1, first):
        geobox = tile_at("EPSG3413Quad", zoom, 2**zoom // 3, 2**zoom // 3).geobox(1)
        grid = spec.grids[best_level(spec, geobox)]
        counts[zoom] = len(footprint(grid, geobox, ["bilinear"], max_chunks=4096).chunks)
    assert counts[first] <= 16 < counts[first - 1]


@pytest.mark.parametrize(("name", "place"), [("arcticdem-32m", (12, 1060, 3763)), ("tctrend", (3, 2, 7))])
def test_each_pixel_lies_in_a_chunk_of_its_footprint(name, place):
    spec = SPECS[name]
    geobox = tile_at("WebMercatorQuad", *place).geobox()
    grid = spec.grids[best_level(spec, geobox)]
    numbers = chunk_numbers(grid, geobox)
    chunks = footprint(grid, geobox, ["nearest"], max_chunks=4096).chunks
    inside = pixels_in(grid, numbers, chunks)
    np.testing.assert_array_equal(inside, numbers >= 0)
    assert inside.mean() > 0.9
    alone = pixels_in(grid, numbers, chunks[:1])
    assert 0 <= alone.sum() < inside.sum()


def test_the_antimeridian_is_no_edge():
    spec = SPECS["tctrend"]
    row, cols = 2**9 // 4, 2**9
    west, east = (
        chunk_numbers(spec.grid, tile_at("WebMercatorQuad", 9, row, col).geobox()) for col in (0, cols - 1)
    )
    assert (west >= 0).all()
    assert (east >= 0).all()
    assert not set(np.unique(west)) & set(np.unique(east))
