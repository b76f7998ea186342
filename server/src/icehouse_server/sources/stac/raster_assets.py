"""What an item says of a file on a grid of its own: where it lies, and in which units its values are."""

from dataclasses import dataclass

import numpy as np
from odc.geo.crs import CRS
from odc.geo.geobox import GeoBox
from pyproj.exceptions import CRSError

from icehouse_server.core.collection import BandSpec
from icehouse_server.core.geometry.horizontal import horizontal
from icehouse_server.core.ports import Mask, Pixels
from icehouse_server.raster.units import Units
from icehouse_server.sources.cog.checks import Said
from icehouse_server.sources.cog.georeference import WARP_IT, north_up
from icehouse_server.sources.http.allowed_hosts import AllowedHosts
from icehouse_server.sources.raster.reducers import fitted
from icehouse_server.sources.stac.items import Item
from icehouse_server.sources.stac.settings import BandTable, StacTable


@dataclass(frozen=True, slots=True, kw_only=True)
class RasterAsset:
    """The file of one item and one band, on its own grid."""

    item: str
    href: str
    """As the document gives it, made absolute."""
    url: str
    """What to ask for: mirrors applied."""
    said: Said
    """What the document says of its place."""
    geobox: GeoBox | None
    """The same as a geobox; None where it does not say."""
    units: Units | None
    """None where the document does not say."""
    nodata: float | None
    """As the document says; the file's own goes first."""


def raster_asset(
    item: Item, name: str, index: int, *, optional: bool, settings: StacTable, allowed: AllowedHosts
) -> RasterAsset | None:
    """Return the file of an asset, or None where the item may lack it and does.

    Args:
        item: the item.
        name: key of the asset.
        index: band of the file, from 1.
        optional: whether the item may lack it.
        settings: says which property tells that offsets are in the pixels already, and what to trust.
        allowed: which hosts may be asked.

    Raises:
        SourceCorruptError: the asset is missing, or what the document says of it is malformed.
        SourceRefusedError: its href points to a host that nothing vouches for.
    """
    asset = item.found(name, optional=optional)
    if asset is None:
        return None
    said = Said() if settings.trust_files else item.said(asset)
    facts = item.facts(asset, index, settings.offset_applied)
    return RasterAsset(
        item=item.id,
        href=asset.href,
        url=allowed.url_of(asset.href, item=item.id),
        said=said,
        geobox=_geobox(item, said),
        units=facts.units,
        nodata=facts.nodata,
    )


def _geobox(item: Item, said: Said) -> GeoBox | None:
    affine, shape = said.affine, said.shape
    if said.crs is None or affine is None or shape is None:
        return None
    if north_up(affine, shape) is None:
        raise item.corrupt("its raster is rotated or mirrored", hint=WARP_IT)
    try:
        return GeoBox(shape, affine, CRS(horizontal(said.crs)))
    except (CRSError, ValueError):
        return None  # a code that PROJ does not know: the file says what it is


@dataclass(frozen=True, slots=True, kw_only=True)
class Conversion:
    """From a file's values to a band's, before they are warped."""

    band: BandSpec
    units: Units | None
    """The file's, where they are to be changed into the band's; None where only the dtype changes."""

    def apply(self, values: Pixels, valid: Mask) -> tuple[Pixels, Mask]:
        """Return values of the band's dtype; see ``composite.fitted`` for how they are rounded."""
        numbers = values.astype(np.float64)
        if self.units is not None:
            quantity = numbers * self.units.scale + self.units.offset
            numbers = (quantity - self.band.offset) / self.band.scale
        block = fitted(numbers, valid, self.band)
        return block.values, valid


def conversion(asset: RasterAsset, table: BandTable, band: BandSpec, item: Item) -> Conversion | None:
    """Return what must be done to a file's values, or None where they are the band's as they are.

    Raises:
        SourceCorruptError: the document gives another scale or offset than the collection has, and the file
            does not say what to do then; or it gives none where they are to be applied.
    """
    if table.apply_scale:
        if asset.units is None:
            raise item.corrupt(f"asset {table.asset!r} has no scale to apply")
        return Conversion(band=band, units=asset.units)
    if asset.units is None or asset.units.are_those_of(band):
        return None if table.dtype is None else Conversion(band=band, units=None)
    if table.harmonise:
        return Conversion(band=band, units=asset.units)
    raise item.corrupt(
        f"asset {table.asset!r}: {asset.units.refusal(band)}", hint="harmonise = true brings them together"
    )
