"""What the client hands out can be saved by every writer of xarray, and reads back the same."""

from __future__ import annotations

import importlib.util
import io

import numpy as np
import odc.geo.xr  # noqa: F401 - the accessor `.odc`
import pytest
import rasterio
import xarray as xr
from affine import Affine
from odc.geo.geobox import GeoBox

import icehouse
from icehouse_server.demo.faults import Fault, Status

LEFT, TOP, SIZE = -712_064, 2_650_080, 96
"""A window on the lattice, away from the borders of tiles and of chunks."""
BOX = GeoBox((SIZE, SIZE), Affine(32, 0, LEFT, 0, -32, TOP), "EPSG:3413")
PART = {"x": slice(LEFT, LEFT + SIZE * 32), "y": slice(TOP, TOP - SIZE * 32)}
WRITERS = {
    "netcdf4": {"engine": "netcdf4"},
    "h5netcdf": {"engine": "h5netcdf"},
    "netcdf3": {"engine": "netcdf4", "format": "NETCDF3_64BIT"},
    "scipy": {"engine": "scipy"},
    "zarr2": {"zarr_format": 2, "consolidated": False},
    "zarr3": {"zarr_format": 3, "consolidated": False},
}


@pytest.fixture(scope="module")
def collection(daemon):
    with icehouse.Client(daemon.url, "arcticdem-32m") as client:
        yield client["arcticdem-32m"]


def save(ds, writer, path):
    """Save a dataset and read it back."""
    options = WRITERS[writer]
    if "zarr_format" in options:
        ds.to_zarr(path, **options)
        return xr.open_dataset(path, engine="zarr", consolidated=False, decode_coords="all").load()
    ds.to_netcdf(path, **options)
    with xr.open_dataset(path, engine=options["engine"], decode_coords="all") as back:
        return back.load()


def of_the_file(daemon):
    bounds = f"{LEFT},{TOP - SIZE * 32},{LEFT + SIZE * 32},{TOP}"
    content = daemon.get("coverage.nc", bbox=bounds, bbox_crs="EPSG:3413").content
    return xr.open_dataset(io.BytesIO(content), engine="h5netcdf", decode_coords="all")


MAKERS = {
    "load": lambda collection, _: collection.load(BOX),
    "lazy": lambda collection, _: collection.load(BOX, chunks={"y": 40, "x": 50}),
    "cut": lambda collection, _: collection.load(BOX).isel(x=slice(3, 40), y=slice(None, None, 2)),
    "cube": lambda collection, _: collection.open_zarr().sel(**PART),
    "raw": lambda collection, _: collection.open_zarr(mask_and_scale=False).sel(**PART),
    "level": lambda collection, _: collection.open_zarr(level=2).sel(**PART),
    "dask": lambda collection, _: collection.open_zarr(chunks={}).sel(**PART),
    "rechunked": lambda collection, _: collection.open_zarr(chunks={}).sel(**PART).chunk(y=30, x=47),
    "file": lambda _, daemon: of_the_file(daemon),
}


@pytest.fixture(scope="module", params=list(MAKERS))
def made(request, collection, daemon):
    return MAKERS[request.param](collection, daemon)[["dem"]]


@pytest.mark.parametrize("writer", WRITERS)
def test_every_writer_saves_it(made, writer, tmp_path):
    if writer == "scipy" and importlib.util.find_spec("scipy") is None:
        pytest.skip("scipy is not installed")
    back = save(made, writer, tmp_path / "saved")
    xr.testing.assert_equal(back, made.load())
    assert back.odc.geobox == made.odc.geobox


def test_gdal_places_a_saved_part_of_the_cube(collection, tmp_path):
    collection.open_zarr().sel(**PART)[["dem"]].to_netcdf(tmp_path / "part.nc")
    with rasterio.open(f"netcdf:{tmp_path / 'part.nc'}:dem") as saved:
        assert saved.transform == BOX.affine
        assert saved.crs.to_epsg() == 3413


def test_a_row_of_the_cube_names_its_grid(collection):
    row = collection.open_zarr().sel(**PART).isel(y=slice(7, 8))
    expected = collection.load(BOX[7:8, :])
    xr.testing.assert_equal(collection.load_like(row), expected)


def test_a_dataset_with_holes_is_saved(daemon, place, fresh_standins, tmp_path):
    fresh_standins.faults([Fault(action=Status(status=404), path="*_mad.tif", times=None)])
    with icehouse.Client(daemon.url, "arcticdem-32m") as client:
        box = GeoBox((600, 600), Affine(32, 0, place.left, 0, -32, place.top), "EPSG:3413")
        holed = client.load(box, bands=["dem", "mad"], fail_on_error=False)
    assert holed.attrs["icehouse_failed_chunks"].count("mad/c/") > 1
    for writer in ("netcdf4", "netcdf3", "zarr3"):
        assert save(holed, writer, tmp_path / writer).attrs == holed.attrs


def test_chunks_and_codecs_of_the_store_are_not_handed_on(collection):
    cube = collection.open_zarr()
    assert not set(cube.dem.encoding) & {"chunks", "shards", "compressors", "filters", "serializer"}
    assert cube.dem.encoding["_FillValue"] == -9999
    assert not [name for name in cube.attrs if name == "multiscales" or ":" in name]
    assert np.isclose(cube.x.attrs["resolution"], 32)
