"""REMA from the real client: the daemon as a process, the truth from the stand-in world's own functions."""

from __future__ import annotations

import numpy as np
import pytest
from affine import Affine
from odc.geo.geobox import GeoBox
from odc.geo.xr import ODCExtensionDs  # noqa: F401 - registers .odc

CORNERS = {"2m": (2, 3_000_100), "10m": (10, 3_000_100), "32m": (32, 3_000_096)}
"""Pixel size, and how far the lattice begins left of and above 0."""
PLACES = {
    "where two tiles at 32 m meet, over a bare buffer": ("32m", -2_405_000, 1_355_000),
    "next to a tile that does not exist": ("32m", -2_505_000, 1_355_000),
    "on longitude 0 at 32 m": ("32m", -105_000, 1_455_000),
    "on the antimeridian at 32 m": ("32m", -5_000, -205_000),
    "beyond row 60 at 32 m, where there is nothing": ("32m", -2_410_000, 3_198_000),
    "at 10 m": ("10m", -2_402_000, 1_352_000),
    "at 2 m, where four quarters meet": ("2m", -2_400_400, 1_350_400),
}
BANDS = {"dem": -9999, "count": 0, "maxdate": 0}


def window(resolution, x, y, shape):
    """A window of a collection's own grid with its upper left corner near a place."""
    size, corner = CORNERS[resolution]
    column, row = round((x + corner) / size), round((corner - y) / size)
    return GeoBox(shape, Affine(size, 0, size * column - corner, 0, -size, corner - size * row), "EPSG:3031")


@pytest.mark.parametrize("place", PLACES)
def test_pixels_of_the_native_grid_equal_those_of_the_source(shared, standins, place):
    resolution, x, y = PLACES[place]
    geobox = window(resolution, x, y, (389, 401))
    bands = BANDS if "bare" in place else {"dem": -9999}
    found = shared.client(f"rema-{resolution}").load(geobox, bands=list(bands))
    assert found.odc.geobox == geobox
    for band, nodata in bands.items():
        expected = standins.truth("rema", resolution, band, geobox.affine, geobox.shape)[0]
        np.testing.assert_array_equal(found[band].values, expected, err_msg=band)
        assert (expected != nodata).any() != ("nothing" in place)


def test_a_region_in_degrees_comes_on_the_geobox_asked_for(shared):
    geobox = GeoBox.from_bbox((-61, -64.5, -60, -64), shape=(200, 300), crs="EPSG:4326")
    found = shared.client("rema-32m").load(geobox)
    assert found.odc.geobox == geobox
    assert float((found.dem != -9999).mean()) > 0.5
