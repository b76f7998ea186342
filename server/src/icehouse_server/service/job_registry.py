"""Jobs: work that nobody waits for with an open request. They live in memory and end with the daemon."""

import asyncio
import secrets
from collections import Counter
from collections.abc import Mapping, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass

import structlog

from icehouse_server.core.area import Area, area_under, check_area, whole
from icehouse_server.core.errors import (
    BusyError,
    ChunksFailedError,
    IcehouseError,
    OutsideError,
    ShuttingDownError,
    UnknownJobError,
)
from icehouse_server.downloads import Priority
from icehouse_server.service.coverage import CoverageService, error_of
from icehouse_server.service.job import Job, JobKind, JobSpec, JobState
from icehouse_server.service.job_runners import Chunks, FetchRunner, collect, truncate

log = structlog.get_logger(__name__)

_RETRY_AFTER = 10.0
"""Seconds after which to ask again where all jobs kept are under way."""


@dataclass(frozen=True, slots=True, kw_only=True)
class JobSettings:
    """Limits of jobs."""

    max_jobs: int = 100
    """Jobs kept, finished ones included."""
    jobs_at_once: int = 2
    """Seeds and refreshes that run at once; the others wait."""
    max_job_chunks: int = 1_000_000
    """Chunks that a seed is about, over all bands."""


