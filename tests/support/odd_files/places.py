"""Rows about where a file lies: CRS, transform, what the item document says of both."""

from affine import Affine
from rasterio.control import GroundControlPoint

from support.odd_files.table import AFFINE, HEIGHTS, geotiff, odd, with_holes
from support.odd_files.tags import reopened, with_tie_point

_SOUTH_UP = AFFINE @ Affine(1, 0, 0, 0, -1, len(HEIGHTS))
_POINTS = [
    GroundControlPoint(row, col, *(AFFINE @ (col, row))) for row, col in ((0, 0), (0, 70), (50, 0), (50, 70))
]

ROWS = (
    odd("on-the-grid", geotiff(HEIGHTS), nodata=-9999),
    odd("beyond-the-grid", geotiff(HEIGHTS, transform=AFFINE @ Affine.translation(-40, -30)), nodata=-9999),
    odd("tie-point-inside", with_tie_point(geotiff(HEIGHTS), 7, 5, *(AFFINE @ (7, 5))), nodata=-9999),
    odd("tie-point-outside", with_tie_point(geotiff(HEIGHTS), -16, -8, *(AFFINE @ (-16, -8))), nodata=-9999),
    odd(
        "tie-point-at-a-fraction",
        with_tie_point(geotiff(HEIGHTS), 0.5, 0.5, *(AFFINE @ (0.5, 0.5))),
        nodata=-9999,
    ),
    odd("pixel-is-point", geotiff(HEIGHTS, tags={"AREA_OR_POINT": "Point"}), nodata=-9999),
    odd(
        "pixel-is-point-later",
        reopened(geotiff(HEIGHTS), lambda file: file.update_tags(AREA_OR_POINT="Point")),
        nodata=-9999,
    ),
    odd(
        "skew-of-1e-12", geotiff(HEIGHTS, transform=AFFINE @ Affine(1, 1e-12, 0, -1e-12, 1, 0)), nodata=-9999
    ),
    odd("south-up", geotiff(with_holes(-9999), nodata=-9999, transform=_SOUTH_UP), nodata=-9999),
    odd("south-up-with-mask", geotiff(HEIGHTS, mask=HEIGHTS > 130, transform=_SOUTH_UP), nodata=-9999),
    odd(
        "south-up-beyond-the-grid",
        geotiff(HEIGHTS, transform=_SOUTH_UP @ Affine.translation(-30, 20)),
        nodata=-9999,
    ),
    odd("south-up-skew", geotiff(HEIGHTS, transform=_SOUTH_UP @ Affine(1, 1e-12, 0, 0, 1, 0)), nodata=-9999),
    odd(
        "rotated",
        geotiff(HEIGHTS, transform=AFFINE @ Affine.rotation(1)),
        nodata=-9999,
        error="rotated or|do not lie on",
    ),
    odd(
        "mirrored",
        geotiff(HEIGHTS, transform=AFFINE @ Affine.scale(-1, 1)),
        nodata=-9999,
        error="or mirrored|do not lie on",
    ),
    odd("crs-without-transform", geotiff(HEIGHTS, transform=None), nodata=-9999, error="no transform"),
    odd(
        "control-points-only",
        geotiff(HEIGHTS, transform=None, gcps=_POINTS),
        nodata=-9999,
        error="4 ground control points",
    ),
    odd("no-crs", geotiff(HEIGHTS, crs=None), nodata=-9999, error="no CRS"),
    odd(
        "neither-crs-nor-transform",
        geotiff(HEIGHTS, crs=None, transform=None),
        nodata=-9999,
        error="no (CRS|transform)",
    ),
)
