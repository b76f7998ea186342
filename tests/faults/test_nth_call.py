"""The n-th call of each kind fails, for every n that a scenario reaches; then the cache is looked at closely.

Requests end in right pixels or in a named error, in time. What did not need the call is not harmed. When the
fault is over, the same requests succeed without a restart, and after a restart every chunk is the truth.
"""

from __future__ import annotations

import asyncio
import errno
import logging
import os
import random
import shutil
import sqlite3
import tempfile
import time
from contextlib import AsyncExitStack
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import icechunk
import numpy as np
import pytest
import structlog
import zarr

from icehouse_server.core.errors import (
    ChunksFailedError,
    DiskFullError,
    IcehouseError,
    NotCachedError,
    StoreError,
)
from icehouse_server.core.grid import Window
from icehouse_server.core.plan import Region
from icehouse_server.downloads import CollectionPipeline, Downloads, DownloadSettings, RetryPolicy
from icehouse_server.service import CoverageRequest, ServiceParts, ServiceSettings
from icehouse_server.store import MaintenanceSettings, SidecarDb, SqliteDocuments, Store, StoreSettings
from icehouse_server.store.repository.index import Index
from icehouse_server.testing.fakes import ScriptedSource, Truth, tiny_spec
from support.faulty import Calls, Failing, Panic, disk_error, storage_error

if TYPE_CHECKING:
    from concurrent.futures import ThreadPoolExecutor

LONG = os.environ.get("HYPOTHESIS_PROFILE") == "long"
SEED = os.environ.get("ICEHOUSE_TEST_SEED", "")
SECONDS = 30
"""After which a scenario counts as hanging."""
SPEC = tiny_spec(rows=60, cols=90, chunk=32)
BOTH = ("dem", "mask")
OLD, NEW = (Truth(spec=SPEC, seed=seed, void=frozenset({(0, 0)})) for seed in (0, 5))
WHOLE = SPEC.grid.window
KEPT = Window(row=0, col=0, height=20, width=90)
"""Cached in every folder that a scenario begins with."""
LEFT, RIGHT = Window(row=10, col=0, height=50, width=50), Window(row=40, col=40, height=20, width=50)
FULL_BYTES = 40_000


def keys_of(window, bands=BOTH):
    under = SPEC.grid.chunks_under(window)
    return {
        SPEC.key(band, row, col)
        for band in bands
        for row in range(under.row, under.stop_row)
        for col in range(under.col, under.stop_col)
    }


def chunk_of(key, truth):
    size = SPEC.grid.chunk
    out = np.full((size, size), SPEC.band(key.band).fill, SPEC.band(key.band).dtype)
    area = SPEC.grid.chunk_window(key.row, key.col)
    out[: area.height, : area.width] = truth.pixels(SPEC.band(key.band), area)
    return out


