"""``Downloads``: has absent chunks fetched, each once, and tells those who wait."""

import asyncio
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import Executor

import numpy as np
import structlog
from numpy.typing import NDArray

from icehouse_server.core.blocks import ChunkBlock, join
from icehouse_server.core.collection import CollectionSpec
from icehouse_server.core.errors import (
    BusyError,
    DeadlineExceededError,
    FailedChunk,
    ShuttingDownError,
    TooLargeError,
)
from icehouse_server.core.grid import ChunkKey, Window
from icehouse_server.core.limits import DownloadSettings
from icehouse_server.core.rates import RateEstimator
from icehouse_server.downloads.block_fetcher import BlockFetcher, keys_of
from icehouse_server.downloads.chunk_flights import BlockTask, Failure, Flight, Flights, State
from icehouse_server.downloads.fetch_report import Counters, LastFailure
from icehouse_server.downloads.schedule import Schedule
from icehouse_server.downloads.values import (
    BlockReport,
    CollectionPipeline,
    Ensured,
    Priority,
)


class Downloads:
    """Fetches absent chunks, each once however many ask. Runs on one event loop."""

    def __init__(
        self,
        supplies: Mapping[str, CollectionPipeline],
        settings: DownloadSettings,
        *,
        pool: Executor,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._supplies = supplies
        self._settings = settings
        self._clock = clock
        self._flights = Flights()
        self._filling = BlockFetcher(supplies, settings, pool=pool, flights=self._flights, clock=clock)
        self._schedule = Schedule(
            self._fetch,
            at_once=settings.blocks_at_once,
            per_collection=settings.blocks_per_collection,
            collections=len(supplies),
            ended=self._count,
        )
        self._pace = RateEstimator(clock)
        """Of blocks that end, over all collections; ``_paces`` by collection."""
        self._paces: defaultdict[str, RateEstimator] = defaultdict(lambda: RateEstimator(clock))
        self._closed = False

    @property
    def counters(self) -> Counters:
        """What happened since the start."""
        return self._filling.counters

    @property
    def queued(self) -> int:
        """Blocks that have not begun."""
        return self._schedule.queued

    @property
    def running(self) -> int:
        """Blocks under way."""
        return self._schedule.running

    @property
    def running_by_collection(self) -> Mapping[str, int]:
        """Blocks under way of each collection."""
        return {name: self._schedule.running_of(name) for name in self._supplies}

    @property
    def oldest(self) -> float:
        """Seconds for which the block has waited that waits longest."""
        return self._schedule.oldest

    @property
    def flights(self) -> int:
        """Chunks under way or queued."""
        return len(self._flights)

    @property
    def version(self) -> int:
        """A number that grows whenever a chunk's flight begins or ends, or its failure is forgotten."""
        return self._flights.version + self._filling.failures.version

    def failures(self, collection: str, level: int) -> Sequence[Failure]:
        """Return the chunks that failed a few minutes ago at most and were not filled since."""
        return self._filling.failures.kept(collection, level)

    @property
    def last_failures(self) -> Sequence[Failure]:
        """The newest failures of all collections, the newest first."""
        return list(reversed(self._filling.failures.last))

    def blocks(self, most: int) -> Sequence[BlockReport]:
        """Return the blocks under way, the longest first, then those that come next, so many in all."""
        now = time.monotonic()
        return [
            BlockReport(
                collection=job.spec.id,
                block=job.block,
                running=job.state is State.RUNNING,
                seconds=now - (job.began if job.state is State.RUNNING else job.born),
                waiting=max((flight.waiters for flight in job.flights.values()), default=0),
            )
            for job in self._schedule.foremost(most)
        ]

    @property
    def settings(self) -> DownloadSettings:
        """The limits in force."""
        return self._settings

    @property
    def closed(self) -> bool:
        """True when nothing is fetched any more, because the daemon stops."""
        return self._closed

    def trouble(self, collection: str, *, within: float) -> LastFailure | None:
        """Return why the last block of a collection failed, if that was so many seconds ago at most."""
        found = self._filling.troubles.get(collection)
        return found if found is not None and self._clock() - found.at <= within else None

    def in_flight(self, key: ChunkKey) -> bool:
        """Return whether a chunk is under way or queued."""
        return key in self._flights

    def in_flight_listed(
        self, collection: str, band: str, time: int | None, chunks: Window, level: int = 0
    ) -> NDArray[np.int64]:
        """Return the chunks (row, col) in a rectangle of chunks that are in flight: an array (n, 2)."""
        return self._flights.listed(collection, band, time, chunks, level)

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
        up, stops waiting. Chunks that nobody waits for any more are not fetched where they have not begun; a
        block that has begun may go on for half a minute. A caller of any priority counts as one who waits,
        and a chunk that several wait for goes by the best of their places.

        Args:
            spec: the collection of all the keys.
            keys: the chunks.
            timeout: seconds to wait at most; what is not there by then is reported as failed.
            priority: who goes first.
            again: fetch also what is there already, and what failed a moment ago. What comes was asked for
                after this call: a fetch that has begun before is waited for, and then made again.

        Raises:
            BusyError: the queue is full; nothing was queued.
            TooLargeError: the queue is too short for it even when it is empty.
            ShuttingDownError: the daemon is stopping.
        """
        end = asyncio.get_running_loop().time() + timeout
        if again:
            await self._wait_for_running(keys, end)
        waiting, failed, started = self._enlist(spec, keys, priority, again=again)
        joined = len(waiting) - started
        self.counters.chunks_joined += joined
        begun = time.perf_counter()
        try:
            await _wait(waiting, end)
        finally:
            self._leave(waiting)
        failed.extend(
            failure for flight in waiting if (failure := _outcome(flight, timeout, self._closed)) is not None
        )
        order = {key.path: place for place, key in enumerate(keys)}
        failed.sort(key=lambda failure: order[failure.chunk])
        return Ensured(
            failed=tuple(failed), started=started, joined=joined, commit_seconds=_committing(waiting, begun)
        )

    async def close(self) -> None:
        """Stop: nothing new begins, what is under way is cancelled. Safe to call twice."""
        self._closed = True
        await self._schedule.close()
        for flight in list(self._flights.values()):
            self._filling.drop(flight)

    async def _wait_for_running(self, keys: Sequence[ChunkKey], end: float) -> None:
        """Wait until no flight of these chunks is under way that began before, or until the time is up."""
        clock = asyncio.get_running_loop().time
        while clock() < end:
            begun = [
                flight for key in keys if (flight := self._flights.get(key)) is not None and flight.begun
            ]
            if not begun:
                return
            await _wait(begun, end)

    # The next ones run without an await inside, so no other request comes between look and act.

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
            elif not again and (failure := self._filling.failures.recent(key)) is not None:
                self.counters.chunks_left_alone += 1
                failed.append(failure)
            else:
                fresh.append(key)
        blocks = self._blocks(spec, fresh)
        self._admit(spec, len(blocks))
        for place, job in enumerate(dict.fromkeys(flight.job for flight in waiting)):
            self._schedule.advance(job, priority, place)
        jobs = [self._job(spec, block, priority) for block in blocks]
        if again:
            for job in (*jobs, *(flight.job for flight in waiting)):
                job.not_before = time.monotonic()
        waiting.extend(flight for job in jobs for flight in job.flights.values())
        request_id = structlog.contextvars.get_contextvars().get("request_id") if waiting else None
        for flight in waiting:
            flight.join(request_id)
        self._schedule.put(jobs)
        return waiting, failed, len(fresh)

    def _admit(self, spec: CollectionSpec, blocks: int) -> None:
        """Refuse blocks for which the queue has no room. A collection always has its share of the queue."""
        limit, schedule = self._settings.max_queued_blocks, self._schedule
        over = schedule.queued + blocks - limit
        over_share = schedule.queued_of(spec.id) + blocks - limit // len(self._supplies)
        if not blocks or over <= 0 or over_share <= 0:
            return
        if blocks > limit:
            raise TooLargeError(
                f"{blocks} blocks would have to be fetched, and at most {limit} may wait",
                limit=limit,
                asked=blocks,
                setting="max_queued_blocks",
            )
        raise BusyError(
            f"the download queue is full: {schedule.queued} blocks wait, {blocks} more were asked for, and "
            f"at most {limit} may wait",
            retry_after=min(self._pace.seconds_for(over), self._paces[spec.id].seconds_for(over_share)),
        )

    def _leave(self, waiting: Sequence[Flight]) -> None:
        """Stop waiting. What nobody waits for is dropped, or, where it has begun, given a little time."""
        for flight in waiting:
            flight.waiters -= 1
        for job in dict.fromkeys(flight.job for flight in waiting):
            if job.state is State.QUEUED:
                for flight in job.flights.values():
                    if not flight.waiters:
                        self._filling.drop(flight)
                if not job.wanted:
                    self._schedule.drop(job)
            elif job.state is State.RUNNING and not job.wanted and job.giving_up is None:
                loop = asyncio.get_running_loop()
                job.giving_up = loop.call_later(self._settings.unwanted, self._give_up, job)

    def _give_up(self, job: BlockTask) -> None:
        """End a block under way: nobody has waited for it for a while."""
        for flight in job.flights.values():
            self._filling.drop(flight)
        if job.task is not None:
            job.task.cancel()

    def _job(self, spec: CollectionSpec, block: ChunkBlock, priority: int) -> BlockTask:
        job = BlockTask(spec=spec, block=block, priority=priority)
        for key in keys_of(spec, block):
            flight = job.flights[key] = Flight(key=key, job=job)
            self._flights.add(flight)
        return job

    def _blocks(self, spec: CollectionSpec, keys: Iterable[ChunkKey]) -> tuple[ChunkBlock, ...]:
        """Join chunks into blocks of the size that the source is best asked for, within the limits."""

        def most(bands: tuple[str, ...]) -> int:
            pixel = sum(spec.band(name).dtype.itemsize + 1 for name in bands)
            return max(1, self._settings.block_bytes // (pixel * spec.grid.chunk**2))

        side = self._supplies[spec.id].source.block_side or self._settings.block_side
        return join(keys, max(1, side // spec.grid.chunk), most)

    async def _fetch(self, job: BlockTask) -> None:
        """Fetch a job's block. Whatever happens, every flight of it lands or is queued again."""
        flights = self._begin(job)
        try:
            if flights:
                self._schedule.put(await self._filling.fill(job, flights))
        finally:
            for flight in flights:
                if flight.job is job and not flight.done.done():
                    self._filling.drop(flight)

    def _begin(self, job: BlockTask) -> list[Flight]:
        """Return the flights of a job that begins; if some have gone, the rest may need several blocks."""
        wanted = {key: flight for key, flight in job.flights.items() if not flight.done.done()}
        first, *others = self._blocks(job.spec, wanted) or (None,)
        rest = []
        for block in others:
            other = BlockTask(spec=job.spec, block=block, priority=job.priority, not_before=job.not_before)
            for key in keys_of(job.spec, block):
                other.flights[key] = wanted[key]
                wanted.pop(key).job = other
            rest.append(other)
        if first is not None:
            job.block, job.flights = first, wanted
            job.until = min(job.until, asyncio.get_running_loop().time() + self._settings.retry.lifetime)
        for flight in wanted.values():
            flight.begun = True
        self._schedule.put(rest)
        return list(wanted.values())

    def _count(self, job: BlockTask) -> None:
        """Note that a block has ended, and keep no timer for it."""
        self._pace.note()
        self._paces[job.spec.id].note()
        if job.giving_up is not None:
            job.giving_up.cancel()


async def _wait(flights: Sequence[Flight], end: float) -> None:
    """Wait until flights have landed, or until a time of the event loop's clock."""
    if flights:
        left = max(0.0, end - asyncio.get_running_loop().time())
        await asyncio.wait([flight.done for flight in flights], timeout=left)


def _committing(waiting: Sequence[Flight], begun: float) -> float:
    """Return the seconds waited since ``begun`` after the last of some flights arrived; 0 while any flies."""
    if not waiting or not all(_landed(flight) for flight in waiting):
        return 0.0
    return max(0.0, time.perf_counter() - max(begun, *(flight.arrived for flight in waiting)))


def _landed(flight: Flight) -> bool:
    return flight.done.done() and not flight.done.cancelled()


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
