"""Filling: a task's block on its way from the source into the repository, and what becomes of its flights."""

import asyncio
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Executor

import structlog

from icehouse_server.aio.worker_pool import run_in
from icehouse_server.core.blocks import join
from icehouse_server.core.errors import (
    FailedChunk,
    IcehouseError,
    SourceError,
    SourceUnavailableError,
    StoreError,
)
from icehouse_server.core.limits import DownloadSettings, RetryPolicy
from icehouse_server.downloads.block_task import BlockTask
from icehouse_server.downloads.chunk_flights import Failures, Flight, Flights
from icehouse_server.downloads.fetch import cut, read_block, request_for
from icehouse_server.downloads.fetch_report import Counters, FetchNote, LastFailure, fetch_noted
from icehouse_server.downloads.values import CollectionPipeline
from icehouse_server.raster.out_of_memory import is_out_of_memory, out_of_memory

log = structlog.get_logger(__name__)

_LONGEST_RETRY_AFTER = 60.0
"""Seconds for which a chunk is left alone at most because its source asked for it."""


class BlockFetcher:
    """Fills blocks, and lands their flights. Runs on one event loop.

    Args:
        supplies: of the collections.
        settings: limits.
        pool: for what takes the processor.
        flights: every flight under way; those that land are taken out.
        clock: monotonic seconds.
    """

    def __init__(
        self,
        supplies: Mapping[str, CollectionPipeline],
        settings: DownloadSettings,
        *,
        pool: Executor,
        flights: Flights,
        clock: Callable[[], float],
    ) -> None:
        self._supplies = supplies
        self._settings = settings
        self._pool = pool
        self._flights = flights
        self._clock = clock
        self.failures = Failures(settings.failure_ttl, clock)
        self.counters = Counters()
        self.troubles: dict[str, LastFailure] = {}
        """Why the last block of a collection failed, by collection."""

    async def fill(self, task: BlockTask, flights: Sequence[Flight]) -> list[BlockTask]:
        """Read, cut and commit a task's block, and land its flights.

        Where the block fails through an item, its chunks are to be tried one by one, so that the bad item
        stays local: those that a caller waits for are returned as tasks.
        """
        spec, error = task.spec, await self._try(task, flights)
        if error is None:
            self.troubles.pop(spec.id, None)
            for flight in flights:
                self.failures.forget(flight.key)
                self._flights.land(flight, None)
            return []
        if isinstance(error, SourceError):
            self.troubles[spec.id] = LastFailure(kind=error.kind, detail=error.detail, at=self._clock())
        if task.alone or len(flights) == 1 or not _may_be_local(error):
            for flight in flights:
                self._land_failed(flight, error)
            return []
        parts = self._parts(task, flights)
        log.info("split", collection=spec.id, kind=error.kind, parts=len(parts))
        return parts

    def _land_failed(self, flight: Flight, error: IcehouseError) -> None:
        item = error.item if isinstance(error, SourceError) else ""
        failure = FailedChunk(
            chunk=flight.key.path, kind=error.kind, detail=error.detail, item=item, hint=error.hint
        )
        asked = error.retry_after if isinstance(error, SourceUnavailableError) else None
        self.counters.failed(error.kind)
        self.failures.note(flight.key, failure, at_least=min(asked or 0.0, _LONGEST_RETRY_AFTER))
        self._flights.land(flight, failure)

    def _parts(self, task: BlockTask, flights: Sequence[Flight]) -> list[BlockTask]:
        """Return a task for each chunk that a request waits for. Nothing is known of the others; they end."""
        retry = self._settings.retry
        until = task.until + retry.lifetime_of_parts - retry.lifetime
        parts = []
        for flight in flights:
            if not flight.waiters:
                self._flights.drop(flight)
                continue
            (block,) = join([flight.key], 1)
            part = BlockTask(spec=task.spec, block=block, priority=task.priority, alone=True, until=until)
            self._flights.move(flight, part)
            parts.append(part)
        return parts

    async def _try(self, task: BlockTask, flights: Sequence[Flight]) -> IcehouseError | None:
        """Fetch and commit a task's block, or return why not. Writes the fetch's line."""
        with fetch_noted(task.spec, task.block, flights, self.counters) as note:
            try:
                await self._fetch_and_commit(task, flights, note)
            except IcehouseError as error:
                note.failed(error)
                return error
            except (asyncio.CancelledError, KeyboardInterrupt, SystemExit):
                raise
            except BaseException as error:  # the flight's edge: no defect or Rust panic may strand anybody
                if is_out_of_memory(error):
                    log.warning("memory ran out", collection=task.spec.id)
                    short = out_of_memory("the system has no more memory for fetching chunks")
                    note.failed(short)
                    return short
                log.exception("a block could not be filled")
                defect = SourceError(f"the source of {task.spec.id!r} failed in a way that it should not")
                note.failed(defect)
                return defect
            note.outcome = "ok"
        self.counters.block_fetched(len(flights))
        return None

    async def _fetch_and_commit(self, task: BlockTask, flights: Sequence[Flight], note: FetchNote) -> None:
        """Bring a block from its source into the repository."""
        supply, retry = self._supplies[task.spec.id], self._settings.retry
        if task.alone:
            retry = RetryPolicy(attempts=1, block_timeout=retry.block_timeout)
        request = request_for(task.spec, task.block, max(flight.not_before for flight in flights))
        got = await read_block(supply.source, request, retry, until=task.until, on_retry=note.retry)
        note.got(got)
        arrived = time.perf_counter()
        for flight in flights:
            flight.arrive(arrived)
        limit = self._settings.commit_timeout
        try:
            async with asyncio.timeout(limit):
                chunks = await run_in(self._pool, cut, task.spec, request, got, task.block)
                await supply.sink.commit(chunks)
        except TimeoutError:
            raise StoreError(
                f"what the source gave was not committed within {limit:.3g} s",
                hint="look at the disk of the cache folder",
            ) from None


def _may_be_local(error: IcehouseError) -> bool:
    """Return whether other chunks of the block may do better: an item is at fault, not the whole source."""
    return isinstance(error, SourceError) and bool(error.item)
