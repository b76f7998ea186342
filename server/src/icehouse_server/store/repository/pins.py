"""Pins: what keeps a snapshot for readers of the repository's files, who hold no lease."""

import time
from collections.abc import Callable
from dataclasses import dataclass

PINNED = 600.0
"""Seconds after the last request for a file for which what was pinned is kept."""

_LONGEST = 3600.0
"""Seconds after which a pin ends whatever happens: no reader may keep the cache from dropping its past."""

_MOST = 32
"""Pins at once; beyond, the one that was named longest ago goes."""


@dataclass(slots=True)
class _Pin:
    """When a snapshot was named, and when a file was last asked for."""

    named: float
    used: float


class Pins:
    """Snapshots that readers of files may be reading. Every request extends all of them.

    A request for a manifest or a chunk does not say which snapshot it is for, so all live on with it.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._pins: dict[str, _Pin] = {}

    def touch(self, snapshot: str | None = None) -> None:
        """Note a request for a file, and pin the snapshot that it names."""
        now = self._clock()
        self.held()
        if snapshot is not None:
            self._pins.pop(snapshot, None)  # the order is that of naming
            self._pins[snapshot] = _Pin(named=now, used=now)
        for pin in self._pins.values():
            pin.used = now
        while len(self._pins) > _MOST:
            del self._pins[next(iter(self._pins))]

    def held(self) -> tuple[str, ...]:
        """Return the snapshots that are pinned."""
        now = self._clock()
        self._pins = {
            name: pin
            for name, pin in self._pins.items()
            if now - pin.used < PINNED and now - pin.named < _LONGEST
        }
        return tuple(self._pins)