class Jobs:
    """All jobs of one daemon. Runs on one event loop.

    Seeds and refreshes wait for one of a few places. Seeds that somebody waits for (``Prefer``) do not: the
    queue of the downloads bounds them. Truncations and collections run one at a time.
    """

    def __init__(self, service: CoverageService, settings: JobSettings, *, pool: Executor) -> None:
        self.settings = settings
        self._service = service
        self._pool = pool
        self._jobs: dict[str, Job] = {}
        self._tasks: dict[Job, asyncio.Task[None]] = {}
        self._places = asyncio.Semaphore(settings.jobs_at_once)
        self._upkeep = asyncio.Semaphore(1)
        self._awaited = asyncio.Semaphore(settings.max_jobs)
        self._closed = False

    @property
    def by_state(self) -> Mapping[str, int]:
        """How many jobs are in each state."""
        found = Counter(job.state for job in self._jobs.values())
        return {state.value: found[state] for state in JobState}

    async def start(self, order: JobSpec) -> Job:
        """Accept a job; it runs when it has its turn.

        Somebody who waits for a region for which such a job is under way is given that job.

        Raises:
            TooLargeError: it is about too many chunks.
            OutsideError: it is about none.
            BusyError: as many jobs as are kept are under way.
            ShuttingDownError: the daemon is stopping.
        """
        areas = await self._areas(order)
        if self._closed:
            raise ShuttingDownError("the daemon is stopping and takes no jobs", retry_after=5)
        if order.priority is Priority.INTERACTIVE and (found := self._same(order)) is not None:
            return found
        self._make_room()
        job = Job(id=secrets.token_hex(16), order=order)
        self._jobs[job.id] = job
        task = asyncio.create_task(self._run(job, areas), name=f"{order.kind} {job.id}")
        self._tasks[job] = task
        task.add_done_callback(lambda _: self._tasks.pop(job))
        return job

    def get(self, name: str) -> Job:
        """Return the job of an id.

        Raises:
            UnknownJobError: there is none.
        """
        found = self._jobs.get(name)
        if found is None:
            raise UnknownJobError(
                f"there is no job {name[:64]!r}",
                hint="jobs that are over are forgotten in time, and all when the daemon stops",
            )
        return found

    def newest(self, first: int, count: int) -> Sequence[Job]:
        """Return jobs, the newest first."""
        return list(reversed(self._jobs.values()))[first : first + count]

    def __len__(self) -> int:
        return len(self._jobs)

    def dismiss(self, name: str) -> Job:
        """End a job, and return it; one that is over is forgotten.

        Raises:
            UnknownJobError: there is none.
        """
        job = self.get(name)
        if job.over:
            del self._jobs[name]
        else:
            self._stop(job, "it was dismissed; what it has fetched is kept")
        return job

    async def close(self) -> None:
        """Dismiss all jobs, and wait until they have ended. Safe to call twice."""
        self._closed = True
        for job in self._tasks:
            self._stop(job, "the daemon stops; what it has fetched is kept")
        if self._tasks:
            await asyncio.wait(self._tasks.values())

    def _stop(self, job: Job, why: str) -> None:
        job.end(JobState.DISMISSED, why)
        self._tasks[job].cancel()

    async def _areas(self, order: JobSpec) -> dict[int, Area]:
        """Return the area of each level that a job is about."""
        if order.collection is None:
            return {}
        levels = order.levels
        if levels is None:
            levels = tuple(sorted({0, *self._service.collection(order.collection.id).index.levels}))
        areas = {level: area for level in levels if (area := await self._area(order, level)) is not None}
        if not areas:
            raise OutsideError("the region lies outside the collection")
        if order.kind is JobKind.SEED:
            asked = sum(area.size for area in areas.values()) * order.layers
            check_area(asked, self.settings.max_job_chunks)
        return areas

    async def _area(self, order: JobSpec, level: int) -> Area | None:
        if order.collection is None or order.target is None:
            return None if order.collection is None else whole(order.collection.grids[level])
        most = self.settings.max_job_chunks // order.layers
        loop = asyncio.get_running_loop()
        grid = order.collection.grids[level]
        return await loop.run_in_executor(self._pool, area_under, grid, order.target, most)

    def _same(self, order: JobSpec) -> Job | None:
        return next((job for job in self._jobs.values() if not job.over and job.order == order), None)

    def _make_room(self) -> None:
        """Forget the oldest job that is over where as many are kept as may be."""
        if len(self._jobs) < self.settings.max_jobs:
            return
        name = next((name for name, job in self._jobs.items() if job.over), None)
        if name is None:
            raise BusyError(
                f"{len(self._jobs)} jobs are under way, which is max_jobs", retry_after=_RETRY_AFTER
            )
        del self._jobs[name]

    def _lane(self, order: JobSpec) -> asyncio.Semaphore:
        if order.kind in {JobKind.TRUNCATE, JobKind.GC}:
            return self._upkeep
        return self._places if order.priority is Priority.PREFETCH else self._awaited

    async def _run(self, job: Job, areas: Mapping[int, Area]) -> None:
        try:
            async with self._lane(job.order):
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
        except Exception:  # the task's edge: whoever watches the job must learn that it ended
            log.exception("a job failed in a way that it should not", job=job.id)
            job.kind = IcehouseError.kind
            job.end(JobState.FAILED, "the daemon made a mistake; its log says more")
        finally:
            log.info("job", **_line(job))

    async def _work(self, job: Job, areas: Mapping[int, Area]) -> str:
        order, store = job.order, self._service.store
        if order.collection is None:
            return await collect(store)
        collection = self._service.collection(order.collection.id)
        chunks = Chunks(collection, areas, order.bands, order.times)
        if order.kind is JobKind.TRUNCATE:
            return await truncate(job, chunks, collection)
        fetching = FetchRunner(job, chunks, self._service)
        return await (fetching.refresh() if order.kind is JobKind.REFRESH else fetching.seed())


def _line(job: Job) -> dict[str, object]:
    """Return what stands in a job's line of the log."""
    collection, counts = job.order.collection, job.counts
    return {
        "job": job.id,
        "type": job.order.kind.value,
        **({} if collection is None else {"collection": collection.id}),
        "outcome": job.state.value,
        "chunks": counts.total,
        "present": counts.present,
        "fetched": counts.fetched,
        "failed": counts.failed,
        "dropped": counts.dropped,
        "detail": job.message,
    }
