"""``Downloads``: has absent chunks fetched, each once, and tells those who wait."""

import asyncio
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass, field
from enum import IntEnum

import structlog

from icehouse_server.core.blocks import ChunkBlock, join
from icehouse_server.core.collection import CollectionSpec
from icehouse_server.core.errors import (
    BusyError,
    DeadlineExceededError,
    FailedChunk,
    IcehouseError,
    ShuttingDownError,
    SourceError,
)
from icehouse_server.core.grid import ChunkKey
from icehouse_server.core.plan import Presence
from icehouse_server.core.ports import ChunkSink, Source
from icehouse_server.downloads.fetch import RetryPolicy, cut, read_block, request_for
from icehouse_server.downloads.flights import Failures, Flight
from icehouse_server.downloads.schedule import Job, Schedule

log = structlog.get_logger(__name__)


_PARTS_AT_ONCE = 4
"""Chunks of a failed block that are tried at once: the block held one place of the queue, not many."""


class Priority(IntEnum):
    """Who goes first."""

    INTERACTIVE = 0
    PREFETCH = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class DownloadSettings:
    """Limits of the downloads."""

    blocks_at_once: int = 16
    blocks_per_collection: int = 8
    max_queued_blocks: int = 2048
    block_side: int = 2048
    """Longest side of a block, in pixels; a chunk that is longer is a block of its own."""
    failure_ttl: float = 10.0
    """Seconds for which a chunk that failed is left alone."""
    retry: RetryPolicy = field(default_factory=RetryPolicy)


@dataclass(frozen=True, slots=True, kw_only=True)
class Supply:
    """What fills a collection: where its pixels come from, what is there already, and where they go."""

    source: Source
    presence: Presence
    sink: ChunkSink


@dataclass(frozen=True, slots=True, kw_only=True)
class Ensured:
    """What came of a call of ``ensure``."""

    failed: tuple[FailedChunk, ...]
    """Chunks that are not there, in the order asked for."""
    started: int
    """Chunks whose fetch this call began."""
    joined: int
    """Chunks that were under way for somebody else."""


@dataclass(slots=True)
class Counters:
    """What happened since the start; shown as metrics."""

    chunks_fetched: int = 0
    chunks_joined: int = 0
    chunks_failed: int = 0
    blocks_fetched: int = 0
    chunks_left_alone: int = 0


