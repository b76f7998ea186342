"""From a region to an answer, on a real repository and a scripted source."""

from __future__ import annotations

import asyncio
import shutil
import threading
from collections import namedtuple
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace

import numpy as np
import pytest
from affine import Affine
from odc.geo.geobox import GeoBox
from rasterio.errors import RasterioIOError
from rasterio.features import geometry_mask
from shapely.geometry import MultiPolygon, box

from icehouse_server.core.errors import (
    BusyError,
    ChunksFailedError,
    DeadlineExceededError,
    DiskFullError,
    NotCachedError,
    OutsideError,
    SourceCorruptError,
    TooLargeError,
    UnknownCollectionError,
    UnknownSnapshotError,
)
from icehouse_server.core.grid import Window
from icehouse_server.core.limits import Limits
from icehouse_server.core.plan import Region
from icehouse_server.downloads import DownloadSettings, RetryPolicy
from icehouse_server.service import CoverageRequest, Encoder, ServiceParts, ServiceSettings, Trace
from icehouse_server.store import Store, StoreSettings
from icehouse_server.testing.fakes import ScriptedSource, Truth, tiny_spec, touches
from support.services import open_services

SPEC = tiny_spec(chunk=32)  # 5 x 7 chunks, too long to be stored inline
VOID = frozenset({(4, 6)})
WHOLE = SPEC.grid.window
TRUTH = Truth(spec=SPEC, void=VOID)


@dataclass
class Daemon:
    service: ServiceParts
    source: ScriptedSource
    store: Store

    async def load(self, window=WHOLE, *, target=None, bands=("dem",), resampling=None, clip=None, **options):
        target = target or SPEC.grid.geobox_of(window)
        chosen = SPEC.select(bands)
        region = Region(collection=SPEC, bands=chosen, target=target, resampling=resampling or {}, clip=clip)
        return await self.service.coverages.coverage(CoverageRequest(region=region, **options))


@asynccontextmanager
async def daemon(folder, pool, *, decoded=10**8, ttl=0.0, **options):
    chosen = ServiceSettings(**{"request_timeout": 20.0, "disk_floor": 0, **options})
    kept = StoreSettings(decoded_cache_bytes=decoded, write_timeout=20)
    limits = DownloadSettings(block_side=2 * SPEC.grid.chunk, failure_ttl=ttl, retry=RetryPolicy(attempts=1))
    source = ScriptedSource(truth=TRUTH)
    async with open_services(
        folder, [SPEC], {"tiny": source}, pool=pool, store=kept, downloads=limits, service=chosen
    ) as made:
        try:
            yield Daemon(made.service, source, made.store)
        finally:
            if source.gate is not None:
                source.gate.set()


def truth(window, band="dem"):
    """What a window must answer, fill outside of the grid."""
    spec = SPEC.band(band)
    out = np.full((window.height, window.width), spec.fill, spec.dtype)
    inside = window.intersection(WHOLE)
    if inside is not None:
        out[inside.slices(window)] = TRUTH.pixels(spec, inside)
    return out


def corrupt(row, col):
    return touches(row, col, lambda: SourceCorruptError("it does not decode", item="scene"))


async def test_cold_and_warm_results_are_exact_and_warm_fetch_none(tmp_path, pool):
    async with daemon(tmp_path, pool) as d:
        for window in (
            WHOLE,
            Window(row=30, col=30, height=5, width=70),
            Window(row=0, col=0, height=1, width=1),
        ):
            answer = await d.load(window, bands=("mask", "dem"))
            assert list(answer.coverage.bands) == ["mask", "dem"]
            for band, pixels in answer.coverage.bands.items():
                np.testing.assert_array_equal(pixels, truth(window, band))
            assert answer.coverage.failed == ()
            assert answer.coverage.snapshot == d.store.collections["tiny"].snapshot
            answer.close()
        assert set(d.source.reads.values()) == {1}
        assert (answer.trace.started, answer.trace.joined) == (0, 0)
        assert answer.trace.chunks == 2
        assert set(answer.trace.seconds) >= {"plan", "queue", "read"}
        assert d.service.admission.budget.held == 0
    async with daemon(tmp_path, pool) as d:
        np.testing.assert_array_equal((await d.load()).coverage.bands["dem"], truth(WHOLE))
        assert not d.source.requests


