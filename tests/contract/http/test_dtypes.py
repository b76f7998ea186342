"""Bands of 64 bits, half floats and samples of 15 bits over HTTP and in the client: a daemon on a folder."""

from __future__ import annotations

import io

import numpy as np
import pytest
import rasterio
import rasterio.warp
import xarray as xr
from affine import Affine
from odc.geo.geobox import GeoBox
from PIL import Image
from rasterio.io import MemoryFile

import icehouse

ROWS, COLS = 40, 50
AFFINE = Affine(10, 0, 400_000, 0, -10, 5_300_000)
GEOBOX = GeoBox((ROWS, COLS), AFFINE, "EPSG:32633")
_ROW, _COL = np.mgrid[:ROWS, :COLS]
NUMBER = _ROW * 100 + _COL + 1
BANDS = {
    "int64": (NUMBER.astype("int64") * 2**49 + 1, 0, {}),
    "uint64": (NUMBER.astype("uint64") * 2**51 + 3, 0, {}),
    "float16": ((NUMBER / 16).astype("float16"), -1, {}),
    "uint16": ((NUMBER * 7 % 32768).astype("uint16"), 0, {"nbits": 15}),
}
"""Name of a collection and of its dtype to pixels, nodata and creation options."""
HOLE = np.s_[3:9, 4:20]

FILE = """
id = "{name}"
title = "{name}"
[grid]
crs = "EPSG:32633"
resolution = 10
bounds = [400000, 5299600, 400500, 5300000]
chunk = 32
[source]
type = "files"
folder = "{name}"
[[bands]]
name = "b"
dtype = "{name}"
nodata = {nodata}
"""


def pixels(name):
    values, nodata, _ = BANDS[name]
    holed = values.copy()
    holed[HOLE] = nodata
    return holed


@pytest.fixture(scope="module")
def daemon(start_daemon, tmp_path_factory):
    folder = tmp_path_factory.mktemp("dtypes")
    for name, (_, nodata, how) in BANDS.items():
        (folder / name).mkdir()
        (folder / f"{name}.toml").write_text(FILE.format(name=name, nodata=nodata))
        profile = {"driver": "GTiff", "width": COLS, "height": ROWS, "count": 1, "dtype": name, **how}
        with rasterio.open(
            folder / name / "a.tif", "w", nodata=nodata, crs="EPSG:32633", transform=AFFINE, **profile
        ) as file:
            file.write(pixels(name), 1)
    wanted = ",".join(BANDS)
    with start_daemon({"ICEHOUSE_COLLECTIONS_DIR": str(folder), "ICEHOUSE_COLLECTIONS": wanted}) as started:
        yield started


def ask(daemon, name, rest, status=200, **query):
    found = daemon.http.get(f"/collections/{name}/{rest}", params=query)
    assert found.status_code == status, found.text
    return found


@pytest.mark.parametrize("name", BANDS)
def test_formats_hold_the_very_numbers(daemon, name):
    with MemoryFile(ask(daemon, name, "coverage.tif").content) as memory, memory.open() as file:
        assert file.dtypes == (name,)
        np.testing.assert_array_equal(file.read(1), pixels(name))
        np.testing.assert_array_equal(file.read_masks(1) != 0, pixels(name) != BANDS[name][1])
    npy = np.load(io.BytesIO(ask(daemon, name, "coverage.npy").content))
    np.testing.assert_array_equal(npy.squeeze(), pixels(name))
    values = ask(daemon, name, "coverage.json").json()["ranges"]["b"]["values"]
    shown = pixels(name) != BANDS[name][1]
    assert [value for value in values if value is not None] == pixels(name)[shown].tolist()


@pytest.mark.parametrize("name", BANDS)
def test_netcdf_holds_all_but_half_floats(daemon, name):
    if name == "float16":
        problem = ask(daemon, name, "coverage.nc", 406).json()
        assert "netcdf holds no float16" in problem["detail"]
        return
    body = ask(daemon, name, "coverage.nc").content
    with xr.open_dataset(io.BytesIO(body), engine="h5netcdf", mask_and_scale=False) as dataset:
        assert dataset["b"].dtype == name
        np.testing.assert_array_equal(dataset["b"].values, pixels(name))


@pytest.mark.parametrize("name", BANDS)
def test_the_client_decodes_them(daemon, name):
    with icehouse.Client(daemon.url, name) as client:
        loaded = client.load(geobox=GEOBOX)
        assert loaded["b"].dtype == name
        np.testing.assert_array_equal(loaded["b"].values, pixels(name))
        lazy = client.open_zarr(mask_and_scale=False)["b"].compute()
        assert lazy.dtype == name
        np.testing.assert_array_equal(np.squeeze(lazy.values)[:ROWS, :COLS], pixels(name))


@pytest.mark.parametrize("name", BANDS)
def test_points_and_pictures(daemon, name):
    row, col = 30, 40
    x, y = AFFINE @ (col + 0.5, row + 0.5)
    found = ask(daemon, name, "point", x=x, y=y).json()
    assert found["values"]["b"] == pixels(name)[row, col].item()
    picture = Image.open(io.BytesIO(ask(daemon, name, "coverage.png").content))
    assert picture.size == (COLS, ROWS)
    lon, lat = (place[0] for place in rasterio.warp.transform("EPSG:32633", "EPSG:4326", [x], [y]))
    tile = tile_of(lon, lat, 14)
    drawn = Image.open(io.BytesIO(ask(daemon, name, f"xyz/14/{tile}.png", rescale="0,1000").content))
    assert np.asarray(drawn.convert("RGBA"))[..., 3].any()


def tile_of(lon, lat, zoom):
    """``x/y`` of the tile of the web's grid that holds a place."""
    size = 2**zoom
    y = (1 - np.arcsinh(np.tan(np.radians(lat))) / np.pi) / 2
    return f"{int((lon + 180) / 360 * size)}/{int(y * size)}"
