"""Rows about the CRS of a file: heights in addition, local systems, other planets, none."""

from support.odd_files.table import HEIGHTS, geotiff, odd

_LOCAL = 'LOCAL_CS["site",UNIT["metre",1]]'
_OTHER = "CRS"
"""What an error says: of the path without a warp that CRSs differ, of the others that nothing leads there."""

ROWS = (
    odd("crs-and-egm96-heights", geotiff(HEIGHTS, crs="EPSG:32622+5773"), nodata=-9999),
    odd("crs-and-navd88-heights", geotiff(HEIGHTS, crs="EPSG:32622+5703"), nodata=-9999),
    odd("crs-local", geotiff(HEIGHTS, crs=_LOCAL), nodata=-9999, error=_OTHER),
    odd("crs-of-the-moon", geotiff(HEIGHTS, crs="IAU_2015:30135"), nodata=-9999, error=_OTHER),
    odd("crs-of-heights-alone", geotiff(HEIGHTS, crs="EPSG:5773"), nodata=-9999, error=_OTHER),
    odd("crs-geocentric", geotiff(HEIGHTS, crs="EPSG:4978"), nodata=-9999, error=_OTHER),
    odd(
        "crs-with-heights-in-the-document",
        geotiff(HEIGHTS, crs="EPSG:32622+5773"),
        nodata=-9999,
        document={"proj:code": "EPSG:32622"},
    ),
    odd(
        "crs-of-the-moon-in-the-document",
        geotiff(HEIGHTS),
        nodata=-9999,
        document={
            "proj:code": "IAU_2015:30135",
            "proj:transform": [10, 0, 500_160, 0, -10, 7_399_920],
            "proj:shape": [56, 72],
        },
        error="IAU_2015:30135|nothing leads",
        paths=frozenset({"plain", "gdal", "composite"}),
    ),
)
