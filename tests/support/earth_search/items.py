"""The STAC documents of the Earth Search stand-in, in the form of published items of 2023.

`sentinel-2-l2a` has STAC 1.0.0 with `proj:epsg`, and shape and transform on the assets alone, as the items of
Earth Search v1 have. `sentinel-2-stack` has STAC 1.1.0 with `proj:code`, and shape and transform on the item
too.
"""

from __future__ import annotations

import functools
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import pyproj
import shapely

from icehouse_server.demo.pgc import COG_TYPE
from support.earth_search import dem
from support.earth_search.dem import COP_DEM, Degree
from support.earth_search.pixels import render
from support.earth_search.world import BANDS, BUCKET, SENTINEL_2, STACK, Band, Scene

if TYPE_CHECKING:
    from collections.abc import Callable

    type Sign = Callable[[str], str]
    """Gives the href that a document carries for a published one."""

type Document = dict[str, Any]
"""JSON. Any: a STAC document is what it is."""

DEM_TIME: Final = datetime(2021, 4, 22, tzinfo=UTC)
"""Of every item of the Copernicus DEM."""
API_URL: Final = "https://earth-search.aws.element84.com/v1/"
SENTINEL_2_URL: Final = f"https://{BUCKET}.s3.us-west-2.amazonaws.com/"
_EXTENSIONS: Final = "https://stac-extensions.github.io"
_V1_EXTENSIONS: Final = (
    "view/v1.0.0",
    "eo/v1.0.0",
    "grid/v1.0.0",
    "raster/v1.1.0",
    "projection/v1.0.0",
    "mgrs/v1.0.0",
)
_CLASS_NAMES: Final = {
    0: "nodata_pixel",
    3: "cloud_shadow",
    4: "vegetation",
    5: "not_vegetated",
    6: "water",
    8: "medium_proba_clouds",
    9: "high_proba_clouds",
    10: "thin_cirrus",
}


def scene_document(scene: Scene, api: str, sign: Sign) -> Document:
    """The item of a scene.

    Args:
        scene: The scene.
        api: What links begin with; ends with a slash.
        sign: What becomes of the published href of each raster.
    """
    new = scene.collection == STACK
    ring = footprint(scene)
    longitudes, latitudes = [point[0] for point in ring], [point[1] for point in ring]
    extensions = [
        name.replace("projection/v1.0.0", "projection/v2.0.0") if new else name for name in _V1_EXTENSIONS
    ]
    return {
        "type": "Feature",
        "stac_version": "1.1.0" if new else "1.0.0",
        "id": scene.item_id,
        "properties": _properties(scene, new=new),
        "geometry": {"type": "Polygon", "coordinates": [ring]},
        "links": item_links(scene.collection, scene.item_id, api),
        "assets": _assets(scene, sign),
        "bbox": [min(longitudes), min(latitudes), max(longitudes), max(latitudes)],
        "stac_extensions": [f"{_EXTENSIONS}/{name}/schema.json" for name in extensions],
        "collection": scene.collection,
    }


def _properties(scene: Scene, *, new: bool) -> Document:
    parts, name, shape = _percentages(scene), scene.tile.name, scene.shape("red")
    code = {
        "proj:code": f"EPSG:{scene.tile.epsg}",
        "proj:shape": list(shape),
        "proj:transform": _transform(scene, "red"),
    }
    return {
        "created": "2023-06-28T15:42:10.537Z",
        "platform": f"sentinel-{scene.platform.lower()}",
        "constellation": "sentinel-2",
        "instruments": ["msi"],
        "eo:cloud_cover": cloud_cover(scene),
        **(code if new else {"proj:epsg": scene.tile.epsg}),
        "mgrs:utm_zone": scene.tile.zone,
        "mgrs:latitude_band": name[2],
        "mgrs:grid_square": name[3:],
        "grid:code": f"MGRS-{name}",
        "view:sun_azimuth": 163.5,
        "view:sun_elevation": 20.25,
        **{f"s2:{kind}_percentage": parts[number] for number, kind in _CLASS_NAMES.items()},
        "s2:product_type": "S2MSI2A",
        "s2:processing_baseline": "05.09",
        "datetime": f"{scene.time:%Y-%m-%dT%H:%M:%S.%f}Z",
        "s2:sequence": str(scene.sequence),
        "earthsearch:s3_path": f"s3://{BUCKET}/{scene.folder}",
        "earthsearch:boa_offset_applied": True,
        "updated": "2023-06-28T15:42:10.537Z",
    }


@functools.cache
def _percentages(scene: Scene) -> dict[int, float]:
    """How much of the tile each class of scl takes up, in percent."""
    found = np.bincount(render(scene, "scl").ravel(), minlength=max(_CLASS_NAMES) + 1)
    return {number: round(float(found[number] / found.sum() * 100), 6) for number in _CLASS_NAMES}


def cloud_cover(scene: Scene) -> float:
    """The item's `eo:cloud_cover`, percent: classes 8, 9 and 10 of scl."""
    parts = _percentages(scene)
    return round(parts[8] + parts[9] + parts[10], 6)


@functools.cache
def footprint(scene: Scene) -> list[tuple[float, float]]:
    """Longitude and latitude of the corners of what there is data of: closed, counter-clockwise."""
    tile, far = scene.tile, 10 * scene.tile.side
    area: Any = shapely.box(tile.left, tile.top - tile.side, tile.left + tile.side, tile.top)
    if scene.edge is not None:
        # a parallelogram whose right side is the swath's edge, running 1 m west for every 4 m south
        west, north = tile.left + scene.edge, tile.top
        corners = [(west - far, north + far), (west + far / 4, north + far), (west - far / 4, north - far)]
        area = area.intersection(shapely.Polygon([*corners, (west - far, north - far)]))
    ring = shapely.geometry.mapping(shapely.orient_polygons(area))["coordinates"][0]
    return [_lonlat(tile.epsg).transform(x, y) for x, y in ring]