@dataclass(kw_only=True)
class Life:
    """A daemon without HTTP, and what it has promised."""

    folder: Path
    pool: ThreadPoolExecutor
    limit: int | None = None
    source: ScriptedSource = field(default_factory=lambda: ScriptedSource(truth=OLD))
    acknowledged: set = field(default_factory=set)
    refreshed: set = field(default_factory=set)
    errors: list = field(default_factory=list)
    victim: asyncio.Task | None = None

    async def __aenter__(self):
        self.stack = AsyncExitStack()
        notes = SidecarDb(self.folder / "notes.sqlite", self.pool)
        self.stack.callback(notes.close)
        self.documents = SqliteDocuments(notes)
        settings = StoreSettings(
            decoded_cache_bytes=0,
            write_timeout=SECONDS,
            max_cache_bytes=self.limit,
            maintenance=MaintenanceSettings(keep_snapshots=0),
        )
        self.store = await Store.open(self.folder, [SPEC], settings, notes=notes, pool=self.pool)
        self.stack.push_async_callback(self.store.close)
        self.collection = self.store.collections["tiny"]
        self.downloads = Downloads(
            {
                "tiny": CollectionPipeline(
                    source=self.source, presence=self.collection.index, sink=self.collection
                )
            },
            DownloadSettings(
                block_side=SPEC.grid.chunk, failure_ttl=0, unwanted=0, retry=RetryPolicy(attempts=1)
            ),
            pool=self.pool,
        )
        self.stack.push_async_callback(self.downloads.close)
        chosen = ServiceSettings(request_timeout=SECONDS, disk_floor=1)
        self.service = ServiceParts.assemble(self.store, self.downloads, chosen, pool=self.pool)
        return self

    async def __aexit__(self, *_):
        await self.stack.aclose()

    async def ask(self, window, bands=BOTH, **options):
        """A request: its answer is checked; its error is noted and returned."""
        region = Region(collection=SPEC, bands=SPEC.select(bands), target=SPEC.grid.geobox_of(window))
        try:
            answer = await self.service.coverages.coverage(CoverageRequest(region=region, **options))
        except IcehouseError as error:
            self.note(error, keys_of(window, bands))
            return error
        answer.close()
        for key in keys_of(window, bands):
            self.check(key, answer.coverage.bands[key.band], window)
        if "snapshot" not in options:
            self.acknowledged |= keys_of(window, bands)
        self.latest = answer.coverage.snapshot
        return None

    def note(self, error, keys):
        """An error names nothing that the request did not need."""
        assert type(error) is not IcehouseError, repr(error)
        if isinstance(error, ChunksFailedError):
            assert {failure.chunk for failure in error.failed} <= {key.path for key in keys}
            assert {failure.kind for failure in error.failed} <= {StoreError.kind, DiskFullError.kind}
        else:  # what can't be read back counts as absent, which a caller that may not fetch is answered
            assert isinstance(error, StoreError | DiskFullError | NotCachedError), repr(error)
        self.errors.append(error)

    def check(self, key, pixels, window):
        """The part of a window that lies in a chunk is the truth: the latest, where it was promised."""
        common = SPEC.grid.chunk_window(key.row, key.col).intersection(window)
        got = pixels[common.slices(window)]
        truths = [NEW] if key in self.refreshed else [OLD, self.source.truth]
        wanted = [truth.pixels(SPEC.band(key.band), common) for truth in truths]
        assert any(np.array_equal(got, one) for one in wanted), f"wrong pixels in {key.path}"

    async def refresh(self, window, bands=BOTH):
        keys = keys_of(window, bands)
        ensured = await self.downloads.ensure(SPEC, sorted(keys), timeout=SECONDS, again=True)
        failed = {failure.chunk for failure in ensured.failed}
        if ensured.failed:
            self.note(ChunksFailedError(ensured.failed), keys)
        self.refreshed |= {key for key in keys if key.path not in failed}

    async def attempt(self, work):
        """Something that is not a request: it ends well or in one of our errors."""
        try:
            await work
        except IcehouseError as error:
            self.note(error, set())

    async def idle(self):
        while (now := self.downloads.snapshot()).running or now.queued:  # noqa: ASYNC110 - a caller hung up
            await asyncio.sleep(0.001)
        await self.collection.writer.turn(partial(asyncio.sleep, 0))

    async def check_at_rest(self):
        """Nothing is held any more, and the index lists what is there and no more."""
        assert self.collection.writer.alive
        await self.idle()
        flights = self.downloads.snapshot().flights
        assert self.collection.leases == self.service.admission.budget.held == flights == 0
        async with self.collection.lease() as lease:
            stored = await Index.load(SPEC, lease.session)
        assert set(self.collection.index.keys()) <= set(stored.keys())


# Scenarios: what is done while calls fail


async def all_of(*works):
    """Wait for all, also where one ends in what it should not, or where the caller leaves."""
    tasks = [asyncio.ensure_future(work) for work in works]
    try:
        await asyncio.wait(tasks)
    except asyncio.CancelledError:
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)
        raise
    for task in tasks:
        task.result()


