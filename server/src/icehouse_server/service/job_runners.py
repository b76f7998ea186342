"""What jobs do: seed, refresh, truncate, gc. Portion by portion: no list of all chunks is ever made."""

import asyncio
import itertools
import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from icehouse_server.aio.gather import gather_or_cancel
from icehouse_server.core.area import Area
from icehouse_server.core.collection import BandSpec, CollectionSpec
from icehouse_server.core.errors import (
    BusyError,
    DiskFullError,
    ShuttingDownError,
    TooLargeError,
)
from icehouse_server.core.grid import ChunkKey, Window, tiles
from icehouse_server.downloads import Ensured
from icehouse_server.service.coverage import CoverageService
from icehouse_server.service.job import Job
from icehouse_server.store import DROPPED_AT_ONCE, CollectionStore, Store

_BLOCKS = 2
"""Blocks along the side of a portion: four blocks at once from a region of which nothing is cached."""

_PORTIONS = 4
"""Portions of one job that wait at once: as many blocks as are fetched at once, so no place stays empty."""

_TILE = 512
"""Side, in chunks, of the tiles in which an area is looked through: a look takes half a millisecond."""

_PATIENCE = 3600.0
"""Seconds that a chunk of a job may take, its place in the queue included."""

_LONGEST_WAIT = 10.0
"""Seconds to wait at most before a full queue is tried again."""


