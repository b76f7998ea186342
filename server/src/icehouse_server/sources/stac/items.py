"""STAC item documents: what an item says of the file of one band."""

import itertools
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime

from affine import Affine
from odc.geo.geobox import GeoBox
from pyproj.exceptions import CRSError

from icehouse_server.core.errors import SourceCorruptError
from icehouse_server.core.grid import Window
from icehouse_server.sources.cog.checks import TRUST, Said
from icehouse_server.sources.cog.georeference import lattice_window, north_up, same_crs
from icehouse_server.sources.http.allowed_hosts import AllowedHosts
from icehouse_server.sources.stac.band_facts import BandFacts, band_facts
from icehouse_server.sources.stac.documents import (
    AssetDocument,
    ItemDocument,
    crs_code,
    numbers,
    parse_document,
)
from icehouse_server.sources.stac.settings import BandTable, StacTable

_MAX_NUMBER = 1e15
_MAX_SIDE = 2**31
_ASSETS = 20
"""Assets of an item that a message names, each by at most this many characters."""
_SHOWN = 40


@dataclass(frozen=True, slots=True, kw_only=True)
class Asset:
    """The file of one item and one band."""

    item: str
    href: str
    """As the document gives it, made absolute."""
    url: str
    """What to ask for: mirrors applied."""
    said: Said
    """What the document says of its place."""
    extent: Window | None
    """The same on the grid; None where it does not say."""
    tile_window: Window | None
    """Where the tiling puts the item."""
    facts: BandFacts
    """What the document says of the band's values."""


