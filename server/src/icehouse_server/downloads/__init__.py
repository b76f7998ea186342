"""Downloads: one flight a chunk, a fair and bounded queue, retries, and failures that stay local."""

from icehouse_server.core.limits import DownloadSettings, RetryPolicy
from icehouse_server.downloads.chunk_flights import Failure
from icehouse_server.downloads.downloads import Downloads
from icehouse_server.downloads.fetch_report import FetchCounts
from icehouse_server.downloads.snapshot import DownloadsSnapshot
from icehouse_server.downloads.values import (
    BlockReport,
    CollectionPipeline,
    Ensured,
    Priority,
)

__all__ = [
    "BlockReport",
    "CollectionPipeline",
    "DownloadSettings",
    "Downloads",
    "DownloadsSnapshot",
    "Ensured",
    "Failure",
    "FetchCounts",
    "Priority",
    "RetryPolicy",
]
