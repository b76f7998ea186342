"""The collections as Zarr stores: what is under a key, fetched first where it is an absent chunk."""

import asyncio
import hashlib
from collections import Counter
from collections.abc import Callable
from concurrent.futures import Executor
from dataclasses import dataclass, field
from datetime import UTC, datetime

from icehouse_server.aio.worker_pool import run_in
from icehouse_server.core.collection import CollectionSpec
from icehouse_server.core.errors import NotCachedError, StoreError, UnknownKeyError
from icehouse_server.core.grid import ChunkKey
from icehouse_server.core.limits import CubeSettings
from icehouse_server.service.admission import Admission
from icehouse_server.service.chunk_fetcher import ChunkFetcher, error_of
from icehouse_server.service.coverage import REFILLS
from icehouse_server.service.deadline import deadline
from icehouse_server.service.fetch_budget import FetchBudget
from icehouse_server.service.trace import Trace
from icehouse_server.store import AxisChunk, Cube, DamagedChunksError, Store, frame_of, make_cube


@dataclass(kw_only=True, eq=False)
class StoreEntry:
    """The bytes under a key. Their memory counts against the budget until ``close``."""

    data: bytes | memoryview
    tag: str
    """Of the content alone: the same bytes have the same tag, whatever the snapshot."""
    is_document: bool = False
    """JSON: metadata."""
    trace: Trace | None = None
    """How a chunk was come by."""
    on_close: Callable[[], None] = field(default=lambda: None)

    def close(self) -> None:
        """Give the memory back, when the last byte has left. To be called once."""
        self.on_close()


