"""``datetime`` over HTTP, in the client and on the command line: a daemon on a folder of monthly files."""

from __future__ import annotations

import datetime as dt
import io
import json
import os
import subprocess
import sys

import numpy as np
import pytest
import rasterio
import xarray as xr
from affine import Affine
from odc.geo.geobox import GeoBox

import icehouse

ROWS, COLS, CHUNK = 60, 80, 32
AFFINE = Affine(10, 0, 400_000, 0, -10, 5_300_000)
MONTHS = ["20230101", "20230203", "20230228", "20230401"]
"""Of the files: two in February, none in March."""

FILE = """
id = "monthly"
title = "Monthly files"
license = "CC0-1.0"
[grid]
crs = "EPSG:32633"
resolution = 10
bounds = [400000, 5299400, 400800, 5300000]
chunk = 32
[extent]
bbox = [13.6, 47.8, 13.7, 47.9]
[time]
start = "2023-01"
end = "2023-05"
period = "monthly"
[source]
type = "files"
folder = "files"
datetime = { pattern = '_(\\d{8})', format = "%Y%m%d" }
[[bands]]
name = "ndvi"
dtype = "int16"
nodata = -1
scale = 0.0001
"""


def pixels(day):
    rows, cols = np.mgrid[:ROWS, :COLS]
    values = (rows * 97 + cols * 13 + int(day) % 7919).astype("int16") % 9000
    values[(rows + cols + int(day)) % 17 == 0] = -1
    return values


def truth(*numbers):
    """What steps hold: of two files in a month the one whose name comes first, then the other."""
    months = [pixels("20230101"), pixels("20230203"), np.full((ROWS, COLS), -1, "int16"), pixels("20230401")]
    months[1] = np.where(months[1] == -1, pixels("20230228"), months[1])
    return np.stack([months[number] for number in numbers])


@pytest.fixture(scope="module")
def daemon(start_daemon, tmp_path_factory):
    folder = tmp_path_factory.mktemp("monthly")
    (folder / "files").mkdir()
    (folder / "monthly.toml").write_text(FILE)
    for day in MONTHS:
        with rasterio.open(
            folder / "files" / f"ndvi_{day}.tif",
            "w",
            driver="GTiff",
            width=COLS,
            height=ROWS,
            count=1,
            dtype="int16",
            nodata=-1,
            crs="EPSG:32633",
            transform=AFFINE,
        ) as file:
            file.write(pixels(day), 1)
    with start_daemon(
        {"ICEHOUSE_COLLECTIONS_DIR": str(folder), "ICEHOUSE_COLLECTIONS": "monthly"}
    ) as started:
        yield started


@pytest.fixture
def client(daemon):
    with icehouse.Client(daemon.url, "monthly") as made:
        yield made


def ask(daemon, rest="coverage.nc", **query):
    return daemon.http.get(f"/collections/monthly/{rest}", params=query)


@pytest.mark.parametrize(
    ("when", "numbers"),
    [
        (None, (0, 1, 2, 3)),
        ("../..", (0, 1, 2, 3)),
        ("2023-02", (1,)),
        ("2023-02-28T23:59:59Z", (1,)),
        ("2023-03-01T00:00:00Z", (2,)),
        ("2023-03-01T00:30:00+01:00", (1,)),
        ("2023-03-01T00:30:00 01:00", (1,)),  # a plus that was not encoded
        ("2023-02-10T00:00:00.5 00:00/2023-03-01T00:00:00 00:00", (1, 2)),
        ("2023-02-10/2023-03-01T00:00:00Z", (1, 2)),
        ("2023-02-10/..", (1, 2, 3)),
        ("/2023-01", (0,)),
        ("2023-04,2023-01", (0, 3)),
        ("2023", (0, 1, 2, 3)),
    ],
)
def test_datetime_selects_what_it_says(daemon, when, numbers):
    answer = ask(daemon, **({} if when is None else {"datetime": when}))
    assert answer.status_code == 200, answer.text
    with xr.open_dataset(io.BytesIO(answer.content), engine="h5netcdf", mask_and_scale=False) as got:
        assert got["ndvi"].dims == ("time", "y", "x")
        assert (got["time"].dt.month.values - 1).tolist() == list(numbers)
        np.testing.assert_array_equal(got["ndvi"].values, truth(*numbers))


