"""Polygons in longitude and latitude: enough of a geometry to clip and to filter by."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

import numpy as np
import shapely

from support.earthengine.places import transformer

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from support.earthengine.places import PixelCoordinates
    from support.earthengine.world import Box


@dataclass(frozen=True, slots=True)
class Geometry:
    """One ring of longitudes and latitudes. Its edges are straight in them, unlike Earth Engine's."""

    ring: Sequence[Sequence[float]]

    @classmethod
    def of_box(cls, box: Box) -> Self:
        """A rectangle."""
        left, bottom, right, top = box
        return cls([[left, bottom], [right, bottom], [right, top], [left, top]])

    @classmethod
    def of_extents(cls, extents: Sequence[tuple[str, Box]]) -> Self:
        """The rectangle around boxes in any CRS."""
        boxes = [lonlat(crs, box) for crs, box in extents]
        lows, highs = np.min(boxes, axis=0), np.max(boxes, axis=0)
        return cls.of_box((float(lows[0]), float(lows[1]), float(highs[2]), float(highs[3])))

    def box(self) -> Box:
        """Left, bottom, right, top."""
        points = np.asarray(self.ring, dtype=np.float64)
        (left, bottom), (right, top) = points.min(axis=0), points.max(axis=0)
        return float(left), float(bottom), float(right), float(top)

    def bounds(self) -> Geometry:
        """The rectangle around it; one that begins west of -180 comes back with eastern longitudes."""
        left, bottom, right, top = self.box()
        turn = 360.0 if left < -180 else 0.0
        return Geometry.of_box((left + turn, bottom, right + turn, top))

    def meets(self, crs: str, box: Box) -> bool:
        """True if its rectangle shares area with a box."""
        left, bottom, right, top = self.box()
        low_x, low_y, high_x, high_y = lonlat(crs, box)
        return left < high_x and right > low_x and bottom < high_y and top > low_y

    def holds(self, place: PixelCoordinates) -> NDArray[np.bool_]:
        """Which pixels of a place have their centre inside, on whatever turn around the globe."""
        x, y = place.at("EPSG:4326")
        left, bottom, right, top = self.box()
        inside = np.zeros((1, 1), dtype=np.bool_)
        for turn in (0.0, -360.0, 360.0):
            across, up = (x + turn >= left) & (x + turn <= right), (y >= bottom) & (y <= top)
            inside = inside | (across & up)
        if self._is_box() or not inside.any():
            return np.asarray(inside)
        polygon = shapely.Polygon(self.ring)
        lon, lat = np.broadcast_arrays(x, y)
        shapes = [shapely.contains_xy(polygon, lon + turn, lat) for turn in (0.0, -360.0, 360.0)]
        return np.asarray(inside & np.logical_or.reduce(shapes))

    def to_json(self) -> dict[str, Any]:
        """As `getInfo` shows it."""
        ring = [list(point) for point in self.ring]
        closed = ring if ring[0] == ring[-1] else [*ring, ring[0]]
        return {"type": "Polygon", "coordinates": [closed]}

    def _is_box(self) -> bool:
        left, bottom, right, top = self.box()
        return all(x in (left, right) and y in (bottom, top) for x, y in self.ring)


def lonlat(crs: str, box: Box) -> Box:
    """The box around a box, in degrees."""
    if crs == "EPSG:4326":
        return box
    found: Box = transformer(crs, "EPSG:4326").transform_bounds(*box)
    return found
