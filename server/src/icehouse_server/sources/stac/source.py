"""The source for STAC APIs whose items are GeoTIFFs: on the collection's own grid, or warped to it."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import cast

from odc.geo.geobox import GeoBox

from icehouse_server.aio.gather import gather_or_cancel
from icehouse_server.aio.task_set import TaskSet
from icehouse_server.aio.worker_pool import run_in
from icehouse_server.core.collection import BandSpec, CollectionSpec
from icehouse_server.core.errors import (
    SourceCorruptError,
    SourceError,
    SourceRefusedError,
)
from icehouse_server.core.grid import Window
from icehouse_server.core.ports import BandBlock, Block, BlockRequest, Mask, Provenance, Source
from icehouse_server.raster.validity import no_room
from icehouse_server.sources.cog.checks import Expectation
from icehouse_server.sources.cog.item_pixels import ItemPixels
from icehouse_server.sources.cog.reader import Cog
from icehouse_server.sources.cog.remote_files import RemoteFiles
from icehouse_server.sources.context import SourceContext
from icehouse_server.sources.http.failures import LinkExpiredError
from icehouse_server.sources.http.urls import public
from icehouse_server.sources.stac.api import StacApi
from icehouse_server.sources.stac.composite import Composite
from icehouse_server.sources.stac.item_finder import Finder
from icehouse_server.sources.stac.items import Asset, Item
from icehouse_server.sources.stac.merge import merge
from icehouse_server.sources.stac.settings import (
    BandTable,
    CompositeTable,
    StacTable,
    parse_band,
    parse_source,
)

_OWN_GRID = CompositeTable(rule="first", order_by="id")
"""How items that overlap become one where the collection file has no ``[source.composite]``."""


def create(spec: CollectionSpec, context: SourceContext) -> Source:
    """Make the source of a collection file with ``type = "stac"``. Opens no connection.

    Raises:
        ConfigurationError: ``[source]`` or a ``[bands.source]`` can't be used.
    """
    settings = parse_source(spec)
    api = StacApi(settings=settings, context=context)
    bands = {band.name: parse_band(spec, band) for band in spec.bands}
    files = RemoteFiles(context=context, allowed=api.allowed)
    return StacSource(
        settings=settings,
        bands=bands,
        context=context,
        finder=Finder(settings=settings, context=context, grid=spec.grid, api=api),
        api=api,
        files=files,
        composite=Composite(
            settings=settings, table=settings.composite or _OWN_GRID, bands=bands, files=files
        ),
    )


@dataclass(slots=True, kw_only=True)
class StacSource:
    """Reads blocks from the items of one STAC collection. Used from one event loop.

    Overlaps merge by item id, first valid pixel wins, unless the collection file has ``[source.composite]``.
    One attempt a call: the layer above retries.
    """

    settings: StacTable
    bands: Mapping[str, BandTable]
    context: SourceContext
    finder: Finder
    api: StacApi
    files: RemoteFiles
    composite: Composite
    """Makes what is not on the collection's own grid: all, or what lies above level 0."""
    _reads: TaskSet = field(default_factory=TaskSet)

    @property
    def block_side(self) -> int | None:
        """Any will do: what is read does not depend on how it is cut."""
        return None

    async def read(self, request: BlockRequest) -> Block:
        """Read a block; see ``Source.read``."""
        return await self._reads.run(lambda: self._read(request))

    async def _read(self, request: BlockRequest) -> Block:
        self.context.hosts.enter(self)
        try:
            return await self._block(request)
        except (SourceCorruptError, SourceRefusedError) as error:
            # A remembered document may be the cause.
            self.finder.doubt(request.window, error.item, request.step, request.level)
            raise
        except LinkExpiredError as error:
            self.finder.doubt(request.window, error.item, request.step, request.level, at_once=True)
            raise

    async def _block(self, request: BlockRequest) -> Block:
        items = await self.finder.items(request.window, request.not_before, request.step, request.level)
        # The overviews of a file begin at its own corner, so above level 0 there is always something to warp.
        if request.level or self.settings.composite is not None:
            return await self.composite.block(request, items)
        grid = request.collection.grid.geobox
        readers = [
            _BandReader(
                source=self,
                request=request,
                band=band,
                assets=[
                    asset
                    for item in items
                    if (asset := self._asset(item, self.bands[band.name], grid)) is not None
                ],
            )
            for band in request.bands
        ]
        blocks = await gather_or_cancel(reader.read() for reader in readers)
        origins = {origin for reader in readers for origin in reader.provenance()}
        return Block(
            bands={band.name: block for band, block in zip(request.bands, blocks, strict=True)},
            provenance=tuple(sorted(origins)),
        )

    def _asset(self, item: Item, band: BandTable, grid: GeoBox) -> Asset | None:
        return item.asset(band, grid, self.files.allowed, self.settings)

    async def close(self) -> None:
        """Cancel reads, and let connections go."""
        await self._reads.close()
        await self.finder.close()
        await self.files.close()
        self.api.close()
        await self.context.hosts.leave(self)


