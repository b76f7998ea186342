"""A disk that hangs or is slow: every wait ends by its deadline, and other collections notice nothing."""

from __future__ import annotations

import asyncio
import shutil
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from dataclasses import dataclass

import numpy as np
import pytest

from icehouse_server.core.errors import ChunksFailedError, DeadlineExceededError, StoreError
from icehouse_server.core.grid import Window
from icehouse_server.core.plan import Region
from icehouse_server.downloads import Downloads, DownloadSettings, RetryPolicy
from icehouse_server.service import CoverageRequest, ServiceParts, ServiceSettings, disk_guard
from icehouse_server.store import Store, StoreSettings
from icehouse_server.store.repository.reader import Reader
from icehouse_server.store.repository.writer import Writer
from icehouse_server.testing.fakes import ScriptedSource, Truth, tiny_spec
from support.services import open_services

SICK, WELL = tiny_spec("sick", chunk=32), tiny_spec("well", chunk=32)
CORNER = Window(row=0, col=0, height=64, width=64)
OTHER_CORNER = Window(row=64, col=64, height=64, width=64)


@pytest.fixture
def pool():
    """One per test: what hangs in one must not hold the threads of the next."""
    with ThreadPoolExecutor(2) as threads:
        yield threads


@dataclass
class Bench:
    service: ServiceParts
    store: Store
    downloads: Downloads
    sources: dict

    async def load(self, spec, window=CORNER):
        region = Region(
            collection=spec, bands=spec.select(["dem"]), target=spec.grid.geobox_of(window), resampling={}
        )
        answer = await self.service.coverages.coverage(CoverageRequest(region=region))
        answer.close()
        return answer.coverage.bands["dem"]

    def begin(self, spec, window=CORNER):
        return asyncio.ensure_future(self.load(spec, window))

    async def well(self, window):
        """The other collection answers, and rightly."""
        truth = self.sources["well"].truth.pixels(WELL.band("dem"), window)
        np.testing.assert_array_equal(await asyncio.wait_for(self.load(WELL, window), 20), truth)

    async def idle(self):
        """Nothing is held any more, or the test ends here."""
        downloads = self.downloads
        async with asyncio.timeout(20):
            while any(((now := downloads.snapshot()).running, now.queued, now.flights)):  # noqa: ASYNC110 - no event
                await asyncio.sleep(0.01)
        assert self.service.admission.budget.held == self.service.admission.budget.waiting == 0
        assert [store.leases for store in self.store.collections.values()] == [0, 0]


@asynccontextmanager
async def bench(folder, pool, *, write_timeout=20.0, **options):
    specs = (SICK, WELL)
    kept = StoreSettings(decoded_cache_bytes=10**6, write_timeout=write_timeout)
    sources = {spec.id: ScriptedSource(truth=Truth(spec=spec)) for spec in specs}
    settings = DownloadSettings(
        block_side=32, failure_ttl=0.0, unwanted=0.1, retry=RetryPolicy(attempts=1), **options
    )
    chosen = ServiceSettings(request_timeout=4.0, disk_floor=0)
    async with open_services(
        folder, specs, sources, pool=pool, store=kept, downloads=settings, service=chosen
    ) as made:
        yield Bench(made.service, made.store, made.downloads, sources)


def hang(monkeypatch, owner, name, *, of="sick"):
    """Let a method wait for a gate where it works for one collection. Returns the gate and how many wait."""
    gate, waits, true = asyncio.Event(), [], getattr(owner, name)

    async def method(self, *arguments):
        collection = self._spec.id if isinstance(self, Reader) else arguments[0][0].chunk.key.collection
        if collection == of:
            waits.append(1)
            await gate.wait()
        return await true(self, *arguments)

    monkeypatch.setattr(owner, name, method)
    return gate, waits


async def until(condition):
    async with asyncio.timeout(20):
        while not condition():  # noqa: ASYNC110 - what is waited for has no event
            await asyncio.sleep(0.005)


