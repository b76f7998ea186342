"""Monitors of what the daemon depends on: an event loop that is in time, a folder that takes files."""

import asyncio
import os
import shutil
import tempfile
import time
from collections import deque
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from icehouse_server.aio.cached_probe import CachedProbe, ProbeTimeoutError
from icehouse_server.aio.worker_pool import run_in
from icehouse_server.core.histogram import Histogram

_EVERY = 0.25
"""Seconds between two looks at the loop."""

_MEMORY = 60.0
"""Seconds for which the worst delay is remembered."""

_DELAYS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5)

_FRESH = 1.0
"""Seconds for which a look at the folder counts: it is asked for as often as anybody likes."""

_PATIENCE = 2.0
"""Seconds that a look at the folder may take; a disk that answers later counts as silent."""


class LoopLagMonitor:
    """Measures by how much the event loop wakes too late. Anything that blocks it shows here."""

    def __init__(self) -> None:
        self.delays = Histogram(_DELAYS)
        self._recent: deque[tuple[float, float]] = deque(maxlen=round(_MEMORY / _EVERY))

    def worst(self, within: float = _MEMORY) -> float:
        """Return the longest delay of the last seconds, a minute at most."""
        since = time.monotonic() - within
        return max((delay for at, delay in self._recent if at >= since), default=0.0)

    def note(self, delay: float) -> None:
        """Count a delay in seconds."""
        self.delays.observe(delay)
        self._recent.append((time.monotonic(), delay))

    async def run(self) -> None:
        """Look again and again, until cancelled."""
        while True:
            begun = time.perf_counter()
            await asyncio.sleep(_EVERY)
            self.note(max(0.0, time.perf_counter() - begun - _EVERY))


@dataclass(frozen=True, slots=True, kw_only=True)
class FolderState:
    """How the cache folder was found."""

    free: int | None
    """Bytes free on its disk; None where it can't be said."""
    fault: str = ""
    """Stable code of what is wrong with the folder, or an empty string."""
    detail: str = ""
    """What goes beyond the code, for people; may be empty."""


class CacheFolderProbe:
    """Looks whether the cache folder is there and takes files. Used from one event loop.

    The look is taken in a thread of its own: a disk that hangs takes neither the loop nor those who decode.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="folder")
        self._identity = _identity(folder)
        self._probe: CachedProbe[FolderState] = CachedProbe(_FRESH)
        self.last = FolderState(free=None)

    async def look(self) -> FolderState:
        """Return how the folder is, at most a second ago."""
        try:
            self.last = await self._probe.get(
                lambda: run_in(self._pool, _look, self._folder, self._identity), _PATIENCE
            )
        except ProbeTimeoutError:
            self.last = FolderState(free=None, fault="disk-silent", detail=f"{_PATIENCE:.0f} s")
        return self.last

    def close(self) -> None:
        """Let the thread go. Safe to call twice."""
        self._pool.shutdown(wait=False, cancel_futures=True)


def _identity(folder: Path) -> tuple[int, int] | None:
    try:
        found = folder.stat()
    except OSError:
        return None
    return found.st_dev, found.st_ino


def _look(folder: Path, identity: tuple[int, int] | None) -> FolderState:
    """Look at a folder. Blocking."""
    gone = FolderState(free=None, fault="cache-folder-gone")
    if identity is None or _identity(folder) != identity:
        return gone
    try:
        free = shutil.disk_usage(folder).free
    except OSError:
        return gone
    try:
        with tempfile.TemporaryFile(dir=folder):  # on Linux it has no name, so nothing can be left behind
            pass
    except OSError as error:
        reason = os.strerror(error.errno) if error.errno else type(error).__name__
        return FolderState(free=free, fault="cache-folder-not-writable", detail=reason)
    return FolderState(free=free)
