"""Our own warp kernel against ``rasterio.warp.reproject`` with an exact transform, which is the oracle.

`support.warps` says how.
"""

import pytest
from affine import Affine
from hypothesis import given, settings
from hypothesis import strategies as st
from odc.geo.geobox import GeoBox

from icehouse_server.core.grid import Grid
from icehouse_server.raster import kernel
from support.warps import (
    AWAY,
    COLS,
    GRIDS,
    KINDS,
    OTHERS,
    ROWS,
    SIDES,
    assert_among,
    band_of,
    noise,
    oracle,
    ours,
)


@settings(max_examples=25, deadline=None)
@given(
    st.sampled_from(OTHERS),
    st.sampled_from(KINDS),
    st.sampled_from(kernel.METHODS),
    st.sampled_from([0.7, 1.0, 1.3, 2.0, 3.3, 7.0]),
)
def test_values_lie_among_those_of_gdal(where, kind, method, scale):
    name, crs = where
    band, grid = band_of(*kind), Grid(geobox=GRIDS[name], chunk=64)
    assert kernel.can_warp(band.dtype, method)
    target = GRIDS[name][40:-40, 40:-40].to_crs(crs).zoom_out(scale)
    values = noise(band, (ROWS, COLS))
    got, _ = ours(values, grid, target, band, method)
    answers = [oracle(values, grid, target, band, method, tolerance=0.0, away=away) for away in SIDES]
    # A piecewise cubic of noise bends by a few times AWAY**2 of its range within the square.
    assert_among(got, answers, band.nodata, curved=0 if method == "nearest" else 40 * AWAY**2)


@pytest.mark.parametrize("method", kernel.METHODS)
def test_a_tile_of_the_other_hemisphere_is_warped(method):
    """Its pixels are larger than the grid: there GDAL does it."""
    grid = Grid(geobox=GRIDS["polar"], chunk=64)
    band = band_of("float32", float("nan"))
    side = 4.8e7 / 256
    target = GeoBox((256, 256), Affine(side, 0, -4.8e7, 0, -side, 4.8e7), "EPSG:3031")
    got, _ = ours(noise(band, (ROWS, COLS)), grid, target, band, method)
    assert got.shape == (256, 256)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("method", kernel.METHODS)
@pytest.mark.parametrize("scale", [0.5, 1.0, 2.0, 3.3])
def test_an_affine_target_equals_gdal(kind, method, scale):
    """There the places are exact, and so are the pixels."""
    band, grid = band_of(*kind), Grid(geobox=GRIDS["utm"], chunk=64)
    affine = grid.geobox.affine * Affine.translation(7.3, 11.2) * Affine.scale(scale)
    target = GeoBox((int(250 / scale), int(300 / scale)), affine, grid.geobox.crs)
    values = noise(band, (ROWS, COLS))
    got, _ = ours(values, grid, target, band, method)
    assert_among(got, [oracle(values, grid, target, band, method, tolerance=0.0)], band.nodata)
