"""The source for a folder of local GeoTIFFs, of any CRS and resolution."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import cast

import numpy as np

from icehouse_server.aio.gather import gather_or_cancel
from icehouse_server.aio.task_set import TaskSet
from icehouse_server.aio.worker_pool import run_in
from icehouse_server.core.collection import BandSpec, CollectionSpec
from icehouse_server.core.errors import SourceError
from icehouse_server.core.grid import Grid, Window
from icehouse_server.core.ports import BandBlock, Block, BlockRequest, Mask, Pixels, Provenance, Source
from icehouse_server.raster.validity import no_room
from icehouse_server.sources.context import SourceContext
from icehouse_server.sources.files.folder_index import FolderIndex
from icehouse_server.sources.files.reading import FolderEntry, Header, corrupt, read_bands
from icehouse_server.sources.files.settings import parse_band, parse_source
from icehouse_server.sources.raster.reducers import settled
from icehouse_server.sources.raster.warping import (
    Scaled,
    WarpTile,
    reached,
    tiles_under,
    warp_tiles_of,
    warped,
)

type BandPixels = dict[str, tuple[Pixels, Mask]]
"""Name of a band to values and True = valid."""

type Lost = list[tuple[FolderEntry, BandSpec, Window, Mask]]
"""Where files have pixels that are invalid, for bands without nodata."""


def create(spec: CollectionSpec, context: SourceContext) -> Source:
    """Make the source of a collection file with ``type = "files"``. Opens no file.

    Raises:
        ConfigurationError: ``[source]`` or a ``[bands.source]`` can't be used.
    """
    table = parse_source(spec)
    return FilesSource(
        indexes={band.name: parse_band(spec, band).index for band in spec.bands},
        context=context,
        folder=FolderIndex(table=table, root=table.root(spec.home), grid=spec.grid, context=context),
    )


@dataclass(slots=True, kw_only=True)
class FilesSource:
    """Reads blocks from the files of one folder. Used from one event loop; files are read in the pool.

    Where files overlap, the first by name that is valid at a pixel wins. A file that lies on the collection's
    grid is copied, any other is warped once, tile by tile of the grid, so no block's cut can be seen.
    """

    indexes: Mapping[str, int]
    """Name of a band to the file's band, from 1."""
    context: SourceContext
    folder: FolderIndex
    _reads: TaskSet = field(default_factory=TaskSet)

    @property
    def block_side(self) -> int | None:
        """Any will do: what is read does not depend on how it is cut."""
        return None

    async def read(self, request: BlockRequest) -> Block:
        """Read a block; see ``Source.read``."""
        try:
            return await self._reads.run(lambda: self._block(request))
        except SourceError:
            self.folder.doubt()  # the next try sees the folder as it is then
            raise

    async def close(self) -> None:
        """End reads that are under way."""
        await self._reads.close()
        await self.folder.close()

    async def _block(self, request: BlockRequest) -> Block:
        files = await self.folder.files(request.geobox, request.step, request.not_before)
        bands = [(band, self.indexes[band.name]) for band in request.bands]
        shape = (request.window.height, request.window.width)
        found: BandPixels = {
            band.name: (np.full(shape, band.fill, dtype=band.dtype), np.zeros(shape, dtype=np.bool_))
            for band, _ in bands
        }

        async def fill(tile: Window) -> set[FolderEntry]:
            return await run_in(
                self.context.pool,
                self._fill,
                tile,
                files,
                bands,
                request.window,
                request.grid,
                found,
            )

        used = await gather_or_cancel(fill(tile) for tile in tiles_under(request.grid, request.window))
        return Block(
            bands={name: BandBlock(values=values, valid=valid) for name, (values, valid) in found.items()},
            provenance=tuple(
                Provenance(item=entry.name, href=entry.name, version=entry.version)
                for entry in sorted(set[FolderEntry]().union(*used))
            ),
        )

    def _fill(
        self,
        tile: Window,
        files: Sequence[Header],
        bands: Sequence[tuple[BandSpec, int]],
        window: Window,
        grid: Grid,
        found: BandPixels,
    ) -> set[FolderEntry]:
        """Write what files say of a tile into the part of ``found`` under it. Returns those that were read.

        Runs in a thread of the pool; tiles do not overlap, so no two threads write one pixel.
        """
        used: set[FolderEntry] = set()
        lost: Lost = []
        for header in files:
            file = header.at(grid)
            missing = [(band, index) for band, index in bands if not _settled(found[band.name], tile, window)]
            for method in sorted({band.resampling for band, _ in missing}):
                some = [(band, index) for band, index in missing if band.resampling == method]
                for warp_tile in warp_tiles_of(file, grid, [tile], method):
                    if warp_tile.target.intersection(window) is not None:
                        self._add(header, file, warp_tile, some, method, window, grid, found, lost)
                        used.add(header.entry)
        _check_room(lost, found, window)
        return used

    def _add(
        self,
        header: Header,
        file: Scaled,
        warp_tile: WarpTile,
        bands: Sequence[tuple[BandSpec, int]],
        method: str,
        window: Window,
        grid: Grid,
        found: BandPixels,
        lost: Lost,
    ) -> None:
        """Add one tile of one file: what is valid in it goes where nothing was valid yet."""
        target = warp_tile.target
        common = target.intersection(window)
        if common is None:
            return
        read = read_bands(self.folder.root, header, file, warp_tile.piece.source, bands)
        for (band, _), (values, valid) in zip(bands, read, strict=True):
            made, shown = warped(values, valid, warp_tile, file=file, grid=grid, method=method)
            if not file.exact:
                block = settled(made, shown, band)  # a result may equal nodata by chance
                made, shown = block.values, block.valid
            if band.nodata is None and not valid.all():
                holes = reached(valid, warp_tile, file=file, grid=grid, method=method) & ~shown
                lost.append((header.entry, band, common, cast("Mask", holes[common.slices(target)])))
            all_values, all_valid = found[band.name]
            here, there = common.slices(target), common.slices(window)
            new = shown[here] & ~all_valid[there]
            np.copyto(all_values[there], made[here], where=new)
            all_valid[there] |= new


def _check_room(lost: Lost, found: BandPixels, window: Window) -> None:
    """Refuse what files leave invalid where a band has no nodata: it would become a value."""
    for entry, band, where, mask in lost:
        holes = mask & ~found[band.name][1][where.slices(window)]
        if holes.any():
            detail, hint = no_room(band, cast("Mask", holes))
            raise corrupt(entry, detail, hint=hint)


def _settled(pixels: tuple[Pixels, Mask], tile: Window, window: Window) -> bool:
    """Return whether every pixel of a window that lies in a tile is valid."""
    inside = tile.intersection(window)
    return inside is None or bool(pixels[1][inside.slices(window)].all())
