"""What the loops of ``test_nth_call`` have found, each with a test of its own."""

from __future__ import annotations

import asyncio
import errno
from functools import partial

import numpy as np
import pytest

from icehouse_server.core.errors import DiskFullError, StoreError
from icehouse_server.core.ports import FilledChunk
from icehouse_server.store import DamagedChunksError, FolderLock, StoreSettings
from icehouse_server.store.repository.index import Index
from icehouse_server.testing.fakes import Truth, tiny_spec
from support.faulty import Calls, Failing, Panic, disk_error, storage_error
from support.stores import open_store

SPEC = tiny_spec(rows=64, cols=64, chunk=32)
TRUTH = Truth(spec=SPEC)
DEM = SPEC.band("dem")
ONE, TWO = SPEC.key("dem", 0, 0), SPEC.key("dem", 1, 1)


@pytest.fixture
async def store(tmp_path, pool):
    async with open_store(
        tmp_path, [SPEC], StoreSettings(decoded_cache_bytes=0, write_timeout=20), pool=pool
    ) as s:
        await s.collections["tiny"].commit((filled(ONE),))
        yield s


@pytest.fixture
def calls(tmp_path, store):  # noqa: ARG001 - after it was opened
    with Calls(tmp_path) as made:
        yield made


def filled(key):
    values = TRUTH.pixels(DEM, SPEC.grid.chunk_window(key.row, key.col))
    return FilledChunk(key=key, values=values, void=False, provenance=())


async def read(collection, key, snapshot=None):
    window = SPEC.grid.chunk_window(key.row, key.col)
    async with collection.lease(snapshot) as lease:
        np.testing.assert_array_equal(
            await collection.read(lease, DEM, window, [key]), TRUTH.pixels(DEM, window)
        )


def once(kind, error, first=1):
    return Failing(kind=kind, first=first, error=error)


@pytest.mark.parametrize("late", [False, True])
async def test_write_that_cancels_itself_was_reported_as_kept(store, calls, late):
    """A task group passes over a child that is cancelled, so the commit went on without the chunk."""
    tiny = store.collections["tiny"]
    calls.fault = Failing(kind="set", first=1, error=asyncio.CancelledError, late=late)
    with pytest.raises(StoreError):
        await tiny.commit((filled(TWO),))
    assert not tiny.index.has(TWO)
    await tiny.commit((filled(TWO),))
    await read(tiny, TWO)


@pytest.mark.parametrize("kind", ["session", "set", "commit", "delete", "expire", "collect"])
async def test_call_that_cancels_itself_ended_the_writer(store, calls, kind):
    tiny = store.collections["tiny"]
    calls.fault = once(kind, asyncio.CancelledError)
    with pytest.raises(StoreError):
        await {"delete": partial(tiny.drop, [ONE], "evict"), "expire": partial(tiny.collect, 0)}.get(
            kind, partial(tiny.collect, 0) if kind == "collect" else partial(tiny.commit, (filled(TWO),))
        )()
    assert tiny.writer.alive
    await tiny.commit((filled(TWO),))
    await read(tiny, TWO)


@pytest.mark.parametrize("error", [partial(storage_error, errno.EIO), partial(Panic, "a panic")])
async def test_a_disk_error_was_told_as_an_unknown_snapshot(store, calls, error):
    tiny = store.collections["tiny"]
    past = tiny.snapshot
    for kind in ("lookup", "session"):
        calls.reset(once(kind, error))
        with pytest.raises(StoreError):
            await read(tiny, ONE, past)
    calls.reset()
    await read(tiny, ONE, past)


@pytest.mark.parametrize(
    "error", [Panic, asyncio.CancelledError, TimeoutError, partial(disk_error, errno.EIO)]
)
async def test_read_errors_other_than_icechunks_went_to_the_caller(store, calls, error):
    """It is a chunk that can't be read back, as any other."""
    tiny = store.collections["tiny"]
    calls.fault = once("get", error)
    with pytest.raises(DamagedChunksError):
        await read(tiny, ONE)
    await read(tiny, ONE)
    assert tiny.leases == 0


async def test_lookup_error_went_to_the_caller_in_icechunks_words(store, calls):
    tiny = store.collections["tiny"]
    past = tiny.snapshot
    await tiny.commit((filled(TWO),))
    async with tiny.lease(past) as lease:
        calls.reset(once("lookup", partial(storage_error, errno.EIO)))
        with pytest.raises(StoreError):
            await tiny.absent(lease, [ONE, TWO])
        assert await tiny.absent(lease, [ONE, TWO]) == (TWO,)
    async with tiny.lease() as lease:
        tiny.index.become(
            await Index.load(SPEC, lease.session)
        )  # as after a restart: nothing was examined yet
    calls.reset(once("lookup", partial(storage_error, errno.EIO)))
    with pytest.raises(StoreError):
        await tiny.void_scan.count([ONE])
    assert tiny.index.is_unsure(ONE)


async def test_a_panic_made_readiness_fail_instead_of_being_its_answer(store, calls):
    calls.fault = once("lookup", Panic)
    assert await store.collections["tiny"].fault(5) == "Panic"
    assert await store.collections["tiny"].fault(5) == ""


@pytest.mark.parametrize(("number", "kind"), [(errno.EIO, StoreError), (errno.ENOSPC, DiskFullError)])
@pytest.mark.parametrize("call", ["scandir", "unlink"])
async def test_a_disk_error_left_maintenance_without_a_name(store, calls, call, number, kind):
    tiny = store.collections["tiny"]
    for _ in range(4):
        await tiny.commit((filled(TWO),))
    calls.reset(once(call, partial(disk_error, number)))
    with pytest.raises(kind):
        await store.maintenance.run_once()
    calls.reset()
    await store.maintenance.run_once()
    await read(tiny, TWO)


async def test_full_disk_prevented_start_and_release_of_the_lock(tmp_path):
    lock = FolderLock(tmp_path)
    with Calls(tmp_path) as calls:
        calls.fault = Failing(kind="rename", first=1, forever=True, error=partial(disk_error, errno.ENOSPC))
        lock.acquire()
        calls.reset(Failing(kind="unlink", first=1, forever=True, error=partial(disk_error, errno.EIO)))
        lock.release()
    other = FolderLock(tmp_path)
    other.acquire()
    other.release()


async def test_the_writer_ends_and_nobody_was_told_why(store):
    tiny = store.collections["tiny"]
    tiny.writer._task.cancel()
    await asyncio.wait([tiny.writer._task])
    with pytest.raises(StoreError, match="has ended"):
        await tiny.commit((filled(TWO),))
    await read(tiny, ONE)
