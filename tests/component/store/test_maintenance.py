"""Expiry, collection and eviction: the disk stays bounded, and readers notice nothing."""

from __future__ import annotations

import asyncio
import contextlib
import os

import numpy as np
import pytest
from zarr.core.buffer import cpu

from icehouse_server.core.errors import DiskFullError, StoreError, UnknownSnapshotError
from icehouse_server.core.grid import ChunkKey, Window
from icehouse_server.core.ports import FilledChunk
from icehouse_server.store import DamagedChunksError, MaintenanceSettings, StoreSettings
from icehouse_server.store.disk_quota import DiskQuota
from icehouse_server.store.disk_usage import folder_bytes
from icehouse_server.testing.fakes import tiny_spec
from support.stores import open_store

SPEC = tiny_spec(rows=640, cols=640, chunk=64)
DEM = SPEC.band("dem")
CHUNK_BYTES = 64 * 64 * 4
EVERYWHERE = [(row, col) for row in range(10) for col in range(10)]


@pytest.fixture
def opened(tmp_path, pool):
    def open_it(limit=None, specs=(SPEC,), keep=3600.0, folder=tmp_path, write_timeout=10.0):
        settings = StoreSettings(
            decoded_cache_bytes=0,
            max_cache_bytes=limit,
            write_timeout=write_timeout,
            maintenance=MaintenanceSettings(keep_snapshots=keep),
        )
        return open_store(folder, specs, settings, pool=pool)

    return open_it


def noise(row, col, version=0):
    bits = np.random.default_rng([row, col, version]).integers(1, 2**31 - 1, (64, 64), dtype=np.int32)
    return (bits & 0x3FFFFFFF).view(np.float32)  # does not compress, and holds no NaN


def chunk(row, col, version=0, spec=SPEC):
    values = noise(row, col, version)
    return FilledChunk(key=spec.key("dem", row, col), values=values, void=False, provenance=())


async def commit(store, places, version=0, spec=SPEC):
    await store.collections[spec.id].commit(tuple(chunk(*place, version, spec) for place in places))


async def read(collection, row, col, lease=None):
    key, window = SPEC.key("dem", row, col), Window(row=row * 64, col=col * 64, height=64, width=64)
    async with contextlib.AsyncExitStack() as stack:
        held = lease or await stack.enter_async_context(collection.lease())
        return await collection.read(held, DEM, window, [key])


def on_disk(store):
    return folder_bytes(store.folder / "collections")


async def dead_share(collection):
    """Share of the bytes of chunk files that no snapshot needs."""
    stats = await collection.head.repository.chunk_storage_stats_async()
    files = folder_bytes(collection.folder / "chunks")
    return 1 - stats.native_bytes / files


# Deleting


async def test_dropped_chunks_are_absent_and_the_others_stay(opened):
    async with opened() as store:
        tiny = store.collections["tiny"]
        await commit(store, EVERYWHERE)
        assert await tiny.drop([SPEC.key("dem", 0, 0), SPEC.key("mask", 5, 5)], "evict") == 1
        assert not tiny.index.has(SPEC.key("dem", 0, 0))
        assert len(tiny.index) == 99
        with pytest.raises(DamagedChunksError):
            await read(tiny, 0, 0)
        np.testing.assert_array_equal(await read(tiny, 0, 1), noise(0, 1))
        await commit(store, [(0, 0)], version=1)
        np.testing.assert_array_equal(await read(tiny, 0, 0), noise(0, 0, 1))
    async with opened() as store:
        assert len(store.collections["tiny"].index) == 100


async def test_dropping_nothing_commits_nothing(opened):
    async with opened() as store:
        tiny = store.collections["tiny"]
        before = tiny.snapshot
        assert await tiny.drop([SPEC.key("dem", 0, 0)], "evict") == 0
        assert tiny.snapshot == before


# Collecting


