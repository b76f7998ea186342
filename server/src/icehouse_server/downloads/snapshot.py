"""What metrics and status say about the downloads: one frozen value, taken at one moment."""

from collections.abc import Mapping
from dataclasses import dataclass

from icehouse_server.core.limits import DownloadSettings
from icehouse_server.downloads.chunk_flights import Failure
from icehouse_server.downloads.fetch_report import FetchCounts, LastFailure
from icehouse_server.downloads.values import BlockReport


@dataclass(frozen=True, slots=True, kw_only=True)
class DownloadsSnapshot:
    """The state of the downloads at a moment."""

    settings: DownloadSettings
    """The limits in force."""
    closed: bool
    """True when nothing is fetched any more, because the daemon stops."""
    flights: int
    """Chunks under way or queued."""
    queued: int
    """Blocks that have not begun."""
    oldest: float
    """Seconds for which the block has waited that waits longest; 0 where none does."""
    running: int
    """Blocks under way."""
    running_by_collection: Mapping[str, int]
    blocks: tuple[BlockReport, ...]
    """Blocks under way, the longest first, then those that come next: as many as were asked for."""
    counts: FetchCounts
    """What happened since the start."""
    newest_failures: tuple[Failure, ...]
    """The newest failures of all collections, the newest first."""
    last_failures: Mapping[str, LastFailure]
    """Why the last block of a collection failed, by collection."""
    taken: float
    """The moment, by the clock of the downloads."""

    def last_failure(self, collection: str, *, within: float) -> LastFailure | None:
        """Return why the last block of a collection failed, if that was at most ``within`` seconds ago."""
        found = self.last_failures.get(collection)
        return found if found is not None and self.taken - found.at <= within else None