@dataclass(frozen=True, slots=True)
class Item:
    """A parsed item document."""

    document: ItemDocument
    tile_window: Window | None = None
    """Where the tiling puts it on the grid, if there is a tiling."""

    @property
    def id(self) -> str:
        """The item's id."""
        return self.document.id

    @property
    def time(self) -> datetime:
        """When it was taken, aware: its datetime, or where it has an interval instead, its start.

        Raises:
            SourceCorruptError: the document does not say.
        """
        try:
            moment = self.document.moment
        except ValueError as error:
            raise self.corrupt(str(error)) from None
        if moment is None:
            raise self.corrupt("it has neither datetime nor start_datetime")
        return moment

    def asset(
        self, band: BandTable, grid: GeoBox, allowed: AllowedHosts, settings: StacTable
    ) -> Asset | None:
        """Return the file of a band, or None where the item may lack it and does.

        Args:
            band: which asset, which band of it, and whether the item may lack it.
            grid: the collection's.
            allowed: which hosts may be asked.
            settings: whether files are trusted with their place, and which property says that offsets are in
                the pixels.

        Raises:
            SourceCorruptError: the asset is missing, or its CRS or lattice is not the collection's.
            SourceRefusedError: its href points to a host that nothing vouches for.
        """
        asset = self.found(band.asset, optional=band.optional)
        if asset is None:
            return None
        said = Said() if settings.trust_files else self.said(asset)
        return Asset(
            item=self.id,
            href=asset.href,
            url=allowed.url_of(asset.href, item=self.id),
            said=said,
            extent=self._extent(said, grid),
            tile_window=self.tile_window,
            facts=self.facts(asset, band.index, settings.offset_applied),
        )

    def facts(self, asset: AssetDocument, index: int, offset_applied: str | None) -> BandFacts:
        """Return what the document says of the values of a file's band.

        Args:
            asset: the file.
            index: its band, from 1.
            offset_applied: property that is true where offsets are in the pixels already; None where none is.

        Raises:
            SourceCorruptError: it is malformed.
        """
        applied = offset_applied is not None and self.document.properties.get(offset_applied) is True
        return band_facts(asset, index, self.corrupt, offset_applied=applied)

    def found(self, name: str, *, optional: bool) -> AssetDocument | None:
        """Return an asset by its key, or None where the item may lack it and does.

        Raises:
            SourceCorruptError: the asset is missing.
        """
        asset = self.document.assets.get(name)
        if asset is None and name in self.document.assets:
            raise self.corrupt(f"asset {name!r} has no href")
        if asset is None and not optional:
            raise SourceCorruptError(
                f"item {self.id!r} has no asset {name!r}",
                item=self.id,
                hint=f"it has {_listed(self.document.assets)}; correct asset under [bands.source], or set "
                "optional = true if items may lack it",
            )
        return asset

    def said(self, asset: AssetDocument) -> Said:
        """Return what the document says of a file's place, by the projection extension.

        A part that is malformed is the same as one that is missing: then the file is asked. The transform is
        north up also where the file's first row is the southernmost; a rotated one stays.

        Raises:
            SourceCorruptError: it names two CRSs.
        """
        codes = [
            code
            for key in ("proj:code", "proj:epsg")
            if (code := crs_code(self._field(asset, key))) is not None
        ]
        if len(codes) > 1 and not _same(*codes):
            raise self.corrupt(f"its proj:code is {codes[0]}, its proj:epsg {codes[1]}", hint=TRUST)
        sides = numbers(self._field(asset, "proj:shape"), (2,), _MAX_SIDE)
        terms = numbers(self._field(asset, "proj:transform"), (6, 9), _MAX_NUMBER)
        crs = codes[0] if codes else None
        if sides is None or terms is None or terms[6:] not in ([], [0, 0, 1]):
            return Said(crs=crs)
        if not all(side >= 1 and side == int(side) for side in sides) or Affine(*terms[:6]).is_degenerate:
            return Said(crs=crs)
        affine, shape = Affine(*terms[:6]), (int(sides[0]), int(sides[1]))
        place = north_up(affine, shape)
        return Said(crs=crs, affine=affine if place is None else place.affine, shape=shape)

    def _extent(self, said: Said, grid: GeoBox) -> Window | None:
        """Return where the document places the file on a grid, None where it does not say."""
        if said.crs is not None:
            self._check_crs(said.crs, grid)
        if said.affine is None or said.shape is None:
            return None
        affine = said.affine
        extent = lattice_window(grid, affine, said.shape)
        if extent is None:
            raise self.corrupt(
                f"its proj:transform {tuple(affine)[:6]} does not lie on the collection's grid",
                hint=f"write resolution = {affine.a:.15g}, and bounds that are whole pixels away from x "
                f"{affine.c:.15g}, y {affine.f:.15g}; or give a rule under [source.composite]: "
                f"then items are warped; {TRUST}",
            )
        return extent

    def _field(self, asset: AssetDocument, key: str) -> object:
        """Return what an asset says, and else the item."""
        return asset.extra_fields.get(key, self.document.properties.get(key))

    def _check_crs(self, name: str, grid: GeoBox) -> None:
        """Compare a CRS by code with the grid's."""
        try:
            same = same_crs(str(grid.crs), name)
        except CRSError:
            return  # the file says what it is
        if not same:
            raise self.corrupt(
                f"its CRS is {name}, the collection's is {grid.crs}",
                hint=f'write crs = "{name}" under [grid], or give a rule under [source.composite]: '
                f"then items are warped; {TRUST}",
            )

    def corrupt(self, detail: str, *, hint: str = "") -> SourceCorruptError:
        """Return the error that names the item."""
        return SourceCorruptError(f"item {self.id!r}: {detail}", item=self.id, hint=hint)


def _listed(assets: Iterable[str]) -> str:
    """Return the first names of assets, as a message repeats them."""
    shown = [repr(name[:_SHOWN]) for name in itertools.islice(assets, _ASSETS)]
    return ", ".join(shown) or "none"


def _same(first: str, second: str) -> bool:
    """Return whether two codes name one CRS, as far as they are known."""
    try:
        return first == second or same_crs(first, second)
    except CRSError:
        return True


def parse_item(
    body: str, url: str, *, expected_id: str | None = None, tile_window: Window | None = None
) -> Item:
    """Parse an item document; see ``parse_document``.

    Args:
        body: JSON text.
        url: where it came from.
        expected_id: which item was asked for, if one was.
        tile_window: where the tiling puts the item.

    Raises:
        SourceCorruptError: it is not a STAC item, or not the one asked for.
    """
    return Item(parse_document(body, url, expected_id=expected_id), tile_window)
