"""Collections with a time axis, from a region to every format: repository, jobs, rolling ends, encoders."""

from __future__ import annotations

import io
import json
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta

import numpy as np
import pytest
import rasterio
import xarray as xr
import zarr
from PIL import Image

from icehouse._dataset import build
from icehouse._wire import decode
from icehouse_server.api.routes.collections import collection_document
from icehouse_server.core.collection import BandSpec
from icehouse_server.core.errors import (
    BadParameterError,
    NotCachedError,
    RepositoryForeignError,
    TooLargeError,
)
from icehouse_server.core.grid import Window
from icehouse_server.core.limits import Limits
from icehouse_server.core.plan import Region
from icehouse_server.core.time import Period, TimeAxis, TimeStep
from icehouse_server.downloads import Downloads, DownloadSettings, RetryPolicy
from icehouse_server.output import encode
from icehouse_server.service import (
    CoverageRequest,
    JobKind,
    Jobs,
    JobSettings,
    JobSpec,
    ServiceParts,
    ServiceSettings,
)
from icehouse_server.store import Store, StoreSettings
from icehouse_server.testing.fakes import ScriptedSource, Truth, keys_of, tiny_spec
from support.coverages import joined
from support.services import open_services
from support.stores import open_store


def day(number, month=1):
    return datetime(2020, month, number, tzinfo=UTC)


YEARS = TimeAxis(
    start=datetime(2017, 1, 1, tzinfo=UTC),
    period=Period.parse("yearly"),
    end=datetime(2021, 1, 1, tzinfo=UTC),
)
SPEC = tiny_spec(chunk=32, time=YEARS)
TRUTH = Truth(spec=SPEC)
WINDOW = Window(row=20, col=40, height=50, width=60)  # 3 x 3 chunks


@dataclass
class Daemon:
    service: ServiceParts
    repositories: Store
    downloads: Downloads
    source: ScriptedSource
    spec: object

    @property
    def store(self):
        return self.repositories.collection(self.spec.id)

    async def load(self, times, window=WINDOW, bands=("dem",), level=0, **options):
        region = Region(
            collection=self.spec,
            bands=self.spec.select(bands),
            target=self.spec.grids[level].geobox_of(window),
            times=times,
            level=level,
        )
        answer = await self.service.coverages.coverage(CoverageRequest(region=region, **options))
        answer.close()
        return answer.coverage

    def truth(self, times, band="dem", window=WINDOW, level=0):
        steps = [self.spec.time.step(time) for time in times]
        pixels = self.source.truth.pixels
        return np.stack([pixels(self.spec.band(band), window, step, level) for step in steps])


@asynccontextmanager
async def daemon(folder, pool, spec=SPEC, **limits):
    kept = StoreSettings(decoded_cache_bytes=10**7, write_timeout=20)
    fetching = DownloadSettings(block_side=2 * spec.grid.chunk, failure_ttl=0, retry=RetryPolicy(attempts=1))
    chosen = ServiceSettings(request_timeout=20, disk_floor=0, limits=Limits(**limits))
    source = ScriptedSource(truth=Truth(spec=spec))
    async with open_services(
        folder, [spec], {spec.id: source}, pool=pool, store=kept, downloads=fetching, service=chosen
    ) as made:
        assert not made.store.set_aside, made.store.set_aside
        yield Daemon(made.service, made.store, made.downloads, source, spec)


@pytest.mark.parametrize("times", [(0,), (2,), (0, 1, 2, 3), (1, 3)])
async def test_steps_come_as_they_are_at_the_source(tmp_path, pool, times):
    async with daemon(tmp_path, pool) as d:
        for _ in ("cold", "warm"):
            coverage = await d.load(times, bands=("dem", "mask"))
            for band in ("dem", "mask"):
                assert coverage.bands[band].shape == (len(times), 50, 60)
                np.testing.assert_array_equal(coverage.bands[band], d.truth(times, band))
        assert set(d.source.reads.values()) == {1}
        assert {request.step for request in d.source.requests} == {SPEC.time.step(time) for time in times}
        assert {key.time for key in d.source.reads} == set(times)
    async with daemon(tmp_path, pool) as d:  # as the repository holds them
        np.testing.assert_array_equal((await d.load(times)).bands["dem"], d.truth(times))
        assert not d.source.requests


