"""How fast something goes by, and how long an amount of it will take: what ``Retry-After`` is made from."""

import math
import time
from collections import deque
from collections.abc import Callable

SHORTEST, LONGEST = 1, 60
"""Bounds of an estimate, in seconds."""

_UNKNOWN = 5
"""The estimate, in seconds, before anything was measured."""

_EVENTS = 64


class RateEstimator:
    """Measures over the last events, 64 at most. While nothing goes by, the pace falls from itself."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._events: deque[tuple[float, float]] = deque(maxlen=_EVENTS)

    def note(self, amount: float = 1.0) -> None:
        """Count an amount that has just gone by."""
        self._events.append((self._clock(), amount))

    def seconds_for(self, amount: float) -> int:
        """Return the whole seconds, rounded up, after which an amount will have gone by; 1 to 60."""
        if amount <= 0:
            return SHORTEST
        if len(self._events) < 2:  # noqa: PLR2004 - a pace needs a distance
            return _UNKNOWN
        since = self._events[0][0]
        passed = sum(size for _, size in self._events) - self._events[0][1]
        if passed <= 0:
            return LONGEST
        return max(SHORTEST, min(LONGEST, math.ceil(amount * (self._clock() - since) / passed)))
