"""The n-th call of each kind fails while a cache is opened, made, widened by a band, or closed.

A start goes well or ends in a named error, and leaves nothing behind that the next start trips over.
"""

from __future__ import annotations

import asyncio
import errno
import os
import random
import shutil
import sqlite3
import tempfile
import threading
from contextlib import asynccontextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path

import icechunk
import numpy as np
import pytest

from icehouse_server.app import open_daemon
from icehouse_server.core.errors import (
    CacheFolderLockedError,
    ConfigurationError,
    DiskFullError,
    ShuttingDownError,
    StoreError,
)
from icehouse_server.core.ports import FilledChunk
from icehouse_server.settings import Settings
from icehouse_server.store import FolderLock, StoreSettings
from icehouse_server.testing.fakes import Truth, tiny_spec
from support.faulty import Calls, Failing, Panic, disk_error, storage_error
from support.stores import open_store

# zarr's own: it drops coroutines that it has made where another one fails.
pytestmark = [
    pytest.mark.filterwarnings("ignore:coroutine .* was never awaited:RuntimeWarning"),
    pytest.mark.filterwarnings("ignore:Exception ignored in. <coroutine object"),
]
LONG = os.environ.get("HYPOTHESIS_PROFILE") == "long"
SEED = os.environ.get("ICEHOUSE_TEST_SEED", "")
SECONDS = 30
SPEC = tiny_spec(rows=40, cols=40, chunk=32)
NARROW = replace(SPEC, bands=SPEC.bands[:1])
TRUTH = Truth(spec=SPEC)
FILES = ("mkdir", "rename", "scandir", "unlink", "flock")
ICECHUNK = ("open", "session", "commit", "list", "get", "set")
KEY = SPEC.key("dem", 0, 0)


@asynccontextmanager
async def opened(folder, pool, spec=SPEC):
    lock = FolderLock(folder)
    lock.acquire()
    try:
        settings = StoreSettings(decoded_cache_bytes=0, write_timeout=SECONDS)
        async with open_store(folder, [spec], settings, pool=pool) as store:
            yield store
    finally:
        lock.release()


def filled(key):
    values = TRUTH.pixels(SPEC.band(key.band), SPEC.grid.chunk_window(key.row, key.col))
    return FilledChunk(key=key, values=values, void=False, provenance=())


async def check(store):
    """The chunk that was written before is there, and more can be written."""
    collection = store.collections["tiny"]
    async with collection.lease() as lease:
        window = SPEC.grid.chunk_window(0, 0)
        got = await collection.read(lease, SPEC.band("dem"), window, [KEY])
    np.testing.assert_array_equal(got, TRUTH.pixels(SPEC.band("dem"), window))
    await collection.commit((filled(SPEC.key("mask", 0, 0)),))


@pytest.fixture
def root():
    memory = Path("/dev/shm")
    with tempfile.TemporaryDirectory(dir=memory if os.access(memory, os.W_OK) else None) as made:
        yield Path(made)


def assert_tells(error):
    """It names what can't be used, and what to do."""
    assert error.hint
    if isinstance(error, CacheFolderLockedError):
        return  # flock says EACCES where another caller has the lock
    assert "'tiny'" in error.detail or "cache_dir" in error.detail


def errors_of(kind):
    if kind in FILES:
        numbers = (errno.ENOSPC, errno.EIO, errno.EMFILE, errno.EACCES, errno.EROFS, errno.EINTR)
        return [partial(disk_error, number) for number in numbers]
    if kind == "sqlite":
        texts = ("disk I/O error", "database or disk is full", "unable to open database file")
        found = [partial(sqlite3.OperationalError, text) for text in texts]
        return [*found, partial(sqlite3.DatabaseError, "database disk image is malformed")]
    return [
        *(partial(storage_error, number) for number in (errno.ENOSPC, errno.EIO, errno.EMFILE)),
        partial(icechunk.IcechunkError, "an assertion does not hold"),
        partial(icechunk.ConflictError, "the branch moved"),
        partial(disk_error, errno.EIO),
        partial(TimeoutError, "it took too long"),
        partial(Panic, "called `Option::unwrap()` on a `None` value"),
        asyncio.CancelledError,
    ]


def faults_of(kind, number, chance):
    found = [
        Failing(kind=kind, first=number, forever=forever, late=late, error=error)
        for error in errors_of(kind)
        for forever in (False, True)
        for late in (False, True)
    ]
    return found if LONG else [chance.choice(found)]


