"""From bounds and a size to the geobox that is meant. Axis order is x, y (lon, lat) for every CRS."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
from affine import Affine
from numpy.typing import NDArray
from odc.geo.crs import CRS
from odc.geo.geobox import GeoBox

from icehouse_server.api.parameters.bbox import Bounds
from icehouse_server.api.parameters.size import Size
from icehouse_server.core.collection import CollectionSpec
from icehouse_server.core.errors import BadParameterError, OutsideError
from icehouse_server.core.geometry.footprint import turn_pixels
from icehouse_server.core.geometry.levels import best_level
from icehouse_server.core.geometry.transformers import transformer
from icehouse_server.core.grid import Window
from icehouse_server.core.plan import Region

_OUTLINE = 1025
"""Points along each side of a rectangle by which its extent in another CRS is found: on the 32 m grid, a
bbox all around the pole down to 86 degrees is found to a tenth of a pixel."""

_INSIDE = 17
"""Points each way inside it, which tell of a pole or a seam that the outline goes around."""

_EDGE = 1e-6
"""Part of a pixel: bounds that lie on pixel edges but for rounding take in no further row."""


def project(bounds: Bounds, source: CRS, target: CRS) -> Bounds:
    """Return the rectangle in another CRS that holds a rectangle.

    Raises:
        BadParameterError: no point of it can be projected to the other CRS.
    """
    if source == target:
        return bounds
    x, y = _points(bounds)
    to_x, to_y = transformer(source, target).transform(x, y)
    finite = np.isfinite(to_x) & np.isfinite(to_y)
    if not finite.any():
        raise BadParameterError("bbox", f"bbox: cannot be projected to {target}")
    south, north = float(to_y[finite].min()), float(to_y[finite].max())
    if not target.geographic:
        return Bounds(
            west=float(to_x[finite].min()), south=south, east=float(to_x[finite].max()), north=north
        )
    for pole in (90.0, -90.0):
        px, py = transformer(target, source).transform(0.0, pole)
        if bounds.west <= px <= bounds.east and bounds.south <= py <= bounds.north:
            return Bounds(west=-180, south=min(south, pole), east=180, north=max(north, pole))
    west, east = _unwrapped(to_x[finite])
    return Bounds(west=west, south=south, east=east, north=north)


def _points(bounds: Bounds) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return points of a rectangle: many along its sides, some inside."""
    along_x = np.linspace(bounds.west, bounds.east, _OUTLINE)
    along_y = np.linspace(bounds.south, bounds.north, _OUTLINE)
    inner_x, inner_y = np.meshgrid(
        np.linspace(bounds.west, bounds.east, _INSIDE), np.linspace(bounds.south, bounds.north, _INSIDE)
    )
    side = np.ones(_OUTLINE)
    x = [along_x, along_x, bounds.west * side, bounds.east * side, inner_x.ravel()]
    y = [bounds.south * side, bounds.north * side, along_y, along_y, inner_y.ravel()]
    return np.concatenate(x), np.concatenate(y)


def _unwrapped(longitudes: NDArray[np.float64]) -> tuple[float, float]:
    """Return west and east of longitudes that lie together; east exceeds 180 where 180 is crossed."""
    centre = float(np.degrees(np.angle(np.exp(1j * np.radians(longitudes)).mean())))
    offsets = (longitudes - centre + 180.0) % 360.0 - 180.0
    west, east = centre + float(offsets.min()), centre + float(offsets.max())
    return (west + 360.0, east + 360.0) if west < -180.0 else (west, east)  # noqa: PLR2004


def geobox_for(spec: CollectionSpec, bounds: Bounds | None, crs: CRS, target: CRS, size: Size) -> GeoBox:
    """Return the geobox that a request without an exact one means.

    Args:
        spec: the collection.
        bounds: rectangle in ``crs``; the whole collection when None.
        crs: CRS of the bounds.
        target: CRS of the output.
        size: cells or cell size; without it the collection's own grid is returned.

    Raises:
        BadParameterError: the bounds can't be projected to the output's CRS, or have no extent in it.
        OutsideError: the collection's own grid is asked for, and they do not touch it.
    """
    grid_crs = spec.grid.crs
    if bounds is None:
        box = spec.grid.geobox.boundingbox
        bounds, crs = Bounds(west=box.left, south=box.bottom, east=box.right, north=box.top), grid_crs
    if not size.given and target == grid_crs:
        return _native(spec, project(bounds, crs, grid_crs))
    there = project(bounds, crs, target)
    if size.resolution is not None:
        return _by_resolution(there, size.resolution, target)
    if size.given:
        return _by_shape(there, size, target)
    step = _native(spec, project(bounds, crs, grid_crs)).to_crs(target).resolution
    return _by_resolution(there, (abs(step.x), abs(step.y)), target)


