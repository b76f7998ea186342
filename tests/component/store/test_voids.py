"""Which chunks from before a restart are void: who looks, how much at a time, and once."""

from __future__ import annotations

import asyncio
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from itertools import product

import numpy as np
import pytest

from icehouse_server.core.collection import BandSpec
from icehouse_server.core.grid import Window
from icehouse_server.core.ports import FilledChunk
from icehouse_server.store import StoreSettings
from icehouse_server.store.repository import void_scan
from icehouse_server.testing.fakes import tiny_spec
from support.stores import open_store


@pytest.mark.parametrize("chunk", [16, 1024])
async def test_who_looks_finds_voids_from_before_the_start(tmp_path, chunk):
    """A void chunk of 1024 x 1024 is too long for the manifest: another way to the same."""
    bands = (
        BandSpec(name="dem", dtype=np.dtype("float32"), nodata=-9999.0),
        BandSpec(name="all", dtype=np.dtype("uint8"), nodata=None),
    )
    spec = tiny_spec(rows=2 * chunk, cols=2 * chunk, chunk=chunk, bands=bands)
    values = np.random.default_rng(1).random((chunk, chunk)).astype("float32")
    flat = np.full((chunk, chunk), 7, dtype="float32")
    held = [values, np.full_like(values, -9999), flat, np.full_like(values, -9999)]
    keys = [spec.key("dem", place // 2, place % 2) for place in range(4)]
    filled = [
        FilledChunk(key=key, values=chunk, void=bool((chunk == -9999).all()), provenance=())
        for key, chunk in zip(keys, held, strict=True)
    ]
    other = spec.key("all", 0, 0)
    filled.append(
        FilledChunk(key=other, values=np.zeros_like(values, dtype="uint8"), void=False, provenance=())
    )
    whole = Window(row=0, col=0, height=2, width=2)
    with ThreadPoolExecutor(2) as pool:
        settings = StoreSettings(decoded_cache_bytes=10**7)
        async with open_store(tmp_path, [spec], settings, pool=pool) as store:
            await store.collections["tiny"].commit(tuple(filled))
        async with open_store(tmp_path, [spec], settings, pool=pool) as store:
            collection = store.collections["tiny"]
            index = collection.index
            assert len(index.unsure_listed("dem", None, whole)) == 4
            assert not index.is_unsure(other), "without nodata no pixel can say that there is nothing"
            await collection.void_scan.examine(keys[:2], seconds=0)
            assert [index.is_unsure(key) for key in keys] == [False, False, True, True]
            assert await collection.void_scan.count([*keys, other]) == 2
            assert index.void_within("dem", None, whole).tolist() == [[False, True], [False, True]]
            assert not len(index.unsure_listed("dem", None, whole))
            assert collection.leases == 0


async def test_each_chunk_is_looked_at_once_however_many_look(tmp_path, monkeypatch):
    """Watchers and plans at once, of the same region and of overlapping ones."""
    band = BandSpec(name="dem", dtype=np.dtype("float32"), nodata=-9999.0)
    spec = tiny_spec(rows=256, cols=256, chunk=16, bands=(band,))
    flat = [np.full((16, 16), value, dtype="float32") for value in (0, -9999)]
    keys = [spec.key("dem", row, col) for row, col in product(range(16), range(16))]
    filled = (
        FilledChunk(key=key, values=flat[key.col % 2], void=bool(key.col % 2), provenance=()) for key in keys
    )
    with ThreadPoolExecutor(2) as pool:
        async with open_store(tmp_path, [spec], StoreSettings(decoded_cache_bytes=10**7), pool=pool) as store:
            await store.collections["tiny"].commit(tuple(filled))
        async with open_store(tmp_path, [spec], StoreSettings(decoded_cache_bytes=10**7), pool=pool) as store:
            collection, seen = store.collections["tiny"], Counter()
            stored = collection._reader.decode

            async def noted(lease, band, some):
                seen.update(some)
                return await stored(lease, band, some)

            monkeypatch.setattr(collection._reader, "decode", noted)
            monkeypatch.setattr(void_scan, "_EXAMINED_AT_ONCE", 50)
            counts = await asyncio.wait_for(
                asyncio.gather(*(collection.void_scan.count(keys[:size]) for size in (256, 256, 192, 64))), 60
            )
            assert (counts, set(seen.values()), seen.keys()) == ([128, 128, 96, 32], {1}, set(keys))
            assert collection.leases == 0


async def test_who_may_not_wait_does_not_wait_for_another_who_looks(tmp_path):
    spec = tiny_spec()
    with ThreadPoolExecutor(2) as pool:
        async with open_store(tmp_path, [spec], StoreSettings(decoded_cache_bytes=10**7), pool=pool) as store:
            collection, key = store.collections["tiny"], spec.key("dem", 0, 0)
            await collection.void_scan._turn.acquire()
            await asyncio.wait_for(collection.void_scan.examine([key], seconds=0.01), 60)
            waiting = asyncio.create_task(collection.void_scan.examine([key]))
            await asyncio.sleep(0.01)
            assert not waiting.done()
            collection.void_scan._turn.release()
            await asyncio.wait_for(waiting, 60)
            assert not collection.void_scan._turn.locked()


async def test_small_chunks_with_pixels_are_decoded_a_few_at_a_time(tmp_path, monkeypatch):
    band = BandSpec(name="dem", dtype=np.dtype("float32"), nodata=-9999.0)
    spec = tiny_spec(rows=512, cols=512, chunk=16, bands=(band,))
    flat = np.zeros((16, 16), dtype="float32")
    keys = [spec.key("dem", row, col) for row, col in product(range(32), range(32))]
    with ThreadPoolExecutor(2) as pool:
        settings = StoreSettings(decoded_cache_bytes=10**7)
        async with open_store(tmp_path, [spec], settings, pool=pool) as store:
            await store.collections["tiny"].commit(
                tuple(FilledChunk(key=key, values=flat, void=False, provenance=()) for key in keys)
            )
        async with open_store(tmp_path, [spec], settings, pool=pool) as store:
            collection, read = store.collections["tiny"], []
            stored = collection._reader.decode

            async def noted(lease, band, some):
                read.append(len(some))
                return await stored(lease, band, some)

            monkeypatch.setattr(collection._reader, "decode", noted)
            monkeypatch.setattr(void_scan, "_EXAMINED_BYTES", 100 * flat.nbytes)
            assert await collection.void_scan.count(keys) == 0
    assert (sum(read), max(read)) == (len(keys), 100)
