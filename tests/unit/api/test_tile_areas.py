"""Which tiles are said to lie over a collection: each that has a pixel of it, also where the earth ends."""

from __future__ import annotations

from dataclasses import replace

import pytest
import rasterio
from affine import Affine
from odc.geo.geobox import GeoBox

from icehouse_server.api.responses.tile_ranges import tile_ranges
from icehouse_server.api.routes.wmts import capabilities
from icehouse_server.collections import read_collections
from icehouse_server.core.geometry.pixel_chunks import chunk_numbers
from icehouse_server.core.grid import Grid
from icehouse_server.core.tile_matrix_sets import CRS_OF, matrices_of, tile_at, tile_matrix_set, zooms_of
from icehouse_server.testing.fakes import tiny_spec

SPECS = read_collections(None)


def placed(geobox, bbox):
    return replace(tiny_spec(), grid=Grid(geobox=geobox, chunk=256), bbox=bbox)


def lonlat(west, south, east, north, step=0.001, crs="EPSG:4326"):
    shape = round((north - south) / step), round((east - west) / step)
    bbox = ((west + 180) % 360 - 180, south, (east - 180) % -360 + 180, north)
    return placed(GeoBox(shape, Affine(step, 0, west, 0, -step, north), crs), bbox)


def zone(code, west, bbox):
    return placed(GeoBox((400, 600), Affine(1000, 0, west, 0, -1000, 7_800_000), f"EPSG:{code}"), bbox)


PLACES = {
    "arcticdem-2m": SPECS["arcticdem-2m"],
    "rema-10m": SPECS["rema-10m"],
    "cop-dem-glo-30": SPECS["cop-dem-glo-30"],
    "over 180 to the east": lonlat(170, 50, 190, 62),
    "over 180 to the west": lonlat(-190, -62, -170, -50),
    "counted from 0 to 360": lonlat(190, 20, 350, 40),
    "with 180 in its middle": lonlat(170, 35, 190, 40),
    "of another datum": lonlat(-180, -90, 180, 90, 0.001, "EPSG:4258"),
    "zone 1": zone(32601, 50_000, (171.4, 66.3, -173.2, 70.3)),
    "zone 33": zone(32633, 200_000, (6.7, 66.3, 22.9, 70.3)),
}


def next_to(first, last, count):
    """Numbers of tiles that are said to have nothing: at both ends, and just next to those that have."""
    return {0, first - 1, last + 1, count - 1} & ({*range(first), *range(last + 1, count)})


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("tms", CRS_OF)
def test_tiles_that_are_not_said_to_have_pixels_have_none(place, tms):
    spec = PLACES[place]
    ranges, zooms = tile_ranges(spec, tms), zooms_of(spec, tms, 16)
    if zooms is None:
        return
    for zoom in (zooms.last, max(0, zooms.last - 3)):
        tiles, (rows, cols) = ranges[zoom], matrices_of(tms)[zoom]
        for part in (0.001, 0.4, 0.999):
            row = round(tiles.first_row + part * (tiles.last_row - tiles.first_row))
            col = round(tiles.first_col + part * (tiles.last_col - tiles.first_col))
            addresses = [(row, other) for other in next_to(tiles.first_col, tiles.last_col, cols)]
            addresses += [(other, col) for other in next_to(tiles.first_row, tiles.last_row, rows)]
            for address in addresses:
                numbers = chunk_numbers(spec.grid, tile_at(tms, zoom, *address, size=64).geobox())
                assert (numbers < 0).all(), (zoom, address, tiles)


@pytest.mark.parametrize(
    ("place", "tms", "last"),
    [
        ("over 180 to the east", "WebMercatorQuad", 11),
        ("over 180 to the west", "EPSG3031Quad", 10),
        ("over 180 to the west", "WorldCRS84Quad", 10),
        ("with 180 in its middle", "EPSG3413Quad", 9),
        ("counted from 0 to 360", "WorldCRS84Quad", 10),
        ("zone 1", "WebMercatorQuad", 6),
    ],
)
def test_at_180_degrees_zooms_are_those_of_other_places(place, tms, last):
    assert zooms_of(PLACES[place], tms, 16).last == last


@pytest.mark.parametrize("tms", ["WebMercatorQuad", "WorldCRS84Quad"])
@pytest.mark.parametrize("turns", [-1, 0, 1])
def test_no_more_tiles_are_said_than_lie_over_the_grid(tms, turns):
    spec = lonlat(20.01 + 360 * turns, 50.01, 30.01 + 360 * turns, 60.01)
    first, last = (tile_matrix_set(tms).tile(*place, 9) for place in ((20.02, 60), (30, 50.02)))
    found = tile_ranges(spec, tms)[9]
    assert (found.first_row, found.first_col) == (first.y, first.x)
    assert (found.last_row, found.last_col) == (last.y, last.x)


@pytest.mark.parametrize("name", ["cop-dem-glo-30", "rema-32m", "arcticdem-10m"])
def test_gdals_wmts_driver_begins_and_ends_at_180_degrees(name, tmp_path):
    document = tmp_path / "capabilities.xml"
    document.write_bytes(capabilities(SPECS[name], "http://127.0.0.1:1"))
    with rasterio.open(f"WMTS:{document},layer={name},tilematrixset=WebMercatorQuad") as raster:
        bounds, cell = raster.bounds, raster.transform.a
    assert (bounds.left, bounds.right) == pytest.approx((-20037508.342789, 20037508.342789), abs=cell / 100)
