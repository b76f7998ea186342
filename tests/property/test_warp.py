"""GDAL's warp piece by piece against one ``rasterio.warp.reproject`` of the whole grid, which is the oracle.

Our own kernel is switched off here, but where a test says otherwise; test_kernel.py compares it.
"""

from unittest import mock

import numpy as np
import pytest
from affine import Affine
from hypothesis import given, settings
from hypothesis import strategies as st
from odc.geo.geobox import GeoBox
from shapely.geometry import MultiPolygon, Polygon, box

from icehouse_server.core.collection import RESAMPLINGS
from icehouse_server.core.geometry import footprint as core_footprint
from icehouse_server.core.geometry import target_nodes
from icehouse_server.core.geometry.footprint import footprint
from icehouse_server.core.geometry.transformers import transformer
from icehouse_server.core.grid import Grid
from icehouse_server.output import clip, copy_piece, inside, warp, warp_piece
from icehouse_server.raster import kernel
from support.warps import COLS, GRIDS, KINDS, OTHERS, ROWS, band_of, noise, oracle, ours, placed

ULPS = 64
"""Rounding: the same sums in float64 from a nearer origin, seen in the last bits of a result near zero."""


@pytest.fixture(autouse=True, scope="module")
def gdal_alone():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(kernel, "_warp_kernel", None)
        yield


def assert_same(got, wanted, *, exact):
    """Equal to the bit, or to the last bits of float32 where sums are taken in another order."""
    if exact or got.dtype.kind != "f":
        differ = ~((got == wanted) | ((got != got) & (wanted != wanted)))  # noqa: PLR0124
        if got.dtype.kind != "f" and not exact:  # a rounding error can turn the scale at .5, once in a while
            near = np.abs(got.astype(np.float64) - wanted.astype(np.float64)) <= 1
            assert near.all()
            assert differ.sum() <= 1 + differ.size // 1000
            return
        assert not differ.any()
        return
    np.testing.assert_array_equal(np.isnan(got), np.isnan(wanted))
    np.testing.assert_allclose(got, wanted, rtol=ULPS * 1.2e-7, atol=1e-4)


def under_half(grid, target, values, band):
    """Whether hardly half of the target lies on the grid: GDAL halves it until that changes."""
    on = oracle(np.ones_like(values), grid, target, band_of(band.dtype, None), "nearest")
    return np.count_nonzero(on == 1) < 0.6 * on.size


def is_rotated_strip(target):
    """Whether GDAL would widen its kernels by the length of the target and not by its pixels."""
    rows, cols = target.shape
    return not target.axis_aligned and not 0.75 < rows / cols < 1.33


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_a_target_in_the_grids_crs_equals_one_reproject(data):
    name = data.draw(st.sampled_from(sorted(GRIDS)))
    band = band_of(*data.draw(st.sampled_from(KINDS)))
    method = data.draw(st.sampled_from([name for name in RESAMPLINGS if name != "sum"]))
    target = data.draw(placed(name))
    grid = Grid(geobox=GRIDS[name], chunk=64)
    values = noise(band, (ROWS, COLS))
    got, _ = ours(values, grid, target, band, method)
    kernels = method in {"bilinear", "cubic", "cubic_spline", "lanczos"}
    if kernels and (under_half(grid, target, values, band) or is_rotated_strip(target)):
        wanted = oracle(values, grid, target, band, "nearest")
        if band.nodata is None:  # kernels differ there, but no pixel outside the grid gets a value
            assert (got[oracle(np.ones_like(values), grid, target, band, "bilinear") == 0] == 0).all()
        assert got.shape == wanted.shape
        return
    wanted = oracle(values, grid, target, band, method)
    if method != "nearest" and under_half(grid, target, values, band):
        # Of pixels that stick out, GDAL 3.12 gives a value or none by how wide the raster is next to the
        # target (measured: `average` by 7, turned: from 3.1 times on).
        both = (got != band.fill) & (wanted != band.fill) & ~np.isnan(got) & ~np.isnan(wanted)
        got, wanted = got[both], wanted[both]
    assert_same(got, wanted, exact=method == "nearest")


@settings(max_examples=40, deadline=None)
@given(
    st.sampled_from(OTHERS),
    st.sampled_from(KINDS),
    st.sampled_from([name for name in RESAMPLINGS if name != "sum"]),
    st.sampled_from([0.7, 1.0, 2.0, 7.0]),
)
def test_target_in_another_crs_in_one_piece_equals_one_reproject(where, kind, method, scale):
    name, crs = where
    band = band_of(*kind)
    grid = Grid(geobox=GRIDS[name], chunk=64)
    target = GRIDS[name][40:-40, 40:-40].to_crs(crs).zoom_out(scale)
    values = noise(band, (ROWS, COLS))
    got, under = ours(values, grid, target, band, method)
    assert len(under.pieces) == 1
    assert_same(got, oracle(values, grid, target, band, method), exact=method == "nearest")


