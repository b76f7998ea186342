"""Rows about where a file lies: CRS, transform, what the item document says of both."""

from affine import Affine

from support.odd_files.table import AFFINE, HEIGHTS, geotiff, odd

ROWS = (
    odd("on-the-grid", geotiff(HEIGHTS), nodata=-9999),
    odd("beyond-the-grid", geotiff(HEIGHTS, transform=AFFINE @ Affine.translation(-40, -30)), nodata=-9999),
)