@pytest.mark.timeout(7200 if LONG else 180)
@pytest.mark.parametrize("begin", ["nothing", "a repository", "a repository that lacks a band"])
async def test_the_nth_call_of_a_start_fails(root, pool, begin):
    template, tries, struck = root / "template", 0, 0
    template.mkdir()
    if begin != "nothing":
        async with opened(template, pool, NARROW if "lacks" in begin else SPEC) as store:
            await store.collections["tiny"].commit((filled(KEY),))
    with Calls(root) as calls:

        async def start(fault):
            folder = root / f"{tries}"
            shutil.copytree(template, folder)
            calls.reset(fault)
            try:
                async with asyncio.timeout(SECONDS), opened(folder, pool) as store:
                    hits, counts = calls.struck, calls.counts.copy()
                    calls.reset()
                    if begin != "nothing":
                        await check(store)
            except (StoreError, ConfigurationError, CacheFolderLockedError) as refused:
                hits, counts = calls.struck, calls.counts.copy()
                calls.reset()
                assert hits, "it failed although no call did"
                assert_tells(refused)
            async with asyncio.timeout(SECONDS), opened(folder, pool) as store:
                if begin == "nothing":
                    await store.collections["tiny"].commit((filled(KEY),))
                await check(store)
                assert not list(folder.glob("collections/.*")), "half of a repository is left"
            shutil.rmtree(folder)
            return counts, hits

        counts, _ = await start(None)
        chance = random.Random(f"{SEED} {begin}")
        for kind in sorted(set(counts) & {*FILES, *ICECHUNK, "sqlite"}):
            for number in range(1, counts[kind] + 1):
                for fault in faults_of(kind, number, chance):
                    tries += 1
                    try:
                        struck += bool((await start(fault))[1])
                    except BaseException as error:
                        error.add_note(f"{kind} call {number} of {counts[kind]}: {fault.error!r}")
                        raise
        assert struck > tries // 2
        print(begin, dict(counts), "tries:", tries, "struck:", struck)  # noqa: T201 - figures, with -s


@pytest.mark.timeout(7200 if LONG else 180)
async def test_the_nth_call_of_an_end_fails(root, pool):
    """The daemon stops with commits under way: each is kept, or is reported as not kept."""
    template, tries, struck = root / "template", 0, 0
    template.mkdir()
    async with opened(template, pool) as store:
        await store.collections["tiny"].commit((filled(KEY),))
    keys = [SPEC.key(band, row, col) for band in ("dem", "mask") for row in (0, 1) for col in (0, 1)]

    async def keep(store, key):
        try:
            await store.collections["tiny"].commit((filled_edge(key),))
        except (StoreError, DiskFullError, ShuttingDownError):
            return None
        return key

    with Calls(root) as calls:

        async def end(fault):
            folder = root / f"{tries}"
            shutil.copytree(template, folder)
            async with asyncio.timeout(SECONDS), opened(folder, pool) as store:
                calls.reset(fault)
                keeping = [asyncio.ensure_future(keep(store, key)) for key in keys]
                while not calls.counts["session"]:  # noqa: ASYNC110 - until the writer has begun
                    await asyncio.sleep(0.0005)
                await store.close()
                kept = {key for key in await asyncio.gather(*keeping) if key}
                counts, hits = calls.counts.copy(), calls.struck
                calls.reset()
            async with opened(folder, pool) as store:
                assert kept <= set(store.collections["tiny"].index.keys())
                await check(store)
            shutil.rmtree(folder)
            return counts, hits

        counts, _ = await end(None)
        chance = random.Random(f"{SEED} end")
        kinds = sorted(set(counts) & {"session", "set", "commit", "sqlite"})
        for kind in kinds:
            for number in range(1, counts[kind] + 1):
                for fault in faults_of(kind, number, chance):
                    tries += 1
                    seen, hits = await end(fault)
                    # How commits are grouped differs from run to run: a later call may not come.
                    assert hits or seen[kind] < number
                    struck += bool(hits)
        assert struck >= len(kinds)  # the first call of each kind always comes
        print("end", dict(counts), "tries:", tries, "struck:", struck)  # noqa: T201 - figures, with -s


def filled_edge(key):
    side = SPEC.grid.chunk
    values = np.full((side, side), SPEC.band(key.band).fill, SPEC.band(key.band).dtype)
    area = SPEC.grid.chunk_window(key.row, key.col)
    values[: area.height, : area.width] = TRUTH.pixels(SPEC.band(key.band), area)
    return FilledChunk(key=key, values=values, void=False, provenance=())


async def test_start_without_a_new_thread_ends_with_a_named_error(root):
    """Never a request later: the threads of the pools are all started at the start."""
    settings = Settings(cache_dir=root / "cache", collections=("arcticdem-32m",), worker_threads=2)
    with Calls(root) as calls:
        async with open_daemon(settings) as state:
            counted = calls.counts["thread"]
            assert counted >= 2 + 16
            assert await state.coverages.warm_up(state.store.collection("arcticdem-32m").spec) is None
            assert calls.counts["thread"] == counted
        refuse = partial(RuntimeError, "can't start new thread")
        for number in (1, 2, 3, counted // 2, 2 + 16):
            before = threading.active_count()
            calls.reset(Failing(kind="thread", first=number, forever=number % 2 == 0, error=refuse))
            with pytest.raises(ConfigurationError, match="does not let the daemon start"):
                async with asyncio.timeout(SECONDS), open_daemon(settings):
                    pass
            calls.reset()
            while threading.active_count() > before:  # noqa: ASYNC110 - threads that end
                await asyncio.sleep(0.01)
        async with open_daemon(settings) as state:
            assert list(state.store.collections) == ["arcticdem-32m"]
