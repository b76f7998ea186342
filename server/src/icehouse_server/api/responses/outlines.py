"""Outlines: squares of chunks as GeoJSON geometries in any CRS (RFC 7946 where it is CRS84)."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from odc.geo.crs import CRS
from shapely import Polygon, box, get_parts, make_valid, union_all
from shapely.affinity import translate

from icehouse_server.core.geometry.transformers import transformer
from icehouse_server.core.grid import Grid

type _Numbers = NDArray[np.float64]
type _Rings = list[_Numbers]
"""Closed rings (points, x and y), each of a polygon without holes."""

_LONLAT = CRS("EPSG:4326")

_TOLERANCE = 0.002
"""Part of a side by which an outline may leave it."""

_MOST_PARTS = 32
"""Parts that a side is drawn of at most."""

_ON_EDGE = 1e-6
"""Part of a side: a pole that is so near to an edge lies on it."""

_EXACT = 9
"""Decimals of degrees while squares are cut: a side along 180 degrees lies there exactly."""

_GRID = 1e-9
"""The same in degrees."""

_LARGER = 1.1
"""Times its pieces' area that a square may have which is drawn whole."""

_THIN = 1e-6
"""Degrees: what is thinner is not a piece of a square but a matter of rounding."""

_DIGITS = {True: 7, False: 3}
"""Decimals of coordinates, for geographic CRSs and others: a centimetre, a millimetre."""

_HALF, _TURN = 180.0, 360.0


def outlines(
    grid: Grid, side: int, squares: Sequence[tuple[int, int]], crs: CRS
) -> list[dict[str, Any] | None]:
    """Return squares of a grid as GeoJSON geometries, exterior rings counterclockwise.

    In the grid's own CRS they are rectangles. In others their sides are drawn of as many straight parts as
    they need. In a geographic CRS they are cut at 180 degrees, and one around a pole reaches up to it.

    Args:
        grid: of level 0.
        side: of a square, in pixels of the grid.
        squares: (row, col), counted in squares; cut at the grid's edge.
        crs: of the coordinates, x, y.

    Returns:
        One for each square; None where it has no place in the CRS.
    """
    if not squares:
        return []
    bounds = _bounds(grid, side, np.array(squares, dtype=np.float64))
    if crs == grid.crs and not crs.geographic:
        return _polygons(np.stack(_ring(bounds, 1), axis=-1), crs)
    parts = _parts(grid.crs, crs, bounds)
    lonlat = crs if crs.geographic else _LONLAT
    found: list[dict[str, Any] | None] = [None] * len(squares)
    for number in np.unique(parts).tolist():
        chosen = np.flatnonzero(parts == number)
        x, y = _ring(bounds[chosen], number)
        rings, cut = _drawn(grid.crs, lonlat, x, y, bounds[chosen])
        if not crs.geographic:
            rings = np.stack(transformer(grid.crs, crs).transform(x, y), axis=-1)
        for place, polygon in zip(chosen, _polygons(rings, crs), strict=True):
            found[place] = polygon
        for index, pieces in cut.items():
            moved = pieces if crs.geographic else _moved(rings[index], pieces, lonlat, crs)
            found[chosen[index]] = _multipolygon(moved, crs)
    return found


def _bounds(grid: Grid, side: int, squares: _Numbers) -> _Numbers:
    """Return west, south, east, north of each square in the grid's CRS."""
    affine, (rows, cols) = grid.geobox.affine, grid.shape
    row, col = squares[:, 0] * side, squares[:, 1] * side
    stop_row, stop_col = np.minimum(row + side, rows), np.minimum(col + side, cols)
    return np.stack(
        [
            affine.c + affine.a * col,
            affine.f + affine.e * stop_row,
            affine.c + affine.a * stop_col,
            affine.f + affine.e * row,
        ],
        axis=-1,
    )


