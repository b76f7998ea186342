"""Flights: at most one fetch of a chunk at a time, and the requests that wait for it."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field

from icehouse_server.core.errors import FailedChunk
from icehouse_server.core.grid import ChunkKey


@dataclass(slots=True, kw_only=True, eq=False)
class Flight:
    """One chunk under way from its source into the repository."""

    key: ChunkKey
    done: asyncio.Future[FailedChunk | None] = field(
        default_factory=lambda: asyncio.get_running_loop().create_future()
    )
    """None when the chunk is committed; what went wrong otherwise. Never an exception."""
    waiters: int = 0
    begun: bool = False

    def land(self, failure: FailedChunk | None) -> None:
        """Tell those who wait."""
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

    def note(self, key: ChunkKey, failure: FailedChunk) -> None:
        """Remember a failure."""
        self._until.pop(key, None)
        self._until[key] = (self._clock() + self._ttl, failure)
        if len(self._until) > _MOST_FAILURES:
            del self._until[next(iter(self._until))]  # the oldest: all live equally long

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
