"""The tile matrix sets, where their tiles lie, and at which zooms a collection is of use in them.

morecantile is imported when a tile matrix set is first asked for: starting waits for none of it.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache, lru_cache
from types import MappingProxyType
from typing import TYPE_CHECKING

import numpy as np
from affine import Affine
from numpy.typing import NDArray
from odc.geo.crs import CRS
from odc.geo.geobox import GeoBox

from icehouse_server.core.collection import CollectionSpec
from icehouse_server.core.errors import BadParameterError, UnknownTmsError
from icehouse_server.core.geometry.affine import apply_affine
from icehouse_server.core.geometry.footprint import turn_pixels
from icehouse_server.core.geometry.levels import Slopes, spans
from icehouse_server.core.geometry.transformers import project_points, transformer
from icehouse_server.core.grid import Grid

if TYPE_CHECKING:
    from morecantile import TileMatrixSet

TILE = 256
"""Side of a tile in pixels."""

CRS_OF: Mapping[str, CRS] = MappingProxyType(
    {
        "WebMercatorQuad": CRS("EPSG:3857"),
        "WorldCRS84Quad": CRS("EPSG:4326"),  # lon, lat here as everywhere
        "EPSG3413Quad": CRS("EPSG:3413"),
        "EPSG3031Quad": CRS("EPSG:3031"),
    }
)
"""The tile matrix sets by name, and their CRSs."""

AROUND = frozenset({"WebMercatorQuad", "WorldCRS84Quad"})
"""Those whose x follows from the longitude alone: at 180 degrees they go on at their other end."""

_POLAR = 4_194_304.0
"""Half the side of NASA GIBS' polar squares, in metres: zoom 10 then has cells of 32 m, zoom 14 of 2 m."""
_POLAR_ZOOMS = 16

_PAD = 4
"""Pixels that a kernel and the margin of relief reach beyond a tile at most."""

_PLACES = np.linspace(0.1, 0.9, 5)
"""Where along each axis of its extent a collection is looked at."""

_STEP = 1 / 4096
"""Part of a cell of zoom 0 by which slopes are measured."""

_ROUNDING = 1e-3


@dataclass(frozen=True, slots=True, kw_only=True)
class TileAddress:
    """One tile of a tile matrix set."""

    tms: str
    zoom: int
    row: int
    col: int
    size: int = TILE
    """Its side in pixels: 512 for screens of high resolution."""

    def geobox(self, margin: int = 0) -> GeoBox:
        """Return its pixels, with N more around it."""
        left, top, cell = corner_of(self.tms, self.zoom)
        step = cell * TILE / self.size
        x = left + self.col * TILE * cell - margin * step
        y = top - self.row * TILE * cell + margin * step
        side = self.size + 2 * margin
        return GeoBox((side, side), Affine(step, 0.0, x, 0.0, -step, y), CRS_OF[self.tms])


@cache
def tile_matrix_sets() -> Mapping[str, "TileMatrixSet"]:
    """Return the tile matrix sets by name."""
    import morecantile  # noqa: PLC0415 - see the module's docstring
    from pyproj import CRS as ProjCRS  # noqa: N811, PLC0415 - a class, not a constant

    known = {name: morecantile.tms.get(name) for name in CRS_OF if name in morecantile.tms.list()}
    for name in CRS_OF.keys() - known:
        code = int(name.removeprefix("EPSG").removesuffix("Quad"))
        known[name] = morecantile.TileMatrixSet.custom(
            [-_POLAR, -_POLAR, _POLAR, _POLAR],
            ProjCRS.from_epsg(code),
            id=name,
            title=f"The polar square of NASA GIBS in EPSG:{code}",
            maxzoom=_POLAR_ZOOMS,
            ordered_axes=["E", "N"],
        )
    return MappingProxyType({name: known[name] for name in CRS_OF})


def tile_matrix_set(name: str) -> "TileMatrixSet":
    """Return a tile matrix set by its name.

    Raises:
        UnknownTmsError: there is none.
    """
    if name not in CRS_OF:
        raise UnknownTmsError(
            f"there is no tile matrix set {name[:80]!r}", hint=f"there are {', '.join(CRS_OF)}"
        )
    return tile_matrix_sets()[name]


def native_tms(spec: CollectionSpec) -> str:
    """Return the tile matrix set in whose CRS a collection's grid lies, or that of the web."""
    for name, crs in CRS_OF.items():
        if crs == spec.grid.crs:
            return name
    return "WebMercatorQuad"


def tile_at(
    tms: str, zoom: int, row: int, col: int, *, size: int = TILE, names: tuple[str, str] = ("row", "col")
) -> TileAddress:
    """Return a tile by its address.

    Args:
        tms: name of the tile matrix set.
        zoom: which of its matrices.
        row: from the top.
        col: from the left.
        size: side of the tile in pixels.
        names: what the caller calls row and column.

    Raises:
        UnknownTmsError: there is no such tile matrix set.
        BadParameterError: it has no such tile.
    """
    tile_matrix_set(tms)
    zooms = matrices_of(tms)
    if zoom not in zooms:
        raise BadParameterError("z", f"z: {tms} has zooms from {min(zooms)} to {max(zooms)}, not {zoom}")
    rows, cols = zooms[zoom]
    for name, value, count in ((names[0], row, rows), (names[1], col, cols)):
        if not 0 <= value < count:
            raise BadParameterError(
                name, f"{name}: at zoom {zoom} of {tms} it is from 0 to {count - 1}, not {value}"
            )
    return TileAddress(tms=tms, zoom=zoom, row=row, col=col, size=size)


