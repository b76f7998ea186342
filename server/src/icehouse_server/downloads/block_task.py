"""A block to be fetched."""

import itertools
import math
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from icehouse_server.core.blocks import ChunkBlock, join
from icehouse_server.core.collection import CollectionSpec
from icehouse_server.core.grid import ChunkKey


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class BlockTask:
    """A block to be fetched. Its place in the queue and its progress are known to the schedule alone."""

    spec: CollectionSpec
    block: ChunkBlock
    priority: int
    born: float = field(default_factory=time.monotonic)
    """When it was asked for."""
    alone: bool = False
    """True for a chunk of a block that failed: it is tried once."""
    until: float = math.inf
    """When the source must have given it at the latest, by the event loop's clock."""


def keys_of(spec: CollectionSpec, block: ChunkBlock) -> Iterator[ChunkKey]:
    """List the chunks of a block."""
    return itertools.chain.from_iterable(block.keys(spec, band) for band in block.bands)


def join_blocks(
    spec: CollectionSpec, keys: Iterable[ChunkKey], *, side: int, most_bytes: int
) -> tuple[ChunkBlock, ...]:
    """Join chunks into blocks within limits; a chunk that is larger is a block of its own.

    Args:
        spec: the collection of all the keys.
        keys: the chunks.
        side: longest side of a block, in pixels.
        most_bytes: bytes of a block's pixels, over all its bands, with a byte each for their validity.
    """

    def most(bands: tuple[str, ...]) -> int:
        pixel = sum(spec.band(name).dtype.itemsize + 1 for name in bands)
        return max(1, most_bytes // (pixel * spec.grid.chunk**2))

    return join(keys, max(1, side // spec.grid.chunk), most)
