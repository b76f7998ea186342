"""Pixels end to end, by the client and by coverage.tif, against GDAL's warp of the true mosaic and odc-stac.

The oracle: the truth of the mosaic on its own lattice over a window wide enough, then one call of
`rasterio.warp.reproject`. In the grid's own CRS pixels are equal to it; in others they lie among its answers
for places a hundredth of a pixel around.
"""

from __future__ import annotations

import io
import math
from dataclasses import dataclass

import numpy as np
import odc.stac
import pystac_client
import pytest
import rasterio
import rasterio.warp
from affine import Affine
from odc.geo.geobox import GeoBox
from pyproj import Transformer
from rasterio.enums import Resampling
from rasterio.io import MemoryFile

from icehouse import Client
from icehouse_server.demo.standins import StandIns
from support.warps import AWAY, SIDES, assert_among

LEFT, TOP = -4_000_096, 4_100_096
NODATA = {"dem": -9999.0, "count": 0}
PLACES = {
    "inland": (-750_000, 2_650_000),
    "border": (-700_000, 2_650_000),  # between 67_33, whose buffer is bare here, and 67_34
    "corner": (-700_000, 2_700_000),  # of four tiles
    "bare-north": (-750_000, 2_600_000),  # between 66_33, whose buffer is bare here, and 67_33
    "gap": (-800_000, 2_750_000),  # between 68_33 and 68_32, which does not exist
    "antimeridian": (-1_450_000, 1_450_000),
    "longitude-0": (1_150_000, -1_150_000),
}


@dataclass(frozen=True)
class Target:
    """A geobox around a place."""

    name: str

    def geobox(self, place, size=96):
        x, y = ((round((c - o) / 32)) * 32 + o for c, o in zip(PLACES[place], (LEFT, TOP), strict=True))
        lattice = Affine(32, 0, x - 16 * size, 0, -32, y + 16 * size)
        centre = Affine.translation(size / 2, size / 2)
        affines = {
            "aligned": lattice,
            "half-pixel": lattice @ Affine.translation(0.5, 0.5),
            "finer": lattice @ centre @ Affine.scale(0.5) @ ~centre,
            "coarser": lattice @ centre @ Affine.scale(3.7) @ ~centre,
            "rotated": lattice @ centre @ Affine.rotation(30) @ ~centre,
        }
        if self.name in affines:
            return GeoBox((size, size), affines[self.name], "EPSG:3413")
        step = 0.0005 if self.name == "EPSG:4326" else 40
        move = Transformer.from_crs("EPSG:3413", self.name, always_xy=True)
        cx, cy = move.transform(x, y)
        along = step / math.cos(math.radians(cy)) if self.name == "EPSG:4326" else step
        affine = Affine(along, 0, cx - along * size / 2, 0, -step, cy + step * size / 2)
        return GeoBox((size, size), affine, self.name)


OWN = [Target(name) for name in ("aligned", "half-pixel", "finer", "coarser", "rotated")]
OTHERS = [Target(name) for name in ("EPSG:4326", "EPSG:32655", "EPSG:3995")]


def mosaic(geobox, band):
    """The true mosaic around a geobox, and its affine."""
    box = geobox.footprint("EPSG:3413").boundingbox.buffered(50 * 32)
    col, row = math.floor((box.left - LEFT) / 32), math.floor((TOP - box.top) / 32)
    shape = math.ceil((TOP - box.bottom) / 32) - row, math.ceil((box.right - LEFT) / 32) - col
    affine = Affine(32, 0, LEFT + 32 * col, 0, -32, TOP - 32 * row)
    return StandIns.truth("arcticdem", "32m", band, affine, shape)[0], affine


def oracle(geobox, band, method, away=(0, 0)):
    values, affine = mosaic(geobox, band)
    out = np.empty(geobox.shape, dtype=values.dtype)
    rasterio.warp.reproject(
        values,
        out,
        src_transform=affine @ Affine.translation(*away),
        src_crs="EPSG:3413",
        src_nodata=NODATA[band],
        dst_transform=geobox.affine,
        dst_crs=str(geobox.crs),
        dst_nodata=NODATA[band],
        init_dest_nodata=True,
        resampling=Resampling[method],
        tolerance=0.0,
    )
    return out


@pytest.fixture(scope="session")
def client(daemon):
    with Client(daemon.url, "arcticdem-32m") as made:
        yield made