async def test_many_who_ask_the_same_cause_one_fetch(tmp_path, pool):
    async with daemon(tmp_path, pool) as d:
        answers = await asyncio.gather(*(d.load() for _ in range(8)))
        for answer in answers:
            np.testing.assert_array_equal(answer.coverage.bands["dem"], truth(WHOLE))
        assert set(d.source.reads.values()) == {1}
        assert sum(answer.trace.started for answer in answers) == 35


async def test_requested_geobox_is_returned_also_beyond_the_edge(tmp_path, pool):
    window = Window(row=-10, col=190, height=60, width=40)
    async with daemon(tmp_path, pool) as d:
        answer = await d.load(window)
        assert answer.coverage.region.target == SPEC.grid.geobox_of(window)
        np.testing.assert_array_equal(answer.coverage.bands["dem"], truth(window))


async def test_a_shifted_geobox_is_warped_from_the_same_pixels(tmp_path, pool):
    shifted = GeoBox((20, 20), SPEC.grid.geobox.affine * Affine.translation(40.3, 40.2), "EPSG:3413")
    async with daemon(tmp_path, pool) as d:
        answer = await d.load(target=shifted, bands=("mask",))
        np.testing.assert_array_equal(
            answer.coverage.bands["mask"], truth(Window(row=40, col=40, height=20, width=20), "mask")
        )
        assert "warp" in answer.trace.seconds


async def test_a_polygon_cuts(tmp_path, pool):
    window = Window(row=0, col=0, height=40, width=40)
    left, top = SPEC.grid.geobox.affine * (10, 10)
    right, bottom = SPEC.grid.geobox.affine * (20, 30)
    async with daemon(tmp_path, pool) as d:
        answer = await d.load(window, clip=box(left, bottom, right, top))
        expected = np.full((40, 40), -9999, "float32")
        expected[10:30, 10:20] = truth(window)[10:30, 10:20]
        np.testing.assert_array_equal(answer.coverage.bands["dem"], expected)


@pytest.mark.parametrize("shift", [0, 0.3])
async def test_only_what_lies_under_a_polygon_is_fetched(tmp_path, pool, shift):
    """Two parts in opposite corners: what lies between them is neither planned nor fetched."""
    target = GeoBox(SPEC.grid.shape, SPEC.grid.geobox.affine * Affine.translation(shift, shift), "EPSG:3413")
    corners = [SPEC.grid.geobox.affine * place for place in ((2, 2), (12, 12), (130, 100), (140, 110))]
    parts = MultiPolygon([box(*a, *b) for a, b in (corners[:2], corners[2:])])
    async with daemon(tmp_path, pool) as d:
        whole = await d.load(target=target)
        expected = np.where(
            geometry_mask([parts], target.shape, target.affine, invert=True),
            whole.coverage.bands["dem"],
            np.float32(-9999),
        )
        answer = await d.load(target=target, clip=parts)
        np.testing.assert_array_equal(answer.coverage.bands["dem"], expected)
        assert shift or answer.trace.chunks == 2  # a warp is planned in cells, larger than this grid


async def test_a_polygon_beside_its_geobox_needs_nothing(tmp_path, pool):
    window = Window(row=0, col=0, height=40, width=40)
    left, top = SPEC.grid.geobox.affine * (100, 100)
    async with daemon(tmp_path, pool) as d:
        answer = await d.load(window, clip=box(left, top - 10, left + 10, top))
        assert (answer.coverage.bands["dem"] == -9999).all()
        assert answer.trace.chunks == 0


async def test_a_failure_names_its_chunk_and_keeps_the_rest(tmp_path, pool):
    async with daemon(tmp_path, pool) as d:
        d.source.faults.append(corrupt(1, 1))
        with pytest.raises(ChunksFailedError) as caught:
            await d.load()
        assert [failure.chunk for failure in caught.value.failed] == ["dem/c/1/1"]
        assert caught.value.failed[0].item == "scene"
        assert len(d.store.collections["tiny"].index) == 34
        assert d.service.admission.budget.held == 0
        d.source.faults.clear()
        np.testing.assert_array_equal((await d.load()).coverage.bands["dem"], truth(WHOLE))