def _ring(bounds: _Numbers, parts: int) -> tuple[_Numbers, _Numbers]:
    """Return x and y, (squares, points): closed rings, counterclockwise from the lower left corner."""
    west, south, east, north = (edge[:, None] for edge in bounds.T)
    t = np.arange(parts) / parts
    along_x, along_y = west + (east - west) * t, south + (north - south) * t
    back_x, back_y = east + (west - east) * t, north + (south - north) * t
    flat = np.ones((1, parts))
    x = np.concatenate([along_x, east * flat, back_x, west * flat, west], axis=1)
    y = np.concatenate([south * flat, along_y, north * flat, back_y, south], axis=1)
    return x, y


def _parts(source: CRS, target: CRS, bounds: _Numbers) -> NDArray[np.int64]:
    """Return of how many parts the sides of each square must be drawn: a power of two."""
    x, y = transformer(source, target).transform(*_ring(bounds, 2))
    with np.errstate(invalid="ignore", divide="ignore"):
        dx, dy = np.diff(x, axis=1), np.diff(y, axis=1)
        if target.geographic:
            dx = _short_way(dx)
        # From a corner to the middle of a side, and on to the next: the same step where it is straight.
        bend = np.hypot(dx[:, ::2] - dx[:, 1::2], dy[:, ::2] - dy[:, 1::2]) / 2
        length = np.hypot(dx[:, ::2] + dx[:, 1::2], dy[:, ::2] + dy[:, 1::2])
        worst = (bend / length).max(axis=1)
        wanted = np.sqrt(np.where(np.isfinite(worst), worst, np.inf) / _TOLERANCE)
    steps = np.ceil(np.log2(np.clip(wanted, 1, _MOST_PARTS)) - 1e-9)
    return np.asarray(2**steps, dtype=np.int64)


def _short_way(degrees: _Numbers) -> _Numbers:
    return (degrees + _HALF) % _TURN - _HALF


def _drawn(
    source: CRS, lonlat: CRS, x: _Numbers, y: _Numbers, bounds: _Numbers
) -> tuple[_Numbers, dict[int, _Rings]]:
    """Return squares as rings in a geographic CRS, (squares, points, 2), and those that had to be cut."""
    lon, lat = transformer(source, lonlat).transform(x, y)
    # Longitudes go on as x does where that is one, also around the whole earth; else the short way.
    lon = x + _short_way(lon - x) if source.geographic else _unwrapped(lon)
    rings = np.round(np.stack([lon, np.clip(lat, -90, 90)], axis=-1), _EXACT)
    across = (rings[..., 0] < -_HALF).any(axis=1) | (rings[..., 0] > _HALF).any(axis=1)
    cut = {int(place): _cut(rings[place]) for place in np.flatnonzero(across)}
    for latitude in () if source.geographic else (90.0, -90.0):
        px, py = transformer(lonlat, source).transform(0.0, latitude)
        west, south, east, north = bounds.T
        slack = _ON_EDGE * (east - west)
        around = (west - slack <= px) & (px <= east + slack) & (south - slack <= py) & (py <= north + slack)
        for place in np.flatnonzero(around):
            ring = np.stack([x[place, :-1], y[place, :-1]], axis=-1)
            cut[int(place)] = _around_pole(ring, bounds[place], (px, py, latitude), source, lonlat)
    return rings, cut


def _unwrapped(lon: _Numbers) -> _Numbers:
    """Return longitudes along rings, (rings, points), without jumps of 360 degrees."""
    steps = _short_way(np.diff(lon, axis=1))
    return np.concatenate([lon[:, :1], lon[:, :1] + np.cumsum(steps, axis=1)], axis=1)