async def test_a_writer_that_hangs(tmp_path, pool, monkeypatch):
    async with bench(tmp_path, pool, write_timeout=2.5, commit_timeout=30.0) as b:
        await b.well(CORNER)
        gate, waits = hang(monkeypatch, Writer, "_commit")
        asks = [b.begin(SICK, window) for window in (CORNER, OTHER_CORNER) for _ in range(4)]
        await until(lambda: waits)
        await b.well(CORNER)
        await b.well(OTHER_CORNER)
        assert not any(ask.done() for ask in asks), "the other collection did not wait for this one"
        for error in await asyncio.wait_for(asyncio.gather(*asks, return_exceptions=True), 20):
            assert isinstance(error, ChunksFailedError)
            assert {failed.kind for failed in error.failed} <= {"store-failed", "deadline-exceeded"}
        gate.set()
        await b.idle()
        await asyncio.wait_for(b.load(SICK), 20)


async def test_a_writer_that_is_slow_is_waited_for(tmp_path, pool, monkeypatch):
    async with bench(tmp_path, pool) as b:
        gate, waits = hang(monkeypatch, Writer, "_commit")
        ask = b.begin(SICK)
        await until(lambda: waits)
        await asyncio.sleep(0.3)
        gate.set()
        truth = b.sources["sick"].truth.pixels(SICK.band("dem"), CORNER)
        np.testing.assert_array_equal(await ask, truth)
        await b.idle()


async def test_a_read_that_hangs(tmp_path, pool, monkeypatch):
    async with bench(tmp_path, pool) as b:
        await b.load(SICK)
        await b.well(CORNER)
        b.store.decoded.drop(tuple(SICK.key("dem", row, col) for row in range(2) for col in range(2)))
        gate, waits = hang(monkeypatch, Reader, "_bytes_of")
        asks = [b.begin(SICK) for _ in range(8)]
        await until(lambda: waits)
        await b.well(CORNER)
        await b.well(OTHER_CORNER)
        assert not any(ask.done() for ask in asks)
        for error in await asyncio.wait_for(asyncio.gather(*asks, return_exceptions=True), 20):
            assert isinstance(error, DeadlineExceededError)
        await b.idle()
        gate.set()
        await asyncio.wait_for(b.load(SICK), 20)


@pytest.mark.parametrize(
    ("owner", "name"), [(Writer, "_commit"), (Reader, "_bytes_of")], ids=["committing", "reading"]
)
async def test_who_leaves_while_the_disk_hangs_leaves_nothing(tmp_path, pool, monkeypatch, owner, name):
    async with bench(tmp_path, pool) as b:
        if owner is Reader:
            await b.load(SICK)
            keys = tuple(SICK.key("dem", row, col) for row in range(2) for col in range(2))
            b.store.decoded.drop(keys)
        gate, waits = hang(monkeypatch, owner, name)
        asks = [b.begin(SICK) for _ in range(5)]
        await until(lambda: waits)
        for ask in asks:
            ask.cancel()
        await asyncio.wait(asks)
        await b.idle()
        gate.set()
        await until(lambda: len(b.store.collections["sick"].index) == 4)
        await asyncio.wait_for(b.load(SICK), 20)
        assert set(b.sources["sick"].reads.values()) == {1}, "what was fetched was committed and kept"


async def test_a_disk_that_does_not_say_what_is_free(tmp_path, pool, monkeypatch):
    """It takes one thread of those that decode, however many ask."""
    async with bench(tmp_path, pool) as b:
        await b.load(SICK)
        true, gate, looks = shutil.disk_usage, threading.Event(), []

        def usage(folder):
            looks.append(1)
            gate.wait(60)
            return true(folder)

        monkeypatch.setattr(shutil, "disk_usage", usage)
        monkeypatch.setattr(disk_guard, "_PATIENCE", 0.3)
        asks = [b.begin(SICK, OTHER_CORNER) for _ in range(6)]
        await until(lambda: looks)
        b.store.decoded.drop(tuple(SICK.key("dem", row, col) for row in range(2) for col in range(2)))
        await asyncio.wait_for(b.load(SICK), 20)
        for error in await asyncio.wait_for(asyncio.gather(*asks, return_exceptions=True), 20):
            assert isinstance(error, StoreError)
        assert len(looks) == 1
        gate.set()
        await b.idle()