async def test_what_was_replaced_and_dropped_is_freed(opened):
    async with opened(keep=0) as store:
        tiny = store.collections["tiny"]
        for version in range(3):
            await commit(store, EVERYWHERE, version)
        await tiny.drop([SPEC.key("dem", 9, col) for col in range(10)], "evict")
        full = on_disk(store)
        assert await dead_share(tiny) < 0.01, "history still needs them"
        await store.maintenance.run_once()
        assert on_disk(store) < full - 200 * CHUNK_BYTES * 0.8
        assert await dead_share(tiny) <= 0.1
        assert store.room.bytes == on_disk(store)
        np.testing.assert_array_equal(await read(tiny, 3, 3), noise(3, 3, 2))
        assert store.maintenance.counters.bytes_freed > 200 * CHUNK_BYTES * 0.8


async def test_snapshot_is_readable_for_the_set_time_and_unknown_after(opened):
    async with opened(keep=3600) as store:
        tiny = store.collections["tiny"]
        await commit(store, [(0, 0)])
        past = tiny.snapshot
        await commit(store, [(0, 0)], version=1)
        await store.maintenance.run_once()
        async with tiny.lease(past) as lease:
            np.testing.assert_array_equal(await read(tiny, 0, 0, lease), noise(0, 0))
        await tiny.collect(0)
        with pytest.raises(UnknownSnapshotError, match="has no snapshot"):
            async with tiny.lease(past):
                pass


async def test_what_a_lease_pins_is_spared_and_goes_after_it(opened):
    async with opened(keep=0) as store:
        tiny = store.collections["tiny"]
        await commit(store, [(0, 0), (0, 1)])
        async with tiny.lease() as pinned:
            await commit(store, [(0, 0)], version=1)
            await tiny.drop([SPEC.key("dem", 0, 1)], "evict")
            async with tiny.lease(pinned.snapshot) as named:
                await tiny.collect(0)
                for lease in (pinned, named):
                    np.testing.assert_array_equal(await read(tiny, 0, 0, lease), noise(0, 0))
                    np.testing.assert_array_equal(await read(tiny, 0, 1, lease), noise(0, 1))
        full = on_disk(store)
        await tiny.collect(0)
        assert on_disk(store) < full - 1.5 * CHUNK_BYTES
        np.testing.assert_array_equal(await read(tiny, 0, 0), noise(0, 0, 1))


async def test_a_little_garbage_is_not_looked_for(opened, monkeypatch):
    monkeypatch.setattr("icehouse_server.store.maintenance._WORTH_BYTES", 20 * CHUNK_BYTES + 10 * 128 * 1024)
    async with opened(keep=0) as store:
        tiny = store.collections["tiny"]
        await commit(store, EVERYWHERE)
        await store.maintenance.run_once()
        await commit(store, EVERYWHERE[:10], version=1)
        full = on_disk(store)
        await store.maintenance.run_once(thorough=False)
        assert on_disk(store) >= full
        assert store.maintenance.counters.snapshots_expired >= 1, "expiry costs nothing"
        for version in range(2, 12):
            await commit(store, EVERYWHERE[:10], version=version)
        await store.maintenance.run_once(thorough=False)
        assert await dead_share(tiny) <= 0.1


async def test_garbage_that_a_lease_needs_is_searched_for_once(opened, monkeypatch):
    monkeypatch.setattr("icehouse_server.store.maintenance._WORTH_BYTES", 1)
    monkeypatch.setattr("icehouse_server.store.maintenance._WORTH_SHARE", 0)
    async with opened(keep=0) as store:
        tiny = store.collections["tiny"]
        await commit(store, EVERYWHERE)
        await store.maintenance.run_once()
        looked = []
        real = tiny.head.repository.garbage_collect_async

        class Repository:
            def __getattr__(self, name):
                return getattr(repository, name)

            async def garbage_collect_async(self, at):
                looked.append(at)
                return await real(at)

        repository, tiny.head.repository = tiny.head.repository, Repository()
        async with tiny.lease():
            await commit(store, EVERYWHERE, version=1)
            for _ in range(3):
                await store.maintenance.run_once(thorough=False)
            assert not looked
        await store.maintenance.run_once(thorough=False)
        assert len(looked) == 1
        assert await dead_share(tiny) <= 0.1


