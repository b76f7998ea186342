"""Where the patches of a cube of smart-geocubes lie on a collection's grid, and which of them to trust."""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol

from icehouse_server.core.collection import CollectionSpec
from icehouse_server.core.errors import BadParameterError
from icehouse_server.core.grid import Grid, Window, lattice_window
from icehouse_server.migrate.smart_geocubes.cube import SmartGeocube
from icehouse_server.sources.stac.settings import parse_source
from icehouse_server.sources.stac.tiling import Tiling

_CELL = re.compile(r"(?:(?P<time>\d+)-)?(?P<row>\d+)-(?P<col>\d+)")
"""Ids of patches that are chunks of the cube, as of Earth Engine."""


class SkipReason(StrEnum):
    """Why a chunk was not taken over."""

    CACHED = "cached already"
    BEYOND = "reaches beyond the loaded patches"
    OVERLAP = "items overlap there"
    MISSING = "absent from the cube"
    HOLE = "holds pixels without a value"
    MISFIT = "holds values that the band can't"
    DAMAGED = "can't be read"


@dataclass(frozen=True, slots=True, kw_only=True)
class Patch:
    """A loaded patch of a cube."""

    id: str
    time: int | None
    """Number of the cube's time step."""
    extent: Window
    """Pixels of the collection's grid."""


class Patches(Protocol):
    """The loaded patches of a cube."""

    loaded: tuple[Patch, ...]
    unknown: tuple[str, ...]
    """Ids that say no place."""

    def owner(self, window: Window, near: tuple[Patch, ...]) -> tuple[Patch, ...] | SkipReason:
        """Return the patches whose pixels a window holds and no others, or why that can't be said.

        Args:
            window: pixels of the collection's grid.
            near: the loaded patches that touch it.
        """
        ...


class TilePatches:
    """Patches that are items of a regular tiling, with buffers in which neighbours overlap.

    The cube holds there what was written last, and a neighbour that was never loaded may be the one that the
    collection's rule prefers; so a window is trusted where one tile alone can lie.
    """

    def __init__(self, tiling: Tiling, grid: Grid, ids: tuple[str, ...]) -> None:
        self._tiling, self._grid = tiling, grid
        places = {tile.item: tile.extent for tile in tiling.tiles_under(grid, grid.window)}
        self.loaded = tuple(Patch(id=name, time=None, extent=places[name]) for name in ids if name in places)
        self.unknown = tuple(name for name in ids if name not in places)

    def owner(self, window: Window, near: tuple[Patch, ...]) -> tuple[Patch, ...] | SkipReason:
        """See ``Patches``."""
        if len(self._tiling.tiles_under(self._grid, window)) > 1:
            return SkipReason.OVERLAP
        if len(near) == 1 and near[0].extent.intersection(window) == window:
            return near
        return SkipReason.BEYOND


class CellPatches:
    """Patches that are chunks of the cube; they do not overlap."""

    def __init__(self, cube: SmartGeocube, place: Window, ids: tuple[str, ...]) -> None:
        loaded, unknown = [], []
        for name in dict.fromkeys(ids):
            found = _CELL.fullmatch(name)
            if found is None or (found["time"] is None) != (cube.times is None):
                unknown.append(name)
                continue
            extent = Window(
                row=place.row + int(found["row"]) * cube.chunk,
                col=place.col + int(found["col"]) * cube.chunk,
                height=cube.chunk,
                width=cube.chunk,
            ).intersection(place)
            if extent is None:
                unknown.append(name)
                continue
            time = None if found["time"] is None else int(found["time"])
            loaded.append(Patch(id=name, time=time, extent=extent))
        self.loaded, self.unknown = tuple(loaded), tuple(unknown)

    def owner(self, window: Window, near: tuple[Patch, ...]) -> tuple[Patch, ...] | SkipReason:
        """See ``Patches``."""
        covered = sum(part.pixels for patch in near if (part := patch.extent.intersection(window)))
        return near if covered == window.pixels else SkipReason.BEYOND


def place_on_grid(cube: SmartGeocube, spec: CollectionSpec) -> Window:
    """Return where a cube lies on a collection's lattice.

    Raises:
        BadParameterError: it does not lie on it, or has a time axis where the collection has none.
    """
    place = lattice_window(spec.grid.geobox, cube.geobox)
    if place is None or (cube.times is None) != (spec.time is None):
        raise BadParameterError(
            "collection",
            f"the cube {cube.title!r} and collection {spec.id!r} do not lie on the same grid",
            hint="name the collection of the same pixels, or write a collection file with the cube's grid",
        )
    return place


def patches_of(cube: SmartGeocube, spec: CollectionSpec, place: Window) -> Patches:
    """Return where the loaded patches of a cube lie: by the collection's tiling, or by the cube's chunks."""
    table = parse_source(spec).tiling if spec.source_type == "stac" else None
    if table is not None:
        return TilePatches(table.tiling(), spec.grid, cube.patches)
    return CellPatches(cube, place, cube.patches)


_TITLES = {
    "ArcticDEM2m": "arcticdem-2m",
    "ArcticDEM10m": "arcticdem-10m",
    "ArcticDEM32m": "arcticdem-32m",
    "TCTrend2019": "tctrend-2019",
    "TCTrend2020": "tctrend-2020",
    "TCTrend2022": "tctrend-2022",
    "TCTrend2024": "tctrend-2024",
    "AlphaEarthEmbeddings": "alphaearth",
}
"""Title of a cube to the collection of the same pixels. ``TCTrend`` alone has meant several years."""


def collection_of(cube: SmartGeocube, specs: Iterable[CollectionSpec]) -> CollectionSpec:
    """Return the collection that a cube holds pixels of, by its title.

    Raises:
        BadParameterError: the title names none; says which ones lie on its grid.
    """
    known = {spec.id: spec for spec in specs}
    if (named := known.get(_TITLES.get(cube.title, ""))) is not None:
        return named
    fitting = sorted(
        spec.id
        for spec in known.values()
        if lattice_window(spec.grid.geobox, cube.geobox) is not None
        and (spec.time is None) == (cube.times is None)
        and any(band.name in cube.bands for band in spec.bands)
    )
    raise BadParameterError(
        "collection",
        f"the title of the cube, {cube.title!r}, does not say which collection it belongs to",
        hint=f"name it with --collection: {' or '.join(fitting)}"
        if fitting
        else "there is no collection on its grid; write a collection file with the same grid and bands",
    )
