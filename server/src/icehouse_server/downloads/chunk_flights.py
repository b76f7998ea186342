"""Flights: at most one fetch of a chunk at a time, who waits for it, and the block that carries it."""

import asyncio
import math
import time
from collections import deque
from collections.abc import Callable, ValuesView
from dataclasses import dataclass, field
from datetime import UTC, datetime

import numpy as np
from numpy.typing import NDArray

from icehouse_server.core.chunkset import ChunkSet
from icehouse_server.core.errors import FailedChunk
from icehouse_server.core.grid import ChunkKey, Window
from icehouse_server.downloads.block_task import BlockTask

_MOST_NAMED = 16
"""Requests of which a flight keeps the ids."""


@dataclass(slots=True, kw_only=True, eq=False)
class Flight:
    """One chunk under way from its source into the repository."""

    key: ChunkKey
    task: BlockTask
    """What carries it now; written by ``Flights``."""
    done: asyncio.Future[FailedChunk | None] = field(
        default_factory=lambda: asyncio.get_running_loop().create_future()
    )
    """None when the chunk is committed; what went wrong otherwise. Never an exception."""
    waiters: int = 0
    begun: bool = False
    """True from its first byte on, also while it waits in the queue again as a part of a failed block."""
    asked_by: list[str] = field(default_factory=list)
    """Ids of the first requests that asked for it, for the log."""
    not_before: float = -math.inf
    """Monotonic seconds: what the source remembers from before is not to be used; see ``BlockRequest``."""
    arrived: float = 0.0
    """When its pixels were there and only the commit was missing, or when it failed (``perf_counter``)."""

    def join(self, request_id: str | None) -> None:
        """Note that one more request waits."""
        self.waiters += 1
        if request_id is not None and len(self.asked_by) < _MOST_NAMED:
            self.asked_by.append(request_id)

    def leave(self) -> None:
        """Note that a request waits no more."""
        self.waiters -= 1

    def demand_since(self, moment: float) -> None:
        """Note that what comes must have been asked for after a moment (monotonic seconds)."""
        self.not_before = moment

    def begin(self) -> None:
        """Note that its fetch begins."""
        self.begun = True

    def arrive(self, moment: float) -> None:
        """Note that its pixels are there (``perf_counter``)."""
        self.arrived = moment

    @property
    def wanted(self) -> bool:
        """True while a request waits for it."""
        return self.waiters > 0 and not self.done.done()

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
        self._carried: dict[BlockTask, dict[ChunkKey, Flight]] = {}
        """The same by the block that carries them."""
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

    def of(self, task: BlockTask) -> list[Flight]:
        """Return those that a block carries."""
        return list(self._carried.get(task, {}).values())

    def move(self, flight: Flight, task: BlockTask) -> None:
        """Let another block carry a flight."""
        if self._flights.get(flight.key) is flight:
            self._unload(flight)
            self._carried.setdefault(task, {})[flight.key] = flight
        flight.task = task

    def land(self, flight: Flight, failure: FailedChunk | None) -> None:
        """Take a flight out and notify those who wait for it."""
        self.remove(flight)
        flight.land(failure)

    def drop(self, flight: Flight) -> None:
        """End a flight that brought nothing; a no-op where it has landed."""
        self.remove(flight)
        flight.done.cancel()

    def drop_all(self, task: BlockTask) -> None:
        """End the flights that a block carries."""
        for flight in self.of(task):
            self.drop(flight)

    def add(self, flight: Flight) -> None:
        """Take a flight in; its chunk has none."""
        self.version += 1
        key = flight.key
        self._flights[key] = flight
        self._carried.setdefault(flight.task, {})[key] = flight
        self._places.setdefault(_layer(key), ChunkSet()).add(key.row, key.col)

    def remove(self, flight: Flight) -> None:
        """Take a flight out, if it is in."""
        key = flight.key
        if self._flights.get(key) is not flight:
            return
        self.version += 1
        del self._flights[key]
        self._unload(flight)
        places = self._places[_layer(key)]
        places.discard(key.row, key.col)
        if not places:
            del self._places[_layer(key)]

    def _unload(self, flight: Flight) -> None:
        carried = self._carried[flight.task]
        del carried[flight.key]
        if not carried:
            del self._carried[flight.task]

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
        """Remember a failure, for at least the given seconds."""
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
