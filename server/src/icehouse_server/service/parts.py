"""The parts that a request goes through, wired to each other."""

from concurrent.futures import Executor
from dataclasses import dataclass

from icehouse_server.core.limits import ServiceSettings
from icehouse_server.downloads import Downloads
from icehouse_server.output import Scratch
from icehouse_server.service.admission import Admission
from icehouse_server.service.chunk_fetcher import ChunkFetcher
from icehouse_server.service.coverage import CoverageService
from icehouse_server.service.disk_guard import DiskGuard
from icehouse_server.service.planner import Planner
from icehouse_server.store import Store


@dataclass(frozen=True, slots=True, kw_only=True)
class ServiceParts:
    """The parts that requests share.

    For the composition root alone: other objects are given the parts that they need, never all of them.
    """

    planner: Planner
    disk_guard: DiskGuard
    fetcher: ChunkFetcher
    admission: Admission
    coverages: CoverageService

    @classmethod
    def assemble(
        cls, store: Store, downloads: Downloads, settings: ServiceSettings, *, pool: Executor
    ) -> "ServiceParts":
        """Make the parts, on a store and the downloads that fill it."""
        timeout = settings.request_timeout
        scratch = Scratch.in_cache(store.folder)
        planner = Planner(store, settings.limits, pool=pool)
        disk_guard = DiskGuard(store.folder, settings.disk_floor, pool=pool)
        fetcher = ChunkFetcher(downloads, disk_guard, timeout=timeout)
        admission = Admission(settings.max_answer_bytes, patience=timeout)
        return cls(
            planner=planner,
            disk_guard=disk_guard,
            fetcher=fetcher,
            admission=admission,
            coverages=CoverageService(
                store, planner, fetcher, admission, timeout=timeout, pool=pool, scratch=scratch
            ),
        )
