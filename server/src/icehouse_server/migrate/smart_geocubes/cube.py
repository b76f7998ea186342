"""Cubes of smart-geocubes: how its Icechunk repositories lie, and reading them. Nothing is written to them.

The root group holds one array a band, (y, x) or (time, y, x), in chunks of 3600 pixels, and in its attributes
the title and the ids of the patches that were loaded. Icechunk 2 reads the format of Icechunk 1.
"""

from collections import OrderedDict
from collections.abc import Mapping
from concurrent.futures import Executor
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import product
from pathlib import Path
from typing import Any

import icechunk
import numpy as np
import xarray as xr
import zarr
from affine import Affine
from odc.geo.geobox import GeoBox

from icehouse_server.aio.worker_pool import run_in
from icehouse_server.core.errors import IcehouseError, RepositoryForeignError
from icehouse_server.core.grid import Window
from icehouse_server.core.ports import Pixels
from icehouse_server.store.layout.codec import DamagedError
from icehouse_server.store.translate_errors import first_line, is_cancellation

_HELD = 4
"""Decoded chunks that are held: a chunk of ours lies in four of theirs at most."""

_HINT = "name the folder that was given to the accessor of smart-geocubes, such as arcticdem_32m.icechunk"


class CubeChunkMissingError(Exception):
    """The pixels lie in a chunk that does not exist, or beyond the cube."""


@dataclass(frozen=True, kw_only=True)
class SmartGeocubeBand:
    """One band of a cube."""

    array: zarr.Array[Any]
    chunks: frozenset[tuple[int, ...]]
    """(row, col), or (time, row, col), of the chunks that exist."""

    @property
    def fill(self) -> np.generic:
        """What a pixel holds that was never written."""
        fill: np.generic = self.array.dtype.type(self.array.fill_value)
        return fill


