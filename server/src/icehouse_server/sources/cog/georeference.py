"""Does a raster lie where the collection says? CRS equality, place on the lattice, tags of GeoTIFFs."""

import functools
import math
from collections.abc import Sequence
from dataclasses import dataclass

from affine import Affine
from odc.geo.geobox import GeoBox
from pyproj import CRS

from icehouse_server.core.geometry.horizontal import convertible, horizontal
from icehouse_server.core.grid import LATTICE_TOLERANCE, Window, lattice_offset

_CONFIDENCE = 70
"""Percent of likeness at which pyproj's database may name an EPSG code; pyproj's own default."""

_PIXEL_IS_POINT = 2
_TIE_POINT, _MATRIX = 6, 16
"""Numbers of a tie point, and of the matrix of a transform."""

WARP_IT = "warp it once with gdalwarp"
"""What to do with a raster that is rotated or mirrored."""

NO_CRS = "it has no CRS"
SET_CRS = "set one, for example with gdal_edit -a_srs"


class UnplacedError(ValueError):
    """A file does not say where it lies."""

    def __init__(self, points: int) -> None:
        """Say why, and what to do.

        Args:
            points: ground control points that it has in place of a transform.
        """
        super().__init__(
            f"it has {points} ground control points and no transform"
            if points
            else "it has no transform, so where it lies is unknown"
        )
        self.hint = (
            "warp it once with gdalwarp, which places it by these points"
            if points
            else "set one, for example with gdal_translate -a_ullr"
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class NorthUp:
    """How a raster lies once its first row is the northernmost."""

    affine: Affine
    flipped: bool
    """Whether the rows of the file run from south to north."""

    def in_file(self, window: Window, rows: int) -> Window:
        """Return where the pixels of a window lie in a file of that many rows."""
        if not self.flipped:
            return window
        return Window(row=rows - window.stop_row, col=window.col, height=window.height, width=window.width)


def north_up(affine: Affine, shape: tuple[int, int]) -> NorthUp | None:
    """Return how a raster (rows, columns) lies; None where it is rotated or mirrored, or has no area.

    A rotation or shear that moves no pixel by more than the lattice's tolerance is none: it is left over from
    sums of floats.
    """
    rows, cols = shape
    if not (all(map(math.isfinite, affine)) and affine.a > 0 and affine.e):
        return None
    if max(abs(affine.b / affine.a) * rows, abs(affine.d / affine.e) * cols) > LATTICE_TOLERANCE:
        return None
    flipped = affine.e > 0
    top = affine.f + affine.e * rows if flipped else affine.f
    return NorthUp(affine=Affine(affine.a, 0, affine.c, 0, -abs(affine.e), top), flipped=flipped)


def tiff_affine(
    *,
    scale: Sequence[float] | None,
    tie_points: Sequence[float] | None,
    matrix: Sequence[float] | None,
    raster_type: int | None,
) -> Affine:
    """Return the transform that tags of a GeoTIFF say, as GDAL reads them.

    Args:
        scale: ModelPixelScale. GDAL takes its second number for positive whatever its sign.
        tie_points: ModelTiepoint: column, row and 0 of the raster, then x, y and z of the place.
        matrix: ModelTransformation.
        raster_type: GTRasterType; 2 where places are those of the middle of pixels.

    Raises:
        UnplacedError: they say none.
    """
    points = tie_points or []
    scaled = scale is not None and len(scale) > 1 and bool(scale[0] and scale[1])
    if scale and scaled and len(points) >= _TIE_POINT:
        col, row, _, x, y = points[:5]
        dx, dy = scale[0], -abs(scale[1])
        affine = Affine(dx, 0, x - col * dx, 0, dy, y - row * dy)
    elif matrix and len(matrix) == _MATRIX and not scaled:
        affine = Affine(matrix[0], matrix[1], matrix[3], matrix[4], matrix[5], matrix[7])
    else:
        raise UnplacedError(len(points) // _TIE_POINT)
    return affine @ Affine.translation(-0.5, -0.5) if raster_type == _PIXEL_IS_POINT else affine


@functools.lru_cache(maxsize=256)
def same_crs(first: str, second: str) -> bool:
    """Return whether two CRS (WKT or authority code) place coordinates alike.

    GeoTIFF keys and WKT 1 carry neither the axis order nor the names of the authority's definition, so
    equality of text or of every member would refuse files that are right. Heights do not count: pixels are
    where the horizontal parts say.
    """
    one, other = (CRS.from_user_input(horizontal(crs)) for crs in (first, second))
    if one.equals(other, ignore_axis_order=True):
        return True
    code = other.to_epsg(min_confidence=_CONFIDENCE)
    return code is not None and one.to_epsg(min_confidence=_CONFIDENCE) == code


def unrelated(crs: str, grid: str) -> str:
    """Return why a file's CRS can't be brought to the grid's, or an empty string where it can."""
    own = CRS.from_user_input(crs)
    if same_crs(grid, crs) or ((own.is_projected or own.is_geographic) and convertible(crs, grid)):
        return ""
    return f"its CRS is {own.name[:80]!r} ({own.type_name}), from which nothing leads to the collection's"


UNRELATED = (
    "it is local, or not of the earth; give the file its right CRS, as with gdal_edit -a_srs, or leave it out"
)
"""What to do about a file whose CRS is unrelated to the grid's."""


def lattice_window(grid: GeoBox, transform: Affine, shape: tuple[int, int]) -> Window | None:
    """Return where a raster (rows, columns) lies on the grid's lattice, or None where it does not."""
    try:
        return lattice_offset(grid.affine, transform, shape)
    except (OverflowError, ValueError):  # infinite, NaN, or no pixel at all
        return None
