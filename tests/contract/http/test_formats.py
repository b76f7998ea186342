"""The formats of `/coverage`: what is in them, how they are asked for, ETags and ranges of their bytes."""

from __future__ import annotations

import io
import json
import re
import subprocess
import sys
import zipfile

import numpy as np
import odc.geo.xr  # noqa: F401 - the accessor `.odc`
import pytest
import rasterio
import rasterio.features
import xarray as xr
import zarr
from affine import Affine
from odc.geo.geobox import GeoBox
from rasterio.io import MemoryFile

from icehouse_server.demo.standins import StandIns

LONLAT = "150,65,150.06,65.03"
LEFT, TOP, SIZE = -712_064, 2_650_080, 96
"""A window on the lattice in tile 67_33, away from its border."""
NATIVE = {"bbox": f"{LEFT},{TOP - SIZE * 32},{LEFT + SIZE * 32},{TOP}", "bbox_crs": "EPSG:3413"}
AFFINE = Affine(32, 0, LEFT, 0, -32, TOP)
GEOBOX = {"proj:code": "EPSG:3413", "proj:transform": list(AFFINE)[:6], "proj:shape": [SIZE, SIZE]}
MEDIA = {
    "netcdf": ("nc", "application/x-netcdf"),
    "geotiff": ("tif", "image/tiff; application=geotiff; profile=cloud-optimized"),
    "zarr": ("zarr.zip", "application/vnd.zarr; version=3"),
    "npy": ("npy", "application/x-npy"),
    "png": ("png", "image/png"),
    "json": ("json", "application/prs.coverage+json"),
}


def truth(band="dem", affine=AFFINE, shape=(SIZE, SIZE)):
    return StandIns.truth("arcticdem", "32m", band, affine, shape)[0]


def open_netcdf(content, engine):
    with xr.open_dataset(io.BytesIO(content), engine=engine, mask_and_scale=False, decode_coords="all") as ds:
        return ds.load()


def open_zarr(content, tmp_path):
    path = tmp_path / "answer.zarr.zip"
    path.write_bytes(content)
    store = zarr.storage.ZipStore(path, mode="r")
    with xr.open_zarr(store, mask_and_scale=False, consolidated=True, decode_coords="all") as ds:
        loaded = ds.load()
    store.close()
    return loaded


def read_tif(content, band=1):
    with MemoryFile(content) as file, file.open() as dataset:
        return dataset.read(band), dataset.profile, dataset.tags()


def check_dataset(ds, expected):
    assert ds.dem.dims == ("y", "x")
    assert ds.dem.dtype == np.float32
    np.testing.assert_array_equal(ds.dem.values, expected)
    assert ds.odc.geobox == GeoBox(expected.shape, AFFINE, "EPSG:3413")
    assert ds.dem.attrs["units"] == "m"
    assert ds.dem.attrs.get("_FillValue", ds.dem.encoding.get("_FillValue")) == -9999.0


def test_netcdf(daemon, tmp_path):
    answer = daemon.get("coverage.nc", **NATIVE)
    check_dataset(open_netcdf(answer.content, "h5netcdf"), truth())
    path = tmp_path / "answer.nc"
    path.write_bytes(answer.content)
    with xr.open_dataset(path, engine="netcdf4", mask_and_scale=False, decode_coords="all") as ds:
        check_dataset(ds.load(), truth())


def test_zarr(daemon, tmp_path):
    answer = daemon.get("coverage.zarr.zip", **NATIVE)
    check_dataset(open_zarr(answer.content, tmp_path), truth())
    with zipfile.ZipFile(io.BytesIO(answer.content)) as archive:
        assert archive.testzip() is None
        assert {entry.compress_type for entry in archive.infolist()} == {zipfile.ZIP_STORED}


def test_geotiff(daemon):
    values, profile, tags = read_tif(daemon.get("coverage.tif", **NATIVE).content)
    np.testing.assert_array_equal(values, truth())
    assert profile["crs"].to_epsg() == 3413
    assert profile["transform"] == AFFINE
    assert profile["nodata"] == -9999.0
    assert profile["dtype"] == "float32"
    assert tags["collection"] == "arcticdem-32m"


def test_npy_png_and_json(daemon):
    values = np.load(io.BytesIO(daemon.get("coverage.npy", **NATIVE).content))
    np.testing.assert_array_equal(values, truth()[None])
    with (
        MemoryFile(daemon.get("coverage.png", **NATIVE).content) as file,
        pytest.warns(rasterio.errors.NotGeoreferencedWarning),
        file.open() as dataset,
    ):
        assert dataset.shape == (SIZE, SIZE)
    document = daemon.get("coverage.json", **NATIVE).json()
    found = np.array(document["ranges"]["dem"]["values"], dtype=float).reshape(SIZE, SIZE)
    expected = truth().astype(float)
    np.testing.assert_array_equal(np.nan_to_num(found, nan=-9999), expected)
    assert document["domain"]["axes"]["x"] == {
        "start": LEFT + 16, "stop": LEFT + SIZE * 32 - 16, "num": SIZE
    }  # fmt: skip