def _native(spec: CollectionSpec, bounds: Bounds) -> GeoBox:
    """Return the collection's own grid under bounds of its CRS, snapped outward, cut at the grid's edge.

    Not at 180 degrees, where the grid goes around the earth: it goes on there at its other end.

    Raises:
        OutsideError: they do not touch the grid.
    """
    inverse = ~spec.grid.geobox.affine
    col, row = inverse * (bounds.west, bounds.north)
    stop_col, stop_row = inverse * (bounds.east, bounds.south)
    first_row, first_col = math.floor(row + _EDGE), math.floor(col + _EDGE)
    window = Window.from_bounds(
        first_row,
        first_col,
        max(math.ceil(stop_row - _EDGE), first_row + 1),
        max(math.ceil(stop_col - _EDGE), first_col + 1),
    )
    whole, turn = spec.grid.window, turn_pixels(spec.grid)
    if turn is not None and whole.width >= turn - 1:
        whole = replace(whole, col=window.col, width=min(window.width, math.ceil(turn)))
    inside = window.intersection(whole)
    if inside is None:
        raise OutsideError("the region lies outside the collection")
    return spec.grid.geobox_of(inside)


def _by_shape(bounds: Bounds, size: Size, crs: CRS) -> GeoBox:
    """Cut the bounds into cells; where one of width and height is given, into squares."""
    span_x, span_y = bounds.east - bounds.west, bounds.north - bounds.south
    if span_x <= 0 or span_y <= 0:
        raise BadParameterError("bbox", f"bbox: has no extent in {crs}")
    width = size.width or max(1, round((size.height or 1) * (span_x / span_y)))
    height = size.height or max(1, round(width * (span_y / span_x)))
    return _geobox((height, width), (span_x / width, span_y / height), (bounds.west, bounds.north), crs)


def _by_resolution(bounds: Bounds, step: tuple[float, float], crs: CRS) -> GeoBox:
    """Snap outward to multiples of the cell size, as odc-stac does (anchor at the edge)."""
    edges = (bounds.west / step[0], bounds.east / step[0], bounds.south / step[1], bounds.north / step[1])
    if not all(math.isfinite(edge) for edge in edges):
        raise BadParameterError("resolution", "resolution: too small for the coordinates of this CRS")
    col, stop_col = math.floor(edges[0] + _EDGE), math.ceil(edges[1] - _EDGE)
    row, stop_row = math.floor(edges[2] + _EDGE), math.ceil(edges[3] - _EDGE)
    shape = (max(1, stop_row - row), max(1, stop_col - col))
    return _geobox(shape, step, (col * step[0], (row + shape[0]) * step[1]), crs)


def _geobox(
    shape: tuple[int, int], step: tuple[float, float], corner: tuple[float, float], crs: CRS
) -> GeoBox:
    """Return a geobox, north up, from its upper left corner."""
    affine = Affine(step[0], 0.0, corner[0], 0.0, -step[1], corner[1])
    check_affine(affine, "resolution")
    return GeoBox(shape, affine, crs)


def check_affine(affine: Affine, parameter: str) -> None:
    """Refuse an affine that can't be inverted in float64.

    Raises:
        BadParameterError: it is not invertible in float64.
    """
    area = abs(affine.determinant)
    if not (0 < area < math.inf and all(math.isfinite(number) for number in tuple(~affine))):
        raise BadParameterError(parameter, f"{parameter}: transform is not invertible")


def region(
    spec: CollectionSpec,
    geobox: GeoBox,
    bands: Sequence[str] | None,
    times: tuple[int, ...] | None,
    resampling: Mapping[str, str],
    level: int | None = None,
) -> Region:
    """Return the region of a geobox.

    Args:
        spec: the collection.
        geobox: what is asked for.
        bands: names; the default ones where None.
        times: numbers of time steps, or None without a time axis.
        resampling: by band name.
        level: to read from; the best for the geobox where None.

    Raises:
        UnknownBandError: a band that there is not.
    """
    return Region(
        collection=spec,
        bands=spec.select(bands),
        target=geobox,
        times=times,
        level=best_level(spec, geobox) if level is None else level,
        resampling=resampling,
    )