async def test_a_tag_keeps_its_snapshot(opened):
    async with opened(keep=0) as store:
        tiny = store.collections["tiny"]
        await commit(store, [(0, 0)])
        await tiny.head.repository.create_tag_async("published", snapshot_id=tiny.snapshot)
        await commit(store, [(0, 0)], version=1)
        await tiny.collect(0)
        async with tiny.lease("published") as lease:
            np.testing.assert_array_equal(await read(tiny, 0, 0, lease), noise(0, 0))


async def test_readers_and_writers_go_on_while_garbage_is_collected(opened):
    async with opened(keep=0) as store:
        tiny = store.collections["tiny"]
        await commit(store, EVERYWHERE)

        async def keep_reading():
            for turn in range(60):
                row, col = turn % 10, turn * 7 % 10
                got = await read(tiny, row, col)
                assert any(np.array_equal(got, noise(row, col, version)) for version in range(9))

        async def keep_writing():
            for version in range(1, 9):
                await commit(store, EVERYWHERE[version::3], version)

        async def keep_collecting():
            for _ in range(8):
                await tiny.collect(0)

        await asyncio.gather(keep_reading(), keep_reading(), keep_writing(), keep_collecting())
        await tiny.collect(0)
        assert await dead_share(tiny) <= 0.1


async def test_what_a_kill_leaves_behind_is_cleared(opened):
    async with opened() as store:
        tiny = store.collections["tiny"]
        await commit(store, [(0, 0)])
        session = await tiny.head.repository.writable_session_async("main")
        key = SPEC.key("dem", 4, 4).path
        await session.store.set(key, cpu.Buffer.from_bytes(os.urandom(9000)))
        del session
        for place in ("chunks", "manifests", "snapshots", "."):
            (tiny.folder / place / "ABCDEF#1").write_bytes(b"half a file")
        assert len(list((tiny.folder / "chunks").iterdir())) == 3
    async with opened() as store:
        tiny = store.collections["tiny"]
        await store.maintenance.run_once()
        assert len(list((tiny.folder / "chunks").iterdir())) == 1
        assert not list(tiny.folder.rglob("*#*"))
        np.testing.assert_array_equal(await read(tiny, 0, 0), noise(0, 0))


