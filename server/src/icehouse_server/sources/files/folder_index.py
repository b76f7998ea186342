"""What lies in a folder, and where: listed again every few seconds, headers read once for each content."""

import itertools
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from functools import lru_cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from odc.geo.crs import CRS
from odc.geo.geobox import GeoBox

from icehouse_server.aio.gather import gather_or_cancel
from icehouse_server.aio.single_flight import SingleFlight
from icehouse_server.aio.worker_pool import run_in
from icehouse_server.core.errors import SourceError
from icehouse_server.core.geometry.affine import apply_affine
from icehouse_server.core.geometry.horizontal import convertible
from icehouse_server.core.geometry.transformers import transformer
from icehouse_server.core.grid import Grid
from icehouse_server.core.time import TimeStep
from icehouse_server.sources.context import SourceContext
from icehouse_server.sources.files.reading import FolderEntry, Header, corrupt, list_folder, read_header
from icehouse_server.sources.files.settings import FilesTable

FRESH = 5.0
"""Seconds for which a listing is considered fresh."""

_BATCH = 64
"""Headers that a thread reads in one go."""

_SAMPLES = 9
"""Points along each side, and in the middle, by which the size of a raster on the globe is found."""

_MARGIN = 1.25
"""What a raster may reach beyond these points, as a share of its size."""

type Cap = tuple[NDArray[np.float64], float]
"""A part of the globe: direction of its middle (3,), and the angle in radians that it reaches around it."""

_EVERYWHERE: Cap = (np.array([0.0, 0.0, 1.0]), 4.0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Known:
    """One file: its header, or why there is none, and where it may have pixels."""

    entry: FolderEntry
    header: Header | None
    failure: SourceError | None
    moment: datetime | None
    cap: Cap


@dataclass(frozen=True, slots=True, kw_only=True)
class Listing:
    """The folder at a moment."""

    when: float
    """Monotonic seconds before it was listed."""
    files: tuple[Known, ...]
    middles: NDArray[np.float64]
    """(files, 3)."""
    reaches: NDArray[np.float64]

    def near(self, geobox: GeoBox) -> list[Known]:
        """Return the files that may touch an area, in the order of precedence."""
        middle, reach = cap_of(geobox)
        angles = np.arccos(np.clip(self.middles @ middle, -1, 1))
        return [self.files[number] for number in np.flatnonzero(angles <= self.reaches + reach)]


@dataclass(slots=True, kw_only=True)
class FolderIndex:
    """The folder of one collection. Used from one event loop."""

    table: FilesTable
    root: Path
    grid: Grid
    context: SourceContext
    _listing: Listing | None = None
    _known: dict[FolderEntry, Known] = field(default_factory=dict)
    _flights: SingleFlight[str, Listing] = field(default_factory=SingleFlight)

    async def files(self, geobox: GeoBox, step: TimeStep | None, not_before: float) -> list[Header]:
        """Return the files that may touch an area in a step of time, in the order of precedence.

        Raises:
            SourceError: the folder can't be listed, or one of these files can't be used.
        """
        listing = self._listing
        if listing is None or listing.when < max(not_before, time.monotonic() - FRESH):
            listing = await self._flights.run("list", self._list)
        if listing.when < not_before:  # it had begun before
            listing = await self._flights.run("list", self._list)
        return [_usable(known) for known in listing.near(geobox) if _in_step(known, step)]

    def doubt(self) -> None:
        """List the folder again at the next read."""
        self._listing = None

    async def close(self) -> None:
        """End what is under way."""
        await self._flights.close()

    async def _list(self) -> Listing:
        pool, when = self.context.pool, time.monotonic()
        entries = await run_in(pool, list_folder, self.root, self.table.pattern)
        new = (entry for entry in entries if entry not in self._known)

        async def learn(batch: Sequence[FolderEntry]) -> None:
            # Kept at once: whoever asks after a deadline goes on from here.
            self._known.update(await run_in(pool, self._read_all, batch))

        await gather_or_cancel(learn(batch) for batch in itertools.batched(new, _BATCH))
        self._known = {entry: self._known[entry] for entry in entries}
        files = tuple(self._known.values())
        self._listing = Listing(
            when=when,
            files=files,
            middles=np.array([known.cap[0] for known in files]),
            reaches=np.array([known.cap[1] for known in files]),
        )
        return self._listing

    def _read_all(self, entries: Sequence[FolderEntry]) -> dict[FolderEntry, Known]:
        return {entry: self._read(entry) for entry in entries}

    def _read(self, entry: FolderEntry) -> Known:
        """Read a header. A file that can't be read may lie anywhere."""
        header, failure = None, None
        try:
            header = read_header(self.root, entry, self.grid)
        except SourceError as error:
            failure = error
        moment = self.table.moment(entry.name.rpartition("/")[2], None if header is None else header.tag)
        if failure is None and moment is None and self.table.datetime is not None:
            origin = "TIFFTAG_DATETIME" if self.table.datetime == "tag" else "name"
            failure = corrupt(entry, f"its {origin} holds no date", hint="see datetime under [source]")
        cap = _EVERYWHERE if header is None else cap_of(header.geobox)
        return Known(entry=entry, header=header, failure=failure, moment=moment, cap=cap)


def _in_step(known: Known, step: TimeStep | None) -> bool:
    """Return whether a file belongs to a step; one without a date may belong to any."""
    return step is None or known.moment is None or step.start <= known.moment < step.end


def _usable(known: Known) -> Header:
    if known.failure is not None or known.header is None:
        raise known.failure or corrupt(known.entry, "it has no header")
    return known.header


@lru_cache(maxsize=512)
def cap_of(geobox: GeoBox) -> Cap:
    """Return a part of the globe that holds all of a geobox.

    Caps know neither poles nor the antimeridian, so comparing them misses nothing.
    """
    rows, cols = geobox.shape
    along = np.linspace(0.0, 1.0, _SAMPLES)
    col, row = (side.ravel() for side in np.meshgrid(along * int(cols), along * int(rows)))
    x, y = apply_affine(geobox.affine, col, row)
    if geobox.crs is None:
        return _EVERYWHERE
    if not convertible(str(geobox.crs), str(_lonlat())):  # as on a grid of another planet
        return _EVERYWHERE
    longitudes, latitudes = transformer(geobox.crs, _lonlat()).transform(x, y)
    if not (np.isfinite(longitudes).all() and np.isfinite(latitudes).all()):
        return _EVERYWHERE
    lon, lat = np.radians(longitudes), np.radians(latitudes)
    points = np.stack([np.cos(lat) * np.cos(lon), np.cos(lat) * np.sin(lon), np.sin(lat)], axis=1)
    middle = points[points.shape[0] // 2]
    reach = float(np.arccos(np.clip(points @ middle, -1, 1)).max())
    return middle, reach * _MARGIN + 1e-5


@lru_cache(maxsize=1)
def _lonlat() -> CRS:
    return CRS("OGC:CRS84")
