"""What the store makes of failures that may have had an effect: it goes by what the repository holds."""

from __future__ import annotations

import asyncio

import numpy as np
import pytest

from icehouse_server.core.errors import StoreError
from icehouse_server.core.grid import Window
from icehouse_server.core.plan import Region
from icehouse_server.core.ports import FilledChunk
from icehouse_server.downloads import CollectionPipeline, Downloads, DownloadSettings
from icehouse_server.service import CoverageRequest, ServiceParts, ServiceSettings
from icehouse_server.store import StoreSettings
from icehouse_server.store.sidecar import SidecarDb
from icehouse_server.store.usage import Usage
from icehouse_server.testing.fakes import ScriptedSource, Truth, tiny_spec
from support.faulty import Calls, Failing, storage_error
from support.stores import open_store

SPEC = tiny_spec(chunk=32)
DEM = SPEC.band("dem")
LOST = storage_error(5)


@pytest.fixture
async def store(tmp_path, pool):
    async with open_store(tmp_path, [SPEC], StoreSettings(decoded_cache_bytes=10**8), pool=pool) as opened:
        yield opened


@pytest.fixture
def calls(tmp_path):
    with Calls(tmp_path) as made:
        yield made


def chunk(row, col, value, *, void=False):
    values = np.full((32, 32), DEM.fill if void else value, dtype="float32")
    return FilledChunk(key=SPEC.key("dem", row, col), values=values, void=void, provenance=())


async def value_of(tiny, row, col, *, decoded=True):
    key = SPEC.key("dem", row, col)
    if not decoded:
        tiny.head._decoded.drop(tuple(tiny.index.keys()))
    async with tiny.lease() as lease:
        pixels = await tiny.read(lease, DEM, SPEC.grid.chunk_window(row, col), [key])
    assert (pixels == pixels[0, 0]).all()
    return pixels[0, 0]


async def test_refresh_that_landed_but_reported_failure_is_read_by_all(store, calls):
    tiny = store.collections["tiny"]
    await tiny.commit((chunk(0, 0, 1), chunk(0, 1, 1, void=True)))
    calls.reset(Failing(kind="commit", first=1, late=True, error=lambda: LOST))
    with pytest.raises(StoreError):
        await tiny.commit((chunk(0, 0, 2), chunk(0, 1, 2)))
    calls.reset()
    assert await value_of(tiny, 0, 0) == 2
    assert not tiny.index.is_void(SPEC.key("dem", 0, 1))
    await tiny.commit((chunk(1, 1, 5),))
    assert await value_of(tiny, 0, 0) == await value_of(tiny, 0, 0, decoded=False) == 2
    assert await value_of(tiny, 0, 1) == 2


async def test_chunk_that_landed_but_reported_failure_counts_as_cached(store, calls):
    tiny = store.collections["tiny"]
    calls.reset(Failing(kind="session", first=2, error=lambda: LOST))  # after the commit, before it is shown
    with pytest.raises(StoreError):
        await tiny.commit((chunk(0, 0, 1),))
    assert tiny.index.has(SPEC.key("dem", 0, 0))
    assert await value_of(tiny, 0, 0) == 1


async def test_drop_that_landed_but_reported_failure_leaves_nothing(store, calls):
    tiny = store.collections["tiny"]
    await tiny.commit((chunk(0, 0, 1), chunk(0, 1, 1)))
    calls.reset(Failing(kind="commit", first=1, late=True, error=lambda: LOST))
    with pytest.raises(StoreError):
        await tiny.drop([SPEC.key("dem", 0, 0)], "drop")
    assert not tiny.index.has(SPEC.key("dem", 0, 0))
    assert await value_of(tiny, 0, 1) == 1


async def test_chunks_dropped_while_their_use_is_saved_are_forgotten(tmp_path, pool):
    notes = SidecarDb(tmp_path / "notes.sqlite", pool)
    usage = Usage(notes)
    keys = [SPEC.key("dem", 0, col) for col in range(3)]
    usage.wrote((key, 100) for key in keys)
    saving = asyncio.ensure_future(usage.save())
    await asyncio.sleep(0)  # it has taken what it writes down
    await usage.forget(keys[:2])
    await saving
    assert await usage.oldest(1000, ["tiny"]) == keys[2:]
    notes.close()


async def test_chunk_evicted_and_refetched_during_a_read_stays_cached(store, pool, monkeypatch):
    """The read finds it missing in what it has pinned, which says nothing of what is there by now."""
    store.decoded._max_bytes = 0
    tiny, truth = store.collections["tiny"], Truth(spec=SPEC)
    source = ScriptedSource(truth=truth)
    supply = CollectionPipeline(source=source, presence=tiny.index, sink=tiny)
    downloads = Downloads({"tiny": supply}, DownloadSettings(), pool=pool)
    service = ServiceParts.assemble(store, downloads, ServiceSettings(disk_floor=0), pool=pool)
    window = Window(row=0, col=0, height=32, width=32)
    key = SPEC.key("dem", 0, 0)
    region = Region(collection=SPEC, bands=(DEM,), target=SPEC.grid.geobox_of(window))
    (await service.coverages.coverage(CoverageRequest(region=region))).close()
    acquire, read, times = service.admission.budget.acquire, tiny.read, []

    async def dropped_meanwhile(*args):
        if not times:
            await tiny.drop([key], "evict")
        await acquire(*args)

    async def fetched_meanwhile(*args):
        times.append(1)
        if len(times) == 1:
            await downloads.ensure(SPEC, [key], timeout=10)
        return await read(*args)

    monkeypatch.setattr(service.admission.budget, "acquire", dropped_meanwhile)
    monkeypatch.setattr(tiny, "read", fetched_meanwhile)
    answer = await service.coverages.coverage(CoverageRequest(region=region))
    np.testing.assert_array_equal(answer.coverage.bands["dem"], truth.pixels(DEM, window))
    answer.close()
    assert len(times) == 2
    assert len(source.requests) == 2, "the first, and the one during the read"
    assert tiny.index.has(key)
    await downloads.close()
