"""Loads across the antimeridian, and at the poles, from grids in longitude and latitude.

The oracle is one ``rasterio.warp.reproject`` of a raster that is not cut at 180 degrees: its columns go on,
90 degrees on both sides of the target, and hold the same function of the place.
"""

import numpy as np
import pytest
import rasterio.warp
from affine import Affine
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st
from odc.geo.geobox import GeoBox
from pyproj import Transformer
from rasterio.crs import CRS
from rasterio.enums import Resampling

from icehouse_server.core.collection import BandSpec
from icehouse_server.core.geometry.footprint import aligned_windows, footprint
from icehouse_server.core.grid import Grid
from icehouse_server.output import copy_piece, warp_piece

EVEN = Grid(geobox=GeoBox((900, 1800), Affine(0.2, 0, -180, 0, -0.2, 90), "EPSG:4326"), chunk=16)
"""As many whole columns as go around the earth."""
ODD = Grid(geobox=GeoBox.from_bbox((-180, -90, 180, 90), "EPSG:4326", resolution=0.1993), chunk=16)
"""As the grids of smart-geocubes: no whole number of columns, and the edges stick out beyond 180 degrees."""
BAND = BandSpec(name="b", dtype=np.dtype("float32"), nodata=-1.0)


def few():
    """A sixth of the profile's examples: each warps twice."""
    return settings().max_examples // 6


def place_values(lon, lat):
    """A smooth function of the place, the same 360 degrees further on, far from nodata."""
    lon, lat = np.radians(lon), np.radians(lat)
    return (100 + 40 * np.sin(3 * lon) * np.cos(lat) + 30 * np.cos(20 * lat)).astype(np.float32)


def centres(geobox):
    rows, cols = np.mgrid[0 : geobox.shape[0], 0 : geobox.shape[1]] + 0.5
    a = geobox.affine
    return a.a * cols + a.b * rows + a.c, a.d * cols + a.e * rows + a.f


def raster(geobox):
    lon, lat = centres(geobox)
    return place_values(lon, lat)


VALUES = {id(EVEN): raster(EVEN.geobox), id(ODD): raster(ODD.geobox)}


def ours(grid, target, method):
    under = footprint(grid, target, [method], max_chunks=10**6)
    out = np.full(target.shape, BAND.fill, dtype=np.float32)
    for piece in under.pieces:
        part = VALUES[id(grid)][piece.source.slices(grid.window)]
        if under.aligned:
            copy_piece(part, piece, out=out)
        else:
            warp_piece(part, piece, grid=grid, target=target, band=BAND, method=method, out=out)
    return out, under


def oracle(grid, target, method, *, middle):
    """One warp of a raster on the even grid's lattice, half the earth around a longitude."""
    first = round((middle - 90 + 180) / 0.2)
    uncut = GeoBox((900, 900), grid.geobox.affine * Affine.translation(first, 0), "EPSG:4326")
    out = np.full(target.shape, BAND.fill, dtype=np.float32)
    rasterio.warp.reproject(
        raster(uncut),
        out,
        src_transform=uncut.affine,
        src_crs=CRS.from_epsg(4326),
        src_nodata=-1.0,
        dst_transform=target.affine,
        dst_crs=CRS.from_user_input(str(target.crs)),
        dst_nodata=-1.0,
        resampling=Resampling[method],
        tolerance=0.0,
    )
    return out


def lonlat(target):
    x, y = centres(target)
    if target.crs == "EPSG:4326":
        return x, y
    return Transformer.from_crs(str(target.crs), "EPSG:4326", always_xy=True).transform(x, y)


