"""The files of a few items, asset by asset: where they lie, and what is said of their bands."""

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from urllib.parse import urlsplit

from affine import Affine
from odc.geo.crs import CRS
from pyproj.exceptions import CRSError

from icehouse_server.core.drafts.draft import DraftBand, Remark, band_names
from icehouse_server.core.errors import SourceError
from icehouse_server.raster.file_facts import BandFacts, FileFacts
from icehouse_server.sources.cog.georeference import north_up
from icehouse_server.sources.raster.draft_bands import draft_band, is_storable
from icehouse_server.sources.raster.draft_grid import PlacedRaster
from icehouse_server.sources.stac.band_facts import facts_table
from icehouse_server.sources.stac.documents import AssetDocument, number
from icehouse_server.sources.stac.items import Item

_PICTURES = {"thumbnail", "overview", "visual"}
"""Roles of files that show the data and do not hold them."""

_SUFFIXES = (".tif", ".tiff")


@dataclass(slots=True, kw_only=True)
class FoundAsset:
    """One asset of some items."""

    key: str
    owners: list[tuple[Item, AssetDocument]] = field(default_factory=list)
    placed: list[PlacedRaster] = field(default_factory=list)
    """Where its files lie, as far as documents say."""
    header: FileFacts | None = None
    """What the first file says of itself."""

    @property
    def first(self) -> AssetDocument:
        """The asset of the first item that has it."""
        return self.owners[0][1]

    @property
    def holds_data(self) -> bool:
        """Whether its role says that it is what the collection is about."""
        return bool({"data", "reflectance"} & _roles(self.first))

    @property
    def pixel(self) -> float:
        """Side of a pixel in units of its CRS; infinite where it is not known."""
        return min((float(one.transform.a) for one in self.placed), default=math.inf)


def found_assets(items: Sequence[Item]) -> tuple[list[FoundAsset], list[str]]:
    """Return the GeoTIFFs of some items, and the keys of those that only show the data."""
    found: dict[str, FoundAsset] = {}
    pictures: dict[str, None] = {}
    for item in items:
        for key, asset in item.document.assets.items():
            if asset is None or not _is_raster(asset):
                continue
            if _PICTURES & _roles(asset):
                pictures[key] = None
                continue
            one = found.setdefault(key, FoundAsset(key=key))
            one.owners.append((item, asset))
            if (placed := _placed(item, asset)) is not None:
                one.placed.append(placed)
    return sorted(found.values(), key=lambda one: not one.holds_data), list(pictures)


def _roles(asset: AssetDocument) -> set[str]:
    roles = asset.extra_fields.get("roles")
    return {str(role) for role in roles} if isinstance(roles, list) else set()


def _is_raster(asset: AssetDocument) -> bool:
    media = asset.extra_fields.get("type")
    if isinstance(media, str) and media:
        return media.lower().startswith("image/tiff")
    try:
        return urlsplit(asset.href).path.lower().endswith(_SUFFIXES)
    except ValueError:
        return False


def _placed(item: Item, asset: AssetDocument) -> PlacedRaster | None:
    """Return where a file lies, where the document says so."""
    try:
        said = item.said(asset)
        if said.crs is None or said.affine is None or said.shape is None:
            return None
        crs = CRS(said.crs)
    except (SourceError, CRSError, ValueError):
        return None
    return placed_raster(item.id, crs, said.affine, said.shape)


def placed_raster(name: str, crs: CRS, affine: Affine, shape: tuple[int, int]) -> PlacedRaster | None:
    """Return where a raster lies, north up; None where it is rotated or mirrored."""
    upright = north_up(affine, shape)
    return (
        None if upright is None else PlacedRaster(name=name, crs=crs, transform=upright.affine, shape=shape)
    )


def bands_of(
    asset: FoundAsset, items: int, *, composite: bool, offset_applied: str | None
) -> list[tuple[DraftBand, list[Remark]]]:
    """Return the bands of an asset that a collection can hold.

    Args:
        asset: with its header.
        items: how many items were looked at; an asset that some lack is optional.
        composite: whether items are warped and composited, so that values can be converted.
        offset_applied: property of items that says that offsets are in the pixels already.
    """
    facts = _band_facts(asset)
    texts = [_name(asset, one, len(facts)) for one in facts]
    found = []
    for name, one in zip(band_names(texts), facts, strict=True):
        if not is_storable(one):
            continue
        source: dict[str, object] = {"asset": asset.key}
        source |= {"index": one.index} if one.index > 1 else {}
        source |= {"optional": True} if len(asset.owners) < items else {}
        scales = _scales(asset, one, offset_applied)
        source |= {"harmonise": True} if composite and len(scales) > 1 else {}
        (scale, offset), _ = scales.most_common(1)[0]
        found.append(draft_band(name, replace(one, scale=scale, offset=offset), source))
    return found


def _name(asset: FoundAsset, facts: BandFacts, count: int) -> str:
    if count == 1:
        return asset.key
    return facts.description or f"{asset.key}_{facts.index}"


def _band_facts(asset: FoundAsset) -> list[BandFacts]:
    """Return what is known of an asset's bands: by the file's header, completed by the document."""
    document = asset.first
    if asset.header is not None:
        return [_completed(band, document) for band in asset.header.bands]
    dtype = facts_table(document, 1).get("data_type")
    if not isinstance(dtype, str):
        return []
    blank = BandFacts(
        index=1,
        dtype=dtype,
        nodata=None,
        scale=1.0,
        offset=0.0,
        units="",
        description="",
        colour="",
        classes=False,
        masked=False,
    )
    return [_completed(blank, document)]


def _completed(band: BandFacts, document: AssetDocument) -> BandFacts:
    facts = facts_table(document, band.index)
    nodata = band.nodata if band.nodata is not None else _nodata(facts, band.dtype)
    scale, offset = number(facts.get("scale")), number(facts.get("offset"))
    described = facts.get("eo:common_name") or facts.get("description") or facts.get("title")
    unit = facts.get("unit", facts.get("raster:unit"))
    return replace(
        band,
        nodata=nodata,
        scale=band.scale if scale is None else scale,
        offset=band.offset if offset is None else offset,
        units=band.units or (unit if isinstance(unit, str) else ""),
        description=band.description or (_line(described) if isinstance(described, str) else ""),
        classes=band.classes or "classification:classes" in facts or "classification:bitfields" in facts,
    )


def _nodata(facts: Mapping[str, object], dtype: str) -> float | int | None:
    value = number(facts.get("nodata"))
    if value is None or dtype.startswith("float"):
        return value
    return int(value) if math.isfinite(value) and value.is_integer() else None


def _scales(asset: FoundAsset, band: BandFacts, offset_applied: str | None) -> Counter[tuple[float, float]]:
    """Return how often items say by which scale and offset values become quantities."""
    said: Counter[tuple[float, float]] = Counter()
    for item, document in asset.owners:
        facts = facts_table(document, band.index)
        scale, offset = number(facts.get("scale")), number(facts.get("offset"))
        if offset_applied is not None and item.document.properties.get(offset_applied) is True:
            offset = 0.0
        said[scale or band.scale, band.offset if offset is None else offset] += 1
    return said


def _line(text: str) -> str:
    return " ".join(text.split())[:200]
