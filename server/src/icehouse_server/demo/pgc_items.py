"""The STAC documents of the mosaics as PGC publishes them: key order, links, geometry and its oddities."""

from __future__ import annotations

import functools
import json
import zlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import pyproj

from icehouse_server.demo.pgc import (
    API_URL,
    ASSETS,
    BUCKET,
    COG_TYPE,
    DOMAINS,
    OBJECTS_URL,
    Domain,
    Tile,
    collection_id,
    tile_of,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

type Document = dict[str, Any]
"""JSON. Any: a STAC document is what it is."""
type Point = tuple[float, float]

_EXTENSIONS: Final = {
    "1.1.0": [
        "https://stac-extensions.github.io/projection/v2.0.0/schema.json",
        "https://stac-extensions.github.io/alternate-assets/v1.2.0/schema.json",
    ],
    "1.0.0": ["https://stac-extensions.github.io/projection/v1.0.0/schema.json"],
}
_DESCRIPTION: Final = (
    "Digital surface model mosaic from photogrammetric elevation extraction using the SETSM algorithm.  "
    "The mosaic tiles are a composite product using DEM strips from varying collection times."
)
_DIGITS: Final = 6
ROOT_TITLE: Final = "PGC Data Catalog"


@dataclass(frozen=True, slots=True, kw_only=True)
class BaseUrls:
    """Where the documents say that things are. Each ends with a slash."""

    api: str = API_URL
    objects: str = OBJECTS_URL


PUBLISHED: Final = BaseUrls()


def item_document(
    domain: str, resolution: str, tile: str, *, stac_version: str = "1.1.0", base_urls: BaseUrls = PUBLISHED
) -> Document:
    """The item of one tile.

    Args:
        domain: "arcticdem" or "rema".
        resolution: "2m", "10m" or "32m".
        tile: Such as "67_33", or "44_74_1_2" at 2 m.
        stac_version: "1.1.0", or "1.0.0" for the form of 2023 (proj:epsg, no datetime).
        base_urls: What hrefs begin with.
    """
    place = tile_of(domain, resolution, tile)
    ring = corners(place)
    document: Document = {
        "type": "Feature",
        "stac_version": stac_version,
        "stac_extensions": _EXTENSIONS[stac_version],
        "id": place.item_id,
        "bbox": _bbox(ring),
        "collection": place.collection,
        "properties": _properties(place, old=stac_version == "1.0.0"),
        "links": _item_links(place, base_urls),
        "assets": _assets(place, base_urls, old=stac_version == "1.0.0"),
        "geometry": _split(ring),
    }
    rounded: Document = json.loads(json.dumps(document), parse_float=lambda text: round(float(text), _DIGITS))
    return rounded


def _properties(tile: Tile, *, old: bool) -> Document:
    pick = zlib.crc32(tile.item_id.encode())
    first, last = interval(tile)
    pairs = [
        f"WV0{1 + n % 3}_2015{1 + n % 12:02d}{1 + n % 28:02d}_{pick:08X}{n:08X}"
        for n in range(20 + pick % 200)
    ]
    return {
        "title": tile.item_id,
        "description": _DESCRIPTION,
        "created": "2022-08-08T00:00:00Z",
        "published": "2025-08-28T00:00:00Z",
        "datetime": None if old else first,
        "start_datetime": first,
        "end_datetime": last,
        "constellation": "maxar",
        "license": "CC-BY-4.0",
        **_projection(tile, "dem", old=old),
        "pgc:pairname_ids": pairs,
        "pgc:supertile": tile.supertile,
        "pgc:tile": tile.name,
        "pgc:release_version": tile.domain.version,
        "pgc:data_perc": 0.95 + (pick % 1000) / 21234.5,
        "pgc:num_components": len(pairs),
    }


def interval(tile: Tile) -> tuple[str, str]:
    """First and last acquisition of an item, as ISO 8601 text."""
    pick = zlib.crc32(tile.item_id.encode())
    first = f"20{9 + pick % 4:02d}-0{3 + pick % 7}-12T00:00:00Z"
    return first, f"20{20 + pick % 3}-0{1 + pick % 9}-05T00:00:00Z"


def footprint(tile: Tile) -> Document:
    """The item's published geometry, not rounded."""
    return _split(corners(tile))


def _projection(tile: Tile, asset: str, *, old: bool) -> Document:
    left, bottom, right, top = (float(edge) for edge in tile.bounds)
    affine = tile.affine(asset)
    longitude, latitude = _lonlat(tile.domain.epsg, [((left + right) / 2, (bottom + top) / 2)])[0]
    ring = [[left, bottom], [right, bottom], [right, top], [left, top], [left, bottom]]
    return {
        "gsd": float(tile.pixel(asset)),
        **({"proj:epsg": tile.domain.epsg} if old else {"proj:code": f"EPSG:{tile.domain.epsg}"}),
        "proj:shape": list(tile.shape(asset)),
        "proj:transform": [float(number) for number in affine],
        "proj:bbox": [left, bottom, right, top],
        "proj:geometry": {"type": "Polygon", "coordinates": [ring]},
        "proj:centroid": {"lat": latitude, "lon": longitude},
    }


def _item_links(tile: Tile, urls: BaseUrls) -> list[Document]:
    """The links as the API rewrites them."""
    domain, collection = tile.domain, f"{urls.api}collections/{tile.collection}"
    title = f"Resolution Collection {domain.title} {tile.resolution}m DEM Mosaics, version {domain.version}"
    return [
        {"rel": "self", "href": f"{collection}/items/{tile.item_id}", "type": "application/geo+json"},
        {"rel": "parent", "title": title, "href": collection, "type": "application/json"},
        {"rel": "collection", "title": title, "href": collection, "type": "application/json"},
        {"rel": "root", "title": ROOT_TITLE, "href": urls.api, "type": "application/json"},
    ]


def _assets(tile: Tile, urls: BaseUrls, *, old: bool) -> Document:
    """All assets in the published order: datamask, where there is one, comes after metadata."""
    keys = [key for key in tile.domain.assets if key != "datamask"]
    assets = {key: _raster_asset(tile, key, urls, old=old) for key in keys}
    assets["metadata"] = {
        "title": "Metadata",
        "href": urls.objects + tile.key("metadata"),
        "type": "text/plain",
        "roles": ["metadata"],
        "alternate": {"s3": {"href": f"s3://{BUCKET}/{tile.key('metadata')}"}},
    }
    if "datamask" in tile.domain.assets:
        assets["datamask"] = _raster_asset(tile, "datamask", urls, old=old)
    return assets


def _raster_asset(tile: Tile, key: str, urls: BaseUrls, *, old: bool) -> Document:
    facts = ASSETS[key]
    document: Document = {
        "title": f"{tile.resolution}m DEM" if key == "dem" else facts.title,
        "href": urls.objects + tile.key(key),
        "type": COG_TYPE,
        "roles": list(facts.roles),
        "alternate": {"s3": {"href": f"s3://{BUCKET}/{tile.key(key)}"}},
    }
    if facts.unit is not None:
        document["unit"] = facts.unit
    document |= {"nodata": facts.nodata, "data_type": facts.dtype}
    if tile.pixel(key) != tile.resolution:
        document |= _projection(tile, key, old=old)
    return document


@functools.cache
def _transformer(epsg: int) -> pyproj.Transformer:
    return pyproj.Transformer.from_crs(epsg, 4326, always_xy=True)


def _lonlat(epsg: int, points: Sequence[Point]) -> list[Point]:
    longitudes, latitudes = _transformer(epsg).transform([x for x, _ in points], [y for _, y in points])
    return list(zip(longitudes, latitudes, strict=True))


def corners(tile: Tile) -> list[Point]:
    """The raster's corners in lon/lat, counter-clockwise, not closed. No densified edges, as published."""
    left, bottom, right, top = tile.bounds
    ring: list[Point] = [(left, bottom), (right, bottom), (right, top), (left, top)]
    return _lonlat(tile.domain.epsg, ring)


def _sign(longitude: float) -> int:
    return (longitude > 0) - (longitude < 0)


def _crosses(ring: Sequence[Point]) -> bool:
    """PGC's test: any change of sign of longitude counts as the antimeridian, also at longitude 0."""
    return len({_sign(longitude) for longitude, _ in ring}) > 1


def _bbox(ring: Sequence[Point]) -> list[float]:
    """West > east for a ring that changes sign."""
    longitudes, latitudes = [p[0] for p in ring], [p[1] for p in ring]
    west, east = min(longitudes), max(longitudes)
    if _crosses(ring):
        west, east = east, west
    return [west, min(latitudes), east, max(latitudes)]


def _split(ring: Sequence[Point]) -> Document:
    """A MultiPolygon with Z = 0, cut at longitude 180 wherever the sign of longitude changes."""
    west: list[Point] = []
    east: list[Point] = []
    for (x1, y1), (x2, y2) in zip(ring, [*ring[1:], ring[0]], strict=True):
        (west if x1 < 0 else east).append((x1, y1))
        if _sign(x1) != _sign(x2):
            from_x, to_x = x1 % 360, x2 % 360
            latitude = y1 + (180 - from_x) * (y2 - y1) / (to_x - from_x) if to_x != from_x else y1
            west.append((-180.0, latitude))
            east.append((180.0, latitude))
    polygons = [[[[x, y, 0.0] for x, y in [*part, part[0]]]] for part in (west, east) if part]
    return {"type": "MultiPolygon", "coordinates": polygons}


def collection_document(collection: str, *, base_urls: BaseUrls = PUBLISHED) -> Document:
    """The collection as the API serves it.

    Args:
        collection: Such as "arcticdem-mosaics-v4.1-32m".
        base_urls: What hrefs begin with.

    Raises:
        KeyError: if there is no such collection.
    """
    known = {collection_id(domain, gsd): (domain, gsd) for domain in DOMAINS.values() for gsd in (2, 10, 32)}
    domain, gsd = known[collection]
    here = f"{base_urls.api}collections/{collection}"
    return {
        "type": "Collection",
        "stac_version": "1.1.0",
        "stac_extensions": ["https://stac-extensions.github.io/item-assets/v1.0.0/schema.json"],
        "id": collection,
        "title": f"{domain.title} DEM mosaics v{domain.version} {gsd}m",
        "description": f"{domain.title} DEM mosaics, version {domain.version}, {gsd}m resolution",
        "license": "CC-BY-4.0",
        "keywords": ["dem", "elevation", domain.name, "mosaic"],
        "providers": [
            {"name": "maxar", "roles": ["producer"], "url": "https://www.maxar.com"},
            {"name": "pgc", "roles": ["processor"], "url": "https://pgc.umn.edu"},
        ],
        "extent": _extent(domain),
        "item_assets": _item_assets(domain),
        "links": [
            {"rel": "items", "type": "application/geo+json", "href": f"{here}/items"},
            {"rel": "parent", "type": "application/json", "href": base_urls.api},
            {"rel": "root", "type": "application/json", "href": base_urls.api, "title": ROOT_TITLE},
            {"rel": "self", "type": "application/json", "href": here},
        ],
    }


def _extent(domain: Domain) -> Document:
    latitudes = (52.0, 89.5) if domain.name == "arcticdem" else (-89.08, -53.5)
    return {
        "spatial": {"bbox": [[-179.996071, latitudes[0], 179.995926, latitudes[1]]]},
        "temporal": {"interval": [["2007-11-27T00:00:00Z", None]]},
    }


def _item_assets(domain: Domain) -> Document:
    rasters = {
        key: {"type": COG_TYPE, "roles": list(ASSETS[key].roles), "title": ASSETS[key].title}
        for key in domain.assets
    }
    return rasters | {"metadata": {"type": "text/plain", "roles": ["metadata"], "title": "Metadata"}}