def chunks_below(grid, target):
    """Chunks under the pixels of a target, sampled four times in each."""
    fine = target.zoom_out(0.25)
    lon, lat = lonlat(fine)
    step = grid.geobox.affine.a
    cols = np.mod(lon - grid.geobox.affine.c, 360) / step
    rows = (grid.geobox.affine.f - lat) / step
    on = (rows >= 0) & (rows < grid.shape[0]) & (cols < grid.shape[1])
    return set(zip(rows[on].astype(int) // grid.chunk, cols[on].astype(int) // grid.chunk, strict=True))


def rim(grid, below):
    """The chunks around others, across the antimeridian too."""
    rows, cols = grid.chunk_shape
    return {
        (row + down, (col + along) % cols)
        for row, col in below
        for down in (-1, 0, 1)
        for along in (-1, 0, 1)
        if 0 <= row + down < rows
    }


def polar(crs, lon, lat, size, step, turn=0):
    x, y = Transformer.from_crs("EPSG:4326", crs, always_xy=True).transform(lon, lat)
    affine = Affine.translation(x, y) * Affine.rotation(turn) * Affine.scale(step, -step)
    return GeoBox((size, size), affine * Affine.translation(-size / 2, -size / 2), crs)


@st.composite
def targets(draw):
    """A target on or near 180 degrees, and the longitude in its middle as it counts itself."""
    lat = draw(st.one_of(st.floats(-85, 85), st.sampled_from([0.0, 67.5, -80.0])))
    lon = draw(st.sampled_from([180.0, -180.0, 179.95, -179.97, 179.0, -178.5]))
    size = draw(st.integers(4, 120))
    step = draw(st.sampled_from([0.026, 0.1, 0.2, 0.46])) * 111_000
    crs = draw(st.sampled_from(["EPSG:4326", "EPSG:3413", "EPSG:3031", "EPSG:32660", "EPSG:32601"]))
    if crs == "EPSG:4326":
        step /= 111_000
        middle = lon + draw(st.sampled_from([0, 0, 360, -360]))
        left = middle - size * step / 2 + draw(st.sampled_from([0.0, 0.006]))
        top = min(89.0, lat + size * step / 2)
        return GeoBox((size, size), Affine(step, 0, left, 0, -step, top), crs), middle
    if crs.startswith("EPSG:326"):
        size = min(size, max(4, int(8e5 / step)))  # as far as a zone is meant to be used
    lat = abs(lat) if crs == "EPSG:3413" else -abs(lat) if crs == "EPSG:3031" else min(78.0, abs(lat))
    lat = np.sign(lat) * max(abs(lat), 55.0) if crs in {"EPSG:3413", "EPSG:3031"} else lat
    return polar(crs, lon, lat, size, step, draw(st.sampled_from([0, 0, 30, 45]))), 180.0


def around_180(crs):
    return polar(crs, 180, 67.65, 100, 3000), 180.0


@settings(max_examples=few())
@given(case=targets(), method=st.sampled_from(["nearest", "bilinear", "average", "cubic"]))
@example(case=around_180("EPSG:3413"), method="bilinear")
@example(
    case=(GeoBox.from_bbox((-180, 67.5, -179.5, 67.8), "EPSG:4326", resolution=0.013), -180), method="nearest"
)
@example(
    case=(GeoBox.from_bbox((179.5, 67.5, 180, 67.8), "EPSG:4326", resolution=0.013), 180), method="nearest"
)
@example(
    case=(GeoBox.from_bbox((179.5, 67.5, 180.5, 67.8), "EPSG:4326", resolution=0.013), 180), method="cubic"
)
def test_pixels_on_both_sides_are_those_of_an_uncut_raster(case, method):
    target, middle = case
    got, under = ours(EVEN, target, method)
    wanted = oracle(EVEN, target, method, middle=middle)
    lon, lat = lonlat(target)
    known = (
        (wanted != -1)
        & np.isfinite(lon)
        & (np.abs(lat) < 88)
        & (np.abs(np.mod(lon - middle + 180, 360) - 180) < 80)
    )
    assert (got[known] != -1).all(), "no hole along the antimeridian"
    reach = {"nearest": 0, "bilinear": 1, "average": 1, "cubic": 2}[method]
    scale = max(1.0, 0.46 / np.cos(np.radians(np.abs(lat[np.isfinite(lat)]).max(initial=0))) / 0.2 * 2)
    away = np.abs(np.mod(lon, 360) - 180) > 0.2 * (reach * scale + 0.5)
    inner = known & (away if reach else known)
    # GDAL takes places to an eighth of a pixel; the function changes by less than 3.5 in one.
    assert np.abs(got[inner] - wanted[inner]).max(initial=0) <= (3.6 if method == "nearest" else 1.0)
    assert np.abs(got[known] - wanted[known]).max(initial=0) <= 8, "kernels end at the antimeridian"
    below = chunks_below(EVEN, target)
    assert set(under.chunks) >= below


@settings(max_examples=few())
@given(case=targets(), method=st.sampled_from(["nearest", "bilinear"]))
def test_overhanging_grid_has_no_hole_and_the_right_values(case, method):
    target, _ = case
    got, _ = ours(ODD, target, method)
    lon, lat = lonlat(target)
    known = np.isfinite(lon) & np.isfinite(lat) & (np.abs(lat) < (84 if "EPSG:32" in str(target.crs) else 88))
    assert (got[known] != -1).all()
    near = place_values(lon[known], lat[known])
    assert np.abs(got[known] - near).max(initial=0) <= 5.0


@settings(max_examples=few())
@given(case=targets(), method=st.sampled_from(["nearest", "bilinear"]))
@example(case=around_180("EPSG:3413"), method="bilinear")
def test_hardly_more_is_read_than_lies_under_the_target(case, method):
    target, _ = case
    under = footprint(EVEN, target, [method], max_chunks=10**6)
    _, lat = lonlat(target)
    below = chunks_below(EVEN, target)
    assume(np.abs(lat[np.isfinite(lat)]).max(initial=0) < 84)  # see the poles
    metres = 111_000 if target.crs == "EPSG:4326" else 1
    assume(target.shape[0] * target.resolution.x * metres < 2e6)  # cells of larger ones are no rectangles
    assert len(under.chunks) <= 1.5 * len(below | rim(EVEN, below))


@pytest.mark.parametrize("lat", [90.0, 89.9, 88.0])
@pytest.mark.parametrize(("crs", "sign"), [("EPSG:3413", 1), ("EPSG:3031", -1)])
@pytest.mark.parametrize("grid", [EVEN, ODD], ids=["even", "odd"])
def test_at_the_poles_every_pixel_has_the_value_of_its_place(grid, crs, sign, lat):
    target = polar(crs, 180.0, sign * lat, 200, 4000)
    got, under = ours(grid, target, "bilinear")
    assert (got != -1).mean() > 0.999
    lon, lat = lonlat(target)
    off = np.abs(got - place_values(lon, lat))[got != -1]
    assert np.percentile(off, 99) < 3
    below = chunks_below(grid, target)
    assert set(under.chunks) >= {place for place in below if place[1] < grid.chunk_shape[1]}
    assert len(under.chunks) <= 1.6 * len(below | rim(grid, below))


@pytest.mark.parametrize("turn", [-360, 0, 360])
def test_on_the_lattice_pixels_are_copied_from_both_ends(turn):
    target = GeoBox((20, 60), Affine(0.2, 0, 174.0 + turn, 0, -0.2, 70), "EPSG:4326")
    got, under = ours(EVEN, target, "bilinear")
    assert under.aligned
    assert len(under.pieces) == 2
    rows = VALUES[id(EVEN)][100:120]
    np.testing.assert_array_equal(got, np.concatenate([rows[:, -30:], rows[:, :30]], axis=1))
    assert len(aligned_windows(EVEN, target)) == 2


def test_where_the_other_end_lies_between_pixels_it_is_resampled():
    window = ODD.geobox[150:170, ODD.shape[1] - 30 :]
    whole, under = ours(ODD, window, "nearest")
    assert under.aligned
    across = GeoBox((20, 60), window.affine, "EPSG:4326")
    got, under = ours(ODD, across, "nearest")
    assert not under.aligned
    np.testing.assert_array_equal(got[:, :28], whole[:, :28])  # of the rest both ends have pixels
    assert (got != -1).all()


def test_longitudes_without_end_are_not_followed():
    target = GeoBox((2, 2), Affine(1e9, 0, -1e9, 0, -1, 60), "EPSG:4326")
    assert len(footprint(EVEN, target, ["nearest"], max_chunks=10**6).pieces) < 100
