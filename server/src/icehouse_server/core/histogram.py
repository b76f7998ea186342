"""Plain counters: what parts keep while they run, and what the metrics read when they are asked for."""

from bisect import bisect_left
from collections.abc import Sequence
from contextvars import ContextVar
from dataclasses import dataclass, field


@dataclass(slots=True)
class Distribution:
    """How often values came, by size. Used from one thread.

    Args:
        bounds: upper bounds of the bins, ascending; a value equal to a bound lies below it. What is above the
            last one has a bin of its own.
    """

    bounds: Sequence[float]
    counts: list[int] = field(init=False)
    """Values in each bin, the one above all bounds last."""
    total: float = field(init=False, default=0.0)
    """Sum of all values."""

    def __post_init__(self) -> None:
        self.counts = [0] * (len(self.bounds) + 1)

    def observe(self, value: float) -> None:
        """Count a value."""
        self.counts[bisect_left(self.bounds, value)] += 1
        self.total += value


@dataclass(slots=True)
class FetchTally:
    """What the fetch of one block cost at the source so far."""

    id: str = ""
    """Stands in the log lines of the fetch, and goes to the source as ``X-Request-ID``; random: it says
    nothing about who asks."""
    requests: int = 0
    bytes: int = 0
    """Received, compressed as the source sends them."""


FETCH: ContextVar[FetchTally | None] = ContextVar("icehouse-fetch", default=None)
"""The fetch for which the present task or thread works. What two share counts for the first to ask."""


def request_headers() -> dict[str, str]:
    """Return the headers by which a source's own log can be laid beside ours."""
    fetch = FETCH.get()
    return {} if fetch is None else {"X-Request-ID": fetch.id}
