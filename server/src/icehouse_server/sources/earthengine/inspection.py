"""Looks at an asset of Earth Engine, and says what a collection file for it holds."""

import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from odc.geo.geobox import GeoBox

from icehouse_server.core.drafts.draft import Draft, GridWish, Inquiry, Inspector
from icehouse_server.core.errors import SourceCorruptError, SourceRefusedError
from icehouse_server.core.geometry.lonlat_bounds import lonlat_bounds
from icehouse_server.sources.context import SourceContext
from icehouse_server.sources.earthengine.access import Access, shared_access
from icehouse_server.sources.earthengine.drafting import draft_of
from icehouse_server.sources.earthengine.error_translation import TooMuchError, explained

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

_ASSET = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_-]*(?:/[A-Za-z0-9_][A-Za-z0-9_.:-]*)+")
_PREFIX = "earthengine:"

_MOST_IMAGES = 50
"""Images of a collection that are looked at."""

_MOST_BYTES = 64 * 1024**2
"""Bytes of an answer: an image's properties may be long."""


def create_inspector(context: SourceContext) -> Inspector:
    """Make the inspector of Earth Engine assets."""
    return EarthEngineInspector(context=context, access=shared_access(context))


@dataclass(slots=True, kw_only=True)
class EarthEngineInspector:
    """Asks for the document of an asset, and for some images where it is a collection."""

    context: SourceContext
    access: Access

    def recognises(self, address: str) -> bool:
        """Return whether an address has the form of an asset's id, and is not a path that is there."""
        name = address.removeprefix(_PREFIX)
        return bool(_ASSET.fullmatch(name)) and (name != address or not Path(address).exists())

    async def inspect(self, inquiry: Inquiry) -> Draft:
        """Look at an asset; see ``Inspector.inspect``."""
        asset = inquiry.address.removeprefix(_PREFIX)
        document = await self._ask(asset, lambda ee: ee.data.getAsset(asset))
        kind = document.get("type")
        if kind == "IMAGE":
            images: Sequence[Mapping[str, Any]] = [document]
        elif kind == "IMAGE_COLLECTION":
            question = {"parent": asset, "pageSize": _MOST_IMAGES, **_filter(inquiry.wish)}
            found = await self._ask(asset, lambda ee: ee.data.listAssets(question))
            images = [image for image in found.get("assets", []) if image.get("type") == "IMAGE"]
        else:
            raise SourceRefusedError(
                f"Earth Engine's asset {asset!r} is a {str(kind)[:40]}, and not an image "
                "or a collection of images",
                href=f"earthengine:{asset}",
            )
        if not images:
            raise SourceRefusedError(
                f"Earth Engine's collection {asset!r} has no image"
                + ("" if inquiry.wish.bbox is None else " in --bbox"),
                href=f"earthengine:{asset}",
            )
        try:
            return draft_of(asset, document, images, inquiry, whole=len(images) < _MOST_IMAGES)
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise SourceCorruptError(
                f"Earth Engine's document of {asset!r} can't be understood: {error!r}"[:300],
                href=f"earthengine:{asset}",
            ) from error

    async def _ask(self, asset: str, work: Any) -> dict[str, Any]:  # noqa: ANN401 - a function of the module ee

        def ask(ee: Any) -> dict[str, Any]:  # noqa: ANN401
            try:
                found: dict[str, Any] = work(ee)
            except Exception as error:
                problem = explained(error, asset)
                if isinstance(problem, TooMuchError):
                    raise SourceRefusedError(
                        f"Earth Engine can't answer about {asset!r}: {problem}", href=f"earthengine:{asset}"
                    ) from error
                raise problem from error
            return found

        seconds = self.context.connect_timeout + self.context.read_timeout
        return await self.access.run(ask, seconds=seconds, max_bytes=_MOST_BYTES)

    async def close(self) -> None:
        """Let connections go."""
        self.access.close()


def _filter(wish: GridWish) -> dict[str, str]:
    """Return the parameter that keeps to images of a box."""
    if wish.bbox is None:
        return {}
    box = lonlat_bounds(GeoBox.from_bbox(wish.bbox, crs=wish.bbox_crs, shape=(64, 64)))
    west, south, east, north = box.west, box.south, box.west + box.width, box.north
    ring = [[west, south], [east, south], [east, north], [west, north], [west, south]]
    return {"filter": f"intersects({json.dumps(json.dumps({'type': 'Polygon', 'coordinates': [ring]}))})"}
