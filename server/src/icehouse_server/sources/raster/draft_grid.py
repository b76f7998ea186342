"""The grid of a collection that is in the making: the lattice on which most of its rasters lie."""

from collections.abc import Sequence
from dataclasses import dataclass, field

from affine import Affine
from odc.geo.crs import CRS
from odc.geo.geobox import GeoBox

from icehouse_server.core.drafts.draft import DraftGrid, GridWish
from icehouse_server.core.errors import BadParameterError
from icehouse_server.core.geometry.lonlat_bounds import lonlat_bounds
from icehouse_server.core.grid import Grid
from icehouse_server.raster.file_facts import crs_text
from icehouse_server.raster.grid_bounds import GridBounds, snapped
from icehouse_server.sources.cog.georeference import lattice_window, same_crs

_MOST_LATTICES = 64
"""Lattices that are compared; rasters of further ones are warped anyway."""

_SQUARE = 1e-6
"""Share by which the sides of a pixel may differ."""

_DEFAULT_OVERVIEWS = 4
"""What a collection file has that does not say."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PlacedRaster:
    """Where a raster lies; north up."""

    name: str
    crs: CRS
    transform: Affine
    shape: tuple[int, int]
    """(rows, columns)."""

    @property
    def geobox(self) -> GeoBox:
        """The same as a GeoBox."""
        return GeoBox(self.shape, self.transform, self.crs)

    @property
    def is_square(self) -> bool:
        """Whether its pixels are squares."""
        return abs(self.transform.a + self.transform.e) <= _SQUARE * self.transform.a

    @property
    def bounds(self) -> GridBounds:
        """Its rectangle in its CRS."""
        return GridBounds(*map(float, self.geobox.boundingbox.bbox))


@dataclass(slots=True, kw_only=True)
class _Lattice:
    """Rasters whose pixels continue each other."""

    first: PlacedRaster
    members: list[PlacedRaster] = field(default_factory=list)

    def holds(self, other: PlacedRaster) -> bool:
        first = self.first
        return (
            first.is_square
            and same_crs(str(first.crs), str(other.crs))
            and lattice_window(first.geobox, other.transform, other.shape) is not None
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class ChosenGrid:
    """A grid, and how the rasters lie on it."""

    grid: DraftGrid
    geobox: GeoBox
    exact: tuple[PlacedRaster, ...]
    """Those that are copied pixel by pixel."""
    warped: tuple[PlacedRaster, ...]
    """Those that are warped to it."""
    main: PlacedRaster
    """One of those that decided."""

    @property
    def lonlat(self) -> tuple[float, float, float, float]:
        """West, south, east, north in degrees."""
        return lonlat_bounds(self.geobox).bbox


def choose_grid(
    rasters: Sequence[PlacedRaster],
    wish: GridWish,
    area: tuple[float, float, float, float] | None = None,
    overviews: int = _DEFAULT_OVERVIEWS,
) -> ChosenGrid:
    """Return the grid of most rasters, as large as all of them, or as the user wishes it.

    Args:
        rasters: one at least.
        wish: what the user wants.
        area: what the grid is to hold, in lon/lat, in place of the rasters.
        overviews: how many the files have.

    Raises:
        BadParameterError: the wish can't be fulfilled.
    """
    main = max(_lattices(rasters), key=lambda lattice: len(lattice.members)).first
    crs, resolution, corner = _lattice(main, wish)
    if wish.bbox is not None:
        bounds = snapped(GridBounds(*wish.bbox), wish.bbox_crs, crs, resolution, corner)
        _check_touches(bounds, rasters, crs, resolution)
    elif area is not None:
        bounds = snapped(GridBounds(*area), CRS("EPSG:4326"), crs, resolution, corner)
    else:
        bounds = _union([snapped(one.bounds, one.crs, crs, resolution, corner) for one in rasters])
    geobox = _geobox(bounds, resolution, crs)
    on = _Lattice(first=PlacedRaster(name="", crs=crs, transform=geobox.affine, shape=(1, 1)))
    exact = [one for one in rasters if on.holds(one)]
    return ChosenGrid(
        grid=DraftGrid(
            crs=crs_text(crs),
            resolution=resolution,
            bounds=(bounds.minx, bounds.miny, bounds.maxx, bounds.maxy),
            overviews=_overviews(geobox, overviews),
        ),
        geobox=geobox,
        exact=tuple(exact),
        warped=tuple(one for one in rasters if one not in exact),
        main=main,
    )


def _lattices(rasters: Sequence[PlacedRaster]) -> list[_Lattice]:
    found: list[_Lattice] = []
    for raster in rasters:
        lattice = next((one for one in found if one.holds(raster)), None)
        if lattice is None:
            if len(found) == _MOST_LATTICES:
                continue
            lattice = _Lattice(first=raster)
            found.append(lattice)
        lattice.members.append(raster)
    return found


def _lattice(main: PlacedRaster, wish: GridWish) -> tuple[CRS, float, tuple[float, float]]:
    """Return CRS, resolution and a corner of the grid's pixels."""
    own = wish.crs is None or same_crs(str(main.crs), str(wish.crs))
    if not own and wish.resolution is None:
        raise BadParameterError(
            "--resolution",
            f"--crs {wish.crs} is not that of the source, which is {crs_text(main.crs)[:60]}",
            hint="say with --resolution how large pixels are in units of it, or leave --crs out",
        )
    resolution = wish.resolution or float(min(main.transform.a, -main.transform.e))
    if wish.crs is not None and not own:
        return wish.crs, resolution, (0.0, 0.0)
    return main.crs, resolution, (float(main.transform.c), float(main.transform.f))


def _check_touches(bounds: GridBounds, rasters: Sequence[PlacedRaster], crs: CRS, resolution: float) -> None:
    """Refuse a box in which nothing lies.

    Raises:
        BadParameterError: no raster touches it.
    """
    for raster in rasters:
        there = snapped(raster.bounds, raster.crs, crs, resolution)
        if (
            min(bounds.maxx, there.maxx) > max(bounds.minx, there.minx)
            and min(bounds.maxy, there.maxy) > max(bounds.miny, there.miny)
        ):  # fmt: skip
            return
    box = lonlat_bounds(rasters[0].geobox).bbox
    raise BadParameterError(
        "--bbox",
        "--bbox: nothing of the source lies there",
        hint=f"{rasters[0].name} lies in {', '.join(map(str, box))} (west, south, east, north)",
    )


def _union(bounds: Sequence[GridBounds]) -> GridBounds:
    return GridBounds(
        min(one.minx for one in bounds),
        min(one.miny for one in bounds),
        max(one.maxx for one in bounds),
        max(one.maxy for one in bounds),
    )


def _geobox(bounds: GridBounds, resolution: float, crs: CRS) -> GeoBox:
    cols, rows = (
        round((high - low) / resolution)
        for low, high in ((bounds.minx, bounds.maxx), (bounds.miny, bounds.maxy))
    )
    return GeoBox((rows, cols), Affine(resolution, 0, bounds.minx, 0, -resolution, bounds.maxy), crs)


def _overviews(geobox: GeoBox, overviews: int) -> int | None:
    """Return how many levels the file should name: all that the files have; None where the default will do.

    A small grid has its default even where files have none: little is read for a level of it.
    """
    levels = Grid(geobox=geobox, chunk=512).levels - 1
    if overviews < _DEFAULT_OVERVIEWS:
        return overviews if levels > _DEFAULT_OVERVIEWS else None
    return min(overviews, levels) if min(overviews, levels) > _DEFAULT_OVERVIEWS else None
