"""Room on disk: how much the cache takes, and who waits until some is free."""

import asyncio

from icehouse_server.core.errors import DiskFullError

COMMIT_BYTES = 128 * 1024
"""What a commit adds in addition to its chunks: snapshot, manifest, copies. Measured: 90 kB with a full
manifest."""

_HIGH = 0.95
"""Share of the limit at which making room begins."""

_LOW = 0.85
"""Share of the limit that making room aims at."""


class DiskQuota:
    """Bytes that all repositories take, against the limit that is set. Runs on one event loop.

    What is committed is added up; maintenance measures the folder and sets that right.

    Attributes:
        limit: bytes that the cache may take; None is as much as the disk holds.
        wanted: set when room should be made.
    """

    def __init__(self, limit: int | None) -> None:
        self.limit = limit
        self.wanted = asyncio.Event()
        self._bytes = 0
        self._since = 0
        self._under_way = 0
        self._waiting: list[int] = []
        self._free = asyncio.Event()
        self._free.set()

    @property
    def bytes(self) -> int:
        """Bytes that the cache takes."""
        return self._bytes

    @property
    def excess(self) -> int:
        """Bytes to be made free, so that the largest commit that waits fits; 0 when nothing need be done."""
        if self.limit is None:
            return 0
        needed = self._bytes + max(self._waiting, default=0)
        return needed - int(_LOW * self.limit) if needed > _HIGH * self.limit else 0

    async def admit(self, size: int, seconds: float) -> None:
        """Wait until a commit of a given size in bytes fits, and count it; ``written`` ends it.

        Raises:
            DiskFullError: there was no room within ``seconds``, or never can be.
        """
        size += COMMIT_BYTES
        if self.limit is not None and size > _LOW * self.limit:
            raise DiskFullError(
                f"a commit of {size} bytes does not fit into max_cache_bytes = {self.limit}",
                hint="raise max_cache_bytes",
            )
        self._waiting.append(size)
        try:
            async with asyncio.timeout(seconds):
                while self.limit is not None and self._bytes + size > self.limit:
                    self._free.clear()
                    self.wanted.set()
                    await self._free.wait()
        except TimeoutError:
            raise DiskFullError(
                f"the cache takes {self._bytes} of the {self.limit} bytes that max_cache_bytes allows, "
                f"and no room came free within {seconds:.0f} s",
                hint="raise max_cache_bytes, or ask for less at a time",
            ) from None
        finally:
            self._waiting.remove(size)
        self._bytes += size
        self._since += size
        self._under_way += size
        if self.excess:
            self.wanted.set()

    def written(self, size: int) -> None:
        """Say that a commit that was admitted with this size lies on the disk, or never will."""
        self._under_way -= size + COMMIT_BYTES

    def measuring(self) -> None:
        """Say that the folder is measured from now on; what is not all on the disk by now is added to it."""
        self._since = self._under_way

    def measured(self, size: int) -> None:
        """Set what the folder was found to take."""
        self._bytes = size + self._since
        self._free.set()