def as_geotiff(daemon, geobox, band, method):
    body = {
        "proj:code": str(geobox.crs),
        "proj:transform": list(geobox.affine)[:6],
        "proj:shape": list(geobox.shape),
        "bands": [band],
        "resampling": method,
        "level": 0,
    }
    answer = daemon.http.post(daemon.path("coverage"), json=body, params={"f": "geotiff"})
    assert answer.status_code == 200, answer.text
    with MemoryFile(io.BytesIO(answer.content)) as file, file.open() as dataset:
        assert dataset.transform == geobox.affine
        assert dataset.crs == rasterio.crs.CRS.from_user_input(str(geobox.crs))
        return dataset.read(1)


def check(client, daemon, geobox, band, method):
    """Compare what the client and coverage.tif give with the oracle; return the share of valid pixels."""
    expected = oracle(geobox, band, method)
    ds = client.load(geobox, bands=band, resampling=method, level=0)
    assert ds.odc.geobox == geobox
    if geobox.crs == "EPSG:3413":
        np.testing.assert_array_equal(ds[band].values, expected)
    else:
        answers = [oracle(geobox, band, method, away) for away in SIDES]
        assert_among(ds[band].values, answers, NODATA[band], curved=AWAY**2)
    np.testing.assert_array_equal(as_geotiff(daemon, geobox, band, method), ds[band].values)
    return float((expected != NODATA[band]).mean())


@pytest.mark.parametrize("method", ["nearest", "bilinear", "cubic", "average"])
@pytest.mark.parametrize("target", [*OWN, *OTHERS], ids=lambda target: target.name)
def test_inland(client, daemon, target, method):
    assert check(client, daemon, target.geobox("inland"), "dem", method) > 0.5


@pytest.mark.parametrize("method", ["nearest", "average"])
@pytest.mark.parametrize("target", [*OWN, *OTHERS], ids=lambda target: target.name)
def test_integers(client, daemon, target, method):
    assert check(client, daemon, target.geobox("corner"), "count", method) > 0.5


@pytest.mark.parametrize("method", ["nearest", "bilinear"])
@pytest.mark.parametrize("target", [*OWN, OTHERS[1]], ids=lambda target: target.name)
@pytest.mark.parametrize("place", ["border", "corner", "bare-north", "gap"])
def test_where_tiles_meet(client, daemon, place, target, method):
    valid = check(client, daemon, target.geobox(place), "dem", method)
    assert valid > 0.2
    if place == "gap":
        assert valid < 1


@pytest.mark.parametrize("place", ["antimeridian", "longitude-0"])
@pytest.mark.parametrize("name", ["aligned", "rotated", "EPSG:3995", "EPSG:4326"])
def test_on_the_meridians(client, daemon, place, name):
    for method in ("nearest", "bilinear"):
        check(client, daemon, Target(name).geobox(place), "dem", method)


def test_a_lon_lat_geobox_across_180(client, daemon):
    """Longitudes go on beyond 180."""
    geobox = GeoBox.from_bbox((179.9, 70.95, 180.1, 71.05), shape=(60, 80), crs="EPSG:4326")
    assert check(client, daemon, geobox, "dem", "bilinear") > 0.5


def test_warm_is_cold(client, daemon):
    place = daemon.place()
    affine = Affine(25, 3, place.left + 6000, 3, -25, place.top - 6000)
    geobox = GeoBox((80, 90), affine, "EPSG:3413")
    cold = client.load(geobox, bands=["dem", "count"], level=0)
    warm = client.load(geobox, bands=["dem", "count"], level=0)
    assert cold.identical(warm) or (cold.dem.values == warm.dem.values).all()
    np.testing.assert_array_equal(cold["count"].values, oracle(geobox, "count", "nearest"))
    np.testing.assert_array_equal(cold["dem"].values, oracle(geobox, "dem", "bilinear"))


@pytest.mark.parametrize("place", ["inland", "corner"])
@pytest.mark.parametrize("name", ["aligned", "rotated", "EPSG:32655"])
def test_odc_stac_agrees(client, standins, place, name):
    geobox = Target(name).geobox(place)
    items = pystac_client.Client.open(standins.open_stac_url).search(
        collections=["arcticdem-mosaics-v4.1-32m"],
        bbox=list(geobox.pad(8).geographic_extent.boundingbox.bbox),
    )
    loaded = odc.stac.load(
        sorted(items.items(), key=lambda item: item.id),
        bands=["dem"],
        geobox=geobox,
        resampling="nearest",
        groupby=lambda *_: 0,
    )
    theirs = loaded.dem.isel(time=0).values
    ours = client.load(geobox, bands="dem", resampling="nearest").dem.values
    if name == "EPSG:32655":
        # GDAL places pixels to an eighth; odc-stac warps each tile by itself, from another corner.
        assert (ours == theirs).mean() > 0.995
    else:
        np.testing.assert_array_equal(ours, theirs)