async def test_steps_differ_so_these_tests_can_fail(tmp_path, pool):
    async with daemon(tmp_path, pool) as d:
        first, second = d.truth((0, 1))
        assert (first != second).mean() > 0.5


async def test_a_warped_region_has_its_steps(tmp_path, pool):
    async with daemon(tmp_path, pool) as d:
        target = SPEC.grid.geobox_of(WINDOW).zoom_out(2.5)
        region = Region(collection=SPEC, bands=SPEC.select(["mask"]), target=target, times=(1, 2))
        both = (await d.service.coverages.coverage(CoverageRequest(region=region))).coverage.bands["mask"]
        for number, time in enumerate((1, 2)):
            alone = await d.service.coverages.coverage(CoverageRequest(region=replace(region, times=(time,))))
            np.testing.assert_array_equal(alone.coverage.bands["mask"][0], both[number])


async def test_limits_count_steps(tmp_path, pool):
    async with daemon(tmp_path, pool, max_output_pixels=3 * 50 * 60) as d:
        await d.load((0, 1, 2))
        with pytest.raises(TooLargeError, match=r"at 4 time step\(s\)"):
            await d.load((0, 1, 2, 3))
    async with daemon(tmp_path / "b", pool, max_chunks=17) as d:
        await d.load((0,))
        with pytest.raises(TooLargeError, match="18"):
            await d.load((0, 1))


async def test_the_repository_reads_as_a_cube_with_time(tmp_path, pool):
    async with daemon(tmp_path, pool) as d:
        await d.load((1, 3))
        async with d.store.lease() as lease:
            cube = xr.open_zarr(lease.session.store, consolidated=False, mask_and_scale=False)
            assert cube["dem"].dims == ("time", "y", "x")
            assert list(cube["time"].dt.year) == [2017, 2018, 2019, 2020]
            assert cube["time"].attrs["standard_name"] == "time"
            bounds = cube["time_bnds"].values.astype("datetime64[D]")
            assert [str(edge) for edge in bounds[3]] == ["2020-01-01", "2021-01-01"]
            area = {"time": [1, 3], "y": slice(20, 70), "x": slice(40, 100)}
            np.testing.assert_array_equal(cube["dem"].isel(area), d.truth((1, 3)))
            fill = cube["dem"].isel(area | {"time": [0, 2]})
            assert (fill == SPEC.band("dem").fill).all()


async def test_rolling_end_grows_at_runtime_and_nothing_is_rewritten(tmp_path, pool):
    now = datetime.now(UTC)
    second = Period(rest=timedelta(seconds=1))
    axis = TimeAxis(start=now.replace(microsecond=0) - timedelta(seconds=5), period=second)
    spec = tiny_spec(chunk=32, time=axis)
    async with daemon(tmp_path, pool, spec) as d:
        await d.load((0, 1))
        before, held = d.store.snapshot, set(d.store.index.keys())
        async with d.store.lease(before) as lease:
            was = xr.open_zarr(lease.session.store, consolidated=False).sizes["time"]
        later = (
            was + 3
        )  # it has not passed; the axis tells who asks over HTTP, and the store takes what comes
        await d.load((later,))
        assert held < set(d.store.index.keys())
        async with d.store.lease() as lease:
            cube = xr.open_zarr(lease.session.store, consolidated=False)
            assert cube.sizes["time"] == later + 1
            times = cube["time"].values.astype("datetime64[s]").astype(int)
            assert list(np.diff(times)) == [1] * later
        np.testing.assert_array_equal((await d.load((0, 1, later))).bands["dem"], d.truth((0, 1, later)))
        with pytest.raises(NotCachedError):  # the past knows nothing of it
            await d.load((later,), snapshot=before)
        past = await d.load((0, later), snapshot=before, fail_on_error=False)
        assert {chunk.chunk.split("/")[2] for chunk in past.failed} == {str(later)}
    async with daemon(tmp_path, pool, spec) as d:
        np.testing.assert_array_equal((await d.load((1, later))).bands["dem"], d.truth((1, later)))
        assert not d.source.requests