@pytest.mark.parametrize(
    ("when", "nearest"),
    [
        ("2022", "2023-01-01T00:00:00Z/2023-02-01T00:00:00Z"),
        ("2023-05-01T00:00:00Z", "2023-04-01T00:00:00Z/2023-05-01T00:00:00Z"),
        ("2023-02,2030", "2023-04-01T00:00:00Z/2023-05-01T00:00:00Z"),
    ],
)
def test_nothing_is_snapped(daemon, client, when, nearest):
    for rest in ("coverage.tif", "plan", "point"):
        place = {"lon": 13.66, "lat": 47.84} if rest == "point" else {}
        answer = ask(daemon, rest, datetime=when, **place)
        problem = answer.json()
        assert (answer.status_code, problem["kind"]) == (404, "unknown-time"), answer.text
        assert nearest in problem["hint"]
    with pytest.raises(icehouse.NotFound, match="no step"):
        client.load(GeoBox((ROWS, COLS), AFFINE, "EPSG:32633"), datetime=when)


@pytest.mark.parametrize(
    "when", ["", "yesterday", "2023-13", "2023-02-30", "2024/2023", "2023/2024/2025", "2023,"]
)
def test_what_is_no_time_is_named(daemon, when):
    for answer in (
        ask(daemon, datetime=when),
        daemon.http.post("/collections/monthly/seed", params={"datetime": when, "all": "true"}),
    ):
        assert (answer.status_code, answer.json()["parameter"]) == (400, "datetime"), answer.text
    body = {"geometry": {"type": "Point", "coordinates": [0, 0]}, "datetime": when}
    answer = daemon.http.post("/collections/monthly/coverage", json=body)
    assert (answer.status_code, answer.json()["parameter"]) == (422, "datetime"), answer.text


def test_the_client_takes_times_as_its_users_have_them(client):
    box = GeoBox((ROWS, COLS), AFFINE, "EPSG:32633")
    for when, numbers in (
        ("2023-04", (3,)),
        (dt.datetime(2023, 2, 5, tzinfo=dt.UTC), (1,)),
        (np.datetime64("2023-02-05"), (1,)),
        (slice("2023-02", "2023-03"), (1, 2)),
        ((None, dt.date(2023, 1, 5)), (0,)),
        (["2023-01", "2023-04"], (0, 3)),
    ):
        got = client.load(box, datetime=when)
        assert got["time"].dtype == "datetime64[ns]"
        np.testing.assert_array_equal(got["ndvi"].values, truth(*numbers))
        assert got["ndvi"].attrs["scale_factor"] == 0.0001
    assert got.sel(time="2023-04")["ndvi"].shape == (1, ROWS, COLS)
    plan = client.plan(box, datetime="2023-04")
    assert plan.datetime == ("2023-04-01T00:00:00Z/2023-05-01T00:00:00Z",)


def test_lazy_arrays_have_all_steps_and_load_what_is_computed(client):
    box = GeoBox((ROWS, COLS), AFFINE, "EPSG:32633")
    lazy = client.load(box, chunks={"y": 40, "x": 50})
    assert lazy["ndvi"].chunks == ((4,), (40, 20), (50, 30))
    np.testing.assert_array_equal(lazy["ndvi"].isel(time=[1, 3]).values, truth(1, 3))
    assert set(lazy.coords) == {"time", "time_bnds", "y", "x", "spatial_ref"}


@pytest.mark.parametrize(
    ("subset", "numbers", "when"),
    [
        ('time("2023-02")', (1,), "2023-02-01T00:00:00Z"),
        ('time("2023-02-28T24:00:00Z")', (2,), "2023-03-01T00:00:00Z"),
        ('time("2023-01":"2023-02")', (0, 1), "2023-01-01T00:00:00Z/2023-03-01T00:00:00Z"),
        ('time("2023-01-15":"2023-02-28T24:00:00Z")', (0, 1), "2023-01-01T00:00:00Z/2023-03-01T00:00:00Z"),
        ('t(*:"2023-01")', (0,), "2023-01-01T00:00:00Z"),
        ('Time("2023-03":*)', (2, 3), "2023-03-01T00:00:00Z/2023-05-01T00:00:00Z"),
        ("time(*)", (3,), "2023-04-01T00:00:00Z"),
        ("E(400000:400800)", (0, 1, 2, 3), "2023-01-01T00:00:00Z/2023-05-01T00:00:00Z"),
    ],
)
def test_subset_has_time_and_the_header_says_it(daemon, subset, numbers, when):
    answer = ask(daemon, subset=subset, **{"subset-crs": "EPSG:32633"})
    assert answer.status_code == 200, answer.text
    assert answer.headers["content-datetime"] == when
    with xr.open_dataset(io.BytesIO(answer.content), engine="h5netcdf", mask_and_scale=False) as found:
        np.testing.assert_array_equal(found.ndvi, truth(*numbers))


