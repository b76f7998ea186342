"""What goes into ``Downloads`` and what comes out."""

from dataclasses import dataclass
from enum import IntEnum

from icehouse_server.core.blocks import ChunkBlock
from icehouse_server.core.errors import FailedChunk
from icehouse_server.core.plan import Presence
from icehouse_server.core.ports import ChunkSink, Source


class Priority(IntEnum):
    """Who goes first."""

    INTERACTIVE = 0
    PREFETCH = 1


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
    """Chunks that were under way for another caller."""
    commit_seconds: float = 0.0
    """Of the time waited, the part after the last chunk had arrived: encoding it and committing."""