type _Layer = tuple[int, BandSpec, int | None]
"""A level, a band, and the number of a time step where there is a time axis."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Counted:
    """What a job finds when it begins."""

    cached: int
    """Chunks, over all bands."""
    cached_bytes: int
    """Bytes of them, uncompressed."""
    absent_bytes: int


class Chunks:
    """The chunks that a job is about, found as it goes.

    Args:
        store: the collection.
        areas: positions by level.
        bands: each position counts for each of them,
        times: and at each of these time steps; None where the collection has no time axis.
    """

    def __init__(
        self,
        store: CollectionStore,
        areas: Mapping[int, Area],
        bands: Sequence[BandSpec],
        times: Sequence[int] | None = None,
    ) -> None:
        self._store = store
        self._areas = areas
        self._bands = bands
        self._times: Sequence[int | None] = (None,) if times is None else times

    @property
    def spec(self) -> CollectionSpec:
        """Their collection."""
        return self._store.spec

    @property
    def size(self) -> int:
        """How many there are, cached or not."""
        return sum(area.size for area in self._areas.values()) * len(self._bands) * len(self._times)

    async def count(self) -> Counted:
        """Count those that are cached, and the bytes of all."""
        cached = cached_bytes = whole = 0
        for level, area in self._areas.items():
            for tile in area.squares(_TILE):
                for layer in self._layers(level):
                    found = int(self._cached(layer, tile).sum())
                    cached += found
                    cached_bytes += found * self.bytes_of(layer[1])
                await asyncio.sleep(0)
            whole += area.size * sum(self.bytes_of(band) for _, band, _ in self._layers(level))
        return Counted(cached=cached, cached_bytes=cached_bytes, absent_bytes=whole - cached_bytes)

    def bytes_of(self, band: BandSpec) -> int:
        """Return the bytes of a chunk of a band, uncompressed."""
        return self.spec.grid.chunk**2 * band.dtype.itemsize

    def cached(self, side: int) -> Iterator[list[ChunkKey]]:
        """List the cached chunks, a square of positions at a time; squares without any are left out."""
        for level, area in self._areas.items():
            for tile in area.squares(_TILE):
                if any(self._cached(layer, tile).any() for layer in self._layers(level)):
                    for square in tiles(tile, side):
                        keys = self._keys(level, square, self._cached)
                        if keys:
                            yield keys

    def absent(self, side: int) -> Iterator[tuple[list[ChunkKey], int]]:
        """List the absent chunks, a square of positions at a time, each with the number of cached ones."""
        for level, area in self._areas.items():
            layers = len(self._bands) * len(self._times)
            for tile in area.squares(_TILE):
                if area.within(tile).any():
                    for square in tiles(tile, side):
                        keys = self._keys(level, square, self._absent)
                        yield keys, int(area.within(square).sum()) * layers - len(keys)

    def _layers(self, level: int) -> Iterator[_Layer]:
        return itertools.product((level,), self._bands, self._times)

    def _cached(self, layer: _Layer, window: Window) -> NDArray[np.bool_]:
        return self._areas[layer[0]].within(window) & self._present(layer, window)

    def _absent(self, layer: _Layer, window: Window) -> NDArray[np.bool_]:
        return self._areas[layer[0]].within(window) & ~self._present(layer, window)

    def _present(self, layer: _Layer, window: Window) -> NDArray[np.bool_]:
        level, band, time = layer
        return self._store.index.within(band.name, time, window, level)

    def _keys(
        self, level: int, window: Window, mask: Callable[[_Layer, Window], NDArray[np.bool_]]
    ) -> list[ChunkKey]:
        return [
            self.spec.key(band.name, window.row + int(row), window.col + int(col), time, level)
            for _, band, time in self._layers(level)
            for row, col in np.argwhere(mask((level, band, time), window))
        ]


class FetchRunner:
    """Seeds and refreshes: chunks are fetched beside what people ask for, and after it.

    What fails is counted and listed in the job, and the rest goes on.

    Args:
        job: what is told how it goes.
        chunks: what it is about.
        service: has them fetched.
    """

    def __init__(self, job: Job, chunks: Chunks, service: CoverageService) -> None:
        self._job = job
        self._chunks = chunks
        self._service = service
        block = service.downloads.settings.block_side // chunks.spec.grid.chunk
        self._side = _BLOCKS * max(1, block)

    async def seed(self) -> str:
        """Fetch what is absent, and return what to say of it.

        Raises:
            DiskFullError: there is no room.
        """
        counts = self._job.counts
        counts.total, self._job.estimated_bytes = self._chunks.size, (await self._chunks.count()).absent_bytes
        portions = self._chunks.absent(self._side)

        async def work() -> None:
            for keys, present in portions:
                counts.present += present
                await self._portion(keys, again=False)

        await gather_or_cancel(work() for _ in range(_PORTIONS))
        return f"{counts.fetched} chunks fetched, {counts.present} were cached"

    async def refresh(self) -> str:
        """Fetch again what is cached, and return what to say of it. What can't be fetched stays as it was.

        Raises:
            DiskFullError: there is no room.
        """
        found = await self._chunks.count()
        self._job.counts.total, self._job.estimated_bytes = found.cached, found.cached_bytes
        portions = self._chunks.cached(self._side)

        async def work() -> None:
            for keys in portions:
                await self._portion(keys, again=True)

        await gather_or_cancel(work() for _ in range(_PORTIONS))
        return f"{self._job.counts.fetched} chunks fetched again"

    async def _portion(self, keys: Sequence[ChunkKey], *, again: bool) -> None:
        if keys:
            await self._service.check_disk()
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
        bands = {band.name: self._chunks.bytes_of(band) for band in self._job.order.bands}
        self._job.fetched_bytes += sum(bands[key.band] for key in keys if key.path not in failed)

    async def _ensure(self, keys: Sequence[ChunkKey], *, again: bool) -> Ensured:
        """Ask for chunks, again and again while the queue is full: a job has time."""
        while True:
            try:
                return await self._service.downloads.ensure(
                    self._chunks.spec, keys, timeout=_PATIENCE, priority=self._job.order.priority, again=again
                )
            except ShuttingDownError:
                raise
            except BusyError as error:
                jitter = 0.5 + random.random()  # noqa: S311 - no secret
                await asyncio.sleep(jitter * min(error.retry_after, _LONGEST_WAIT))


async def truncate(job: Job, chunks: Chunks, store: CollectionStore) -> str:
    """Delete the cached chunks, and return what to say of it.

    Raises:
        StoreError: the repository did not take it.
    """
    job.counts.total = (await chunks.count()).cached
    for keys in _batches(chunks.cached(_TILE)):
        job.counts.dropped += await store.drop(keys, "truncate")
        job.message = f"{job.counts.dropped} of {job.counts.total} chunks"
        job.tell()
    return f"{job.counts.dropped} chunks deleted"


def _batches(portions: Iterator[list[ChunkKey]]) -> Iterator[tuple[ChunkKey, ...]]:
    return itertools.batched(itertools.chain.from_iterable(portions), DROPPED_AT_ONCE)


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
