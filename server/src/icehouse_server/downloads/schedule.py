"""The queue of blocks: fair between requests, bounded at once per collection and overall."""

import asyncio
import heapq
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

from icehouse_server.core.blocks import ChunkBlock
from icehouse_server.core.collection import CollectionSpec
from icehouse_server.core.grid import ChunkKey
from icehouse_server.downloads.flights import Flight


@dataclass(slots=True, kw_only=True, eq=False)
class Job:
    """A block to be fetched, and the flights that it carries."""

    spec: CollectionSpec
    block: ChunkBlock
    flights: dict[ChunkKey, Flight] = field(default_factory=dict)


class Schedule:
    """Runs jobs. Order: priority, then the job's place within its request, then arrival.

    The second makes it fair: the first block of a small request goes before the tenth of a large one that
    came earlier.
    """

    def __init__(self, run: Callable[[Job], Awaitable[None]], *, at_once: int, per_collection: int) -> None:
        self._run = run
        self._at_once = at_once
        self._per_collection = per_collection
        self._queues: dict[str, list[tuple[int, int, int, Job]]] = {}
        self._arrivals = 0
        self._running: Counter[str] = Counter()
        self._tasks: set[asyncio.Task[None]] = set()
        self._queued = 0

    @property
    def queued(self) -> int:
        """Jobs that have not begun."""
        return self._queued

    @property
    def running(self) -> int:
        """Jobs under way."""
        return self._running.total()

    def put(self, jobs: list[Job], priority: int) -> None:
        """Queue the jobs of one request and begin what may begin."""
        for place, job in enumerate(jobs):
            self._arrivals += 1
            queue = self._queues.setdefault(job.spec.id, [])
            heapq.heappush(queue, (priority, place, self._arrivals, job))
            self._queued += 1
        self._begin()

    def purge(self) -> None:
        """Drop the jobs that nobody waits for any more: their clients went away."""
        for name, queue in self._queues.items():
            live = [entry for entry in queue if _wanted(entry[3])]
            self._queued -= len(queue) - len(live)
            heapq.heapify(live)
            self._queues[name] = live

    async def close(self) -> None:
        """Drop what has not begun, cancel what has, and wait for it."""
        for queue in self._queues.values():
            for *_, job in queue:
                for flight in job.flights.values():
                    flight.done.cancel()
        self._queues.clear()
        self._queued = 0
        for task in self._tasks:
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks)

    def _begin(self) -> None:
        while self._running.total() < self._at_once:
            job = self._next()
            if job is None:
                return
            self._running[job.spec.id] += 1
            task = asyncio.create_task(self._run_one(job), name=f"block of {job.spec.id}")
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    def _next(self) -> Job | None:
        """Take the foremost job of the collections with a place free; drop those that nobody wants."""
        while True:
            heads = [
                (queue[0][:3], name)
                for name, queue in self._queues.items()
                if queue and self._running[name] < self._per_collection
            ]
            if not heads:
                return None
            job = heapq.heappop(self._queues[min(heads)[1]])[3]
            self._queued -= 1
            if _wanted(job):
                return job

    async def _run_one(self, job: Job) -> None:
        try:
            await self._run(job)
        finally:
            self._running[job.spec.id] -= 1
            self._begin()


def _wanted(job: Job) -> bool:
    return any(not flight.done.done() for flight in job.flights.values())