@cache
def matrices_of(tms: str) -> Mapping[int, tuple[int, int]]:
    """Return rows and columns of tiles by zoom."""
    matrices = tile_matrix_sets()[tms].tileMatrices
    return {int(matrix.id): (matrix.matrixHeight, matrix.matrixWidth) for matrix in matrices}


@lru_cache(maxsize=256)
def corner_of(tms: str, zoom: int) -> tuple[float, float, float]:
    """Return left, top and cell size of a zoom."""
    matrix = tile_matrix_sets()[tms].matrix(zoom)
    left, top = matrix.pointOfOrigin
    return float(left), float(top), float(matrix.cellSize)


@dataclass(frozen=True, slots=True, kw_only=True)
class Zooms:
    """From where to where a collection is worth asking for."""

    first: int
    """Where tiles begin to fetch what they show, at most places."""
    last: int
    """The first zoom whose cells are no larger than the grid's."""


def zooms_of(spec: CollectionSpec, tms: str, max_chunks: int) -> Zooms | None:
    """Return at which zooms a collection is worth asking for; None where it does not lie in the square.

    Looked at are places all over its extent: what a tile needs at the middling one of them says where it
    begins to fetch, and the one with the largest cells where it has all details.

    Args:
        spec: the collection.
        tms: name of a tile matrix set.
        max_chunks: chunks of a band that a tile may fetch.
    """
    matrices, slopes = matrices_of(tms), _slopes(spec, tms)
    if not len(slopes):
        return None
    fine = (z for z in matrices if spans(slopes).max() * corner_of(tms, z)[2] <= 1 + _ROUNDING)
    last = next(fine, max(matrices))
    quick = (z for z in matrices if np.median(_mean_chunks(spec, slopes, tms, z)) <= max_chunks)
    return Zooms(first=min(next(quick, last), last), last=last)


def _slopes(spec: CollectionSpec, tms: str) -> Slopes:
    """Return (places, 2, 2): grid columns and rows by unit of x, and by unit of y, of a tile matrix set."""
    west, south, east, north = spec.bbox
    east += 360 if west > east else 0
    lons, lats = np.meshgrid(west + _PLACES * (east - west), south + _PLACES * (north - south))
    crs, grid = CRS_OF[tms], spec.grid
    x, y = transformer(CRS("EPSG:4326"), crs).transform(lons.ravel(), lats.ravel())
    step = corner_of(tms, 0)[2] * _STEP
    places = [_on_grid(grid, crs, x + dx, y + dy) for dx, dy in ((0, 0), (step, 0), (0, step))]
    turn = turn_pixels(grid)
    with np.errstate(invalid="ignore"):
        ways = np.stack([places[1] - places[0], places[2] - places[0]], axis=1)
        if turn is not None:  # the short way round
            ways[..., 0] -= turn * np.round(ways[..., 0] / turn)
            places[0][:, 0] %= turn
    slopes: Slopes = ways / step
    col, row = places[0].T
    rows, cols = grid.shape
    left, top, cell = corner_of(tms, 0)
    down, across = matrices_of(tms)[0]
    inside = (col >= 0) & (col < cols) & (row >= 0) & (row < rows) & np.isfinite(slopes).all(axis=(1, 2))
    inside &= (x >= left) & (x < left + across * TILE * cell) & (y <= top) & (y > top - down * TILE * cell)
    known: Slopes = slopes[inside]
    return known


def _on_grid(grid: Grid, crs: CRS, x: NDArray[np.float64], y: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return (places, 2): column and row."""
    x, y = project_points(x, y, crs, grid.crs)
    with np.errstate(invalid="ignore"):
        return np.stack(apply_affine(~grid.geobox.affine, x, y), axis=1)


def _mean_chunks(spec: CollectionSpec, slopes: Slopes, tms: str, zoom: int) -> list[float]:
    """Return how many chunks of a band a tile needs for each place, on average over where their edges lie."""
    found = []
    cell = corner_of(tms, zoom)[2]
    extents = np.abs(slopes).sum(axis=1) * cell * TILE
    for scale, extent in zip(spans(slopes)[:, 0] * cell, extents, strict=True):
        level = min(math.floor(math.log2(max(scale, 1)) + _ROUNDING), len(spec.grids) - 1)
        grid = spec.grids[level]
        counts = [
            min((pixels / 2**level + 2 * _PAD) / grid.chunk + 1, whole)
            for pixels, whole in zip(extent, reversed(grid.chunk_shape), strict=True)
        ]
        found.append(math.prod(counts))
    return found