def _around_pole(
    ring: _Numbers, square: _Numbers, pole: tuple[float, float, float], source: CRS, lonlat: CRS
) -> _Rings:
    """Return a square that holds a pole, or has it on its edge, as rings in a geographic CRS.

    The ring is followed once around, from the pole where it lies on the edge, and closed along the latitude
    of the pole.

    Args:
        ring: (points, x and y), open, from the lower left corner; as many points on each side.
        square: west, south, east, north.
        pole: its x and y, and its latitude.
        source: CRS of these.
        lonlat: CRS of what is returned.
    """
    px, py, latitude = pole
    west, south, east, north = square
    slack = _ON_EDGE * (east - west)
    along, up = (px - west) / (east - west), (py - south) / (north - south)
    sides = ((py - south, along), (east - px, 1 + up), (north - py, 3 - along), (px - west, 4 - up))
    distance, place = min(sides)
    if abs(distance) <= slack:
        first = int(place * len(ring) / 4) + 1
        ring = np.roll(ring, -first, axis=0)
        ring = ring[np.hypot(ring[:, 0] - px, ring[:, 1] - py) > slack]
    else:
        ring = np.concatenate([ring, ring[:1]])
    lon, lat = transformer(source, lonlat).transform(*ring.T)
    (lon,) = _unwrapped(lon[None])
    ends = np.array([[lon[-1], latitude], [lon[0], latitude], [lon[0], lat[0]]])
    return _cut(np.round(np.concatenate([np.stack([lon, lat], axis=-1), ends]), _EXACT))


def _cut(ring: _Numbers) -> _Rings:
    """Cut a ring, whose longitudes may go on beyond 180 degrees, there."""
    if not np.isfinite(ring).all():
        return []
    west, east = ring[:, 0].min(), ring[:, 0].max()
    whole = make_valid(Polygon(ring))
    turns = range(math.floor((west + _HALF) / _TURN), math.ceil((east + _HALF) / _TURN))
    parts = [
        translate(whole.intersection(box(turn * _TURN - _HALF, -90, turn * _TURN + _HALF, 90)), -turn * _TURN)
        for turn in turns
    ]
    pieces = (
        np.array(shape.exterior.coords)
        for shape in get_parts(union_all(parts, grid_size=_GRID))
        if isinstance(shape, Polygon)
    )
    return [piece for piece in pieces if np.ptp(piece, axis=0).min() > _THIN]


def _moved(direct: _Numbers, pieces: _Rings, lonlat: CRS, crs: CRS) -> _Rings:
    """Return a square that is cut in lon/lat as rings in another CRS: whole where that one has no cut there.

    Drawn over a cut, a square would lie across half the map, and be larger than its pieces.
    """
    moved = [np.stack(transformer(lonlat, crs).transform(*piece.T), axis=-1) for piece in pieces]
    size = sum(abs(_areas(ring[None])[0]) for ring in moved)
    whole = np.isfinite(direct).all() and not abs(_areas(direct[None])[0]) > _LARGER * size
    return [direct] if whole else moved


def _areas(rings: _Numbers) -> _Numbers:
    """Return twice the area inside of rings (squares, points, 2); below 0 where they go clockwise."""
    with np.errstate(invalid="ignore"):
        x, y = rings[..., 0] - rings[:, :1, 0], rings[..., 1] - rings[:, :1, 1]
        return np.asarray(np.sum(x[:, :-1] * y[:, 1:] - x[:, 1:] * y[:, :-1], axis=1))


def _polygons(rings: _Numbers, crs: CRS) -> list[dict[str, Any] | None]:
    """Return rings (squares, points, 2) as polygons; None where a point of one has no place."""
    fine = np.isfinite(rings).all(axis=(1, 2))
    turned = np.where((_areas(rings) < 0)[:, None, None], rings[:, ::-1], rings)
    listed = np.round(turned, _DIGITS[crs.geographic]).tolist()
    return [
        {"type": "Polygon", "coordinates": [ring]} if is_fine else None
        for ring, is_fine in zip(listed, fine.tolist(), strict=True)
    ]


def _multipolygon(rings: _Rings, crs: CRS) -> dict[str, Any] | None:
    """Return the pieces of one square; None where there are none, or a point of them has no place."""
    pieces = [_polygons(ring[None], crs)[0] for ring in rings]
    if not pieces or None in pieces:
        return None
    if len(pieces) == 1:
        return pieces[0]
    return {"type": "MultiPolygon", "coordinates": [piece["coordinates"] for piece in pieces if piece]}
