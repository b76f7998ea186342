"""Shaded relief against gdaldem itself, out of the GDAL that rasterio carries."""

from __future__ import annotations

import ctypes
from pathlib import Path

import numpy as np
import pytest
import rasterio
from affine import Affine
from odc.geo.geobox import GeoBox
from pyproj import Geod
from rasterio.io import MemoryFile

from icehouse_server.core.geometry.ground_resolution import ground_resolution
from icehouse_server.core.tile_matrix_sets import tile_at
from icehouse_server.output.hillshade import FLAT, exaggeration, hillshade

ONE = np.float32(1)


def gdaldem(heights, across, down, steeper):
    """`gdaldem hillshade -z steeper` by GDAL's C interface."""
    library = next(Path(rasterio.__path__[0]).parent.joinpath("rasterio.libs").glob("libgdal*"))
    gdal = ctypes.CDLL(str(library))
    gdal.GDALOpen.restype = gdal.GDALDEMProcessing.restype = gdal.GDALDEMProcessingOptionsNew.restype = (
        ctypes.c_void_p
    )
    words = [b"-z", str(steeper).encode(), b"-of", b"GTiff", None]
    arguments = (ctypes.c_char_p * len(words))(*words)
    options = gdal.GDALDEMProcessingOptionsNew(arguments, None)
    profile = {"driver": "GTiff", "dtype": "float32", "count": 1, "crs": "EPSG:3413"}
    rows, cols = heights.shape
    with MemoryFile() as source, MemoryFile() as result:
        with source.open(
            **profile, height=rows, width=cols, transform=Affine(across, 0, 0, 0, -down, 0)
        ) as file:
            file.write(heights, 1)
        dataset = ctypes.c_void_p(gdal.GDALOpen(source.name.encode(), 0))
        made = gdal.GDALDEMProcessing(
            result.name.encode(), dataset, b"hillshade", None, ctypes.c_void_p(options), None
        )
        gdal.GDALClose(ctypes.c_void_p(made))
        gdal.GDALClose(dataset)
        gdal.GDALDEMProcessingOptionsFree(ctypes.c_void_p(options))
        with result.open() as file:
            return file.read(1)[1:-1, 1:-1]


def terrain(rows=80, cols=60, seed=3):
    noise = np.random.default_rng(seed).normal(0, 6, (rows, cols)).cumsum(axis=0).cumsum(axis=1)
    return (noise / 5).astype("float32")


@pytest.mark.parametrize(("across", "down", "steeper"), [(30, 30, 1), (10, 25, 1), (32, 32, 4.5)])
def test_relief_is_gdaldems(across, down, steeper):
    heights = terrain()
    expected = gdaldem(heights, across, down, steeper)
    sides = [np.full((78, 58), side, dtype=np.float32) for side in (across, down, steeper)]
    found = hillshade(heights, np.ones(heights.shape, dtype=bool), *sides)
    assert expected.std() > 20
    # gdaldem takes the inverse root of a table of the processor: to twelve bits.
    assert np.abs(found.astype(int) - expected).max() <= 1


def test_the_edge_of_what_is_known_casts_no_shadow():
    heights = np.full((9, 9), 800, dtype=np.float32)
    valid = np.ones((9, 9), dtype=bool)
    heights[:, 5:], valid[:, 5:] = -9999, False
    ones = np.full((7, 7), 30, dtype=np.float32)
    assert (hillshade(heights, valid, ones, ones, ones / 30)[:, :4] == FLAT).all()


@pytest.mark.parametrize("code", ["EPSG:4326", "EPSG:3857"])
def test_spacing_is_metres_on_the_ground(code):
    step = 0.001 if code == "EPSG:4326" else 100
    left, top = (15.0, 70.0) if code == "EPSG:4326" else (1_669_792.0, 11_068_715.0)
    geobox = GeoBox((64, 32), Affine(step, 0, left, 0, -step, top), code)
    across, down = ground_resolution(geobox)
    box = geobox.extent.to_crs("EPSG:4326").boundingbox
    geod = Geod(ellps="WGS84")
    middle = (box.bottom + box.top) / 2
    assert across.sum(axis=1)[32] == pytest.approx(geod.inv(box.left, middle, box.right, middle)[2], rel=2e-3)
    assert down.sum(axis=0)[16] == pytest.approx(
        geod.inv(box.left, box.bottom, box.left, box.top)[2], rel=2e-3
    )


@pytest.mark.parametrize("tms", ["WebMercatorQuad", "EPSG3413Quad", "WorldCRS84Quad"])
@pytest.mark.parametrize("zoom", [3, 9])
def test_spacing_goes_on_over_the_edges_of_tiles(tms, zoom):
    row, col = (2**zoom // 4, 2**zoom // 3)
    left, right, below = (
        ground_resolution(tile_at(tms, zoom, row + down, col + along).geobox())
        for down, along in ((0, 0), (0, 1), (1, 0))
    )
    for one, two, three in zip(left, right, below, strict=True):
        step = np.abs(np.diff(one, axis=1)).max() + np.abs(np.diff(one, axis=0)).max() + one.max() * 1e-6
        assert np.abs(one[:, -1] - two[:, 0]).max() <= 2 * step
        assert np.abs(one[-1] - three[0]).max() <= 2 * step


def test_heights_are_as_they_are_up_to_thirty_metres():
    assert exaggeration(np.array([[2, 30, 60]], dtype=np.float32)) == pytest.approx(
        np.array([[1, 1, 2**0.4]]), rel=1e-6
    )