class SmartGeocube:
    """A cube of smart-geocubes, as of the moment at which it was opened.

    Attributes:
        title: name of the class that made it, such as ``ArcticDEM32m``.
        geobox: CRS, affine and shape of its pixels.
        chunk: side of its chunks in pixels.
        patches: ids of the patches that it counts as loaded, in the order in which they were.
        times: start of each of its time steps, in UTC; None where it has no time axis.
        bands: by name.
    """

    def __init__(
        self,
        *,
        title: str,
        geobox: GeoBox,
        chunk: int,
        patches: tuple[str, ...],
        times: tuple[datetime, ...] | None,
        bands: Mapping[str, SmartGeocubeBand],
    ) -> None:
        self.title = title
        self.geobox = geobox
        self.chunk = chunk
        self.patches = patches
        self.times = times
        self.bands = bands
        self._decoded: OrderedDict[tuple[str, tuple[int, ...]], Pixels] = OrderedDict()

    @classmethod
    async def open(cls, folder: Path, pool: Executor) -> "SmartGeocube":
        """Open a cube for reading.

        Raises:
            RepositoryForeignError: the folder holds no cube of smart-geocubes, or one that can't be read.
        """
        try:
            session, group = await run_in(pool, _group, folder)
            names = [name for name, array in group.arrays() if array.ndim in {2, 3}]
            present = {
                name: frozenset([tuple(place) async for place in session.chunk_coordinates(f"/{name}")])
                for name in names
            }
            return await run_in(pool, cls._described, group, present, folder)
        except IcehouseError:
            raise
        except BaseException as error:
            if is_cancellation(error):
                raise
            raise RepositoryForeignError(
                f"{folder} can't be read as a cube of smart-geocubes: {first_line(error)}", hint=_HINT
            ) from error

    @classmethod
    def _described(
        cls, group: zarr.Group, present: Mapping[str, frozenset[tuple[int, ...]]], folder: Path
    ) -> "SmartGeocube":
        attributes = dict(group.attrs)
        arrays = {name: array for name, array in group.arrays() if name in present}
        patches = attributes.get("loaded_patches")
        if not isinstance(patches, list) or not arrays or "spatial_ref" not in group:
            raise RepositoryForeignError(f"{folder} holds no cube of smart-geocubes", hint=_HINT)
        shapes = {(array.shape[-2:], array.chunks[-2:]) for array in arrays.values()}
        if len(shapes) != 1:
            raise RepositoryForeignError(f"the bands of {folder} have different shapes or chunks")
        ((shape, chunks),) = shapes
        return cls(
            title=str(attributes.get("title", "")),
            geobox=_geobox(group, (int(shape[0]), int(shape[1]))),
            chunk=int(chunks[0]),
            patches=tuple(map(str, patches)),
            times=_times(group) if "time" in group else None,
            bands={
                name: SmartGeocubeBand(array=array, chunks=present[name]) for name, array in arrays.items()
            },
        )

    def pixels(self, name: str, time: int | None, window: Window) -> Pixels:
        """Read pixels of a band. Blocking; to be called by one thread at a time.

        Args:
            name: the band.
            time: number of the cube's time step, or None.
            window: pixels of the cube.

        Returns:
            (rows, columns) of the cube's dtype.

        Raises:
            PeerChunkMissingError: a chunk under it does not exist, or it reaches beyond the cube.
            DamagedError: a chunk under it can't be read.
        """
        rows, cols = (int(size) for size in self.geobox.shape)
        if window.intersection(Window(row=0, col=0, height=rows, width=cols)) != window:
            raise CubeChunkMissingError
        places = product(
            range(window.row // self.chunk, (window.stop_row - 1) // self.chunk + 1),
            range(window.col // self.chunk, (window.stop_col - 1) // self.chunk + 1),
        )
        out: Pixels = np.empty((window.height, window.width), dtype=self.bands[name].array.dtype)
        for row, col in places:
            decoded = self._chunk(name, (row, col) if time is None else (time, row, col))
            area = Window(
                row=row * self.chunk,
                col=col * self.chunk,
                height=decoded.shape[0],
                width=decoded.shape[1],
            )
            common = area.intersection(window)
            if common is not None:
                out[common.slices(window)] = decoded[common.slices(area)]
        return out

    def _chunk(self, name: str, place: tuple[int, ...]) -> Pixels:
        """Return a decoded chunk, cut at the cube's edge."""
        band = self.bands[name]
        if place not in band.chunks:
            raise CubeChunkMissingError
        found = self._decoded.get((name, place))
        if found is None:
            try:
                found = np.asarray(band.array.get_block_selection(place))
            except BaseException as error:
                if is_cancellation(error):
                    raise
                raise DamagedError(first_line(error)) from error
            found = found.reshape(found.shape[-2:])
            self._decoded[name, place] = found
            while len(self._decoded) > _HELD:
                self._decoded.popitem(last=False)
        self._decoded.move_to_end((name, place))
        return found


def _group(folder: Path) -> tuple[icechunk.Session, zarr.Group]:
    storage = icechunk.local_filesystem_storage(str(folder))
    if not folder.is_dir() or not icechunk.Repository.exists(storage):
        raise RepositoryForeignError(f"{folder} is not an Icechunk repository", hint=_HINT)
    session = icechunk.Repository.open(storage).readonly_session("main")
    try:
        return session, zarr.open_group(session.store, mode="r")
    except FileNotFoundError:
        raise RepositoryForeignError(f"the cube in {folder} is empty: it was never created") from None


def _geobox(group: zarr.Group, shape: tuple[int, int]) -> GeoBox:
    """Return the cube's geobox, by what odc-geo writes into ``spatial_ref``."""
    attributes = group["spatial_ref"].attrs
    numbers = [float(number) for number in str(attributes["GeoTransform"]).split()]
    wkt = attributes.get("crs_wkt") or attributes["spatial_ref"]
    return GeoBox(shape, Affine.from_gdal(*numbers), str(wkt))


def _times(group: zarr.Group) -> tuple[datetime, ...]:
    """Return the cube's time coordinate, of which CF says the unit."""
    array = group["time"]
    values = xr.Variable(("time",), np.asarray(array[...]), dict(array.attrs))  # type: ignore[index]
    times = xr.decode_cf(xr.Dataset(coords={"time": values}))["time"].values
    return tuple(
        datetime.fromtimestamp(int(stamp), tz=UTC) for stamp in times.astype("datetime64[s]").astype(np.int64)
    )