async def cold(life):
    await life.ask(WHOLE)


async def together(life):
    await all_of(life.ask(LEFT), life.ask(RIGHT), life.ask(WHOLE, ("dem",)), life.ask(RIGHT))


async def kept(life):
    """What is cached is read, whatever becomes of a load at the same time."""

    async def keep_reading():
        for _ in range(4):
            await life.ask(KEPT, only_if_cached=True)

    await all_of(life.ask(LEFT), keep_reading())


async def warm(life):
    await all_of(life.ask(KEPT), life.ask(KEPT, ("dem",)))


async def refresh(life):
    life.source.truth = NEW
    await all_of(life.refresh(KEPT), life.ask(KEPT))
    await life.ask(KEPT)


async def past(life):
    before = life.collection.snapshot
    await life.ask(KEPT, snapshot=before)
    await life.ask(WHOLE)
    await life.ask(KEPT, snapshot=before)
    try:
        async with life.collection.lease(before) as lease:
            await life.collection.absent(lease, sorted(keys_of(WHOLE)))
    except IcehouseError as error:
        life.note(error, set())


async def upkeep(life):
    """A chunk is dropped, another fetched again, and what is not needed is collected, while a reader
    reads."""
    key = SPEC.key("dem", 0, 1)
    life.acknowledged.discard(key)
    async with life.collection.lease():
        await life.attempt(life.collection.drop([key], "evict"))
        await life.ask(LEFT)
        await life.attempt(life.store.maintenance.run_once())
    await life.attempt(life.store.maintenance.run_once())


async def limit(life):
    """Most of the cache has to go."""
    await life.ask(LEFT)
    life.store.room.limit = FULL_BYTES
    life.acknowledged.clear()
    await life.attempt(life.store.maintenance.run_once())


