"""Which items the Earth Search stand-in lists, and where their rasters are."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import shapely

from icehouse_server.testing import earth_items, earth_world
from icehouse_server.testing.earth_items import SENTINEL_2_URL
from icehouse_server.testing.earth_world import SENTINEL_2, STACK

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime

    from icehouse_server.testing.earth_items import Document, Sign
    from icehouse_server.testing.signing import Form

COLLECTIONS: Final = (SENTINEL_2, STACK)
PRIVATE_URLS: Final[dict[Form, str]] = {
    "s3": "https://icehouse-private.s3.us-west-2.amazonaws.com/",
    "sas": "https://icehouseprivate.blob.core.windows.net/",
}
"""Invented stores. They hold the objects of the public buckets, for signed requests alone."""
PRIVATE_FOLDERS: Final[dict[Form, str]] = {"s3": "icehouse-private", "sas": "icehouseprivate"}
"""Where the stand-in holds them."""
PUBLIC_URLS: Final = {SENTINEL_2_URL: earth_world.BUCKET}
"""Published prefix of each public bucket -> its name, which is its folder in the stand-in."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One item of the catalogue."""

    item_id: str
    collection: str
    time: datetime
    geometry: shapely.Geometry
    properties: Document
    """As the document has them."""
    document: Callable[[str, Sign], Document]
    """The document, for what links begin with and for what becomes of hrefs."""

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
    found = []
    for scene in earth_world.scenes(collection):
        document = functools.partial(earth_items.scene_document, scene)
        found.append(_entry(document, scene.time))
    return tuple(found)


def _entry(document: Callable[[str, Sign], Document], time: datetime) -> Entry:
    plain: dict[str, Any] = document(earth_items.API_URL, str)
    return Entry(
        item_id=plain["id"],
        collection=plain["collection"],
        time=time,
        geometry=shapely.geometry.shape(plain["geometry"]),
        properties=plain["properties"],
        document=document,
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
