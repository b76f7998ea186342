"""The plan of a request: pure, frozen, costed before anything is read."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from itertools import product
from types import MappingProxyType
from typing import Protocol

from odc.geo.geobox import GeoBox
from shapely.geometry.base import BaseGeometry

from icehouse_server.core.collection import BandSpec, CollectionSpec
from icehouse_server.core.errors import TooLargeError
from icehouse_server.core.geometry.footprint import Footprint, footprint, turn_pixels
from icehouse_server.core.grid import ChunkKey, Grid, Window
from icehouse_server.core.limits import Limits
from icehouse_server.core.time import TimeStep

type BandStep = tuple[BandSpec, int | None]
"""A band at one time step; the step is None where the collection has no time axis."""


@dataclass(frozen=True, kw_only=True)
class Region:
    """What a caller asks for: a geobox, bands and time steps of a collection."""

    collection: CollectionSpec
    bands: tuple[BandSpec, ...]
    target: GeoBox
    """The geobox asked for, which is the geobox returned."""
    times: tuple[int, ...] | None = None
    """Numbers of the time steps, ascending; None where the collection has no time axis."""
    level: int = 0
    """Which level is read: 0 is the full resolution."""
    resampling: Mapping[str, str] = field(default_factory=dict)
    """Resampling by band name, where it differs from the band's default."""
    clip: BaseGeometry | None = None
    """Polygon in the target's CRS (x, y): what lies outside is not needed, and becomes fill."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "resampling", MappingProxyType(dict(self.resampling)))

    def resampling_of(self, band: BandSpec) -> str:
        """Return the resampling of a band: the one asked for, or the band's default."""
        return self.resampling.get(band.name, band.resampling)

    @property
    def shape(self) -> tuple[int, int]:
        """(rows, columns) of the answer."""
        rows, cols = self.target.shape
        return int(rows), int(cols)

    @property
    def grid(self) -> Grid:
        """The grid that is read: the collection's at the region's level."""
        return self.collection.grids[self.level]

    @property
    def steps(self) -> tuple[TimeStep, ...]:
        """The time steps; none where the collection has no time axis."""
        axis = self.collection.time
        return () if axis is None else tuple(axis.step(time) for time in self.times or ())

    @property
    def band_steps(self) -> tuple[BandStep, ...]:
        """Each band at each step: what has a chunk of its own at every place."""
        times = (None,) if self.times is None else self.times
        return tuple(product(self.bands, times))


class Presence(Protocol):
    """Knows which chunks are cached; the index is one."""

    def has(self, key: ChunkKey) -> bool:
        """Return whether a chunk is cached."""
        ...


@dataclass(frozen=True, kw_only=True)
class Plan:
    """Which chunks a request needs, which are absent, and what it would cost."""

    region: Region
    footprint: Footprint
    needed: tuple[ChunkKey, ...]
    absent: tuple[ChunkKey, ...]

    @property
    def outside(self) -> bool:
        """True when the region does not touch the collection's grid."""
        return self.footprint.outside

    @property
    def window(self) -> Window | None:
        """The smallest window of the grid that holds all that is read, or None where nothing is.

        Across 180 degrees on a grid in lon/lat it begins inside the grid and goes on beyond its edge, where
        the grid's other end follows.
        """
        pieces, turn = self.footprint.pieces, turn_pixels(self.region.grid) or 0.0
        if not pieces:
            return None
        first = min(piece.turn for piece in pieces)
        windows = [
            replace(piece.source, col=piece.source.col + round((piece.turn - first) * turn))
            for piece in pieces
        ]
        whole = windows[0]
        for window in windows[1:]:
            whole = whole.union(window)
        return whole

    @property
    def output_bytes(self) -> int:
        """Bytes of the answer's pixels, uncompressed."""
        rows, cols = self.region.shape
        return sum(rows * cols * band.dtype.itemsize for band, _ in self.region.band_steps)

    @property
    def moved_bytes(self) -> int:
        """Bytes that are copied on the way, by which large answers take turns: what it takes of a processor.

        The pixels twice, and what the largest piece is resampled from, twice as well.
        """
        if self.footprint.aligned:
            return 2 * self.output_bytes
        largest = max((piece.source.pixels for piece in self.footprint.pieces), default=0)
        return 2 * self.output_bytes + 2 * largest * sum(band.dtype.itemsize for band in self.region.bands)

    def renewed(self, presence: Presence) -> "Plan":
        """Return the plan after another look at which of its chunks are cached."""
        return replace(self, absent=tuple(key for key in self.needed if not presence.has(key)))

    @property
    def estimated_source_bytes(self) -> int:
        """Bytes that the absent chunks hold uncompressed: sources usually send less."""
        sizes = {band.name: band.dtype.itemsize for band in self.region.bands}
        pixels = self.region.grid.chunk**2
        return sum(sizes[key.band] * pixels for key in self.absent)


def check_size(region: Region, limits: Limits) -> None:
    """Refuse an answer that is too large, before any geometry is computed.

    Raises:
        TooLargeError: the answer has more pixels than ``max_output_pixels``.
    """
    rows, cols = region.shape
    pixels = rows * cols * len(region.band_steps)
    if pixels > limits.max_output_pixels:
        steps = "" if region.times is None else f" at {len(region.times)} time step(s)"
        raise TooLargeError(
            f"{rows} x {cols} pixels of {len(region.bands)} band(s){steps} are {pixels} pixels; "
            f"one request gets at most {limits.max_output_pixels}",
            limit=limits.max_output_pixels,
            asked=pixels,
            setting="max_output_pixels",
        )


def make_plan(region: Region, presence: Presence, limits: Limits) -> Plan:
    """Plan a request.

    Raises:
        TooLargeError: it needs more than the limits allow.
    """
    check_size(region, limits)
    grid = region.grid
    methods = [region.resampling_of(band) for band in region.bands]
    under = footprint(grid, region.target, methods, max_chunks=limits.max_chunks, clip=region.clip)
    chunks = len(under.chunks) * len(region.band_steps)
    _check_count(chunks, limits.max_chunks, "max_chunks", "reads")
    needed = tuple(
        region.collection.key(band.name, row, col, time, region.level)
        for band, time in region.band_steps
        for row, col in under.chunks
    )
    absent = tuple(key for key in needed if not presence.has(key))
    _check_count(len(absent), limits.max_fills, "max_fills", "fetches")
    return Plan(region=region, footprint=under, needed=needed, absent=absent)


def _check_count(asked: int, limit: int, setting: str, verb: str) -> None:
    if asked > limit:
        raise TooLargeError(
            f"this region {verb} {asked} chunks; one request {verb} at most {limit}",
            limit=limit,
            asked=asked,
            setting=setting,
        )