@dataclass(slots=True, kw_only=True)
class _BandReader:
    """Reads one band of one block from several overlapping files."""

    source: StacSource
    request: BlockRequest
    band: BandSpec
    assets: Sequence[Asset]
    """In the order of precedence."""
    cogs: dict[int, Cog] = field(default_factory=dict)
    used: set[int] = field(default_factory=set)

    async def read(self) -> BandBlock:
        """Read what is needed, in as few passes as the holes allow.

        Raises:
            SourceError: by what happened; the next try then asks for everything afresh, as what is remembered
                may be the cause.
        """
        try:
            return await self._passes()
        except SourceError:
            for asset in self.assets:
                self.source.files.forget(asset.url)
            raise

    async def _passes(self) -> BandBlock:
        await gather_or_cancel(self._cog(n) for n, asset in enumerate(self.assets) if self._must_open(asset))
        extents = [self._extent(n) for n in range(len(self.assets))]
        pixels: dict[int, list[ItemPixels]] = defaultdict(list)
        pool = self.source.context.pool
        while True:
            window = self.request.window
            merged = await run_in(pool, merge, window, self.band, extents, pixels)
            if not merged.needed:
                self._check_room(merged.block.valid, extents)
                return merged.block
            read = await gather_or_cancel(self._read_file(n, area) for n, area in merged.needed.items())
            for number, read_pixels in zip(merged.needed, read, strict=True):
                pixels[number].append(read_pixels)

    def _check_room(self, valid: Mask, extents: Sequence[Window]) -> None:
        """Refuse what files leave invalid where the band has no nodata: it would become a value."""
        if self.band.nodata is not None or valid.all():
            return
        for asset, extent in zip(self.assets, extents, strict=True):
            inside = extent.intersection(self.request.window)
            if inside is not None and not (there := valid[inside.slices(self.request.window)]).all():
                detail, hint = no_room(self.band, cast("Mask", ~there))
                raise SourceCorruptError(
                    f"item {asset.item!r}: {detail}", item=asset.item, href=public(asset.href), hint=hint
                )

    def provenance(self) -> list[Provenance]:
        """Return where the pixels came from: the files that were read."""
        return [
            Provenance(
                item=self.assets[number].item,
                href=public(self.assets[number].href),
                version=self.cogs[number].version,
            )
            for number in sorted(self.used)
        ]

    def _must_open(self, asset: Asset) -> bool:
        """Return whether only the file can tell if it touches the window.

        So it is where the document does not say, and where it says no although the tiling says yes: a
        document that is wrong there would leave a hole that goes unnoticed.
        """
        if asset.extent is None:
            return True
        window, tile_window = self.request.window, asset.tile_window
        expected = tile_window is not None and tile_window.intersection(window) is not None
        return expected and asset.extent.intersection(window) is None

    def _extent(self, number: int) -> Window:
        return self.assets[number].extent or self.cogs[number].extent

    async def _read_file(self, number: int, window: Window) -> ItemPixels:
        self.used.add(number)
        return await (await self._cog(number)).read(window)

    async def _cog(self, number: int) -> Cog:
        if number not in self.cogs:
            asset = self.assets[number]
            expected = Expectation(
                item=asset.item,
                href=public(asset.href),
                grid=self.request.collection.grid.geobox,
                band=self.band,
                index=self.source.bands[self.band.name].index,
                said=asset.said,
                tile_window=asset.tile_window,
                nodata=self.band.nodata if asset.facts.nodata is None else asset.facts.nodata,
                units_known=asset.facts.units is not None,
            )
            if asset.facts.units is not None and not asset.facts.units.are_those_of(self.band):
                raise expected.unlike(asset.facts.units)
            self.cogs[number] = await self.source.files.open(asset.url, expected, self.request.not_before)
        return self.cogs[number]
