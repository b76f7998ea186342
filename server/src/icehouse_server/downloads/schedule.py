"""The queue of blocks: fair between requests and between collections, bounded at once, and never stuck."""

import asyncio
import contextvars
import heapq
import time
from collections import Counter
from collections.abc import Callable, Coroutine, Sequence

import structlog

from icehouse_server.downloads.chunk_flights import BlockTask, State

log = structlog.get_logger(__name__)

_SLOW = 5.0
"""Seconds after which a block that runs counts for its collection alone, no more for the whole."""

_AGEING = 16
"""Blocks that begin while a queued one moves up by one place."""

_LAST = 256
"""Places by which priority 1 stands behind priority 0."""

type _Entry = tuple[float, int, BlockTask]


class Schedule:
    """Runs jobs.

    Order: by a job's place within its request, so that the first block of a small request goes before the
    tenth of a large one that came earlier. Priority 1 stands 256 places behind. While a job waits it moves up
    by one place for each 16 that begin, so whatever comes after it, it has its turn. Equal ones go as they
    came.

    Bounds: a collection has ``per_collection`` blocks under way at most, and all together ``at_once``. A
    collection whose source hangs must not stop others:

    - Where there are others, a collection takes no more places than it leaves free: the first takes half of
      them at most, the next half of what is left.
    - A block that has run for 5 seconds gives its place back to the whole; it counts for its collection
      alone.
    """

    def __init__(
        self,
        run: Callable[[BlockTask], Coroutine[object, object, None]],
        *,
        at_once: int,
        per_collection: int,
        collections: int,
        ended: Callable[[BlockTask], None] = lambda _: None,
        slow: float = _SLOW,
    ) -> None:
        """Make a schedule.

        Args:
            run: fetches a job's block.
            at_once: blocks under way over all collections, those that take long not counted.
            per_collection: blocks under way of one collection.
            collections: how many there are; a single one has all places.
            ended: told of every job that has run.
            slow: seconds after which a block takes long.
        """
        self._run = run
        self._at_once = at_once
        self._per_collection = per_collection
        self._shared = collections > 1
        self._ended = ended
        self._slow = slow
        self._queues: dict[str, list[_Entry]] = {}
        self._queued: Counter[str] = Counter()
        self._running: Counter[str] = Counter()
        self._places: Counter[str] = Counter()
        """Running jobs that count for the whole, by collection."""
        self._timers: dict[BlockTask, asyncio.TimerHandle] = {}
        """Those jobs, and what ends their counting."""
        self._active: set[BlockTask] = set()
        self._tickets = 0
        self._begun = 0

    @property
    def queued(self) -> int:
        """Jobs that have not begun."""
        return self._queued.total()

    def queued_of(self, collection: str) -> int:
        """Return the jobs of a collection that have not begun."""
        return self._queued[collection]

    @property
    def running(self) -> int:
        """Jobs under way."""
        return self._running.total()

    def running_of(self, collection: str) -> int:
        """Return the jobs under way of a collection."""
        return self._running[collection]

    @property
    def oldest(self) -> float:
        """Seconds for which the job has waited that waits longest; 0 where none does."""
        born = [entry[2].born for queue in self._queues.values() for entry in queue if _valid(entry)]
        return time.monotonic() - min(born) if born else 0.0

    def foremost(self, most: int) -> list[BlockTask]:
        """Return the jobs under way, the longest first, then those that come next, so many in all."""
        found = heapq.nsmallest(most, self._active, key=lambda job: job.began)
        waiting = (entry for queue in self._queues.values() for entry in queue if _valid(entry))
        return found + [job for *_, job in heapq.nsmallest(most - len(found), waiting)]

    def put(self, jobs: Sequence[BlockTask]) -> None:
        """Queue the jobs of one request and begin what may begin."""
        for place, job in enumerate(jobs):
            job.state = State.QUEUED
            self._queued[job.spec.id] += 1
            self._push(job, self._rank(job.priority, place))
        self._begin()

    def advance(self, job: BlockTask, priority: int, place: int) -> None:
        """Let a queued job stand where another request that needs it would have put it, if that is better."""
        rank = self._rank(priority, place)
        if job.state is State.QUEUED and rank < job.rank:
            job.priority = min(job.priority, priority)
            self._push(job, rank)

    def drop(self, job: BlockTask) -> None:
        """Take a job out of the queue: nobody wants it any more."""
        if job.state is not State.QUEUED:
            return
        job.state = State.OVER
        name = job.spec.id
        self._queued[name] -= 1
        if len(self._queues[name]) > 2 * self._queued[name] + 16:
            self._queues[name] = [entry for entry in self._queues[name] if _valid(entry)]
            heapq.heapify(self._queues[name])

    async def close(self) -> None:
        """Drop what has not begun, cancel what has, and wait for it."""
        for queue in self._queues.values():
            for *_, job in queue:
                self.drop(job)
        self._queues.clear()
        tasks = [job.task for job in self._active if job.task is not None]
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)

    def _rank(self, priority: int, place: int) -> float:
        return place + _LAST * priority + self._begun / _AGEING

    def _push(self, job: BlockTask, rank: float) -> None:
        self._tickets += 1
        job.rank, job.ticket = rank, self._tickets
        heapq.heappush(self._queues.setdefault(job.spec.id, []), (rank, self._tickets, job))

    def _begin(self) -> None:
        loop = asyncio.get_running_loop()
        while (job := self._next()) is not None:
            name = job.spec.id
            job.state, job.began = State.RUNNING, time.monotonic()
            self._queued[name] -= 1
            self._running[name] += 1
            self._places[name] += 1
            self._begun += 1
            self._active.add(job)
            self._timers[job] = loop.call_later(self._slow, self._lend, job)
            # A context of its own: many requests may wait for a block, and none of them is to stand in its
            # log lines only because it put the block there, or gave its place free.
            job.task = asyncio.create_task(
                self._run(job), name=f"block of {name}", context=contextvars.Context()
            )
            job.task.add_done_callback(lambda task, job=job: self._end(job, task))  # type: ignore[misc]

    def _next(self) -> BlockTask | None:
        """Return the foremost job of the collections that may begin one."""
        free = self._at_once - self._places.total()
        heads: list[_Entry] = []
        for name, queue in self._queues.items():
            if self._running[name] >= self._per_collection or free <= 0:
                continue
            if self._shared and self._places[name] >= free:
                continue
            while queue and not _valid(queue[0]):
                heapq.heappop(queue)
            if queue:
                heads.append(queue[0])
        if not heads:
            return None
        job = min(heads)[2]
        heapq.heappop(self._queues[job.spec.id])
        return job

    def _lend(self, job: BlockTask) -> None:
        """Give the place of a job that takes long back to the whole."""
        del self._timers[job]
        self._places[job.spec.id] -= 1
        self._begin()

    def _end(self, job: BlockTask, task: asyncio.Task[None]) -> None:
        """Close the books on a job. Called for every one, even if it was cancelled before its first step."""
        job.state = State.OVER
        self._active.discard(job)
        self._running[job.spec.id] -= 1
        timer = self._timers.pop(job, None)
        if timer is not None:
            timer.cancel()
            self._places[job.spec.id] -= 1
        if not task.cancelled() and (error := task.exception()) is not None:
            log.error("a block failed in a way that it should not", exc_info=error)
        self._ended(job)
        self._begin()


def _valid(entry: _Entry) -> bool:
    """Return whether an entry stands for its job: it has not begun, was not dropped, and was not moved up."""
    _, ticket, job = entry
    return job.state is State.QUEUED and job.ticket == ticket
