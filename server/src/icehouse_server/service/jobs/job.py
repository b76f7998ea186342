"""One job: what it is to do, and how far it is."""

import asyncio
import contextlib
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from enum import StrEnum

from odc.geo.geobox import GeoBox
from shapely.geometry.base import BaseGeometry

from icehouse_server.core.collection import BandSpec, CollectionSpec
from icehouse_server.core.errors import FailedChunk
from icehouse_server.downloads import Priority

MAX_FAILURES = 100
"""Failed chunks that a job lists; beyond, they are only counted."""


class JobKind(StrEnum):
    """What a job does."""

    SEED = "seed"
    """Fetch what is absent."""
    REFRESH = "refresh"
    """Fetch again what is cached."""
    TRUNCATE = "truncate"
    """Delete what is cached."""
    GC = "gc"
    """Expire snapshots, collect garbage, evict."""


class JobState(StrEnum):
    """States of OGC API Processes."""

    ACCEPTED = "accepted"
    RUNNING = "running"
    SUCCESSFUL = "successful"
    FAILED = "failed"
    DISMISSED = "dismissed"


@dataclass(frozen=True, kw_only=True)
class JobSpec:
    """What a job is to do."""

    kind: JobKind
    collection: CollectionSpec | None = None
    """None for jobs that are about all of them."""
    bands: tuple[BandSpec, ...] = ()
    times: tuple[int, ...] | None = None
    """Numbers of the time steps; None where the collection has no time axis."""
    target: GeoBox | None = None
    """The chunks that a load of this geobox needs; None is the whole collection."""
    clip: BaseGeometry | None = None
    """Polygon in the target's CRS outside of which it is about nothing."""
    levels: tuple[int, ...] | None = (0,)
    """At which levels; None is every one of which something is cached when the job begins."""
    asked: Mapping[str, object] = field(default_factory=dict)
    """The region as the caller gave it, for people: JSON."""
    priority: Priority = Priority.PREFETCH

    @property
    def chunks_per_position(self) -> int:
        """How many chunks there are at each position: bands times steps, at least 1."""
        return max(1, len(self.bands) * (1 if self.times is None else len(self.times)))


@dataclass(slots=True, kw_only=True)
class Counts:
    """Chunks of a job, over all bands."""

    total: int = 0
    """What it is about. Known once the job runs."""
    present: int = 0
    """Cached already when a seed came to them."""
    fetched: int = 0
    failed: int = 0
    dropped: int = 0
    """Deleted by a truncate."""

    @property
    def done(self) -> int:
        """Chunks that need no further work."""
        return self.present + self.fetched + self.failed + self.dropped


@dataclass(slots=True, kw_only=True, eq=False)
class Job:
    """A job and its state. Used on the event loop.

    Attributes:
        id: opaque, and hard to guess.
        spec: what it is to do.
        message: how it is, for people.
        kind: stable kind of the error that it failed with.
        hint: what to do about that, for people; may be empty.
        version: grows with every change, for those who watch.
        failures: the first of the chunks that failed.
        estimated_bytes: of the chunks that it had to fetch when it began, uncompressed.
        fetched_bytes: of those that it has fetched, uncompressed.
    """

    id: str
    spec: JobSpec
    created: datetime = field(default_factory=lambda: datetime.now(UTC))
    started: datetime | None = None
    finished: datetime | None = None
    updated: datetime = field(default_factory=lambda: datetime.now(UTC))
    state: JobState = JobState.ACCEPTED
    message: str = "it waits for its turn"
    kind: str = ""
    hint: str = ""
    counts: Counts = field(default_factory=Counts)
    failures: list[FailedChunk] = field(default_factory=list)
    estimated_bytes: int = 0
    fetched_bytes: int = 0
    version: int = 0
    _begun: float = 0.0
    _ended: float = 0.0
    _news: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def over(self) -> bool:
        """True when nothing more will happen."""
        return self.state not in {JobState.ACCEPTED, JobState.RUNNING}

    @property
    def progress(self) -> int:
        """Percent done; 100 only at a good end."""
        if self.state is JobState.SUCCESSFUL:
            return 100
        return min(99, 100 * self.counts.done // max(1, self.counts.total))

    @property
    def rate(self) -> float:
        """Chunks fetched a second, since it began."""
        seconds = (self._ended or time.monotonic()) - self._begun
        return self.counts.fetched / seconds if self._begun and seconds > 0 else 0.0

    def begin(self) -> None:
        """Note that it runs."""
        self.state, self.started, self.message = JobState.RUNNING, datetime.now(UTC), "it has begun"
        self._begun = time.monotonic()
        self.tell()

    def end(self, state: JobState, message: str) -> None:
        """Note how it ended; the first end counts."""
        if self.over:
            return
        self.state, self.message, self.finished = state, message, datetime.now(UTC)
        self._ended = time.monotonic()
        self.tell()

    def fail(self, failed: tuple[FailedChunk, ...]) -> None:
        """Count chunks that failed, and list the first of them."""
        self.counts.failed += len(failed)
        self.failures.extend(failed[: MAX_FAILURES - len(self.failures)])

    def tell(self) -> None:
        """Wake those who watch."""
        self.updated = datetime.now(UTC)
        self.version += 1
        news, self._news = self._news, asyncio.Event()
        news.set()

    async def news(self, seen: int, seconds: float) -> None:
        """Wait until the job is another than in the version seen, or until the time is up."""
        if self.version != seen or self.over:
            return
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._news.wait()

    async def wait(self, seconds: float) -> bool:
        """Wait until it is over, or until the time is up; return whether it is over."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                while not self.over:
                    await self._news.wait()
        return self.over
