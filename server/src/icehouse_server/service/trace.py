"""What happened to a request on its way: durations of the stages and how the cache was met."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

STAGES = ("plan", "queue", "fetch", "commit", "read", "warp", "encode")
"""Stages in the order in which a request goes through them."""


@dataclass(slots=True)
class Hits:
    """How many of the chunks that requests asked for were cached already; since the start."""

    asked: int = 0
    cached: int = 0

    def note(self, trace: "Trace") -> None:
        """Count a request that has ended."""
        self.asked += trace.chunks - trace.left
        self.cached += max(0, trace.chunks - trace.absent)  # what was dropped meanwhile is absent once more


@dataclass(slots=True, kw_only=True)
class Trace:
    """Filled in while a request runs."""

    seconds: dict[str, float] = field(default_factory=dict)
    chunks: int = 0
    """Chunks that it needs."""
    absent: int = 0
    """Those of them that were not cached when it came."""
    left: int = 0
    """Those of them that were not to be fetched: a tile seen from afar shows what is there."""
    failed: int = 0
    """Those of them that could not be filled."""
    started: int = 0
    """Chunks whose fetch this request began."""
    joined: int = 0
    """Chunks that were under way for another request."""

    def committed(self, seconds: float) -> None:
        """Count the last part of the time spent on the stage fetch for the stage commit."""
        part = min(seconds, self.seconds.get("fetch", 0.0))
        if part > 0:
            self.seconds["fetch"] -= part
            self.seconds["commit"] = self.seconds.get("commit", 0.0) + part

    def figures(self) -> dict[str, object]:
        """Return all of it for the request's log line."""
        return {
            "chunks": self.chunks,
            "present": self.chunks - self.absent,
            "fetched": self.started,
            "joined": self.joined,
            "failed": self.failed,
            "stages": {name: round(self.seconds[name] * 1000, 2) for name in STAGES if name in self.seconds},
        }

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Add the time spent inside to a stage."""
        begun = time.perf_counter()
        try:
            yield
        finally:
            self.seconds[name] = self.seconds.get(name, 0.0) + time.perf_counter() - begun
