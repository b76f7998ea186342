"""Flights: at most one fetch of a chunk at a time, who waits for it, and the job that carries it."""

import asyncio
import math
import time
from collections import deque
from collections.abc import Callable, ValuesView
from dataclasses import dataclass, field
from datetime import UTC, datetime
from enum import Enum, auto

import numpy as np
from numpy.typing import NDArray

from icehouse_server.core.blocks import ChunkBlock
from icehouse_server.core.chunkset import ChunkSet
from icehouse_server.core.collection import CollectionSpec
from icehouse_server.core.errors import FailedChunk
from icehouse_server.core.grid import ChunkKey, Window

_MOST_NAMED = 16
"""Requests of which a flight keeps the ids."""


class State(Enum):
    """Where a job is."""

    NEW = auto()
    QUEUED = auto()
    RUNNING = auto()
    OVER = auto()


@dataclass(slots=True, kw_only=True, eq=False)
class BlockTask:
    """A block to be fetched, and the flights that it carries."""

    spec: CollectionSpec
    block: ChunkBlock
    priority: int
    flights: "dict[ChunkKey, Flight]" = field(default_factory=dict)
    born: float = field(default_factory=time.monotonic)
    began: float = 0.0
    """When its fetch began, by the same clock."""
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
    job: BlockTask
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


_NONE = ChunkSet()

type _Layer = tuple[str, int, str, int | None]
"""Collection, level, band, and number of the time step."""


class Flights:
    """Every flight under way or queued, by its chunk.

    Attributes:
        version: grows with every change, for those who watch.
    """

    def __init__(self) -> None:
        self._flights: dict[ChunkKey, Flight] = {}
        self._places: dict[_Layer, ChunkSet] = {}
        self.version = 0

    def __len__(self) -> int:
        return len(self._flights)

    def __contains__(self, key: object) -> bool:
        return key in self._flights

    def get(self, key: ChunkKey) -> Flight | None:
        """Return the flight of a chunk, or None."""
        return self._flights.get(key)

    def values(self) -> ValuesView[Flight]:
        """Return all of them."""
        return self._flights.values()

    def add(self, flight: Flight) -> None:
        """Take a flight in; its chunk has none."""
        self.version += 1
        key = flight.key
        self._flights[key] = flight
        self._places.setdefault(_layer(key), ChunkSet()).add(key.row, key.col)

    def remove(self, flight: Flight) -> None:
        """Take a flight out, if it is in."""
        key = flight.key
        if self._flights.get(key) is not flight:
            return
        self.version += 1
        del self._flights[key]
        places = self._places[_layer(key)]
        places.discard(key.row, key.col)
        if not places:
            del self._places[_layer(key)]

    def listed(
        self, collection: str, band: str, time: int | None, chunks: Window, level: int = 0
    ) -> NDArray[np.int64]:
        """Return the chunks (row, col) in a rectangle of chunks that are in flight: an array (n, 2)."""
        return self._places.get((collection, level, band, time), _NONE).listed(chunks)


def _layer(key: ChunkKey) -> _Layer:
    return key.collection, key.level, key.band, key.time


_MOST_FAILURES = 10_000

_KEPT = 300.0
"""Seconds for which a failure is shown, unless its chunk is filled before."""

_LAST = 20
"""Failures that are listed, however long ago."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Failure:
    """A chunk that could not be filled, and when."""

    key: ChunkKey
    failed: FailedChunk
    at: datetime
    noted: float
    """The same by the clock of the downloads."""
    until: float
    """When it may be asked for again, by that clock."""


class Failures:
    """Chunks that failed a short time ago: they are left alone instead of being asked for again at once.

    They are remembered for a while longer than that, for people to see.

    Attributes:
        last: the newest ones, oldest first; they stay when the chunk is filled.
    """

    def __init__(self, ttl: float, clock: Callable[[], float]) -> None:
        self._ttl = ttl
        self._clock = clock
        self._kept: dict[ChunkKey, Failure] = {}
        """In the order of time."""
        self._version = 0
        self.last: deque[Failure] = deque(maxlen=_LAST)

    @property
    def version(self) -> int:
        """A number that grows with every change, for those who watch; also where time has made one."""
        now = self._clock()
        while self._kept:
            key, oldest = next(iter(self._kept.items()))
            if now <= max(oldest.until, oldest.noted + _KEPT):
                break
            self.forget(key)
        return self._version

    def note(self, key: ChunkKey, failure: FailedChunk, *, at_least: float = 0.0) -> None:
        """Remember a failure, for so many seconds at least."""
        self._version += 1
        now = self._clock()
        noted = Failure(
            key=key,
            failed=failure,
            at=datetime.now(UTC),
            noted=now,
            until=now + max(self._ttl, at_least),
        )
        self._kept.pop(key, None)
        self._kept[key] = noted
        self.last.append(noted)
        if len(self._kept) > _MOST_FAILURES:
            self.forget(next(iter(self._kept)))

    def forget(self, key: ChunkKey) -> None:
        """Drop what was remembered of a chunk: it has been filled."""
        if self._kept.pop(key, None) is not None:
            self._version += 1

    def recent(self, key: ChunkKey) -> FailedChunk | None:
        """Return the failure of a chunk that is still to be left alone."""
        found = self._kept.get(key)
        return None if found is None or found.until <= self._clock() else found.failed

    def kept(self, collection: str, level: int) -> list[Failure]:
        """Return the failures of a collection's level that are still shown."""
        return [
            failure
            for key, failure in self._kept.items()
            if key.collection == collection and key.level == level
        ]
