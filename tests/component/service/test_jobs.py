"""Jobs on a real repository and a scripted source."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pytest
from affine import Affine
from odc.geo.geobox import GeoBox

from icehouse_server.core.area import area_under, whole
from icehouse_server.core.errors import (
    BusyError,
    DiskFullError,
    OutsideError,
    ShuttingDownError,
    SourceCorruptError,
    TooLargeError,
    UnknownJobError,
)
from icehouse_server.core.geometry.footprint import footprint
from icehouse_server.core.grid import Window
from icehouse_server.core.plan import Region
from icehouse_server.downloads import Downloads, DownloadSettings, Priority, RetryPolicy
from icehouse_server.service import (
    CoverageRequest,
    JobKind,
    Jobs,
    JobSettings,
    JobSpec,
    JobState,
    ServiceParts,
    ServiceSettings,
)
from icehouse_server.store import Store, StoreSettings
from icehouse_server.testing.fakes import ScriptedSource, Truth, tiny_spec, touches
from support.services import open_services

if TYPE_CHECKING:
    from icehouse_server.core.collection import CollectionSpec

SPEC = tiny_spec(chunk=32)  # 5 x 7 chunks, two bands
GRID = SPEC.grid
DEM = SPEC.select(["dem"])
WIDE = tiny_spec(rows=400, cols=400, chunk=16)  # 25 x 25 chunks


@dataclass
class Daemon:
    jobs: Jobs
    service: ServiceParts
    store: Store
    downloads: Downloads
    source: ScriptedSource
    spec: CollectionSpec

    @property
    def index(self):
        return self.store.collection(self.spec.id).index

    async def start(self, kind="seed", window=None, *, target=None, bands=("dem",), **options):
        if window is not None:
            target = self.spec.grid.geobox_of(window)
        chosen = self.spec.select(bands)
        return await self.jobs.start(
            JobSpec(kind=JobKind(kind), collection=self.spec, bands=chosen, target=target, **options)
        )

    async def done(self, *args, **options):
        job = await self.start(*args, **options)
        assert await job.wait(20)
        return job

    async def load(self, window, bands=("dem",)):
        region = Region(
            collection=self.spec, bands=self.spec.select(bands), target=self.spec.grid.geobox_of(window)
        )
        return await self.service.coverages.coverage(CoverageRequest(region=region))


@asynccontextmanager
async def daemon(folder, pool, *, spec=SPEC, limits=None, downloads=None, **service):
    chosen = ServiceSettings(**{"request_timeout": 20.0, "disk_floor": 0, **service})
    fetching = {"block_side": 2 * spec.grid.chunk, "failure_ttl": 0, "retry": RetryPolicy(attempts=1)}
    source = ScriptedSource(truth=Truth(spec=spec))
    async with open_services(
        folder,
        [spec],
        {spec.id: source},
        pool=pool,
        store=StoreSettings(decoded_cache_bytes=10**7),
        downloads=DownloadSettings(**{**fetching, **(downloads or {})}),
        service=chosen,
    ) as made:
        guard = made.service.disk_guard
        jobs = Jobs(made.store, made.downloads, guard, JobSettings(**(limits or {})), pool=pool)
        try:
            yield Daemon(jobs, made.service, made.store, made.downloads, source, spec)
        finally:
            await asyncio.wait_for(jobs.close(), 10)
            await asyncio.wait_for(made.downloads.close(), 10)
            assert made.downloads.snapshot().flights == 0


async def until(condition, seconds=10.0):
    async with asyncio.timeout(seconds):
        while not condition():  # noqa: ASYNC110 - what is waited for has no event
            await asyncio.sleep(0.001)


def corrupt(row, col):
    return touches(row, col, lambda: SourceCorruptError("it does not decode", item="scene"))


def figures(job):
    counts = job.counts
    return counts.total, counts.present, counts.fetched, counts.failed, counts.dropped


# Areas


def test_an_area_on_the_grid_is_a_rectangle_however_large_it_is():
    window = Window(row=-50, col=40, height=100, width=10**6)
    area = area_under(GRID, GRID.geobox_of(window), 1)
    assert area.bounds == GRID.chunks_under(window.intersection(GRID.window))
    assert area.members is None
    assert area_under(GRID, GRID.geobox_of(Window(row=500, col=0, height=1, width=1)), 1) is None


TURNED = GeoBox(
    (60, 50), GRID.geobox.affine * Affine.translation(60.3, 40.2) * Affine.rotation(31), "EPSG:3413"
)
SHIFTED = GeoBox((8, 8), GRID.geobox.affine * Affine.translation(36.4, 36.4), "EPSG:3413")
"""So close to the chunks before it that wide kernels reach them, and narrow ones do not."""


@pytest.mark.parametrize("target", [TURNED, SHIFTED], ids=["turned", "shifted"])
def test_area_off_the_grid_covers_a_load_with_any_resampling(target):
    area = area_under(GRID, target, 100)
    needed = {
        method: set(footprint(GRID, target, [method], max_chunks=1000).chunks)
        for method in ("nearest", "bilinear", "cubic", "lanczos")
    }
    assert set().union(*needed.values()) <= set(area.members)
    assert len(area.members) < whole(GRID).size
    assert target is TURNED or needed["nearest"] < needed["lanczos"]


def test_target_with_too_many_pixels_is_examined_coarsely():
    west, south, east, north = GRID.geobox.boundingbox.bbox
    step = (east - west) / 3_000_000
    fine = GeoBox(
        (int((north - south) / step), 3_000_000),
        Affine(step, 0, west + step / 3, 0, -step, north),
        "EPSG:3413",
    )
    assert area_under(GRID, fine, 100).size == 35
    with pytest.raises(TooLargeError) as refused:
        area_under(GRID, fine, 34)
    assert refused.value.setting == "max_job_chunks"


# Seeds


async def test_a_seed_fetches_what_is_absent_and_only_that(tmp_path, pool):
    async with daemon(tmp_path, pool) as d:
        (await d.load(Window(row=0, col=0, height=64, width=64))).close()
        assert len(d.index) == 4
        d.source.requests.clear()
        job = await d.done(window=GRID.window)
        assert (job.state, job.progress) == (JobState.SUCCESSFUL, 100)
        assert figures(job) == (35, 4, 31, 0, 0)
        assert job.estimated_bytes == job.fetched_bytes == 31 * 32 * 32 * 4
        assert sum(d.source.reads.values()) == 31
        assert set(d.source.reads.values()) == {1}
        assert job.created <= job.started <= job.finished <= job.updated
        d.source.requests.clear()
        answer = await d.load(GRID.window)
        np.testing.assert_array_equal(
            answer.coverage.bands["dem"], d.source.truth.pixels(DEM[0], GRID.window)
        )
        answer.close()
        assert figures(await d.done(window=GRID.window)) == (35, 35, 0, 0, 0)
        assert not d.source.requests


async def test_load_after_a_seed_of_an_unaligned_geobox_fetches_none(tmp_path, pool):
    target = GeoBox(
        (70, 60), GRID.geobox.affine * Affine.translation(30.4, 20.7) * Affine.rotation(20), "EPSG:3413"
    )
    async with daemon(tmp_path, pool) as d:
        job = await d.done(target=target)
        assert 0 < job.counts.fetched < 35
        for method in ("bilinear", "lanczos"):
            region = Region(collection=SPEC, bands=DEM, target=target, resampling={"dem": method})
            assert not (await d.service.planner.plan(region)).absent


async def test_overlapping_seeds_and_a_load_fetch_each_chunk_once(tmp_path, pool):
    async with daemon(tmp_path, pool) as d:
        d.source.gate = asyncio.Event()
        first = await d.start(window=Window(row=0, col=0, height=96, width=200))
        second = await d.start(window=Window(row=32, col=0, height=118, width=128))
        await until(lambda: d.source.under_way >= 2)
        loading = asyncio.ensure_future(d.load(GRID.window))
        d.source.gate.set()
        assert await first.wait(20)
        assert await second.wait(20)
        (await loading).close()
        assert set(d.source.reads.values()) == {1}
        assert len(d.source.reads) == 35
        assert first.counts.total == first.counts.present + first.counts.fetched


async def test_bad_item_fails_only_its_chunks_and_the_job_names_them(tmp_path, pool):
    async with daemon(tmp_path, pool) as d:
        d.source.faults.append(corrupt(1, 1))
        job = await d.done(window=GRID.window)
        assert (job.state, job.kind) == (JobState.FAILED, "chunks-failed")
        assert figures(job) == (35, 0, 34, 1, 0)
        assert job.progress == 99
        (failure,) = job.failures
        assert (failure.chunk, failure.kind, failure.item) == ("dem/c/1/1", "source-corrupt", "scene")
        assert job.message == "1 of 35 chunks could not be filled; the others are cached"
        assert len(d.index) == 34
        d.source.faults.clear()
        assert figures(await d.done(window=GRID.window)) == (35, 34, 1, 0, 0)


async def test_only_the_first_failures_are_listed(tmp_path, pool):
    async with daemon(tmp_path, pool, spec=WIDE) as d:
        d.source.faults.append(lambda _: SourceCorruptError("nothing decodes", item="scene"))
        job = await d.done(window=WIDE.grid.window)
        assert figures(job) == (625, 0, 0, 625, 0)
        assert job.message == "625 of 625 chunks could not be filled"
        assert len(job.failures) == 100


async def test_a_seed_holds_few_chunks_at_a_time_and_people_go_first(tmp_path, pool):
    async with daemon(tmp_path, pool, spec=WIDE, downloads={"blocks_per_collection": 2}) as d:
        d.source.gate = asyncio.Event()
        job = await d.start(window=WIDE.grid.window)
        await until(lambda: d.source.under_way == 2)
        assert d.downloads.snapshot().flights <= 64  # four batches of 4 x 4
        loading = asyncio.ensure_future(d.load(Window(row=390, col=390, height=4, width=4)))
        await until(lambda: d.downloads.snapshot().flights > 64)
        asked = len(d.source.requests)
        d.source.gate.set()
        (await loading).close()
        last = WIDE.key("dem", 24, 24)
        place = next(n for n, request in enumerate(d.source.requests) if request.window.row == 24 * 16)
        assert d.source.reads[last] == 1
        assert place <= asked + 2
        assert await job.wait(20)
        assert job.counts.total == 625 == job.counts.fetched + job.counts.present


async def test_a_full_queue_is_waited_for(tmp_path, pool):
    limits = {"max_queued_blocks": 2, "blocks_per_collection": 1, "block_side": 16}
    async with daemon(tmp_path, pool, spec=WIDE, downloads=limits) as d:
        job = await d.done(window=Window(row=0, col=0, height=64, width=64))
        assert figures(job) == (16, 0, 16, 0, 0)


async def test_a_disk_below_its_floor_ends_the_job(tmp_path, pool):
    async with daemon(tmp_path, pool, disk_floor=10**18) as d:
        job = await d.done(window=GRID.window)
        assert (job.state, job.kind) == (JobState.FAILED, DiskFullError.kind)
        assert not d.source.requests


async def test_limits_are_refused_with_their_names(tmp_path, pool):
    async with daemon(tmp_path, pool, limits={"max_job_chunks": 34}) as d:
        with pytest.raises(TooLargeError) as refused:
            await d.start(window=GRID.window)
        assert refused.value.extensions() == {"limit": 34, "asked": 35, "setting": "max_job_chunks"}
        with pytest.raises(TooLargeError):
            await d.start()
        with pytest.raises(OutsideError):
            await d.start(window=Window(row=900, col=0, height=1, width=1))
        # What is cached is bounded by the disk: no limit for these.
        assert (await d.done("truncate")).state is JobState.SUCCESSFUL
        assert (await d.done("refresh")).state is JobState.SUCCESSFUL


# Refresh, truncate, collect


async def test_refresh_fetches_again_and_leases_keep_their_pixels(tmp_path, pool):
    part = Window(row=0, col=0, height=64, width=200)
    async with daemon(tmp_path, pool) as d:
        await d.done(window=part)
        store = d.store.collection("tiny")
        async with store.lease() as lease:
            old = d.source.truth
            d.source.truth = Truth(spec=SPEC, seed=5)
            d.source.requests.clear()
            job = await d.done("refresh", bands=("dem", "mask"))
            assert figures(job) == (14, 0, 14, 0, 0)
            assert set(d.source.reads.values()) == {1}
            pinned = await store.read(lease, DEM[0], part, list(store.index.keys()))
            np.testing.assert_array_equal(pinned, old.pixels(DEM[0], part))
        answer = await d.load(part)
        np.testing.assert_array_equal(answer.coverage.bands["dem"], d.source.truth.pixels(DEM[0], part))
        answer.close()
        assert len(d.index) == 14


async def test_a_refresh_that_fails_leaves_what_was_cached(tmp_path, pool):
    async with daemon(tmp_path, pool) as d:
        await d.done(window=GRID.window)
        d.source.faults.append(corrupt(0, 0))
        job = await d.done("refresh", window=Window(row=0, col=0, height=33, width=33))
        assert figures(job) == (4, 0, 3, 1, 0)
        assert d.index.has(SPEC.key("dem", 0, 0))


async def test_truncated_region_is_deleted_and_fetched_again(tmp_path, pool):
    async with daemon(tmp_path, pool) as d:
        await d.done(window=GRID.window, bands=("dem", "mask"))
        job = await d.done("truncate", window=Window(row=0, col=0, height=32, width=64))
        assert figures(job) == (2, 0, 0, 0, 2)
        assert len(d.index) == 68
        d.source.requests.clear()
        (await d.load(GRID.window)).close()
        assert sum(d.source.reads.values()) == 2
        job = await d.done("truncate", bands=("dem", "mask"))
        assert figures(job) == (70, 0, 0, 0, 70)
        assert len(d.index) == 0


async def test_gc_runs_maintenance(tmp_path, pool):
    async with daemon(tmp_path, pool) as d:
        before = d.store.maintenance.counters.runs
        job = await d.jobs.start(JobSpec(kind=JobKind.GC))
        assert await job.wait(20)
        assert job.state is JobState.SUCCESSFUL
        assert "bytes freed" in job.message
        assert d.store.maintenance.counters.runs == before + 1


# Their life


async def test_dismissed_job_ends_at_once_and_keeps_what_it_fetched(tmp_path, pool):
    async with daemon(tmp_path, pool, spec=WIDE, downloads={"unwanted": 0}) as d:
        job = await d.start(window=WIDE.grid.window)
        await until(lambda: job.counts.fetched)
        d.source.gate = asyncio.Event()
        await until(lambda: d.source.under_way)
        assert d.jobs.dismiss(job.id) is job
        assert job.state is JobState.DISMISSED
        await until(lambda: d.downloads.snapshot().flights == 0)
        asked = len(d.source.requests)
        d.source.gate.set()
        await d.store.collection("tiny").drop([], "after what was on its way to be committed")
        assert len(d.source.requests) == asked
        assert 625 > len(d.index) >= job.counts.fetched > 0
        assert d.jobs.get(job.id) is job
        d.jobs.dismiss(job.id)  # it is over: forgotten
        with pytest.raises(UnknownJobError):
            d.jobs.get(job.id)


async def test_so_many_run_at_once_and_the_others_wait(tmp_path, pool):
    async with daemon(tmp_path, pool, limits={"jobs_at_once": 1}) as d:
        d.source.gate = asyncio.Event()
        first, second = await d.start(window=GRID.window), await d.start(window=GRID.window)
        await until(lambda: d.source.under_way)
        assert (first.state, second.state) == (JobState.RUNNING, JobState.ACCEPTED)
        # Neither what a caller waits for nor upkeep stands behind them.
        awaited = await d.start(window=GRID.window, priority=Priority.INTERACTIVE)
        assert (await d.done("truncate")).state is JobState.SUCCESSFUL
        assert awaited.state is JobState.RUNNING
        d.jobs.dismiss(second.id)
        assert second.started is None
        d.source.gate.set()
        assert await first.wait(20)
        assert await awaited.wait(20)


async def test_who_waits_for_the_same_region_shares_a_job(tmp_path, pool):
    async with daemon(tmp_path, pool) as d:
        d.source.gate = asyncio.Event()
        options = {"window": GRID.window, "priority": Priority.INTERACTIVE}
        first, second = await d.start(**options), await d.start(**options)
        assert first is second
        assert await d.start(window=GRID.window) is not first
        d.source.gate.set()
        assert await first.wait(20)
        assert await d.start(**options) is not first


async def test_oldest_ended_job_makes_room_or_the_next_is_refused(tmp_path, pool):
    async with daemon(tmp_path, pool, limits={"max_jobs": 2}) as d:
        over = await d.done("truncate")
        d.source.gate = asyncio.Event()
        first, second = await d.start(window=GRID.window), await d.start(window=GRID.window)
        assert list(d.jobs.newest(0, 9)) == [second, first]
        assert list(d.jobs.newest(1, 1)) == [first]
        with pytest.raises(UnknownJobError):
            d.jobs.get(over.id)
        with pytest.raises(BusyError):
            await d.start(window=GRID.window)
        assert d.jobs.by_state == {
            "accepted": 0,
            "running": 2,
            "successful": 0,
            "failed": 0,
            "dismissed": 0,
        }


async def test_the_end_of_the_daemon_dismisses_all(tmp_path, pool):
    async with daemon(tmp_path, pool, limits={"jobs_at_once": 1}, downloads={"unwanted": 0}) as d:
        d.source.gate = asyncio.Event()
        jobs = [await d.start(window=GRID.window) for _ in range(2)]
        await until(lambda: d.source.under_way)
        await d.jobs.close()
        assert {job.state for job in jobs} == {JobState.DISMISSED}
        assert "stops" in jobs[0].message
        with pytest.raises(ShuttingDownError):
            await d.start(window=GRID.window)
        await until(lambda: d.downloads.snapshot().flights == 0)


async def test_job_is_dismissed_not_failed_when_downloads_stop_first(tmp_path, pool):
    async with daemon(tmp_path, pool) as d:
        d.source.gate = asyncio.Event()
        job = await d.start(window=GRID.window)
        await until(lambda: d.source.under_way)
        await d.downloads.close()
        assert await job.wait(10)
        assert (job.state, job.counts.failed) == (JobState.DISMISSED, 0)


async def test_a_defect_ends_the_job_and_not_the_daemon(tmp_path, pool, monkeypatch):
    async with daemon(tmp_path, pool) as d:
        monkeypatch.setattr(d.store.maintenance, "run_once", None)
        job = await d.jobs.start(JobSpec(kind=JobKind.GC))
        assert await job.wait(10)
        assert (job.state, job.kind) == (JobState.FAILED, "internal")
        assert (await d.done("truncate")).state is JobState.SUCCESSFUL


async def test_who_watches_sees_the_latest_state_and_the_end(tmp_path, pool):
    async with daemon(tmp_path, pool) as d:
        d.source.gate = asyncio.Event()
        job = await d.start(window=GRID.window)
        seen = []

        async def watch():
            while not job.over:
                seen.append(job.version)
                await job.news(job.version, 5)

        watching = asyncio.ensure_future(watch())
        await until(lambda: d.source.under_way)
        d.source.gate.set()
        await asyncio.wait_for(watching, 10)
        assert seen == sorted(set(seen))
        await job.news(job.version, 60)  # it is over: nothing to wait for
