"""Which tiles of a tile matrix set lie over a collection's grid."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace

from icehouse_server.api.regions import project
from icehouse_server.api.texts import Bounds
from icehouse_server.core.collection import CollectionSpec
from icehouse_server.core.errors import BadParameterError
from icehouse_server.core.tile_matrix_sets import CRS_OF, TILE, corner_of, matrices_of, native_tms, zooms_of

_SLACK = 1e-6
"""Part of the extent by which the outline of a grid in another CRS may be found too small."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TileRange:
    """Tiles of one zoom; the last ones belong to it."""

    first_row: int
    last_row: int
    first_col: int
    last_col: int


def offered(spec: CollectionSpec) -> tuple[str, ...]:
    """Return the tile matrix sets that a collection's grid lies in, its own first. Blocking: 20 ms."""
    names = sorted(CRS_OF, key=lambda name: name != native_tms(spec))
    return tuple(name for name in names if zooms_of(spec, name, 1) and tile_ranges(spec, name))


def tile_ranges(spec: CollectionSpec, tms: str) -> Mapping[int, TileRange]:
    """Return the tiles that lie over the rectangle around a collection's grid, by zoom; empty where none."""
    box = spec.grid.geobox.boundingbox
    try:
        there = project(
            Bounds(west=box.left, south=box.bottom, east=box.right, north=box.top), spec.grid.crs, CRS_OF[tms]
        )
    except BadParameterError:  # no place in this CRS
        return {}
    if CRS_OF[tms].geographic and there.east > 180:  # noqa: PLR2004 - it lies at both ends
        there = replace(there, west=-180.0, east=180.0)
    found = {}
    for zoom, (rows, cols) in matrices_of(tms).items():
        left, top, cell = corner_of(tms, zoom)
        across = _span((there.west - left) / (TILE * cell), (there.east - left) / (TILE * cell), cols)
        down = _span((top - there.north) / (TILE * cell), (top - there.south) / (TILE * cell), rows)
        if across is None or down is None:
            return {}
        found[zoom] = TileRange(first_row=down[0], last_row=down[1], first_col=across[0], last_col=across[1])
    return found


def _span(first: float, stop: float, count: int) -> tuple[int, int] | None:
    """Return the first and the last of ``count`` tiles that places between two of them lie in."""
    slack = _SLACK * (stop - first)
    first, stop = max(first - slack, 0.0), min(stop + slack, float(count))
    return None if first >= stop else (math.floor(first), math.ceil(stop) - 1)