async def damage(life):
    chunks = life.collection.folder / "chunks"
    for path in [chunks / name for name in sorted(os.listdir(chunks))[::2]]:  # noqa: PTH208 - it is not counted
        data = bytearray(path.read_bytes())
        data[len(data) // 2] ^= 4
        path.write_bytes(data)
    await all_of(life.ask(KEPT), life.ask(KEPT, ("mask",)))


async def void(life):
    region = Region(collection=SPEC, bands=SPEC.bands, target=SPEC.grid.geobox)
    await life.ask(LEFT)
    try:
        plan = await life.service.planner.plan(region)
        assert await life.service.planner.voids(plan) <= 2
    except IcehouseError as error:
        life.note(error, set())


async def closing(life):
    """The daemon stops with work under way."""
    loading = asyncio.ensure_future(life.ask(WHOLE))
    await asyncio.sleep(0.002)
    try:
        await life.downloads.close()
        await life.store.close()
    finally:
        await asyncio.wait([loading])


SCENARIOS = {
    scenario.__name__: scenario
    for scenario in (cold, together, kept, warm, refresh, past, upkeep, limit, damage, void)
}


# Faults


def of_icechunk():
    return {
        "no room": partial(storage_error, errno.ENOSPC),
        "disk error": partial(storage_error, errno.EIO),
        "too many files": partial(storage_error, errno.EMFILE),
        "conflict": partial(icechunk.ConflictError, "the branch moved"),
        "defect": partial(icechunk.IcechunkError, "an assertion does not hold"),
        "no room, plain": partial(disk_error, errno.ENOSPC),
        "disk error, plain": partial(disk_error, errno.EIO),
        "timeout": partial(TimeoutError, "it took too long"),
        "cancelled": asyncio.CancelledError,
        "panic": partial(Panic, "called `Option::unwrap()` on a `None` value"),
    }


def of_files():
    return {
        os.strerror(number): partial(disk_error, number)
        for number in (errno.ENOSPC, errno.EIO, errno.EMFILE, errno.EACCES, errno.EROFS)
    }


def of_sqlite():
    return {
        "disk I/O error": partial(sqlite3.OperationalError, "disk I/O error"),
        "full": partial(sqlite3.OperationalError, "database or disk is full"),
        "malformed": partial(sqlite3.DatabaseError, "database disk image is malformed"),
    }


ERRORS = {
    **dict.fromkeys(("open", "session", "lookup", "expire", "collect", "commit", "list"), of_icechunk()),
    **dict.fromkeys(("get", "set", "delete"), of_icechunk()),
    **dict.fromkeys(("mkdir", "rename", "scandir", "unlink", "disk-usage", "flock"), of_files()),
    "sqlite": of_sqlite(),
}
WRITES = {"session", "set", "delete", "commit", "expire", "collect"}
SPOILS = {
    "cut": lambda data: data[: len(data) // 2],
    "one byte short": lambda data: data[:-1],
    "empty": lambda _: b"",
    "a bit flipped": lambda data: data[:9] + bytes([data[9] ^ 1]) + data[10:],
    "checksum flipped": lambda data: data[:-1] + bytes([data[-1] ^ 128]),
    "zeros": lambda data: bytes(len(data)),
    "longer": lambda data: data + b"\0",
}


def numbers_of(kind, count):
    """Every n; in the quick profile six of those calls that change nothing, if there are more."""
    return range(1, count + 1, 1 if LONG or kind in WRITES else -(-count // 6))


def faults_of(kind, number, chance):
    """The faults for the n-th call: all of them, or a sample that differs from call to call."""
    found = []
    for name, error in ERRORS[kind].items():
        for forever in (False, True):
            for late in (False, True):
                fault = Failing(kind=kind, first=number, forever=forever, late=late, error=error)
                found.append((f"{name}{' from then on' * forever}{' (answer lost)' * late}", fault))
    found.append(("slow", Failing(kind=kind, first=number, forever=True, delay=0.003)))
    found.append(("the caller leaves", Failing(kind=kind, first=number)))
    if kind == "get":
        for name, spoil in SPOILS.items():
            found.append((name, Failing(kind=kind, first=number, spoil=spoil)))
            found.append(
                (f"{name} from then on", Failing(kind=kind, first=number, spoil=spoil, forever=True))
            )
    if LONG:
        return found
    once = [entry for entry in found if not entry[1].forever]
    ever = [entry for entry in found if entry[1].forever]
    return [chance.choice(chance.choice([once, ever]))] if kind in WRITES else [chance.choice(found)]


# The loop


@pytest.fixture(scope="module")
def pool(pool):
    """Both threads run already: their start is none of the calls that are counted."""
    list(pool.map(lambda _: None, range(8)))
    return pool


@pytest.fixture(autouse=True)
def quiet():
    """No log: it would take more time than what is logged."""
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))
    yield
    structlog.reset_defaults()


@pytest.fixture
def folders():
    """Makes folders, in memory where there is room for that."""
    memory = Path("/dev/shm")
    with tempfile.TemporaryDirectory(dir=memory if os.access(memory, os.W_OK) else None) as root:
        yield Path(root)


@pytest.fixture
def template(folders, pool):
    """A cache folder in which the region KEPT is cached."""

    async def make():
        folder = folders / "template"
        folder.mkdir()
        async with Life(folder=folder, pool=pool) as life:
            assert await life.ask(KEPT) is None

    asyncio.run(make())
    return folders / "template"


@dataclass
class Loop:
    """Tries one scenario over and over, each time on a new copy of the same folder."""

    scenario: object
    template: Path
    pool: ThreadPoolExecutor
    calls: Calls
    tries: int = 0
    struck: int = 0

    async def count(self):
        """How many calls of each kind the scenario makes when nothing fails."""
        return await self.one(None)

    async def one(self, fault, name=""):
        self.tries += 1
        folder = self.template.with_name(f"{self.tries}")
        shutil.copytree(self.template, folder)
        life = Life(folder=folder, pool=self.pool)
        async with life:
            if name == "the caller leaves":
                fault = replace(fault, error=partial(_leave, life, asyncio.get_running_loop()))
            self.calls.reset(fault)
            life.acknowledged |= keys_of(KEPT)
            life.victim = asyncio.ensure_future(self.scenario(life))
            done, _ = await asyncio.wait([life.victim], timeout=SECONDS)
            counts, struck = self.calls.counts.copy(), self.calls.struck
            self.calls.reset()
            life.store.room.limit = None
            assert done, "it hangs"
            self.struck += bool(struck)
            self.judge(life, fault, name, struck)
            await check_repository(life)
            await life.check_at_rest()
            assert await life.ask(WHOLE) is None, "it goes on without a restart"
            await life.check_at_rest()
        if LONG or fault is None or fault.kind in WRITES or not self.tries % 4:
            await self.reopened(life)
        shutil.rmtree(folder)
        return counts

    def judge(self, life, fault, name, struck):
        """The outcome is one that the fault allows."""
        leaves = name == "the caller leaves" or name.startswith("cancelled")
        if life.victim.cancelled():
            assert leaves
        elif life.victim.exception() is not None:
            raise life.victim.exception()
        if fault is None or fault.kind != "get":
            assert not any(isinstance(error, NotCachedError) for error in life.errors)
        if not struck or fault.kind == "sqlite" or name == "slow":
            assert not life.errors, life.errors
        if struck and not leaves and fault.kind in {"set", "commit"} and fault.forever and not fault.delay:
            assert life.errors, "what could not be kept was reported as kept"
        if struck and name.startswith("no room") and fault.kind in {"set", "commit", "session"}:
            for error in life.errors:
                kinds = {failure.kind for failure in getattr(error, "failed", [error])}
                assert kinds <= {DiskFullError.kind}

    async def reopened(self, life):
        """After a restart, and for other programs, every chunk is the truth."""
        again = Life(folder=life.folder, pool=self.pool, refreshed=life.refreshed)
        again.source.truth = life.source.truth
        async with again:
            assert await again.ask(WHOLE, only_if_cached=True) is None
            assert not again.source.requests
            await again.check_at_rest()
        group = zarr.open_group(open_plain(life.folder), mode="r")
        for band in BOTH:
            pixels = group[band][:]
            for key in keys_of(WHOLE, (band,)):
                again.check(key, pixels, WHOLE)


def _leave(life, loop):
    loop.call_soon_threadsafe(life.victim.cancel)


def open_plain(folder):
    storage = icechunk.local_filesystem_storage(str(folder / "collections" / "tiny"))
    return icechunk.Repository.open(storage).readonly_session("main").store


async def check_repository(life):
    """What was acknowledged is in the repository, as another program sees it at this moment."""
    await life.idle()
    storage = icechunk.local_filesystem_storage(str(life.folder / "collections" / "tiny"))
    repository = await icechunk.Repository.open_async(storage)
    stored = await Index.load(SPEC, await repository.readonly_session_async("main"))
    assert life.acknowledged <= set(stored.keys())


@pytest.mark.slow
@pytest.mark.timeout(7200 if LONG else 180)
@pytest.mark.parametrize("name", SCENARIOS)
async def test_the_nth_call_fails(name, template, pool):
    with Calls(template.parent) as calls:
        loop, begun = Loop(SCENARIOS[name], template, pool, calls), time.perf_counter()
        counts, chance = await loop.count(), random.Random(f"{SEED} {name}")
        for kind in sorted(set(counts) & set(ERRORS)):
            for number in numbers_of(kind, counts[kind]):
                for what, fault in faults_of(kind, number, chance):
                    try:
                        await loop.one(fault, what)
                    except Exception as error:
                        error.add_note(f"{name}: {kind} call {number} of {counts[kind]}: {what}")
                        raise
        assert loop.struck > loop.tries // 2
        print(name, dict(counts), "tries:", loop.tries, "struck:", loop.struck, time.perf_counter() - begun)  # noqa: T201 - figures, with -s
