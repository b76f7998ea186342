"""The extent of a grid in degrees: it holds every pixel, and little else."""

from __future__ import annotations

import numpy as np
import pytest
from affine import Affine
from hypothesis import given, settings
from hypothesis import strategies as st
from odc.geo.geobox import GeoBox
from pyproj import Transformer

from icehouse_server.core.geometry.lonlat_bounds import lonlat_bounds


def grid(crs, west, south, east, north):
    return GeoBox((100, 100), Affine((east - west) / 100, 0, west, 0, -(north - south) / 100, north), crs)


def around(crs, x, y, size):
    return grid(crs, x - size / 2, y - size / 2, x + size / 2, y + size / 2)


def points_of(geobox):
    rng = np.random.default_rng(0)
    col, row = rng.random((2, 3000)) * 100
    affine = geobox.affine
    x, y = affine.a * col + affine.c, affine.e * row + affine.f
    return Transformer.from_crs(str(geobox.crs), "OGC:CRS84", always_xy=True).transform(x, y)


@settings(max_examples=60, deadline=None)
@given(
    crs=st.sampled_from(["EPSG:3413", "EPSG:3031", "EPSG:3857", "EPSG:32633", "EPSG:6933"]),
    x=st.floats(-3e6, 3e6),
    y=st.floats(-3e6, 3e6),
    size=st.sampled_from([100.0, 10_000.0, 1_000_000.0]),
)
def test_all_of_a_grid_is_held(crs, x, y, size):
    geobox = around(crs, x, y, size)
    west, south, east, north = lonlat_bounds(geobox).bbox
    assert -180 <= west <= 180
    assert -180 <= east <= 180
    assert -90 <= south < north <= 90
    longitudes, latitudes = points_of(geobox)
    width = 360 if (west, east) == (-180, 180) else (east - west) % 360
    assert ((longitudes - west) % 360 <= width).all()
    assert ((latitudes >= south) & (latitudes <= north)).all()


@pytest.mark.parametrize(
    ("geobox", "bbox"),
    [
        pytest.param(grid("EPSG:4326", -180, -90, 180, 90), (-180, -90, 180, 90), id="the earth"),
        pytest.param(grid("EPSG:4326", 0, -60, 360, 60), (-180, -60, 180, 60), id="from 0 to 360"),
        pytest.param(grid("EPSG:4326", 170, 10, 190, 20), (170, 10, -170, 20), id="degrees across 180"),
        pytest.param(grid("EPSG:4326", -200, 10, -170, 20), (160, 10, -170, 20), id="west of -180"),
        pytest.param(grid("EPSG:4326", 10, 45, 20, 50), (10, 45, 20, 50), id="degrees"),
        pytest.param(
            grid("EPSG:3857", -20037508.342789244, -1e6, 20037508.342789244, 1e6),
            (-180, -8.946574, 180, 8.946574),
            id="around",
        ),
        pytest.param(around("EPSG:3413", 0, 0, 2e6), (-180, 76.998815, 180, 90), id="around the north pole"),
        pytest.param(
            around("EPSG:3031", 0, 0, 2e6), (-180, -90, 180, -77.0373993), id="around the south pole"
        ),
        pytest.param(
            grid("EPSG:3031", 0, 0, 1e6, 1e6), (0, -90, 90, -77.0373993), id="a quarter, the pole its corner"
        ),
        pytest.param(
            grid("EPSG:3031", -1e6, 0, 1e6, 1e6),
            (-90, -90, 90, -77.0373993),
            id="a half, the pole on its edge",
        ),
        pytest.param(
            grid("ESRI:54008", -20015109, -10007555, 20015109, 10007555),
            (-180, -90, 180, 90),
            id="sinusoidal",
        ),
    ],
)
def test_the_extent_is_exact(geobox, bbox):
    assert lonlat_bounds(geobox).bbox == pytest.approx(bbox, abs=2e-5)


def test_the_antimeridian_does_not_make_it_wide():
    west, _, east, _ = lonlat_bounds(around("EPSG:3413", -1_450_000, 1_450_000, 100_000)).bbox
    assert west > 0 > east
    assert (east - west) % 360 < 5


def test_an_edge_that_bends_is_followed():
    """A strip across the pole's meridian is furthest north in the middle of its top edge."""
    geobox = grid("EPSG:3413", -300_000, -2_300_000, 300_000, -2_200_000)
    _, south, _, north = lonlat_bounds(geobox).bbox
    _, latitudes = points_of(geobox)
    assert south <= latitudes.min()
    assert latitudes.max() <= north < latitudes.max() + 0.05