def ramp(shape):
    rows, cols = np.mgrid[: shape[0], : shape[1]]
    return (3.0 * rows + 2.0 * cols).astype(np.float32)


@pytest.mark.parametrize("method", ["nearest", "bilinear", "cubic", "average"])
@pytest.mark.parametrize("scale", [0.5, 1.0, 2.0])
@pytest.mark.parametrize(
    ("name", "crs"), [("polar", "EPSG:4326"), ("utm", "EPSG:3035"), ("degrees", "EPSG:3857")]
)
def test_target_of_several_pieces_is_off_a_quarter_pixel_at_most(monkeypatch, name, crs, scale, method):
    monkeypatch.setattr(core_footprint, "WARP_TILE", 256)
    grid = Grid(geobox=GRIDS[name], chunk=64)
    band = band_of("float32", float("nan"))
    target = GRIDS[name][40:-40, 40:-40].to_crs(crs, shape=600).zoom_out(scale)
    values = ramp((ROWS, COLS))
    got, under = ours(values, grid, target, band, method)
    assert len(under.pieces) > 1
    wanted = oracle(values, grid, target, band, method)
    both = np.isfinite(got) & np.isfinite(wanted)
    assert np.mean(np.isfinite(got) != np.isfinite(wanted)) < 0.01
    away = np.abs(got[both].astype(np.float64) - wanted[both])
    # An eighth of a pixel each way and each time: 0.25 x (3 + 2); nearest steps to a neighbour instead.
    assert away.max() <= (5.0 if method == "nearest" else 1.26)
    if method == "nearest":
        assert np.mean(away > 0) < 0.08


@pytest.mark.parametrize("scale", [2.0, 3.3, 7.0])
@pytest.mark.parametrize("method", ["bilinear", "cubic", "lanczos"])
def test_pieces_show_no_seams_where_kernels_are_widened(monkeypatch, method, scale):
    monkeypatch.setattr(target_nodes, "NODE_STEP", 4)
    monkeypatch.setattr(core_footprint, "WARP_TILE", 32)
    grid = Grid(geobox=GRIDS["utm"], chunk=64)
    band = band_of("float32", float("nan"))
    side = int(280 / scale)
    affine = grid.geobox.affine * Affine.translation(10.3, 8.6) * Affine.scale(scale)
    target = GeoBox((side, side), affine, grid.geobox.crs)
    values = noise(band, (ROWS, COLS))
    got, under = ours(values, grid, target, band, method)
    assert len(under.pieces) > 1
    assert_same(got, oracle(values, grid, target, band, method), exact=False)


@pytest.mark.parametrize("kind", KINDS)
def test_an_aligned_target_is_a_copy(kind):
    band = band_of(*kind)
    grid = Grid(geobox=GRIDS["polar"], chunk=64)
    values = noise(band, (ROWS, COLS))
    target = grid.geobox[100:150, 60:200]
    got, under = ours(values, grid, target, band, "cubic")
    assert under.aligned
    np.testing.assert_array_equal(got, values[100:150, 60:200])
    neighbour = GeoBox((50, 50), grid.geobox.affine * Affine.translation(-20, -30), grid.geobox.crs)
    got, _ = ours(values, grid, neighbour, band, "nearest")
    np.testing.assert_array_equal(got[30:, 20:], values[:20, :30])
    np.testing.assert_array_equal(got[:30], np.full((30, 50), band.fill))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("method", RESAMPLINGS)
def test_every_method_takes_every_dtype(kind, method):
    band = band_of(*kind)
    grid = Grid(geobox=GRIDS["utm"], chunk=64)
    affine = grid.geobox.affine * Affine.translation(-3.3, -2.7) * Affine.scale(2.0)
    target = GeoBox((40, 40), affine, grid.geobox.crs)
    values = noise(band, (ROWS, COLS))
    got, _ = ours(values, grid, target, band, method)
    assert got.dtype == band.dtype
    np.testing.assert_array_equal(got[0], np.full(40, band.fill))
    assert_same(got, oracle(values, grid, target, band, method), exact=method == "nearest")


def test_nodata_that_float32_does_not_hold_exactly_stays_nodata():
    band = band_of("float32", 0.1)
    grid = Grid(geobox=GRIDS["utm"], chunk=64)
    values = np.full((ROWS, COLS), band.fill)
    values[:, :170] = 5
    target = GeoBox((30, 60), grid.geobox.affine * Affine.translation(140.25, 20.25), grid.geobox.crs)
    got, _ = ours(values, grid, target, band, "bilinear")
    assert set(np.unique(got)) == {np.float32(0.1), np.float32(5)}


