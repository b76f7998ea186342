"""Jobs: seed, refresh, truncate and gc, which go on without an open request."""

from icehouse_server.core.limits import JobSettings
from icehouse_server.service.jobs.job import Job, JobKind, JobSpec, JobState
from icehouse_server.service.jobs.registry import Jobs

__all__ = ["Job", "JobKind", "JobSettings", "JobSpec", "JobState", "Jobs"]
