"""A histogram that a part keeps while it runs, for the metrics to read."""

from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass, field


@dataclass(slots=True)
class Histogram:
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
