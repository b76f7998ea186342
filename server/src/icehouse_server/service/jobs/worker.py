"""Does the work of jobs, each when it has its turn."""

import asyncio
from collections.abc import Mapping

import structlog

from icehouse_server.core.area import Area
from icehouse_server.core.errors import ChunksFailedError, IcehouseError, ShuttingDownError
from icehouse_server.downloads import Downloads, Priority
from icehouse_server.service.chunk_fetcher import error_of
from icehouse_server.service.disk_guard import DiskGuard
from icehouse_server.service.jobs.chunks import JobChunks
from icehouse_server.service.jobs.job import Job, JobKind, JobSpec, JobState
from icehouse_server.service.jobs.runners import FetchRunner, collect, truncate
from icehouse_server.store import Store

log = structlog.get_logger(__name__)


class JobWorker:
    """Runs jobs. Used on one event loop.

    Seeds and refreshes wait for one of a few slots. Seeds that a request waits for (``Prefer``) do not: the
    queue of the downloads bounds them. Truncations and collections run one at a time.

    Args:
        store: the open collections.
        downloads: fetch chunks.
        disk: refuses what could not be kept.
        at_once: seeds and refreshes that run at once.
        max_jobs: jobs that there are at most.
    """

    def __init__(
        self, store: Store, downloads: Downloads, disk: DiskGuard, *, at_once: int, max_jobs: int
    ) -> None:
        self._store = store
        self._downloads = downloads
        self._disk = disk
        self._slots = asyncio.Semaphore(at_once)
        self._upkeep = asyncio.Semaphore(1)
        self._awaited = asyncio.Semaphore(max_jobs)

    def _lane(self, spec: JobSpec) -> asyncio.Semaphore:
        if spec.kind in {JobKind.TRUNCATE, JobKind.GC}:
            return self._upkeep
        return self._slots if spec.priority is Priority.PREFETCH else self._awaited

    async def run(self, job: Job, areas: Mapping[int, Area]) -> None:
        """Wait for the job's turn, do its work, and note how it ended.

        Args:
            job: keeps its progress and its end; no error leaves here.
            areas: the positions that it is about, by level.

        Raises:
            asyncio.CancelledError: the job was dismissed.
        """
        try:
            async with self._lane(job.spec):
                job.begin()
                message = await self._work(job, areas)
            failed, total = job.counts.failed, job.counts.total
            if failed:
                job.kind = ChunksFailedError.kind
                job.hint = error_of(tuple(job.failures), holes=False).hint
                others = "; the others are cached" if failed < total else ""
                message = f"{failed} of {total} chunks could not be filled{others}"
            job.end(JobState.FAILED if failed else JobState.SUCCESSFUL, message)
        except asyncio.CancelledError:
            job.end(JobState.DISMISSED, "it was dismissed; what it has fetched is kept")
            raise
        except ShuttingDownError as error:
            job.end(JobState.DISMISSED, error.detail)
        except IcehouseError as error:
            job.kind, job.hint = error.kind, error.hint
            job.end(JobState.FAILED, error.detail)
        except Exception:  # the task's edge: those who watch the job must learn that it ended
            log.exception("a job failed in a way that it should not", job=job.id)
            job.kind = IcehouseError.kind
            job.end(JobState.FAILED, "internal error; the log of the daemon says more")
        finally:
            log.info("job", **_line(job))

    async def _work(self, job: Job, areas: Mapping[int, Area]) -> str:
        spec = job.spec
        if spec.collection is None:
            return await collect(self._store)
        collection = self._store.collection(spec.collection.id)
        chunks = JobChunks(collection, areas, spec.bands, spec.times)
        if spec.kind is JobKind.TRUNCATE:
            return await truncate(job, chunks, collection)
        fetching = FetchRunner(job, chunks, self._downloads, self._disk)
        return await (fetching.refresh() if spec.kind is JobKind.REFRESH else fetching.seed())


def _line(job: Job) -> dict[str, object]:
    """Return the fields of a job's line in the log."""
    collection, counts = job.spec.collection, job.counts
    return {
        "job": job.id,
        "type": job.spec.kind.value,
        **({} if collection is None else {"collection": collection.id}),
        "outcome": job.state.value,
        "chunks": counts.total,
        "present": counts.present,
        "fetched": counts.fetched,
        "failed": counts.failed,
        "dropped": counts.dropped,
        "detail": job.message,
    }
