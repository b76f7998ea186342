"""What happened to a request on its way: durations of the stages and how the cache was met."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

STAGES = ("plan", "queue", "fetch", "read", "warp", "encode")
"""Stages in the order in which a request goes through them."""


@dataclass(slots=True, kw_only=True)
class Trace:
    """Filled in while a request runs."""

    seconds: dict[str, float] = field(default_factory=dict)
    chunks: int = 0
    started: int = 0
    """Chunks whose fetch this request began."""
    joined: int = 0
    """Chunks that were under way for another request."""

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Add the time spent inside to a stage."""
        begun = time.perf_counter()
        try:
            yield
        finally:
            self.seconds[name] = self.seconds.get(name, 0.0) + time.perf_counter() - begun