async def test_copies_that_icechunk_never_collects_are_trimmed(opened):
    async with opened(keep=0) as store:
        tiny = store.collections["tiny"]
        for turn in range(30):
            await commit(store, [(turn % 10, turn // 10)])
        assert len(list((tiny.folder / "overwritten").iterdir())) > 20
        await tiny.collect(0)
        assert len(list((tiny.folder / "overwritten").iterdir())) <= 3
        left = {path.name for path in (tiny.folder / "transactions").iterdir()}
        assert left <= {path.name for path in (tiny.folder / "snapshots").iterdir()}
        await commit(store, [(9, 9)])
    async with opened() as store:
        assert len(store.collections["tiny"].index) == 31
        np.testing.assert_array_equal(await read(store.collections["tiny"], 9, 2), noise(9, 2))


async def test_a_commit_that_landed_though_it_was_reported_as_failed(opened):
    async with opened(keep=0) as store:
        tiny = store.collections["tiny"]
        await commit(store, [(0, 0)])
        session = await tiny.head.repository.writable_session_async("main")
        await session.store.delete(SPEC.key("dem", 0, 0).path)
        landed = await session.commit_async("no caller knows")
        await tiny.collect(0)
        assert tiny.snapshot == landed
        with pytest.raises(DamagedChunksError):
            await read(tiny, 0, 0)


async def test_failing_repository_does_not_block_the_others(opened, monkeypatch):
    other = tiny_spec("other", rows=640, cols=640, chunk=64)
    async with opened(keep=0, specs=(SPEC, other)) as store:
        for version in range(2):
            await commit(store, EVERYWHERE, version)
            await commit(store, EVERYWHERE, version, other)
        before = folder_bytes(store.collections["other"].folder)

        async def refuse(_, **__):
            raise StoreError("the disk refused")

        monkeypatch.setattr(store.collections["tiny"], "collect", refuse)
        with pytest.raises(StoreError, match="refused"):
            await store.maintenance.run_once()
        assert folder_bytes(store.collections["other"].folder) < before * 0.7
        assert store.maintenance.counters.failures == 1


async def test_maintenance_that_fails_is_tried_again(opened, monkeypatch):
    async with opened(limit=50 * CHUNK_BYTES) as store:
        calls = []
        real = type(store.maintenance).run_once

        async def sometimes(self, **options):
            calls.append(1)
            if len(calls) == 1:
                raise ValueError("a defect")
            await real(self, **options)

        monkeypatch.setattr(type(store.maintenance), "run_once", sometimes)
        monkeypatch.setattr("icehouse_server.store.maintenance._BREATH", 0.01)
        store.maintenance.start()
        for start in range(0, 60, 5):
            await commit(store, EVERYWHERE[start : start + 5])
        while store.maintenance.counters.evicted == 0:  # noqa: ASYNC110
            await asyncio.sleep(0.01)
        assert len(calls) >= 2


# Evicting


async def test_a_stream_of_misses_stays_under_the_limit(opened, monkeypatch):
    monkeypatch.setattr("icehouse_server.store.maintenance._BREATH", 0.01)
    limit = 1_200_000
    async with opened(limit=limit) as store:
        store.maintenance.start()
        tiny = store.collections["tiny"]
        most = 0
        for version in range(4):
            for start in range(0, 100, 5):
                await commit(store, EVERYWHERE[start : start + 5], version)
                most = max(most, on_disk(store))
        assert most <= limit
        assert store.maintenance.counters.evicted >= 50
        assert len(tiny.index) >= 10
        for key in list(tiny.index.keys()):
            got = await read(tiny, key.row, key.col)
            assert any(np.array_equal(got, noise(key.row, key.col, version)) for version in range(4))
        await store.maintenance.run_once()
        assert await dead_share(tiny) <= 0.1


async def test_what_was_used_longest_ago_goes_first(opened):
    async with opened() as store:
        tiny = store.collections["tiny"]
        clock = iter(range(10**6))
        tiny._reader._usage._clock = lambda: float(next(clock))
        for place in EVERYWHERE:
            await commit(store, [place])
        for col in range(10):
            await read(tiny, 0, col)
        store.room.limit = 90 * CHUNK_BYTES
        await store.maintenance.run_once()
        assert store.room.bytes <= 0.95 * 90 * CHUNK_BYTES
        left = {(key.row, key.col) for key in tiny.index.keys()}  # noqa: SIM118 - an index is not a mapping
        assert {(0, col) for col in range(10)} <= left, "they were read a moment ago"
        assert (1, 0) not in left
        assert {place for place in left if place[0]} == set(EVERYWHERE[-(len(left) - 10) :])


async def test_the_order_outlives_the_daemon(opened):
    async with opened() as store:
        for place in EVERYWHERE[:40]:
            await commit(store, [place])
        await read(store.collections["tiny"], 0, 0)
    async with opened(limit=30 * CHUNK_BYTES) as store:
        await store.maintenance.run_once()
        tiny = store.collections["tiny"]
        assert 0 < len(tiny.index) < 30
        assert tiny.index.has(SPEC.key("dem", 0, 0))
        assert not tiny.index.has(SPEC.key("dem", 0, 1))


async def test_a_lost_file_of_notes_costs_the_order_only(opened, tmp_path):
    async with opened() as store:
        await commit(store, EVERYWHERE[:40])
    for path in tmp_path.glob("notes.sqlite*"):
        path.unlink()
    async with opened(limit=30 * CHUNK_BYTES) as store:
        await store.maintenance.run_once()
        assert 0 < len(store.collections["tiny"].index) < 30
        assert on_disk(store) < 30 * CHUNK_BYTES


async def test_notes_of_an_unserved_collection_are_harmless(opened):
    other = tiny_spec("other", rows=640, cols=640, chunk=64)
    async with opened(specs=(SPEC, other)) as store:
        await commit(store, EVERYWHERE[:40], spec=other)
        await commit(store, EVERYWHERE[:40])
    async with opened(limit=30 * CHUNK_BYTES) as store:
        await store.maintenance.run_once()
        assert 0 < len(store.collections["tiny"].index) < 30
    async with opened(specs=(other,)) as store:
        assert len(store.collections["other"].index) == 40


async def test_a_writer_waits_for_room_and_gets_it(opened, monkeypatch):
    monkeypatch.setattr("icehouse_server.store.maintenance._BREATH", 0.01)
    async with opened(limit=60 * CHUNK_BYTES) as store:
        store.maintenance.start()
        await asyncio.gather(*(commit(store, [place]) for place in EVERYWHERE))
        await store.maintenance.run_once()
        assert store.room.bytes <= 60 * CHUNK_BYTES


async def test_no_room_is_said_by_the_deadline():
    room = DiskQuota(1_000_000)
    room.measured(950_000)
    with pytest.raises(DiskFullError, match="950000 of the 1000000 bytes that max_cache_bytes allows"):
        await room.admit(50_000, 0.05)
    assert room.wanted.is_set()
    assert room.excess == 0, "no caller waits any more"
    room.measured(100_000)
    await room.admit(50_000, 0.05)


async def test_a_commit_that_can_never_fit_evicts_nothing():
    room = DiskQuota(1_000_000)
    with pytest.raises(DiskFullError, match="does not fit into max_cache_bytes = 1000000"):
        await room.admit(900_000, 10)
    assert not room.wanted.is_set()


async def test_a_store_without_a_limit_never_waits():
    room = DiskQuota(None)
    for _ in range(5):
        await room.admit(10**15, 0.01)
    assert not room.wanted.is_set()
    assert room.excess == 0


async def test_what_is_committed_while_the_folder_is_measured_counts():
    room = DiskQuota(10**9)
    await room.admit(1000, 1)
    room.written(1000)
    room.measuring()
    await room.admit(500, 1)
    room.measured(70_000)
    assert room.bytes == 70_000 + 500 + 128 * 1024


async def test_admitted_unwritten_bytes_count_at_a_measurement():
    room = DiskQuota(10**9)
    await room.admit(1000, 1)
    room.measuring()
    room.measured(70_000)
    assert room.bytes == 70_000 + 1000 + 128 * 1024
    room.written(1000)
    room.measuring()
    room.measured(71_000)
    assert room.bytes == 71_000


# Keys


@pytest.mark.parametrize(
    "key",
    [
        ChunkKey(collection="a", level=0, band="dem", time=None, row=120, col=7),
        ChunkKey(collection="a", level=3, band="dem", time=None, row=0, col=0),
        ChunkKey(collection="a", level=0, band="5", time=4, row=1, col=2),
        ChunkKey(collection="a", level=11, band="c", time=0, row=10**6, col=2),
    ],
)
def test_a_chunks_path_leads_back_to_it(key):
    assert ChunkKey.from_path("a", key.path) == key


@pytest.mark.parametrize(
    "path", ["", "dem", "dem/c/1", "dem/c/1/-2", "dem/c/1/2/", "0/dem/c/1/2", "dem/c/\u0661/2"]
)
def test_what_is_no_path_of_a_chunk(path):
    with pytest.raises(ValueError, match="path of a chunk"):
        ChunkKey.from_path("a", path)
