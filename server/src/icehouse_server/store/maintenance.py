"""Maintenance of all repositories: old snapshots expire, garbage is collected, the disk stays bounded."""

import asyncio
import contextlib
import itertools
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import structlog

from icehouse_server.aio.worker_pool import run_in
from icehouse_server.core.errors import IcehouseError
from icehouse_server.core.limits import MaintenanceSettings
from icehouse_server.store.disk_usage import folder_bytes
from icehouse_server.store.repository.collection import CollectionStore
from icehouse_server.store.repository.mutations import DROPPED_AT_ONCE
from icehouse_server.store.repository.resources import StoreResources
from icehouse_server.store.translate_errors import translate_errors

log = structlog.get_logger(__name__)

_ROUNDS = 10
"""Times that eviction measures again and goes on, where the bytes of chunks were guessed wrong."""

_WORTH_BYTES = 8 * 1024**2
_WORTH_SHARE = 0.05
"""Garbage that is worth a look at every file: at least this many bytes, and this share of what the cache
takes."""

_SAVE_EVERY = 5.0
"""Seconds between two savings of when chunks were used."""

_BREATH = 1.0
"""Seconds between two attempts to make room: while readers pin what was deleted, another is of no use."""


@dataclass(slots=True)
class MaintenanceCounters:
    """What was done since the start; shown as metrics."""

    runs: int = 0
    failures: int = 0
    seconds: float = 0.0
    evicted: int = 0
    snapshots_expired: int = 0
    bytes_freed: int = 0


class Maintenance:
    """Looks after the repositories of one cache folder. Runs on one event loop.

    Everything that changes a repository happens in its writer's turn; readers go on meanwhile.
    """

    def __init__(
        self,
        collections: Mapping[str, CollectionStore],
        shared: StoreResources,
        settings: MaintenanceSettings,
        *,
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:
        self._collections = collections
        self._room = shared.room
        self._usage = shared.usage
        self._pool = shared.pool
        self._settings = settings
        self._clock = clock
        self._running = asyncio.Lock()
        self._measured = False
        self._tasks: list[asyncio.Task[None]] = []
        self.counters = MaintenanceCounters()

    def start(self, *, crashed: bool = False) -> None:
        """Begin to run by itself, at once.

        Args:
            crashed: the daemon before this one did not stop by itself; what it left behind is cleared.
        """
        self._tasks = [
            asyncio.create_task(self._run(crashed=crashed), name="maintenance"),
            asyncio.create_task(self._save(), name="use of chunks"),
        ]

    async def close(self) -> None:
        """Stop, and save when chunks were used. Safe to call twice."""
        for task in self._tasks:
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks)
            self._tasks = []
        await self._usage.save()

    async def run_once(self, *, thorough: bool = True) -> None:
        """Expire, collect and, where the cache is over its limit, evict. One run at a time.

        Args:
            thorough: collect garbage however little there may be.

        Raises:
            StoreError: a repository or the disk refused; what can be done without it is done.
        """
        async with self._running:
            begun = self._clock()
            try:
                freed = await self._collect(self._settings.keep_snapshots, 0 if thorough else self._worth)
                if freed or not self._measured:
                    await self._measure()
                await self._make_room()
                self.counters.runs += 1
            except IcehouseError:
                self.counters.failures += 1
                raise
            finally:
                self.counters.seconds += self._clock() - begun

    @property
    def _worth(self) -> int:
        return max(_WORTH_BYTES, int(_WORTH_SHARE * self._room.bytes))

    async def _run(self, *, crashed: bool) -> None:
        thorough = crashed
        while True:
            self._room.wanted.clear()
            try:
                await self.run_once(thorough=thorough)
                thorough = False
            except IcehouseError as error:
                log.warning("maintenance failed", error=error.detail)
            except Exception:  # the task's edge: the next run may do better
                log.exception("maintenance failed in a way that it should not")
            await asyncio.sleep(_BREATH)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self._settings.interval):
                    await self._room.wanted.wait()

    async def _save(self) -> None:
        while True:
            await asyncio.sleep(_SAVE_EVERY)
            await self._usage.save()

    async def _collect(self, keep: float, garbage: int) -> int:
        """Let snapshots expire and collect garbage, one repository after the other; return bytes freed."""
        errors: list[IcehouseError] = []
        total = 0
        for collection in self._collections.values():
            try:
                collected = await collection.collect(keep, garbage=garbage)
            except IcehouseError as error:  # a repository that fails does not keep the others from theirs
                errors.append(error)
                continue
            self.counters.snapshots_expired += collected.snapshots
            total += collected.bytes
        self.counters.bytes_freed += total
        if errors:
            raise errors[0]
        return total

    async def _measure(self) -> None:
        self._room.measuring()
        total = 0
        for collection in self._collections.values():
            with translate_errors("the bytes of the cache folder can't be counted"):
                size = await run_in(self._pool, folder_bytes, collection.folder)
            collection.head.bytes = size
            total += size
        self._room.measured(total)
        self._measured = True

    async def _make_room(self) -> None:
        """Give up history first, then the chunks that were used longest ago."""
        if not self._room.excess:
            return
        await self._collect(0, 1)
        await self._measure()
        for _ in range(_ROUNDS):
            excess = self._room.excess
            if not excess:
                return
            evicted = await self._evict(excess)
            await self._collect(0, 1)
            await self._measure()
            log.info("evicted", chunks=evicted, bytes=self._room.bytes, limit=self._room.limit)
            if not evicted:
                return

    async def _evict(self, size: int) -> int:
        """Delete the chunks that were used longest ago, up to a given sum of bytes."""
        oldest = await self._usage.oldest(size, self._collections)
        if not oldest:
            await self._adopt()
            oldest = await self._usage.oldest(size, self._collections)
        evicted = 0
        for name, collection in self._collections.items():
            keys = [key for key in oldest if key.collection == name]
            for part in itertools.batched(keys, DROPPED_AT_ONCE):
                evicted += await collection.drop(part, "evict")
        self.counters.evicted += evicted
        return evicted

    async def _adopt(self) -> None:
        """Put chunks that the order of eviction does not know at its head: the file of notes was lost."""
        for collection in self._collections.values():
            spec = collection.spec
            guess = spec.grid.chunk**2 * max(band.dtype.itemsize for band in spec.bands) // 2
            await self._usage.adopt(list(collection.index.keys()), guess)
