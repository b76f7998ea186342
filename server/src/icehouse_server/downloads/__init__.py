"""Downloads: one flight a chunk, a fair and bounded queue, retries, and failures that stay local."""

from icehouse_server.downloads.downloads import Downloads, DownloadSettings, Ensured, Priority, Supply
from icehouse_server.downloads.fetch import RetryPolicy

__all__ = ["DownloadSettings", "Downloads", "Ensured", "Priority", "RetryPolicy", "Supply"]
