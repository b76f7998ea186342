"""Search boxes in degrees: they hold the whole window, also at the antimeridian and the poles."""

from __future__ import annotations

import numpy as np
import pytest
from affine import Affine
from hypothesis import given, settings
from hypothesis import strategies as st
from odc.geo.geobox import GeoBox
from pyproj import Transformer

from icehouse_server.sources.stac.search_boxes import search_boxes


def boxed(crs, x, y, size):
    return GeoBox((100, 100), Affine(size / 100, 0, x - size / 2, 0, -size / 100, y + size / 2), crs)


def held(boxes, geobox):
    rng = np.random.default_rng(0)
    col, row = rng.random((2, 2000)) * 100
    affine = geobox.affine
    x, y = affine.a * col + affine.c, affine.e * row + affine.f
    longitudes, latitudes = Transformer.from_crs(str(geobox.crs), "OGC:CRS84", always_xy=True).transform(x, y)
    inside = np.zeros(col.shape, dtype=bool)
    for west, south, east, north in boxes:
        assert -180 <= west <= east <= 180
        assert -90 <= south <= north <= 90
        around = (longitudes >= west) & (longitudes <= east)
        inside |= around & (latitudes >= south) & (latitudes <= north)
    return bool(inside.all())


@settings(max_examples=75, deadline=None)
@given(
    crs=st.sampled_from(["EPSG:3413", "EPSG:3031"]),
    x=st.floats(-3e6, 3e6),
    y=st.floats(-3e6, 3e6),
    size=st.sampled_from([100.0, 10_000.0, 131_072.0, 1_000_000.0]),
)
def test_all_of_a_window_is_held(crs, x, y, size):
    geobox = boxed(crs, x, y, size)
    assert held(search_boxes(geobox), geobox)


def test_the_antimeridian_splits():
    boxes = search_boxes(boxed("EPSG:3413", -1_450_000, 1_450_000, 100_000))
    assert len(boxes) == 2
    assert {box[0] for box in boxes} > {-180.0}
    assert 180.0 in {box[2] for box in boxes}


def test_longitude_zero_does_not():
    (box,) = search_boxes(boxed("EPSG:3413", 1_150_000, -1_150_000, 100_000))
    assert box[0] < 0 < box[2]
    assert box[2] - box[0] < 10


@pytest.mark.parametrize(("crs", "edge"), [("EPSG:3413", 3), ("EPSG:3031", 1)])
def test_a_pole_inside_means_all_longitudes(crs, edge):
    (box,) = search_boxes(boxed(crs, 10_000, 20_000, 200_000))
    assert (box[0], box[2]) == (-180.0, 180.0)
    assert abs(box[edge]) == 90.0


def test_degrees_as_they_are():
    (box,) = search_boxes(boxed("EPSG:4326", 10.0, 50.0, 2.0))
    assert box == pytest.approx((8.96, 48.96, 11.04, 51.04), abs=0.01)
    (box,) = search_boxes(GeoBox((10, 10), Affine(36, 0, -180, 0, -18, 90), "EPSG:4326"))
    assert box == (-180.0, -90.0, 180.0, 90.0)
