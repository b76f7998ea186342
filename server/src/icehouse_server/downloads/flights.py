"""Flights: at most one fetch of a chunk at a time, who waits for it, and the job that carries it."""

import asyncio
import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import Enum, auto

from icehouse_server.core.blocks import ChunkBlock
from icehouse_server.core.collection import CollectionSpec
from icehouse_server.core.errors import FailedChunk
from icehouse_server.core.grid import ChunkKey

_MOST_NAMED = 16
"""Requests of which a flight keeps the ids."""


class State(Enum):
    """Where a job is."""

    NEW = auto()
    QUEUED = auto()
    RUNNING = auto()
    OVER = auto()


@dataclass(slots=True, kw_only=True, eq=False)
class Job:
    """A block to be fetched, and the flights that it carries."""

    spec: CollectionSpec
    block: ChunkBlock
    priority: int
    flights: "dict[ChunkKey, Flight]" = field(default_factory=dict)
    born: float = field(default_factory=time.monotonic)
    alone: bool = False
    """True for a chunk of a block that failed: it is tried once."""
    not_before: float = -math.inf
    """Monotonic seconds: what the source remembers from before is not believed; see ``BlockRequest``."""
    until: float = math.inf
    """When the source must have given it, by the event loop's clock; set when it, or its whole, begins."""
    state: State = State.NEW
    rank: float = math.inf
    ticket: int = 0
    """Tells its entry in the queue from older ones, which are void."""
    task: asyncio.Task[None] | None = None
    giving_up: asyncio.TimerHandle | None = None
    """Set while nobody waits for it although it has begun."""

    @property
    def wanted(self) -> bool:
        """True while somebody waits for a chunk of it."""
        return any(flight.waiters and not flight.done.done() for flight in self.flights.values())


@dataclass(slots=True, kw_only=True, eq=False)
class Flight:
    """One chunk under way from its source into the repository."""

    key: ChunkKey
    job: Job
    """What carries it now."""
    done: asyncio.Future[FailedChunk | None] = field(
        default_factory=lambda: asyncio.get_running_loop().create_future()
    )
    """None when the chunk is committed; what went wrong otherwise. Never an exception."""
    waiters: int = 0
    begun: bool = False
    """True from its first byte on, also while it waits in the queue again as a part of a failed block."""
    asked_by: list[str] = field(default_factory=list)
    """Ids of the first requests that asked for it, for the log."""
    arrived: float = 0.0
    """When its pixels were there and only the commit was missing, or when it failed (``perf_counter``)."""

    def join(self, request_id: str | None) -> None:
        """Note that one more request waits."""
        self.waiters += 1
        if request_id is not None and len(self.asked_by) < _MOST_NAMED:
            self.asked_by.append(request_id)
        if self.job.giving_up is not None:
            self.job.giving_up.cancel()
            self.job.giving_up = None

    def land(self, failure: FailedChunk | None) -> None:
        """Tell those who wait."""
        if failure is not None:
            self.arrived = time.perf_counter()
        if not self.done.done():
            self.done.set_result(failure)


_MOST_FAILURES = 10_000


class Failures:
    """Chunks that failed a short time ago: they are left alone instead of being asked for again at once."""

    def __init__(self, ttl: float, clock: Callable[[], float]) -> None:
        self._ttl = ttl
        self._clock = clock
        self._until: dict[ChunkKey, tuple[float, FailedChunk]] = {}

    def __len__(self) -> int:
        return len(self._until)

    def note(self, key: ChunkKey, failure: FailedChunk, *, at_least: float = 0.0) -> None:
        """Remember a failure, for so many seconds at least."""
        self._until.pop(key, None)
        self._until[key] = (self._clock() + max(self._ttl, at_least), failure)
        if len(self._until) > _MOST_FAILURES:
            del self._until[next(iter(self._until))]  # the oldest: nearly all live equally long

    def forget(self, key: ChunkKey) -> None:
        """Drop what was remembered of a chunk: it has been filled."""
        self._until.pop(key, None)

    def recent(self, key: ChunkKey) -> FailedChunk | None:
        """Return the failure of a chunk that is still to be left alone."""
        entry = self._until.get(key)
        if entry is None:
            return None
        if entry[0] <= self._clock():
            del self._until[key]
            return None
        return entry[1]
