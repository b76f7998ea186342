"""Polygons on a circle of longitudes: a turn more changes nothing, nor does a cut at 180 degrees.

The oracle is ``rasterio.features.geometry_mask`` of the polygon in one piece, on the turn of the target.
"""

import numpy as np
import pytest
import shapely
from affine import Affine
from hypothesis import given
from hypothesis import strategies as st
from odc.geo.crs import CRS
from odc.geo.geobox import GeoBox
from pyproj import Transformer
from rasterio.features import geometry_mask
from shapely.affinity import translate
from shapely.geometry import MultiPolygon, Point, box, mapping

from icehouse_server.api.parameters.polygons import extent, parse, placed, project
from icehouse_server.core.geometry.circle import central_meridian, turn_of
from icehouse_server.core.geometry.footprint import footprint
from icehouse_server.core.grid import Grid
from icehouse_server.output import inside

LONLAT = CRS("EPSG:4326")
EAST, WEST = box(0, -90, 180, 90), box(180, -90, 360, 90)
GRID = Grid(geobox=GeoBox((900, 1800), Affine(0.2, 0, -180, 0, -0.2, 90), "EPSG:4326"), chunk=16)


def cut(polygon):
    """A polygon around 180 degrees as RFC 7946 wants it, parsed as a request's."""
    parts = [
        part
        for half, move in ((EAST, 0), (WEST, -360))
        for part in shapely.get_parts(translate(polygon.intersection(half), move))
        if part.geom_type == "Polygon"
    ]
    return parse(mapping(MultiPolygon(parts)))


discs = st.builds(
    lambda lon, lat, radius: Point(lon, lat).buffer(radius, quad_segs=5),
    st.floats(174, 186),
    st.floats(-60, 60),
    st.floats(1, 9),
)
"""Around 180 degrees or next to it, in one piece on longitudes up to 360."""


@given(disc=discs, turn=st.integers(-2, 2))
def test_a_clip_moves_with_its_geobox(disc, turn):
    target = GeoBox(
        (160, 240), Affine(0.13, 0, 165 + turn * 360, 0, -0.13, disc.centroid.y + 10), "EPSG:4326"
    )
    clip = placed(project(cut(disc), LONLAT), target)
    whole = translate(disc, turn * 360)
    np.testing.assert_array_equal(
        inside(target, clip), geometry_mask([whole], target.shape, target.affine, invert=True)
    )


@pytest.mark.parametrize("code", [3413, 3031, 32601, 32760, 3832, 3857, 3338])
@given(disc=discs)
def test_a_cut_at_180_changes_nothing(code, disc):
    """Neither as it is projected nor where it lies; but for the rounding of a pixel on its outline."""
    crs = CRS(f"EPSG:{code}")
    whole = placed_around(shapely.segmentize(disc, 0.01), crs)
    ours = project(cut(disc), crs)
    apart = ours.symmetric_difference(whole).area
    assert apart <= 2e-3 * whole.area


def placed_around(polygon, crs):
    """The same by another way: point by point, cut where the map ends (at 180, or at -30 in EPSG:3832)."""
    move = Transformer.from_crs("EPSG:4326", str(crs), always_xy=True)

    def project_xy(part):
        return shapely.transform(part, lambda xy: np.column_stack(move.transform(xy[:, 0], xy[:, 1])))

    if str(crs) != "EPSG:3857":
        return project_xy(polygon)
    halves = [polygon.intersection(EAST), translate(polygon.intersection(WEST), -360)]
    return shapely.union_all([project_xy(half) for half in halves if not half.is_empty])


@given(disc=discs)
def test_the_extent_of_a_cut_polygon_is_its_own(disc):
    bounds = extent(project(cut(disc), LONLAT), LONLAT, LONLAT)
    west, south, east, north = disc.bounds
    moved = 360 * round((bounds.west - west) / 360)
    np.testing.assert_allclose(
        [bounds.west - moved, bounds.south, bounds.east - moved, bounds.north], [west, south, east, north]
    )


@given(disc=discs)
def test_the_extent_goes_on_beyond_the_edge_of_a_map(disc):
    mercator, polar = CRS("EPSG:3857"), CRS("EPSG:3413")
    polygon = project(cut(disc), mercator)
    bounds = extent(polygon, mercator, polar)
    assert bounds.east - bounds.west == pytest.approx(
        (disc.bounds[2] - disc.bounds[0]) / 360 * turn_of(mercator)
    )
    on_itself = extent(polygon, mercator, mercator)  # such a grid ends where the map does
    assert on_itself.west >= -20_037_509
    assert on_itself.east <= 20_037_509


@given(disc=discs, shift=st.sampled_from([0.0, 0.06]), method=st.sampled_from(["nearest", "cubic"]))
def test_a_clipped_plan_holds_all_that_the_polygon_shows(disc, shift, method):
    target = GeoBox((150, 200), Affine(0.2, 0, 160 + shift, 0, -0.2, disc.centroid.y + 15), "EPSG:4326")
    clip = placed(project(cut(disc), LONLAT), target)
    whole = footprint(GRID, target, [method], max_chunks=10**6)
    part = footprint(GRID, target, [method], max_chunks=10**6, clip=clip)
    assert set(part.chunks) <= set(whole.chunks)
    mask = inside(target, clip)
    rows, cols = np.nonzero(mask)
    lon, lat = target.affine * (cols + 0.5, rows + 0.5)
    under = {
        (int(row) // 16, int(col) // 16)
        for row, col in zip((90 - lat) / 0.2, ((lon + 180) % 360) / 0.2, strict=True)
        if 0 <= row < 900
    }
    assert under <= set(part.chunks)


@pytest.mark.parametrize(
    ("code", "centre", "turn"),
    [
        (4326, None, 360.0),
        (3857, 0.0, 40_075_016.6856),
        (3832, 150.0, 40_075_016.6856),
        (3413, None, None),
        (32633, None, None),
        (3338, -154.0, None),
        (6933, 0.0, 34_735_060.9),
    ],
)
def test_where_a_map_ends(code, centre, turn):
    crs = CRS(f"EPSG:{code}")
    if not crs.geographic:
        assert central_meridian(crs) == (None if centre is None else pytest.approx(centre))
    assert turn_of(crs) == (None if turn is None else pytest.approx(turn, rel=1e-5))
