"""Dtypes that GDAL does not warp in: taken as they are by ``nearest``, held to their range by the others."""

import numpy as np
import pytest
from affine import Affine
from odc.geo.geobox import GeoBox

from icehouse_server.core.collection import BandSpec
from icehouse_server.core.geometry.footprint import footprint
from icehouse_server.core.grid import Grid
from icehouse_server.output.warp import warp_piece
from icehouse_server.raster.wide_values import integers, narrowed, widened

GRID = GeoBox((64, 64), Affine(10, 0, 500_000, 0, -10, 7_400_000), "EPSG:32622")
ALL = np.ones((64, 64), dtype=np.bool_)


def noise(dtype):
    limits = np.iinfo(dtype)
    rng = np.random.default_rng(7)
    return rng.integers(limits.min, limits.max, size=(64, 64), endpoint=True, dtype=dtype)


@pytest.mark.parametrize("dtype", ["int64", "uint64"])
def test_halves_make_the_whole(dtype):
    values = noise(dtype)
    parts = widened(values, ALL, "nearest")
    assert len(parts) == 2
    found, valid = narrowed(parts, np.dtype(dtype))
    assert valid.all()
    np.testing.assert_array_equal(found, values)


def test_the_ends_of_64_bits_are_kept():
    numbers = np.array([2.0**63, -(2.0**63), 2.0**70, 0.0])
    np.testing.assert_array_equal(integers(numbers, np.dtype("int64")), [2**63 - 1, -(2**63), 2**63 - 1, 0])
    np.testing.assert_array_equal(integers(numbers, np.dtype("uint64")), [2**63, 0, 2**64 - 1, 0])


@pytest.mark.parametrize("dtype", ["int64", "uint64", "float16"])
@pytest.mark.parametrize("method", ["nearest", "bilinear"])
def test_a_target_is_warped_as_a_dtype_that_gdal_knows(dtype, method):
    values = (np.add.outer(np.arange(64), np.arange(64)) + 1).astype(dtype)
    values[:5] = 0
    target = GeoBox((40, 40), Affine(7, 0, 500_063, 0, -7, 7_399_931), "EPSG:32622")
    grid, found = Grid(geobox=GRID, chunk=64), {}
    for name in (dtype, "float32"):
        band = BandSpec(name="b", dtype=np.dtype(name), nodata=0)
        out = np.zeros(target.shape, dtype=name)
        for piece in footprint(grid, target, (method,), max_chunks=9).pieces:
            part = values[piece.source.slices(grid.window)].astype(name)
            warp_piece(part, piece, grid=grid, target=target, band=band, method=method, out=out)
        found[name] = out
    assert (found[dtype] != 0).any()
    tolerance = {"int64": 0.5, "uint64": 0.5, "float16": 0.05}[dtype] if method == "bilinear" else 0
    np.testing.assert_allclose(found[dtype].astype("float64"), found["float32"], atol=tolerance)
    np.testing.assert_array_equal(found[dtype] == 0, found["float32"] == 0)


@pytest.mark.parametrize("dtype", ["int64", "uint64"])
def test_long_integers_are_taken_as_they_are(dtype):
    values, grid = noise(dtype), Grid(geobox=GRID, chunk=64)
    target = GeoBox((30, 30), Affine(20, 0, 500_015, 0, -20, 7_399_985), "EPSG:32622")
    out = np.zeros(target.shape, dtype=dtype)
    band = BandSpec(name="b", dtype=np.dtype(dtype), nodata=None)
    for piece in footprint(grid, target, ("nearest",), max_chunks=9).pieces:
        part = values[piece.source.slices(grid.window)]
        warp_piece(part, piece, grid=grid, target=target, band=band, method="nearest", out=out)
    assert np.isin(out, values).all()
    assert len(np.unique(out)) > 800
