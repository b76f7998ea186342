"""Outlines of chunks: on the globe, at the poles, across 180 degrees."""

from __future__ import annotations

from itertools import product

import pytest
from affine import Affine
from odc.geo.crs import CRS
from odc.geo.geobox import GeoBox
from pyproj import Transformer
from shapely import Point, union_all
from shapely.geometry import shape

from icehouse_server.api.responses.outlines import outlines
from icehouse_server.core.grid import Grid

LONLAT = CRS("EPSG:4326")


def grid(crs, left, top, size, cells=4, chunk=64):
    affine = Affine(size / chunk, 0, left, 0, -size / chunk, top)
    return Grid(geobox=GeoBox((cells * chunk, cells * chunk), affine, crs), chunk=chunk)


def squares(cells=4):
    return list(product(range(cells), range(cells)))


def test_outlines_in_the_own_crs_are_the_chunks_themselves():
    tall = Grid(geobox=GeoBox((100, 150), Affine(32, 0, -4096, 0, -32, 8192), "EPSG:3413"), chunk=64)
    (found,) = outlines(tall, 64, [(1, 2)], tall.crs)
    west, south, east, north = -4096 + 128 * 32, 8192 - 100 * 32, -4096 + 150 * 32, 8192 - 64 * 32
    ring = [[west, south], [east, south], [east, north], [west, north], [west, south]]
    assert found == {"type": "Polygon", "coordinates": [ring]}, "cut at the grid's edge, counterclockwise"
    assert outlines(tall, 64, [], tall.crs) == []


@pytest.mark.parametrize("crs", ["EPSG:3413", "EPSG:3031"])
@pytest.mark.parametrize("left", [-128e3, -96e3, -64e3, -30e3, 0.0, -200e3, 3e6])
@pytest.mark.parametrize("top", [128e3, 80e3, 64e3])
def test_outlines_on_the_globe_tile_it_and_hold_their_chunks(crs, left, top):
    """Also where the pole lies in a chunk, on its edge or in its corner, and across 180 degrees."""
    g = grid(crs, left, top, 64e3)
    found = [shape(geometry) for geometry in outlines(g, 64, squares(), LONLAT)]
    to = Transformer.from_crs(crs, 4326, always_xy=True)
    for (row, col), outline in zip(squares(), found, strict=True):
        assert outline.is_valid
        assert -180 <= outline.bounds[0] < outline.bounds[2] <= 180
        for piece in getattr(outline, "geoms", [outline]):
            assert piece.exterior.is_ccw
        for part_x, part_y in product((0.03, 0.5, 0.97), repeat=2):
            x, y = left + (col + part_x) * 64e3, top - (row + part_y) * 64e3
            inside = [place for place, other in enumerate(found) if other.covers(Point(*to.transform(x, y)))]
            if max(abs(x), abs(y)) > 1:  # the pole itself is everywhere
                assert row * 4 + col in inside
    together = union_all(found)
    assert sum(outline.area for outline in found) == pytest.approx(together.area, rel=1e-4)


def test_a_chunk_that_holds_the_pole_reaches_up_to_it_all_around():
    (found,) = outlines(grid("EPSG:3413", -32e3, 32e3, 64e3), 64, [(0, 0)], LONLAT)
    assert found["type"] == "Polygon"
    assert shape(found).bounds[0::2] == (-180, 180)
    assert shape(found).bounds[3] == 90


def test_sides_are_drawn_of_as_many_parts_as_they_need():
    g = grid("EPSG:3413", 1e6, 3e6, 64e3, cells=32)
    small, large = (outlines(g, 64 * side, [(0, 0)], LONLAT)[0]["coordinates"][0] for side in (1, 16))
    assert 5 <= len(small) < len(large) <= 4 * 32 + 1
    to = Transformer.from_crs(3413, 4326, always_xy=True)
    middle = to.transform(1e6 + 8 * 64e3, 3e6 - 16 * 64e3)
    assert shape({"type": "LineString", "coordinates": large}).distance(Point(middle)) < 0.01


def test_grids_in_lonlat_are_cut_at_180_and_at_the_poles():
    """As the Copernicus DEM lies: half a pixel over the edge."""
    half = 0.5
    g = Grid(geobox=GeoBox((181, 360), Affine(1, 0, -180 - half, 0, -1, 90 + half), "EPSG:4326"), chunk=60)
    first, second = outlines(g, 60, [(0, 0), (1, 1)], LONLAT)
    assert first["type"] == "MultiPolygon"
    assert shape(first).area == pytest.approx(60 * 59.5)
    assert shape(first).bounds == (-180, 30.5, 180, 90)
    assert shape(second).bounds == (-120.5, -29.5, -60.5, 30.5)
    (whole,) = outlines(g, 60 * 8, [(0, 0)], LONLAT)
    assert shape(whole).area == pytest.approx(360 * 180)


@pytest.mark.parametrize(
    ("left", "top", "crs", "kind"),
    [
        (1e6, 3e6, 3857, "Polygon"),
        (-3e6, 3e6, 3857, "MultiPolygon"),  # across 180 degrees, where that map ends
        (-3e6, 3e6, 3575, "Polygon"),  # and where this one does not
        (-32e3, 32e3, 3575, "Polygon"),  # around the pole
        (-32e3, 32e3, 32633, "Polygon"),
    ],
)
def test_outlines_in_a_third_crs(left, top, crs, kind):
    (found,) = outlines(grid("EPSG:3413", left, top, 64e3), 64, [(0, 0)], CRS(f"EPSG:{crs}"))
    to = Transformer.from_crs(3413, crs, always_xy=True)
    assert found["type"] == kind
    assert shape(found).is_valid
    for part_x, part_y in product((0.05, 0.6, 0.95), repeat=2):
        assert shape(found).contains(Point(to.transform(left + part_x * 64e3, top - part_y * 64e3)))


def test_what_has_no_place_in_a_crs_has_no_geometry():
    assert outlines(grid("EPSG:4326", 105, 1, 1), 64, [(0, 0)], CRS("EPSG:32633")) == [None]