async def test_steps_added_to_the_file_extend_the_repository_at_start(tmp_path, pool):
    async with daemon(tmp_path, pool) as d:
        await d.load((3,))
    longer = replace(SPEC, time=replace(YEARS, end=datetime(2025, 1, 1, tzinfo=UTC)))
    async with daemon(tmp_path, pool, longer) as d:
        np.testing.assert_array_equal((await d.load((3, 7))).bands["dem"], d.truth((3, 7)))
        assert {key.time for key in d.source.reads} == {7}


SMALL = Window(row=3, col=4, height=40, width=40)


async def test_levels_are_kept_apart_and_each_is_a_cube(tmp_path, pool):
    async with daemon(tmp_path, pool) as d:
        for level in (2, 0, 1):
            window = SMALL.intersection(SPEC.grids[level].window)
            got = await d.load((1, 2), window, level=level)
            np.testing.assert_array_equal(got.bands["dem"], d.truth((1, 2), window=window, level=level))
        assert {key.level for key in d.source.reads} == {0, 1, 2}
        assert set(d.source.reads.values()) == {1}
        past = d.store.snapshot
        async with d.store.lease() as lease:
            cube = xr.open_zarr(lease.session.store, group="2", consolidated=False, mask_and_scale=False)
            rows, cols = SPEC.grids[2].shape
            assert dict(cube.sizes) == {"time": 4, "y": rows, "x": cols, "bnds": 2}
            window = SMALL.intersection(SPEC.grids[2].window)
            area = {"time": [1, 2], "y": slice(3, window.stop_row), "x": slice(4, window.stop_col)}
            np.testing.assert_array_equal(cube["dem"].isel(area), d.truth((1, 2), window=window, level=2))
            assert float(cube["x"][1] - cube["x"][0]) == 4 * SPEC.grid.geobox.affine.a
        with pytest.raises(NotCachedError):  # of a level that its repository does not have
            await d.load((1,), Window(row=0, col=0, height=5, width=5), level=3, snapshot=past)
    async with daemon(tmp_path, pool) as d:
        window = SMALL.intersection(SPEC.grids[2].window)
        got = await d.load((1, 2), window, level=2)
        np.testing.assert_array_equal(got.bands["dem"], d.truth((1, 2), window=window, level=2))
        assert not d.source.requests
    longer = replace(SPEC, time=replace(YEARS, end=datetime(2023, 1, 1, tzinfo=UTC)))
    async with daemon(tmp_path, pool, longer) as d:  # a new step and a new band reach all levels
        got = await d.load((1, 5), window, level=2)
        np.testing.assert_array_equal(got.bands["dem"], d.truth((1, 5), window=window, level=2))


LISTED = TimeAxis(listed=(TimeStep(start=day(1), end=day(5)), TimeStep(start=day(5), end=day(20))))


@pytest.mark.parametrize(
    ("first", "second"),
    [
        (YEARS, None),
        (None, YEARS),
        (YEARS, replace(YEARS, start=datetime(2016, 1, 1, tzinfo=UTC))),
        (YEARS, replace(YEARS, period=Period.parse("P2Y"))),
        (LISTED, TimeAxis(listed=LISTED.listed[:1])),
        (LISTED, TimeAxis(listed=(LISTED.listed[0], TimeStep(start=day(6), end=day(20))))),
    ],
)
async def test_an_axis_that_changed_is_refused_and_left(tmp_path, pool, first, second):
    settings = StoreSettings(decoded_cache_bytes=10**6)
    async with open_store(tmp_path, [tiny_spec(time=first)], settings, pool=pool) as store:
        assert not store.set_aside
    with pytest.raises(RepositoryForeignError, match="left untouched"):
        async with open_store(tmp_path, [tiny_spec(time=second)], settings, pool=pool):
            pass
    async with open_store(tmp_path, [tiny_spec(time=first)], settings, pool=pool) as store:
        assert not store.set_aside