@pytest.mark.parametrize("name", MEDIA)
def test_a_format_by_suffix_f_accept_and_head(daemon, name):
    suffix, media = MEDIA[name]
    daemon.get(**NATIVE)
    by_suffix = daemon.get(f"coverage.{suffix}", **NATIVE)
    assert by_suffix.headers["content-type"] == media
    assert by_suffix.headers["content-disposition"] == f'inline; filename="arcticdem-32m.{suffix}"'
    for other in (
        daemon.get(f=name, **NATIVE),
        daemon.get(headers={"accept": media.partition(";")[0]}, **NATIVE),
        daemon.get(f=name, headers={"accept": "application/pdf"}, **NATIVE),
        daemon.http.post(daemon.path("coverage"), json=GEOBOX, params={"f": name}),
        daemon.http.post(daemon.path("coverage"), json=GEOBOX, headers={"accept": media}),
    ):
        assert other.status_code == 200, other.text
        assert other.headers["content-type"] == media
        assert other.content == by_suffix.content
        assert other.headers["etag"] == by_suffix.headers["etag"]
    head = daemon.get(f"coverage.{suffix}", method="HEAD", headers={"range": "bytes=0-3"}, **NATIVE)
    assert head.status_code == 200
    assert head.content == b""
    varying = {"date", "icehouse-request-id", "server-timing"}
    assert {k: v for k, v in head.headers.items() if k not in varying} == {
        k: v for k, v in by_suffix.headers.items() if k not in varying
    }


@pytest.mark.parametrize(
    ("accept", "name"),
    [
        (None, "netcdf"),
        ("*/*", "netcdf"),
        ("image/*", "geotiff"),
        ("image/png", "png"),
        ("image/tiff;q=0.5, image/png;q=0.9", "png"),
        ("application/zip", "zarr"),
        ("text/html, image/tiff", "geotiff"),
        ("application/x-netcdf;q=0, */*;q=0.1", "geotiff"),
    ],
)
def test_accept(daemon, accept, name):
    answer = daemon.get(headers={"accept": accept} if accept else {"accept": ""}, **NATIVE)
    assert answer.headers["content-type"] == MEDIA[name][1]
    assert answer.headers["vary"] == "Accept"


def test_etag_and_304(daemon):
    first = daemon.get("coverage.tif", **NATIVE)
    etag = first.headers["etag"]
    assert re.fullmatch(r'"[0-9a-f]{32}"', etag)
    assert first.headers["cache-control"] == "no-cache"
    for given in (etag, f"W/{etag}", f'"x", {etag}', "*"):
        again = daemon.get("coverage.tif", headers={"if-none-match": given}, **NATIVE)
        assert again.status_code == 304, given
        assert again.content == b""
        assert again.headers["etag"] == etag
        assert again.headers["vary"] == first.headers["vary"]
    assert daemon.get("coverage.tif", headers={"if-none-match": '"x"'}, **NATIVE).status_code == 200
    assert (
        daemon.get("coverage.tif", method="HEAD", headers={"if-none-match": etag}, **NATIVE).status_code
        == 304
    )
    others = [
        daemon.get("coverage.nc", **NATIVE),
        daemon.get("coverage.tif", bands="count", **NATIVE),
        daemon.get("coverage.tif", resampling="cubic", **NATIVE),
        daemon.get("coverage.tif", width="10", **NATIVE),
    ]
    assert len({etag, *(other.headers["etag"] for other in others)}) == 5


def test_ranges(daemon):
    whole = daemon.get("coverage.tif", **NATIVE)
    assert whole.headers["accept-ranges"] == "bytes"
    size = len(whole.content)
    for given, part in (
        ("bytes=0-15", slice(0, 16)),
        ("bytes=100-", slice(100, None)),
        ("bytes=-20", slice(size - 20, None)),
        (f"bytes=10-{size + 99}", slice(10, None)),
    ):
        answer = daemon.get("coverage.tif", headers={"range": given}, **NATIVE)
        start, stop, _ = part.indices(size)
        assert answer.status_code == 206
        assert answer.content == whole.content[part]
        assert answer.headers["content-range"] == f"bytes {start}-{stop - 1}/{size}"
    for given in (f"bytes={size}-", "bytes=-0"):
        answer = daemon.get("coverage.tif", headers={"range": given}, **NATIVE)
        assert answer.status_code == 416
        assert answer.headers["content-range"] == f"bytes */{size}"
        assert answer.json()["kind"] == "range-not-satisfiable"
    for headers in (
        {"range": "bytes=0-1,5-6"},
        {"range": "lines=0-1"},
        {"range": "bytes=5-1"},
        {"range": "bytes=0-1", "if-range": '"x"'},
    ):
        answer = daemon.get("coverage.tif", headers=headers, **NATIVE)
        assert (answer.status_code, answer.content) == (200, whole.content), headers


def test_gdal_reads_the_url(daemon):
    url = f"{daemon.url}{daemon.path('coverage.tif')}?bbox={NATIVE['bbox']}&bbox-crs=EPSG:3413"
    code = (
        "import sys, json, rasterio\n"
        "with rasterio.open('/vsicurl/' + sys.argv[1]) as file:\n"
        "    total = float(file.read(1).sum(dtype=float))\n"
        "    print(json.dumps([file.crs.to_epsg(), *file.transform[:6], total]))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, url], capture_output=True, text=True, check=False, timeout=60,
        env={"NO_PROXY": "127.0.0.1"},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == [3413, *list(AFFINE)[:6], float(truth().sum(dtype=float))]
