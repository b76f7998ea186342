"""What jobs do: seed, refresh, truncate, gc. Batch by batch: no list of all chunks is ever made."""

import asyncio
import itertools
import random
from collections.abc import Iterator, Sequence

from icehouse_server.aio.gather import gather_or_cancel
from icehouse_server.core.errors import (
    BusyError,
    DiskFullError,
    ShuttingDownError,
    TooLargeError,
)
from icehouse_server.core.grid import ChunkKey
from icehouse_server.downloads import Downloads, Ensured
from icehouse_server.service.disk_guard import DiskGuard
from icehouse_server.service.jobs.chunks import TILE, JobChunks
from icehouse_server.service.jobs.job import Job
from icehouse_server.store import DROPPED_AT_ONCE, CollectionStore, Store

_BLOCKS = 2
"""Blocks along the side of a batch: four blocks at once from a region of which nothing is cached."""

_BATCHES = 4
"""Batches of one job that wait at once: as many blocks as are fetched at once, so no slot stays empty."""

_PATIENCE = 3600.0
"""Seconds that a chunk of a job may take, its place in the queue included."""

_LONGEST_WAIT = 10.0
"""Seconds to wait at most before a full queue is tried again."""


class FetchRunner:
    """Seeds and refreshes: chunks are fetched in addition to what people ask for, and after it.

    What fails is counted and listed in the job, and the rest goes on.

    Args:
        job: keeps the progress.
        chunks: what it is about.
        downloads: fetch them.
        disk: refuses what could not be kept.
    """

    def __init__(self, job: Job, chunks: JobChunks, downloads: Downloads, disk: DiskGuard) -> None:
        self._job = job
        self._chunks = chunks
        self._downloads = downloads
        self._disk = disk
        block = downloads.settings.block_side // chunks.spec.grid.chunk
        self._side = _BLOCKS * max(1, block)

    async def seed(self) -> str:
        """Fetch what is absent, and return what to say of it.

        Raises:
            DiskFullError: there is no room.
        """
        counts = self._job.counts
        counts.total, self._job.estimated_bytes = self._chunks.size, (await self._chunks.count()).absent_bytes
        batches = self._chunks.absent(self._side)

        async def work() -> None:
            for keys, present in batches:
                counts.present += present
                await self._fetch_batch(keys, again=False)

        await gather_or_cancel(work() for _ in range(_BATCHES))
        return f"{counts.fetched} chunks fetched, {counts.present} were cached"

    async def refresh(self) -> str:
        """Fetch again what is cached, and return what to say of it. What can't be fetched stays as it was.

        Raises:
            DiskFullError: there is no room.
        """
        found = await self._chunks.count()
        self._job.counts.total, self._job.estimated_bytes = found.cached, found.cached_bytes
        batches = self._chunks.cached(self._side)

        async def work() -> None:
            for keys in batches:
                await self._fetch_batch(keys, again=True)

        await gather_or_cancel(work() for _ in range(_BATCHES))
        return f"{self._job.counts.fetched} chunks fetched again"

    async def _fetch_batch(self, keys: Sequence[ChunkKey], *, again: bool) -> None:
        if keys:
            await self._disk.check()
            await self._fetch(keys, again=again)
        counts = self._job.counts
        self._job.message = f"{counts.done} of {counts.total} chunks"
        self._job.tell()
        await asyncio.sleep(0)

    async def _fetch(self, keys: Sequence[ChunkKey], *, again: bool) -> None:
        """Have chunks fetched; where the queue is too short for them even when it is empty, in halves."""
        try:
            ensured = await self._ensure(keys, again=again)
        except TooLargeError:
            if len(keys) == 1:
                raise
            middle = len(keys) // 2
            await self._fetch(keys[:middle], again=again)
            await self._fetch(keys[middle:], again=again)
            return
        for failure in ensured.failed:
            if failure.kind == DiskFullError.kind:
                raise DiskFullError(failure.detail)
            if failure.kind == ShuttingDownError.kind:
                raise ShuttingDownError(failure.detail, retry_after=5)
        failed = {failure.chunk for failure in ensured.failed}
        self._job.fail(ensured.failed)
        self._job.counts.fetched += len(keys) - len(failed)
        bands = {band.name: self._chunks.bytes_of(band) for band in self._job.spec.bands}
        self._job.fetched_bytes += sum(bands[key.band] for key in keys if key.path not in failed)

    async def _ensure(self, keys: Sequence[ChunkKey], *, again: bool) -> Ensured:
        """Ask for chunks, again and again while the queue is full: a job has time."""
        while True:
            try:
                return await self._downloads.ensure(
                    self._chunks.spec, keys, timeout=_PATIENCE, priority=self._job.spec.priority, again=again
                )
            except ShuttingDownError:
                raise
            except BusyError as error:
                jitter = 0.5 + random.random()  # noqa: S311 - no secret
                await asyncio.sleep(jitter * min(error.retry_after, _LONGEST_WAIT))


async def truncate(job: Job, chunks: JobChunks, store: CollectionStore) -> str:
    """Delete the cached chunks, and return what to say of it.

    Raises:
        StoreError: the repository did not take it.
    """
    job.counts.total = (await chunks.count()).cached
    for keys in _regrouped(chunks.cached(TILE)):
        job.counts.dropped += await store.drop(keys, "truncate")
        job.message = f"{job.counts.dropped} of {job.counts.total} chunks"
        job.tell()
    return f"{job.counts.dropped} chunks deleted"


def _regrouped(squares: Iterator[list[ChunkKey]]) -> Iterator[tuple[ChunkKey, ...]]:
    """Return the chunks of squares in groups as large as may be dropped at once."""
    return itertools.batched(itertools.chain.from_iterable(squares), DROPPED_AT_ONCE)


async def collect(store: Store) -> str:
    """Expire snapshots, collect garbage and evict, and return what to say of it.

    Raises:
        StoreError: a repository or the disk refused.
    """
    counters = store.maintenance.counters
    snapshots, freed, evicted = counters.snapshots_expired, counters.bytes_freed, counters.evicted
    await store.maintenance.run_once()
    return (
        f"{counters.snapshots_expired - snapshots} snapshots expired, "
        f"{counters.bytes_freed - freed} bytes freed, {counters.evicted - evicted} chunks evicted"
    )