async def test_a_list_of_steps_may_gain_some_at_its_end(tmp_path, pool):
    async with daemon(tmp_path, pool, tiny_spec(time=LISTED)) as d:
        await d.load((1,))
    more = TimeAxis(listed=(*LISTED.listed, TimeStep(start=day(25), end=day(1, 2))))
    async with daemon(tmp_path, pool, tiny_spec(time=more)) as d:
        np.testing.assert_array_equal((await d.load((1, 2))).bands["dem"], d.truth((1, 2)))
        assert {key.time for key in d.source.reads} == {2}


async def test_jobs_are_about_the_steps_that_are_named(tmp_path, pool):
    async with daemon(tmp_path, pool) as d:
        jobs = Jobs(d.repositories, d.downloads, d.service.disk_guard, JobSettings(), pool=pool)
        try:
            bands, target = SPEC.select(["dem"]), SPEC.grid.geobox_of(WINDOW)

            async def done(kind, times):
                order = JobSpec(kind=JobKind(kind), collection=SPEC, bands=bands, times=times, target=target)
                job = await jobs.start(order)
                assert await job.wait(20)
                assert job.state == "successful", job.message
                return job.counts

            counts = await done("seed", (1, 2))
            keys = set(d.store.index.keys())
            assert counts.total == counts.fetched == len(keys)
            assert {key.time for key in keys} == {1, 2}
            assert (await done("seed", (2, 3))).present == len(keys) / 2
            assert (await done("truncate", (1,))).dropped == len(keys) / 2
            assert {key.time for key in set(d.store.index.keys())} == {2, 3}
            d.source.requests.clear()
            await done("refresh", (0, 1, 2))
            assert {key.time for request in d.source.requests for key in keys_of(request)} == {2}
        finally:
            await jobs.close()


SCALED = replace(
    SPEC,
    bands=(
        BandSpec(name="red", dtype=np.dtype("uint16"), nodata=0, scale=0.0001, offset=-0.1, units="1"),
        BandSpec(name="dem", dtype=np.dtype("float32"), nodata=-9999.0),
    ),
)


@pytest.fixture
async def coverage(tmp_path, pool):
    async with daemon(tmp_path, pool, SCALED) as d:
        yield await d.load((1, 3), bands=("red", "dem"))


@pytest.mark.parametrize("engine", ["netcdf4", "h5netcdf"])
async def test_netcdf_has_time_and_scale(coverage, tmp_path, engine):
    path = tmp_path / "a.nc"
    path.write_bytes(joined(encode(coverage, "netcdf")))
    with xr.open_dataset(path, engine=engine, decode_coords="all") as got:
        assert got["red"].dims == ("time", "y", "x")
        assert list(got["time"].dt.year) == [2018, 2020]
        assert got["time_bnds"].dt.year.values.tolist() == [[2018, 2019], [2020, 2021]]
        assert set(got.data_vars) == {"red", "dem"}
        raw = coverage.bands["red"]
        np.testing.assert_allclose(
            got["red"].values, np.where(raw == 0, np.nan, raw * 0.0001 - 0.1), atol=1e-6
        )
    with xr.open_dataset(path, engine=engine, mask_and_scale=False) as got:
        np.testing.assert_array_equal(got["red"].values, raw)


