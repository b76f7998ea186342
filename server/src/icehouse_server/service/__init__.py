"""The service: what a request goes through, without HTTP. Begin at ``CoverageService.answer``."""

from icehouse_server.core.limits import CubeSettings, JobSettings, ServiceSettings, TileSettings
from icehouse_server.downloads import Priority
from icehouse_server.service.admission import Admission
from icehouse_server.service.chunk_fetcher import ChunkFetcher
from icehouse_server.service.coverage import (
    PIXELS,
    CoverageRequest,
    CoverageResult,
    CoverageService,
    Encoder,
    encoder_of,
)
from icehouse_server.service.cube import CubeService, StoreEntry
from icehouse_server.service.disk_guard import DiskGuard
from icehouse_server.service.inventory import (
    MOST_CELL,
    ChunkState,
    Inventory,
    InventorySnapshot,
    View,
    changes,
)
from icehouse_server.service.jobs import Job, JobKind, Jobs, JobSpec, JobState
from icehouse_server.service.memory_budget import MemoryBudget
from icehouse_server.service.monitors import CacheFolderProbe, LoopLagMonitor
from icehouse_server.service.parts import ServiceParts
from icehouse_server.service.planner import Planner
from icehouse_server.service.throughput import ThroughputMonitor, Totals, resident_bytes
from icehouse_server.service.tiles import Tile, TilePlan, TileRequest, TileService
from icehouse_server.service.trace import STAGES, Hits, Trace

__all__ = [
    "MOST_CELL",
    "PIXELS",
    "STAGES",
    "Admission",
    "CacheFolderProbe",
    "ChunkFetcher",
    "ChunkState",
    "CoverageRequest",
    "CoverageResult",
    "CoverageService",
    "CubeService",
    "CubeSettings",
    "DiskGuard",
    "Encoder",
    "Hits",
    "Inventory",
    "InventorySnapshot",
    "Job",
    "JobKind",
    "JobSettings",
    "JobSpec",
    "JobState",
    "Jobs",
    "LoopLagMonitor",
    "MemoryBudget",
    "Planner",
    "Priority",
    "ServiceParts",
    "ServiceSettings",
    "StoreEntry",
    "ThroughputMonitor",
    "Tile",
    "TilePlan",
    "TileRequest",
    "TileService",
    "TileSettings",
    "Totals",
    "Trace",
    "View",
    "changes",
    "encoder_of",
    "resident_bytes",
]