@pytest.mark.parametrize("shift", [0, 0.25])
async def test_who_asks_for_what_there_is_gets_fill_and_a_list(tmp_path, pool, shift):
    async with daemon(tmp_path, pool) as d:
        d.source.faults.append(corrupt(1, 1))
        target = GeoBox((150, 200), SPEC.grid.geobox.affine * Affine.translation(shift, 0), "EPSG:3413")
        answer = await d.load(target=target, resampling={"dem": "nearest"}, fail_on_error=False)
        assert [failure.chunk for failure in answer.coverage.failed] == ["dem/c/1/1"]
        expected = truth(WHOLE)
        expected[32:64, 32:64] = -9999
        got = answer.coverage.bands["dem"]
        np.testing.assert_array_equal(got[:, :190], expected[:, :190])


async def test_only_if_cached_fetches_nothing(tmp_path, pool):
    corner = Window(row=0, col=0, height=32, width=32)
    async with daemon(tmp_path, pool) as d:
        with pytest.raises(NotCachedError):
            await d.load(corner, only_if_cached=True)
        assert not d.source.requests
        await d.load(corner)
        answer = await d.load(corner, only_if_cached=True)
        np.testing.assert_array_equal(answer.coverage.bands["dem"], truth(corner))
        with pytest.raises(NotCachedError):
            await d.load(only_if_cached=True)
        assert len(d.source.requests) == 1


async def test_the_past_is_read_and_never_filled(tmp_path, pool):
    corner, wide = Window(row=0, col=0, height=32, width=32), Window(row=0, col=0, height=32, width=64)
    async with daemon(tmp_path, pool) as d:
        past = (await d.load(corner)).coverage.snapshot
        await d.load(wide)
        asked = len(d.source.requests)
        answer = await d.load(corner, snapshot=past)
        assert answer.coverage.snapshot == past
        np.testing.assert_array_equal(answer.coverage.bands["dem"], truth(corner))
        with pytest.raises(NotCachedError):
            await d.load(wide, snapshot=past)
        partly = await d.load(wide, snapshot=past, fail_on_error=False)
        assert [(f.chunk, f.kind) for f in partly.coverage.failed] == [("dem/c/0/1", "not-cached")]
        assert (partly.coverage.bands["dem"][:, 32:] == -9999).all()
        np.testing.assert_array_equal(partly.coverage.bands["dem"][:, :32], truth(corner))
        with pytest.raises(UnknownSnapshotError):
            await d.load(corner, snapshot="nope")
        assert len(d.source.requests) == asked