def test_valid_average_equal_to_nodata_is_moved_off_it_by_gdal():
    band = band_of("int16", 0)
    grid = Grid(geobox=GRIDS["utm"], chunk=64)
    values = np.where(np.mgrid[:ROWS, :COLS].sum(axis=0) % 2, 10, -10).astype(np.int16)
    target = GeoBox(
        (20, 20), grid.geobox.affine * Affine.translation(20, 20) * Affine.scale(2), grid.geobox.crs
    )
    got, _ = ours(values, grid, target, band, "average")
    assert set(np.unique(got)) in ({1}, {-1})


@settings(max_examples=40, deadline=None)
@given(
    st.sampled_from(OTHERS),
    st.sampled_from([kind for kind in KINDS if kind[1] is not None]),
    st.sampled_from(["nearest", "bilinear", "cubic", "average"]),
    st.sampled_from([0.7, 2.0]),
    st.sampled_from([0, 1, 20, 100]),
)
def test_what_has_no_holes_is_warped_as_with_a_mask(where, kind, method, scale, distance):
    name, crs = where
    band = band_of(*kind)
    grid = Grid(geobox=GRIDS[name], chunk=64)
    # A target that sticks out of the grid, and values whose cubic may come to nodata where they lie near it.
    target = GRIDS[name].to_crs(crs).zoom_out(scale).pad(5)
    nodata = 0.0 if np.isnan(band.fill) else float(band.fill)
    inward = -1 if nodata > 0 else 1
    steps = np.random.default_rng(distance).integers(distance, distance + 24, size=(ROWS, COLS))
    values = (nodata + inward * steps).astype(band.dtype)
    got, _ = ours(values, grid, target, band, method)
    with mock.patch.object(warp, "_far_from", return_value=False):
        wanted, _ = ours(values, grid, target, band, method)
    assert_same(got, wanted, exact=True)


WORLD = GeoBox((900, 1800), Affine(0.2, 0, -180, 0, -0.2, 90), "EPSG:4326")
ARCTIC = GeoBox((1100, 1100), Affine(8000, 0, -4400000, 0, -8000, 4400000), "EPSG:3413")
HARD = [
    (ARCTIC, GeoBox((2, 4), Affine(90, 0, -180, 0, -90, 90), "EPSG:4326")),
    (ARCTIC, GeoBox((1, 3), Affine(120, 0, -180, 0, -35, 90), "EPSG:4326")),
    (ARCTIC, GeoBox((6, 12), Affine(30, 0, -180, 0, -30, 90), "EPSG:4326")),
    (ARCTIC, GeoBox((7, 72), Affine(5, 0, -180, 0, -5, 90), "EPSG:4326")),
    (ARCTIC, GeoBox((360, 720), Affine(0.5, 0, -180, 0, -0.5, 90), "EPSG:4326")),
    (ARCTIC, GeoBox((10, 20), Affine(1, 0, 170, 0, -1, 75), "EPSG:4326")),
    (WORLD, GeoBox((6, 6), Affine(1e6, 0, -3e6, 0, -1e6, 3e6), "EPSG:3413")),
    (WORLD, GeoBox((30, 30), Affine(2e5, 0, -2.8e6, 0, -2e5, 3.2e6), "EPSG:3413")),
    (WORLD, GeoBox((30, 30), Affine(2e5, 0, -3e6, 0, -2e5, 3e6), "EPSG:3031")),
    (WORLD, GeoBox((300, 300), Affine(2e4, 0, -3e6, 0, -2e4, 3e6), "EPSG:3031")),
    (WORLD, GeoBox((100, 100), Affine(2e3, 0, 7e5, 0, -2e3, 7.3e6), "EPSG:32660")),
]


