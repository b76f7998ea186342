"""Which items the Earth Search stand-in lists, and where their rasters are."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import shapely

from support.earth_search import dem, items, world
from support.earth_search.dem import COP_DEM
from support.earth_search.world import SENTINEL_2, STACK

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime

    from support.earth_search.dem import Degree
    from support.earth_search.items import Document, Sign
    from support.earth_search.signing import Form
    from support.earth_search.world import Scene

COLLECTIONS: Final = (SENTINEL_2, STACK, COP_DEM)
PRIVATE_URLS: Final[dict[Form, str]] = {
    "s3": "https://icehouse-private.s3.us-west-2.amazonaws.com/",
    "sas": "https://icehouseprivate.blob.core.windows.net/",
}
"""Invented stores. They hold the objects of the public buckets, for signed requests alone."""
PRIVATE_FOLDERS: Final[dict[Form, str]] = {"s3": "icehouse-private", "sas": "icehouseprivate"}
"""Where the stand-in holds them."""
_REGIONS: Final = {world.BUCKET: "us-west-2", dem.BUCKET: "eu-central-1"}
PUBLIC_URLS: Final = {
    prefix: bucket
    for bucket, region in _REGIONS.items()
    for prefix in (
        f"https://{bucket}.s3.{region}.amazonaws.com/",
        f"https://{bucket}.s3.amazonaws.com/",
        f"s3://{bucket}/",
    )
}
"""What a public bucket is called by -> its name, which is its folder in the stand-in."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One item of the catalogue."""

    item_id: str
    collection: str
    time: datetime
    geometry: shapely.Geometry
    document: Callable[[str, Sign], Document]
    """The document, for what links begin with and for what becomes of hrefs."""

    @property
    def properties(self) -> Document:
        """As the document has them."""
        properties: Document = self.document(items.API_URL, str)["properties"]
        return properties

    @property
    def token(self) -> str:
        """Names the item in the link to the page after it."""
        return f"{self.time:%Y-%m-%dT%H:%M:%S.%f},{self.item_id},{self.collection}"


@functools.cache
def entries(collection: str) -> tuple[Entry, ...]:
    """Every item of a collection.

    Raises:
        KeyError: if there is no such collection.
    """
    if collection == COP_DEM:
        return tuple(_of_degree(degree) for degree in dem.DEGREES)
    return tuple(_of_scene(scene) for scene in world.scenes(collection))


def _of_degree(degree: Degree) -> Entry:
    return Entry(
        item_id=degree.item_id,
        collection=COP_DEM,
        time=items.DEM_TIME,
        geometry=shapely.box(*degree.bounds),
        document=functools.partial(items.degree_document, degree),
    )


def _of_scene(scene: Scene) -> Entry:
    return Entry(
        item_id=scene.item_id,
        collection=scene.collection,
        time=scene.time,
        geometry=shapely.Polygon(items.footprint(scene)),
        document=functools.partial(items.scene_document, scene),
    )


def object_key(href: str) -> str:
    """Bucket and key of a published href."""
    for prefix, bucket in PUBLIC_URLS.items():
        if href.startswith(prefix):
            return f"{bucket}/{href.removeprefix(prefix)}"
    raise ValueError(f"{href!r} is in none of the buckets")


def local(href: str, cogs_url: str) -> str:
    """The stand-in's own URL for a published href."""
    return cogs_url + object_key(href)


def private(href: str, form: Form) -> str:
    """Where the object of a published href lies in a private store, without a signature."""
    return PRIVATE_URLS[form] + object_key(href)
