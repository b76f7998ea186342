"""STAC item documents: what an item says of the file of one band."""

import itertools
import json
import re
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime

import pystac
from affine import Affine
from odc.geo.geobox import GeoBox
from pyproj.exceptions import CRSError

from icehouse_server.core.errors import SourceCorruptError, SourceRefusedError
from icehouse_server.core.grid import Window
from icehouse_server.sources.cog.georeference import lattice_window, same_crs
from icehouse_server.sources.http.allowed_hosts import AllowedHosts
from icehouse_server.sources.http.failures import describe_error
from icehouse_server.sources.http.urls import public
from icehouse_server.sources.stac.settings import BandTable

_MAX_NUMBER = 1e15
_MAX_SIDE = 2**31
_MAX_ID = 256
_ASSETS = 20
"""Assets of an item that a message names, each by at most this many characters."""
_SHOWN = 40
_CODE = re.compile(r"[A-Za-z][A-Za-z0-9_]{0,15}:[A-Za-z0-9_.]{1,32}")


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
    tile_window: Window | None
    """Where the tiling puts the item."""


@dataclass(frozen=True, slots=True)
class Item:
    """A parsed item document."""

    document: pystac.Item
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
        when = self.document.datetime or self.document.common_metadata.start_datetime
        if when is None:
            raise self.corrupt("it has no datetime")
        return when if when.tzinfo is not None else when.replace(tzinfo=UTC)

    def asset(self, band: BandTable, grid: GeoBox, allowed: AllowedHosts) -> Asset | None:
        """Return the file of a band, or None where the item may lack it and does.

        Raises:
            SourceCorruptError: the asset is missing, or its CRS or lattice is not the collection's.
            SourceRefusedError: its href points to a host that nothing vouches for.
        """
        asset = self.found(band.asset, optional=band.optional)
        if asset is None:
            return None
        href = self.href(asset, band.asset)
        return Asset(
            item=self.id,
            href=href,
            url=allowed.url_of(href, item=self.id),
            extent=self._extent(asset, grid),
            tile_window=self.tile_window,
        )

    def found(self, name: str, *, optional: bool) -> pystac.Asset | None:
        """Return an asset by its key, or None where the item may lack it and does.

        Raises:
            SourceCorruptError: the asset is missing.
        """
        asset = self.document.assets.get(name)
        if asset is None and not optional:
            raise SourceCorruptError(
                f"item {self.id!r} has no asset {name!r}",
                item=self.id,
                hint=f"it has {_listed(self.document.assets)}; correct asset under [bands.source], or set "
                "optional = true if items may lack it",
            )
        return asset

    def href(self, asset: pystac.Asset, name: str) -> str:
        """Return an asset's href, made absolute.

        Raises:
            SourceRefusedError: it is none.
        """
        try:
            return asset.get_absolute_href() or asset.href
        except (ValueError, TypeError, AttributeError) as error:
            raise SourceRefusedError(
                f"item {self.id!r}: the href of asset {name!r} is not a URL", item=self.id
            ) from error

    def _extent(self, asset: pystac.Asset, grid: GeoBox) -> Window | None:
        """Return where the document places the file on a grid, by the projection extension."""
        for code in self.codes(asset):
            self._check_crs(code, grid)
        raster = self.raster(asset)
        if raster is None:
            return None
        affine, shape = raster
        extent = lattice_window(grid, affine, shape)
        if extent is None:
            raise self.corrupt(
                f"its proj:transform {tuple(affine)[:6]} does not lie on the collection's grid",
                hint=f"write resolution = {affine.a:.15g}, and bounds that are whole pixels away from x "
                f"{affine.c:.15g}, y {affine.f:.15g}; or give a rule under [source.composite]: "
                "then items are warped",
            )
        return extent

    def codes(self, asset: pystac.Asset) -> list[str]:
        """Return the codes of the file's CRS that the document gives: none, one, or the same in two forms.

        PROJ reads files and pipelines where it is given other texts, so only codes are passed on.

        Raises:
            SourceCorruptError: one is not a code.
        """
        found = []
        for key in ("proj:code", "proj:epsg"):
            code = self._field(asset, key)
            if code is None:
                continue
            name = f"EPSG:{code}" if type(code) is int else code
            if not isinstance(name, str) or not _CODE.fullmatch(name):
                raise self.corrupt("its proj:code is not an authority and a code")
            found.append(name)
        return found

    def raster(self, asset: pystac.Asset) -> tuple[Affine, tuple[int, int]] | None:
        """Return transform and (rows, columns) of the file, or None where the document does not say.

        Raises:
            SourceCorruptError: what it says is malformed.
        """
        sides, transform = self._field(asset, "proj:shape"), self._field(asset, "proj:transform")
        if sides is None or transform is None:
            return None
        shape = self._numbers(sides, 2)
        numbers = self._numbers(transform, 6, 9)
        if not all(1 <= side <= _MAX_SIDE and side == int(side) for side in shape):
            raise self.corrupt("its proj:shape is malformed")
        if numbers[6:] not in ([], [0, 0, 1]):
            raise self.corrupt("its proj:transform is malformed")
        return Affine(*numbers[:6]), (int(shape[0]), int(shape[1]))

    def _field(self, asset: pystac.Asset, key: str) -> object:
        """Return what an asset says, and else the item."""
        return asset.extra_fields.get(key, self.document.properties.get(key))

    def _numbers(self, values: object, *lengths: int) -> list[float]:
        """Return a list of finite numbers of one of these lengths."""
        usable = (
            isinstance(values, list)
            and len(values) in lengths
            and all(type(value) in {int, float} and abs(value) <= _MAX_NUMBER for value in values)
        )
        if not usable:
            raise self.corrupt("its proj:shape or proj:transform is malformed")
        return [float(value) for value in values]  # type: ignore[attr-defined]  # a list, seen above

    def _check_crs(self, name: str, grid: GeoBox) -> None:
        """Compare a CRS by code with the grid's."""
        try:
            same = same_crs(str(grid.crs), name)
        except CRSError as error:
            raise self.corrupt(f"its CRS {name!r} is unknown") from error
        if not same:
            raise self.corrupt(
                f"its CRS is {name}, the collection's is {grid.crs}",
                hint=f'write crs = "{name}" under [grid], or give a rule under [source.composite]: '
                "then items are warped",
            )

    def corrupt(self, detail: str, *, hint: str = "") -> SourceCorruptError:
        """Return the error that names the item."""
        return SourceCorruptError(f"item {self.id!r}: {detail}", item=self.id, hint=hint)