@pytest.mark.parametrize(("geobox", "target"), HARD)
def test_footprint_holds_every_pixel_at_poles_and_antimeridian(geobox, target):
    grid = Grid(geobox=geobox, chunk=64)
    under = footprint(grid, target, ["nearest"], max_chunks=10**6)
    many = max(1, min(9, 600 // max(target.shape)))  # points in a pixel, each way
    col, row = np.meshgrid(*((np.arange(size * many) + 0.5) / many for size in reversed(target.shape)))
    a, g = target.affine, ~geobox.affine
    x, y = transformer(target.crs, geobox.crs).transform(a.a * col + a.c, a.e * row + a.f)
    cols, rows = g.a * x + g.c, g.e * y + g.f
    height, width = geobox.shape
    on = np.isfinite(cols) & np.isfinite(rows) & (cols >= 0) & (rows >= 0) & (cols < width) & (rows < height)
    found = np.zeros(on.shape, dtype=bool)
    for piece in under.pieces:
        s = piece.source
        here = (col >= piece.target.col) & (col < piece.target.stop_col)
        here &= (row >= piece.target.row) & (row < piece.target.stop_row)
        here &= (cols >= s.col) & (cols < s.stop_col) & (rows >= s.row) & (rows < s.stop_row)
        found |= here
    assert on.any()
    assert not (on & ~found).any()


@pytest.mark.parametrize(("geobox", "target"), HARD[4:])
def test_pixels_at_poles_and_antimeridian_match_their_centres(geobox, target):
    grid = Grid(geobox=geobox, chunk=64)
    band = band_of("float32", float("nan"))
    height, width = geobox.shape
    values = np.arange(height * width, dtype=np.float32).reshape(height, width)
    got, _ = ours(values, grid, target, band, "nearest")
    a, g = target.affine, ~geobox.affine
    col, row = np.meshgrid(*(np.arange(size) + 0.5 for size in reversed(target.shape)))
    x, y = transformer(target.crs, geobox.crs).transform(a.a * col + a.c, a.e * row + a.f)
    cols, rows = g.a * x + g.c, g.e * y + g.f
    valid = np.isfinite(got)
    assert np.mean(valid) > 0.1
    # Rows and columns of what was taken, against exact geometry: half a pixel, and GDAL's eighth.
    rows_off = np.abs(np.floor(got[valid] / width) + 0.5 - rows[valid])
    cols_off = np.abs(got[valid] % width + 0.5 - cols[valid])
    cols_off = np.minimum(cols_off, np.abs(width - cols_off)) if geobox is WORLD else cols_off
    assert np.percentile(rows_off, 99) < 0.75
    assert np.percentile(cols_off, 95) < 1.0


def test_a_strip_across_the_grid_is_not_smeared_along_itself():
    grid = Grid(geobox=GRIDS["utm"], chunk=64)
    band = band_of("float32", float("nan"))
    affine = grid.geobox.affine * Affine.translation(170, 20) * Affine.rotation(90)
    target = GeoBox((4, 240), affine * Affine.translation(0.25, 0.25), grid.geobox.crs)
    rows = np.broadcast_to(np.sin(np.arange(ROWS) / 6.0)[:, None], (ROWS, COLS)).astype(np.float32)
    under = footprint(grid, target, ["bilinear"], max_chunks=10**6)
    assert sum(piece.source.width for piece in under.pieces) < 30
    got, _ = ours(np.ascontiguousarray(rows), grid, target, band, "bilinear")
    assert np.ptp(got) > 1.8
    assert np.ptp(oracle(np.ascontiguousarray(rows), grid, target, band, "bilinear")) < 1.0


def test_shapes_that_do_not_fit_are_refused():
    band = band_of("uint8", 0)
    grid = Grid(geobox=GRIDS["utm"], chunk=64)
    target = GRIDS["utm"][0:10, 0:10]
    piece = footprint(grid, target, ["nearest"], max_chunks=9).pieces[0]
    with pytest.raises(ValueError, match="values has shape"):
        copy_piece(np.zeros((3, 3), np.uint8), piece, out=np.zeros((10, 10), np.uint8))
    with pytest.raises(ValueError, match="out has shape"):
        warp_piece(
            np.zeros((10, 10), np.uint8),
            piece,
            grid=grid,
            target=target,
            band=band,
            method="nearest",
            out=np.zeros((9, 10), np.uint8),
        )


def test_clip_keeps_what_lies_inside_a_polygon():
    geobox = GeoBox((10, 10), Affine(1, 0, 0, 0, -1, 10), "EPSG:32633")
    values = np.ones((10, 10), np.float32)
    square = box(2, 2, 5, 5)
    clip(values, inside(geobox, square), np.float32("nan"))
    assert np.isfinite(values).sum() == 9
    assert np.isfinite(values[5:8, 2:5]).all()
    slim = box(2.1, 2.1, 2.2, 2.2)
    assert inside(geobox, slim).sum() == 0
    assert inside(geobox, slim, all_touched=True).sum() == 1
    assert inside(geobox, Polygon()).sum() == 0
    hole = MultiPolygon(
        [Polygon(box(0, 0, 10, 10).exterior.coords, [square.exterior.coords]), box(3, 3, 4, 4)]
    )
    assert inside(geobox, hole).sum() == 100 - 9 + 1
