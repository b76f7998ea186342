"""The assets of a STAC Collection: how a STAC client opens the data without knowing of Icehouse."""

from typing import Any

from icehouse_server import output
from icehouse_server.core.collection import CollectionSpec

ASSETS_EXTENSION = "https://stac-extensions.github.io/zarr/v1.1.0/schema.json"

_ZARR = {"zarr:consolidated": True, "zarr:node_type": "group", "zarr:zarr_format": 3}


def assets(spec: CollectionSpec, base: str) -> dict[str, Any]:
    """Return the assets of a collection: the Zarr store, a GeoTIFF of a region, and map tiles.

    Args:
        spec: the collection.
        base: URL of the daemon.
    """
    here = f"{base}/collections/{spec.id}"
    geotiff = output.FORMATS["geotiff"]
    return {
        "zarr": {
            "href": f"{here}/cube.zarr",
            "type": "application/vnd.zarr; version=3",
            "title": "The whole collection; what is read is fetched",
            "roles": ["data"],
            **_ZARR,
        },
        "zarr-cached": {
            "href": f"{here}/cached.zarr",
            "type": "application/vnd.zarr; version=3",
            "title": "The cached chunks alone; the rest is nodata",
            "roles": ["data"],
            **_ZARR,
        },
        "geotiff": {
            "href": f"{here}/coverage{geotiff.suffix}",
            "type": geotiff.media_type,
            "title": "A region: add bbox=minx,miny,maxx,maxy in lon/lat, or width= for all of it, coarser",
            "roles": ["data"],
        },
        "tiles": {
            "href": f"{here}/WebMercatorQuad/tilejson.json",
            "type": "application/json",
            "title": "Map tiles as TileJSON",
            "roles": ["visual", "tiles"],
        },
    }