def _listed(assets: Iterable[str]) -> str:
    """Return the first names of assets, as a message repeats them."""
    shown = [repr(name[:_SHOWN]) for name in itertools.islice(assets, _ASSETS)]
    return ", ".join(shown) or "none"


def parse_item(
    body: str, url: str, *, expected_id: str | None = None, tile_window: Window | None = None
) -> Item:
    """Parse an item document; both STAC 1.0.0 (``proj:epsg``) and 1.1.0 (``proj:code``) are understood.

    Args:
        body: JSON text.
        url: where it came from; relative hrefs are relative to it.
        expected_id: which item was asked for, if one was.
        tile_window: where the tiling puts the item.

    Raises:
        SourceCorruptError: it is not a STAC item, or not the one asked for.
    """
    try:
        document = pystac.Item.from_dict(json.loads(body), href=url, preserve_dict=False)
    except Exception as error:  # pystac raises many kinds for documents that are not STAC
        raise SourceCorruptError(
            f"the API's answer is not a STAC item: {describe_error(error)}",
            item=expected_id or "",
            href=public(url),
        ) from error
    found = document.id
    if not isinstance(found, str) or not found.isprintable() or not 0 < len(found) <= _MAX_ID:
        raise SourceCorruptError(
            "the API sent an item whose id is not a short text", item=expected_id or "", href=public(url)
        )
    if expected_id is not None and found != expected_id:
        raise SourceCorruptError(
            f"the API answered with item {found!r}, {expected_id!r} was asked for",
            item=expected_id,
            href=public(url),
        )
    return Item(document, tile_window)