class CubeService:
    """Answers requests for keys of the collections' Zarr stores. Runs on one event loop.

    Args:
        store: the open collections.
        fetcher: has absent chunks fetched.
        admission: memory for what is sent.
        settings: limits.
        timeout: seconds that a request may wait for an absent chunk, and as many for the rest.
        pool: computes.
    """

    def __init__(
        self,
        store: Store,
        fetcher: ChunkFetcher,
        admission: Admission,
        settings: CubeSettings,
        *,
        timeout: float,
        pool: Executor,
    ) -> None:
        self._store = store
        self._fetcher = fetcher
        self._admission = admission
        self._timeout = timeout
        self._pool = pool
        self._budget = FetchBudget(settings.fetches, settings.window)
        self._cubes: dict[str, Cube] = {}
        self._making = asyncio.Lock()
        self._fetching: Counter[ChunkKey] = Counter()

    async def entry(
        self, spec: CollectionSpec, key: str, *, client: str, trace: Trace, only_if_cached: bool = False
    ) -> StoreEntry:
        """Return what is under a key of a collection's store; an absent chunk is fetched first.

        Args:
            spec: the collection.
            key: such as ``zarr.json`` or ``dem/c/120/7``.
            client: whose budget of fetches is spent.
            trace: filled in on the way.
            only_if_cached: fetch nothing.

        Raises:
            UnknownKeyError: the store has no such key.
            NotCachedError: the chunk is absent and may not be fetched.
            FetchBudgetError: the client has had enough fetched for a while.
            ChunksFailedError: the chunk could not be fetched.
            BusyError: a queue or the memory budget is full.
            DiskFullError: there is no room to keep what would be fetched.
            ShuttingDownError: the daemon is stopping.
        """
        with trace.stage("plan"):
            found = (await self._cube(spec)).find(key)
        if isinstance(found, ChunkKey):
            async with deadline(self._timeout * 2):
                return await self._chunk(spec, found, client, trace, only_if_cached=only_if_cached)
        if isinstance(found, AxisChunk):
            data = await run_in(self._pool, found.encoded)
            return StoreEntry(data=data, tag=_tag(data))
        return StoreEntry(data=found, tag=_tag(found), is_document=key.endswith("zarr.json"))

    async def cached_entry(self, spec: CollectionSpec, key: str, *, trace: Trace) -> StoreEntry:
        """The same of the store that has cached chunks alone.

        Raises:
            UnknownKeyError: the store has no such key; a chunk that is absent is none of it.
        """
        try:
            return await self.entry(spec, key, client="", trace=trace, only_if_cached=True)
        except NotCachedError:
            raise UnknownKeyError(
                f"chunk {key} of collection {spec.id!r} is not cached",
                hint="the same key of cube.zarr fetches it",
            ) from None

    async def file(self, spec: CollectionSpec, path: str) -> StoreEntry:
        """Return one of the files of a collection's repository; what its reader reads stays for a while.

        Raises:
            UnknownKeyError: there is no such file.
            BusyError: the memory budget is full.
            StoreError: it can't be read.
        """
        store = self._store.collection(spec.id)
        memory = await self._admission.memory(await store.files.size(path))
        try:
            with memory.working():
                data = await store.files.read(path)
                tag = await run_in(self._pool, _tag, data)
        except BaseException:
            memory.release()
            raise
        return StoreEntry(data=data, tag=tag, on_close=memory.release)

    async def _cube(self, spec: CollectionSpec) -> Cube:
        """Return the store of a collection with the time steps of now."""
        steps = 0 if spec.time is None else spec.time.count(datetime.now(UTC))
        async with self._making:
            cube = self._cubes.get(spec.id)
            if cube is None or cube.steps != steps:
                cube = await run_in(self._pool, make_cube, spec, steps)
                self._cubes[spec.id] = cube
        return cube

    async def _chunk(
        self, spec: CollectionSpec, key: ChunkKey, client: str, trace: Trace, *, only_if_cached: bool
    ) -> StoreEntry:
        """Fetch a chunk where it is absent, then read it as it is stored."""
        store = self._store.collection(spec.id)
        size = spec.grid.chunk**2 * spec.band(key.band).dtype.itemsize
        self._admission.budget.check(size)
        trace.chunks += 1
        for _ in range(REFILLS + 1):
            if not store.index.has(key):
                if only_if_cached:
                    raise NotCachedError(
                        f"chunk {key.path} is not cached",
                        hint="ask without only-if-cached to have it fetched",
                    )
                await self._fetch(spec, key, client, trace)
            with trace.stage("queue"):
                memory = await self._admission.memory(size)
            entry = None
            try:
                async with store.lease() as lease:
                    try:
                        with memory.working(), trace.stage("read"):
                            data = await store.stored(lease, key)
                        entry = StoreEntry(
                            data=frame_of(data), tag=_chunk_tag(data), trace=trace, on_close=memory.release
                        )
                    except DamagedChunksError as error:
                        if lease.snapshot == store.snapshot:  # else it may have been written anew
                            store.forget(error.keys)
            finally:
                if entry is None:
                    memory.release()
            if entry is not None:
                return entry
        raise StoreError(
            f"the stored chunk {key.path} can't be read back, even after it was fetched again",
            hint="look at the disk of the cache folder; where max_cache_bytes is set, it may be too small",
        )

    async def _fetch(self, spec: CollectionSpec, key: ChunkKey, client: str, trace: Trace) -> None:
        """Have a chunk fetched. Who joins a fetch that is under way pays nothing for it."""
        trace.absent += 1
        # The fetches of our own as well: a look at the disk comes before a chunk is in flight.
        if key not in self._fetching and not self._fetcher.in_flight(key):
            self._budget.spend(client)
        self._fetching[key] += 1
        try:
            failed = await self._fetcher.fetch(spec, [key], trace)
        finally:
            self._fetching[key] -= 1
            self._fetching += Counter()  # drops the zeros
        if failed:
            raise error_of(failed, holes=False)


def _tag(data: bytes) -> str:
    return f'"{hashlib.blake2b(data, digest_size=16).hexdigest()}"'


def _chunk_tag(data: memoryview) -> str:
    """Return the entity tag of a chunk: its length and the CRC-32C at its end, which was just checked."""
    return f'"{len(data):x}-{bytes(data[-4:]).hex()}"'