@pytest.mark.parametrize(
    ("query", "status"),
    [
        ({"subset": 'time("2023-02")', "datetime": "2023-02"}, 400),
        ({"subset": "time(2023)"}, 400),
        ({"subset": 'time("spring")'}, 400),
        ({"subset": 'time("2023-02":"2023-01")'}, 400),
        ({"subset": 'time("2031")'}, 404),
    ],
)
def test_a_subset_that_is_no_time_is_refused(daemon, query, status):
    assert ask(daemon, **query).status_code == status


@pytest.mark.parametrize(
    "options",
    [
        {"engine": "netcdf4"},
        {"engine": "h5netcdf"},
        {"engine": "netcdf4", "format": "NETCDF3_64BIT"},
        {"zarr_format": 2, "consolidated": False},
        {"zarr_format": 3, "consolidated": False},
    ],
)
def test_scaled_steps_can_be_saved(client, tmp_path, options):
    cube = client.open_zarr(chunks={}).isel(time=slice(1, 4), x=slice(5, 70)).chunk(time=2, y=17, x=40)
    loaded = client.load(GeoBox((ROWS, COLS), AFFINE, "EPSG:32633")).isel(time=[0, 3], y=slice(4, None))
    for number, ds in enumerate((cube, loaded)):
        path = tmp_path / str(number)
        _ = ds.to_zarr(path, **options) if "zarr_format" in options else ds.to_netcdf(path, **options)
        engine = options.get("engine", "zarr")
        # What `load` gives is as it is stored: not masked, not scaled.
        more = {"consolidated": False} if engine == "zarr" else {}
        with xr.open_dataset(path, engine=engine, mask_and_scale=ds is cube, **more) as back:
            xr.testing.assert_equal(back.ndvi.reset_coords(drop=True), ds.ndvi.reset_coords(drop=True))


def test_a_point_has_values_along_time(daemon, client):
    x, y = AFFINE * (30.5, 20.5)
    found = client.point(x=x, y=y, datetime=slice("2023-01", "2023-03"))
    values = [None if value == -1 else value for value in truth(0, 1, 2)[:, 20, 30].tolist()]
    assert found.values == {"ndvi": values}
    assert found.datetime[0] == "2023-01-01T00:00:00Z/2023-02-01T00:00:00Z"
    body = {"points": [[x, y]], "crs": "EPSG:32633", "datetime": ["2023-01", "2023-03"]}
    many = daemon.http.post("/collections/monthly/point", json=body).json()["points"]
    assert many[0]["values"] == {"ndvi": values[::2]}
    listed = {**body, "datetime": ["2023-01,2023-03"]}  # a text says the same in a list as alone
    assert daemon.http.post("/collections/monthly/point", json=listed).json()["points"] == many


def test_jobs_are_about_steps(client):
    client.truncate().wait(60)
    seeded = client.seed(whole=True, datetime="2023-02/2023-03").wait(60).status()
    assert (seeded.chunks.total, seeded.chunks.fetched) == (2 * 2 * 3, 2 * 2 * 3)
    box = GeoBox((ROWS, COLS), AFFINE, "EPSG:32633")
    chunks = client.plan(box).chunks
    assert (chunks.present, chunks.absent, chunks.void) == (12, 12, 6)
    assert client.truncate(datetime="2023-03").wait(60).status().chunks.dropped == 6
    assert client.refresh().wait(60).status().chunks.fetched == 6


def test_the_command_line_has_datetime(daemon, tmp_path):
    target = tmp_path / "a.tif"
    words = ["load", "monthly", str(target), "--datetime", "2023-01,2023-04", "--json"]
    environment = {name: text for name, text in os.environ.items() if not name.startswith("ICEHOUSE_")}
    run = subprocess.run(
        [sys.executable, "-m", "icehouse_server", *words],
        env={**environment, "ICEHOUSE_URL": daemon.url},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert run.returncode == 0, run.stderr
    assert len(json.loads(run.stdout)["plan"]["datetime"]) == 2
    with rasterio.open(target) as got:
        assert got.descriptions == ("ndvi 2023-01-01T00:00:00Z", "ndvi 2023-04-01T00:00:00Z")
        np.testing.assert_array_equal(got.read(), truth(0, 3))
        assert got.scales == (0.0001, 0.0001)


def test_the_metadata_have_the_time_axis(daemon):
    document = daemon.http.get("/collections/monthly").json()
    assert document["cube:dimensions"]["time"]["step"] == "P1M"
    assert document["extent"]["temporal"]["interval"] == [["2023-01-01T00:00:00Z", "2023-05-01T00:00:00Z"]]