class Downloads:
    """Fetches absent chunks, each once however many ask. Runs on one event loop."""

    def __init__(
        self,
        supplies: Mapping[str, Supply],
        settings: DownloadSettings,
        *,
        pool: Executor,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._supplies = supplies
        self._settings = settings
        self._pool = pool
        self._flights: dict[ChunkKey, Flight] = {}
        self._failures = Failures(settings.failure_ttl, clock)
        self._schedule = Schedule(
            self._fetch, at_once=settings.blocks_at_once, per_collection=settings.blocks_per_collection
        )
        self._closed = False
        self.counters = Counters()

    @property
    def queued(self) -> int:
        """Blocks that have not begun."""
        return self._schedule.queued

    @property
    def running(self) -> int:
        """Blocks under way."""
        return self._schedule.running

    def in_flight(self, key: ChunkKey) -> bool:
        """Return whether a chunk is under way or queued."""
        return key in self._flights

    async def ensure(
        self,
        spec: CollectionSpec,
        keys: Sequence[ChunkKey],
        *,
        timeout: float,  # noqa: ASYNC109 - the time is reported per chunk, not raised
        priority: Priority = Priority.INTERACTIVE,
        again: bool = False,
    ) -> Ensured:
        """Have chunks fetched and committed, and wait for them.

        What was there, or came in the meantime, costs nothing. A caller that is cancelled, or whose time is
        up, stops waiting; chunks that nobody waits for and that have not begun are not fetched.

        Args:
            spec: the collection of all the keys.
            keys: the chunks.
            timeout: seconds to wait at most; what is not there by then is reported as failed.
            priority: who goes first.
            again: fetch also what is there already, and what failed a moment ago.

        Raises:
            BusyError: the queue is full; nothing was queued.
            ShuttingDownError: the daemon is stopping.
        """
        waiting, failed, started = self._enlist(spec, keys, priority, again=again)
        joined = len(waiting) - started
        self.counters.chunks_joined += joined
        try:
            if waiting:
                await asyncio.wait([flight.done for flight in waiting], timeout=timeout)
        finally:
            self._leave(waiting)
        failed.extend(
            failure for flight in waiting if (failure := _outcome(flight, timeout, self._closed)) is not None
        )
        order = {key.path: place for place, key in enumerate(keys)}
        failed.sort(key=lambda failure: order[failure.chunk])
        return Ensured(failed=tuple(failed), started=started, joined=joined)

    async def close(self) -> None:
        """Stop: nothing new begins, what is under way is cancelled. Safe to call twice."""
        self._closed = True
        await self._schedule.close()
        for flight in self._flights.values():
            flight.done.cancel()
        self._flights.clear()

    # The next two run without an await inside, so no other request comes between look and act.

    def _enlist(
        self, spec: CollectionSpec, keys: Sequence[ChunkKey], priority: Priority, *, again: bool
    ) -> tuple[list[Flight], list[FailedChunk], int]:
        """Look again, join flights that are under way, and queue the rest."""
        if self._closed:
            raise ShuttingDownError("the daemon is stopping and fetches nothing more", retry_after=5)
        presence = self._supplies[spec.id].presence
        waiting: list[Flight] = []
        failed: list[FailedChunk] = []
        fresh: list[ChunkKey] = []
        for key in dict.fromkeys(keys):
            if presence.has(key) and not again:
                continue
            flight = self._flights.get(key)
            if flight is not None:
                waiting.append(flight)
            elif not again and (failure := self._failures.recent(key)) is not None:
                self.counters.chunks_left_alone += 1
                failed.append(failure)
            else:
                fresh.append(key)
        blocks = join(fresh, self._block_chunks(spec))
        if blocks and self._schedule.queued + len(blocks) > self._settings.max_queued_blocks:
            self._schedule.purge()
        if blocks and self._schedule.queued + len(blocks) > self._settings.max_queued_blocks:
            raise BusyError(
                f"the download queue is full: {self._schedule.queued} blocks wait, {len(blocks)} more were "
                f"asked for, and at most {self._settings.max_queued_blocks} may wait",
                retry_after=5,
            )
        jobs = [self._job(spec, block) for block in blocks]
        waiting.extend(flight for job in jobs for flight in job.flights.values())
        for flight in waiting:
            flight.waiters += 1
        self._schedule.put(jobs, priority)
        return waiting, failed, len(fresh)

    def _leave(self, waiting: Sequence[Flight]) -> None:
        """Stop waiting; a flight that nobody waits for and that has not begun is dropped."""
        for flight in waiting:
            flight.waiters -= 1
            if flight.waiters == 0 and not flight.begun and not flight.done.done():
                flight.done.cancel()
                self._flights.pop(flight.key, None)

    def _job(self, spec: CollectionSpec, block: ChunkBlock) -> Job:
        job = Job(spec=spec, block=block)
        for row, col in block.positions:
            for band in block.bands:
                key = spec.key(band, row, col)
                self._flights[key] = job.flights[key] = Flight(key=key)
        return job

    def _block_chunks(self, spec: CollectionSpec) -> int:
        return max(1, self._settings.block_side // spec.grid.chunk)

    async def _fetch(self, job: Job) -> None:
        """Fetch a job's block. Whatever happens, every flight of it lands."""
        wanted = {key: flight for key, flight in job.flights.items() if not flight.done.done()}
        for flight in wanted.values():
            flight.begun = True
        try:
            for block in join(wanted, self._block_chunks(job.spec)):
                await self._fill(job.spec, block)
        finally:
            for key, flight in wanted.items():
                if self._flights.get(key) is flight:
                    del self._flights[key]
                if not flight.done.done():
                    flight.done.cancel()

    async def _fill(self, spec: CollectionSpec, block: ChunkBlock) -> None:
        """Read, cut and commit a block; where it fails, its chunks one by one: a bad item stays local."""
        error = await self._try(spec, block, self._settings.retry)
        if error is None:
            return
        parts = _parts(block)
        if len(parts) == 1 or not _may_be_local(error):
            for part in parts:
                self._land_failed(spec, part, error)
            return
        once = RetryPolicy(attempts=1, block_timeout=self._settings.retry.block_timeout)
        log.info("a block failed; its chunks are tried one by one", collection=spec.id, kind=error.kind)

        gate = asyncio.Semaphore(_PARTS_AT_ONCE)

        async def alone(part: ChunkBlock) -> None:
            async with gate:
                failure = await self._try(spec, part, once)
            if failure is not None:
                self._land_failed(spec, part, failure)

        async with asyncio.TaskGroup() as tasks:
            for part in parts:
                tasks.create_task(alone(part))

    async def _try(self, spec: CollectionSpec, block: ChunkBlock, retry: RetryPolicy) -> IcehouseError | None:
        supply = self._supplies[spec.id]
        request = request_for(spec, block)
        try:
            got = await read_block(supply.source, request, retry)
            chunks = await asyncio.get_running_loop().run_in_executor(
                self._pool, cut, spec, request, got, block
            )
            await supply.sink.commit(chunks)
        except IcehouseError as error:
            return error
        except (asyncio.CancelledError, KeyboardInterrupt, SystemExit):
            raise
        except BaseException:  # the flight's edge: neither a defect nor a Rust panic may strand anybody
            log.exception("a block could not be filled", collection=spec.id)
            return SourceError(f"the source of {spec.id!r} failed in a way that it should not")
        self.counters.blocks_fetched += 1
        for chunk in chunks:
            self.counters.chunks_fetched += 1
            self._failures.forget(chunk.key)
            self._land(chunk.key, None)
        return None

    def _land_failed(self, spec: CollectionSpec, part: ChunkBlock, error: IcehouseError) -> None:
        for row, col in part.positions:
            for band in part.bands:
                key = spec.key(band, row, col)
                item = error.item if isinstance(error, SourceError) else ""
                failure = FailedChunk(chunk=key.path, kind=error.kind, detail=error.detail, item=item)
                self.counters.chunks_failed += 1
                self._failures.note(key, failure)
                self._land(key, failure)

    def _land(self, key: ChunkKey, failure: FailedChunk | None) -> None:
        flight = self._flights.pop(key, None)
        if flight is not None:
            flight.land(failure)


def _parts(block: ChunkBlock) -> list[ChunkBlock]:
    """Cut a block into blocks of one chunk of one band."""
    return [
        part
        for row, col in block.positions
        for band in block.bands
        for part in join([ChunkKey(collection="", level=0, band=band, time=None, row=row, col=col)], 1)
    ]


def _may_be_local(error: IcehouseError) -> bool:
    """Return whether other chunks of the block may do better: an item is at fault, not the whole source."""
    return isinstance(error, SourceError) and bool(error.item)


def _outcome(flight: Flight, timeout: float, closed: bool) -> FailedChunk | None:  # noqa: FBT001
    if flight.done.done() and not flight.done.cancelled():
        return flight.done.result()
    if flight.done.cancelled() and closed:
        return FailedChunk(
            chunk=flight.key.path, kind=ShuttingDownError.kind, detail="the daemon stopped while fetching it"
        )
    return FailedChunk(
        chunk=flight.key.path,
        kind=DeadlineExceededError.kind,
        detail=f"it was not there after {timeout:.0f} s",
    )
