"""The service: what a request goes through, without HTTP."""

from icehouse_server.downloads import Priority
from icehouse_server.service.coverage import CoverageRequest, CoverageResult, CoverageService, ServiceSettings
from icehouse_server.service.cube import CubeService, CubeSettings, StoreEntry
from icehouse_server.service.inventory import (
    MOST_CELL,
    ChunkState,
    Inventory,
    InventorySnapshot,
    View,
    changes,
)
from icehouse_server.service.job import Job, JobKind, JobSpec, JobState
from icehouse_server.service.job_registry import Jobs, JobSettings
from icehouse_server.service.monitors import CacheFolderProbe, LoopLagMonitor
from icehouse_server.service.throughput import ThroughputMonitor, Totals, resident_bytes
from icehouse_server.service.tiles import Tile, TileAsk, TilePlan, TileService, TileSettings
from icehouse_server.service.trace import STAGES, Hits, Trace

__all__ = [
    "MOST_CELL",
    "STAGES",
    "CacheFolderProbe",
    "ChunkState",
    "CoverageRequest",
    "CoverageResult",
    "CoverageService",
    "CubeService",
    "CubeSettings",
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
    "Priority",
    "ServiceSettings",
    "StoreEntry",
    "ThroughputMonitor",
    "Tile",
    "TileAsk",
    "TilePlan",
    "TileService",
    "TileSettings",
    "Totals",
    "Trace",
    "View",
    "changes",
    "resident_bytes",
]
