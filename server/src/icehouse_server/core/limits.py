"""What each part of the daemon may take: each limit and its default, once. The settings fill them.

They are in the core, as the settings are read by commands that import no part of the daemon.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

MIB = 1024**2
GIB = 1024**3


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What one request may need at most. The field names are the names of the settings."""

    max_output_pixels: int = 64 * MIB
    """Pixels of an answer, over all its bands."""
    max_chunks: int = 4096
    """Chunks that one request reads, over all its bands."""
    max_fills: int = 2048
    """Absent chunks that one request has fetched."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ConnectionLimits:
    """What connections may take."""

    connections: int = 1024
    """How many are served at once."""
    receive_timeout: float = 30.0
    """Seconds from the first byte of a request to its last, and from the connection to the first request."""
    send_timeout: float = 30.0
    """Seconds for each MiB of an answer that is begun."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ServiceSettings:
    """Limits of the service."""

    limits: Limits = field(default_factory=Limits)
    request_timeout: float = 300.0
    """Seconds that a request may wait for absent chunks."""
    max_answer_bytes: int = 2 * GIB
    """Memory that all answers under way may hold."""
    disk_floor: int = 512 * MIB
    """Bytes to be left free on the cache folder's disk: below it nothing is fetched."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TileSettings:
    """Limits of the tiles."""

    max_tile_chunks: int = 16
    """Absent chunks of a band that one tile has fetched."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CubeSettings:
    """Limits of the cubes."""

    fetches: int = 4096
    """Chunks that reading cubes has fetched for one client within ``window``."""
    window: float = 3600.0
    """Seconds."""


@dataclass(frozen=True, slots=True, kw_only=True)
class JobSettings:
    """Limits of jobs."""

    max_jobs: int = 100
    """Jobs kept, finished ones included."""
    jobs_at_once: int = 2
    """Seeds and refreshes that run at once; the others wait."""
    max_job_chunks: int = 1_000_000
    """Chunks that a seed is about, over all bands."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RetryPolicy:
    """How often and how long a block is tried."""

    attempts: int = 4
    """Tries in all; only errors marked transient are tried again."""
    budget: float = 120.0
    """Seconds after which no block is tried again."""
    first_wait: float = 0.5
    """Seconds before the second try; doubled for each further one, with jitter. Retry-After goes first."""
    longest_wait: float = 15.0
    block_timeout: float = 180.0
    """Seconds that one try may take."""

    @property
    def lifetime(self) -> float:
        """Seconds after which a block that has begun was given by its source, or has failed."""
        return self.budget + self.block_timeout

    @property
    def lifetime_of_parts(self) -> float:
        """The same where the block failed and its chunks were queued to be tried one by one, once each."""
        return self.lifetime + self.block_timeout


@dataclass(frozen=True, slots=True, kw_only=True)
class DownloadSettings:
    """Limits of the downloads."""

    blocks_at_once: int = 16
    """Blocks under way over all collections; see ``Schedule`` for what a collection may have of them."""
    blocks_per_collection: int = 8
    max_queued_blocks: int = 2048
    """Blocks that may wait; beyond, a collection may still queue its share of them."""
    block_side: int = 2048
    """Longest side of a block, in pixels, where its source has no wish of its own; a chunk that is longer is
    a block of its own."""
    block_bytes: int = 128 * MIB
    """Bytes of a block's pixels, over all its bands, with a byte each for their validity; a chunk that is
    larger is a block of its own."""
    failure_ttl: float = 10.0
    """Seconds for which a chunk that failed is left alone; longer where the source said when to come back."""
    commit_timeout: float = 180.0
    """Seconds in which pixels that have arrived must be cut, encoded and committed."""
    unwanted: float = 30.0
    """Seconds that a block which has begun may go on when no caller waits for it any more: much of it is paid
    for, and who asked for it is likely to come back. Then its place is for others."""
    retry: RetryPolicy = field(default_factory=RetryPolicy)


@dataclass(frozen=True, slots=True, kw_only=True)
class MaintenanceSettings:
    """When and how far maintenance goes."""

    keep_snapshots: float = 3600.0
    """Seconds for which a past snapshot stays readable; less while the cache is at its limit."""
    interval: float = 600.0
    """Seconds between two runs."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StoreSettings:
    """Limits of the store."""

    decoded_cache_bytes: int = 1 * GIB
    """Memory for decoded chunks."""
    write_timeout: float = 60.0
    """Seconds that a commit may take."""
    max_cache_bytes: int | None = None
    """Bytes that the repositories may take together; None is as much as the disk holds."""
    maintenance: MaintenanceSettings = field(default_factory=MaintenanceSettings)


@dataclass(frozen=True, slots=True, kw_only=True)
class EarthEngineSettings:
    """How Earth Engine is asked."""

    project: str | None = None
    """Google Cloud project that is registered for Earth Engine; None where the credentials name one."""
    credentials: str = "persistent"
    """``persistent``, ``application-default``, ``none``, or the path of a service account's key file."""
    url: str = "https://earthengine-highvolume.googleapis.com"
    max_requests: int = 20
    """Requests at once, over all collections."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SourceSettings:
    """How sources are asked."""

    mirrors: Mapping[str, str] = field(default_factory=dict)
    """URL prefix to the prefix to ask instead; the longest that fits wins."""
    connect_timeout: float = 10.0
    """Seconds that a connection may take."""
    read_timeout: float = 60.0
    """Seconds in which a host must send something; one request may last longer only by its size."""
    max_requests_per_host: int = 32
    """Requests for bytes that one host sees at once."""
    items_max_age: float = 7 * 86400.0
    """Seconds for which an item document is considered fresh."""
    absent_max_age: float = 86400.0
    """Seconds for which "there is no such item" is considered fresh: shorter,
    as tiles get added to mosaics."""
    earthengine: EarthEngineSettings = field(default_factory=EarthEngineSettings)
