"""CRSs without their heights, and which of them have to do with each other."""

import pyproj
import pytest
from odc.geo.crs import CRS

from icehouse_server.core.geometry.horizontal import convertible, horizontal, is_map


@pytest.mark.parametrize(
    ("crs", "flat"),
    [
        ("EPSG:7415", "EPSG:28992"),
        ("EPSG:32622+5773", "EPSG:32622"),
        ("EPSG:4979", "EPSG:4326"),
        ("EPSG:4326+5773", "EPSG:4326"),
    ],
)
def test_heights_are_left_out(crs, flat):
    assert pyproj.CRS(horizontal(pyproj.CRS(crs).to_wkt())) == pyproj.CRS(flat)


@pytest.mark.parametrize("crs", ["EPSG:3413", "EPSG:4978", "EPSG:5773", "IAU_2015:30135", "OGC:CRS84"])
def test_what_has_none_stays_as_it_is(crs):
    assert horizontal(crs) == crs


@pytest.mark.parametrize(
    ("crs", "found"),
    [
        ("EPSG:3413", True),
        ("EPSG:4326", True),
        ("+proj=utm +zone=33 +ellps=bessel +towgs84=1,2,3,0,0,0,0", True),
        ("EPSG:7415", False),
        ("EPSG:4979", False),
        ("EPSG:4978", False),
        ("IAU_2015:30135", False),
        ('LOCAL_CS["site",UNIT["metre",1]]', False),
    ],
)
def test_maps_of_the_earth(crs, found):
    assert is_map(CRS(crs)) is found


def test_nothing_leads_from_the_moon_to_the_earth():
    assert not convertible("IAU_2015:30135", "EPSG:3413")
    assert convertible("EPSG:4326", "EPSG:3413")
