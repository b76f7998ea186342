"""A coverage: the pixels of a region, as an answer holds them before it is encoded."""

from collections.abc import Mapping
from dataclasses import dataclass

from icehouse_server.core.errors import FailedChunk
from icehouse_server.core.plan import Region
from icehouse_server.core.ports import Stack


@dataclass(frozen=True, slots=True, kw_only=True)
class Coverage:
    """Pixels of a region on the geobox that was asked for."""

    region: Region
    """What was asked: collection, bands, time steps, target geobox."""
    bands: Mapping[str, Stack]
    """Band name to an array (rows, columns), or (time, rows, columns) where the collection has a time axis.

    Of the band's dtype, C-contiguous; fill where invalid."""
    snapshot: str
    """The Icechunk snapshot that every pixel was read from."""
    failed: tuple[FailedChunk, ...] = ()
    """Chunks that could not be filled; their area holds the band's fill."""
