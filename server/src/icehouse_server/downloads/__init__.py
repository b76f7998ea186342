"""Downloads: one flight a chunk, a fair and bounded queue, retries, and failures that stay local."""

from icehouse_server.downloads.downloads import Downloads
from icehouse_server.downloads.fetch import RetryPolicy
from icehouse_server.downloads.values import DownloadSettings, Ensured, Priority, Supply

__all__ = ["DownloadSettings", "Downloads", "Ensured", "Priority", "RetryPolicy", "Supply"]
