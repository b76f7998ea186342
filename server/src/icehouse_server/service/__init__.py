"""The service: what a request goes through, without HTTP."""

from icehouse_server.service.coverages import Answer, Ask, CoverageService, ServiceSettings
from icehouse_server.service.trace import STAGES, Trace
from icehouse_server.service.watch import FolderWatch, LoopWatch

__all__ = [
    "STAGES",
    "Answer",
    "Ask",
    "CoverageService",
    "FolderWatch",
    "LoopWatch",
    "ServiceSettings",
    "Trace",
]
