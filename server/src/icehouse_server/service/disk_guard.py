"""Whether there is room on the cache folder's disk to keep what would be fetched."""

import shutil
from concurrent.futures import Executor
from pathlib import Path

from icehouse_server.aio.cached_probe import CachedProbe, ProbeTimeoutError
from icehouse_server.aio.worker_pool import run_in
from icehouse_server.core.errors import DiskFullError, StoreError

FULL_HINT = "make room, or point cache_dir at a larger disk; cached regions still work"
_SILENT_HINT = "look at the disk of the cache folder; cached regions still work"

_PATIENCE = 5.0
"""Seconds in which the disk must say what it has free."""


class DiskGuard:
    """Refuses fetches where the disk of the cache folder is nearly full. Runs on one event loop.

    Attributes:
        floor: bytes to be left free: below it nothing is fetched.
    """

    def __init__(self, folder: Path, floor: int, *, pool: Executor) -> None:
        self.floor = floor
        self._folder = folder
        self._pool = pool
        self._probe: CachedProbe[int] = CachedProbe()

    async def check(self) -> None:
        """Look whether there is room to keep what would be fetched.

        Raises:
            DiskFullError: less is free than ``floor``.
            StoreError: the disk does not say.
        """
        free = await self._free_bytes()
        if free < self.floor:
            raise DiskFullError(
                f"the cache folder's disk has {free} bytes free; disk_floor is {self.floor}",
                hint=FULL_HINT,
            )

    async def _free_bytes(self) -> int:
        """Return what is free. One look at a time: a disk that hangs takes one thread."""
        try:
            return await self._probe.get(self._look, _PATIENCE)
        except ProbeTimeoutError:
            raise StoreError(
                f"the disk of the cache folder did not answer within {_PATIENCE:.0f} s",
                hint=_SILENT_HINT,
            ) from None
        except OSError as error:
            raise StoreError(
                f"the disk of the cache folder does not say what is free: {error.strerror}",
                hint=_SILENT_HINT,
            ) from error

    async def _look(self) -> int:
        return await run_in(self._pool, _free_bytes, self._folder)


def _free_bytes(folder: Path) -> int:
    """Return the bytes that a folder's disk has free. Blocking."""
    return shutil.disk_usage(folder).free
