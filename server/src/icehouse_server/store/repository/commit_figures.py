"""Figures about the commits of one repository; shown as metrics and by ``/readyz``."""

import time
from collections import Counter
from dataclasses import dataclass, field

from icehouse_server.core.histogram import Histogram

_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)
_CHUNKS = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512)


@dataclass(slots=True, kw_only=True)
class CommitFigures:
    """What became of the commits so far, and of the one under way. Used from one event loop."""

    seconds: Histogram = field(default_factory=lambda: Histogram(_SECONDS))
    """Of commits that landed."""
    chunks: Histogram = field(default_factory=lambda: Histogram(_CHUNKS))
    """In commits that landed."""
    failed: Counter[str] = field(default_factory=Counter)
    """By kind of error."""
    _begun: float | None = None

    @property
    def under_way(self) -> float:
        """Seconds since the commit that is under way began; 0 where none is."""
        return 0.0 if self._begun is None else time.perf_counter() - self._begun

    def begin(self) -> None:
        """Note that a commit begins."""
        self._begun = time.perf_counter()

    def end(self) -> float:
        """Note that it has ended, well or not, and return its seconds."""
        seconds, self._begun = self.under_way, None
        return seconds

    def landed(self, seconds: float, chunks: int) -> None:
        """Count a commit that can be read."""
        self.seconds.observe(seconds)
        self.chunks.observe(chunks)
