"""The service: what a request goes through, without HTTP."""

from icehouse_server.downloads import Priority
from icehouse_server.service.coverage import Answer, Ask, CoverageService, ServiceSettings
from icehouse_server.service.cube import CubeService, CubeSettings, Entry
from icehouse_server.service.inventory import (
    MOST_CELL,
    ChunkState,
    Inventory,
    Picture,
    View,
    changes,
)
from icehouse_server.service.job import Job, JobKind, JobState, Order
from icehouse_server.service.job_registry import Jobs, JobSettings
from icehouse_server.service.monitors import FolderWatch, LoopWatch
from icehouse_server.service.throughput import Amounts, Pulse, resident_bytes
from icehouse_server.service.tiles import Tile, TileAsk, TilePlan, TileService, TileSettings
from icehouse_server.service.trace import STAGES, Hits, Trace

__all__ = [
    "MOST_CELL",
    "STAGES",
    "Amounts",
    "Answer",
    "Ask",
    "ChunkState",
    "CoverageService",
    "CubeService",
    "CubeSettings",
    "Entry",
    "FolderWatch",
    "Hits",
    "Inventory",
    "Job",
    "JobKind",
    "JobSettings",
    "JobState",
    "Jobs",
    "LoopWatch",
    "Order",
    "Picture",
    "Priority",
    "Pulse",
    "ServiceSettings",
    "Tile",
    "TileAsk",
    "TilePlan",
    "TileService",
    "TileSettings",
    "Trace",
    "View",
    "changes",
    "resident_bytes",
]
