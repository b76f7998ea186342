"""STAC item documents: what an item says of the file of one band."""

import json
import math
from dataclasses import dataclass

import pystac
from affine import Affine
from odc.geo.geobox import GeoBox
from pyproj.exceptions import CRSError

from icehouse_server.core.errors import SourceCorruptError, SourceRefusedError
from icehouse_server.core.grid import Window
from icehouse_server.sources.context import SourceContext
from icehouse_server.sources.georeference import place, same_crs
from icehouse_server.sources.stac_settings import BandTable, StacTable
from icehouse_server.sources.urls import host_of, is_http, public

_AFFINE_NUMBERS = (6, 9)


@dataclass(frozen=True, slots=True, kw_only=True)
class Asset:
    """The file of one item and one band."""

    item: str
    href: str
    """As the document gives it, made absolute."""
    url: str
    """What to ask for: mirrors applied."""
    extent: Window | None
    """Where it lies on the grid as far as the document says."""


@dataclass(frozen=True, slots=True)
class Item:
    """A parsed item document."""

    document: pystac.Item

    @property
    def id(self) -> str:
        """The item's id."""
        return self.document.id

    def asset(
        self, band: BandTable, grid: GeoBox, settings: StacTable, context: SourceContext
    ) -> Asset | None:
        """Return the file of a band, or None where the item may lack it and does.

        Raises:
            SourceCorruptError: the asset is missing, or its CRS or lattice is not the collection's.
            SourceRefusedError: its href points to a host that nothing vouches for.
        """
        asset = self.document.assets.get(band.asset)
        if asset is None:
            if band.optional:
                return None
            raise SourceCorruptError(
                f"item {self.id!r} has no asset {band.asset!r}",
                item=self.id,
                hint="set optional = true under [bands.source] if items may lack it",
            )
        try:
            href = asset.get_absolute_href() or asset.href
        except ValueError as error:
            raise SourceRefusedError(
                f"item {self.id!r}: the href of asset {band.asset!r} is no URL", item=self.id
            ) from error
        return Asset(
            item=self.id,
            href=href,
            url=self._vetted(href, settings, context),
            extent=self._extent(asset, grid),
        )

    def _vetted(self, href: str, settings: StacTable, context: SourceContext) -> str:
        """Return the URL to ask for, if collection file or mirrors vouch for its host.

        A document from the network must not send the daemon to any host it likes (SSRF).
        """
        url = context.mirrored(href)
        if not is_http(url):
            raise SourceRefusedError(
                f"item {self.id!r}: only http and https files are read, not {href.partition(':')[0]}",
                item=self.id,
                hint="a mirror can map other schemes to https",
            )
        if not (context.has_mirror(href) or settings.trusts(href)):
            raise SourceRefusedError(
                f"item {self.id!r} points to {host_of(href)!r}, which the collection does not name",
                item=self.id,
                href=public(href),
                hint="add the host to asset_hosts under [source] if it is right",
            )
        return url

    def _extent(self, asset: pystac.Asset, grid: GeoBox) -> Window | None:
        """Return where the document places the file, by the projection extension."""
        fields = {**self.document.properties, **asset.extra_fields}
        code = fields.get("proj:code") or fields.get("proj:epsg")
        if code is not None:
            self._check_crs(f"EPSG:{code}" if isinstance(code, int) else str(code), grid)
        shape, numbers = fields.get("proj:shape"), fields.get("proj:transform")
        if shape is None or numbers is None:
            return None
        try:
            rows, cols = (int(number) for number in shape)
            affine = Affine(*(float(number) for number in numbers[:6]))
            usable = len(numbers) in _AFFINE_NUMBERS and min(rows, cols) > 0
        except (TypeError, ValueError) as error:
            raise self._corrupt("its proj:shape or proj:transform is malformed") from error
        if not usable or not all(math.isfinite(number) for number in affine):
            raise self._corrupt("its proj:shape or proj:transform is malformed")
        extent = place(grid, affine, (rows, cols))
        if extent is None:
            raise self._corrupt(
                f"asset {asset.title or asset.href!r} with transform {tuple(affine)[:6]} "
                "does not lie on the collection's grid"
            )
        return extent

    def _check_crs(self, code: str, grid: GeoBox) -> None:
        try:
            same = same_crs(str(grid.crs), code)
        except CRSError as error:
            raise self._corrupt(f"its CRS {code!r} is unknown") from error
        if not same:
            raise self._corrupt(f"its CRS is {code}, the collection's is {grid.crs}")

    def _corrupt(self, detail: str) -> SourceCorruptError:
        return SourceCorruptError(f"item {self.id!r}: {detail}", item=self.id)


def parse_item(body: str, url: str, *, expected_id: str | None = None) -> Item:
    """Parse an item document; both STAC 1.0.0 (``proj:epsg``) and 1.1.0 (``proj:code``) are understood.

    Raises:
        SourceCorruptError: it is no STAC item, or not the one asked for.
    """
    try:
        document = pystac.Item.from_dict(json.loads(body), href=url, preserve_dict=False)
    except Exception as error:  # pystac raises many kinds for documents that are no STAC
        raise SourceCorruptError(
            f"the API's answer is no STAC item: {type(error).__name__}: {error}"[:300],
            item=expected_id or "",
            href=public(url),
        ) from error
    if expected_id is not None and document.id != expected_id:
        raise SourceCorruptError(
            f"the API answered with item {document.id!r}, {expected_id!r} was asked for",
            item=expected_id,
            href=public(url),
        )
    return Item(document)
