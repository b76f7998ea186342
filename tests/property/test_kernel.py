"""Our own warp kernel against ``rasterio.warp.reproject`` with an exact transform, which is the oracle.

The kernel's places may be off by ``kernel.TOLERANCE``. So GDAL is asked nine times: for the grid as it lies,
and moved by a little more than that to each side; each of our values lies among these answers.
"""

import numpy as np
import pytest
from affine import Affine
from hypothesis import given, settings
from hypothesis import strategies as st
from odc.geo.geobox import GeoBox

from icehouse_server.core.grid import Grid
from icehouse_server.raster import kernel
from support.warps import COLS, GRIDS, KINDS, OTHERS, ROWS, band_of, noise, oracle, ours

AWAY = 2 * kernel.TOLERANCE
SIDES = [(x * AWAY, y * AWAY) for x in (-1, 0, 1) for y in (-1, 0, 1)]


def is_valid(values, band):
    if band.nodata is None:
        return np.ones(values.shape, dtype=bool)
    return ~np.isnan(values) if np.isnan(band.fill) else values != band.fill


def assert_among(got, answers, band, *, curved=0.0):
    """Each value lies among the answers, give or take how a curve bends between them; so does validity."""
    if band.dtype == np.int8:  # GDAL 3.12 cuts what is below int8 off at -128, and leaves it there
        got = np.where(got == -127, np.int8(-128), got)
        answers = [np.where(answer == -127, np.int8(-128), answer) for answer in answers]
    valid = np.array([is_valid(answer, band) for answer in answers])
    assert (is_valid(got, band) | ~valid.all(axis=0)).all(), "a pixel is missing"
    assert (~is_valid(got, band) | valid.any(axis=0)).all(), "a pixel is too many"
    both = is_valid(got, band) & valid.all(axis=0)
    assert np.mean(both) > 0.1
    known = np.array([answer[both].astype(np.float64) for answer in answers])
    low, high, ours_ = known.min(axis=0), known.max(axis=0), got[both].astype(np.float64)
    size = np.abs(known).max(initial=1.0)
    slack = curved * size + 1e-6 * size
    off = np.maximum(low - ours_, ours_ - high)
    if band.dtype.kind != "f":  # sums in another order turn the scale at .5, once in a while
        assert np.mean(off > slack) <= 0.002
        slack += 1
    assert off.max(initial=0) <= slack


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
    assert_among(got, answers, band, curved=0 if method == "nearest" else 40 * AWAY**2)


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
    assert_among(got, [oracle(values, grid, target, band, method, tolerance=0.0)], band)
