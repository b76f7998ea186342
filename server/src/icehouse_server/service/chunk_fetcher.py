"""Absent chunks of a request: fetched while it waits, and the error of those that can't be."""

from collections.abc import Sequence

from icehouse_server.core.collection import CollectionSpec
from icehouse_server.core.errors import (
    BusyError,
    ChunksFailedError,
    DiskFullError,
    FailedChunk,
    ShuttingDownError,
)
from icehouse_server.core.grid import ChunkKey
from icehouse_server.downloads import Downloads
from icehouse_server.raster.out_of_memory import out_of_memory
from icehouse_server.service.disk_guard import FULL_HINT, DiskGuard
from icehouse_server.service.trace import Trace


class ChunkFetcher:
    """Has the chunks fetched that a request waits for. Runs on one event loop.

    Args:
        downloads: fetches each chunk once, however many requests wait for it.
        disk: refuses what could not be kept.
        timeout: seconds that a request may wait for absent chunks.
    """

    def __init__(self, downloads: Downloads, disk: DiskGuard, *, timeout: float) -> None:
        self._downloads = downloads
        self._disk = disk
        self._timeout = timeout

    def in_flight(self, key: ChunkKey) -> bool:
        """Return whether a chunk is under way or queued."""
        return self._downloads.in_flight(key)

    async def fetch(
        self, spec: CollectionSpec, keys: Sequence[ChunkKey], trace: Trace
    ) -> tuple[FailedChunk, ...]:
        """Have chunks fetched and committed, and wait for them; return those that could not be.

        That the daemon stops says nothing of the source, so it is an error and not a failure of chunks.

        Raises:
            BusyError: a queue is full.
            DiskFullError: there is no room to keep what would be fetched.
            ShuttingDownError: the daemon is stopping.
        """
        await self._disk.check()
        with trace.stage("fetch"):
            ensured = await self._downloads.ensure(spec, keys, timeout=self._timeout)
        trace.committed(ensured.commit_seconds)
        trace.failed += len(ensured.failed)
        trace.started += ensured.started
        trace.joined += ensured.joined
        if any(failure.kind == ShuttingDownError.kind for failure in ensured.failed):
            raise ShuttingDownError("the daemon is stopping; what it has fetched is kept", retry_after=5)
        return ensured.failed


def error_of(
    failed: tuple[FailedChunk, ...], *, holes: bool = True
) -> ChunksFailedError | DiskFullError | BusyError:
    """Return the error of chunks that are not there; a full disk or memory says nothing of their source.

    Args:
        failed: the chunks.
        holes: the caller may have the failed area as nodata instead (``fail_on_error``).
    """
    if all(failure.kind == DiskFullError.kind for failure in failed):
        return DiskFullError(failed[0].detail, hint=FULL_HINT)
    if all(failure.kind == BusyError.kind for failure in failed):
        return out_of_memory(failed[0].detail)
    error = ChunksFailedError(failed)
    if not holes:
        error.hint = error.remedy
    return error
