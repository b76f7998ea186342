"""The seams: small Protocols that the layers above the core fill in, and the values that cross them."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from odc.geo.geobox import GeoBox

from icehouse_server.core.collection import BandSpec, CollectionSpec
from icehouse_server.core.grid import ChunkKey, Grid, Window
from icehouse_server.core.time import TimeStep

type Pixels = np.ndarray[tuple[int, int], np.dtype[np.generic]]
"""An array (rows, columns) of a band's dtype; row 0 is the northernmost."""

type Stack = np.ndarray[tuple[int, ...], np.dtype[np.generic]]
"""An array (rows, columns), or (time, rows, columns) where the collection has a time axis."""

type Mask = np.ndarray[tuple[int, int], np.dtype[np.bool_]]
"""An array (rows, columns); True where the pixel is valid."""

type Validity = np.ndarray[tuple[int, ...], np.dtype[np.bool_]]
"""The same in the shape of a ``Stack``."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BlockRequest:
    """A rectangle of neighbouring chunks that a source shall read."""

    collection: CollectionSpec
    level: int
    bands: tuple[BandSpec, ...]
    window: Window
    """Pixels of the collection's grid at the level; cut at the grid's edge."""
    geobox: GeoBox
    """The same as a GeoBox: CRS, affine, shape."""
    step: TimeStep | None = None
    """Which interval of time; None where the collection has no time axis."""
    not_before: float = -math.inf
    """Monotonic seconds: what the source remembers from before this moment is not considered fresh.

    A refresh sets it; otherwise the source decides how long what it remembers stays fresh."""

    @property
    def grid(self) -> Grid:
        """The collection's grid at the level."""
        return self.collection.grids[self.level]


@dataclass(frozen=True, slots=True, kw_only=True)
class BandBlock:
    """Pixels of one band, together with their validity."""

    values: Pixels
    """(rows, columns) of the request's window, band's dtype. Says nothing where ``valid`` is False."""
    valid: Mask
    """(rows, columns), True = valid."""


@dataclass(frozen=True, slots=True, kw_only=True, order=True)
class Provenance:
    """Where pixels came from."""

    item: str
    href: str
    version: str
    """What identifies the content at the source: an ETag or a date; may be empty."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Block:
    """What a source read."""

    bands: Mapping[str, BandBlock]
    provenance: tuple[Provenance, ...]


class Source(Protocol):
    """Where pixels come from.

    An implementation decides how it batches and how many requests it makes for a block; how many blocks are
    read at once is the business of the downloads layer. What a block holds depends on the remote data and
    the request alone, never on what was asked before.
    """

    @property
    def block_side(self) -> int | None:
        """Longest side, in pixels, of the blocks that it is best asked for; None where any will do."""
        ...

    async def read(self, request: BlockRequest) -> Block:
        """Read a block on the collection's grid.

        Raises:
            SourceUnavailableError: transient, worth another try.
            SourceRefusedError: permanent: credentials, or something missing that must exist.
            SourceCorruptError: permanent: what arrived does not fit the collection or does not decode.
        """
        ...

    async def close(self) -> None:
        """Let go of connections and threads. Safe to call twice."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredDocument:
    """A remembered answer of a source: an item document, or that there is none."""

    body: str | None
    """JSON text, or None for "the source has no such document"."""
    age: float
    """Seconds since it was stored."""


class Documents(Protocol):
    """What sources may remember next to the repositories. Losing it loses nothing that matters."""

    async def get(self, key: str) -> StoredDocument | None:
        """Return what was stored under a key, or None."""
        ...

    async def put(self, key: str, body: str | None) -> None:
        """Store JSON text, or that there is none."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class FilledChunk:
    """A chunk to be written: whole, of the grid's chunk size, nodata where nothing is valid."""

    key: ChunkKey
    values: Pixels
    """(chunk, chunk) of the band's dtype; beyond the grid's edge it holds the band's fill."""
    void: bool
    """True when the source said of every pixel that there is nothing."""
    provenance: tuple[Provenance, ...]


class ChunkSink(Protocol):
    """Takes filled chunks and returns when they are committed."""

    async def commit(self, chunks: tuple[FilledChunk, ...]) -> None:
        """Commit chunks of one collection; all of them are readable when this returns.

        Raises:
            DiskFullError: no room.
            StoreError: the repository did not take them.
        """
        ...