@pytest.mark.parametrize("decoded", [0, 10**8])
@pytest.mark.parametrize("how", ["flip", "delete"])
async def test_damage_on_disk_is_fetched_again(tmp_path, pool, how, decoded):
    async with daemon(tmp_path, pool) as d:
        await d.load()
    for path in (tmp_path / "collections" / "tiny" / "chunks").iterdir():
        if how == "delete":
            path.unlink()
        else:
            data = bytearray(path.read_bytes())
            data[len(data) // 2] ^= 1
            path.write_bytes(bytes(data))
    async with daemon(tmp_path, pool, decoded=decoded) as d:
        answers = await asyncio.gather(*(d.load() for _ in range(3)))
        for answer in answers:
            np.testing.assert_array_equal(answer.coverage.bands["dem"], truth(WHOLE))
        assert d.source.reads
        asked = len(d.source.requests)
        await d.load()
        assert len(d.source.requests) == asked, "mended for good"


async def test_damage_is_not_mended_by_who_may_not_fetch(tmp_path, pool):
    async with daemon(tmp_path, pool) as d:
        await d.load()
    for path in (tmp_path / "collections" / "tiny" / "chunks").iterdir():
        path.unlink()
    async with daemon(tmp_path, pool) as d:
        with pytest.raises(NotCachedError):
            await d.load(only_if_cached=True)
        assert not d.source.requests


async def test_elsewhere_and_unknown_collections_are_named(tmp_path, pool):
    async with daemon(tmp_path, pool) as d:
        with pytest.raises(OutsideError):
            await d.load(Window(row=500, col=0, height=5, width=5))
        with pytest.raises(UnknownCollectionError, match="nope"):
            d.store.collection("nope")
        assert not d.source.requests


async def test_too_large_is_said_before_memory_or_source_is_touched(tmp_path, pool):
    async with daemon(tmp_path, pool, limits=Limits(max_output_pixels=1000)) as d:
        with pytest.raises(TooLargeError, match="pixels"):
            await d.load()
    async with daemon(tmp_path, pool, max_answer_bytes=10_000) as d:
        with pytest.raises(TooLargeError) as caught:
            await d.load()
        assert caught.value.setting == "max_answer_bytes"
        assert d.service.admission.budget.held == 0
        assert not d.source.requests


async def test_answers_hold_their_memory_until_they_are_closed(tmp_path, pool):
    window = Window(row=0, col=0, height=50, width=50)
    async with daemon(tmp_path, pool, max_answer_bytes=50 * 50 * 4 * 3, request_timeout=1.5) as d:
        answer = await d.load(window)
        assert d.service.admission.budget.held >= 50 * 50 * 4
        with pytest.raises(BusyError):
            await d.load(window)
        waiting = asyncio.ensure_future(d.load(window))
        await asyncio.sleep(0.01)
        answer.close()
        second = await asyncio.wait_for(waiting, 5)
        answer.close()  # by a careless caller: must not give back what is another's
        assert d.service.admission.budget.held == second.memory.size
        second.close()
        assert d.service.admission.budget.held == 0


async def test_who_leaves_gives_the_memory_back(tmp_path, pool):
    async with daemon(tmp_path, pool) as d:
        d.source.gate = asyncio.Event()
        ask = asyncio.ensure_future(d.load())
        while not d.source.under_way:  # noqa: ASYNC110 - there is no event for it
            await asyncio.sleep(0.001)
        assert d.service.admission.budget.held == 0, "who waits for a source holds no memory"
        ask.cancel()
        await asyncio.wait([ask])
        assert d.service.admission.budget.held == 0
        assert d.store.collections["tiny"].leases == 0


async def test_memory_is_held_until_the_encoders_thread_ends(tmp_path, pool):
    """Who leaves leaves at once, but the thread goes on, with all of its arrays."""
    begun, go_on = threading.Event(), threading.Event()

    def make(_):
        begun.set()
        go_on.wait(10)

    async with daemon(tmp_path, pool) as d:
        (await d.load()).close()
        held = d.service.admission.budget
        request = CoverageRequest(
            region=Region(collection=SPEC, bands=SPEC.select(("dem",)), target=SPEC.grid.geobox)
        )
        ask = asyncio.ensure_future(d.service.coverages.answer(request, Encoder(make=make), trace=Trace()))
        await asyncio.to_thread(begun.wait, 10)
        ask.cancel()
        await asyncio.wait([ask])
        assert held.held >= WHOLE.pixels * 4
        go_on.set()
        async with asyncio.timeout(5):
            while held.held:  # noqa: ASYNC110 - there is no event for it
                await asyncio.sleep(0.001)


async def test_memory_is_held_until_the_readers_thread_ends(tmp_path, pool, monkeypatch):
    begun, go_on = threading.Event(), threading.Event()

    def slow(*_):
        begun.set()
        go_on.wait(10)

    async with daemon(tmp_path, pool) as d:
        (await d.load()).close()
        d.service.admission._large = asyncio.Semaphore(1)
        monkeypatch.setattr("icehouse_server.service.admission._LARGE_BYTES", 0)
        monkeypatch.setattr("icehouse_server.service.region_reader.clip", slow)
        left, top = SPEC.grid.geobox.affine * (0, 0)
        ask = asyncio.ensure_future(d.load(clip=box(left, top - 10, left + 10, top)))
        await asyncio.to_thread(begun.wait, 10)
        ask.cancel()
        await asyncio.wait([ask])
        assert d.service.admission.budget.held >= WHOLE.pixels * 4
        assert d.service.admission._large.locked(), "it computes, so its turn is not over"
        go_on.set()
        async with asyncio.timeout(5):
            while d.service.admission.budget.held:  # noqa: ASYNC110 - there is no event for it
                await asyncio.sleep(0.001)
        assert not d.service.admission._large.locked()


@pytest.mark.parametrize(
    ("names", "error"),
    [(("encoder", "clip"), MemoryError("no")), (("encoder",), RasterioIOError("copy"))],
)
async def test_memory_that_runs_out_is_named(tmp_path, pool, monkeypatch, names, error):
    """Alone it is too large; next to others it may come again. And its bytes are given back."""
    if not isinstance(error, MemoryError):
        error.__cause__ = type("CPLE_OutOfMemoryError", (Exception,), {})()

    def fail(*_):
        raise error

    monkeypatch.setattr("icehouse_server.service.region_reader.clip", fail)
    left, top = SPEC.grid.geobox.affine * (0, 0)
    region = Region(collection=SPEC, bands=SPEC.select(("dem",)), target=SPEC.grid.geobox)
    async with daemon(tmp_path, pool) as d:
        answer = d.service.coverages.answer
        for name in names:
            clip = box(left, top - 10, left + 10, top) if name == "clip" else None
            request = CoverageRequest(region=replace(region, clip=clip))
            with pytest.raises(TooLargeError, match="less memory") as caught:
                await answer(request, Encoder(make=fail), trace=Trace())
            assert caught.value.setting == "max_answer_bytes"
            other = await d.load(Window(row=0, col=0, height=1, width=1))
            with pytest.raises(BusyError, match="no more memory"):
                await answer(request, Encoder(make=fail), trace=Trace())
            other.close()
            assert d.service.admission.budget.held == 0


async def test_memory_that_runs_out_while_fetching_is_busy(tmp_path, pool):
    async with daemon(tmp_path, pool) as d:
        d.source.faults.append(lambda _: MemoryError())
        with pytest.raises(BusyError, match="memory for fetching"):
            await d.load(Window(row=0, col=0, height=1, width=1))


async def test_a_source_that_never_answers_ends_by_the_deadline(tmp_path, pool):
    async with daemon(tmp_path, pool, request_timeout=0.1) as d:
        d.source.gate = asyncio.Event()
        with pytest.raises((ChunksFailedError, DeadlineExceededError)) as caught:
            await asyncio.wait_for(d.load(), 5)
        assert getattr(caught.value, "timed_out", True)
        assert d.service.admission.budget.held == 0


async def test_below_the_disk_floor_only_cached_chunks_are_served(tmp_path, pool, monkeypatch):
    corner = Window(row=0, col=0, height=32, width=32)
    async with daemon(tmp_path, pool, disk_floor=1000) as d:
        await d.load(corner)
        usage = namedtuple("usage", "total used free")  # noqa: PYI024
        monkeypatch.setattr(shutil, "disk_usage", lambda _: usage(10_000, 9_001, 999))
        with pytest.raises(DiskFullError, match="999"):
            await d.load()
        np.testing.assert_array_equal((await d.load(corner)).coverage.bands["dem"], truth(corner))


async def test_a_plan_fetches_nothing_and_voids_are_counted(tmp_path, pool):
    async with daemon(tmp_path, pool) as d:
        region = Region(collection=SPEC, bands=SPEC.select(None), target=SPEC.grid.geobox)
        assert len((await d.service.planner.plan(region)).absent) == 35
        assert not d.source.requests
        await d.load()
        plan = await d.service.planner.plan(region)
        assert plan.absent == ()
        assert await d.service.planner.voids(plan) == 1
    async with daemon(tmp_path, pool) as d:
        assert await d.service.planner.voids(await d.service.planner.plan(region)) == 1, (
            "known again after a restart"
        )


async def test_large_results_take_turns_and_a_hung_one_blocks_no_other(tmp_path, pool, monkeypatch):
    monkeypatch.setattr("icehouse_server.service.admission._LARGE_BYTES", 0)
    monkeypatch.setattr("icehouse_server.service.admission._LARGE_PATIENCE", 0.2)
    async with daemon(tmp_path, pool) as d:
        d.service.admission._large = asyncio.Semaphore(1)
        (await d.load()).close()
        at_once, most = [], []
        collection = d.store.collections["tiny"]
        read = collection.read

        async def noted(*args):
            at_once.append(1)
            most.append(len(at_once))
            await asyncio.sleep(0.001)
            try:
                return await read(*args)
            finally:
                at_once.pop()

        monkeypatch.setattr(collection, "read", noted)
        for answer in await asyncio.gather(*(d.load() for _ in range(5))):
            answer.close()
        assert max(most) == 1
        await d.service.admission._large.acquire()  # another caller's disk hangs
        for answer in await asyncio.gather(*(d.load() for _ in range(5))):
            answer.close()
        assert max(most) > 1
