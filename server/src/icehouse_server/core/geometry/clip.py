"""A polygon that a target is clipped to: which of the target's pixels it may hold."""

from collections.abc import Callable, Iterator

import shapely
from odc.geo.geobox import GeoBox
from shapely.geometry.base import BaseGeometry

from icehouse_server.core.grid import Window


class TargetClip:
    """The pixels of a target that count: those that a polygon touches.

    Args:
        target: the pixels.
        polygon: polygon or multipolygon in the target's CRS, x then y.
    """

    def __init__(self, target: GeoBox, polygon: BaseGeometry) -> None:
        self._affine = target.affine
        self._polygon = polygon
        shapely.prepare(polygon)

    def touches(self, window: Window) -> bool:
        """Return whether the polygon has a point in common with a window of the target."""
        return bool(self._polygon.intersects(self._outline(window)))

    def covers(self, window: Window) -> bool:
        """Return whether a window of the target lies within the polygon."""
        return bool(self._polygon.contains_properly(self._outline(window)))

    def _outline(self, window: Window) -> BaseGeometry:
        rows, cols = (window.row, window.stop_row), (window.col, window.stop_col)
        corners = ((cols[0], rows[0]), (cols[1], rows[0]), (cols[1], rows[1]), (cols[0], rows[1]))
        return shapely.Polygon([self._affine * corner for corner in corners])


def rectangles_touched(
    chunks: Window, clip: TargetClip, pixels_of: Callable[[Window], Window]
) -> Iterator[Window]:
    """Cut a rectangle of chunks into those of its rectangles that a clip touches, without a list of all.

    Args:
        chunks: the rectangle, counted in chunks.
        clip: what counts.
        pixels_of: says which pixels of the target a rectangle of chunks holds.
    """
    pixels = pixels_of(chunks)
    if not clip.touches(pixels):
        return
    if chunks.pixels == 1 or clip.covers(pixels):
        yield chunks
        return
    for half in _halves(chunks):
        yield from rectangles_touched(half, clip, pixels_of)


def _halves(window: Window) -> tuple[Window, Window]:
    row, col, stop_row, stop_col = window.row, window.col, window.stop_row, window.stop_col
    if window.height >= window.width:
        middle = row + window.height // 2
        return Window.from_bounds(row, col, middle, stop_col), Window.from_bounds(
            middle, col, stop_row, stop_col
        )
    middle = col + window.width // 2
    return Window.from_bounds(row, col, stop_row, middle), Window.from_bounds(row, middle, stop_row, stop_col)
