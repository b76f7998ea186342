"""Jobs: work that goes on without an open request. They live in memory and end with the daemon."""

import asyncio
import secrets
from collections import Counter
from collections.abc import Mapping, Sequence
from concurrent.futures import Executor

from icehouse_server.core.errors import BusyError, ShuttingDownError, UnknownJobError
from icehouse_server.core.limits import JobSettings
from icehouse_server.downloads import Downloads, Priority
from icehouse_server.service.disk_guard import DiskGuard
from icehouse_server.service.jobs.areas import areas_of
from icehouse_server.service.jobs.job import Job, JobSpec, JobState
from icehouse_server.service.jobs.worker import JobWorker
from icehouse_server.store import Store

_RETRY_AFTER = 10.0
"""Seconds after which to ask again where all jobs kept are under way."""


class Jobs:
    """All jobs of one daemon: accepted, found, dismissed. Runs on one event loop.

    Args:
        store: the open collections.
        downloads: fetch what seeds and refreshes are about.
        disk: refuses what could not be kept.
        settings: limits.
        pool: computes.
    """

    def __init__(
        self, store: Store, downloads: Downloads, disk: DiskGuard, settings: JobSettings, *, pool: Executor
    ) -> None:
        self.settings = settings
        self._store = store
        self._pool = pool
        self._worker = JobWorker(
            store, downloads, disk, at_once=settings.jobs_at_once, max_jobs=settings.max_jobs
        )
        self._jobs: dict[str, Job] = {}
        self._tasks: dict[Job, asyncio.Task[None]] = {}
        self._closed = False

    @property
    def by_state(self) -> Mapping[str, int]:
        """How many jobs are in each state."""
        found = Counter(job.state for job in self._jobs.values())
        return {state.value: found[state] for state in JobState}

    async def start(self, spec: JobSpec) -> Job:
        """Accept a job; it runs when it has its turn.

        A request that waits for a region for which such a job is under way is given that job.

        Raises:
            TooLargeError: it is about too many chunks.
            OutsideError: it is about none.
            BusyError: as many jobs as are kept are under way.
            ShuttingDownError: the daemon is stopping.
        """
        areas = await areas_of(spec, self._store, max_chunks=self.settings.max_job_chunks, pool=self._pool)
        if self._closed:
            raise ShuttingDownError("the daemon is stopping and takes no jobs", retry_after=5)
        if spec.priority is Priority.INTERACTIVE and (found := self._same(spec)) is not None:
            return found
        self._make_room()
        job = Job(id=secrets.token_hex(16), spec=spec)
        self._jobs[job.id] = job
        task = asyncio.create_task(self._worker.run(job, areas), name=f"{spec.kind} {job.id}")
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

    def _same(self, spec: JobSpec) -> Job | None:
        return next((job for job in self._jobs.values() if not job.over and job.spec == spec), None)

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
