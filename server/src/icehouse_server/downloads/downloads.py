"""``Downloads``: has absent chunks fetched, each once, and tells those who wait."""

import asyncio
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import Executor
from dataclasses import replace
from functools import partial

import numpy as np
import structlog
from numpy.typing import NDArray

from icehouse_server.core.blocks import ChunkBlock
from icehouse_server.core.collection import CollectionSpec
from icehouse_server.core.errors import (
    DeadlineExceededError,
    FailedChunk,
    ShuttingDownError,
)
from icehouse_server.core.grid import ChunkKey, Window
from icehouse_server.core.limits import DownloadSettings
from icehouse_server.downloads.block_fetcher import BlockFetcher
from icehouse_server.downloads.block_task import BlockTask, join_blocks, keys_of
from icehouse_server.downloads.chunk_flights import Failure, Flight, Flights
from icehouse_server.downloads.queue_limit import QueueLimit
from icehouse_server.downloads.schedule import Schedule, ScheduledBlock
from icehouse_server.downloads.snapshot import DownloadsSnapshot
from icehouse_server.downloads.values import (
    BlockReport,
    CollectionPipeline,
    Ensured,
    Priority,
)


class Downloads:
    """Fetches absent chunks, each once however many ask. Runs on one event loop.

    Attributes:
        settings: the limits in force.
    """

    def __init__(
        self,
        supplies: Mapping[str, CollectionPipeline],
        settings: DownloadSettings,
        *,
        pool: Executor,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.settings = settings
        self._supplies = supplies
        self._clock = clock
        self._closed = False
        self._flights = Flights()
        self._fetcher = BlockFetcher(supplies, settings, pool=pool, flights=self._flights, clock=clock)
        self._limit = QueueLimit(settings.max_queued_blocks, collections=len(supplies), clock=clock)
        self._schedule = Schedule(
            self._fetch,
            at_once=settings.blocks_at_once,
            per_collection=settings.blocks_per_collection,
            collections=len(supplies),
            ended=self._limit.ended,
        )

    @property
    def version(self) -> int:
        """A number that grows whenever a chunk's flight begins or ends, or its failure is forgotten."""
        return self._flights.version + self._fetcher.failures.version

    def snapshot(self, *, blocks: int = 0) -> DownloadsSnapshot:
        """Return what metrics and status say of the downloads now.

        Args:
            blocks: how many blocks to report on, at most.
        """
        schedule, fetcher = self._schedule, self._fetcher
        return DownloadsSnapshot(
            settings=self.settings,
            closed=self._closed,
            flights=len(self._flights),
            queued=schedule.queued,
            oldest=schedule.queue.oldest,
            running=schedule.running,
            running_by_collection={name: schedule.running_of(name) for name in self._supplies},
            blocks=tuple(_report(block, self._flights.of(block.task)) for block in schedule.foremost(blocks)),
            counts=fetcher.counters.snapshot(),
            newest_failures=tuple(reversed(fetcher.failures.last)),
            last_failures=dict(fetcher.troubles),
            taken=self._clock(),
        )

    def failures(self, collection: str, level: int) -> Sequence[Failure]:
        """Return the chunks that failed a few minutes ago at most and were not filled since."""
        return self._fetcher.failures.kept(collection, level)

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
        up, stops waiting. Chunks that no caller waits for any more are not fetched where they have not
        begun; a block that has begun may go on for half a minute. A caller of any priority counts as one who
        waits, and a chunk that several wait for goes by the best of their places.

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
        self._fetcher.counters.joined(joined)
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
            self._flights.drop(flight)

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
            elif not again and (failure := self._fetcher.failures.recent(key)) is not None:
                self._fetcher.counters.left_alone()
                failed.append(failure)
            else:
                fresh.append(key)
        blocks = self._blocks(spec, fresh)
        self._limit.admit(self._schedule.queue, spec.id, len(blocks))
        for place, task in enumerate(dict.fromkeys(flight.task for flight in waiting)):
            self._schedule.advance(task, priority, place)
        tasks = [BlockTask(spec=spec, block=block, priority=priority) for block in blocks]
        waiting.extend(flight for task in tasks for flight in self._take_off(task))
        self._join(waiting, again=again)
        self._schedule.put(tasks)
        return waiting, failed, len(fresh)

    def _take_off(self, task: BlockTask) -> list[Flight]:
        """Return a new flight for each chunk of a block."""
        flights = [Flight(key=key, task=task) for key in keys_of(task.spec, task.block)]
        for flight in flights:
            self._flights.add(flight)
        return flights

    def _join(self, waiting: Sequence[Flight], *, again: bool) -> None:
        """Wait for flights; the blocks that carry them go on even if they had been abandoned."""
        request_id = structlog.contextvars.get_contextvars().get("request_id") if waiting else None
        for flight in waiting:
            flight.join(request_id)
        for task in dict.fromkeys(flight.task for flight in waiting):
            self._schedule.under_way.keep(task)
            if again:
                for flight in self._flights.of(task):
                    flight.demand_since(time.monotonic())

    def _leave(self, waiting: Sequence[Flight]) -> None:
        """Stop waiting. What no request waits for is dropped, or, where it has begun, given a little time."""
        for flight in waiting:
            flight.leave()
        for task in dict.fromkeys(flight.task for flight in waiting):
            flights = self._flights.of(task)
            wanted = any(flight.wanted for flight in flights)
            if task in self._schedule.queue:
                for flight in flights:
                    if not flight.waiters:
                        self._flights.drop(flight)
                if not wanted:
                    self._schedule.drop(task)
            elif not wanted:
                self._schedule.under_way.abandon(
                    task, self.settings.unwanted, partial(self._flights.drop_all, task)
                )

    def _blocks(self, spec: CollectionSpec, keys: Iterable[ChunkKey]) -> tuple[ChunkBlock, ...]:
        """Join chunks into blocks of the size that the source is best asked for, within the limits."""
        side = self._supplies[spec.id].source.block_side or self.settings.block_side
        return join_blocks(spec, keys, side=side, most_bytes=self.settings.block_bytes)

    async def _fetch(self, task: BlockTask) -> None:
        """Fetch a block. Whatever happens, every flight of it lands or is queued again."""
        started, flights = self._start(task)
        try:
            if flights:
                self._schedule.put(await self._fetcher.fill(started, flights))
        finally:
            for flight in flights:
                if flight.task is task and not flight.done.done():
                    self._flights.drop(flight)

    def _start(self, task: BlockTask) -> tuple[BlockTask, list[Flight]]:
        """Return what is to be fetched of a block that begins, and its flights.

        If some flights have gone, the rest may need several blocks; all but the first are queued.
        """
        under_way = self._schedule.under_way
        priority = under_way.priority(task)
        wanted = {flight.key: flight for flight in self._flights.of(task) if not flight.done.done()}
        first, *others = self._blocks(task.spec, wanted) or (task.block,)
        rest = [BlockTask(spec=task.spec, block=block, priority=priority) for block in others]
        for other in rest:
            for key in keys_of(task.spec, other.block):
                self._flights.move(wanted.pop(key), other)
        under_way.narrow(task, first)
        for flight in wanted.values():
            flight.begin()
        self._schedule.put(rest)
        until = min(task.until, asyncio.get_running_loop().time() + self.settings.retry.lifetime)
        return replace(task, block=first, priority=priority, until=until), list(wanted.values())


def _report(scheduled: ScheduledBlock, flights: Sequence[Flight]) -> BlockReport:
    return BlockReport(
        collection=scheduled.task.spec.id,
        block=scheduled.block,
        running=scheduled.running,
        seconds=time.monotonic() - scheduled.since,
        waiting=max((flight.waiters for flight in flights), default=0),
    )


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