async def test_geotiff_has_a_band_for_each_step(coverage):
    with rasterio.MemoryFile(joined(encode(coverage, "geotiff"))) as file, file.open() as got:
        assert got.descriptions == (
            "red 2018-01-01T00:00:00Z",
            "red 2020-01-01T00:00:00Z",
            "dem 2018-01-01T00:00:00Z",
            "dem 2020-01-01T00:00:00Z",
        )
        assert got.tags(2)["datetime"] == "2020-01-01T00:00:00Z/2021-01-01T00:00:00Z"
        assert (got.scales, got.offsets) == ((0.0001, 0.0001, 1, 1), (-0.1, -0.1, 0, 0))
        wanted = np.concatenate([coverage.bands["red"], coverage.bands["dem"]])
        valid = np.concatenate([coverage.bands["red"] != 0, coverage.bands["dem"] != -9999])
        np.testing.assert_array_equal(got.read()[valid], wanted[valid])
        np.testing.assert_array_equal(got.read_masks() != 0, valid)


async def test_npy_and_json_have_a_time_axis(coverage):
    array = np.load(io.BytesIO(joined(encode(coverage, "npy"))))
    assert array.shape == (2, 2, 50, 60)
    np.testing.assert_array_equal(array[1], coverage.bands["dem"])
    document = json.loads(joined(encode(coverage, "json")))
    assert document["domain"]["axes"]["t"] == {"values": ["2018-01-01T00:00:00Z", "2020-01-01T00:00:00Z"]}
    found = document["ranges"]["red"]
    assert (found["axisNames"], found["shape"]) == (["t", "y", "x"], [2, 50, 60])
    values = np.array([0 if value is None else value for value in found["values"]]).reshape(2, 50, 60)
    np.testing.assert_array_equal(values, coverage.bands["red"])


async def test_a_picture_shows_one_step(coverage, tmp_path, pool):
    with pytest.raises(BadParameterError, match="2 are asked for") as caught:
        encode(coverage, "png")
    assert caught.value.parameter == "datetime"
    async with daemon(tmp_path / "b", pool) as d:
        picture = joined(encode(await d.load((2,)), "png"))
    assert Image.open(io.BytesIO(picture)).size == (60, 50)


async def test_the_wire_format_is_a_zarr_store_that_any_reader_opens(coverage, tmp_path):
    body = joined(encode(coverage, "zarr"))
    path = tmp_path / "a.zip"
    path.write_bytes(body)
    with zarr.storage.ZipStore(path, mode="r") as store:
        wanted = xr.open_zarr(store, mask_and_scale=False, decode_coords="all").load()
    got = build(decode(memoryview(bytearray(body))))
    for dataset in (wanted, got):
        assert set(dataset.data_vars) == {"red", "dem"}
        assert set(dataset.coords) == {"time", "time_bnds", "y", "x", "spatial_ref"}
        np.testing.assert_array_equal(dataset["red"].values, coverage.bands["red"])
        assert dataset["red"].attrs["scale_factor"] == 0.0001
    np.testing.assert_array_equal(got["time"].values, wanted["time"].values)
    np.testing.assert_array_equal(got["time_bnds"].values, wanted["time_bnds"].values)
    assert got["time"].sel(time="2020").size == 1


# What the collection says of them


def test_a_document_lists_steps_that_nothing_else_tells():
    first, day = datetime(2000, 1, 1, tzinfo=UTC), timedelta(days=1)
    listed = tuple(TimeStep(start=first + 2 * day * n, end=first + 2 * day * n + day) for n in range(1500))

    def reported(**axis):
        document = collection_document(tiny_spec(time=TimeAxis(**axis)), "http://localhost")
        return document["cube:dimensions"]["time"]

    irregular = reported(listed=listed)
    assert (irregular["step"], len(irregular["values"])) == (None, 1500)
    assert irregular["values"][-1] == "2008-03-17T00:00:00Z"
    daily = Period(rest=day)
    short = reported(start=first, period=daily, end=first + 1000 * day)
    assert (short["step"], len(short["values"])) == ("P1D", 1000)
    long = reported(start=first, period=daily, end=first + 1001 * day)
    assert long == {
        "type": "temporal",
        "extent": ["2000-01-01T00:00:00Z", "2002-09-28T00:00:00Z"],
        "step": "P1D",
    }
    assert reported(start=first, period=daily, end=None, delay=timedelta(days=36_525))["values"] == []