@functools.cache
def _lonlat(epsg: int) -> pyproj.Transformer:
    return pyproj.Transformer.from_crs(epsg, 4326, always_xy=True)


def item_links(collection: str, item_id: str, api: str) -> list[Document]:
    """An item's links."""
    here = f"{api}collections/{collection}"
    return [
        {"rel": "self", "type": "application/geo+json", "href": f"{here}/items/{item_id}"},
        {"rel": "parent", "type": "application/json", "href": here},
        {"rel": "collection", "type": "application/json", "href": here},
        {
            "rel": "root",
            "type": "application/json",
            "href": api.rstrip("/"),
            "title": "Earth Search by Element 84",
        },
    ]


def _assets(scene: Scene, sign: Sign) -> Document:
    assets = {
        key: _raster_asset(scene, band, sign(SENTINEL_2_URL + scene.key(key))) for key, band in BANDS.items()
    }
    assets["thumbnail"] = {
        "href": f"{SENTINEL_2_URL}{scene.folder}/thumbnail.jpg",
        "type": "image/jpeg",
        "title": "Thumbnail image",
        "roles": ["thumbnail"],
    }
    zone, square, day = scene.tile.zone, scene.tile.name[3:], scene.day
    folder = f"{zone}/{scene.tile.name[2]}/{square}/{day.year}/{day.month}/{day.day}/{scene.sequence}"
    assets["red-jp2"] = assets["red"] | {
        "href": f"s3://sentinel-s2-l2a/tiles/{folder}/B04.jp2",
        "type": "image/jp2",
    }
    return assets


def _raster_asset(scene: Scene, band: Band, href: str) -> Document:
    facts: Document = {"nodata": 0, "data_type": band.dtype, "spatial_resolution": band.pixel}
    if band.asset != "scl":
        facts |= {"bits_per_sample": 15, "scale": 0.0001, "offset": -0.1}
    return {
        "href": href,
        "type": COG_TYPE,
        "title": band.title,
        "proj:shape": list(scene.shape(band.asset)),
        "proj:transform": _transform(scene, band.asset),
        "raster:bands": [facts],
        "roles": ["data", "reflectance"],
    }


def _transform(scene: Scene, asset: str) -> list[float]:
    affine = scene.affine(asset)
    return [affine.a, affine.b, affine.c, affine.d, affine.e, affine.f]


def degree_document(degree: Degree, api: str, sign: Sign) -> Document:
    """The item of a degree of the Copernicus DEM; arguments as of `scene_document`."""
    west, south, east, north = degree.bounds
    affine = degree.affine
    raster = {"sampling": "point", "data_type": "float32", "spatial_resolution": 30, "unit": "meter"}
    ring = [[east, south], [east, north], [west, north], [west, south], [east, south]]
    return {
        "type": "Feature",
        "stac_version": "1.0.0",
        "id": degree.item_id,
        "properties": {
            "platform": "tandem-x",
            "gsd": 30,
            "license": "proprietary",
            "proj:epsg": 4326,
            "proj:transform": [affine.a, affine.b, affine.c, affine.d, affine.e, affine.f],
            "proj:shape": list(degree.shape),
            "proj:centroid": {"lat": degree.latitude + 0.5, "lon": degree.longitude + 0.5},
            "grid:code": f"CDEM-{degree.name.replace('_00', '').replace('_', '')}",
            "datetime": f"{DEM_TIME:%Y-%m-%dT%H:%M:%SZ}",
        },
        "geometry": {"type": "Polygon", "coordinates": [ring]},
        "links": item_links(COP_DEM, degree.item_id, api),
        "assets": {
            "data": {
                "href": sign(f"s3://{dem.BUCKET}/{degree.key}"),
                "type": COG_TYPE,
                "title": "Data",
                "raster:bands": [raster],
                "roles": ["data"],
            }
        },
        "bbox": [west, south, east, north],
        "stac_extensions": [
            f"{_EXTENSIONS}/{name}/schema.json"
            for name in ("raster/v1.1.0", "projection/v1.0.0", "grid/v1.0.0")
        ],
        "collection": COP_DEM,
    }


_TITLES: Final = {
    SENTINEL_2: "Sentinel-2 Level 2A",
    STACK: "Sentinel-2 Level 2A, many scenes of one place",
    COP_DEM: "Copernicus DEM GLO-30",
}


def collection_document(collection: str, api: str) -> Document:
    """The collection as the API serves it.

    Raises:
        KeyError: if there is no such collection.
    """
    here = f"{api}collections/{collection}"
    begin = DEM_TIME if collection == COP_DEM else datetime(2015, 6, 27, 10, 25, 31, tzinfo=UTC)
    end = f"{begin:%Y-%m-%dT%H:%M:%SZ}" if collection == COP_DEM else None
    return {
        "type": "Collection",
        "id": collection,
        "stac_version": "1.0.0",
        "title": _TITLES[collection],
        "description": "Stand-in of an Earth Search collection, not published data",
        "license": "proprietary",
        "extent": {
            "spatial": {"bbox": [[-180, -90, 180, 90]]},
            "temporal": {"interval": [[f"{begin:%Y-%m-%dT%H:%M:%SZ}", end]]},
        },
        "links": [
            {"rel": "self", "type": "application/json", "href": here},
            {"rel": "parent", "type": "application/json", "href": api.rstrip("/")},
            {"rel": "root", "type": "application/json", "href": api.rstrip("/")},
            {"rel": "items", "type": "application/geo+json", "href": f"{here}/items"},
        ],
    }
