"""What the daemon does at the moment: how fast, since when, and in how much memory."""

import asyncio
import os
import time
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

_EVERY = 1.0
"""Seconds between two readings."""

_READINGS = 11
"""Readings that are kept: rates are those of the last ten seconds."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Totals:
    """What has gone by, since the start or in a second."""

    blocks: float
    """Blocks fetched."""
    bytes: float
    """Bytes received from sources."""


class ThroughputMonitor:
    """Reads counters once a second, to know how fast they grow. Runs on one event loop.

    Attributes:
        started: when the daemon was ready.
    """

    def __init__(self, read: Callable[[], Totals], clock: Callable[[], float] = time.monotonic) -> None:
        self.started = datetime.now(UTC)
        self._read = read
        self._clock = clock
        self._begun = clock()
        self._readings: deque[tuple[float, Totals]] = deque(maxlen=_READINGS)
        self.note()

    @property
    def uptime(self) -> float:
        """Seconds since the start."""
        return self._clock() - self._begun

    @property
    def total(self) -> Totals:
        """What has gone by since the start."""
        return self._read()

    @property
    def rates(self) -> Totals:
        """What goes by in a second, over the last ten seconds at most."""
        (since, before), now = self._readings[0], self._read()
        seconds = max(self._clock() - since, _EVERY)
        return Totals(
            blocks=(now.blocks - before.blocks) / seconds, bytes=(now.bytes - before.bytes) / seconds
        )

    def note(self) -> None:
        """Take a reading."""
        self._readings.append((self._clock(), self._read()))

    async def run(self) -> None:
        """Take readings, until cancelled."""
        while True:
            await asyncio.sleep(_EVERY)
            self.note()


def resident_bytes() -> int | None:
    """Return the memory of this process, or None where the system does not say it as Linux does."""
    with suppress(OSError, ValueError, IndexError):
        pages = Path("/proc/self/statm").read_text(encoding="ascii").split()[1]
        return int(pages) * os.sysconf("SC_PAGE_SIZE")
    return None
