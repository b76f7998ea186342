"""What goes into ``Downloads`` and what comes out."""

from dataclasses import dataclass, field
from enum import IntEnum

from icehouse_server.core.blocks import ChunkBlock
from icehouse_server.core.errors import FailedChunk
from icehouse_server.core.plan import Presence
from icehouse_server.core.ports import ChunkSink, Source
from icehouse_server.downloads.fetch import RetryPolicy


class Priority(IntEnum):
    """Who goes first."""

    INTERACTIVE = 0
    PREFETCH = 1


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
    block_bytes: int = 128 * 1024**2
    """Bytes of a block's pixels, over all its bands, with a byte each for their validity; a chunk that is
    larger is a block of its own."""
    failure_ttl: float = 10.0
    """Seconds for which a chunk that failed is left alone; longer where the source said when to come back."""
    commit_timeout: float = 180.0
    """Seconds in which pixels that have arrived must be cut, encoded and committed."""
    unwanted: float = 30.0
    """Seconds that a block which has begun may go on when nobody waits for it any more: much of it is paid
    for, and who asked for it is likely to come back. Then its place is for others."""
    retry: RetryPolicy = field(default_factory=RetryPolicy)


@dataclass(frozen=True, slots=True, kw_only=True)
class CollectionPipeline:
    """What fills a collection: where its pixels come from, what is there already, and where they go."""

    source: Source
    presence: Presence
    sink: ChunkSink


@dataclass(frozen=True, slots=True, kw_only=True)
class BlockReport:
    """A block that is queued or under way, as it is at a moment."""

    collection: str
    block: ChunkBlock
    running: bool
    seconds: float
    """Since its fetch began, or, where it waits, since it was asked for."""
    waiting: int
    """Requests that wait for it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Ensured:
    """What came of a call of ``ensure``."""

    failed: tuple[FailedChunk, ...]
    """Chunks that are not there, in the order asked for."""
    started: int
    """Chunks whose fetch this call began."""
    joined: int
    """Chunks that were under way for somebody else."""
    commit_seconds: float = 0.0
    """Of the time waited, the part after the last chunk had arrived: encoding it and committing."""
